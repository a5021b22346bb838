// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	goflag "flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The proof that tokens are neither lost nor raced: random sequences of all
// that can happen to two or three gateway processes over one storage, and to
// WeChat, with faults and crashes in between, held against the sandbox, which
// alone knows what is valid. The promises are in model_rules_test.go and
// model_calls_test.go, what can happen in model_steps_test.go,
// model_news_test.go and model_faults_test.go.
//
//	go test -run TestModel ./internal/tokens                                   # 100 sequences
//	make model                                                                 # 10,000, the same every time
//	go test -run TestModel/0 ./internal/tokens -rapid.seed N -rapid.checks 1   # one that has failed
//	go test -run TestModel -timeout 0 ./internal/tokens -rapid.checks 1000000  # a night
//
// A sequence that breaks a promise is printed with its seed, shortened as far
// as rapid can, with all that happened and when. The seed makes the steps, the
// faults and the delays the same again. Two things it cannot repeat: the
// jitter of the cool-downs and the order in which the scheduler runs what
// happens at the same instant. So a sequence that has failed is played up to
// again times to make it fail again, and what is printed is what happened
// when it did.
func TestModelNoTokenIsLostOrRaced(t *testing.T) {
	percent := debug.SetGCPercent(800) // much is made here, little is kept
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	shards := runtime.GOMAXPROCS(0)
	share := shareSequences(t, shards)
	var total atomic.Int64
	t.Cleanup(func() { t.Logf("%d sequences were played", total.Load()) })
	for shard := range shards {
		t.Run(strconv.Itoa(shard), func(t *testing.T) {
			t.Parallel()
			checkModel(t, shard, share, &total)
		})
	}
}

// again is how often a sequence is played again that is known to fail.
const again = 5

// shareSequences tells rapid how many of the sequences each shard plays, and
// returns that.
func shareSequences(t *testing.T, shards int) int {
	checks := goflag.Lookup("rapid.checks").Value
	before := checks.String()
	t.Cleanup(func() { _ = checks.Set(before) })
	total := must(strconv.Atoi(before))
	share := (total + shards - 1) / shards
	must(0, checks.Set(strconv.Itoa(share)))
	must(0, goflag.Set("rapid.nofailfile", "true")) // the seed says it all
	if testing.Short() {
		share /= 5 // as rapid does
	}
	return share
}

// seeding is held until rapid has read the seed of a shard.
var seeding sync.Mutex

// checkModel plays the sequences of one shard and adds them to the total. Where
// a seed is given, each shard has one of its own.
func checkModel(t *testing.T, shard, share int, total *atomic.Int64) {
	seeding.Lock()
	seed := goflag.Lookup("rapid.seed").Value
	given := must(strconv.ParseUint(seed.String(), 10, 64))
	if given != 0 {
		must(0, seed.Set(strconv.FormatUint(given+uint64(shard)<<32, 10)))
	}
	seeded := sync.OnceFunc(func() {
		must(0, seed.Set(strconv.FormatUint(given, 10)))
		seeding.Unlock()
	})
	defer seeded()
	played := 0
	defer func() { total.Add(int64(played)) }()
	var failed *model // the last one, which is the shortest
	t.Cleanup(func() {
		if failed != nil {
			t.Logf("What happened:\n%s", strings.Join(failed.story, "\n"))
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		seeded()
		sequence := sequences.Draw(rt, "sequence")
		times := 1
		if failed != nil {
			times = again
		}
		for range times {
			m := newModel(sequence)
			m.tracing = failed != nil
			defer func() {
				if m.broken != 0 || !m.ended { // not ended: it got stuck
					failed = m
				}
			}()
			rapid.SyncTest(rt, func(*rapid.T) { m.play(sequence.steps) })
			m.report(rt)
		}
		played++
	})
	if played < share {
		t.Errorf("%d sequences of %d were played: the time was up", played, share)
	}
}

// sequence is one thing to try.
type sequence struct {
	nodes, accounts int
	slow            time.Duration // the most that a storage or the wire takes
	rotate          bool          // WeChat renews refresh tokens at every use
	dumb            bool          // WeChat says 61023 where it could say 61003, and tells two codes of one authorization
	watched         bool          // every node watches for tickets and pending codes, as it should
	seed            uint64        // of the delays
	steps           []step
}

// step is one thing that happens, and how long nothing new happens then. Most
// steps only begin something; it goes on while the next ones begin.
type step struct {
	text string
	do   func(m *model)
	then time.Duration
}

// GoString shows a sequence to the reader of a failure.
func (s sequence) GoString() string {
	text := fmt.Sprintf("%d nodes, %d accounts, delays up to %v, refresh tokens rotate: %v, 61023 and two codes: %v, tickets watched: %v, delays %d",
		s.nodes, s.accounts, s.slow, s.rotate, s.dumb, s.watched, s.seed)
	for _, step := range s.steps {
		text += "\n\t" + step.text
		if step.then > 0 {
			text += ", then " + step.then.String()
		}
	}
	return text
}
