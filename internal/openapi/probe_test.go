// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
)

// host answers as a host of WeChat's that is so far ahead, after some time.
type host struct {
	ahead, delay time.Duration
	undated      bool
	header, body string
	status       int
}

func (h host) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get(openapi.HopHeader) == "" || r.URL.RawQuery != "" {
		panic("a probe has no token, and says that a gateway makes it")
	}
	time.Sleep(h.delay / 2)
	header := http.Header{}
	if !h.undated {
		header.Set("Date", time.Now().Add(h.ahead).UTC().Format(http.TimeFormat))
	}
	if h.header != "" {
		header.Set(h.header, "loop")
	}
	time.Sleep(h.delay / 2)
	status := http.StatusOK
	if h.status != 0 {
		status = h.status
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(h.body))}, nil
}

const refusesProbe = `{"errcode":41001,"errmsg":"access_token missing"}`

func TestProbeTellsTheTimeOfAHost(t *testing.T) {
	for _, h := range []host{
		{body: refusesProbe}, {body: refusesProbe, ahead: 15 * time.Minute}, {body: refusesProbe, ahead: -15 * time.Minute},
		{body: refusesProbe, ahead: 3 * time.Second, delay: 4 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			all := (&openapi.Client{Transport: h}).Probe(t.Context())
			if len(all) != 2 || all[0].Host != "api.weixin.qq.com" || all[1].Host != "api2.weixin.qq.com" {
				t.Fatalf("%+v: %+v", h, all)
			}
			for _, p := range all {
				if off := (p.Ahead - h.ahead).Abs(); p.Err != nil || p.Is != openapi.WeChat || !p.Dated || off > time.Second {
					t.Errorf("%+v: %+v", h, p)
				}
			}
		})
	}
}

func TestProbeTellsWhoAnswers(t *testing.T) {
	for _, row := range []struct {
		host
		want openapi.Nature
	}{
		{host{body: refusesProbe, undated: true}, openapi.WeChat},
		{host{body: refusesProbe, header: openapi.GatewayHeader, status: http.StatusLoopDetected}, openapi.Gateway},
		{host{body: "<html>Sign in to the network</html>"}, openapi.Foreign},
		{host{body: `{"errcode":0,"errmsg":"ok"}`}, openapi.Foreign},
		{host{body: refusesProbe, status: http.StatusBadGateway}, openapi.Foreign},
		{host{}, openapi.Foreign},
	} {
		for _, p := range (&openapi.Client{Transport: row.host}).Probe(t.Context()) {
			if p.Err != nil || p.Is != row.want || p.Dated == row.undated {
				t.Errorf("%+v: %+v", row, p)
			}
		}
	}
}

// A host that hangs holds up neither the caller nor the look at the other.
func TestProbeOfHostsThatDoNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		all := (&openapi.Client{Transport: hanging{}, Hosts: []string{"https://hangs.test", "https://user:hidden@answers.test/base"}}).Probe(t.Context())
		if all[0].Err == nil || all[1].Err != nil || all[1].Host != "answers.test" || time.Since(began) > 5*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), all)
		}
	})
}

type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "hangs.test" {
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	}
	return host{body: refusesProbe}.RoundTrip(r)
}

// A name that leads elsewhere is met by a certificate of that other host.
func TestProbeOfAHostWithTheCertificateOfAnother(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains that we do not trust it
	server.StartTLS()
	defer server.Close()
	all := (&openapi.Client{Transport: &http.Transport{DisableKeepAlives: true}, Hosts: []string{server.URL}}).Probe(t.Context())
	if all[0].Err == nil || !all[0].MisledTLS() || strings.Contains(all[0].Err.Error(), "get_api_domain_ip") {
		t.Errorf("%+v", all)
	}
}
