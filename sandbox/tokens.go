// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"time"
)

// Kinds of credential, for ValidToken, KillTokens and Call.TokenKind.
const (
	KindTicket     = "ticket"
	KindComponent  = "component"
	KindAuthorizer = "authorizer"
	KindRefresh    = "refresh"
	KindUser       = "user"    // a web user's OAuth token
	KindJSAPI      = "jsapi"   // an account's jsapi_ticket
	KindCard       = "wx_card" // an account's api_ticket, for cards
	KindUnknown    = "unknown" // sent, but never issued
)

// token is an access token. It stays known after its death, because WeChat tells
// the deaths apart: expired (42001), replaced (40001), never known (40014).
type token struct {
	value      string
	kind       string
	appid      string
	user       string // the openid, for KindUser
	generation int    // counts the tokens of one subject from 1
	expires    time.Time
	replacedAt time.Time // zero while it is the newest; it dies Overlap later
	killed     bool
}

// tokenLine is one subject's succession of tokens; only the newest stays unreplaced.
type tokenLine struct {
	kind, appid string
	newest      *token
}

// issue makes the next token of a line. The one before lives for Overlap.
func (s *Sandbox) issue(line *tokenLine) *token {
	generation := 1
	if old := line.newest; old != nil {
		old.replacedAt = s.now()
		generation = old.generation + 1
	}
	mark := "A"
	if line.kind == KindComponent {
		mark = "C"
	}
	t := &token{
		value:      s.record(random(fmt.Sprintf("%d_REALTOKEN-%s-", generation, mark), s.cfg.TokenLength)),
		kind:       line.kind,
		appid:      line.appid,
		generation: generation,
		expires:    s.now().Add(s.cfg.TokenLifetime),
	}
	line.newest, s.tokens[t.value] = t, t
	return t
}

// dead says why a token no longer works, or nil.
func (s *Sandbox) dead(t *token) *refusal {
	now := s.now()
	replaced := !t.replacedAt.IsZero() && !now.Before(t.replacedAt.Add(s.cfg.Overlap))
	switch {
	case t.kind == KindAuthorizer && !s.accounts[t.appid].authorized:
		return refuse(61003, "component is not authorized by this account")
	case t.killed || replaced:
		return refuse(40001, "invalid credential, access_token is invalid or not latest")
	case !now.Before(t.expires) && t.kind == KindComponent && s.cfg.Switches.Component42006:
		return refuse(42006, "component_access_token expired")
	case !now.Before(t.expires):
		return refuse(42001, "access_token expired")
	}
	return nil
}

// expiresIn is the lifetime as it is stated in answers.
func (s *Sandbox) expiresIn(life time.Duration) any {
	seconds := int(life / time.Second)
	if s.cfg.Switches.StringExpiresIn {
		return fmt.Sprint(seconds)
	}
	return seconds
}

// tokenExpiresIn is expiresIn for access tokens, where a switch can make it a lie.
func (s *Sandbox) tokenExpiresIn() any {
	return s.expiresIn(or(time.Duration(s.cfg.Switches.ExpiresIn)*time.Second, s.cfg.TokenLifetime))
}

// ValidToken is the truth at this moment: the newest credential of the kind that
// would be accepted, or "" if there is none. appid counts for the kinds that an
// account has.
func (s *Sandbox) ValidToken(kind, appid string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch account := s.accounts[appid]; {
	case kind == KindTicket && s.ticketError(s.ticket) == nil:
		return s.ticket
	case kind == KindComponent:
		return s.live(s.component)
	case kind == KindAuthorizer && account != nil:
		return s.live(&account.line)
	case kind == KindRefresh && account != nil && account.authorized:
		return account.refresh
	case account != nil && s.now().Before(account.shared[kind].expires):
		return account.shared[kind].value
	}
	return ""
}

func (s *Sandbox) live(line *tokenLine) string {
	if line.newest == nil || s.dead(line.newest) != nil {
		return ""
	}
	return line.newest.value
}

// ExpireTokens lets the lifetimes of a subject's tokens end now: they answer 42001.
// The appid is the component's or an account's; empty means every subject.
func (s *Sandbox) ExpireTokens(appid string) {
	s.eachToken(appid, func(t *token) { t.expires = s.now() })
}

// KillTokens makes a subject's tokens invalid now, as another process with the
// same credentials or a reset would: they answer 40001. Empty means every subject.
func (s *Sandbox) KillTokens(appid string) {
	s.eachToken(appid, func(t *token) { t.killed = true })
}

func (s *Sandbox) eachToken(appid string, change func(*token)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tokens {
		if t.kind != KindUser && (appid == "" || t.appid == appid) {
			change(t)
		}
	}
}

// RotateToken issues a subject a new token behind the gateway's back, as a second
// process with the same credentials does: the gateway's dies after Overlap.
func (s *Sandbox) RotateToken(appid string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if appid == s.cfg.Component {
		return s.issue(s.component).value, nil
	}
	account := s.accounts[appid]
	if account == nil {
		return "", fmt.Errorf("rotating the token of %s: no such account", appid)
	}
	return s.issue(&account.line).value, nil
}

// RotateRefreshToken gives an account a new refresh token; the old one works for Overlap.
func (s *Sandbox) RotateRefreshToken(appid string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.accounts[appid]
	if account == nil || account.refresh == "" {
		return "", fmt.Errorf("rotating the refresh token of %s: it has none", appid)
	}
	s.rotateRefresh(account)
	return account.refresh, nil
}

func (s *Sandbox) rotateRefresh(account *account) {
	account.oldRefresh, account.oldRefreshUntil = account.refresh, s.now().Add(s.cfg.Overlap)
	account.refresh = s.newRefresh()
}

func (s *Sandbox) newRefresh() string {
	return s.record(random("refreshtoken@@@REALREFRESH", 64))
}
