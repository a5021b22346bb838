// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// launches are the visits of one component.
const launches = "launch wx134c8103faa5a59e"

// visitors play visits of a launch page's button, at times that the test chooses.
type visitors struct {
	*Limits
	now time.Time
}

func newVisitors() *visitors { return &visitors{NewLimits(), time.Unix(1_700_000_000, 0)} }

// press reports how long an address has to wait; 0 if it may go on.
func (v *visitors) press(address string) time.Duration {
	return v.reserve(launches, v.now, sharesOf(netip.MustParseAddr(address))...)
}

// pressed returns how many of n presses of the button, at the same time, go on.
func (v *visitors) pressed(n int, address string) (permitted int) {
	for range n {
		if v.press(address) == 0 {
			permitted++
		}
	}
	return permitted
}

// Some machines of one attacker press the button ten times a second. Each stays
// within its share, so the shares alone would let ten of them use up all that
// there is.
func TestFewAddressesCannotLockOutOthers(t *testing.T) {
	for _, attackers := range []int{1, 2, 10, 20} {
		t.Run(fmt.Sprint(attackers), func(t *testing.T) {
			v := newVisitors()
			for second := range 250 {
				for range 10 {
					for i := range attackers {
						v.press(fmt.Sprint("192.0.2.", i))
					}
					v.now = v.now.Add(100 * time.Millisecond)
				}
				if admin := fmt.Sprint("198.51.100.", second); second%10 == 0 && v.press(admin) != 0 {
					t.Fatalf("an admin is refused in second %d", second)
				}
			}
		})
	}
}

// A share is the part of a whole minute, wherever one begins to count: not six
// at the end of one minute and six more at the beginning of the next.
func TestShareHoldsInEveryMinute(t *testing.T) {
	v := newVisitors()
	var permitted []time.Time
	for range 3000 {
		if v.press("192.0.2.1") == 0 {
			permitted = append(permitted, v.now)
		}
		v.now = v.now.Add(100 * time.Millisecond)
	}
	if len(permitted) != 30 {
		t.Errorf("%d visits in five minutes, want 30", len(permitted))
	}
	for i := range len(permitted) - addressShare {
		if within := permitted[i+addressShare].Sub(permitted[i]); within < time.Minute {
			t.Errorf("%d visits within %s", addressShare+1, within)
		}
	}
}

// Who has an IPv6 address has at least 2^64 of them, and often 65536 times as
// many. Who has an IPv4 address can write it in IPv6.
func TestManyAddressesOfOneVisitorAreOne(t *testing.T) {
	for name, row := range map[string]struct {
		address func(i int) string
		most    int
	}{
		"addresses of a /64":        {func(i int) string { return fmt.Sprintf("2001:db8:1:1::%x", i+1) }, 6},
		"networks of a /48":         {func(i int) string { return fmt.Sprintf("2001:db8:1:%x::1", i) }, 12},
		"zones":                     {func(i int) string { return fmt.Sprintf("fe80::1%%eth%d", i) }, 6},
		"IPv4, and IPv4 in IPv6":    {func(i int) string { return []string{"192.0.2.1", "::ffff:192.0.2.1"}[i%2] }, 6},
		"IPv4 in IPv6, all of them": {func(i int) string { return fmt.Sprint("::ffff:192.0.2.", i) }, 60},
		"IPv4, all of them":         {func(i int) string { return fmt.Sprint("192.0.2.", i) }, 60},
		"several sites":             {func(i int) string { return fmt.Sprintf("2001:db8:%x::1", i) }, 60},
	} {
		v, permitted := newVisitors(), 0
		for i := range 200 {
			permitted += v.pressed(1, row.address(i))
		}
		if permitted != row.most {
			t.Errorf("%s: %d visits, want %d", name, permitted, row.most)
		}
	}
	if wait := NewLimits().reserve(launches, time.Now(), sharesOf(netip.Addr{})...); wait != 0 {
		t.Error("a visitor without a known address is refused at once")
	}
}

// Whatever addresses come, what is remembered of them stays small, and a flood of
// new ones does not make an old one's visits forgotten.
func TestFloodOfAddressesTakesNoMemoryAndForgetsNobody(t *testing.T) {
	v := newVisitors()
	if n := v.pressed(10, "203.0.113.1"); n != 6 {
		t.Fatalf("%d visits, want 6", n)
	}
	for i := range 20_000 {
		v.press(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String())
		v.now = v.now.Add(time.Millisecond)
	}
	if n := v.pressed(10, "203.0.113.1"); n != 0 {
		t.Errorf("%d visits more for the one who had spent his share", n)
	}
	if n := len(v.permitted[launches]); n > maxVisits || len(v.permitted) != 1 {
		t.Errorf("%d visits of %d kinds are remembered", n, len(v.permitted))
	}
}

// The quota is the component's: whatever addresses come, no minute has more than
// sixty, and whoever waits as long as he is told to may go on, unless others have
// come meanwhile.
func TestWaitingAsLongAsToldHelps(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		v := newVisitors()
		var permitted []time.Time
		for range 400 {
			if v.press(fmt.Sprint("192.0.2.", random.IntN(1+random.IntN(80)))) == 0 {
				permitted = append(permitted, v.now)
			}
			v.now = v.now.Add(time.Duration(random.IntN(1000)) * time.Millisecond)
		}
		for i := range max(0, len(permitted)-maxVisits) {
			if within := permitted[i+maxVisits].Sub(permitted[i]); within < time.Minute {
				t.Fatalf("%d visits within %s", maxVisits+1, within)
			}
		}
		address := fmt.Sprint("192.0.2.", random.IntN(80))
		if wait := v.press(address); wait > 0 {
			v.now = v.now.Add(wait - 1)
			if v.press(address) == 0 {
				t.Fatal("waiting a nanosecond less would have helped")
			}
			v.now = v.now.Add(1)
			if again := v.press(address); again != 0 || wait > time.Minute {
				t.Fatalf("told to wait %s, and then %s more", wait, again)
			}
		}
	}
}

// A state is good for many callbacks. Who sends it from many addresses, with codes
// that he makes up, has the share of its browser.
func TestOneBrowserAtManyAddressesHasOneShare(t *testing.T) {
	limits, permitted := NewLimits(), 0
	for i := range 60 {
		shares := append(sharesOf(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})), share{"browser one", addressShare})
		if limits.reserve("callback", time.Unix(1_700_000_000, 0), shares...) == 0 {
			permitted++
		}
	}
	if permitted != addressShare {
		t.Errorf("%d callbacks, want %d", permitted, addressShare)
	}
}
