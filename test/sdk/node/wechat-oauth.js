// SPDX-License-Identifier: Apache-2.0

'use strict';

const { promisify } = require('node:util');
const OAuth = require('wechat-oauth');

// configured returns the SDK with the gateway as its host, which is fixed
// otherwise: every call goes through request.
function configured({ url: gateway, appid, secret }, ...rest) {
  class GatewayOAuth extends OAuth {
    request(url, ...given) {
      return super.request(url.replace(/^https?:\/\/[^/]+/, gateway), ...given);
    }
  }
  const api = new GatewayOAuth(appid, secret, ...rest);
  api.setOpts({ timeout: 60000 }); // 5 s are too few for a busy test machine
  return (method, ...given) => promisify(api[method]).call(api, ...given);
}

exports['official account'] = (told) => {
  const call = configured(told);
  return {
    login: async ({ code }) => {
      const { data } = await call('getAccessToken', code);
      return (await call('getUser', data.openid)).openid;
    },
  };
};

exports['mini program'] = (told) => {
  const call = configured(told, undefined, undefined, true);
  return {
    login: async ({ code }) => (await call('getSessionKey', code)).data.openid,
  };
};
