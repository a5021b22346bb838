// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	// gatewayTokenLifetime is what SDKs expect of WeChat's own tokens, and are told.
	gatewayTokenLifetime = 2 * time.Hour
	// gatewayTokenGrace is how much longer a gateway token lives: SDKs use
	// theirs through the last second, and clocks of nodes differ. WeChat's own
	// live five minutes longer.
	gatewayTokenGrace = time.Minute
)

// Client is an application that may call the gateway.
type Client struct {
	// Secrets are what the client shows in the place of WeChat's AppSecret: at
	// least 32 characters, or sha256:<hex> of such a text. A second one may be
	// given so that they can be exchanged one after the other. Required.
	Secrets []string `json:"secrets,omitempty"`

	// Component is the component_appid of the platform the client works
	// under. Default: the only one configured.
	Component string `json:"component,omitempty"`

	// Authorizers are the appids of the accounts the client may act for, or
	// * for every one that has authorized the component. Default: none.
	Authorizers []string `json:"authorizers,omitempty"`

	// Allow are the paths the client may call: a path, or a prefix with /*
	// after it, each for one method or any. Default: every authorizer-level
	// path, and with component_api every component-level path.
	Allow []policy.Rule `json:"allow,omitempty"`

	// ComponentAPI opens the component-level paths. Default: false.
	ComponentAPI bool `json:"component_api,omitempty"`

	// Deliver is where messages of the client's accounts and authorisation
	// events go. Default: nowhere.
	Deliver *Deliver `json:"deliver,omitempty"`
}

// client is a Client with its secrets resolved.
type client struct {
	id        string
	name      any // id, as placeholders take it
	component string
	rights    policy.Rights
	signers   []signer                      // one for each client secret and app secret
	issuer    map[secretDigest]*gwtoken.Key // client secret → the key that issues
	hashed    bool                          // of a secret only the digest is known
	deliver   *delivery.Target              // nil for none
}

type secretDigest = [sha256.Size]byte

// clients finds who calls. It is built once per configuration and read only.
type clients struct {
	all      []*client // by name
	bySecret map[secretDigest]*client
	byKey    map[string]signer // key id → who signs with it
	shortest int               // length of the shortest secret; of one given as a digest it is not known
}

type signer struct {
	client *client
	shown  secretDigest // the client secret that its tokens were issued for
	key    *gwtoken.Key
}

func newClients(config map[string]*Client, components map[string]*component, resolve resolver) (*clients, error) {
	found := &clients{bySecret: make(map[secretDigest]*client), byKey: make(map[string]signer), shortest: check.MinClientSecret}
	for _, id := range slices.Sorted(maps.Keys(config)) {
		c, digests, err := config[id].provision(id, components, resolve)
		if err != nil {
			return nil, fmt.Errorf("client %s: %w", id, err)
		}
		for _, digest := range digests {
			switch other := found.bySecret[digest]; other {
			case nil:
			case c:
				return nil, fmt.Errorf("client %s: both secrets are the same; leave the second out", id)
			default:
				return nil, fmt.Errorf("client %s has the same secret as client %s: give each its own", id, other.id)
			}
			found.bySecret[digest] = c
		}
		if c.hashed {
			found.shortest = 1
		}
		for _, signer := range c.signers {
			found.byKey[signer.key.ID()] = signer
		}
		found.all = append(found.all, c)
	}
	return found, nil
}

func (c *Client) provision(id string, components map[string]*component, resolve resolver) (*client, []secretDigest, error) {
	if c == nil {
		c = new(Client)
	}
	if err := check.ClientID(id); err != nil {
		return nil, nil, err
	}
	under, err := c.under(components)
	if err != nil {
		return nil, nil, err
	}
	out := &client{id: id, name: id, component: under.appid, issuer: make(map[secretDigest]*gwtoken.Key)}
	if out.rights, err = c.rights(); err != nil {
		return nil, nil, err
	}
	if c.Deliver != nil {
		if out.deliver, err = c.Deliver.provision(id, resolve); err != nil {
			return nil, nil, fmt.Errorf("deliver: %w", err)
		}
	}
	secrets, err := resolve.secrets("secret", c.Secrets, check.ClientSecret)
	if err != nil {
		return nil, nil, err
	}
	var digests []secretDigest
	for _, text := range secrets {
		out.hashed = out.hashed || strings.HasPrefix(text.Reveal(), check.HashedSecret)
		digest := clientDigest(text)
		for i, appSecret := range under.appSecrets {
			key, err := gwtoken.NewKey(appSecret, digest)
			if err != nil {
				return nil, nil, err
			}
			out.signers = append(out.signers, signer{out, digest, key})
			if i == 0 {
				out.issuer[digest] = key
			}
		}
		digests = append(digests, digest)
	}
	return out, digests, nil
}

