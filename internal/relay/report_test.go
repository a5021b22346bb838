// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// The time that WeChat takes is that of both attempts, without what the gateway does
// between them; and what is known of the first attempt is not said of the second.
func TestReportOfTwoAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := Report{Began: time.Now()}
		time.Sleep(time.Hour) // nobody waits for WeChat yet
		r.begin()
		time.Sleep(2 * time.Second)
		r.begin() // the next host, within the attempt
		time.Sleep(time.Second)
		r.answered(200, 40001, []byte(`{"errcode":40001,"errmsg":"invalid credential rid: 1a-2-3"}`))
		r.end()
		time.Sleep(time.Hour) // a renewal
		if r.RID != "1a-2-3" {
			t.Errorf("the rid is %q", r.RID)
		}
		r.again()
		r.begin()
		time.Sleep(4 * time.Second)
		r.answered(502, 0, []byte("<html>"))
		r.end()
		r.end()
		want := Report{Began: r.Began, Repeated: true, First: 40001, WeChat: 502, Upstream: 7 * time.Second}
		if r != want {
			t.Errorf("%+v, want %+v", r, want)
		}
	})
}

// Of WeChat's text only what has the form of an id or of an address is kept, and an
// address only of refusals that are about one.
func TestReportKeepsNothingOfTheText(t *testing.T) {
	for _, row := range []struct {
		errcode int
		text    string
		rid     string
		ip      netip.Addr
	}{
		{61004, "access clientip is not registered requestIP: 192.0.2.7 rid: 5f2a-1-2", "5f2a-1-2", netip.MustParseAddr("192.0.2.7")},
		{40164, "invalid ip 192.0.2.1 ipv6 ::ffff:192.0.2.1, not in whitelist", "", netip.MustParseAddr("192.0.2.1")},
		{45009, "192.0.2.7", "", netip.Addr{}},
		{40003, "rid: secret-text-here", "", netip.Addr{}},
		{0, "rid: 5f2a-1-2", "", netip.Addr{}},
	} {
		var r Report
		r.answered(200, row.errcode, []byte(row.text))
		if r.RID != row.rid || r.IP != row.ip {
			t.Errorf("%d %s: rid %q, address %v", row.errcode, row.text, r.RID, r.IP)
		}
	}
}
