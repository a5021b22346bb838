// SPDX-License-Identifier: Apache-2.0

'use strict';

const express = require('express');
const wechat = require('wechat');
const { receive, noteError, platformByHand } = require('./application.js');

const configuration = ({ appid, token, key }) => ({ appid, token, encodingAESKey: key });

const messages = (told) =>
  express().use('/messages', wechat(configuration(told), (req, res) => res.reply(receive(req.weixin))));

exports['official account'] = (told) => messages(told).use(noteError);

exports.platform = (told) => {
  const take = platformByHand(told);
  return messages(told)
    .use(['/tickets', '/events'], wechat(configuration(told), (req, res, next) => {
      take(req.weixin).then(() => res.reply(''), next);
    }))
    .use(noteError);
};
