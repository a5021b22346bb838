// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"io"
	"net/http"
	"testing"
)

// A gateway that has started asks WeChat for no profile any more.
func TestNoQuestionFollowsTheStart(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *Gateway{
		"Start":           func(t *testing.T) *Gateway { return Start(t, Options{}) },
		"StartWithTokens": func(t *testing.T) *Gateway { return StartWithTokens(t, Options{}) },
		"StartThenRoutes": func(t *testing.T) *Gateway {
			return StartThenRoutes(t, Options{}, map[string]http.HandlerFunc{InfoPath: http.NotFound})
		},
	} {
		t.Run(name, func(t *testing.T) {
			if g := start(t); !g.HasProfile(OfficialAccount) || !g.HasProfile(MiniProgram) {
				t.Errorf("the profiles are not stored\n%s", g.Logs())
			}
		})
	}
}

// Where a test answers in WeChat's place, and perhaps never, the start does not wait for it.
func TestTheStartWaitsForNoAnswerOfATest(t *testing.T) {
	g := StartWithRoutes(t, Options{}, map[string]http.HandlerFunc{InfoPath: func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http notices a hang-up only after that
		<-r.Context().Done()               // the end of the gateway
	}})
	if g.HasProfile(OfficialAccount) || g.HasProfile(MiniProgram) {
		t.Error("a profile is stored that WeChat has not told")
	}
}
