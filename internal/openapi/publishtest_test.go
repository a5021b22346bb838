// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// The text is that of WeChat's page; its parsers take \u0026 literally.
func TestReturnCode(t *testing.T) {
	const token = "REALTOKEN-A-0123456789_abcdef-0123456789"
	var path, body string
	c := &openapi.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		content, _ := io.ReadAll(r.Body)
		path, body = r.URL.RequestURI(), string(content)
		return answers(200, `{"errcode":0,"errmsg":"ok"}`)(r)
	})}
	if err := c.ReturnCode(t.Context(), secret.New(token), "oTester", secret.New("queryauthcode@@@a&b")); err != nil {
		t.Error(err)
	}
	if want := "/cgi-bin/message/custom/send?access_token=" + token; path != want {
		t.Errorf("sent to %s", path)
	}
	if want := `{"msgtype":"text","text":{"content":"queryauthcode@@@a&b_from_api"},"touser":"oTester"}`; body != want {
		t.Errorf("sent %s", body)
	}
}

// Whatever repeats the request, the error shows neither the token nor the code.
func TestReturnCodeIsInNoError(t *testing.T) {
	const token, code = "REALTOKEN-A-0123456789_abcdef-0123456789", "queryauthcode@@@0123456789abcdef0123456789"
	for _, text := range append(echoes(code), code+"_from_api", token) {
		for name, transport := range map[string]http.RoundTripper{
			"a failure": roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("malformed HTTP response " + text) }),
			"a refusal": answers(200, `{"errcode":45015,"errmsg":"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)+`"}`),
			"a page":    answers(502, text),
		} {
			err := (&openapi.Client{Transport: transport}).ReturnCode(t.Context(), secret.New(token), "oTester", secret.New(code))
			if err == nil || strings.Contains(err.Error(), code[16:]) || strings.Contains(err.Error(), token) {
				t.Errorf("%s with %.30s: %v", name, text, err)
			}
		}
	}
}
