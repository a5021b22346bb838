// SPDX-License-Identifier: Apache-2.0

'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const { join } = require('node:path');
const { MiniApp, OfficialAccount, OpenPlatform } = require('node-easywechat');
const WeChat = require('node-socialite/dist/Providers/WeChat').default;

// configuration is what the gateway changes, and where tokens are cached.
const configuration = ({ url: gateway, appid, secret, folder }) => ({
  app_id: appid,
  secret,
  http: { baseURL: gateway },
  file_cache: { path: folder },
});

// webLogin is node-socialite's provider, which has its host built in.
function webLogin({ url: gateway }, given) {
  class GatewayLogin extends WeChat {
    _baseUrl = `${gateway}/sns`;
  }
  return new GatewayLogin(given).scopes('snsapi_userinfo');
}

// answered returns what was answered. Whether it is an errcode, the SDK leaves
// to its user to see.
function answered(response) {
  const answer = response.toObject();
  if (answer.errcode) {
    throw new Error(response.toJson());
  }
  return answer;
}

// steps are what every face has in common; account returns the SDK's object.
const steps = (account, { folder }, harmless) => ({
  token: async () => (await account()).getAccessToken().getToken(),
  get: async () => JSON.stringify(answered(await (await account()).getClient().get(harmless))),
  send: async ({ text }) => {
    const message = { touser: 'o-follower', msgtype: 'text', text: { content: text } };
    answered(await (await account()).getClient().postJson('/cgi-bin/message/custom/send', message));
  },
  upload: async ({ path }) => {
    const client = (await account()).getClient().withFile(path, 'media');
    return answered(await client.post('/cgi-bin/media/upload', { params: { type: 'image' } })).media_id;
  },
  download: async ({ id }) => {
    const options = { params: { media_id: id }, responseType: 'arraybuffer' };
    const response = await (await account()).getClient().get('/cgi-bin/media/get', options);
    return fs.readFileSync(response.saveAs(join(folder, 'downloaded')));
  },
  denied: async () => {
    answered(await (await account()).getClient().get('/cgi-bin/menu/get'));
  },
});

// hold puts a token into the cache under the name that the SDK gives it.
const hold = (app, name) => async ({ token }) => {
  await app.getCache().set(name, token, 3600);
};

exports['official account'] = (told) => {
  const app = new OfficialAccount(configuration(told));
  app.setOAuthFactory(() => webLogin(told, { client_id: told.appid, client_secret: told.secret }));
  return {
    ...steps(() => app, told, '/cgi-bin/user/get'),
    hold: hold(app, app.getAccessToken().getKey()),
    login: async ({ code }) => (await app.getOAuth().userFromCode(code)).id,
  };
};

exports['mini program'] = (told) => {
  const app = new MiniApp(configuration(told));
  return {
    ...steps(() => app, told, '/wxaapi/newtmpl/gettemplate'),
    hold: hold(app, app.getAccessToken().getKey()),
    login: async ({ code }) => (await app.getUtils().codeToSession(code)).openid,
  };
};

// authorized is a platform that an account has just authorized, with the label
// that stands for the account's refresh token.
async function authorized(told) {
  const app = new OpenPlatform({
    ...configuration({ ...told, appid: told.component }),
    token: 'pushes go to', // the SDK insists on these two
    aes_key: 'the gateway',
  });
  app.setVerifyTicket({ getTicket: async () => 'the gateway has it' });
  const authorization = await app.getAuthorization(told.code);
  return { app, authorization, label: authorization.getRefreshToken() };
}

// platformSteps are what is not the account's: the calls that only platforms
// make, and where the SDK keeps the token of an account.
const platformSteps = ({ app, authorization, label }, { component, appid }) => ({
  component: async () => {
    const post = async (name, given) =>
      answered(await app.getClient().postJson(`/cgi-bin/component/${name}`, { component_appid: component, ...given }));
    return JSON.stringify([
      authorization.toObject(),
      await app.getComponentAccessToken().getToken(),
      await app.createPreAuthorizationCode(),
      await post('api_get_authorizer_info', { authorizer_appid: appid }),
      await post('api_get_authorizer_list', { offset: 0, count: 100 }),
      await app.refreshAuthorizerToken(appid, label),
    ]);
  },
  hold: hold(app, `open-platform.authorizer_access_token.${appid}.${crypto.createHash('md5').update(label).digest('hex')}`),
});

exports['open platform, official account'] = async (told) => {
  const platform = await authorized(told);
  const { app, label } = platform;
  return {
    ...steps(() => app.getOfficialAccountWithRefreshToken(told.appid, label), told, '/cgi-bin/user/get'),
    ...platformSteps(platform, told),
    // The login that the SDK makes by itself names the component by its secret.
    login: async ({ code }) => {
      const token = await app.getComponentAccessToken().getToken();
      const given = { client_id: told.appid, component: { id: told.component, token } };
      return (await webLogin(told, given).userFromCode(code)).id;
    },
  };
};

exports['open platform, mini program'] = async (told) => {
  const platform = await authorized(told);
  const account = () => platform.app.getMiniAppWithRefreshToken(told.appid, platform.label);
  return {
    ...steps(account, told, '/wxaapi/newtmpl/gettemplate'),
    ...platformSteps(platform, told),
    login: async ({ code }) => (await (await account()).getUtils().code2Session(code)).openid,
  };
};
