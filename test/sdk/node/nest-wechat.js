// SPDX-License-Identifier: Apache-2.0

'use strict';

require('reflect-metadata');
const { dirname } = require('node:path');
const { ComponentService, WeChatService } = require('nest-wechat');
const axios = require(require.resolve('axios', { paths: [dirname(require.resolve('nest-wechat'))] }));

// lead makes the gateway the host of every call, in the HTTP client that the
// SDK shares with the whole process: its own host is fixed.
function lead({ url: gateway }) {
  axios.interceptors.request.use((request) => {
    request.url = request.url.replace('https://api.weixin.qq.com', gateway);
    return request;
  });
}

// answered returns what was answered. Whether it is an errcode, the SDK leaves
// to its user to see.
function answered(answer) {
  if (answer.errcode) {
    throw new Error(JSON.stringify(answer));
  }
  return answer;
}

// configured returns the SDK, and what is the same for every kind of account.
function configured(told) {
  lead(told);
  const { appid, secret } = told;
  const service = new WeChatService({ appId: appid, secret });
  return {
    service,
    shared: {
      token: () => service.getToken(),
      hold: ({ token }) =>
        service.cacheAdapter.set(`${WeChatService.KEY_ACCESS_TOKEN}_${appid}`, {
          access_token: token,
          expires_in: Date.now() / 1000 + 3600,
        }),
    },
  };
}

exports['official account'] = (told) => {
  const { service, shared } = configured(told);
  return {
    ...shared,
    get: async () => JSON.stringify(answered(await service.getJSApiTicket())),
    send: async ({ text }) => {
      const data = { first: { value: text } };
      answered(await service.sendTemplateMessage({ touser: 'o-follower', template_id: 'any', data }));
    },
    denied: async () => {
      answered(await service.createQRCode({ action_name: 'QR_SCENE' }));
    },
    login: async ({ code }) => {
      const token = answered(await service.getAccessTokenByCode(code));
      return answered(await service.getUserInfo(token.access_token, token.openid)).openid;
    },
  };
};

exports['mini program'] = (told) => {
  const { service, shared } = configured(told);
  const call = async (method, ...given) => answered((await service.mp[method](...given, await service.getToken())).data);
  return {
    ...shared,
    get: async () => JSON.stringify(await call('getMessageTemplateList')),
    send: ({ text }) => call('sendMessage', { touser: 'o-follower', template_id: 'any', data: { thing1: { value: text } } }),
    denied: () => call('queryScheme', 'any'),
    login: async ({ code }) => answered(await service.mp.code2Session(code)).openid,
  };
};

exports['open platform'] = async (told) => {
  lead(told);
  const { component, secret, appid } = told;
  const platform = new ComponentService({ componentAppId: component, componentSecret: secret });
  platform.setTicket('the gateway has it');
  const call = async (method, ...given) => answered((await platform[method](...given)).data);

  // The SDK keeps the token of the component; those of accounts its user keeps.
  const grant = await call('queryAuth', told.code);
  const label = grant.authorization_info.authorizer_refresh_token;
  let kept = { until: 0 };
  const token = async () => {
    if (Date.now() >= kept.until) {
      const fetched = await call('requestAuthorizerToken', appid, label);
      kept = { value: fetched.authorizer_access_token, until: Date.now() + fetched.expires_in * 1000 };
    }
    return kept.value;
  };
  return {
    // The calls that only platforms make. Where the SDK asks for the list of
    // accounts, it calls another path.
    component: async () =>
      JSON.stringify([
        grant,
        await platform.getComponentAccessToken(),
        await call('createPreAuthCode'),
        await call('requestAuthorizerInfo', appid),
        (await platform.getAuthorizerList()).data,
      ]),
    token,
    get: async () => JSON.stringify(await call('getAccountBasicInfo', await token())),
    denied: async () => call('codeAuditStatus', await token(), 1),
    hold: ({ token: held }) => {
      kept = { value: held, until: Date.now() + 3600_000 };
    },
  };
};
