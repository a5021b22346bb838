// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// ParseBaseURL parses a URL that consists of scheme, host and optional port; a
// single slash at the end is accepted. Its errors do not quote the URL, which
// may contain a password or a token.
func ParseBaseURL(text string) (*url.URL, error) {
	const want = "want https://host or https://host:port"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "" || u.Hostname() == "":
		return nil, errors.New("not an absolute URL, " + want)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("a URL that is neither https nor http, " + want)
	case !possiblePort(u):
		return nil, errors.New("a URL with a port that is not between 1 and 65535, " + want)
	case u.User != nil:
		return nil, errors.New("a URL with a user name, " + want)
	case u.Path != "" && u.Path != "/" || strings.ContainsAny(text, "?#"):
		return nil, errors.New("a URL with something after the host, " + want)
	}
	return u, nil
}

// BaseURL checks a URL that consists of scheme and host, see ParseBaseURL.
func BaseURL(text string) error {
	_, err := ParseBaseURL(text)
	return err
}

// IsLoopback reports whether a host, without its port, is written as this
// machine: localhost or a loopback address. It does not resolve names.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ParseDeliverURL parses a URL for deliveries. A URL with a user name is
// rejected, because a password could appear in errors and logs. $APPID$ may stand in
// the path and in the query: in the host it could lead to any server. The error does
// not quote the URL.
func ParseDeliverURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil && strings.Contains(strings.ToUpper(u.Host), "$APPID$") {
		return nil, errors.New("$APPID$ in the host: it is filled in only in the path and in the query")
	}
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errors.New("not a URL to deliver to: want http(s)://host[:port]/path, without a user") // whose password must not show
	}
	if strings.Count(strings.ToUpper(text), "$APPID$") > strings.Count(text, "$APPID$") {
		return nil, errors.New("write $APPID$ in capitals, else it is not filled in")
	}
	if !possiblePort(u) {
		return nil, errors.New("not a URL to deliver to: the port is not between 1 and 65535")
	}
	return u, nil
}

// possiblePort reports whether the port in a URL, if there is one, can be connected to.
// Package net/url makes sure only that it consists of digits.
func possiblePort(u *url.URL) bool {
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return u.Port() == "" || err == nil && port > 0
}

// DeliverURL checks a URL for deliveries, see ParseDeliverURL.
func DeliverURL(text string) error {
	_, err := ParseDeliverURL(text)
	return err
}

// IsPrivate reports whether a host, without its port, is written as one in the
// operator's own network: loopback, a private address, or a name without a dot,
// as containers have. It does not resolve names. It only decides about a
// warning that something is sent unencrypted.
func IsPrivate(host string) bool {
	ip := net.ParseIP(host)
	return IsLoopback(host) || ip != nil && ip.IsPrivate() || ip == nil && !strings.Contains(host, ".")
}
