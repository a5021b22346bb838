// SPDX-License-Identifier: Apache-2.0

package advice

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/permission"
)

const (
	platform = "wx00000000000000c0"
	account  = "wx00000000000000a0"
)

var at = time.Date(2026, 11, 30, 16, 30, 0, 0, time.UTC) // 00:30 of December 1 in Beijing

func relayed(errcode int, path string, granted ...int) Case {
	return Case{Errcode: errcode, Component: platform, AppID: account, Path: path, Sets: permission.Of(granted), SetsKnown: granted != nil, Now: at}
}

// Each refusal with what must stand in the text, in the remedy, and in the hint.
func TestAdvice(t *testing.T) {
	ip := netip.MustParseAddr("203.0.113.7")
	with := func(c Case, change func(*Case)) Case { change(&c); return c }
	asPlatform := func(c *Case) { c.AppID = "" }
	fromIP := func(c *Case) { c.IP = ip }
	for name, row := range map[string]struct {
		c                  Case
		text, remedy, hint string
	}{
		"61004":                            {with(relayed(61004, "/x"), fromIP), "from 203.0.113.7: it is not on the IP white list of the platform", "open.weixin.qq.com", "203.0.113.7 is not on the IP white list of the third-party platform"},
		"61004 without an address":         {relayed(61004, "/x"), "from the gateway's address", "白名单IP地址列表", "the gateway's address is not on"},
		"40164 with the component's token": {with(with(relayed(40164, "/x"), fromIP), asPlatform), "white list of the platform", "under 编辑 after the next publication", "third-party platform"},
		"40164 of an own call":             {Case{Errcode: 40164, Component: platform, Endpoint: "api_component_token", IP: ip, Now: at}, "white list of the platform", "open.weixin.qq.com", "203.0.113.7"},
		"40164 with the account's token":   {with(relayed(40164, "/x"), fromIP), "it says that the address is not on the account's own IP white list", "mp.weixin.qq.com", "203.0.113.7 is not on the account's own IP white list"},
		"45009 of an account":              {relayed(45009, "/x"), "the account's own quota", "/cgi-bin/openapi/quota/clear", "until 2026-12-01T16:00:00Z"},
		"45009 of an account in Beijing": {with(relayed(45009, "/x"), func(c *Case) { c.Now = at.In(time.FixedZone("", 8*3600)) }),
			"00:00 in Beijing, 2026-12-02T00:00:00+08:00", "10 times a month", "until 2026-12-02T00:00:00+08:00"},
		"45009 just before midnight":           {with(relayed(45009, "/x"), func(c *Case) { c.Now = time.Date(2026, 11, 30, 15, 59, 59, 0, time.UTC) }), "2026-11-30T16:00:00Z", "", "until 2026-11-30T16:00:00Z"},
		"45009 of a path counted by minutes":   {relayed(45009, "/wxa/getwxacodeunlimit"), "for this minute", "less often", "for this minute"},
		"45009 of the component":               {with(relayed(45009, "/x"), asPlatform), "the platform's own quota", "/cgi-bin/clear_quota with the component's appid", "third-party platform's daily quota"},
		"45009 at api_component_token":         {Case{Errcode: 45009, Component: platform, Endpoint: "api_component_token", Now: at}, "the platform's own quota", "only /cgi-bin/component/clear_quota/v2", "third-party platform's daily quota"},
		"48001, the set is missing":            {relayed(48001, "/wxa/commit", 17, 19), "has not granted permission set 18 (小程序开发与数据分析, Mini Program development", "authorises the platform again", "permission set 18 (Mini Program development and data analysis)"},
		"61007, several would do":              {relayed(61007, "/cgi-bin/message/custom/send", 15), "none of the permission sets of which this path needs one: 1 (消息管理, Messages); 6 (", "authorises the platform again", "1, 6, 19, 100, 101"},
		"61007, nothing is granted at all":     {with(relayed(61007, "/wxa/commit"), func(c *Case) { c.SetsKnown = true }), "has not granted permission set 18", "", "18"},
		"48001, one of several is granted":     {relayed(48001, "/cgi-bin/message/custom/send", 19), "has granted permission set 19", "verification", "may have no such call"},
		"61007, of a path that nobody knows":   {relayed(61007, "/wxa/unknown", 1), "a permission set that this path needs, or accounts of its kind", "权限集", "or accounts of its kind"},
		"61007, sets that nobody knows":        {relayed(61007, "/wxa/commit"), "a permission set that this path needs, or accounts of its kind", "权限集", "or accounts of its kind"},
		"48001 of the component":               {with(relayed(48001, "/wxa/commit", 1), asPlatform), "the platform itself has no right", "全网发布", "third-party platform itself"},
		"an address with a zone is without it": {with(relayed(61004, "/x"), func(c *Case) { c.IP = netip.MustParseAddr("fe80::1%secret") }), "from fe80::1:", "", "fe80::1 is not"},
	} {
		x, ok := Of(row.c)
		if !ok || !strings.Contains(x.Text, row.text) || !strings.Contains(x.Remedy, row.remedy) || !strings.Contains(x.Hint, row.hint) || x.Remedy == "" || x.cause == "" {
			t.Errorf("%s: %v\n%s\n%s\n%s", name, ok, x.Text, x.Remedy, x.Hint)
		}
	}
}

