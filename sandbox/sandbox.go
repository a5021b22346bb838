// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"
)

// Sandbox is WeChat's side of one third-party platform: an http.Handler for the
// API and the authorise pages, with methods as levers. It starts no goroutine and
// opens no socket of its own; only pushes go out, through Config.Transport.
// Safe for concurrent use.
type Sandbox struct {
	control http.Handler

	// mu covers everything below. It is never held during I/O.
	mu        sync.Mutex
	cfg       Config
	started   time.Time
	advanced  time.Duration
	component *tokenLine
	tokens    map[string]*token // value → component, authorizer or user token, dead ones too
	tickets   map[string]time.Time
	ticket    string // the newest
	accounts  map[string]*account
	order     []string            // appids, in the order they were added
	preAuth   map[string]*preAuth // pre_auth_code → its life
	codes     map[string]*authCode
	userCodes map[string]*userCode // js_code or OAuth code → whose it is
	userRenew map[string]*token    // user refresh token → its token
	issued    []string             // every real credential, in order
	media     mediaStore
	usage     map[usageKey]int
	clears    map[string]int // budget, appid and month → clearings of counters
	faults    []*Fault

	calls     ring[Call]
	pushes    ring[PushRecord]
	sent      ring[SentMessage]
	moreSent  chan struct{} // closed when one is added, and replaced
	count     map[string]int
	tokenUses map[[2]string]int // path, token → calls
	lastPush  *sealedPush
	pushed    int                  // attempts to push so far
	msgIDs    map[[2]string]uint64 // appid, openid → MsgId of the newest message
	newMsgID  uint64               // MsgId of a follower's first message
	stopped   bool                 // WeChat has given up pushing tickets
	running   bool                 // Run is at work
	wake      chan struct{}        // asks Run for a ticket at once
	startedAt time.Time            // last push that api_start_push_ticket caused
	forgotAt  time.Time            // last sweep of the long dead
}

// New makes a sandbox. It fails only on a malformed component, token or AES key.
func New(cfg Config) (*Sandbox, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Sandbox{
		cfg:       cfg,
		started:   cfg.Now(),
		component: &tokenLine{kind: KindComponent, appid: cfg.Component},
		tokens:    map[string]*token{},
		tickets:   map[string]time.Time{},
		accounts:  map[string]*account{},
		preAuth:   map[string]*preAuth{},
		codes:     map[string]*authCode{},
		userCodes: map[string]*userCode{},
		userRenew: map[string]*token{},
		issued:    []string{cfg.AppSecret, cfg.Token, cfg.EncodingAESKey},
		media:     newMediaStore(cfg.MediaBytes),
		usage:     map[usageKey]int{},
		clears:    map[string]int{},
		calls:     newRing[Call](cfg.History),
		pushes:    newRing[PushRecord](cfg.History),
		sent:      newRing[SentMessage](cfg.History),
		moreSent:  make(chan struct{}),
		count:     map[string]int{},
		tokenUses: map[[2]string]int{},
		wake:      make(chan struct{}, 1),
		msgIDs:    map[[2]string]uint64{},
		newMsgID:  lowestMsgID + uint64(max(0, cfg.Now().UnixMicro())), // another one after a restart
	}
	s.control = s.controlMux()
	return s, nil
}

// now is the sandbox's clock, by which things expire.
func (s *Sandbox) now() time.Time {
	passed := s.cfg.Now().Sub(s.started)
	return s.started.Add(time.Duration(float64(passed)*s.cfg.Speed) + s.advanced)
}

// memorySpan is how long the dead are remembered: an expired token is 42001, but
// one that nobody remembers 40014.
const memorySpan = 30 * 24 * time.Hour

// forget drops what has been dead for memorySpan, once an hour at most.
func (s *Sandbox) forget() {
	now := s.now()
	if now.Sub(s.forgotAt) < time.Hour {
		return
	}
	s.forgotAt = now
	long := now.Add(-memorySpan)
	maps.DeleteFunc(s.tickets, func(_ string, made time.Time) bool { return made.Before(long) })
	maps.DeleteFunc(s.tokens, func(_ string, t *token) bool { return t.expires.Before(long) })
	maps.DeleteFunc(s.userRenew, func(_ string, t *token) bool { return t.expires.Before(long) })
	maps.DeleteFunc(s.preAuth, func(_ string, p *preAuth) bool { return p.expires.Before(long) })
	maps.DeleteFunc(s.codes, func(_ string, c *authCode) bool { return c.expires.Before(long) })
	maps.DeleteFunc(s.userCodes, func(_ string, c *userCode) bool { return c.expires.Before(long) })
	maps.DeleteFunc(s.usage, func(key usageKey, _ int) bool { return key.day < dayOf(long) })
}

// AdvanceClock lets d of every lifetime pass at once. Timestamps of pushes do not move.
func (s *Sandbox) AdvanceClock(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advanced += d
}

// SetURLs says where pushes go, for a gateway whose port is known only later. An
// empty one stays as it is.
func (s *Sandbox) SetURLs(events, messages string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.EventsURL = or(events, s.cfg.EventsURL)
	s.cfg.MessagesURL = or(messages, s.cfg.MessagesURL)
}

// SetLaunchDomain changes the 授权发起页域名; empty ends the check.
func (s *Sandbox) SetLaunchDomain(domain string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.LaunchDomain = domain
}

func (s *Sandbox) switches() Switches {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.Switches
}

// SetSwitches replaces the switches.
func (s *Sandbox) SetSwitches(switches Switches) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Switches = switches
}

// SetAllowIPs replaces the white list of caller addresses; none means all.
func (s *Sandbox) SetAllowIPs(ips ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.AllowIPs = ips
}

// Component is the component_appid the sandbox plays for.
func (s *Sandbox) Component() string { return s.cfg.Component }

// Keys are the credentials a gateway must be configured with at this moment.
func (s *Sandbox) Keys() (appSecret, token, encodingAESKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.AppSecret, s.cfg.Token, s.cfg.EncodingAESKey
}

// RotateAppSecret resets the app secret, as the console does: the old one stops
// working at once. Empty makes one up. It returns the new one.
func (s *Sandbox) RotateAppSecret(secret string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.AppSecret = s.record(or(secret, random("REALAPPSECRET", 32)))
	return s.cfg.AppSecret
}

// RotatePushKeys changes what pushes are signed and sealed with. An empty
// argument makes a new value up.
func (s *Sandbox) RotatePushKeys(token, encodingAESKey string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	token = or(token, random("REALPUSHTOKEN", 32))
	encodingAESKey = or(encodingAESKey, random("REALAESKEY", 43))
	if !tokenForm.MatchString(token) || !keyForm.MatchString(encodingAESKey) {
		return fmt.Errorf("rotating the push keys: malformed token or AES key")
	}
	s.cfg.Token, s.cfg.EncodingAESKey = s.record(token), s.record(encodingAESKey)
	return nil
}

// Credentials lists every real credential ever configured or issued: app secrets,
// push tokens, AES keys, tickets, component, authorizer and refresh tokens. None
// of them may occur anywhere a gateway writes. The list only grows.
func (s *Sandbox) Credentials() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.issued...)
}

// record notes a real credential and returns it.
func (s *Sandbox) record(credential string) string {
	s.issued = append(s.issued, credential)
	return credential
}
