// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"time"
)

// The credentials a zero Config plays with. They are fixed, so that a
// configuration can be written down before the sandbox starts, and recognisable,
// so that a search of logs and answers finds them.
const (
	DefaultComponent      = "wx134c8103faa5a59e"
	DefaultAppSecret      = "REALAPPSECRETsandbox000000000001"
	DefaultToken          = "REALPUSHTOKENsandbox"
	DefaultEncodingAESKey = "REALAESKEYsandbox00000000000000000000000001"
)

// Config is what WeChat's console and WeChat's habits are to a real platform.
// The zero value is usable.
type Config struct {
	// Component is the component_appid; empty means DefaultComponent.
	Component string
	// AppSecret is the component's secret; empty means DefaultAppSecret.
	AppSecret string
	// Token signs pushes, 3 to 32 letters and digits; empty means DefaultToken.
	Token string
	// EncodingAESKey seals pushes, 43 letters and digits; empty means DefaultEncodingAESKey.
	EncodingAESKey string

	// EventsURL is the 授权事件接收配置. Empty: event pushes fail until SetURLs.
	EventsURL string
	// MessagesURL is the 消息与事件接收配置 with $APPID$ in it. Empty: message pushes fail until SetURLs.
	MessagesURL string
	// LaunchDomain is the 授权发起页域名, a host with or without port. If set, the
	// authorise pages check the Referer and the host of redirect_uri against it.
	// Empty: neither is checked.
	LaunchDomain string

	// TokenLifetime of component and authorizer tokens; 0 means 7200 s.
	TokenLifetime time.Duration
	// Overlap is how long a replaced token goes on working; 0 means 5 min, negative means none.
	Overlap time.Duration
	// TicketLifetime of a component_verify_ticket; 0 means 12 h.
	TicketLifetime time.Duration
	// PreAuthCodeLifetime; 0 means 1800 s (the page's own sample says 600).
	PreAuthCodeLifetime time.Duration
	// CodeLifetime of an authorization code; 0 means 600 s.
	CodeLifetime time.Duration
	// TokenLength is the length of issued access tokens in characters; 0 means
	// 157, as seen in the wild, and the least is 64. WeChat asks callers to keep
	// room for 512.
	TokenLength int

	// PushTimeout is how long an attempt to push may take before WeChat hangs up and
	// perhaps tries again; 0 means 5 s. Speed does not change it.
	PushTimeout time.Duration
	// Transport carries the pushes; nil means http.DefaultTransport, which keeps two
	// idle connections to a gateway: for load, bring one that keeps more.
	Transport http.RoundTripper
	// Now is the clock, which answers tell in their Date; nil means time.Now.
	Now func() time.Time
	// Speed is how many seconds of lifetime pass in a second of Now; 0 means 1.
	// Timestamps in pushes always follow Now: the receiver compares them with its own clock.
	Speed float64
	// History is how many calls, pushes and sent messages are kept; 0 means 10,000 of each.
	History int
	// MaxBody is the largest body read, in bytes; 0 means 1 GiB. JSON bodies end at 1 MiB.
	MaxBody int64
	// MediaBytes is how much uploaded media is kept in memory; beyond it the
	// oldest is forgotten. 0 means 512 MiB.
	MediaBytes int64
	// Quota holds daily limits by path; a path not named has none.
	Quota map[string]int
	// AllowIPs are the caller addresses on the white list; empty means all.
	AllowIPs []string

	Switches Switches
}

