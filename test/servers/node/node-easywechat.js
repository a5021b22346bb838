// SPDX-License-Identifier: Apache-2.0

'use strict';

const express = require('express');
const { OfficialAccount, OpenPlatform, ServerRequest } = require('node-easywechat');
const { receive, receiveEvent, noteError } = require('./application.js');

const configuration = ({ gateway, appid, secret, token, key, folder }) => ({
  app_id: appid,
  secret,
  token,
  aes_key: key,
  http: { baseURL: gateway },
  file_cache: { path: folder },
});

// serve lets an application of the SDK, new for each request, answer it.
const serve = (create, handler) => async (req, res) => {
  const app = await create();
  app.setRequest(await ServerRequest.createFromIncomingMessage(req));
  const response = await app.getServer().with((message) => handler(message, app)).serve();
  res.status(response.getStatusCode()).send(response.getBody().toString());
};

exports.OfficialAccount = (told) => {
  const web = express();
  web.post('/messages', serve(() => new OfficialAccount(configuration(told)), receive));
  return web.use(noteError);
};

exports.OpenPlatform = (told) => {
  const create = () => new OpenPlatform(configuration(told));
  const exchange = (app) => async (code) => (await app.getAuthorization(code)).getAccessToken().getToken();
  const web = express();
  web.post(['/tickets', '/events'], serve(create, (event, app) => receiveEvent(event, exchange(app))));
  // Whose message it is, the query says.
  web.post('/messages', (req, res) =>
    serve(() => create().getOfficialAccountWithAccessToken(req.query.appid, 'not needed to answer'), receive)(req, res));
  return web.use(noteError);
};
