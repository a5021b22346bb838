// SPDX-License-Identifier: Apache-2.0

// Speaks WXBizMsgCrypt with the package wechat-crypto. Standard input is a JSON
// object with token, key, appid and:
//
//   push   url, plain      seals plain as WeChat does and POSTs it to url;
//                          prints {"status", "body"}
//   open   the fields of a sealed reply: encrypt, msgSignature, timestamp, nonce;
//                          prints {"genuine", "message", "id"}
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const WXBizMsgCrypt = require('wechat-crypto');

const given = JSON.parse(fs.readFileSync(0, 'utf8'));
const codec = new WXBizMsgCrypt(given.token, given.key, given.appid);

async function push() {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const nonce = crypto.randomBytes(5).readUIntBE(0, 5).toString();
  const encrypt = codec.encrypt(given.plain);
  const query = new URLSearchParams({
    signature: codec.getSignature(timestamp, nonce, ''),
    timestamp,
    nonce,
    encrypt_type: 'aes',
    msg_signature: codec.getSignature(timestamp, nonce, encrypt),
  });
  const response = await fetch(`${given.url}?${query}`, {
    method: 'POST',
    headers: { 'Content-Type': 'text/xml' },
    body: `<xml><AppId><![CDATA[${given.appid}]]></AppId><Encrypt><![CDATA[${encrypt}]]></Encrypt></xml>`,
  });
  return { status: response.status, body: await response.text() };
}

function open() {
  return {
    genuine: codec.getSignature(given.timestamp, given.nonce, given.encrypt) === given.msgSignature,
    ...codec.decrypt(given.encrypt),
  };
}

const verbs = { push, open };
Promise.resolve(verbs[process.argv[2]]()).then((answer) => console.log(JSON.stringify(answer)));
