// SPDX-License-Identifier: Apache-2.0

package secret_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// Nodes of different releases know a code by the same digest: of the context and
// the text, one after the other.
func TestDigestIsTheSameForEver(t *testing.T) {
	const want = "1880929da96d1e4bb9b303ca7d38499264243469973763998e6bedb2cb1aa2c4"
	got := fmt.Sprintf("%x", secret.New("code").Digest("wx134c8103faa5a59e "))
	if got != want {
		t.Errorf("%s", got)
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	type holder struct{ hidden secret.Secret }
	s := secret.New("REALSECRET")
	for _, printed := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v", s, holder{s}, holder{s})} {
		if strings.Contains(printed, "REALSECRET") {
			t.Errorf("printed: %s", printed)
		}
	}
	if text, err := json.Marshal([]any{s}); err == nil {
		t.Errorf("marshalled: %s", text)
	}
}
