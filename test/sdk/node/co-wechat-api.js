// SPDX-License-Identifier: Apache-2.0

'use strict';

const WechatAPI = require('co-wechat-api');

exports['official account'] = ({ url: gateway, appid, secret }) => {
  // Every call goes through request. Its prefixes can be set too, but the calls
  // about cards, devices, statistics and some others have their host built in.
  class GatewayAPI extends WechatAPI {
    request(url, ...rest) {
      return super.request(url.replace(/^https?:\/\/[^/]+/, gateway), ...rest);
    }
  }
  const api = new GatewayAPI(appid, secret);
  api.setOpts({ timeout: 60000 }); // 3 s are too few for a busy test machine

  return {
    token: async () => (await api.ensureAccessToken()).accessToken,
    get: async () => JSON.stringify(await api.getFollowers()),
    send: ({ text }) => api.sendText('o-follower', text),
    upload: async ({ path }) => (await api.uploadMedia(path, 'image')).media_id,
    download: ({ id }) => api.getMedia(id),
    denied: () => api.getMenu(),
    hold: ({ token }) => api.saveToken({ accessToken: token, expireTime: Date.now() + 3600_000 }),
  };
};
