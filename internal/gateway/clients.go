// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	// gatewayTokenLifetime is the lifetime that clients are told, 7200 s: SDKs
	// expect that of WeChat's own tokens
	// (developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken).
	gatewayTokenLifetime = 2 * time.Hour
	// gatewayTokenGrace is how much longer than that a gateway token is valid.
	// SDKs use a token until its last second, and the clocks of nodes differ.
	// WeChat itself accepts a replaced token for five more minutes
	// (developers.weixin.qq.com/community/develop/doc/0000021ac844f0d7dd3ce117751400).
	gatewayTokenGrace = time.Minute
	// gatewayCodeLifetime is how long a gateway code can be exchanged, as often as one
	// likes. WeChat's own codes are said to live for ten minutes to an hour.
	gatewayCodeLifetime = time.Hour
)

// Client is an application that may call the gateway. It is made when a
// configuration is loaded and never changed, so it is safe for concurrent use.
type Client struct {
	// ID is the client's name in the configuration, for tokens and logs.
	ID string
	// Boxed is ID as an interface value, for functions with a parameter of type
	// any. A conversion at every call would allocate memory.
	Boxed any
	// Component is the component_appid of the client's platform. A client works
	// under one platform only.
	Component string
	// Rights is what the client may call, and for which accounts.
	Rights policy.Rights
	// From are the addresses from which the client may call; none means all. They
	// are as check.ParseFrom makes them.
	From []netip.Prefix

	meter *metrics.Meter // counts the client's calls; nil before Measure

	// signers has one element for each pair of a client secret and an app
	// secret. A token that was signed with the previous app secret stays valid.
	signers []signer
	// issuer has for each client secret the key that signs new tokens: the one
	// derived from the current app secret.
	issuer map[secretDigest]*gwtoken.Key
	// coder signs gateway codes: the key of the first client secret and the current
	// app secret.
	coder *gwtoken.Key
	// plain are the secrets that are configured in plain text, as contains.go
	// looks for them.
	plain []beginning
	// hashed says that for at least one secret only the digest is configured.
	hashed bool
}

// secretDigest is the SHA-256 of a client secret. The gateway keeps no client
// secret, only digests.
type secretDigest = [sha256.Size]byte

// signer is a key that signs gateway tokens, and whose tokens it signs.
type signer struct {
	client *Client
	shown  secretDigest // of the client secret from which key is derived
	key    *gwtoken.Key
}

// NewClient returns a client under a component. appSecrets are the component's,
// the current one first. secrets are the client's own, and the caller has
// checked them with check.ClientSecret. It fails if two of them are the same,
// or if an app secret is empty. It does not keep the secrets.
func NewClient(id, component string, rights policy.Rights, secrets, appSecrets []secret.Secret) (*Client, error) {
	c := &Client{ID: id, Boxed: id, Component: component, Rights: rights, issuer: make(map[secretDigest]*gwtoken.Key)}
	for _, text := range secrets {
		if strings.HasPrefix(text.Reveal(), check.HashedSecret) {
			c.hashed = true
		} else {
			c.plain = append(c.plain, beginningOf(text.Reveal()))
		}
		digest := digestOf(text)
		if c.issuer[digest] != nil {
			return nil, errors.New("both secrets are the same; leave the second out")
		}
		for i, appSecret := range appSecrets {
			key, err := gwtoken.NewKey(appSecret, digest)
			if err != nil {
				return nil, err
			}
			c.signers = append(c.signers, signer{c, digest, key})
			if i > 0 {
				continue
			}
			c.issuer[digest] = key
			if c.coder == nil {
				c.coder = key
			}
		}
	}
	return c, nil
}

// Clients finds the client of a call by its secret or by its gateway token. Add
// and Measure must not run at the same time as any other method. After them it is
// safe for concurrent use.
type Clients struct {
	// all is in the order of Add, so that a search always finds the same client.
	all []*Client
	// bySecret has the owner of each client secret.
	bySecret map[secretDigest]*Client
	// byKey has the signer for the key id that each gateway token contains.
	byKey map[string]signer
	// shortest is a length in bytes below which no text is a client secret. It
	// saves a SHA-256 for most values of a query. Where a secret is configured
	// as a digest its length is unknown, and shortest is 1.
	shortest int
	// plain finds the secrets that are configured in plain text.
	plain beginnings
}

// NewClients returns Clients without any client.
func NewClients() *Clients {
	return &Clients{bySecret: make(map[secretDigest]*Client), byKey: make(map[string]signer), shortest: check.MinClientSecret}
}

// Add adds a client. It fails, and adds nothing, if a client that was added
// before has the same secret: a secret alone must identify its client.
func (c *Clients) Add(client *Client) error {
	for digest := range client.issuer {
		if other := c.bySecret[digest]; other != nil {
			return fmt.Errorf("client %s has the same secret as client %s: give each its own", client.ID, other.ID)
		}
	}
	for digest := range client.issuer {
		c.bySecret[digest] = client
	}
	if client.hashed {
		c.shortest = 1
	}
	for _, secret := range client.plain {
		c.plain.add(secret)
	}
	for _, signer := range client.signers {
		c.byKey[signer.key.ID()] = signer
	}
	c.all = append(c.all, client)
	return nil
}

// Measure has the calls of all clients counted. It is called after the last Add and
// before the first call. A second time it changes nothing, because two meters of a client
// count together.
func (c *Clients) Measure() {
	for _, client := range c.all {
		client.meter = metrics.NewMeter(client.ID, problem.Slugs())
	}
}

