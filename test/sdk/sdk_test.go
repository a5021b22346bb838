// SPDX-License-Identifier: Apache-2.0

// Package sdk_test calls the gateway with an unmodified WeChat SDK. What the
// SDK is told is a base URL and, as its AppSecret, the client's secret.
package sdk_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/officialaccount"
	"github.com/silenceper/wechat/v2/officialaccount/config"
	"github.com/silenceper/wechat/v2/officialaccount/material"
	"github.com/silenceper/wechat/v2/officialaccount/message"
	"github.com/silenceper/wechat/v2/util"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const sendPath = "/cgi-bin/message/custom/send"

// kinds are the two ways in which SDKs fetch tokens.
var kinds = []struct {
	name, tokenPath string
	stable          bool
}{
	{"with /cgi-bin/token", "/cgi-bin/token", false},
	{"with /cgi-bin/stable_token", "/cgi-bin/stable_token", true},
}

// start starts a gateway and an SDK that calls it for the official account.
func start(t *testing.T, stable bool) (*gwtest.Gateway, *officialaccount.OfficialAccount) {
	t.Helper()
	g := gwtest.Start(t, gwtest.Options{})
	util.SetURIModifier(func(uri string) string {
		return strings.Replace(uri, "https://api.weixin.qq.com", g.Proxy, 1)
	})
	t.Cleanup(func() { util.SetURIModifier(nil) })
	g.WeChat.ResetCounts()
	return g, wechat.NewWechat().GetOfficialAccount(&config.Config{
		AppID: gwtest.OfficialAccount, AppSecret: gwtest.ClientSecret, Cache: cache.NewMemory(), UseStableAK: stable,
	})
}

// wantRealToken fails the test unless the last call to a path carried the
// account's real token, and if anything of the gateway's own reached WeChat.
func wantRealToken(t *testing.T, g *gwtest.Gateway, path string) {
	t.Helper()
	found := false
	for _, call := range g.WeChat.Calls() {
		header, _ := json.Marshal(call.Header)
		for _, ours := range []string{"gw1.", gwtest.ClientSecret} {
			if strings.Contains(call.RawQuery, ours) || bytes.Contains(header, []byte(ours)) {
				t.Errorf("WeChat saw %s… in %s %s", ours[:4], call.Method, call.Path)
			}
		}
		if call.Path == path {
			found = call.TokenKind == sandbox.KindAuthorizer && call.TokenAppID == gwtest.OfficialAccount && call.ErrCode == 0 &&
				strings.Contains(call.RawQuery, "access_token="+g.WeChat.ValidToken(sandbox.KindAuthorizer, gwtest.OfficialAccount))
		}
	}
	if !found {
		t.Errorf("WeChat saw no call to %s with the account's real token", path)
	}
}

func TestTokenIsTheGateways(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			g, account := start(t, kind.stable)
			token, err := account.GetAccessToken()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(token, "gw1.") {
				t.Errorf("the SDK holds %.8s…, want a gateway token", token)
			}
			if n := g.WeChat.Count(kind.tokenPath); n != 0 {
				t.Errorf("WeChat saw %d calls to %s, want none", n, kind.tokenPath)
			}
		})
	}
}

func TestCustomerMessage(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			g, account := start(t, kind.stable)
			const text = "您的订单已发货 🎉 <b>&amp;</b>"
			if err := account.GetCustomerMessageManager().Send(message.NewCustomerTextMessage("o-follower", text)); err != nil {
				t.Fatal(err)
			}
			wantRealToken(t, g, sendPath)
			sent := g.WeChat.SentMessages()
			if len(sent) != 1 || sent[0].AppID != gwtest.OfficialAccount || sent[0].ToUser != "o-follower" {
				t.Fatalf("WeChat took %d messages: %+v", len(sent), sent)
			}
			var got message.CustomerMessage
			if err := json.Unmarshal(sent[0].Body, &got); err != nil || got.Text.Content != text {
				t.Errorf("WeChat took %s (%v), want the text %q", sent[0].Body, err, text)
			}
		})
	}
}

func TestMediaThereAndBack(t *testing.T) {
	g, account := start(t, false)
	picture := make([]byte, 3<<20+1) // larger than any buffer on the way
	for i := range picture {
		picture[i] = byte(i * 7)
	}
	media, err := account.GetMaterial().MediaUploadFromReader(material.MediaTypeImage, "图片.jpg", bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	wantRealToken(t, g, "/cgi-bin/media/upload")
	address, err := account.GetMaterial().GetMediaURL(media.MediaID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := util.HTTPGet(address)
	if err != nil {
		t.Fatal(err)
	}
	wantRealToken(t, g, "/cgi-bin/media/get")
	if !bytes.Equal(got, picture) {
		t.Errorf("downloaded %d bytes (%.80q…), want the %d bytes uploaded", len(got), got, len(picture))
	}
}

func TestKilledTokenIsHealedUnnoticed(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			g, account := start(t, kind.stable)
			before, err := account.GetAccessToken()
			if err != nil {
				t.Fatal(err)
			}
			g.WeChat.KillTokens(gwtest.OfficialAccount)
			if err := account.GetCustomerMessageManager().Send(message.NewCustomerTextMessage("o-follower", "你好")); err != nil {
				t.Fatalf("the SDK noticed: %v", err)
			}
			wantRealToken(t, g, sendPath)
			if after, err := account.GetAccessToken(); err != nil || after != before {
				t.Errorf("the SDK's token changed (%v)", err)
			}
			if n := g.WeChat.Count(sendPath); n != 2 {
				t.Errorf("WeChat saw %d sends, want the refused one and its repetition", n)
			}
			if n := len(g.WeChat.SentMessages()); n != 1 {
				t.Errorf("WeChat took %d messages, want 1", n)
			}
			if n := g.WeChat.Count("/cgi-bin/component/api_authorizer_token"); n != 1 {
				t.Errorf("%d renewals, want 1", n)
			}
		})
	}
}
