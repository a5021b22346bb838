// SPDX-License-Identifier: Apache-2.0

// Works as a third-party platform with the package nest-wechat. Standard input
// is a JSON object with component, secret, appid and code; what is printed is
// one with what every step was answered, or with the error.
'use strict';

require('reflect-metadata');
const fs = require('node:fs');
const { ComponentService } = require('nest-wechat');

const { component, secret, appid, code } = JSON.parse(fs.readFileSync(0, 'utf8'));
const platform = new ComponentService({ componentAppId: component, componentSecret: secret });
platform.setTicket('the gateway has it');

async function steps() {
  const token = await platform.getComponentAccessToken();
  const preAuth = await platform.createPreAuthCode();
  const grant = await platform.queryAuth(code);
  const label = grant.data.authorization_info.authorizer_refresh_token;
  const renewed = await platform.requestAuthorizerToken(appid, label);
  const info = await platform.requestAuthorizerInfo(appid);
  const basic = await platform.getAccountBasicInfo(renewed.data.authorizer_access_token);
  return {
    token: token.componentAccessToken,
    pre_auth_code: preAuth.data,
    query_auth: grant.data,
    refresh: renewed.data,
    info: info.data,
    call: basic.data,
  };
}

steps()
  .catch((err) => ({ error: err.message }))
  .then((answers) => console.log(JSON.stringify(answers)));
