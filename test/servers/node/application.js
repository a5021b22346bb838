// SPDX-License-Identifier: Apache-2.0

// The application behind each SDK. It prints what the SDK gives it, one line each:
//
//   text <Content>                      of a follower, answered by "You wrote: <Content>", or not at all if it is "quiet"
//   event <Event>                       of an account, not answered
//   ticket <ComponentVerifyTicket>
//   authorized <AuthorizerAppid> <token> what the SDK got for the code in the event
//   failed <path> <message>             an error of the SDK
'use strict';

const say = (...what) => console.log(what.join(' '));

// Takes a message or an event of an account, and returns the text to answer, '' for none.
function receive({ MsgType, Content, Event }) {
  if (MsgType === 'event') say('event', Event);
  if (MsgType !== 'text') return '';
  say('text', Content);
  return Content === 'quiet' ? '' : `You wrote: ${Content}`;
}

// Takes an event of the platform. exchange returns an access token for a code.
async function receiveEvent({ InfoType, ComponentVerifyTicket, AuthorizerAppid, AuthorizationCode }, exchange) {
  if (InfoType === 'component_verify_ticket') say('ticket', ComponentVerifyTicket);
  if (InfoType === 'authorized') say('authorized', AuthorizerAppid, await exchange(AuthorizationCode));
}

const failed = (path, error) => say('failed', path, error.message.replaceAll('\n', ' '));

// Middleware of express for the errors of an SDK. What is answered then is left to express.
const noteError = (error, req, res, next) => {
  failed(req.originalUrl.split('?')[0], error);
  next(error);
};

// Returns the calls of a platform that has no SDK for them.
function callsByHand({ gateway, appid, secret }) {
  const post = async (path, body) => {
    const given = { method: 'POST', body: JSON.stringify({ component_appid: appid, ...body }) };
    const answer = await (await fetch(`${gateway}/cgi-bin/component/${path}`, given)).json();
    if (answer.errcode) throw new Error(JSON.stringify(answer));
    return answer;
  };
  return async (ticket, code) => {
    const token = await post('api_component_token', { component_appsecret: secret, component_verify_ticket: ticket });
    const grant = await post(`api_query_auth?component_access_token=${token.component_access_token}`, { authorization_code: code });
    return grant.authorization_info.authorizer_access_token;
  };
}

// Returns what takes the events of a platform whose SDK has a message server, but neither
// memory for tickets nor calls.
function platformByHand(told) {
  const exchange = callsByHand(told);
  let ticket;
  return async (event) => {
    ticket = event.ComponentVerifyTicket ?? ticket;
    await receiveEvent(event, (code) => exchange(ticket, code));
  };
}

module.exports = { receive, receiveEvent, failed, noteError, platformByHand };
