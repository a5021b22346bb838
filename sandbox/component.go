// SPDX-License-Identifier: Apache-2.0

package sandbox

import "time"

// preAuth is the life of a pre_auth_code.
type preAuth struct {
	expires time.Time
	used    bool
}

// authCode is an authorization code: it can be exchanged once.
type authCode struct {
	appid   string
	expires time.Time
	spent   bool

	asked      bool // api_query_auth was called with it
	generation int  // of the token that it was exchanged for
}

// componentBody holds the fields of every body of the component API.
type componentBody struct {
	ComponentAppID  string `json:"component_appid"`
	ComponentSecret string `json:"component_secret"`
	AppSecret       string `json:"component_appsecret"`
	QuotaSecret     string `json:"appsecret"`
	Ticket          string `json:"component_verify_ticket"`
	Code            string `json:"authorization_code"`
	AppID           string `json:"authorizer_appid"`
	QuotaAppID      string `json:"appid"`
	RefreshToken    string `json:"authorizer_refresh_token"`
	OptionName      string `json:"option_name"`
	OptionValue     string `json:"option_value"`
	Offset          int    `json:"offset"`
	Count           int    `json:"count"`
}

// component decodes a body and checks that it names the component.
func (s *Sandbox) componentBody(x *exchange) (body componentBody, err error) {
	if err = x.decode(&body); err != nil {
		return body, err
	}
	switch body.ComponentAppID {
	case s.cfg.Component:
		return body, nil
	case "":
		return body, refuse(41018, "component_appid missing")
	}
	return body, refuse(40013, "invalid appid")
}

// secretError checks an app secret from a body.
func (s *Sandbox) secretError(secret string) error {
	switch secret {
	case s.cfg.AppSecret:
		return nil
	case "":
		return refuse(41004, "appsecret missing")
	}
	return refuse(40125, "invalid appsecret")
}

func (s *Sandbox) componentToken(x *exchange) (any, error) {
	body, err := s.componentBody(x)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.secretError(body.AppSecret); err != nil {
		return nil, err
	}
	if err := s.ticketError(body.Ticket); err != nil {
		return nil, err
	}
	return object{
		"component_access_token": s.issue(s.component).value,
		"expires_in":             s.tokenExpiresIn(),
	}, nil
}

func (s *Sandbox) createPreAuthCode(x *exchange) (any, error) {
	if _, err := s.componentBody(x); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	code := random("preauthcode@@@", 64)
	s.preAuth[code] = &preAuth{expires: s.now().Add(s.cfg.PreAuthCodeLifetime)}
	return object{"pre_auth_code": code, "expires_in": s.expiresIn(s.cfg.PreAuthCodeLifetime)}, nil
}

func (s *Sandbox) queryAuth(x *exchange) (any, error) {
	body, err := s.componentBody(x)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	code := s.codes[body.Code]
	if code != nil {
		code.asked = true
	}
	switch {
	case code == nil || code.spent:
		return nil, refuse(61009, "code is invalid")
	case !s.now().Before(code.expires):
		return nil, refuse(61010, "code is expired")
	case !s.accounts[code.appid].authorized:
		return nil, refuse(61003, "component is not authorized by this account")
	}
	code.spent = true
	account := s.accounts[code.appid]
	info := object{"authorizer_appid": code.appid, "func_info": funcInfo(account.granted)}
	if len(account.granted) > 0 { // without a permission set there is no token either
		if account.refresh == "" {
			account.refresh = s.newRefresh()
		}
		token := s.issue(&account.line)
		code.generation = token.generation
		info["authorizer_access_token"] = token.value
		info["expires_in"] = s.tokenExpiresIn()
		info["authorizer_refresh_token"] = account.refresh
	}
	return object{"authorization_info": info}, nil
}

