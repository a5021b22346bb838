// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"slices"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// Withheld stands in the place of a credential in an answer that is passed on.
// An empty credential stays empty: WeChat says so that there is none.
const Withheld = `"withheld"`

// Credentials are the names, in lower case, of what holds a credential of the
// platform's in any request to the API or answer of it.
var Credentials = []string{
	"component_access_token", "authorizer_access_token", "access_token",
	"authorizer_refresh_token", "refresh_token",
	"component_verify_ticket", "component_appsecret", "component_secret", "appsecret", "secret",
	"authorization_code", "auth_code", "pre_auth_code",
}

// What is withheld from the answers to calls of applications that were made with
// the token of a component: Unmistakable are the names, in lower case, that mean a
// credential of the platform in any answer; AllTokens are also those that mean
// something else in answers that are known.
var (
	Unmistakable = []string{
		"component_access_token", "authorizer_access_token", "authorizer_refresh_token",
		"component_verify_ticket", "component_appsecret", "appsecret", "authorization_code",
	}
	AllTokens = append(slices.Clone(Unmistakable), "access_token", "refresh_token")
)

// maxWithin is how many documents may lie within each other, as strings.
const maxWithin = 4

// Withhold returns a JSON answer with Withheld in the place of all members with
// one of the names, at any depth, and in documents that are a string of it. All
// other bytes stay. If the answer is not JSON to its end, there is an error.
func Withhold(answer []byte, names []string) ([]byte, error) {
	return withholdWithin(answer, names, 0)
}

func withholdWithin(answer []byte, names []string, depth int) ([]byte, error) {
	edited, err := rewrite.Edit(answer, func(name string, value []byte) []byte {
		if slices.Contains(names, name) && !isEmpty(value) {
			return []byte(Withheld)
		}
		return nil
	})
	if err != nil || depth == maxWithin {
		return edited, err
	}
	return rewrite.EditStrings(edited, func(text string) (string, bool) {
		if begin := strings.TrimLeft(text, " \t\r\n"); begin == "" || begin[0] != '{' && begin[0] != '[' {
			return "", false
		}
		within, err := withholdWithin([]byte(text), names, depth+1)
		return string(within), err == nil && string(within) != text
	}), nil
}

// isEmpty reports whether a value says that there is none.
func isEmpty(value []byte) bool {
	switch string(value) {
	case `""`, "null", "[]", "{}":
		return true
	}
	return false
}

// sent returns the credentials that a request holds.
func sent(token secret.Secret, body Params) []rewrite.Token {
	credentials := []rewrite.Token{rewrite.TokenOf(token.Reveal())}
	for name, value := range body {
		if text, ok := value.(string); ok && slices.Contains(Credentials, name) {
			credentials = append(credentials, rewrite.TokenOf(text))
		}
	}
	return credentials
}

// conceal returns an answer with asterisks in the place of the credentials that
// were sent, in whatever string it repeats them and however they are written there.
// WeChat does not repeat them, but something on the way may.
func conceal(answer []byte, credentials []rewrite.Token) []byte {
	return rewrite.EditStrings(answer, func(text string) (string, bool) {
		concealed := text
		for _, credential := range credentials {
			concealed, _ = credential.Blank(concealed)
		}
		return concealed, concealed != text
	})
}

// withhold returns an answer with Withheld in the place of its credentials, and
// without what repeats those that were sent, to be passed on to a client with
// other values; nil where that is not possible.
func withhold(answer []byte, credentials []rewrite.Token) []byte {
	edited, err := Withhold(answer, Credentials)
	if err != nil {
		return nil
	}
	return conceal(edited, credentials)
}
