// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxVisits is how many calls to WeChat of one kind the visitors of one
	// component may cause within limitInterval, all together: the quota is the
	// component's.
	maxVisits     = 60
	limitInterval = time.Minute
	// addressShare is the part of them that one address may have, or an IPv6
	// network of /64, which is what one customer of a provider has at least.
	addressShare = 6
	// siteShare is the part of an IPv6 network of /48: one customer may have as
	// many as that, and with it 65536 networks of /64.
	siteShare = 12
)

// share is the part of maxVisits that one party may have.
type share struct {
	of   string // the party; an address, a network or a browser
	most int    // in limitInterval, while nobody else has any
}

// sharesOf returns the shares that a visit from an address is taken from. IPv4
// in IPv6 counts as IPv4. If no address is known, all such visitors have one
// share.
func sharesOf(from netip.Addr) []share {
	from = from.Unmap().WithZone("")
	if !from.Is6() {
		return []share{{from.String(), addressShare}}
	}
	network, _ := from.Prefix(64) // fails for wrong lengths only
	site, _ := from.Prefix(48)
	return []share{{network.String(), addressShare}, {site.String(), siteShare}}
}

// Limits bounds how much of WeChat's quota the public pages can use, and how much
// of that one visitor can. It remembers the visits that were permitted within
// the last minute and nothing else, so that a flood of addresses takes no memory
// and nobody's share can be pushed out. It is safe for concurrent use. Each node
// has its own.
type Limits struct {
	mu sync.Mutex // protects permitted
	// permitted has a list for each kind of visit and component. The oldest
	// visit is the first; there are at most maxVisits.
	permitted map[string][]visit
}

// visit is one that was permitted.
type visit struct {
	at     time.Time
	shares []share // that it was taken from
}

// NewLimits returns limits of which nothing is used.
func NewLimits() *Limits { return &Limits{permitted: make(map[string][]visit)} }

// reserve permits a visit of the kind called what, and takes it from the shares.
// If it may not, it takes nothing and returns how long the visitor has to wait.
// It does not wait itself.
func (l *Limits) reserve(what string, now time.Time, shares ...share) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	recent := slices.DeleteFunc(l.permitted[what], func(v visit) bool { return now.Sub(v.at) >= limitInterval })
	if wait = untilPermitted(recent, now, shares); wait == 0 {
		recent = append(recent, visit{now, shares})
	}
	l.permitted[what] = recent
	return wait
}

// untilPermitted returns how long a visitor with these shares has to wait, given
// the visits that were permitted.
//
// For a party with a share of 6, each visit of its own counts as ten, and each of
// others as one; together they must be fewer than 60. So alone it may have 6. The
// more the others have had, the less it may, and the last of the 60 are left to
// those who have had none: ten addresses, each within its share, cannot lock out
// everybody else.
//
// The visits are counted from the newest to the oldest. The one with which there
// are too many must be a minute old first.
func untilPermitted(permitted []visit, now time.Time, shares []share) time.Duration {
	total, own := 0, make([]int, len(shares))
	for _, v := range slices.Backward(permitted) {
		total++
		full := total >= maxVisits
		for i, s := range shares {
			if slices.Contains(v.shares, s) {
				own[i]++
			}
			full = full || total-own[i]+own[i]*(maxVisits/s.most) >= maxVisits
		}
		if full {
			return v.at.Add(limitInterval).Sub(now)
		}
	}
	return 0
}
