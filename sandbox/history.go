// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/http"
	"time"
)

// maxCounts is how many distinct paths, and paths by token, are counted one by one.
const maxCounts = 100_000

// Call is one call that reached the API or a page. It holds the raw query, real
// token included, which is what tests want to look at.
type Call struct {
	Time     time.Time   `json:"time"` // of Config.Now
	Method   string      `json:"method"`
	Host     string      `json:"host"`
	Path     string      `json:"path"`
	RawQuery string      `json:"raw_query"`
	Header   http.Header `json:"header"`
	ClientIP string      `json:"client_ip"`

	// TokenKind is KindComponent, KindAuthorizer, KindUser, KindUnknown, or ""
	// where the path takes no token or none was sent.
	TokenKind string `json:"token_kind,omitempty"`
	// TokenAppID is the token's subject, TokenGeneration its number, from 1.
	TokenAppID      string `json:"token_appid,omitempty"`
	TokenGeneration int    `json:"token_generation,omitempty"`

	Status  int    `json:"status"`  // answered; 0 if the connection was cut before
	ErrCode int    `json:"errcode"` // answered; 0 is success
	RID     string `json:"rid,omitempty"`
	// Fault says that an injected fault took part.
	Fault bool `json:"fault,omitempty"`

	// BodySize and BodySHA256 (hex) of the body as far as it was read.
	BodySize   int64  `json:"body_size"`
	BodySHA256 string `json:"body_sha256,omitempty"`
	body       string // its beginning
}

// Calls is the history, oldest first; its length is bounded by Config.History.
func (s *Sandbox) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls.list()
}

// Count is how many calls reached a path since New or ResetCounts, whatever was
// answered. Calls in flight are not counted yet.
func (s *Sandbox) Count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[path]
}

// CountToken is how many calls to a path carried this issued token, dead or alive.
func (s *Sandbox) CountToken(path, token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokenUses[[2]string{path, token}]
}

// ResetCounts empties the history and sets every count to zero.
func (s *Sandbox) ResetCounts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = newRing[Call](s.cfg.History)
	s.pushes = newRing[PushRecord](s.cfg.History)
	s.sent = newRing[SentMessage](s.cfg.History)
	clear(s.count)
	clear(s.tokenUses)
}
