// SPDX-License-Identifier: Apache-2.0

// An application that receives deliveries of the gateway in safe mode (WXBizMsgCrypt), as
// WeChat would push them to an ordinary account. It answers a text message with a reply.
//
//   LISTEN=127.0.0.1:9000 TOKEN=... ENCODING_AES_KEY=... node safe.js
'use strict';

const crypto = require('node:crypto');
const http = require('node:http');

const { TOKEN } = process.env;
const KEY = Buffer.from(`${process.env.ENCODING_AES_KEY}=`, 'base64');
const IV = KEY.subarray(0, 16);

// For each message and event, a promise of what is answered. In an application it is a
// table, with the id as its key: it survives a restart, and old rows are deleted.
const answers = new Map();

function sign(...parts) {
  return crypto.createHash('sha1').update(parts.sort().join('')).digest('hex');
}

// Verifies and decrypts a delivery. It throws if that is forged, older than five minutes,
// or for another account than the query says.
function open(query, body) {
  const encrypted = body.startsWith('{') ? JSON.parse(body).Encrypt : field(body, 'Encrypt');
  const want = sign(TOKEN, query.get('timestamp'), query.get('nonce'), encrypted);
  if (!crypto.timingSafeEqual(Buffer.from(want), Buffer.from(query.get('msg_signature')))) throw new Error('forged');
  if (Math.abs(Date.now() / 1000 - Number(query.get('timestamp'))) > 300) throw new Error('old');
  const decipher = crypto.createDecipheriv('aes-256-cbc', KEY, IV).setAutoPadding(false);
  const padded = Buffer.concat([decipher.update(encrypted, 'base64'), decipher.final()]);
  const content = padded.subarray(16, padded.length - padded.at(-1)); // 16 random bytes come first
  const end = 4 + content.readUInt32BE(0);
  if (content.subarray(end).toString() !== query.get('appid')) throw new Error('another account');
  return content.subarray(4, end).toString();
}

// Encrypts and signs a reply. "success" and the empty answer stay in clear.
function seal(appid, text) {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(text));
  const content = Buffer.concat([crypto.randomBytes(16), length, Buffer.from(text + appid)]);
  const padding = 32 - (content.length % 32);
  const cipher = crypto.createCipheriv('aes-256-cbc', KEY, IV).setAutoPadding(false);
  const encrypted = Buffer.concat([cipher.update(content), cipher.update(Buffer.alloc(padding, padding)), cipher.final()]).toString('base64');
  const [timestamp, nonce] = [String(Math.floor(Date.now() / 1000)), String(crypto.randomInt(1e9))];
  return `<xml><Encrypt><![CDATA[${encrypted}]]></Encrypt><MsgSignature>${sign(TOKEN, timestamp, nonce, encrypted)}</MsgSignature>`
    + `<TimeStamp>${timestamp}</TimeStamp><Nonce>${nonce}</Nonce></xml>`;
}

async function receive(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { searchParams: query } = new URL(request.url, 'http://localhost');
  let message;
  try {
    message = open(query, Buffer.concat(chunks).toString());
  } catch (error) {
    response.writeHead(401).end('signature');
    return;
  }
  // event_id in the query is not signed. The text is, and is the same at each repetition.
  const id = crypto.createHash('sha256').update(message).digest('hex');
  if (!answers.has(id)) answers.set(id, handle(query.get('event_id'), message));
  try { // a repetition gets the same answer, and waits for it if need be
    const answer = await answers.get(id);
    response.writeHead(200, { 'Content-Type': 'text/xml' }).end(answer && seal(query.get('appid'), answer));
  } catch (error) { // the gateway delivers it again
    console.error(error);
    answers.delete(id);
    response.writeHead(500).end('failed');
  }
}

// Does what a message or an event asks for, and returns the reply to a follower, or ''.
async function handle(id, message) {
  const kind = field(message, 'InfoType') || field(message, 'MsgType');
  console.log(`handled ${id} ${kind}`);
  if (kind === 'authorized' || kind === 'unauthorized') console.log(`${field(message, 'AuthorizerAppid')}: ${kind}`);
  return kind === 'text' ? reply(message, `You wrote: ${field(message, 'Content')}`) : '';
}

// The text of the first element of a name; why no XML parser: see receiver.js.
function field(body, name) {
  const found = body.match(new RegExp(`<${name}>\\s*(?:<!\\[CDATA\\[(.*?)\\]\\]>|([^<]*?))\\s*</${name}>`, 's'));
  return found ? found[1] ?? found[2] : '';
}

// A text for the follower who has sent a message.
function reply(message, text) {
  return `<xml><ToUserName><![CDATA[${field(message, 'FromUserName')}]]></ToUserName>`
    + `<FromUserName><![CDATA[${field(message, 'ToUserName')}]]></FromUserName>`
    + `<CreateTime>${Math.floor(Date.now() / 1000)}</CreateTime><MsgType><![CDATA[text]]></MsgType>`
    + `<Content><![CDATA[${text.replaceAll(']]>', ']]]]><![CDATA[>')}]]></Content></xml>`;
}

const [host, port] = process.env.LISTEN.split(':');
const server = http.createServer((request, response) => {
  receive(request, response).catch(() => response.destroy()); // the sender has gone
});
server.listen(Number(port), host, () => console.log(`listening on ${host}:${server.address().port}`));
