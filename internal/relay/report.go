// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

// Report is what came of a call. Forward fills it in; whoever answers a call
// without Forward does so himself. It belongs to the goroutine of the request. It
// has facts alone: nothing of WeChat's errmsg but the two that are no text.
type Report struct {
	Began time.Time // when the call came

	Status int   // HTTP status of the answer to the caller, 0 if none was written
	Bytes  int64 // of the body of that answer, as far as it was written

	// Problem is the gateway's own answer; nil if it has not refused the call.
	Problem *problem.Problem
	// Gone says that the caller did not wait for the answer.
	Gone bool
	// Repeated says that the call was made once more, with another token.
	Repeated bool

	// WeChat is the HTTP status of WeChat's last answer, 0 if there was none, and
	// Errcode the errcode in it, 0 for none. First is the errcode of the answer before
	// that, with which WeChat has rejected the token; 0 if there was none.
	WeChat, Errcode, First int
	// RID is WeChat's id of the last answer, and IP the gateway's address as WeChat has
	// seen it, for the errcodes 40164 and 61004; zero where the answer does not say.
	RID string
	IP  netip.Addr

	// Upstream is how long WeChat was waited for: of each attempt the time from its
	// start to the last byte of its answer. A caller that reads or sends slowly
	// makes it longer.
	Upstream time.Duration
	sent     time.Duration // from Began to the start of the attempt in progress; 0 if there is none
}

// begin notes that an attempt begins, if none is in progress.
func (r *Report) begin() {
	if r.sent == 0 {
		r.sent = max(time.Since(r.Began), 1)
	}
}

// end notes that the attempt in progress is over. It may be called again.
func (r *Report) end() {
	if r.sent != 0 {
		r.Upstream += time.Since(r.Began) - r.sent
		r.sent = 0
	}
}

// again notes that the call is made once more.
func (r *Report) again() {
	r.Repeated, r.First = true, r.Errcode
	r.WeChat, r.Errcode, r.RID, r.IP = 0, 0, "", netip.Addr{}
}

// answered notes what an answer of WeChat says of itself. Begin are its first bytes;
// they are read only if it has an errcode.
func (r *Report) answered(status, errcode int, begin []byte) {
	r.WeChat, r.Errcode = status, errcode
	if errcode == 0 {
		return
	}
	text := string(begin)
	r.RID = openapi.RID(text)
	if errcode == 40164 || errcode == 61004 {
		r.IP = openapi.Addr(text)
	}
}

// Refused notes the errcode with which WeChat has refused a call that the gateway has
// made in the place of the application.
func (r *Report) Refused(refusal *openapi.Refusal) {
	r.WeChat, r.Errcode, r.RID, r.IP = http.StatusOK, refusal.Code, refusal.RID, refusal.IP
}

// Wrote notes the gateway's own answer.
func (r *Report) Wrote(status, bytes int) { r.Status, r.Bytes = status, int64(bytes) }
