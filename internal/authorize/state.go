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

// launchState is what the launch page remembers until the browser comes back.
// It travels with the browser, signed, and belongs to that browser alone:
// otherwise somebody could make an admin finish the authorisation that he has
// begun himself.
type launchState struct {
	Component string `json:"c"`
	ReturnURL string `json:"r,omitempty"`
	State     string `json:"s,omitempty"`
	Browser   string `json:"b"` // digest of the browser's cookie
	Expires   int64  `json:"e"` // Unix seconds, those of the pre_auth_code
}

// query returns the query of the launch page that made the state, as far as
// the state holds it; "" for none.
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

const browserLength = 26 // of rand.Text: 130 bits

// browserCookie returns the name of the cookie. Over https browsers let no
// other host of the domain set one that begins with __Host-, so nobody can
// plant a value he knows.
func browserCookie(secure bool) string {
	if secure {
		return "__Host-wechat_authorize"
	}
	return "wechat_authorize"
}

// signState signs with the component's current app secret.
func (p *Platform) signState(state launchState) string {
	plain, _ := json.Marshal(state) // strings and a number
	text := base64.RawURLEncoding.EncodeToString(plain)
	return text + "." + base64.RawURLEncoding.EncodeToString(stateMAC(p.AppSecrets[0], text))
}

// openState returns the state and its component, nil if the state was not
// signed here or has expired. A previous app secret still opens.
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

func stateMAC(appSecret secret.Secret, text string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(appSecret.Reveal()), nil, "caddy-wechat authorize state", sha256.Size)
	if err != nil {
		panic(err) // only for keys longer than HKDF can make
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// rememberBrowser gives the browser a cookie, unless it has one from another
// tab, and returns its digest.
func rememberBrowser(w http.ResponseWriter, r *http.Request, secure bool, lifetime time.Duration) string {
	value := rand.Text()
	if cookie, err := r.Cookie(browserCookie(secure)); err == nil && len(cookie.Value) == browserLength {
		value = cookie.Value
	}
	http.SetCookie(w, &http.Cookie{
		Name: browserCookie(secure), Value: value, Path: "/", MaxAge: int(lifetime.Seconds()),
		HttpOnly: true, Secure: secure,
		SameSite: http.SameSiteLaxMode, // WeChat's page sends the browser back by navigation
	})
	return browserDigest(value)
}

// fromBrowser reports whether the request comes from the browser of a state.
func fromBrowser(r *http.Request, secure bool, digest string) bool {
	cookie, err := r.Cookie(browserCookie(secure))
	return err == nil && hmac.Equal([]byte(browserDigest(cookie.Value)), []byte(digest))
}

func browserDigest(value string) string {
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
