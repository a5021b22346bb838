// SPDX-License-Identifier: Apache-2.0

package transparent_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/miniprogram"
	"github.com/silenceper/wechat/v2/miniprogram/config"
	"github.com/silenceper/wechat/v2/miniprogram/message"
	"github.com/silenceper/wechat/v2/util"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// silenceper is an SDK that verifies certificates and speaks HTTP/2.
type silenceper struct{}

func (silenceper) account(secret string) *miniprogram.MiniProgram {
	return wechat.NewWechat().GetMiniProgram(&config.Config{AppID: gwtest.MiniProgram, AppSecret: secret, Cache: cache.NewMemory()})
}

func (s silenceper) login(secret, code string) (openid string, err error) {
	session, err := s.account(secret).GetAuth().Code2Session(code)
	return session.OpenID, err
}

func (s silenceper) token(secret string) (string, error) {
	return s.account(secret).GetContext().GetAccessToken()
}

func (s silenceper) send(secret, to, text string) error {
	return s.account(secret).GetCustomerMessage().Send(message.NewCustomerTextMessage(to, text))
}

// lead makes the name of WeChat's API lead the SDK to the gateway, and every
// other name nowhere.
func lead(t *testing.T, g *gwtest.Gateway, trusted *x509.CertPool) {
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: trusted},
		DialContext:       dialer(g),
	}
	before := util.DefaultHTTPClient
	util.DefaultHTTPClient = &http.Client{Transport: transport}
	t.Cleanup(func() {
		util.DefaultHTTPClient = before
		transport.CloseIdleConnections()
	})
}

// dialer leads the name of WeChat's API to the gateway, and no other name anywhere.
func dialer(g *gwtest.Gateway) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != host+":443" {
			return nil, fmt.Errorf("the SDK calls %s", address)
		}
		return new(net.Dialer).DialContext(ctx, network, g.Sites)
	}
}

func TestSilenceper(t *testing.T) {
	keepPromises(t, "HTTP/2.0", func(t *testing.T) (*gwtest.Gateway, client) {
		g := start(t, gwtest.Options{})
		lead(t, g, roots(t, g))
		return g, silenceper{}
	})
}

func TestSilenceperWithoutTheRoot(t *testing.T) {
	g := start(t, gwtest.Options{})
	lead(t, g, x509.NewCertPool())
	_, err := silenceper{}.token(gwtest.ClientSecret)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("got %v, want that the authority is unknown", err)
	}
	if found := requests(g); len(found) != 0 {
		t.Errorf("the SDK sent %+v to a server it does not trust", found)
	}
}
