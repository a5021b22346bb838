// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"encoding/hex"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// codes remembers, for a while, which authorizer a code belongs to and
// whether it has been exchanged here. Codes are known by idOf.
type codes struct {
	mu    sync.Mutex
	known map[string]codeFate
}

type codeFate struct {
	appid  string
	spent  bool
	answer []byte // WeChat's, without tokens; nil if it was not given here
	until  time.Time
}

func newCodes() *codes { return &codes{known: make(map[string]codeFate)} }

// idOf names a code without telling it, on every node the same.
func idOf(component string, code secret.Secret) string {
	digest := code.Digest(component + " ")
	return hex.EncodeToString(digest[:16])
}

// announce notes whose code this is. Only signed events announce codes.
func (c *codes) announce(id, appid string) { c.put(id, codeFate{appid: appid}) }

// spend notes that the code has been exchanged, and for what.
func (c *codes) spend(id, appid string, answer []byte) {
	c.put(id, codeFate{appid: appid, spent: true, answer: answer})
}

func (c *codes) put(id string, fate codeFate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[id].spent {
		return // a code that is announced late stays spent
	}
	now := time.Now()
	for id, fate := range c.known {
		if now.After(fate.until) {
			delete(c.known, id)
		}
	}
	fate.until = now.Add(codeLifetime)
	c.known[id] = fate
}

func (c *codes) announced(id string) (appid string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fate, ok := c.known[id]
	return fate.appid, ok
}

func (c *codes) spent(id string) (appid string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fate := c.known[id]
	return fate.appid, fate.spent
}

func (c *codes) answer(id string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[id].answer
}
