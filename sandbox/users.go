// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"time"
)

// userCode is a js_code or an OAuth code: good once.
type userCode struct {
	appid, user string
	expires     time.Time
	used        bool
}

// NewUserCode lets a user of an account log in: the code is good once, for five
// minutes, as js_code of a mini program or as OAuth code of an official account.
// The same user has the same openid every time.
func (s *Sandbox) NewUserCode(appid, user string) (code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code = random("0a", 32)
	s.userCodes[code] = &userCode{appid: appid, user: user, expires: s.now().Add(5 * time.Minute)}
	return code
}

// OpenID is the openid of a user name under an account.
func (s *Sandbox) OpenID(appid, user string) string { return openID(appid, user) }

// redeem checks what the component variants have in common, and uses a code up.
func (s *Sandbox) redeem(x *exchange, code string) (*userCode, error) {
	if err := s.thirdParty(x); err != nil {
		return nil, err
	}
	known := s.userCodes[code]
	switch {
	case known == nil || known.appid != x.query.Get("appid"):
		return nil, refuse(40029, "invalid code")
	case known.used:
		return nil, refuse(40163, "code been used")
	case !s.now().Before(known.expires):
		return nil, refuse(42003, "code expired")
	}
	known.used = true
	return known, nil
}

// thirdParty checks component_appid and that the account has authorised.
func (s *Sandbox) thirdParty(x *exchange) error {
	switch x.query.Get("component_appid") {
	case s.cfg.Component:
	case "":
		return refuse(41018, "component_appid missing")
	default:
		return refuse(40013, "invalid appid")
	}
	account := s.accounts[x.query.Get("appid")]
	if account == nil || !account.authorized {
		return refuse(61003, "component is not authorized by this account")
	}
	return nil
}

// session is /sns/component/jscode2session.
func (s *Sandbox) session(x *exchange) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code, err := s.redeem(x, x.query.Get("js_code"))
	if err != nil {
		return nil, err
	}
	return object{
		"openid":      openID(code.appid, code.user),
		"session_key": "SESSIONKEY" + random("", 12) + "==",
		"unionid":     openID(s.cfg.Component, code.user),
	}, nil
}

// userToken is /sns/oauth2/component/access_token.
func (s *Sandbox) userToken(x *exchange) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code, err := s.redeem(x, x.query.Get("code"))
	if err != nil {
		return nil, err
	}
	return s.issueUserToken(code.appid, openID(code.appid, code.user)), nil
}

// issueUserToken answers a web user's token. It belongs to the application, not
// to the gateway, and is not among Credentials.
func (s *Sandbox) issueUserToken(appid, user string) object {
	t := &token{
		value:      random("USERTOKEN_", 96),
		kind:       KindUser,
		appid:      appid,
		user:       user,
		generation: 1,
		expires:    s.now().Add(s.cfg.TokenLifetime),
	}
	renew := random("USERREFRESH_", 96)
	s.tokens[t.value], s.userRenew[renew] = t, t
	return object{
		"access_token":  t.value,
		"expires_in":    s.tokenExpiresIn(),
		"refresh_token": renew,
		"openid":        user,
		"scope":         "snsapi_userinfo",
	}
}

// userRefresh is /sns/oauth2/refresh_token and its component variant.
func (s *Sandbox) userRefresh(x *exchange) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.token != nil { // the component variant
		if err := s.thirdParty(x); err != nil {
			return nil, err
		}
	}
	old := s.userRenew[x.query.Get("refresh_token")]
	if old == nil || old.appid != x.query.Get("appid") {
		return nil, refuse(40030, "invalid refresh_token")
	}
	return s.issueUserToken(old.appid, old.user), nil
}

// userInfo is /sns/userinfo.
func (s *Sandbox) userInfo(x *exchange) (any, error) {
	if x.query.Get("openid") != x.token.user {
		return nil, refuse(40003, "invalid openid")
	}
	return object{
		"openid": x.token.user, "nickname": "沙箱用户", "sex": 0, "province": "", "city": "",
		"country": "", "headimgurl": "", "privilege": []string{},
	}, nil
}

// userAuth is /sns/auth.
func (s *Sandbox) userAuth(x *exchange) (any, error) {
	if x.query.Get("openid") != x.token.user {
		return nil, refuse(40003, "invalid openid")
	}
	return okay(), nil
}

// ordinaryToken is every call made with an account's own secret. A third party
// has none, so WeChat refuses. A frozen secret gets no token, whatever it is.
func (s *Sandbox) ordinaryToken(x *exchange) (any, error) {
	appid, secret := x.query.Get("appid"), x.query.Get("secret")
	if x.route.method == post && appid == "" {
		var body struct{ AppID, Secret, AppSecret string }
		if err := x.decode(&body); err != nil {
			return nil, err
		}
		appid, secret = body.AppID, body.Secret+body.AppSecret
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case appid == "":
		return nil, refuse(41002, "appid missing")
	case secret == "":
		return nil, refuse(41004, "appsecret missing")
	case s.accounts[appid] == nil:
		return nil, refuse(40013, "invalid appid")
	case s.accounts[appid].frozen && (x.call.Path == "/cgi-bin/token" || x.call.Path == "/cgi-bin/stable_token"):
		return nil, refuse(40243, "AppSecret is frozen, unfreeze it and try again")
	}
	return nil, refuse(40125, fmt.Sprintf("invalid appsecret, %s is managed by a third party", appid))
}

// FreezeAppSecret lets an account's admin freeze its AppSecret in the console, or
// end that: its own token calls answer 40243, calls through the platform go on.
// The AppSecret of a platform cannot be frozen.
func (s *Sandbox) FreezeAppSecret(appid string, frozen bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.accounts[appid]
	if account == nil {
		return fmt.Errorf("freezing the AppSecret of %s: no such account", appid)
	}
	account.frozen = frozen
	return nil
}
