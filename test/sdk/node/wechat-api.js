// SPDX-License-Identifier: Apache-2.0

'use strict';

const { promisify } = require('node:util');
const WechatAPI = require('wechat-api');

exports['official account'] = ({ url: gateway, appid, secret }) => {
  const api = new WechatAPI(appid, secret);
  api.endpoint = gateway; // for https, also api.setEndpoint(host)
  api.fileServerPrefix = `${gateway}/cgi-bin/`; // where videos for mass messages go
  api.setOpts({ timeout: 60000 }); // 5 s are too few for a busy test machine

  const call = (method, ...given) => promisify(api[method]).call(api, ...given);
  return {
    token: async () => (await call('getLatestToken')).accessToken,
    get: async () => JSON.stringify(await call('getFollowers')),
    send: ({ text }) => call('sendText', 'o-follower', text),
    upload: async ({ path }) => (await call('uploadMedia', path, 'image')).media_id,
    download: ({ id }) => call('getMedia', id),
    denied: () => call('getMenu'),
    hold: ({ token }) => call('saveToken', { accessToken: token, expireTime: Date.now() + 3600_000 }),
  };
};