// admits returns ErrAddress if the client may not call from an address. A secret
// that was stolen is worth nothing elsewhere. An address that is not known is in
// no range.
func (c *Client) admits(address netip.Addr) error {
	for _, prefix := range c.From {
		if prefix.Contains(address) {
			return nil
		}
	}
	return fmt.Errorf("client %s: %w", c.ID, problem.ErrAddress.Because("%s", address))
}

// digestOf returns the SHA-256 of a client secret. A configured digest is
// decoded, a plain secret is hashed.
func digestOf(configured secret.Secret) secretDigest {
	if text, hashed := strings.CutPrefix(configured.Reveal(), check.HashedSecret); hashed {
		var digest secretDigest
		_, _ = hex.Decode(digest[:], []byte(text)) // check.ClientSecret has checked the form
		return digest
	}
	return sha256.Sum256([]byte(configured.Reveal()))
}

// withSecret returns the client that owns the secret text, and the digest of
// text; the client is nil if there is none. The time of the map look-up depends
// on the digest. That helps no attacker: nobody can choose a text so that its
// SHA-256 begins with given bytes.
func (c *Clients) withSecret(text string) (*Client, secretDigest) {
	var room [128]byte // a longer text is allocated
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

// withBearer is withSecret for the value of a header Authorization. The scheme
// is not case-sensitive (RFC 9110 §11.1).
func (c *Clients) withBearer(header string) (*Client, secretDigest) {
	scheme, text, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, secretDigest{}
	}
	return c.withSecret(strings.TrimSpace(text))
}

// authorization is withBearer for a request. Of several headers Authorization, of
// which a proxy may have added one, the first with a client secret counts.
func (c *Clients) authorization(r *http.Request) (*Client, secretDigest) {
	for _, value := range r.Header["Authorization"] {
		if client, shown := c.withBearer(value); client != nil {
			return client, shown
		}
	}
	return nil, secretDigest{}
}

// IsCredential reports whether text is a client secret, looks like a gateway
// token, or has one of them in it, see Contains. Neither may reach WeChat. Package
// relay asks it about the parameters of each query, because an SDK may send a
// credential in one that the gateway does not read, or the address of a page which
// has it in its query.
func (c *Clients) IsCredential(text string) bool {
	switch {
	case gwtoken.Within(text): // however short the text is
		return true
	case len(text) < c.shortest:
		return false
	}
	return c.isSecret(text) || c.Contains(text)
}

// issue makes a gateway token for a subject. It is signed for the client secret
// shown: when that secret is removed from the configuration, the token becomes
// invalid.
func (c *Client) issue(shown secretDigest, who subject.Subject, now time.Time) string {
	return c.issuer[shown].Issue(gwtoken.Claims{Client: c.ID, Subject: who, Expires: now.Add(gatewayTokenLifetime + gatewayTokenGrace)})
}

// IssueCode returns a gateway code for an account, for a delivery to the client, and
// when it expires. It is signed for the client's first secret. The client must have one.
func (c *Client) IssueCode(appID string, now time.Time) (code string, expires time.Time) {
	expires = now.Add(gatewayCodeLifetime)
	return c.coder.IssueCode(gwtoken.Claims{Client: c.ID, Subject: subject.Of(c.Component, appID), Expires: expires}), expires
}

// withCode returns the account of a gateway code that was made for any client of a
// component. Its errors are ErrCodeUnknown (61009) and ErrCodeExpired (61010). As with
// tokens, only a genuine code has expired.
func (c *Clients) withCode(text, component string, now time.Time) (subject.Subject, error) {
	unverified, ok := gwtoken.ParseCode(text)
	if !ok {
		return "", problem.ErrCodeUnknown
	}
	_, claims, ok := c.verify(unverified)
	if !ok || claims.Subject.Component() != component {
		return "", problem.ErrCodeUnknown
	}
	if !now.Before(claims.Expires) {
		return "", problem.ErrCodeExpired
	}
	return claims.Subject, nil
}

// withToken returns the signer and the subject of a gateway token. Its errors
// are ErrTokenUnknown (40001) and ErrTokenExpired (42001). SDKs fetch a new
// token after both.
//
// The signature is checked before the expiry: only the holder of a genuine
// token gets 42001.
func (c *Clients) withToken(text string, now time.Time) (signer, subject.Subject, error) {
	unverified, ok := gwtoken.Parse(text)
	if !ok {
		return signer{}, "", problem.ErrTokenUnknown
	}
	signer, claims, ok := c.verify(unverified)
	if !ok {
		return signer, "", problem.ErrTokenUnknown
	}
	if now.After(claims.Expires) {
		return signer, "", problem.ErrTokenExpired
	}
	return signer, claims.Subject, nil
}

// verify returns the signer and the claims of a gateway token or a gateway code, if the
// signer has made it. The client and the component in it are compared as well, because a
// key depends on secrets alone. A client that was renamed has the same key, and what has
// its old name must not be valid.
func (c *Clients) verify(unverified gwtoken.Unverified) (signer, gwtoken.Claims, bool) {
	signer, known := c.byKey[unverified.KeyID()]
	if !known {
		return signer, gwtoken.Claims{}, false
	}
	claims, ok := signer.key.Verify(unverified)
	ok = ok && claims.Client == signer.client.ID && claims.Subject.Component() == signer.client.Component
	return signer, claims, ok
}
