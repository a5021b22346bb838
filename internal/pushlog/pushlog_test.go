// SPDX-License-Identifier: Apache-2.0

package pushlog

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

const platform, other = "wx0123456789abcdef", "wx1123456789abcdef"

// at is so many seconds after a time.
func at(seconds int) time.Time { return time.Unix(1_790_000_000+int64(seconds), 0) }

func TestTheNewestPushesComeFirst(t *testing.T) {
	var l Log
	if got := l.Last(10); len(got) != 0 {
		t.Errorf("before the first push: %v", got)
	}
	l.Add(Push{Time: at(1), Genuine: true})
	l.Add(Push{Time: at(3), Genuine: true})
	l.Add(Push{Time: at(2), Outcome: Refused})
	got := l.Last(10)
	if len(got) != 3 || !got[0].Time.Equal(at(3)) || !got[1].Time.Equal(at(2)) || !got[2].Time.Equal(at(1)) {
		t.Errorf("pushes are %v", got)
	}
	if got := l.Last(1); len(got) != 1 || !got[0].Time.Equal(at(3)) {
		t.Errorf("the last one is %v", got)
	}
}

// Whoever floods the gateway with forged pushes does not hide what WeChat has sent.
func TestRefusedPushesPushNoGenuineOnesOut(t *testing.T) {
	var l Log
	for i := range maxGenuine + 5 {
		l.Add(Push{Time: at(i), What: strconv.Itoa(i), Genuine: true})
	}
	for i := range 10 * maxGenuine {
		l.Add(Push{Time: at(10_000 + i), Outcome: Refused})
	}
	var genuine, refused []Push
	for _, p := range l.Last(1_000_000) {
		if p.Genuine {
			genuine = append(genuine, p)
		} else {
			refused = append(refused, p)
		}
	}
	if len(genuine) != maxGenuine || genuine[maxGenuine-1].What != "5" || genuine[0].What != strconv.Itoa(maxGenuine+4) {
		t.Errorf("%d genuine pushes are remembered, from %v to %v", len(genuine), genuine[len(genuine)-1], genuine[0])
	}
	if len(refused) != maxRefused || !refused[0].Time.Equal(at(10_000+10*maxGenuine-1)) {
		t.Errorf("%d refused pushes are remembered, the newest of %v", len(refused), refused[0].Time)
	}
}

func TestWhatWasRefusedAfterTheLastGenuinePush(t *testing.T) {
	var l Log
	for _, p := range []Push{
		{Time: at(1), Component: platform, Outcome: Refused, Reason: "before"},
		{Time: at(2), Component: platform, Genuine: true, What: "the last"},
		{Time: at(1), Component: platform, Genuine: true},
		{Time: at(5), Component: other, Genuine: true},
		{Time: at(3), Component: platform, Outcome: Refused, Reason: "its own"},
		{Time: at(4), Component: other, Outcome: Refused, Reason: "another's"},
		{Time: at(6), Outcome: Refused, Reason: "names none"},
	} {
		l.Add(p)
	}
	genuine, refused := l.Latest(platform)
	if genuine.What != "the last" || len(refused) != 2 || refused[0].Reason != "names none" || refused[1].Reason != "its own" {
		t.Errorf("%v, then refused: %v", genuine, refused)
	}
	if genuine, refused := l.Latest("wx2123456789abcdef"); !genuine.Time.IsZero() || len(refused) != 1 {
		t.Errorf("of a component without a push: %v, %v", genuine, refused)
	}
}

func TestWordsOfAPushCanBeShown(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "unauthorized": "unauthorized", "a\x1b[31m\n\tb\u202e": "a[31mb", "\xff\xfe": "", strings.Repeat("字", 40): strings.Repeat("字", 32),
	} {
		if got := Word(text); got != want || !utf8.ValidString(got) {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestPushesComeFromManySides(t *testing.T) {
	var l Log
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 500 {
				l.Add(Push{Time: at(n), Component: platform, Genuine: i%2 == 0})
				if n%100 == 0 {
					l.Last(5)
					l.Latest(platform)
				}
			}
		})
	}
	all.Wait()
	if got := len(l.Last(10_000)); got != maxGenuine+maxRefused {
		t.Errorf("%d pushes are remembered", got)
	}
}
