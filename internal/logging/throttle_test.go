// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// observed returns a throttled logger, and what of level and above it has
// written.
func observed(t *testing.T, level zapcore.Level) (*zap.Logger, *Tally, *observer.ObservedLogs) {
	core, logs := observer.New(level)
	tally := NewTally()
	t.Cleanup(tally.Stop)
	return Throttle(zap.New(core), tally), tally, logs
}

// counts are the messages written so far, each with its count.
func counts(logs *observer.ObservedLogs) (out []string) {
	for _, entry := range logs.TakeAll() {
		out = append(out, fmt.Sprintf("%s %v", entry.Message, entry.ContextMap()["count"]))
	}
	return out
}

// kept is of how many details of a message something is remembered.
func kept(t *Tally, message string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.lines[message])
}

func want(t *testing.T, logs *observer.ObservedLogs, lines ...string) {
	t.Helper()
	if got := counts(logs); fmt.Sprint(got) != fmt.Sprint(lines) {
		t.Errorf("written %q, want %q", got, lines)
	}
}

// A flood that is over within seconds is told with its count, not only with its
// first line.
func TestFloodIsALineAMinuteWithItsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, logs := observed(t, zap.InfoLevel)
		for i := range 27_000 {
			log.Warn("refused", zap.Int("n", i))
		}
		want(t, logs, "refused <nil>")
		time.Sleep(interval + time.Second)
		entries := logs.All()
		want(t, logs, "refused 26999")
		if last := entries[len(entries)-1].ContextMap()["n"]; last != int64(26_999) {
			t.Errorf("the line is that of the request %v, want the last one", last)
		}
		log.Warn("refused")
		want(t, logs)
		time.Sleep(interval)
		want(t, logs, "refused 1")
		time.Sleep(2 * interval)
		log.Warn("refused")
		want(t, logs, "refused <nil>")
	})
}

func TestOtherMessagesDetailsAndLevelsAreNotLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, logs := observed(t, zap.InfoLevel)
		for range 2 {
			log.Warn("a")
			log.Error("b")
			log.With(zap.String("address", "192.0.2.1")).Warn("a")
			log.With(zap.String("address", "192.0.2.2")).Warn("a")
			log.Info("c")
		}
		want(t, logs, "a <nil>", "b <nil>", "a <nil>", "a <nil>", "c <nil>", "c <nil>")
	})
}

func TestWhatIsLeftOutIsWrittenAtDebug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, logs := observed(t, zap.DebugLevel)
		for range 3 {
			log.Warn("a", zap.String("path", "/x"))
		}
		levels := ""
		for _, entry := range logs.All() {
			levels += entry.Level.String() + entry.ContextMap()["path"].(string) + " "
		}
		if levels != "warn/x debug/x debug/x " {
			t.Errorf("written at %q", levels)
		}
	})
}

// An attacker with a network of addresses fills neither the memory nor the log.
func TestFloodFromManyAddressesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, tally, logs := observed(t, zap.InfoLevel)
		const addresses = 50_000
		for i := range addresses {
			log.With(zap.String("address", fmt.Sprint(i))).Warn("refused")
		}
		if n := logs.Len(); n != maxDetails+1 {
			t.Errorf("%d lines, want %d", n, maxDetails+1)
		}
		logs.TakeAll()
		if n := kept(tally, "refused"); n != maxDetails+1 {
			t.Errorf("%d addresses are kept, want %d", n, maxDetails+1)
		}
		time.Sleep(interval + time.Second)
		want(t, logs, fmt.Sprintf("refused %d", addresses-maxDetails-1))
		time.Sleep(2 * interval)
		if n := kept(tally, "refused"); n != 0 {
			t.Errorf("%d addresses are kept after the flood", n)
		}
	})
}

// The log is closed after Stop, so nothing may be written by a timer later on.
func TestStopWritesTheCountsAndNothingAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, tally, logs := observed(t, zap.InfoLevel)
		for range 3 {
			log.Warn("a")
		}
		tally.Stop()
		want(t, logs, "a <nil>", "a 2")
		tally.Stop()
		for range 3 {
			log.Warn("a")
			log.Warn("b")
		}
		time.Sleep(5 * interval)
		want(t, logs, "b <nil>")
	})
}
