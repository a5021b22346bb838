// SPDX-License-Identifier: Apache-2.0

//go:build !race

package gwtoken_test

import (
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// What a check allocates is the subject that it returns.
func TestCheckAllocations(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	for who, most := range map[subject.Subject]float64{component: 0, subject.Of(component, authorizer): 1} {
		text := k.Issue(claims("shop", who))
		if n := testing.AllocsPerRun(100, func() { check(k, text) }); n > most {
			t.Errorf("%s: %v allocations, want at most %v", who, n, most)
		}
	}
}
