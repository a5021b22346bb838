// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	queryAuth      = "/cgi-bin/component/api_query_auth"
	otherComponent = "wxcccccccccccccccc"
	otherAppSecret = "0123456789abcdef0123456789abcdef"
)

// platformSDK is an application with the SDK of a platform: it knows the component's
// appid and nothing of accounts.
type platformSDK struct {
	*gwtest.Application
	t      *testing.T
	name   string // of the client
	secret string
	codec  *bizmsg.Codec
}

func newPlatformSDK(t *testing.T, name string) *platformSDK {
	t.Helper()
	key, err := bizmsg.ParseKey(secret.New(crmAESKey))
	if err != nil {
		t.Fatal(err)
	}
	return &platformSDK{
		Application: gwtest.NewApplication(), t: t, name: name, secret: name + "-secret-0123456789abcdef0123456789ab",
		codec: &bizmsg.Codec{ReceiveID: sandbox.DefaultComponent, Tokens: []secret.Secret{secret.New(crmToken)}, Keys: []bizmsg.Key{key}},
	}
}

// client is the block of the client; rights are more lines of it.
func (p *platformSDK) client(component, rights string) string {
	return fmt.Sprintf("client %s {\nsecret %s\ncomponent %s\n%s\ndeliver %s {\nname main\ntoken %s\nencoding_aes_key %s\nas platform\n}\n}\n",
		p.name, p.secret, component, rights, gwtest.Serve(p.t, p), crmToken, crmAESKey)
}

// open opens a delivery as the SDK does.
func (p *platformSDK) open(query url.Values, body string) (plain string, err error) {
	envelope, err := bizmsg.ParseEnvelope([]byte(body))
	if err != nil {
		return "", err
	}
	message, err := p.codec.Open(query.Get("msg_signature"), query.Get("timestamp"), query.Get("nonce"), envelope.Encrypt)
	if err != nil {
		return "", err
	}
	return string(message.Plain), nil
}

// events are the events of an InfoType that were delivered.
func (p *platformSDK) events(infoType string) (all []bizmsg.Event) {
	p.t.Helper()
	for _, d := range p.Deliveries() {
		plain, err := p.open(d.Query, d.Body)
		if err != nil {
			p.t.Fatalf("%s cannot read a delivery: %v", p.name, err)
		}
		if e, err := bizmsg.ParseEvent([]byte(plain)); err == nil && e.InfoType == infoType {
			all = append(all, e)
		}
	}
	return all
}

// codes waits for the authorisation of an account, and returns the gateway codes of it.
func (p *platformSDK) codes(appID string) (codes []string) {
	p.t.Helper()
	eventually(p.t, p.name+" gets a code of "+appID, func() bool {
		for _, infoType := range []string{"authorized", "updateauthorized"} {
			for _, e := range p.events(infoType) {
				if e.AuthorizerAppID == appID {
					codes = append(codes, e.AuthorizationCode.Reveal())
				}
			}
		}
		return len(codes) > 0
	})
	return codes
}

// component is the platform under which the client is.
func (p *platformSDK) component() string {
	if p.name == "alien" {
		return otherComponent
	}
	return sandbox.DefaultComponent
}

// exchanged is the answer to api_query_auth.
type exchanged struct {
	ErrCode int                  `json:"errcode"`
	Info    gwtest.Authorization `json:"authorization_info"`
}

// functions are the permission sets that the account has granted.
func (e exchanged) functions() (ids []int) {
	for _, function := range e.Info.Functions {
		ids = append(ids, function.Category.ID)
	}
	return ids
}

// exchange exchanges a code as an SDK does, with a component token for which it shows the
// ticket.
func (p *platformSDK) exchange(g *gwtest.Gateway, component, ticket, code string) (answer exchanged) {
	p.t.Helper()
	body := g.Post("/cgi-bin/component/api_component_token", fmt.Sprintf(`{"component_appid":%q,"component_appsecret":%q,"component_verify_ticket":%q}`, component, p.secret, ticket))
	var token struct {
		Token string `json:"component_access_token"`
	}
	if err := json.Unmarshal([]byte(body), &token); err != nil || token.Token == "" {
		p.t.Fatalf("component token: %s", body)
	}
	body = g.Post(queryAuth+"?component_access_token="+token.Token, fmt.Sprintf(`{"component_appid":%q,"authorization_code":%q}`, component, code))
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		p.t.Fatalf("%v: %s", err, body)
	}
	return answer
}

// platforms are four applications with the SDKs of platforms: shop and desk have the
// official account, beta has the mini program alone, alien is one of another component.
type platforms struct {
	*gwtest.Gateway
	shop, desk, beta, alien *platformSDK
}

func startPlatforms(t *testing.T) *platforms {
	t.Helper()
	w := &platforms{shop: newPlatformSDK(t, "shop"), desk: newPlatformSDK(t, "desk"), beta: newPlatformSDK(t, "beta"), alien: newPlatformSDK(t, "alien")}
	const component = sandbox.DefaultComponent
	w.Gateway = gwtest.Start(t, gwtest.Options{
		Watch: true, Quiet: true, Secrets: []string{w.shop.secret, w.desk.secret, w.beta.secret, w.alien.secret, otherAppSecret},
		Wechat: "component " + otherComponent + " {\napp_secret " + otherAppSecret + "\ntoken ANOTHERPLATFORM\nencoding_aes_key " + crmAESKey + "\n}",
		Clients: w.shop.client(component, "authorizers "+gwtest.OfficialAccount) + w.desk.client(component, "authorizers *\ncomponent_api") +
			w.beta.client(component, "authorizers "+gwtest.MiniProgram) + w.alien.client(otherComponent, "authorizers *\ncomponent_api"),
	})
	return w
}
