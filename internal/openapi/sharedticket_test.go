// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

func TestSharedTicket(t *testing.T) {
	const token = "REALTOKEN-A-0123456789+abcdef-0123456789"
	var sent *http.Request
	c := &openapi.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		sent = r
		return answers(200, `{"errcode":0,"errmsg":"ok","ticket":"bxLdikRXVbTPdHSM05e5u5","expires_in":"7200"}`)(r)
	})}
	got, err := c.SharedTicket(t.Context(), openapi.TicketCard, secret.New(token))
	if err != nil || got.Value.Reveal() != "bxLdikRXVbTPdHSM05e5u5" || got.Lifetime != 2*time.Hour {
		t.Errorf("%v for %v, %v", got.Value.Reveal(), got.Lifetime, err)
	}
	if q := sent.URL.Query(); sent.Method != http.MethodGet || sent.URL.Path != "/cgi-bin/ticket/getticket" ||
		len(q) != 2 || q.Get("type") != "wx_card" || q.Get("access_token") != token {
		t.Errorf("sent %s %s", sent.Method, sent.URL)
	}
}

// A ticket is served to all for hours. One whose life is not known is none.
func TestSharedTicketsThatCannotBeBelieved(t *testing.T) {
	const token = "REALTOKEN-A-0123456789_abcdef-0123456789"
	for _, body := range []string{
		``, `ok`, `[]`, `{`, `{}`, `{"errcode":0,"errmsg":"ok"}`,
		`{"expires_in":7200}`, `{"ticket":"","expires_in":7200}`, `{"ticket":null,"expires_in":7200}`, `{"ticket":7,"expires_in":7200}`,
		`{"ticket":{"a":"b"},"expires_in":7200}`,
		`{"ticket":"t"}`, `{"ticket":"t","expires_in":null}`, `{"ticket":"t","expires_in":0}`, `{"ticket":"t","expires_in":-1}`,
		`{"ticket":"t","expires_in":"soon"}`, `{"ticket":"t","expires_in":[7200]}`, `{"ticket":"t","expires_in":7200.5}`,
		`{"ticket":"t","expires_in":86401}`, `{"ticket":"t","expires_in":99999999999999}`,
		`{"ticket":"` + strings.Repeat("t", 1025) + `","expires_in":7200}`,
		`{"ticket":"` + token + `","expires_in":7200}`, `{"ticket":"/x?access_token=` + token + `&type=jsapi","expires_in":7200}`,
	} {
		c := &openapi.Client{Transport: answers(200, body)}
		got, err := c.SharedTicket(t.Context(), openapi.TicketJSAPI, secret.New(token))
		var outage *openapi.Outage
		if !errors.As(err, &outage) || got.Value != nil {
			t.Errorf("%.60s: %v", body, err)
		} else if strings.Contains(err.Error(), token) {
			t.Errorf("%.60s: the error repeats the token", body)
		}
	}
}
