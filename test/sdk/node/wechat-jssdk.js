// SPDX-License-Identifier: Apache-2.0

'use strict';

const { join } = require('node:path');
const { Card, FileStore, JSSDK, MiniProgram, OAuth } = require('wechat-jssdk');

// configuration is what the gateway changes, and where tokens are kept.
const configuration = ({ url: gateway, appid, secret, folder }) => ({
  appId: appid,
  appSecret: secret,
  apiUrl: gateway,
  accessTokenUrl: `${gateway}/cgi-bin/token`,
  ticketUrl: `${gateway}/cgi-bin/ticket/getticket`,
  decodeCardCodeUrl: `${gateway}/card/code/decrypt`,
  miniProgram: { appId: appid, appSecret: secret, GET_SESSION_KEY_URL: `${gateway}/sns/jscode2session` },
  store: new FileStore({ fileStorePath: join(folder, 'wechat-info.json') }), // the default is in the working folder
});

// answered returns what the SDK returns. What it throws is the answer itself
// where this is an errcode.
async function answered(promise) {
  try {
    return await promise;
  } catch (reason) {
    throw reason instanceof Error ? reason : new Error(JSON.stringify(reason));
  }
}

exports['official account'] = (told) => {
  const given = configuration(told);
  const [jssdk, oauth, card] = [new JSSDK(given), new OAuth(given), new Card(given)];
  const token = async () => (await answered(jssdk.prepareGlobalToken())).accessToken;
  return {
    token,
    get: async () => JSON.stringify(await answered(jssdk.getJsApiTicket(await token()))),
    denied: async () => answered(card.sendDecodeRequest('any', { access_token: await token() })),
    hold: ({ token: held }) => answered(jssdk.updateAccessTokenOrTicketGlobally(held, 'any')),
    login: async ({ code }) => (await answered(oauth.getUserInfo(code))).openid,
  };
};

exports['mini program'] = (told) => {
  const program = new MiniProgram(configuration(told));
  return {
    login: async ({ code }) => (await answered(program.getSession(code))).openid,
  };
};
