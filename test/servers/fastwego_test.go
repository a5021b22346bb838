// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/faabiosr/cachego/sync"
	"github.com/fastwego/offiaccount"
	"github.com/fastwego/offiaccount/type/type_event"
	"github.com/fastwego/offiaccount/type/type_message"
	"github.com/fastwego/wxopen"
	"github.com/fastwego/wxopen/apis/auth"
	"github.com/fastwego/wxopen/type/type_platform"
)

// startFastwego runs the server of an official account.
func startFastwego(t *testing.T, told told) *application {
	account := offiaccount.New(offiaccount.Config{Appid: told.appid, Token: pushToken, EncodingAESKey: aesKey})
	account.Logger = nil
	return serve(t, func(a *application) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.fastwegoMessage(account, w, r) })
	})
}

// fastwegoMessage takes a message of an account.
func (a *application) fastwegoMessage(account *offiaccount.OffiAccount, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	read, err := account.Server.ParseXML(body)
	if err != nil {
		a.failed(r, err)
		return
	}
	var reply any
	switch m := read.(type) {
	case type_message.MessageText:
		if text := a.receive(m.Content); text != "" {
			reply = type_message.ReplyMessageText{
				ReplyMessage: type_message.ReplyMessage{
					ToUserName: type_message.CDATA(m.FromUserName), FromUserName: type_message.CDATA(m.ToUserName),
					CreateTime: strconv.FormatInt(time.Now().Unix(), 10), MsgType: type_message.ReplyMsgTypeText,
				},
				Content: type_message.CDATA(text),
			}
		}
	case type_event.EventSubscribe:
		a.say("event", m.Event.Event)
	}
	if err := account.Server.Response(w, r, reply); err != nil {
		a.failed(r, err)
	}
}

// startWxopen runs the server of a platform. Messages go to a server for the account, which
// the platform makes: it encrypts replies for the account, and not for the component.
func startWxopen(t *testing.T, told told) *application {
	before := wxopen.WXServerUrl
	t.Cleanup(func() { wxopen.WXServerUrl = before })
	wxopen.WXServerUrl = told.gateway
	platform := wxopen.NewPlatform(wxopen.PlatformConfig{AppId: told.appid, AppSecret: clientSecret, Token: pushToken, AesKey: aesKey})
	platform.Cache = sync.New() // the default are files in a folder that all may read
	platform.Logger = nil
	return serve(t, func(a *application) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/messages" {
				a.wxopenEvent(platform, w, r)
				return
			}
			account, err := platform.NewOffiAccount(r.URL.Query().Get("appid"))
			if err != nil {
				a.failed(r, err)
				return
			}
			account.Logger = nil
			a.fastwegoMessage(account, w, r)
		})
	})
}

// wxopenEvent takes an event of the platform.
func (a *application) wxopenEvent(platform *wxopen.Platform, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	read, err := platform.Server.ParseXML(body)
	switch event := read.(type) {
	case type_platform.EventComponentVerifyTicket:
		a.say("ticket", event.ComponentVerifyTicket)
		err = platform.ReceiveComponentVerifyTicketHandler(platform, event.ComponentVerifyTicket)
	case type_platform.EventAuthorized:
		err = a.wxopenExchange(platform, event)
	}
	if err == nil {
		err = platform.Server.Response(w, r, nil)
	}
	if err != nil {
		a.failed(r, err)
	}
}

func (a *application) wxopenExchange(platform *wxopen.Platform, event type_platform.EventAuthorized) error {
	given, err := json.Marshal(map[string]string{"component_appid": platform.Config.AppId, "authorization_code": event.AuthorizationCode})
	if err != nil {
		return err
	}
	answer, err := auth.ApiQueryAuth(platform, given)
	if err != nil {
		return err
	}
	var grant struct {
		Info struct {
			Token string `json:"authorizer_access_token"`
		} `json:"authorization_info"`
	}
	if err := json.Unmarshal(answer, &grant); err != nil {
		return err
	}
	a.say("authorized", event.AuthorizerAppid, grant.Info.Token)
	return nil
}
