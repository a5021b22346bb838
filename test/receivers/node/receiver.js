// SPDX-License-Identifier: Apache-2.0

// An application that receives deliveries of the gateway, verified by the headers of
// Standard Webhooks (npm install --ignore-scripts standardwebhooks). It answers a text
// message with a reply.
//
//   LISTEN=127.0.0.1:9000 WEBHOOK_SECRET=whsec_... node receiver.js
'use strict';

const http = require('node:http');
const { Webhook } = require('standardwebhooks');

const webhook = new Webhook(process.env.WEBHOOK_SECRET);

// For the id of each delivery, a promise of what is answered. In an application it is a
// table, with the id as its key: it survives a restart, and old rows are deleted.
const answers = new Map();

async function receive(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  try {
    webhook.verify(body, request.headers, { jsonParse: false });
  } catch (error) { // forged, or older than five minutes
    response.writeHead(401).end('signature');
    return;
  }
  const id = request.headers['webhook-id'];
  if (!answers.has(id)) answers.set(id, handle(id, body));
  try { // a repetition gets the same answer, and waits for it if need be
    const answer = await answers.get(id);
    response.writeHead(200, { 'Content-Type': 'text/xml; charset=utf-8' }).end(answer);
  } catch (error) { // the gateway delivers it again
    console.error(error);
    answers.delete(id);
    response.writeHead(500).end('failed');
  }
}

// Does what a message or an event asks for, and returns the reply to a follower, or ''.
// What it does not know it takes all the same: an error brings it back, for days.
async function handle(id, body) {
  // InfoType is of events about the platform and its accounts, MsgType of messages and
  // events of an account.
  const kind = field(body, 'InfoType') || field(body, 'MsgType');
  console.log(`handled ${id} ${kind}`);
  switch (kind) {
    case 'text':
      return reply(body, `You wrote: ${field(body, 'Content')}`);
    case 'authorized':
    case 'unauthorized':
      console.log(`${field(body, 'AuthorizerAppid')}: ${kind}`);
  }
  return '';
}

// The text of the first element of a name. No XML parser: WeChat does not escape what
// followers write, who can write "]]>" and characters that XML forbids. The first one
// counts: WeChat writes names and types before a follower's text.
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
