// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What is counted together says so, and nothing else does; afterwards nothing is kept.
func TestCountOfSeveralDetailsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally := NewTallyOf(2)
		defer tally.Stop()
		lines := make(chan string, 10)
		count := func(message, detail string) bool {
			return tally.Count(message, detail, func(n int, mixed bool) { lines <- fmt.Sprint(message, " ", detail, " ", n, " ", mixed) })
		}
		if !count("m", "a") || !count("m", "b") || count("m", "a") || count("m", "b") {
			t.Error("not the first of each is written")
		}
		if !count("m", "c") || count("m", "d") || count("m", "e") || count("m", "a") || !count("other", "a") {
			t.Error("of those counted together not only the first is written, or others are not")
		}
		time.Sleep(interval + time.Second)
		said := []string{<-lines, <-lines, <-lines}
		slices.Sort(said) // timers have no order
		if want := []string{"m a 2 false", "m b 1 false", "m e 2 true"}; !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
		time.Sleep(2 * interval)
		synctest.Wait()
		if len(tally.lines) != 0 || len(lines) != 0 {
			t.Errorf("kept: %v", tally.lines)
		}
	})
}

// What was counted until the end is said by Stop, with the same words.
func TestStopSaysWhatWasCountedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally := NewTallyOf(1)
		var said []string
		for _, detail := range []string{"a", "b", "c"} {
			tally.Count("m", detail, func(n int, mixed bool) { said = append(said, fmt.Sprint(detail, n, " ", mixed)) })
		}
		tally.Stop()
		if !slices.Equal(said, []string{"c1 true"}) {
			t.Errorf("said %q", said)
		}
	})
}
