// SPDX-License-Identifier: Apache-2.0

'use strict';

const Koa = require('koa');
const wechat = require('co-wechat');
const { receive, failed, platformByHand } = require('./application.js');

// listener serves all paths by one handler.
function listener({ appid, token, key }, handler) {
  const app = new Koa();
  app.use(wechat({ appid, token, encodingAESKey: key }).middleware(handler));
  app.on('error', (error, context) => failed(context.path, error)); // what is answered then is left to Koa
  return app.callback();
}

exports['official account'] = (told) => listener(told, async (message) => receive(message));

exports.platform = (told) => {
  const take = platformByHand(told);
  return listener(told, async (message) => {
    if (!message.InfoType) return receive(message);
    await take(message);
    return '';
  });
};
