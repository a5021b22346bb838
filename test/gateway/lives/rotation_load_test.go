// SPDX-License-Identifier: Apache-2.0

package lives_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// underLoad runs steps while twenty applications call and WeChat pushes, and
// fails if anything of that did.
func (r *rotation) underLoad(steps func()) {
	r.Helper()
	var ctx context.Context
	ctx, r.stop = context.WithCancel(r.Context())
	defer r.work.Wait() // also after a t.Fatal in steps
	defer r.stop()
	accounts := []string{gwtest.OfficialAccount, gwtest.MiniProgram}
	for i := range 8 {
		r.work.Go(func() { r.sdk(ctx, accounts[i%2]) })
		r.work.Go(func() { r.handWritten(ctx, accounts[i%2]) })
	}
	for range 4 {
		r.work.Go(func() { r.console(ctx) })
	}
	r.work.Go(func() { r.push(ctx) })
	r.served()
	steps()
	r.served()
	r.stop()
	r.work.Wait()
	close(r.faults)
	for fault := range r.faults {
		r.Error(fault)
	}
	if sent := int64(r.WeChat.Count(gwtest.SendPath)); sent != r.sent.Load() {
		r.Errorf("WeChat saw %d messages, %d were answered", sent, r.sent.Load())
	}
	pushed := r.pushes.Load()
	r.until("every message has arrived once, and every event", func() bool {
		for n := range pushed {
			arrived := r.app.Count(fmt.Sprintf("<Serial>%d</Serial>", n))
			if n%3 == 1 && arrived != 1 || n%3 == 2 && arrived == 0 {
				return false
			}
		}
		return true
	})
	r.Logf("%d calls, %d pushes, %d gateway tokens refused and fetched again", r.calls.Load(), pushed, r.renewed.Load())
}

// served waits until every application has called, and WeChat has pushed
// everything, under the configuration in force.
func (r *rotation) served() {
	r.Helper()
	calls, pushes := r.calls.Load()+60, r.pushes.Load()+6
	r.until("calls and pushes go on", func() bool {
		return r.calls.Load() >= calls && r.pushes.Load() >= pushes || len(r.faults) > 0
	})
}

// fault notes what must not happen.
func (r *rotation) fault(what string, answer gwtest.Reply, err error) {
	r.stop()
	r.faults <- fmt.Sprintf("%s: HTTP %d %s %v", what, answer.Status, answer.Body, err)
}

// called counts a call, and reports whether it went well.
func (r *rotation) called(what string, answer gwtest.Reply, err error) bool {
	time.Sleep(20 * time.Millisecond) // as fast as applications are, not machines
	if err != nil || answer.Status != http.StatusOK || answer.ErrCode != 0 {
		r.fault(what, answer, err)
		return false
	}
	r.calls.Add(1)
	return true
}

// sdk calls with a gateway token. It fetches another one when its own is
// refused, and then repeats the call once.
func (r *rotation) sdk(ctx context.Context, appid string) {
	fetch := func() string {
		answer, err := r.Try(r.client, http.MethodGet, gwtest.TokenPath(appid, r.secret.Load().(string)), "", nil)
		if answer.Token == "" {
			r.fault("fetching a gateway token", answer, err)
		}
		return answer.Token
	}
	for token := fetch(); ctx.Err() == nil; {
		answer, err := r.Try(r.client, http.MethodPost, gwtest.SendPath+"?access_token="+token, textMessage, nil)
		if answer.ErrCode == 40001 || answer.ErrCode == 42001 {
			r.renewed.Add(1)
			token = fetch()
			answer, err = r.Try(r.client, http.MethodPost, gwtest.SendPath+"?access_token="+token, textMessage, nil)
		}
		if !r.called("SDK", answer, err) {
			return
		}
		r.sent.Add(1)
	}
}

const textMessage = `{"touser":"o1","msgtype":"text","text":{"content":"x"}}`

// handWritten calls with a client secret.
func (r *rotation) handWritten(ctx context.Context, appid string) {
	for ctx.Err() == nil {
		answer, err := r.Try(r.client, http.MethodPost, gwtest.SendPath, textMessage, gwtest.Bearer(r.secret.Load().(string), appid))
		if !r.called("hand-written caller", answer, err) {
			return
		}
		r.sent.Add(1)
	}
}

// console makes calls of the component's level.
func (r *rotation) console(ctx context.Context) {
	for ctx.Err() == nil {
		answer, err := r.Try(r.client, http.MethodGet, gwtest.ComponentPath, "", gwtest.Bearer(gwtest.PlatformSecret, ""))
		if !r.called("console", answer, err) {
			return
		}
	}
}

// push pushes tickets, messages and events in turn, numbered.
func (r *rotation) push(ctx context.Context) {
	for n := int64(0); ctx.Err() == nil; n++ {
		var err error
		serial := fmt.Sprintf("<Serial>%d</Serial>", n)
		switch n % 3 {
		case 0:
			err = r.WeChat.PushTicket(r.Context())
		case 1:
			_, err = r.WeChat.Push(r.Context(), r.WeChat.Text(gwtest.OfficialAccount, "o1", serial))
		case 2:
			err = r.WeChat.PushEvent(r.Context(), "notify_3rd_wxa_auth", "<appid>"+gwtest.MiniProgram+"</appid>"+serial)
		}
		if err != nil {
			r.fault("push", gwtest.Reply{}, err)
			return
		}
		r.pushes.Add(1)
		time.Sleep(20 * time.Millisecond)
	}
}
