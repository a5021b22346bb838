// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"encoding/hex"
	"maps"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// codeLifetime is how long an authorization_code is tried at most. WeChat's
// own are said to live ten minutes, but the field that tells is not to be
// relied on, so WeChat's refusal decides.
const codeLifetime = time.Hour

// maxRefusedCodes bounds what is remembered of codes that anybody may have made
// up. While it is full, further ones are not remembered.
const maxRefusedCodes = 10_000

// codes remembers, for codeLifetime, which authorizer a code belongs to and
// whether it has been exchanged here, and of the others which WeChat has refused.
// Codes are known by codeID. It is safe for concurrent use.
type codes struct {
	mu      sync.Mutex
	known   map[string]codeState
	refused map[string]codeRefusal
}

type codeState struct {
	appid  string
	spent  bool
	answer []byte // WeChat's, without tokens; nil if it was not given here
	until  time.Time
}

// codeRefusal is WeChat's answer to a code of which it is not known whose it is.
type codeRefusal struct {
	err   error
	until time.Time
}

func newCodes() *codes {
	return &codes{known: make(map[string]codeState), refused: make(map[string]codeRefusal)}
}

// codeID names a code without telling it, on every node the same.
func codeID(component string, code secret.Secret) string {
	digest := code.Digest(component + " ")
	return hex.EncodeToString(digest[:16])
}

// Announce notes whose code this is. It is called for what WeChat has signed or
// another node has published, never for what a browser brings.
func (c *codes) Announce(id, appid string) { c.put(id, codeState{appid: appid}) }

// MarkSpent notes that WeChat takes the code no more, and whose it is: it has been
// exchanged, or WeChat calls it spent, expired or wrong. Answer is what WeChat
// answered to the exchange here, nil for none.
func (c *codes) MarkSpent(id, appid string, answer []byte) {
	c.put(id, codeState{appid: appid, spent: true, answer: answer})
}

func (c *codes) put(id string, state codeState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[id].spent {
		return // a code that is announced late stays spent
	}
	now := time.Now()
	for id, state := range c.known {
		if now.After(state.until) {
			delete(c.known, id)
		}
	}
	state.until = now.Add(codeLifetime)
	c.known[id] = state
}

// Announced returns whose code this is, if it is known.
func (c *codes) Announced(id string) (appid string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state, ok := c.known[id]
	return state.appid, ok
}

// Spent returns whose code it is, if it is marked as spent.
func (c *codes) Spent(id string) (appid string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := c.known[id]
	return state.appid, state.spent
}

// Answer returns what WeChat answered to the exchange, nil if that is not known
// here.
func (c *codes) Answer(id string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[id].answer
}

// MarkRefused notes that WeChat calls the code spent, expired or wrong, where it is
// not known whose it is.
func (c *codes) MarkRefused(id string, refusal error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if len(c.refused) >= maxRefusedCodes {
		maps.DeleteFunc(c.refused, func(_ string, r codeRefusal) bool { return now.After(r.until) })
	}
	if len(c.refused) < maxRefusedCodes {
		c.refused[id] = codeRefusal{refusal, now.Add(codeLifetime)}
	}
}

// Refused returns the error that was given to MarkRefused, nil if there is none.
func (c *codes) Refused(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.refused[id]; time.Now().Before(r.until) {
		return r.err
	}
	return nil
}
