// SPDX-License-Identifier: Apache-2.0

package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
)

func TestDelayDoublesUpToItsBound(t *testing.T) {
	for _, row := range []struct {
		failures    int
		first, most time.Duration
		want        time.Duration
	}{
		{0, time.Second, time.Minute, time.Second},
		{1, time.Second, time.Minute, time.Second},
		{2, time.Second, time.Minute, 2 * time.Second},
		{6, time.Second, time.Minute, 32 * time.Second},
		{7, time.Second, time.Minute, time.Minute},
		{1 << 40, time.Second, time.Minute, time.Minute},
		{9, time.Second, 10 * time.Minute, 256 * time.Second},
		{10, time.Second, 10 * time.Minute, 512 * time.Second},
		{11, time.Second, 10 * time.Minute, 10 * time.Minute},
		{1, time.Minute, time.Second, time.Second},
	} {
		if got := backoff.Delay(row.failures, row.first, row.most); got != row.want {
			t.Errorf("after %d failures, from %v to %v: %v, want %v", row.failures, row.first, row.most, got, row.want)
		}
	}
}

func TestJitterIsAQuarterEitherWay(t *testing.T) {
	seen := make(map[time.Duration]bool)
	for range 1000 {
		d := backoff.Jitter(time.Second)
		if d < 750*time.Millisecond || d > 1250*time.Millisecond {
			t.Fatalf("%v", d)
		}
		seen[d] = true
	}
	if len(seen) < 900 {
		t.Errorf("%d different delays of 1000", len(seen))
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !backoff.Wait(t.Context(), time.Hour) || time.Since(began) != time.Hour {
			t.Errorf("waited %v", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		if backoff.Wait(ctx, time.Hour) || time.Since(began) != time.Minute {
			t.Errorf("waited %v for a context of a minute", time.Since(began))
		}
	})
}
