// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
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

// Client is an application that may call the gateway. It is made once per
// configuration and read only.
type Client struct {
	ID        string
	Boxed     any    // ID, as it is handed to those who take any; boxing it at every call would allocate
	Component string // component_appid of the platform it works under
	Rights    policy.Rights

	signers []signer                      // one for each client secret and app secret
	issuer  map[secretDigest]*gwtoken.Key // client secret → the key that issues
	hashed  bool                          // of a secret only the digest is known
}

type secretDigest = [sha256.Size]byte

type signer struct {
	client *Client
	shown  secretDigest // the client secret that its tokens were issued for
	key    *gwtoken.Key
}

// NewClient returns a client of the component with these app secrets, the current
// one first. Its own secrets have passed check.ClientSecret; of two that are the
// same there is an error.
func NewClient(id, component string, rights policy.Rights, secrets, appSecrets []secret.Secret) (*Client, error) {
	c := &Client{ID: id, Boxed: id, Component: component, Rights: rights, issuer: make(map[secretDigest]*gwtoken.Key)}
	for _, text := range secrets {
		c.hashed = c.hashed || strings.HasPrefix(text.Reveal(), check.HashedSecret)
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
			if i == 0 {
				c.issuer[digest] = key
			}
		}
	}
	return c, nil
}

// Clients finds who calls. It is built once per configuration, by Add, and read
// only from then on.
type Clients struct {
	all      []*Client // in the order in which they were added
	bySecret map[secretDigest]*Client
	byKey    map[string]signer // key id → who signs with it
	shortest int               // length of the shortest secret; of one given as a digest it is not known
}

// NewClients returns Clients that know nobody.
func NewClients() *Clients {
	return &Clients{bySecret: make(map[secretDigest]*Client), byKey: make(map[string]signer), shortest: check.MinClientSecret}
}

// Add makes a client known. It fails if another one has the same secret.
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
	for _, signer := range client.signers {
		c.byKey[signer.key.ID()] = signer
	}
	c.all = append(c.all, client)
	return nil
}

// digestOf returns the SHA-256 of a client secret as configured.
func digestOf(configured secret.Secret) secretDigest {
	if text, hashed := strings.CutPrefix(configured.Reveal(), check.HashedSecret); hashed {
		var digest secretDigest
		_, _ = hex.Decode(digest[:], []byte(text)) // check.ClientSecret has seen it
		return digest
	}
	return sha256.Sum256([]byte(configured.Reveal()))
}

// withSecret returns the client that text is a secret of, nil if none. What
// is looked up is a digest, of which no attacker can choose a prefix.
func (c *Clients) withSecret(text string) (*Client, secretDigest) {
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
func (c *Clients) withBearer(header string) (*Client, secretDigest) {
	scheme, text, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, secretDigest{}
	}
	return c.withSecret(strings.TrimSpace(text))
}

// IsCredential reports whether text is a client secret or has the form of a
// gateway token: neither may travel on to WeChat.
func (c *Clients) IsCredential(text string) bool {
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
func (c *Client) issue(shown secretDigest, who subject.Subject, now time.Time) string {
	return c.issuer[shown].Issue(gwtoken.Claims{Client: c.ID, Subject: who, Expires: now.Add(gatewayTokenLifetime + gatewayTokenGrace)})
}

// withToken returns the signer and the subject of a gateway token.
func (c *Clients) withToken(text string, now time.Time) (signer, subject.Subject, error) {
	unverified, ok := gwtoken.Parse(text)
	if !ok {
		return signer{}, "", problem.ErrTokenUnknown
	}
	signer, known := c.byKey[unverified.KeyID()]
	if !known {
		return signer, "", problem.ErrTokenUnknown
	}
	claims, ok := signer.key.Verify(unverified)
	if !ok || claims.Client != signer.client.ID || claims.Subject.Component() != signer.client.Component {
		return signer, "", problem.ErrTokenUnknown
	}
	if now.After(claims.Expires) {
		return signer, "", problem.ErrTokenExpired
	}
	return signer, claims.Subject, nil
}
