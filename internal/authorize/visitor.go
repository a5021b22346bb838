// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// robots matches the User-Agent of programs that fetch every link, such as those
// that make previews in chats. CUBOT is none: it makes phones.
var robots = regexp.MustCompile(`(?i)(^|[^u])bot\b|spider|crawl|preview|slurp|facebookexternalhit`)

func isRobot(r *http.Request) bool { return robots.MatchString(r.UserAgent()) }

// device is where a browser runs, which decides how its user gets to WeChat.
type device int

const (
	desktop      device = iota // he scans a QR code with his phone
	phone                      // he must change to WeChat on the same phone
	insideWeChat               // he is there
)

// deviceOf tells the device by what the browser sends. All browsers of phones have
// "Mobi" in their User-Agent, and those made from Chromium also send
// Sec-CH-UA-Mobile, over https alone
// (developer.mozilla.org/docs/Web/HTTP/Guides/Browser_detection_using_the_user_agent).
func deviceOf(r *http.Request) device {
	switch agent := r.UserAgent(); {
	case strings.Contains(agent, "MicroMessenger"):
		return insideWeChat
	case strings.Contains(agent, "Mobi"), r.Header.Get("Sec-CH-UA-Mobile") == "?1":
		return phone
	}
	return desktop
}

// fromOurPage reports whether a form was sent by a page of this server. The
// browser says so itself (Sec-Fetch-Site), or an older one says from which origin
// the form came. What sends neither is no browser and has nobody's cookies. self
// has the host that browsers see, which may be another one than the request's.
func fromOurPage(r *http.Request, self string) bool {
	ours, err := url.Parse(self)
	if err != nil {
		return false
	}
	seen := &http.Request{Method: r.Method, Header: r.Header, URL: r.URL, Host: ours.Host}
	return new(http.CrossOriginProtection).Check(seen) == nil
}
