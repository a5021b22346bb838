// SPDX-License-Identifier: Apache-2.0

// Prepares a video for a mass message with the package co-wechat-api, which
// calls http://file.api.weixin.qq.com for it. Standard input is a JSON object
// with appid and secret; what is printed is the answer, or the error.
'use strict';

const fs = require('node:fs');
const WechatAPI = require('co-wechat-api');

const { appid, secret } = JSON.parse(fs.readFileSync(0, 'utf8'));
const api = new WechatAPI(appid, secret);
api.setOpts({ timeout: 60000 }); // 3 s are too few for a busy test machine

api
  .uploadMPVideo({ media_id: 'any', title: '视频 🎉', description: '<b>&amp;</b>' })
  .catch((err) => ({ error: err.message, code: err.code }))
  .then((answer) => console.log(JSON.stringify(answer)));
