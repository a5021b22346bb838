// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// ParseBaseURL reads a URL that is scheme and host alone. Its errors do not
// repeat the URL, whose user name or query may be a secret.
func ParseBaseURL(text string) (*url.URL, error) {
	const want = "want https://host or https://host:port"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "" || u.Hostname() == "":
		return nil, errors.New("not an absolute URL, " + want)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("a URL that is neither https nor http, " + want)
	case u.User != nil:
		return nil, errors.New("a URL with a user name, " + want)
	case u.Path != "" && u.Path != "/" || strings.ContainsAny(text, "?#"):
		return nil, errors.New("a URL with something after the host, " + want)
	}
	return u, nil
}

// BaseURL checks a URL that is scheme and host alone.
func BaseURL(text string) error {
	_, err := ParseBaseURL(text)
	return err
}

// IsLoopback reports whether a host is this machine by its looks.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ParseDeliverURL reads a URL to deliver to. Its error does not repeat it.
func ParseDeliverURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errors.New("not a URL to deliver to: want http(s)://host[:port]/path, without a user") // whose password must not show
	}
	return u, nil
}

// DeliverURL checks a URL to deliver to.
func DeliverURL(text string) error {
	_, err := ParseDeliverURL(text)
	return err
}

// IsPrivate reports whether a host is ours by its looks: loopback, a private
// address, or a name without a dot such as containers have.
func IsPrivate(host string) bool {
	ip := net.ParseIP(host)
	return IsLoopback(host) || ip != nil && ip.IsPrivate() || ip == nil && !strings.Contains(host, ".")
}
