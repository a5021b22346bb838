// SPDX-License-Identifier: Apache-2.0

package advice

import (
	"fmt"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/permission"
)

// platformList: 61004, and 40164 of a call with the component's token, are about the
// white list of the platform. See OP/developers/basic_func/ip_whitelist, and for when
// it counts WeChat's forum, 0002c0a194c04846c18ef4be851000.
func platformList(c Case) Advice {
	return Advice{
		Text: "WeChat refuses calls from " + address(c) + ": it is not on the IP white list of the platform",
		Remedy: "add it in the WeChat Open Platform console (open.weixin.qq.com): third-party platform, 开发资料, 白名单IP地址列表; " +
			"what is entered under 修改 counts at once, what is entered under 编辑 after the next publication",
		Hint:  address(c) + " is not on the IP white list of the third-party platform; its operator can add it",
		cause: "list " + c.Component + " " + address(c),
	}
}

// accountList: that the account's own list binds a platform's calls is nowhere written,
// so it is said to be WeChat's word.
func accountList(c Case) Advice {
	return Advice{
		Text:   "WeChat refuses calls for this account from " + address(c) + ": it says that the address is not on the account's own IP white list",
		Remedy: "let an admin of the account add it at mp.weixin.qq.com: 设置与开发, 基本配置, IP白名单",
		Hint:   address(c) + " is not on the account's own IP white list (mp.weixin.qq.com); an admin of the account can add it",
		cause:  "list " + c.owner() + " " + address(c),
	}
}

// address is ours, as far as it is known. A zone is no part of it: it may be any text.
func address(c Case) string {
	if !c.IP.IsValid() {
		return "the gateway's address"
	}
	return c.IP.WithZone("").Unmap().String()
}

// perMinute is the one path whose page says that 45009 is about a minute:
// miniprogram/dev/server/API/qrcode-link/qr-code/api_getunlimitedqrcode.
const perMinute = "/wxa/getwxacodeunlimit"

// quota: calls that a platform makes for an account count as the account's own, see the
// notes of WeChat's page clear_quota, which also has the numbers of resets.
func quota(c Case) Advice {
	next := midnight(c.Now).Format(time.RFC3339)
	switch {
	case c.AppID != "" && strings.EqualFold(c.Path, perMinute):
		return Advice{
			Text:   "the account's quota of this call is spent for this minute; of this path WeChat counts the calls of each minute",
			Remedy: "call it less often; a code can be kept and used again",
			Hint:   "the account's quota of this call is spent for this minute",
			cause:  "minute " + c.owner(),
		}
	case c.AppID != "":
		return Advice{
			Text: "the account's own quota of this call is spent for today; calls through the platform count as the account's. It begins anew at 00:00 in Beijing, " + next,
			Remedy: "wait, or clear it for the account: /cgi-bin/openapi/quota/clear clears one path, 50 times a month, " +
				"/cgi-bin/clear_quota all of them, 10 times a month",
			Hint:  "the account's own daily quota of this call is spent until " + next + " (00:00 in Beijing)",
			cause: "quota " + c.owner(),
		}
	}
	remedy := "wait, or clear it: /cgi-bin/clear_quota with the component's appid clears all calls, 10 times a month"
	if c.Endpoint == "api_component_token" { // staff, develop/doc/00000ac076c270dc0b13a5e176b400
		remedy = "wait, or clear it: here only /cgi-bin/component/clear_quota/v2 helps, which takes the component's app secret and needs no token"
	}
	return Advice{
		Text:   "the platform's own quota of this call is spent for today. It begins anew at 00:00 in Beijing, " + next,
		Remedy: remedy,
		Hint:   "the third-party platform's daily quota of this call is spent until " + next + " (00:00 in Beijing)",
		cause:  "quota " + c.owner() + " " + c.Endpoint,
	}
}

// midnight is the next one in Beijing, in the zone of now. Beijing has no summer time,
// and the machine may have no data of time zones.
func midnight(now time.Time) time.Time {
	beijing := now.In(time.FixedZone("CST", 8*60*60))
	year, month, day := beijing.Date()
	return time.Date(year, month, day+1, 0, 0, 0, 0, beijing.Location()).In(now.Location())
}

const authoriseAgain = "an admin of the account grants more when he authorises the platform again; the platform must have the set in its console as well"

// permissions: 48001 and 61007 have the same causes. Which permission set is missing is
// certain only if WeChat's page about the path names sets and the account has granted
// none of them.
func permissions(c Case) Advice {
	if c.AppID == "" {
		return Advice{
			Text:   "the platform itself has no right to this call",
			Remedy: "check in the WeChat Open Platform console that the platform is published (全网发布) and has the permission sets that it needs",
			Hint:   "the third-party platform itself has no right to this call; its operator can check its permission sets",
			cause:  fmt.Sprint("sets ", c.owner(), " ", c.Errcode, " ", c.Endpoint),
		}
	}
	sets, known := permission.Needed(c.Path)
	for _, id := range sets {
		if c.SetsKnown && c.Sets.Has(id) {
			return Advice{
				Text: "the account has granted permission set " + named(id) + ", which suffices for this path as far as WeChat's page says, " +
					"so it is likely that accounts of its kind have no such call, or only verified ones",
				Remedy: "compare the account's kind and verification with what WeChat's page about the path asks for",
				Hint:   "the account has granted a permission set for this path; accounts of its kind, or unverified ones, may have no such call",
				cause:  "kind " + c.owner(),
			}
		}
	}
	if !known || !c.SetsKnown {
		return Advice{
			Text:   "the account has not granted a permission set that this path needs, or accounts of its kind have no such call",
			Remedy: "see which permission set (权限集) WeChat's page about the path names, and whether the account has granted it; " + authoriseAgain,
			Hint:   "the account has not granted the platform a permission set that this path needs, or accounts of its kind have no such call",
			cause:  "sets " + c.owner(),
		}
	}
	return missing(c, sets)
}

// missing says which permission set is missing, of which the account has none.
func missing(c Case, sets []int) Advice {
	var ids, names []string
	for _, id := range sets {
		ids, names = append(ids, fmt.Sprint(id)), append(names, named(id))
	}
	x := Advice{
		Text:   "the account has not granted permission set " + names[0] + ", which this path needs",
		Remedy: authoriseAgain,
		Hint:   "the account has not granted permission set " + ids[0] + ", which this path needs",
		cause:  "sets " + c.owner() + " " + strings.Join(ids, " "),
	}
	if english := permission.Name(sets[0], true); english != "" {
		x.Hint = "the account has not granted permission set " + ids[0] + " (" + english + "), which this path needs"
	}
	if len(sets) > 1 {
		x.Text = "the account has granted none of the permission sets of which this path needs one: " + strings.Join(names, "; ")
		x.Hint = "the account has granted none of the permission sets of which this path needs one: " + strings.Join(ids, ", ")
	}
	return x
}

// named is the id of a permission set with its names, as far as they are known.
func named(id int) string {
	if chinese := permission.Name(id, false); chinese != "" {
		return fmt.Sprintf("%d (%s, %s)", id, chinese, permission.Name(id, true))
	}
	return fmt.Sprint(id)
}
