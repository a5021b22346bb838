// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"fmt"
	"testing"
)

// The real token dies behind the gateway's back, as when a second process
// renews it: the message arrives all the same, and once.
func doesNotNoticeKilledToken(t *testing.T, r *run) {
	before, err := r.caller.token()
	ok(t, err)
	r.WeChat.KillTokens(r.driver.account)
	if r.sender != nil {
		ok(t, r.sender.send(text))
		r.wantOneMessage(t)
	} else {
		_, err := r.caller.get()
		ok(t, err)
	}
	r.wantRealToken(t)
	if r.sender != nil || !can[ticketer](r.session) {
		r.wantRepeated(t)
	}
	if after, err := r.caller.token(); err != nil || after != before {
		t.Errorf("the SDK's token changed (%v)", err)
	}
}

// The same in the middle of the largest thing that SDKs send. Many of them
// cannot send it again themselves: they have read their file to its end.
func uploadsWithKilledToken(t *testing.T, r *run) {
	before, err := r.caller.token()
	ok(t, err)
	r.WeChat.KillTokens(r.driver.account)
	id, err := r.filer.upload("图片.jpg", picture())
	ok(t, err)
	r.wantRealToken(t)
	r.wantRepeated(t)
	r.wantPicture(t, id)
	if after, err := r.caller.token(); err != nil || after != before {
		t.Errorf("the SDK's token changed (%v)", err)
	}
}

// The component's token dies behind the gateway's back: the code is taken all
// the same, once.
func logsInWithKilledToken(t *testing.T, r *run) {
	r.WeChat.KillTokens(r.WeChat.Component())
	openid, err := r.loginer.login(r.WeChat.NewUserCode(r.driver.account, "bob"))
	ok(t, err)
	if openid != r.WeChat.OpenID(r.driver.account, "bob") {
		t.Errorf("logged %q in", openid)
	}
	if n := r.WeChat.Count(componentTokenPath); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
}

// wantRepeated fails the test unless the gateway has renewed a token, once, and
// made the one call of this step twice.
func (r *run) wantRepeated(t *testing.T) {
	t.Helper()
	var made []string
	for _, call := range r.calls() {
		made = append(made, fmt.Sprintf("%s %d", call.Path, call.ErrCode))
	}
	if len(made) != 2 {
		t.Errorf("WeChat saw %q, want the refused call and its repetition", made)
	}
	if n := r.WeChat.Count(renewalPath); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
}
