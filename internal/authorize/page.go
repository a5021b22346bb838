// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"bytes"
	"embed"
	"encoding/base64"
	"html/template"
	"image/png"
	"net/http"
	"strconv"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
	"golang.org/x/text/language"
)

//go:embed page.html
var assets embed.FS

var templates = template.Must(template.ParseFS(assets, "page.html"))

// page is the data for the template, which makes all pages. The template escapes
// all values, except QR.
type page struct {
	Kind   string // launch, done or problem
	Text   map[string]string
	Lang   string
	Link   string // WeChat's authorisation page
	Self   string // the launch page, for the QR code and to start again
	Mobile bool   // the browser is inside WeChat, so it needs no QR code
	// QR is an image as a data: URL. Its type tells the template that the URL is
	// safe; other data: URLs in the page would be replaced.
	QR    template.URL
	AppID string // of the account that was authorised

	Problem string // one of the constants below
	Detail  string // a parameter's name, seconds, or a slug of package problem
}

// The problems that a page can show. Each has a text in translations.
const (
	problemParameter = "parameter"
	problemRobot     = "robot"
	problemBusy      = "busy"
	problemWeChat    = "wechat"
	problemState     = "state"
	problemCode      = "code"
)

// secureHeaders sets the headers of an answer that has codes in it or in its
// URL: no cache, no script, no frame of another site (clickjacking), no search
// engine. Referrer-Policy lets the browser send the origin of the page, which
// WeChat checks, but not the query.
func secureHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex, nofollow")
}

// show writes a page in the visitor's language. The template is executed into
// memory first: if it fails, nothing is written and the error can still be
// answered.
func show(w http.ResponseWriter, r *http.Request, status int, p page) error {
	_, index, _ := languages.Match(acceptable(r)...)
	p.Lang, p.Text = translations[index].lang, translations[index].text
	if p.Kind == "launch" && !p.Mobile {
		p.QR = qrCode(p.Self)
	}
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, "page.html", p); err != nil {
		return err
	}
	secureHeaders(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	w.Header().Set("Vary", "Accept-Language")
	w.WriteHeader(status)
	_, err := out.WriteTo(w)
	return err
}

// showProblem writes a problem page without a link to start again.
func showProblem(w http.ResponseWriter, r *http.Request, status int, problem, detail string) error {
	return show(w, r, status, page{Kind: "problem", Problem: problem, Detail: detail})
}

// qrSide is the largest width and height of a QR code in pixels. Only a code
// with more modules (black or white squares) than that is larger.
const qrSide = 200

// qrCode returns an image of a link, to be scanned with a phone; "" if the link
// is too long for a QR code. Scanners need a white margin, which page.html
// adds.
func qrCode(link string) template.URL {
	code, err := qr.Encode(link, qr.M, qr.Auto)
	if err != nil {
		return ""
	}
	// Each module gets a whole number of pixels. Otherwise modules would differ
	// in width, and scanners can fail.
	modules := code.Bounds().Dx()
	side := modules * max(1, qrSide/modules)
	code, err = barcode.Scale(code, side, side)
	if err != nil {
		return ""
	}
	var picture bytes.Buffer
	if err := png.Encode(&picture, code); err != nil {
		return ""
	}
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(picture.Bytes()))
}

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
// are the Kind or problem of a page and the part of the page.
var translations = []struct {
	lang string
	text map[string]string
}{
	{"zh-CN", map[string]string{
		"launch.title":      "授权给第三方平台",
		"launch.lead":       "点击下面的按钮，前往微信公众平台完成授权。请由公众号或小程序的管理员操作。",
		"launch.button":     "前往微信授权",
		"launch.qr":         "或用微信扫描二维码，在手机上授权",
		"done.title":        "授权成功",
		"done.lead":         "该帐号已授权给第三方平台，可以关闭此页面。",
		"problem.title":     "无法继续",
		"problem.again":     "重新开始",
		"problem.parameter": "链接中的参数有误：",
		"problem.robot":     "此页面仅供管理员在浏览器中打开。",
		"problem.busy":      "访问过于频繁，请稍后再试。等待秒数：",
		"problem.wechat":    "暂时无法从微信取得授权信息，请稍后再试。原因：",
		"problem.state":     "此链接已过期，或不是在本浏览器中打开的。请重新开始授权。",
		"problem.code":      "授权码缺失、已使用或已过期。请重新开始授权。",
	}},
	{"en", map[string]string{
		"launch.title":      "Authorize the platform",
		"launch.lead":       "The button leads to WeChat, where an admin of the official account or mini program can authorize this platform.",
		"launch.button":     "Continue to WeChat",
		"launch.qr":         "Or scan this code with WeChat to authorize on the phone",
		"done.title":        "Authorized",
		"done.lead":         "The account has authorized the platform. You can close this page.",
		"problem.title":     "This did not work",
		"problem.again":     "Start again",
		"problem.parameter": "The link is wrong in its parameter ",
		"problem.robot":     "This page is for an admin with a browser.",
		"problem.busy":      "Too many visits. Try again after this many seconds: ",
		"problem.wechat":    "WeChat cannot be asked at present. Try again in a minute. Reason: ",
		"problem.state":     "The link has expired, or was opened in another browser than it began in. Start again.",
		"problem.code":      "The authorization code is missing, spent or expired. Start again.",
	}},
}
