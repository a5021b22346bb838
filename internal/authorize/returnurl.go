// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"errors"
	"net/url"
	"strings"
)

// ReturnURL is a rule of the operator: one URL, or all URLs whose path begins
// with the path of the rule.
type ReturnURL struct {
	scheme, host, path string // host with the port, if there is one
	prefix             bool   // path ends in "/", and every path below it matches
}

// ParseReturnURL reads a rule: https://host/path, or https://host/path/* for
// all URLs below the path. A prefix must end at a "/": otherwise /done* would
// also allow /done-other. The error does not contain the text, because a user
// name or a query in it may be a secret.
func ParseReturnURL(text string) (ReturnURL, error) {
	exact, prefix := strings.CutSuffix(text, "*")
	u, err := url.Parse(exact)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		(u.Scheme != "https" && u.Scheme != "http") || (prefix && !strings.HasSuffix(u.Path, "/")) {
		return ReturnURL{}, errors.New("want https://host/path, or https://host/path/* for all below it, without user name and query")
	}
	return ReturnURL{u.Scheme, u.Host, u.Path, prefix}, nil
}

// mayReturnTo reports whether an admin may be sent to the URL. A visitor
// chooses it, so without this check the callback would be an open redirect. The
// parts of the URL are compared, never its text: https://good@evil/ is a URL of
// the host evil. A backslash is refused, because browsers read it as "/". The
// segments "." and ".." are refused, also if they are escaped, because browsers
// remove them and leave the allowed path. The query is free. The URL has at
// most 1024 bytes, since it becomes part of the state.
func (p *Platform) mayReturnTo(text string) bool {
	u, err := url.Parse(text)
	if err != nil || len(text) > 1024 || u.User != nil || u.Fragment != "" || strings.Contains(text, `\`) {
		return false
	}
	for _, segment := range strings.Split(u.Path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	for _, allowed := range p.ReturnURLs {
		if u.Scheme == allowed.scheme && u.Host == allowed.host &&
			(u.Path == allowed.path || allowed.prefix && strings.HasPrefix(u.Path, allowed.path)) {
			return true
		}
	}
	return false
}
