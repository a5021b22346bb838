// SPDX-License-Identifier: Apache-2.0

// For node --require: the names of WeChat's API lead to the address $GATEWAY,
// and every other name nowhere. Without a port in it, port 80 leads there as
// well. What runs on top knows nothing of it.
'use strict';

const net = require('node:net');

const names = ['api.weixin.qq.com', 'file.api.weixin.qq.com'];
const [host, port] = process.env.GATEWAY.split(':');
const ports = port ? [443] : [443, 80];
const connect = net.Socket.prototype.connect;

net.Socket.prototype.connect = function (given, ...rest) {
  const options = Array.isArray(given) ? given[0] : given; // as net.connect gives them
  if (!names.includes(options.host) || !ports.includes(Number(options.port))) {
    throw new Error(`the SDK calls ${options.host}:${options.port}`);
  }
  return connect.call(this, { ...options, host, port: Number(port ?? options.port) }, ...rest);
};