// under returns the component the client works under.
func (c *Client) under(components map[string]*component) (*component, error) {
	if c.Component == "" {
		if len(components) != 1 {
			return nil, fmt.Errorf("component is missing, name one of: %s", strings.Join(slices.Sorted(maps.Keys(components)), ", "))
		}
		for _, only := range components {
			return only, nil
		}
	}
	if found := components[c.Component]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("component %s is not configured, only: %s", check.Quote(c.Component), strings.Join(slices.Sorted(maps.Keys(components)), ", "))
}

func (c *Client) rights() (policy.Rights, error) {
	rights := policy.Rights{Authorizers: make(map[string]struct{}), Rules: c.Allow, ComponentAPI: c.ComponentAPI}
	for _, appid := range c.Authorizers {
		if appid == "*" {
			rights.AllAuthorizers = true
			continue
		}
		if err := check.AppID(appid); err != nil {
			return rights, fmt.Errorf("authorizers: %w", err)
		}
		rights.Authorizers[appid] = struct{}{}
	}
	if rights.AllAuthorizers && len(c.Authorizers) > 1 {
		return rights, errors.New("authorizers: * stands for all, name no others beside it")
	}
	for _, rule := range c.Allow {
		if err := rule.Validate(); err != nil {
			return rights, fmt.Errorf("allow: %w", err)
		}
	}
	return rights, nil
}

// clientDigest returns the SHA-256 of a client secret as configured.
func clientDigest(configured secret.Secret) secretDigest {
	if text, hashed := strings.CutPrefix(configured.Reveal(), check.HashedSecret); hashed {
		var digest secretDigest
		_, _ = hex.Decode(digest[:], []byte(text)) // check.ClientSecret has seen it
		return digest
	}
	return sha256.Sum256([]byte(configured.Reveal()))
}

// withSecret returns the client that text is a secret of, nil if none. What
// is looked up is a digest, of which no attacker can choose a prefix.
func (c *clients) withSecret(text string) (*client, secretDigest) {
	var room [128]byte // for the usual length, so that nothing is allocated
	digest := sha256.Sum256(append(room[:0], text...))
	found := c.bySecret[digest]
	if found == nil {
		return nil, digest
	}
	for known := range found.issuer {
		if subtle.ConstantTimeCompare(known[:], digest[:]) == 1 {
			return found, digest
		}
	}
	return nil, digest
}

// withBearer is withSecret for the value of an Authorization header.
func (c *clients) withBearer(header string) (*client, secretDigest) {
	scheme, text, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, secretDigest{}
	}
	return c.withSecret(strings.TrimSpace(text))
}

// isCredential reports whether text is a client secret or has the form of a
// gateway token: neither may travel on to WeChat.
func (c *clients) isCredential(text string) bool {
	if gwtoken.Looks(text) {
		return true
	}
	if len(text) < c.shortest {
		return false
	}
	found, _ := c.withSecret(text)
	return found != nil
}

// issue makes a gateway token for a subject, signed for the client secret
// that was shown: it dies with that secret.
func (c *client) issue(shown secretDigest, who subject.Subject, now time.Time) string {
	return c.issuer[shown].Issue(gwtoken.Claims{Client: c.id, Subject: who, Expires: now.Add(gatewayTokenLifetime + gatewayTokenGrace)})
}

// withToken returns the signer and the subject of a gateway token.
func (c *clients) withToken(text string, now time.Time) (signer, subject.Subject, error) {
	unverified, ok := gwtoken.Parse(text)
	if !ok {
		return signer{}, "", problem.ErrTokenUnknown
	}
	signer, known := c.byKey[unverified.KeyID()]
	if !known {
		return signer, "", problem.ErrTokenUnknown
	}
	claims, ok := signer.key.Verify(unverified)
	if !ok || claims.Client != signer.client.id || claims.Subject.Component() != signer.client.component {
		return signer, "", problem.ErrTokenUnknown
	}
	if now.After(claims.Expires) {
		return signer, "", problem.ErrTokenExpired
	}
	return signer, claims.Subject, nil
}
