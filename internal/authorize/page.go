// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"html/template"
	"image/png"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
)

//go:embed page.html
var assets embed.FS

var templates = template.Must(template.ParseFS(assets, "page.html"))

// page is the data for the template, which makes all pages. The template escapes
// all values, except QR.
type page struct {
	Kind     string // launch, leave, done or problem
	Platform string // its display_name, if it has one
	Link     string // WeChat's authorisation page
	Self     string // the launch page, for a phone and to start again
	Device   device
	AppID    string // of the account that was authorised

	Problem string        // one of the constants below
	Detail  string        // a parameter's name, or a slug of package problem
	Wait    time.Duration // until it makes sense to try again; 0 if it is not known
	Reload  bool          // to try again, the same address is opened

	// The fields below are set by show.

	Lang  string
	Nonce string // permits the scripts of this page, and no others
	// QR is an image as a data: URL. Its type tells the template that the URL is
	// safe; other data: URLs in the page would be replaced.
	QR   template.URL
	text map[string]string
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

// patience is when a visitor may try again if WeChat could not be asked.
const patience = time.Minute

// Say returns a text in the language of the page.
func (p page) Say(key string) string {
	name := p.Platform
	if name == "" {
		name = p.text["platform"]
	}
	return strings.NewReplacer("{platform}", name, "{wait}", strconv.Itoa(seconds(p.Wait))).Replace(p.text[key])
}

// OnPhone reports whether the page is shown on a phone outside WeChat.
func (p page) OnPhone() bool { return p.Device == phone }

// seconds returns how many seconds to wait, rounded up: at least 2, because the
// texts are in the plural.
func seconds(wait time.Duration) int { return max(2, int(math.Ceil(wait.Seconds()))) }

// secureHeaders sets the headers of an answer that has codes in it or in its
// URL: no cache, no scripts but those named, no form to another site, no frame of
// another site (clickjacking), no search engine. Referrer-Policy lets the browser
// send the origin of the page, which WeChat checks, but not the query.
func secureHeaders(w http.ResponseWriter, scripts string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src "+scripts+
		"; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex, nofollow")
}

// show writes a page in the visitor's language. The template is executed into
// memory first: if it fails, nothing is written and the error can still be
// answered.
func show(w http.ResponseWriter, r *http.Request, status int, p page) error {
	_, index, _ := languages.Match(acceptable(r)...)
	p.Lang, p.text, p.Nonce = translations[index].lang, translations[index].text, rand.Text()
	if p.Kind == "launch" && p.Device == desktop {
		p.QR = qrCode(p.Self)
	}
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, "page.html", p); err != nil {
		return err
	}
	secureHeaders(w, "'nonce-"+p.Nonce+"'")
	if p.Wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(seconds(p.Wait)))
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	w.Header().Set("Vary", "Accept-Language")
	w.WriteHeader(status)
	_, err := out.WriteTo(w)
	return err
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
