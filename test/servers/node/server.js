// SPDX-License-Identifier: Apache-2.0

// Runs the message server of one SDK: node server.js <sdk> <face>. The module, such as
// co-wechat.js, exports one function for each face of its SDK; it takes what the SDK's
// user is told and returns a request listener, set up as the SDK's README says.
//
// The first line of standard output is "listening <url> <version of the SDK>". Those that
// follow are what the server was told, see application.js.
'use strict';

const http = require('node:http');

const [, , sdk, face] = process.argv;
const { GATEWAY, APPID, SECRET, TOKEN, ENCODING_AES_KEY, FOLDER } = process.env;
const told = { gateway: GATEWAY, appid: APPID, secret: SECRET, token: TOKEN, key: ENCODING_AES_KEY, folder: FOLDER };

const server = http.createServer(require(`./${sdk}.js`)[face](told));
server.listen(0, '127.0.0.1', () => {
  console.log(`listening http://127.0.0.1:${server.address().port} ${require(`${sdk}/package.json`).version}`);
});
