// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Account is an official account or a mini program whose admin may authorise.
type Account struct {
	AppID string `json:"appid"`
	// UserName is the gh_ id messages are addressed to; empty: derived from AppID.
	UserName string `json:"user_name,omitempty"`
	// NickName is shown on the authorise page; empty: derived from AppID.
	NickName string `json:"nick_name,omitempty"`
	// MiniProgram tells a mini program from an official account.
	MiniProgram bool `json:"mini_program,omitempty"`
	// FuncInfo are the permission sets its admin grants. Nil means a usual choice;
	// empty but not nil means none, and then there are no tokens.
	FuncInfo []int `json:"func_info,omitempty"`
}

// account is an Account with what has happened to it.
type account struct {
	Account
	authorized      bool
	frozen          bool // its own AppSecret
	authTime        time.Time
	granted         []int
	refresh         string // empty until api_query_auth was called
	oldRefresh      string // works until oldRefreshUntil
	oldRefreshUntil time.Time
	line            tokenLine
	options         map[string]string
	menu            []byte
	shared          map[string]sharedTicket // by kind
	lastEvent       event                   // what the last authorisation pushed, or would have
}

// event is an authorisation event before it is sealed; inner is its XML after CreateTime.
type event struct{ infoType, inner string }

// AddAccount makes an account known. Adding it again changes its particulars and
// keeps its authorisation.
func (s *Sandbox) AddAccount(a Account) error {
	if !appIDForm.MatchString(a.AppID) {
		return fmt.Errorf("adding an account: %q is not an appid", a.AppID)
	}
	a.UserName = or(a.UserName, "gh_"+sign(a.AppID)[:12])
	a.NickName = or(a.NickName, "Sandbox "+a.AppID[len(a.AppID)-4:])
	if a.FuncInfo == nil {
		a.FuncInfo = []int{1, 2, 3, 4, 7, 11, 15}
		if a.MiniProgram {
			a.FuncInfo = []int{17, 18, 19, 25, 30}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.accounts[a.AppID]; known != nil {
		known.Account = a
		return nil
	}
	s.accounts[a.AppID] = &account{
		Account: a,
		line:    tokenLine{kind: KindAuthorizer, appid: a.AppID},
		options: map[string]string{},
		shared:  map[string]sharedTicket{},
	}
	s.order = append(s.order, a.AppID)
	return nil
}

// Accounts lists the accounts in the order they were added.
func (s *Sandbox) Accounts() (accounts []Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, appid := range s.order {
		accounts = append(accounts, s.accounts[appid].Account)
	}
	return accounts
}

// Authorized reports whether an account has authorised the component at this moment.
func (s *Sandbox) Authorized(appid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.accounts[appid]
	return account != nil && account.authorized
}

// Authorize lets the account's admin agree to everything, without a page. The
// `authorized` event is pushed first; for an account that is authorised already,
// `updateauthorized`, and that only if its permission sets have changed. The
// returned code is the redirect's; it is good even if the push failed, which err
// then reports.
func (s *Sandbox) Authorize(ctx context.Context, appid string) (code string, err error) {
	return s.authorize(ctx, appid, "", nil)
}

// authorize grants the account's sets, or those of them in sets if it is not nil.
func (s *Sandbox) authorize(ctx context.Context, appid, preAuthCode string, sets []int) (string, error) {
	s.mu.Lock()
	account := s.accounts[appid]
	if account == nil {
		s.mu.Unlock()
		return "", fmt.Errorf("authorising %s: no such account", appid)
	}
	if preAuthCode == "" {
		preAuthCode = random("preauthcode@@@", 64)
	}
	granted := chosen(account.FuncInfo, sets)
	infoType := "authorized"
	if account.authorized {
		infoType = "updateauthorized"
	}
	changed := !account.authorized || !slices.Equal(granted, account.granted)
	account.authorized, account.authTime, account.granted = true, s.now(), granted
	code := s.newCode(appid)
	s.describe(account, infoType, code, preAuthCode)
	quiet := s.cfg.Switches.NoAuthorizedPush || !changed
	s.mu.Unlock()
	if quiet {
		return code, nil
	}
	return code, s.PushAuthorized(ctx, appid)
}

// chosen are the sets that were asked for, in the account's order.
func chosen(all, wanted []int) []int {
	if wanted == nil {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(set int) bool { return !slices.Contains(wanted, set) })
}

// newCode makes an authorization code.
func (s *Sandbox) newCode(appid string) string {
	code := random("queryauthcode@@@", 80)
	s.codes[code] = &authCode{appid: appid, expires: s.now().Add(s.cfg.CodeLifetime)}
	return code
}

// describe writes the event of an authorisation, to be pushed now, later or never.
func (s *Sandbox) describe(account *account, infoType, code, preAuthCode string) {
	if s.cfg.Switches.DifferentCodes {
		code = s.newCode(account.AppID)
	}
	expires := s.cfg.Now().Add(s.cfg.CodeLifetime).Unix()
	account.lastEvent = event{infoType, fmt.Sprintf(
		"<AuthorizerAppid>%s</AuthorizerAppid><AuthorizationCode>%s</AuthorizationCode>"+
			"<AuthorizationCodeExpiredTime>%d</AuthorizationCodeExpiredTime><PreAuthCode>%s</PreAuthCode>",
		cdata(account.AppID), cdata(code), expires, cdata(preAuthCode))}
}

// PushAuthorized pushes the account's last authorisation event, again or for the first time.
func (s *Sandbox) PushAuthorized(ctx context.Context, appid string) error {
	s.mu.Lock()
	var last event
	if account := s.accounts[appid]; account != nil {
		last = account.lastEvent
	}
	s.mu.Unlock()
	if last.infoType == "" {
		return fmt.Errorf("pushing the authorisation of %s: there was none", appid)
	}
	return s.PushEvent(ctx, last.infoType, last.inner)
}

// UpdateAuthorized lets the admin change the permission sets: `updateauthorized`
// is pushed with a fresh code. The refresh token stays.
func (s *Sandbox) UpdateAuthorized(ctx context.Context, appid string) (code string, err error) {
	s.mu.Lock()
	account := s.accounts[appid]
	if account == nil || !account.authorized {
		s.mu.Unlock()
		return "", fmt.Errorf("updating the authorisation of %s: there is none", appid)
	}
	account.granted = account.FuncInfo
	code = s.newCode(appid)
	s.describe(account, "updateauthorized", code, random("preauthcode@@@", 64))
	s.mu.Unlock()
	return code, s.PushAuthorized(ctx, appid)
}

// Revoke lets the admin withdraw: codes, tokens and refresh token die, `unauthorized` is pushed.
func (s *Sandbox) Revoke(ctx context.Context, appid string) error {
	s.mu.Lock()
	account := s.accounts[appid]
	if account == nil || !account.authorized {
		s.mu.Unlock()
		return fmt.Errorf("revoking the authorisation of %s: there is none", appid)
	}
	account.authorized, account.granted = false, nil
	account.refresh, account.oldRefresh = "", ""
	clear(account.shared)
	for _, t := range s.tokens {
		t.killed = t.killed || t.kind == KindAuthorizer && t.appid == appid
	}
	for _, code := range s.codes {
		code.spent = code.spent || code.appid == appid
	}
	s.mu.Unlock()
	return s.PushEvent(ctx, "unauthorized", "<AuthorizerAppid>"+cdata(appid)+"</AuthorizerAppid>")
}

// funcInfo is a list of permission sets as the API writes it.
func funcInfo(sets []int) []object {
	list := []object{}
	for _, id := range sets {
		list = append(list, object{"funcscope_category": object{"id": id}})
	}
	return list
}

// info is the authorizer_info of api_get_authorizer_info.
func (a *account) info() object {
	info := object{
		"nick_name":         a.NickName,
		"head_img":          "",
		"service_type_info": object{"id": 2, "name": "服务号"},
		"verify_type_info":  object{"id": 0, "name": "微信认证"},
		"user_name":         a.UserName,
		"alias":             "",
		"qrcode_url":        "",
		"business_info":     object{"open_pay": 0, "open_shake": 0, "open_scan": 0, "open_card": 0, "open_store": 0},
		"idc":               1,
		"principal_name":    "沙箱有限公司",
		"signature":         "",
		"register_type":     0,
		"account_status":    1,
		"basic_config":      object{"is_phone_configured": true, "is_email_configured": true},
	}
	if a.MiniProgram {
		info["service_type_info"] = object{"id": 0, "name": "小程序"}
		info["MiniProgramInfo"] = object{
			"network":      object{"RequestDomain": []string{}, "WsRequestDomain": []string{}, "UploadDomain": []string{}, "DownloadDomain": []string{}, "BizDomain": []string{}, "UDPDomain": []string{}, "TCPDomain": []string{}},
			"categories":   []object{{"first": "工具", "second": "效率"}},
			"visit_status": 0,
		}
	}
	return info
}

// cdata wraps text for XML. A ]]> in it is split, as the text would end there.
func cdata(text string) string {
	return "<![CDATA[" + strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>") + "]]>"
}
