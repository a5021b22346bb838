// SPDX-License-Identifier: Apache-2.0

// For node --require: the name of WeChat's API leads to the address $GATEWAY,
// and every other name nowhere. What runs on top knows nothing of it.
'use strict';

const net = require('node:net');

const [host, port] = process.env.GATEWAY.split(':');
const connect = net.Socket.prototype.connect;

net.Socket.prototype.connect = function (options, ...rest) {
  if (options.host !== 'api.weixin.qq.com' || options.port !== 443) {
    throw new Error(`the SDK calls ${options.host}:${options.port}`);
  }
  return connect.call(this, { ...options, host, port: Number(port) }, ...rest);
};
