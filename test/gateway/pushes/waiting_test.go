// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"testing"
	"time"
)

// eventually waits for what happens in the background, over real sockets. If it does not
// happen, details are shown.
func eventually(t *testing.T, what string, condition func() bool, details ...func() string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			for _, show := range details {
				t.Log(show())
			}
			t.Fatalf("in vain: %s", what)
		}
	}
}
