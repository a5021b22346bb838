// SPDX-License-Identifier: Apache-2.0

package lives_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

const queryAuth = "/cgi-bin/component/api_query_auth"

func sealKey(fill string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(fill, 32)))
}

func TestRotationOfTheSealKey(t *testing.T) {
	old, next := sealKey("o"), sealKey("n")
	r := newRotation(t, "seal_key "+old)
	r.give("seal_key", old)
	r.underLoad(func() {
		r.give("seal_key", next, old)
		r.served()
		r.authorizes(newAccount)
		if anew := r.reseal(); anew == 0 {
			t.Error("nothing was sealed anew")
		}
		if keys := r.sealKeys(); len(keys) != 1 {
			t.Errorf("keys that have sealed: %v, want one", keys)
		}
		r.give("seal_key", next)
	})
	r.wantAsked(map[string]int{queryAuth: 1, authorizerInfo: 1})
	r.wantNothingLost(newAccount)
}

func TestRotationOfAClientSecret(t *testing.T) {
	const next = "shop-secret-new-0123456789abcdef012345"
	r := newRotation(t, "")
	r.give("secret", gwtest.ClientSecret)
	before := r.Token(gwtest.OfficialAccount)
	r.underLoad(func() {
		r.give("secret", gwtest.ClientSecret, next)
		r.served()
		r.secret.Store(next) // the applications are given the new one
		r.authorizes(newAccount)
		r.served()
		if n := r.renewed.Load(); n != 0 {
			t.Errorf("%d gateway tokens were refused while both secrets stood", n)
		}
		r.give("secret", next)
		r.until("every SDK has fetched another token", func() bool { return r.renewed.Load() == 8 })
	})
	if n := r.renewed.Load(); n != 8 {
		t.Errorf("%d gateway tokens were refused, want one for each of 8 SDKs", n)
	}
	if answer := r.AskGet(gwtest.AuthorizerPath + "?access_token=" + before); answer.ErrCode != 40001 {
		t.Errorf("a gateway token of the old secret: %s", answer.Body)
	}
	if answer := r.AskGet(gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret)); answer.ErrCode != 40125 {
		t.Errorf("the old secret at the token endpoint: %s", answer.Body)
	}
	if answer := r.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)); answer.Status != 401 {
		t.Errorf("the old secret as bearer: %d %s", answer.Status, answer.Body)
	}
	r.wantAsked(map[string]int{queryAuth: 1, authorizerInfo: 1})
	r.wantNothingLost(newAccount)
}

func TestRotationOfTheAppSecret(t *testing.T) {
	r := newRotation(t, "")
	old, _, _ := r.WeChat.Keys()
	r.give("app_secret", old)
	before := r.Token(gwtest.OfficialAccount)
	r.WeChat.SetLaunchDomain(strings.TrimPrefix(r.Platform, "http://"))
	admin := gwtest.NewBrowser(t)
	r.underLoad(func() {
		next := r.WeChat.RotateAppSecret("") // WeChat's console; the old one is dead
		r.served()
		link := admin.Launch(r.Gateway, "")
		r.authorizes(newAccount)
		r.give("app_secret", next, old)
		r.served()
		if answer := r.Ask(http.MethodPost, startPush, `{}`, gwtest.Bearer(gwtest.PlatformSecret, "")); answer.Status != 200 || answer.ErrCode != 0 {
			t.Errorf("WeChat does not take the new app secret: %s", answer.Body)
		}
		if response, page := admin.Get(admin.Agree(r.Gateway, link, gwtest.MiniProgram), link.String()); response.StatusCode != http.StatusOK {
			t.Errorf("an admin who began before the reload: %s %s", response.Status, page)
		}
		if anew := r.reseal(); anew == 0 {
			t.Error("nothing was sealed anew")
		}
		if keys := r.sealKeys(); len(keys) != 1 {
			t.Errorf("keys that have sealed: %v, want one", keys)
		}
		if n := r.renewed.Load(); n != 0 {
			t.Errorf("%d gateway tokens were refused while the previous app secret stood", n)
		}
		between := r.Token(gwtest.OfficialAccount)
		r.give("app_secret", next)
		r.until("every SDK has fetched another token", func() bool { return r.renewed.Load() == 8 })
		if answer := r.AskGet(gwtest.AuthorizerPath + "?access_token=" + between); answer.ErrCode != 0 {
			t.Errorf("a gateway token issued since the new app secret: %s", answer.Body)
		}
	})
	if n := r.renewed.Load(); n != 8 {
		t.Errorf("%d gateway tokens were refused, want one for each of 8 SDKs", n)
	}
	if answer := r.AskGet(gwtest.AuthorizerPath + "?access_token=" + before); answer.ErrCode != 40001 {
		t.Errorf("a gateway token of the old app secret: %s", answer.Body)
	}
	r.until("the profiles of the new account and of the one that has authorised again are asked for", func() bool { return r.WeChat.Count(authorizerInfo) == 2 })
	r.wantAsked(map[string]int{queryAuth: 2, authorizerInfo: 2, startPush: 1})
	r.wantNothingLost(newAccount)
}

func TestRotationOfWhatPushesAreMadeWith(t *testing.T) {
	for option, next := range map[string]string{
		"token":            "REALPUSHTOKENnext",
		"encoding_aes_key": "REALAESKEYnext" + strings.Repeat("0", 29),
	} {
		t.Run(option, func(t *testing.T) {
			r := newRotation(t, "")
			_, oldToken, oldKey := r.WeChat.Keys()
			old, token, aesKey := oldToken, next, oldKey
			if option == "encoding_aes_key" {
				old, token, aesKey = oldKey, oldToken, next
			}
			r.give(option, old)
			r.underLoad(func() {
				r.give(option, next, old)
				r.served()
				if err := r.WeChat.RotatePushKeys(token, aesKey); err != nil { // WeChat's console
					t.Fatal(err)
				}
				r.authorizes(newAccount)
				r.wantChangedOver()
				if status := r.oldPush(oldToken, oldKey); status != http.StatusOK {
					t.Errorf("a push with the old value on the way: %d", status)
				}
				r.give(option, next)
			})
			if status := r.oldPush(oldToken, oldKey); status != http.StatusForbidden {
				t.Errorf("a push with the old value in the end: %d", status)
			}
			r.wantAsked(map[string]int{queryAuth: 1, authorizerInfo: 1})
			r.wantNothingLost(newAccount)
		})
	}
}

// wantChangedOver fails unless the log tells that WeChat pushed with the
// previous value, and no longer does.
func (r *rotation) wantChangedOver() {
	r.Helper()
	said := func() int {
		return strings.Count(r.Logs(), "WeChat still pushes with the previous token or encoding_aes_key")
	}
	r.served()
	before := said()
	if before == 0 {
		r.Error("the log does not say that WeChat had not changed over yet")
	}
	r.served()
	if now := said(); now != before {
		r.Errorf("the log says %d times more that WeChat has not changed over yet", now-before)
	}
}
