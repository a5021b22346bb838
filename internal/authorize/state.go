// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// launchState is what the callback must know about the visit of the launch
// page. It is not stored: it is signed and sent through the browser, as the
// parameter state of the callback URL. So the callback works on every node and
// after a restart.
//
// It is valid only in the browser that visited the launch page. Otherwise an
// attacker could start an authorisation and send the callback URL to an admin,
// whose browser would finish the authorisation of the attacker.
//
// The names are short, because the state is part of a URL.
type launchState struct {
	Component string `json:"c"`
	ReturnURL string `json:"r,omitempty"` // checked when the state was made
	State     string `json:"s,omitempty"` // of the application, which gets it back
	Browser   string `json:"b"`           // digest of the browser's cookie
	Expires   int64  `json:"e"`           // Unix seconds, those of the pre_auth_code
}

// query returns a query for the launch page, to start again: the parameters that
// the state contains, or "". The others, such as auth_type, are lost.
func (s launchState) query() string {
	values := url.Values{}
	for name, value := range map[string]string{"component": s.Component, "return_url": s.ReturnURL, "state": s.State} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

// browserLength is the length of rand.Text in characters: 130 random bits. A
// cookie of another length was not made here.
const browserLength = 26

// browserCookie returns the name of the cookie. With https it begins with
// __Host-: browsers accept such a cookie only from this host. So another host
// of the same domain cannot set a value that an attacker knows. secure says
// whether the browser uses https, which may end at a proxy before this server.
func browserCookie(secure bool) string {
	if secure {
		return "__Host-wechat_authorize"
	}
	return "wechat_authorize"
}

// signState returns the state as text and its MAC, both in base64url. It is
// signed with the current app secret. The text is readable: it contains no
// secret.
func (p *Platform) signState(state launchState) string {
	plain, _ := json.Marshal(state) // cannot fail for strings and a number
	text := base64.RawURLEncoding.EncodeToString(plain)
	return text + "." + base64.RawURLEncoding.EncodeToString(stateMAC(p.AppSecrets[0], text))
}

// openState returns the state and its component, or nil if the state has no
// valid signature or has expired. The text is decoded before its signature is
// checked, but only to find the component, whose app secrets are then tried.
func (p *Pages) openState(signed string, now time.Time) (launchState, *Platform) {
	text, mac, _ := strings.Cut(signed, ".")
	var state launchState
	plain, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(plain, &state) != nil {
		return launchState{}, nil
	}
	got, err := base64.RawURLEncoding.DecodeString(mac)
	platform := p.Platforms[state.Component]
	if err != nil || platform == nil {
		return launchState{}, nil
	}
	for _, appSecret := range platform.AppSecrets {
		if hmac.Equal(got, stateMAC(appSecret, text)) && now.Unix() < state.Expires {
			return state, platform
		}
	}
	return launchState{}, nil
}

// stateMAC returns the HMAC-SHA256 of text. The key is derived from the app
// secret for this purpose only, so no MAC of another kind is valid here.
func stateMAC(appSecret secret.Secret, text string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(appSecret.Reveal()), nil, "caddy-wechat authorize state", sha256.Size)
	if err != nil {
		panic(err) // HKDF fails only for keys that are too long
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// rememberBrowser sets a cookie that identifies the browser, and returns the
// digest of its value. An existing value is kept, with a new lifetime: a launch
// page that is open in another tab depends on it. The state contains only the
// digest, so that WeChat, which sees the state, does not learn the cookie.
func rememberBrowser(w http.ResponseWriter, r *http.Request, secure bool, lifetime time.Duration) string {
	value := rand.Text()
	if cookie, err := r.Cookie(browserCookie(secure)); err == nil && len(cookie.Value) == browserLength {
		value = cookie.Value
	}
	http.SetCookie(w, &http.Cookie{
		Name: browserCookie(secure), Value: value, Path: "/", MaxAge: int(lifetime.Seconds()),
		HttpOnly: true, Secure: secure,
		// Lax and not Strict: the browser comes from WeChat's page, and would
		// not send a strict cookie.
		SameSite: http.SameSiteLaxMode,
	})
	return browserDigest(value)
}

// fromBrowser reports whether the request has the cookie with this digest: it
// comes from the browser for which the state was made.
func fromBrowser(r *http.Request, secure bool, digest string) bool {
	cookie, err := r.Cookie(browserCookie(secure))
	return err == nil && hmac.Equal([]byte(browserDigest(cookie.Value)), []byte(digest))
}

// browserDigest returns 128 bits of the SHA-256 of a cookie's value, in
// base64url.
func browserDigest(value string) string {
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
