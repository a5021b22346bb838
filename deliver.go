// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Deliver is the address to which a client gets what WeChat pushes: messages of
// the accounts for which it may act, and authorisation events without the codes
// in them. A delivery looks like a push of WeChat to an ordinary account, so
// the message server of any SDK accepts it. Its query has the parameters of
// WeChat, the appid of the account, and for an authorisation event an event_id,
// the same at every attempt.
type Deliver struct {
	// URL is http or https. Redirects are not followed.
	URL string `json:"url,omitempty"`

	// Token is the client's 消息校验Token: 3 to 32 letters and digits. It signs
	// the deliveries. Required.
	Token string `json:"token,omitempty"`

	// EncodingAESKey is the client's 消息加解密Key: 43 letters and digits. With
	// it, deliveries and replies are encrypted as in WeChat's safe mode, and the
	// receive id is the appid of the account. Default: plain mode.
	EncodingAESKey string `json:"encoding_aes_key,omitempty"`
}

// provision returns the target with the secrets resolved.
func (d *Deliver) provision(client string, resolve resolver) (*delivery.Target, error) {
	target := &delivery.Target{Client: client}
	var err error
	if target.URL, err = check.ParseDeliverURL(d.URL); err != nil {
		return nil, err
	}
	if d.Token == "" {
		return nil, errors.New("token is missing: the application checks with it that a delivery comes from here")
	}
	token, err := resolve.secrets("token", []string{d.Token}, check.PushToken)
	if err != nil {
		return nil, err
	}
	target.Token = token[0]
	if d.EncodingAESKey == "" {
		return target, nil
	}
	key, err := resolve.secrets("encoding_aes_key", []string{d.EncodingAESKey}, check.AESKey)
	if err != nil {
		return nil, err
	}
	target.Key, err = bizmsg.ParseKey(key[0])
	return target, err
}

// deliveries returns what the courier takes from this configuration, without the
// vault, see settings.keepIn. It logs a warning for each target to which messages
// are sent unencrypted.
func (a *App) deliveries() delivery.Settings {
	settings := delivery.Settings{Log: a.sparing, Targets: make(map[vault.Queue]*delivery.Target)}
	for _, c := range a.applications.receivers {
		settings.Targets[vault.Queue{Component: c.Component, Client: c.ID}] = c.target
		if to := c.target.URL; to.Scheme == "http" && !check.IsPrivate(to.Hostname()) {
			a.log.Warn("messages travel unencrypted", zap.String("client", c.ID), zap.String("host", to.Host))
		}
	}
	return settings
}

// recipients returns a function that returns the targets of a push: those of
// the clients that may act for the authorizer; or, if authorizer is "", of the
// clients with component_api. The targets are in the order of the clients'
// names. The function is safe for concurrent use. It is nil if no client takes
// deliveries, see push.Receiver.
func (a *applications) recipients() func(component, authorizer string) []*delivery.Target {
	if len(a.receivers) == 0 {
		return nil
	}
	return func(component, authorizer string) (targets []*delivery.Target) {
		for _, c := range a.receivers {
			covered := c.Rights.Authorizer(authorizer) || authorizer == "" && c.Rights.ComponentAPI
			if c.Component == component && covered {
				targets = append(targets, c.target)
			}
		}
		return targets
	}
}

// newDeliverer returns the transport for deliveries. The number of connections
// to one host is limited, so that an application that does not answer cannot
// use up all file descriptors. The time to connect is short, because WeChat
// waits for the reply to a message. The time for the answer is limited by the
// context of each delivery.
func newDeliverer() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		TLSHandshakeTimeout:    2 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxConnsPerHost:        256,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}
