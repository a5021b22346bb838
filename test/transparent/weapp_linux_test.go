// SPDX-License-Identifier: Apache-2.0

package transparent_test

import (
	"testing"

	"github.com/medivhzhan/weapp/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// sdkWeapp is an SDK that has no knob at all: neither its host nor its HTTP
// client can be changed. It takes any certificate.
type sdkWeapp struct{}

func (sdkWeapp) login(secret, code string) (openid string, err error) {
	session, err := weapp.Login(gwtest.MiniProgram, secret, code)
	if err != nil {
		return "", err
	}
	return session.OpenID, session.GetResponseError()
}

func (sdkWeapp) token(secret string) (string, error) {
	token, err := weapp.GetAccessToken(gwtest.MiniProgram, secret)
	if err != nil {
		return "", err
	}
	return token.AccessToken, token.GetResponseError()
}

func (s sdkWeapp) send(secret, to, text string) error {
	token, err := s.token(secret)
	if err != nil {
		return err
	}
	sent, err := weapp.CSMsgText{Content: text}.SendTo(to, token)
	if err != nil {
		return err
	}
	return sent.GetResponseError()
}

func TestWeapp(t *testing.T) {
	if !inPrivateNetwork(t) {
		return
	}
	keepPromises(t, "HTTP/1.1", func(t *testing.T) (*gwtest.Gateway, client) {
		g := gwtest.Start(t, gwtest.Options{Global: global, Sites: "https://" + host + " {\nbind 127.0.0.1\ntls internal\nlog\nwechat_proxy\n}"})
		awaitCertificate(t, g, host, "127.0.0.1:443")
		g.WeChat.ResetCounts()
		return g, sdkWeapp{}
	})
}
