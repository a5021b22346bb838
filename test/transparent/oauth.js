// SPDX-License-Identifier: Apache-2.0

// Lets a user log in with the package co-wechat-oauth. Standard input is a JSON
// object with appid, secret and code; what is printed is one with what became
// of it, or with the error.
'use strict';

const fs = require('node:fs');
const OAuth = require('co-wechat-oauth');

const given = JSON.parse(fs.readFileSync(0, 'utf8'));
const api = new OAuth(given.appid, given.secret);

async function logIn() {
  const token = await api.getAccessToken(given.code);
  const user = await api.getUser(token.data.openid);
  await api.verifyToken(token.data.openid, token.data.access_token);
  const renewed = await api.refreshAccessToken(token.data.refresh_token);
  await api.verifyToken(renewed.data.openid, renewed.data.access_token);
  return { openid: user.openid, nickname: user.nickname, scope: renewed.data.scope };
}

logIn()
  .catch((err) => ({ error: err.message, code: err.code }))
  .then((answer) => console.log(JSON.stringify(answer)));
