// SPDX-License-Identifier: Apache-2.0

package command

import (
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

func wellStatus() operate.Status {
	return operate.Status{
		Version: "v1.4.0", Node: "gw-1", Storage: operate.StorageStatus{OK: true}, Warnings: []operate.Warning{},
		Components: []operate.ComponentStatus{{
			Component: component, Received: ago(3 * time.Minute), Expires: ago(-time.Hour), LastRenewal: ago(time.Hour),
			Accounts: operate.AccountCounts{Authorized: 1203, Unauthorized: 4, Counted: true},
		}},
	}
}

func brokenStatus() operate.Status {
	s := wellStatus()
	s.Level, s.Unstored = operate.LevelBroken, 1
	s.Warnings = []operate.Warning{
		{Text: "component " + component + ": no component_verify_ticket for 26 minutes", Remedy: "see whether pushes reach the gateway: caddy wechat pushes", Broken: true},
		{Text: "2 accounts need their admin's authorisation", Remedy: "caddy wechat accounts --state needs_authorization lists them"},
	}
	c := &s.Components[0]
	c.Received, c.Expires = ago(26*time.Minute), ago(time.Minute)
	c.LastFailure = operate.Failure{Time: ago(3 * time.Minute), Text: "renewing the component token: api_component_token: errcode 61004 (rid 6564ab-12)", Remedy: listed}
	c.Accounts.NeedsAuthorization = 2
	c.Queues = operate.QueueCounts{Waiting: 17, Dead: 1, Oldest: ago(12 * time.Minute)}
	s.Components = append(s.Components, operate.ComponentStatus{Component: "wxfedcba9876543210"})
	s.Storage = operate.StorageStatus{LastFailure: operate.Failure{Time: ago(time.Second), Text: "storing: read-only file system\x1b[2J", Remedy: "make the folder writable"}}
	return s
}

func someAccounts() operate.Accounts {
	return operate.Accounts{Items: []operate.Account{
		{AppID: "wxaaaaaaaaaaaaaaaa", Name: "杭州某某某网络科技有限公司官方服务号", Kind: "official_account", State: "needs_authorization", Expires: ago(-time.Hour),
			Permissions: []operate.Permission{{ID: 1, Name: "消息管理权限"}, {ID: 999}}, Clients: []string{"shop", "crm", "news", "log"}},
		{AppID: "wxbbbbbbbbbbbbbbbb", Name: "Mini\t🎉 \u202eprogram", Kind: "mini_program", State: "authorized", Expires: ago(time.Minute), Clients: []string{"shop"}},
		{AppID: "wxcccccccccccccccc", State: "authorized"},
	}, Next: "YWNjb3VudHM"}
}

func brokenAccount() operate.AccountDetail {
	return operate.AccountDetail{
		Account: someAccounts().Items[0], Component: component, Principal: "杭州某某某网络科技有限公司", Obtained: ago(time.Hour), Learned: ago(30 * time.Hour),
		Authorised: ago(400 * 24 * time.Hour), CoolingUntil: ago(-20 * time.Second), Pending: true, Unstored: true,
		LastFailure: operate.Failure{Time: ago(9 * time.Second), Text: "renewing: errcode 61023", Remedy: "let the admin authorise again"},
		Advice:      operate.Failure{Time: ago(time.Minute), Text: "errcode 45009: the account's quota of /cgi-bin/message/custom/send is used up until 2026-12-01 00:00 CST", Remedy: "ask WeChat for more, or clear_quota"},
		Cause: operate.Cause{Since: ago(72 * time.Hour), Slug: "needs_authorization", Errcode: 61023, RID: "6564ab-12", Text: "WeChat takes the refresh token no more",
			Remedy: "let the admin of the account authorise again, at https://gateway.example.com/wechat/authorize"},
	}
}

func somePushes() operate.Pushes {
	return operate.Pushes{Node: "gw-1", Since: ago(time.Hour), Items: []operate.Push{
		{Time: ago(time.Second), At: "messages", Component: component, AppID: "wxaaaaaaaaaaaaaaaa", What: "event/subscribe", Outcome: "acknowledged", Status: 200, TookMS: 12.3, Remote: "101.226.103.0", Genuine: true},
		{Time: ago(time.Minute), At: "events", Component: component, What: "component_verify_ticket", Outcome: "acknowledged", Status: 200, TookMS: 1, Remote: "101.226.103.0", Genuine: true, Previous: true},
		{Time: ago(time.Hour), At: "events", Component: component, Outcome: "refused", Status: 403, TookMS: 0.1, Remote: "2001:db8::1234:5678", Reason: "the signature is not that of the token"},
	}}
}

func someUsage() operate.Usage {
	return operate.Usage{Node: "gw-1", Since: ago(time.Hour), Lost: 3, Items: []operate.Calls{
		{Client: "shop", AppID: "wxaaaaaaaaaaaaaaaa", Path: "/cgi-bin/message/custom", Calls: 120345, Bytes: 1234567},
		{Client: "crm-north", AppID: "wxaaaaaaaaaaaaaaaa", Path: "/wxa/business/getuserphonenumber", Errcode: 45009, Calls: 12, Bytes: 700},
		{Client: "none", Path: "/cgi-bin/user/get", Errcode: 41001, Own: true, Calls: 1},
	}}
}

func someDiagnosis() operate.Diagnosis {
	return operate.Diagnosis{Level: operate.LevelBroken, Node: "gw-1", Items: []operate.Finding{
		{Check: "clock", OK: true, Found: "120 ms behind WeChat's"},
		{Check: "white_list", Component: component, Found: "WeChat refuses calls from 203.0.113.7 (errcode 61004)", Remedy: listed},
		{Check: "storage", OK: true, Found: "lock, write, read and delete succeed, the slowest in 3 ms"},
	}}
}
