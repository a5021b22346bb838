// SPDX-License-Identifier: Apache-2.0

package advice

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

func TestACauseIsSaidOnceAnHour(t *testing.T) {
	a := NewAdvisor()
	one, _ := Of(relayed(45009, "/x"))
	two, _ := Of(relayed(61004, "/x"))
	for _, step := range []struct {
		x     Advice
		after time.Duration
		due   bool
	}{
		{one, 0, true}, {one, 0, false}, {two, 0, true}, {one, time.Hour - 1, false}, {one, time.Hour, true}, {one, time.Hour + 1, false},
		{two, 2 * time.Hour, true}, {one, 2 * time.Hour, true},
	} {
		if due := a.Due(step.x, at.Add(step.after)); due != step.due {
			t.Errorf("after %v due is %v", step.after, due)
		}
	}
}

// Many calls meet the same refusal at the same time: one says it.
func TestOneOfManySaysIt(t *testing.T) {
	a := NewAdvisor()
	x, _ := Of(relayed(45009, "/x"))
	var said atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			a.Note(platform, x, at)
			if a.Due(x, at) {
				said.Add(1)
			}
			a.Last(platform)
		})
	}
	all.Wait()
	if said.Load() != 1 {
		t.Errorf("said %d times", said.Load())
	}
}

func TestLastAdviceOfAnAccount(t *testing.T) {
	a := NewAdvisor()
	one, _ := Of(relayed(45009, "/x"))
	two, _ := Of(relayed(48001, "/x"))
	who := subject.Of(platform, account)
	a.Note(who, one, at)
	a.Note(who, two, at.Add(time.Minute))
	if x, noted := a.Last(who); x != two || !noted.Equal(at.Add(time.Minute)) {
		t.Errorf("last is %v at %v", x, noted)
	}
	for _, other := range []subject.Subject{platform, subject.Of(platform, "wx00000000000000a1"), subject.Of("wx00000000000000c1", account)} {
		if x, noted := a.Last(other); x != (Advice{}) || !noted.IsZero() {
			t.Errorf("%s has the advice of another: %v", other, x)
		}
	}
}

// A platform whose accounts break by the hundred thousand fills no memory, and what is
// asked for all the time is not forgotten.
func TestAdvisorIsBounded(t *testing.T) {
	a := NewAdvisor()
	often, _ := Of(relayed(45009, "/x"))
	a.Due(often, at)
	a.Note(platform, often, at)
	for i := range 20 * maxRemembered {
		x := often
		x.cause = fmt.Sprint(i)
		if !a.Due(x, at) {
			t.Fatal("a new cause is not said")
		}
		a.Note(subject.Subject(x.cause), x, at)
		if x, _ := a.Last(platform); a.Due(often, at) || x != often {
			t.Fatalf("forgotten after %d others", i)
		}
	}
	for _, n := range []int{len(a.said.young) + len(a.said.old), len(a.last.young) + len(a.last.old)} {
		if n > 2*maxRemembered {
			t.Errorf("%d are remembered", n)
		}
	}
	if x, _ := a.Last(subject.Subject(fmt.Sprint(20*maxRemembered - maxRemembered + 1))); x == (Advice{}) {
		t.Error("one of the last thousand is forgotten")
	}
}
