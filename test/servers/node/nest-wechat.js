// SPDX-License-Identifier: Apache-2.0

'use strict';

require('reflect-metadata');
const { dirname } = require('node:path');
const express = require('express');
const { XMLParser } = require(require.resolve('fast-xml-parser', { paths: [dirname(require.resolve('nest-wechat'))] }));
const { ComponentService, WeChatService } = require('nest-wechat');
const axios = require(require.resolve('axios', { paths: [dirname(require.resolve('nest-wechat'))] }));
const { receive, receiveEvent, noteError } = require('./application.js');

const parse = (text) => new XMLParser().parse(text).xml;

// answer encrypts a text for the sender of a message, for which the SDK has no template.
function answer(service, { ToUserName, FromUserName }, text) {
  if (!text) return '';
  const now = String(Math.floor(Date.now() / 1000));
  const reply = `<xml><ToUserName><![CDATA[${FromUserName}]]></ToUserName><FromUserName><![CDATA[${ToUserName}]]></FromUserName>`
    + `<CreateTime>${now}</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[${text}]]></Content></xml>`;
  return service.encryptMessage(reply, now, '1234567890');
}

exports.WeChatService = ({ appid, secret, token, key }) => {
  const service = new WeChatService({ appId: appid, secret, token, encodingAESKey: key });
  const web = express();
  web.post('/messages', async (req, res) => {
    const message = parse(await service.messagePushExpressHandler(req));
    res.send(answer(service, message, receive(message)));
  });
  return web.use(noteError);
};

exports.ComponentService = ({ gateway, appid, secret, token, key }) => {
  axios.interceptors.request.use((request) => { // the SDK's host is fixed
    request.url = request.url.replace('https://api.weixin.qq.com', gateway);
    return request;
  });
  const service = new ComponentService({ componentAppId: appid, componentSecret: secret, componentToken: token, componentEncodingAESKey: key });
  const exchange = async (code) => (await service.queryAuth(code)).data.authorization_info.authorizer_access_token;
  const web = express();
  web.post('/tickets', async (req, res) => {
    await receiveEvent({ InfoType: 'component_verify_ticket', ComponentVerifyTicket: await service.pushTicket(req, res) });
  });
  web.post('/events', async (req, res) => {
    await receiveEvent(await service.authChangedPush(req, res), exchange);
  });
  web.post('/messages', express.text({ type: '*/*' }), async (req, res) => {
    const { msg_signature: signature, timestamp, nonce } = req.query;
    const message = parse(service.decryptMessage(signature, timestamp, nonce, req.body));
    res.send(answer(service, message, receive(message)));
  });
  return web.use(noteError);
};