// Of other refusals nothing is said, and Knows says so before.
func TestOnlyFiveErrcodesHaveAdvice(t *testing.T) {
	for errcode := -2; errcode < 100_000; errcode++ {
		if _, ok := Of(relayed(errcode, "/x")); ok != Knows(errcode) {
			t.Fatalf("%d: advice %v, known %v", errcode, ok, Knows(errcode))
		}
	}
}

// A refusal of the same cause has the same cause, whatever call has met it; others have
// others.
func TestCauses(t *testing.T) {
	cause := func(c Case) string { x, _ := Of(c); return x.cause }
	ip := func(c Case, text string) Case { c.IP = netip.MustParseAddr(text); return c }
	other := func(c Case) Case { c.AppID = "wx00000000000000a1"; return c }
	own := Case{Errcode: 61004, Component: platform, Endpoint: "api_component_token", Now: at}
	for name, pair := range map[string][2]Case{
		"the platform's list, met by two accounts": {ip(relayed(61004, "/x"), "203.0.113.7"), other(ip(relayed(61004, "/y"), "203.0.113.7"))},
		"the platform's list, met by an own call":  {relayed(61004, "/x"), own},
		"an account's quota, two paths":            {relayed(45009, "/x"), relayed(45009, "/y")},
		"a set, two errcodes":                      {relayed(48001, "/wxa/commit", 1), relayed(61007, "/wxa/commit", 2)},
	} {
		if cause(pair[0]) != cause(pair[1]) {
			t.Errorf("%s: causes %q and %q", name, cause(pair[0]), cause(pair[1]))
		}
	}
	seen := make(map[string]string)
	for name, c := range map[string]Case{
		"platform's list": ip(relayed(61004, "/x"), "203.0.113.7"), "from another address": ip(relayed(61004, "/x"), "203.0.113.8"),
		"account's list": ip(relayed(40164, "/x"), "203.0.113.7"), "other account's list": other(ip(relayed(40164, "/x"), "203.0.113.7")),
		"quota": relayed(45009, "/x"), "other account's quota": other(relayed(45009, "/x")), "quota of the minute": relayed(45009, perMinute),
		"set 18": relayed(48001, "/wxa/commit", 1), "set 88": relayed(48001, "/wxa/generate_urllink", 1), "some set": relayed(48001, "/x", 1), "kind": relayed(48001, "/wxa/commit", 18),
	} {
		if seen[cause(c)] != "" {
			t.Errorf("%s and %s have the same cause %q", name, seen[cause(c)], cause(c))
		}
		seen[cause(c)] = name
	}
}

var headerSafe = regexp.MustCompile(`^[ -~]{1,200}$`)

// A hint stands in a header, whatever the path is that a caller has chosen, and no text
// has anything of it.
func FuzzHintFitsAHeader(f *testing.F) {
	for _, n := range []string{"/wxa/commit", "/cgi-bin/message/custom/send", "/x\r\nSet-Cookie: a", "/权限", ""} {
		f.Add(48001, n, "203.0.113.7", uint64(1<<18), true)
		f.Add(61004, n, "fe80::1%\r\n", uint64(0), false)
		f.Add(45009, n, "", uint64(0), false)
	}
	f.Fuzz(func(t *testing.T, errcode int, path, ip string, sets uint64, known bool) {
		c := Case{Errcode: errcode, Component: platform, AppID: account, Path: path, Sets: permission.Bits{sets, sets, sets, sets}, SetsKnown: known, Now: at}
		c.IP, _ = netip.ParseAddr(ip)
		for _, c.AppID = range []string{account, ""} {
			x, ok := Of(c)
			if !ok {
				continue
			}
			if !headerSafe.MatchString(x.Hint) {
				t.Errorf("hint %q", x.Hint)
			}
			if text := fmt.Sprint(x); strings.ContainsAny(text, "\r\n") || len(path) > 40 && strings.Contains(text, path) {
				t.Errorf("advice %q", text)
			}
		}
	})
}
