// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// dyingFor is how long the death of a token can still be met: whoever renewed
// it may have got the new one just before that died as well.
const dyingFor = 2 * time.Second

// explain returns what was done to the gateways that explains a failed call:
// what was the case while it was made, and could lead to its answer. Everything
// else a gateway must be able to prevent: then the failure is its own, and
// explain returns "".
func (r *record) explain(f failure) kind {
	for _, k := range f.answer.mayComeOf() {
		if r.was(k, f) {
			return k
		}
	}
	return ""
}

// mayComeOf returns what could lead to an answer.
func (a answer) mayComeOf() []kind {
	switch {
	case a.err != nil: // no answer, or half of one
		return []kind{struck, down, reloaded}
	case a.slug == "unreachable", a.slug == "timeout": // the call itself, or the question for its token
		return []kind{struck, cooling}
	case a.slug == "refused":
		return []kind{cooling}
	case a.slug == "component_token":
		return []kind{cooling, dying}
	case a.slug == "rejected" && a.errcode == -1: // the newest token is dead, and there is none yet
		return []kind{struck, cooling, dying, noStorage}
	case a.slug == "storage":
		return []kind{noStorage}
	case a.slug == "not_authorized", a.slug == "needs_authorization":
		return []kind{away}
	case a.slug != "":
		return nil
	case a.status == http.StatusOK && (a.errcode == 61003 || a.errcode == 61023): // WeChat's own
		return []kind{away}
	case a.status == http.StatusOK && tokenRefused(a.errcode): // twice, with another gateway token
		return []kind{dying}
	default: // what the fault made WeChat say, passed on
		return []kind{struck}
	}
}

// was reports whether k was the case for a call.
func (r *record) was(k kind, f failure) bool {
	held := func(c condition) bool { return r.held(c, f.from, f.to) }
	switch k {
	case struck: // WeChat's side of the call tells
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.calls[f.id].struck
	case down:
		return held(condition{kind: down, node: f.node})
	case reloaded:
		// A gateway promises to take part in a reload unnoticed, but a server may
		// close a connection that is idle at any time, and a caller cannot know
		// what is on its way (RFC 9112, section 9.5). So: the connection had been
		// idle, and nothing of the call has come as far as WeChat.
		r.mu.Lock()
		reached := r.calls[f.id].arrived > 0
		r.mu.Unlock()
		return f.answer.idle && !reached && held(condition{kind: reloaded, node: f.node})
	case noStorage: // at the end: whoever fails later has waited for something else
		return r.held(condition{kind: noStorage}, f.to, f.to)
	case away:
		return held(condition{kind: away, appid: f.appid})
	case cooling:
		// The question was for the account's token, or for the component's that
		// gets it, or it was a code which is all there is of an account that has
		// just come back. Whoever has a refresh token can do without the code.
		return held(condition{cooling, f.node, f.appid}) || held(condition{cooling, f.node, sandbox.DefaultComponent}) ||
			held(condition{cooling, f.node, someCode}) && held(condition{kind: away, appid: f.appid})
	case dying:
		if f.answer.slug == "component_token" {
			return held(condition{kind: dying, appid: sandbox.DefaultComponent})
		}
		return held(condition{kind: dying, appid: f.appid})
	}
	return false
}