func (s *Sandbox) authorizerToken(x *exchange) (any, error) {
	body, err := s.componentBody(x)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.accounts[body.AppID]
	switch {
	case account == nil || !account.authorized:
		code := or(s.cfg.Switches.RevokedErrCode, 61003)
		if code == 61023 {
			return nil, refuse(code, "refresh_token is invalid")
		}
		return nil, refuse(code, "component is not authorized by this account")
	case !s.refreshWorks(account, body.RefreshToken):
		return nil, refuse(61023, "refresh_token is invalid")
	}
	if s.cfg.Switches.RotateRefreshTokens {
		s.rotateRefresh(account)
	}
	return object{
		"authorizer_access_token":  s.issue(&account.line).value,
		"expires_in":               s.tokenExpiresIn(),
		"authorizer_refresh_token": account.refresh,
	}, nil
}

func (s *Sandbox) refreshWorks(account *account, refresh string) bool {
	switch refresh {
	case "":
		return false
	case account.refresh:
		return true
	}
	return refresh == account.oldRefresh && s.now().Before(account.oldRefreshUntil)
}

func (s *Sandbox) authorizerInfo(x *exchange) (any, error) {
	body, err := s.componentBody(x)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.accounts[body.AppID]
	if account == nil || !account.authorized {
		return nil, refuse(61003, "component is not authorized by this account")
	}
	name := "authorizer_appid"
	if s.cfg.Switches.OldAuthorizationAppID {
		name = "authorization_appid"
	}
	authorization := object{name: body.AppID, "func_info": funcInfo(account.granted)}
	s.putRefresh(authorization, "authorizer_refresh_token", account)
	return object{"authorizer_info": account.info(), "authorization_info": authorization}, nil
}

// putRefresh adds the refresh token if api_query_auth has brought one into being.
func (s *Sandbox) putRefresh(to object, name string, account *account) {
	if account.refresh != "" || s.cfg.Switches.EmptyRefreshField {
		to[name] = account.refresh
	}
}

func (s *Sandbox) authorizerList(x *exchange) (any, error) {
	body, err := s.componentBody(x)
	if err != nil {
		return nil, err
	}
	if body.Count > 500 || body.Count < 1 || body.Offset < 0 {
		return nil, refuse(40170, "args count exceed count limit")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list, total := []object{}, 0
	for _, appid := range s.order {
		account := s.accounts[appid]
		if !account.authorized {
			continue
		}
		if total >= body.Offset && len(list) < body.Count {
			entry := object{"authorizer_appid": appid, "auth_time": account.authTime.Unix()}
			s.putRefresh(entry, "refresh_token", account)
			list = append(list, entry)
		}
		total++
	}
	return object{"total_count": total, "list": list}, nil
}

// optionValues are the options an account has, with the values each takes.
var optionValues = map[string][]string{
	"location_report":  {"0", "1", "2"},
	"voice_recognize":  {"0", "1"},
	"customer_service": {"0", "1"},
}

// optionAccount finds whose option is meant: the old paths say it in the body,
// the new ones by the authorizer's token.
func (s *Sandbox) optionAccount(x *exchange, body componentBody) (*account, error) {
	appid := body.AppID
	if x.token.kind == KindAuthorizer {
		appid = x.token.appid
	} else if body.ComponentAppID != "" && body.ComponentAppID != s.cfg.Component {
		return nil, refuse(40013, "invalid appid")
	}
	account := s.accounts[appid]
	if account == nil || !account.authorized {
		return nil, refuse(61003, "component is not authorized by this account")
	}
	if optionValues[body.OptionName] == nil {
		return nil, refuse(61012, "invalid option name")
	}
	return account, nil
}

func (s *Sandbox) getOption(x *exchange) (any, error) {
	var body componentBody
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	account, err := s.optionAccount(x, body)
	if err != nil {
		return nil, err
	}
	answer := object{"option_name": body.OptionName, "option_value": or(account.options[body.OptionName], "0")}
	if x.token.kind == KindComponent {
		answer["authorizer_appid"] = account.AppID
	}
	return answer, nil
}

func (s *Sandbox) setOption(x *exchange) (any, error) {
	var body componentBody
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	account, err := s.optionAccount(x, body)
	if err != nil {
		return nil, err
	}
	for _, value := range optionValues[body.OptionName] {
		if value == body.OptionValue {
			account.options[body.OptionName] = value
			return okay(), nil
		}
	}
	return nil, refuse(61013, "invalid option value")
}
