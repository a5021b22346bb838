// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/officialaccount/config"
	"github.com/silenceper/wechat/v2/officialaccount/message"
	officialServer "github.com/silenceper/wechat/v2/officialaccount/server"
	"github.com/silenceper/wechat/v2/openplatform"
	openConfig "github.com/silenceper/wechat/v2/openplatform/config"
	"github.com/silenceper/wechat/v2/util"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// startSilenceper runs the server of an official account.
func startSilenceper(t *testing.T, told told) *application {
	account := wechat.NewWechat().GetOfficialAccount(&config.Config{
		AppID: told.appid, Token: pushToken, EncodingAESKey: aesKey, Cache: cache.NewMemory(),
	})
	return serve(t, func(a *application) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a.answer(account.GetServer(r, w), r, a.message)
		})
	})
}

// startSilenceperPlatform runs the server of a platform, which is the same with the appid of
// the component. It gets all at one URL.
func startSilenceperPlatform(t *testing.T, told told) *application {
	util.SetURIModifier(func(uri string) string { return strings.Replace(uri, "https://api.weixin.qq.com", told.gateway, 1) })
	t.Cleanup(func() { util.SetURIModifier(nil) })
	platform := wechat.NewWechat().GetOpenPlatform(&openConfig.Config{
		AppID: told.appid, AppSecret: clientSecret, Token: pushToken, EncodingAESKey: aesKey, Cache: cache.NewMemory(),
	})
	return serve(t, func(a *application) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a.answer(platform.GetServer(r, w), r, func(m *message.MixMessage) *message.Reply {
				a.platformEvent(r, platform, m)
				return a.message(m)
			})
		})
	})
}

// answer is what the README of silenceper shows: an error is printed. In safe mode the
// server encrypts an empty text if there is no reply.
func (a *application) answer(s *officialServer.Server, r *http.Request, handler func(*message.MixMessage) *message.Reply) {
	s.SetMessageHandler(handler)
	err := s.Serve()
	if err == nil {
		err = s.Send()
	}
	if err != nil {
		a.failed(r, err)
	}
}

// message takes a message of an account.
func (a *application) message(m *message.MixMessage) *message.Reply {
	switch m.MsgType {
	case message.MsgTypeText:
		if text := a.receive(m.Content); text != "" {
			return &message.Reply{MsgType: message.MsgTypeText, MsgData: message.NewText(text)}
		}
	case message.MsgTypeEvent:
		a.say("event", string(m.Event))
	}
	return nil
}

// platformEvent takes an event of the platform.
func (a *application) platformEvent(r *http.Request, platform *openplatform.OpenPlatform, m *message.MixMessage) {
	switch m.InfoType {
	case message.InfoTypeVerifyTicket:
		a.say("ticket", m.ComponentVerifyTicket)
		if _, err := platform.SetComponentAccessToken(r.Context(), m.ComponentVerifyTicket); err != nil {
			a.failed(r, err)
		}
	case message.InfoTypeAuthorized:
		grant, err := platform.QueryAuthCode(m.AuthorizationCode)
		if err != nil {
			a.failed(r, err)
			return
		}
		a.say("authorized", grant.Appid, grant.AccessToken)
	}
}

// Where there is no reply in safe mode, silenceper answers with an encrypted empty text, and
// not with success.
func TestSilenceperEncryptsSilence(t *testing.T) {
	w := start(t, server{start: func(t *testing.T, told told) *application {
		app := startSilenceper(t, told)
		to, _ := url.Parse(app.url)
		wire := httputil.NewSingleHostReverseProxy(to)
		wire.ModifyResponse = func(response *http.Response) error {
			body, err := io.ReadAll(response.Body)
			app.say("answered", string(body))
			response.Body = io.NopCloser(bytes.NewReader(body))
			return err
		}
		app.url = serve(t, func(*application) http.Handler { return wire }).url
		return app
	}}, "account")
	w.authorizes(t)
	answer := w.pushes(t, "text", quiet)
	if answer.Shown != sandbox.ShownSilence || answer.Attempts != 1 {
		t.Errorf("the follower sees %q %q after %d attempts", answer.Shown, answer.Reply, answer.Attempts)
	}
	if !strings.Contains(w.app.said("answered "), "<Encrypt>") || w.app.said("failed ") != "" {
		t.Errorf("the SDK answers %q", w.app.said("answered "))
	}
	if strings.Contains(w.Logs(), "no reply") {
		t.Errorf("warned of:\n%s", w.Logs())
	}
}
