// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"net/http"

	"golang.org/x/text/language"
)

// languages are those of translations, in the same order.
var languages = language.NewMatcher([]language.Tag{language.Chinese, language.English})

// acceptable returns the languages that a browser prefers; none if the header is
// malformed.
func acceptable(r *http.Request) []language.Tag {
	tags, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil {
		return nil
	}
	return tags
}

// translations are the texts of the pages, in the order of languages. The keys
// are the Kind or problem of a page and the part of the page. {platform} stands
// for the display_name, or for the text platform if there is none, and {wait} for
// a number of seconds.
var translations = []struct {
	lang string
	text map[string]string
}{
	{"zh-CN", map[string]string{
		"platform":          "第三方平台",
		"launch.title":      "授权给{platform}",
		"launch.lead":       "点击下面的按钮，前往微信公众平台完成授权。请由公众号或小程序的管理员操作。",
		"launch.button":     "前往微信授权",
		"launch.qr":         "或用微信扫描二维码，在手机上授权",
		"launch.phone":      "授权须在微信中进行。请复制下面的地址，在微信中发给自己（如“文件传输助手”），再点击打开。",
		"launch.copy":       "复制地址",
		"launch.copied":     "已复制，请到微信中粘贴",
		"launch.here":       "或者在本页继续：微信会显示二维码，请用另一部手机扫描。",
		"leave.title":       "正在前往微信",
		"leave.lead":        "即将打开微信的授权页面。如果没有自动打开，请点击下面的按钮。",
		"done.title":        "授权成功",
		"done.lead":         "该账号已授权给{platform}，可以关闭此页面。",
		"problem.title":     "无法继续",
		"problem.again":     "重新开始",
		"problem.reload":    "再试一次",
		"problem.parameter": "链接中的参数有误：",
		"problem.robot":     "此页面仅供管理员在浏览器中打开。",
		"problem.busy":      "访问过于频繁，请在 {wait} 秒后再试。",
		"problem.wechat":    "暂时无法从微信取得授权信息，请在 {wait} 秒后再试。原因：",
		"problem.state":     "此链接已过期，或不是在本浏览器中打开的。请重新开始授权。",
		"problem.code":      "授权码缺失、已使用或已过期。请重新开始授权。",
	}},
	{"en", map[string]string{
		"platform":          "the platform",
		"launch.title":      "Authorize {platform}",
		"launch.lead":       "The button leads to WeChat, where an admin of the official account or mini program can give the authorization.",
		"launch.button":     "Continue to WeChat",
		"launch.qr":         "Or scan this code with WeChat to authorize on the phone",
		"launch.phone":      "This is done inside WeChat. Copy the address, send it to yourself in a WeChat chat (such as File Transfer), and open it there.",
		"launch.copy":       "Copy the address",
		"launch.copied":     "Copied. Paste it in WeChat",
		"launch.here":       "Or continue here: WeChat will show a QR code to scan with another phone.",
		"leave.title":       "Going to WeChat",
		"leave.lead":        "WeChat's authorization page is about to open. If it does not, use the button.",
		"done.title":        "Authorized",
		"done.lead":         "The account has authorized {platform}. You can close this page.",
		"problem.title":     "This did not work",
		"problem.again":     "Start again",
		"problem.reload":    "Try again",
		"problem.parameter": "The link is wrong in its parameter ",
		"problem.robot":     "This page is for an admin with a browser.",
		"problem.busy":      "Too many visits. Try again in {wait} seconds.",
		"problem.wechat":    "WeChat cannot be asked at present. Try again in {wait} seconds. Reason: ",
		"problem.state":     "The link has expired, or was opened in another browser than it began in. Start again.",
		"problem.code":      "The authorization code is missing, spent or expired. Start again.",
	}},
}
