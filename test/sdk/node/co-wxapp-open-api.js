// SPDX-License-Identifier: Apache-2.0

'use strict';

const co = require('co');
const API = require('co-wxapp-open-api');

exports['mini program'] = async ({ url: gateway, component, secret, appid, code }) => {
  // Every call goes through request. Its prefixes can be set too, but the login
  // has its host built in.
  class GatewayAPI extends API {
    *request(url, ...rest) {
      return yield super.request(url.replace(/^https?:\/\/[^/]+/, gateway), ...rest);
    }
  }
  const api = new GatewayAPI(component, secret, appid, '', 'any ticket');
  const call = (method, ...given) => co(api[method](...given));
  const grant = await call('queryAuth', code);
  api.authorizer_refresh_token = grant.authorization_info.authorizer_refresh_token;

  return {
    // The calls that only platforms make.
    component: async () =>
      JSON.stringify([
        grant,
        await call('ensureComponentToken'),
        await call('createPreAuthCode'),
        await call('getAuthorizerInfo'),
        await call('getAuthorizerOption', 'voice_recognize'),
        await call('getAccessToken'),
      ]),
    token: async () => (await call('ensureAccessToken')).accessToken,
    get: async () => JSON.stringify(await call('getNewTemplateList')),
    send: ({ text }) => call('sendText', 'o-follower', text),
    upload: async ({ path }) => (await call('uploadMedia', path, 'image')).media_id,
    download: ({ id }) => call('getMedia', id),
    denied: () => call('getNearbyPoiList', 1, 10),
    hold: ({ token }) => call('saveToken', { accessToken: token, expireTime: Date.now() + 3600_000 }),
    login: async ({ code: js }) => (await call('jscode2session', js)).openid,
  };
};