// Switches settle what WeChat's documents leave open or contradict. The zero
// value is the most likely reading of each; a gateway has to live with both.
type Switches struct {
	// PreAuthCodeReusable: an authorization does not use the pre_auth_code up.
	PreAuthCodeReusable bool `json:"pre_auth_code_reusable,omitempty"`
	// RotateRefreshTokens: every api_authorizer_token answers a new refresh token;
	// the old one works for Overlap.
	RotateRefreshTokens bool `json:"rotate_refresh_tokens,omitempty"`
	// EmptyRefreshField: where there is no refresh token yet, list and info say ""
	// instead of leaving the field out.
	EmptyRefreshField bool `json:"empty_refresh_field,omitempty"`
	// OptionTakesComponent: get/set_authorizer_option want the component token, as
	// the Chinese page says, and not the authorizer's, as the SDKs send.
	OptionTakesComponent bool `json:"option_takes_component,omitempty"`
	// LoginByGET: logins want GET, as their pages say, and not POST as well, as
	// applications send that have grown on other OAuth servers.
	LoginByGET bool `json:"login_by_get,omitempty"`
	// RevokedErrCode answers api_authorizer_token after revocation: 61003 (the
	// meaning of 0) or 61023.
	RevokedErrCode int `json:"revoked_errcode,omitempty"`
	// Component42006: an expired component token is 42006, not 42001.
	Component42006 bool `json:"component_42006,omitempty"`
	// DifferentCodes: push and redirect carry two codes, each good once, and not the
	// same one; so do push and text in the publish test.
	DifferentCodes bool `json:"different_codes,omitempty"`
	// NoAuthorizedPush: agreeing pushes no event; PushAuthorized sends it later or never.
	NoAuthorizedPush bool `json:"no_authorized_push,omitempty"`
	// QuietStartPush: api_start_push_ticket pushes only if pushing had stopped.
	QuietStartPush bool `json:"quiet_start_push,omitempty"`
	// StringErrCodes: errcode as a JSON string, as some documented samples have it.
	StringErrCodes bool `json:"string_errcodes,omitempty"`
	// StringExpiresIn: expires_in as a JSON string.
	StringExpiresIn bool `json:"string_expires_in,omitempty"`
	// NewSharedTickets: every ticket/getticket issues another ticket; otherwise it
	// answers the same one while that lives, with the rest of its life.
	NewSharedTickets bool `json:"new_shared_tickets,omitempty"`
	// ExpiresIn is stated as the lifetime of every access token in place of the
	// truth; 0 tells the truth.
	ExpiresIn int `json:"expires_in,omitempty"`
	// TextPlain: every error comes as text/plain; /sns/ always does.
	TextPlain bool `json:"text_plain,omitempty"`
	// ErrorType is the Content-Type of every error, such as image/jpeg or
	// application/json:UTF-8; "none" for no such header.
	ErrorType string `json:"error_type,omitempty"`
	// ErrMsgFirst: errmsg stands before errcode.
	ErrMsgFirst bool `json:"errmsg_first,omitempty"`
	// ErrorBOM: errors begin with a byte order mark.
	ErrorBOM bool `json:"error_bom,omitempty"`
	// Gzip: answers are compressed for callers that accept it.
	Gzip bool `json:"gzip,omitempty"`
	// OldAuthorizationAppID: api_get_authorizer_info names the account
	// authorization_appid, as an old sample does.
	OldAuthorizationAppID bool `json:"old_authorization_appid,omitempty"`
	// PushAttempts for a push that is not answered `success`; 0 means 3.
	PushAttempts int `json:"push_attempts,omitempty"`
	// RetrySameBytes: a further attempt repeats the first byte for byte; otherwise
	// it is sealed and signed anew.
	RetrySameBytes bool `json:"retry_same_bytes,omitempty"`
	// NoRepeatAfterTimeout: a push that WeChat has hung up on is not made again. What
	// failed in another way still is.
	NoRepeatAfterTimeout bool `json:"no_repeat_after_timeout,omitempty"`
	// StrictReplyNames: a passive reply whose ToUserName is not the follower, or whose
	// FromUserName is not the account, shows the follower trouble. Some have reported
	// it, no page says so; otherwise the two have to be there, whatever they say.
	StrictReplyNames bool `json:"strict_reply_names,omitempty"`
	// PublishOldSteps: the publish test has the steps, too, that WeChat's page has no
	// more: an event that is to be answered, and the withdrawal of both test accounts.
	PublishOldSteps bool `json:"publish_old_steps,omitempty"`
}

var (
	appIDForm = regexp.MustCompile(`^wx[0-9a-f]{16}$`)
	tokenForm = regexp.MustCompile(`^[A-Za-z0-9]{3,32}$`)
	keyForm   = regexp.MustCompile(`^[A-Za-z0-9]{43}$`)
)

// or returns v, or preset where v is its type's zero.
func or[T comparable](v, preset T) T {
	var zero T
	if v == zero {
		return preset
	}
	return v
}

// withDefaults fills in what was left zero and checks the rest.
func (c Config) withDefaults() (Config, error) {
	c.Component = or(c.Component, DefaultComponent)
	c.AppSecret = or(c.AppSecret, DefaultAppSecret)
	c.Token = or(c.Token, DefaultToken)
	c.EncodingAESKey = or(c.EncodingAESKey, DefaultEncodingAESKey)
	c.TokenLifetime = or(c.TokenLifetime, 7200*time.Second)
	c.Overlap = max(0, or(c.Overlap, 5*time.Minute))
	c.TicketLifetime = or(c.TicketLifetime, 12*time.Hour)
	c.PreAuthCodeLifetime = or(c.PreAuthCodeLifetime, 1800*time.Second)
	c.CodeLifetime = or(c.CodeLifetime, 600*time.Second)
	c.TokenLength = max(64, or(c.TokenLength, 157))
	c.PushTimeout = or(c.PushTimeout, 5*time.Second)
	c.Transport = or(c.Transport, http.DefaultTransport)
	c.Speed = or(c.Speed, 1)
	c.History = or(c.History, 10_000)
	c.MaxBody = or(c.MaxBody, 1<<30)
	c.MediaBytes = or(c.MediaBytes, 512<<20)
	c.Quota = maps.Clone(c.Quota) // SetQuota changes it
	if c.Quota == nil {
		c.Quota = map[string]int{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case !appIDForm.MatchString(c.Component):
		return c, fmt.Errorf("reading the config: component %q is not an appid", c.Component)
	case !tokenForm.MatchString(c.Token):
		return c, fmt.Errorf("reading the config: the token must be 3 to 32 letters and digits")
	case !keyForm.MatchString(c.EncodingAESKey):
		return c, fmt.Errorf("reading the config: the encoding_aes_key must be 43 letters and digits")
	case c.Speed < 0 || c.History < 0 || c.PushTimeout < 0:
		return c, fmt.Errorf("reading the config: speed, history and push timeout cannot be negative")
	}
	return c, nil
}

// aesKey decodes an EncodingAESKey. The last character carries two spare bits
// that need not be zero, hence not the strict decoder.
func aesKey(encoded string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(encoded + "=")
}
