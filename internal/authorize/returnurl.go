// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"errors"
	"net/url"
	"strings"
)

// ReturnURL is one address, or all that begin with one.
type ReturnURL struct {
	scheme, host, path string
	prefix             bool
}

// ParseReturnURL reads one of the addresses that an operator allows. It does not repeat the address in its error: its user name or
// query may be a secret.
func ParseReturnURL(text string) (ReturnURL, error) {
	exact, prefix := strings.CutSuffix(text, "*")
	u, err := url.Parse(exact)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		(u.Scheme != "https" && u.Scheme != "http") || (prefix && !strings.HasSuffix(u.Path, "/")) {
		return ReturnURL{}, errors.New("want https://host/path, or https://host/path/* for all below it, without user name and query")
	}
	return ReturnURL{u.Scheme, u.Host, u.Path, prefix}, nil
}

// mayReturnTo reports whether an admin may be sent to the address. Hosts are
// compared after parsing: https://good@evil/ is evil's, and a backslash or a
// dot segment is a trick.
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
