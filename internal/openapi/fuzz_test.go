// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
)

// FuzzTestToken answers any bytes to the question whether a token is alive. It
// is alive only for an answer that lists addresses or has an errcode, and dead only
// for one that says so with one of four errcodes: a wrong "dead" would renew without
// need, a wrong "alive" would leave an account without a token.
func FuzzTestToken(f *testing.F) {
	for _, text := range []string{
		`{"ip_list":["101.226.62.77"]}`, `{"ip_list":null}`, `{"ip_list":[],"errcode":0}`, `{"errcode":40001,"errmsg":"invalid credential rid: 5f2a-1-2"}`, `{"errcode":"42001"}`, `{"errcode":48001}`,
		`{"errcode":-1,"errmsg":"system error"}`, `{}`, `[]`, `null`, "", "<html>40001</html>", `{"ERRCODE":40014}`, `{"errcode":40001,"errcode":0}`, `{"errcode":4e4}`, `{"errcode":40001`, "\ufeff{}", `{"a":"\u0000` + "\x00" + `","errcode":42006}`,
		`{"a":{"errcode":40001},"ip_list":[]}`, `{"errmsg":{"errcode":40001},"errcode":0}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		client := &openapi.Client{Transport: answers(200, string(body))}
		err := client.TestToken(t.Context(), componentToken)
		var refusal *openapi.Refusal
		names := bytes.Contains(bytes.ToLower(body), []byte("errcode")) || bytes.Contains(body, []byte(`\u`))
		switch {
		case err == nil:
			if !names && !bytes.Contains(bytes.ToLower(body), []byte("ip_list")) {
				t.Errorf("alive by %q", body)
			}
		case errors.As(err, &refusal):
			if !names || !bytes.Contains(body, []byte(strconv.Itoa(refusal.Code))) {
				t.Errorf("errcode %d by %q", refusal.Code, body)
			}
		case !errors.As(err, new(*openapi.Outage)):
			t.Errorf("error %T", err)
		}
	})
}

var wholeRID = regexp.MustCompile(`^[0-9a-f]{1,8}(-[0-9a-f]{1,8}){2}$`)

// FuzzRID reads the id of a call out of any answer. It stands in logs and in
// errors, so nothing but such an id may pass for one. An address that WeChat names
// for the white list stands in the log as well.
func FuzzRID(f *testing.F) {
	for _, text := range []string{
		"invalid credential, access_token is invalid or not latest, rid: 5f2a1b3c-0a1b2c3d-4e5f6a7b", "rid: 1-2-3", "rid: 1-2-3-4", "rid: 78_abc-2-3", "rid: 123456789-1-1", "RID: 1-2-3", "rid:1-2-3", "rid: a-b-cg rid: 1-2-3",
		"access clientip is not registered requestIP: 192.0.2.1", "invalid ip 192.0.2.1 ipv6 ::ffff:192.0.2.1, not in whitelist rid: 5f2a-1-2", "ip ::1.2.3.4.", "ip fe80::1%eth0", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if rid := openapi.RID(text); rid != "" && (!wholeRID.MatchString(rid) || !strings.Contains(text, "rid: "+rid)) {
			t.Errorf("rid %q in %q", rid, text)
		}
		client := &openapi.Client{Transport: answers(200, `{"errcode":61004,"errmsg":`+strconv.QuoteToASCII(text)+`}`)}
		var refusal *openapi.Refusal
		if err := client.TestToken(t.Context(), componentToken); errors.As(err, &refusal) && refusal.IP.IsValid() {
			// IPv4 in IPv6 is told as IPv4, and written as it stands there.
			if shown := refusal.IP.String(); refusal.IP.Is4() && !strings.Contains(text, shown) && !strings.Contains(strings.ToLower(text), ":") {
				t.Errorf("address %s in %q", shown, text)
			}
			if refusal.IP.Zone() != "" {
				t.Errorf("address %v has a zone", refusal.IP)
			}
		}
	})
}
