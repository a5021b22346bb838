// SPDX-License-Identifier: Apache-2.0

package permission

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestBits(t *testing.T) {
	granted := Of([]int{1, 63, 64, 142, 255, 256, 1 << 20, -1})
	for id, want := range map[int]bool{0: false, 1: true, 63: true, 64: true, 65: false, 142: true, 255: true, 256: false, -1: false, 320: false, 1 << 20: false} {
		if granted.Has(id) != want {
			t.Errorf("Has(%d) is %v", id, !want)
		}
	}
	if Of(nil) != (Bits{}) {
		t.Error("no ids have bits")
	}
}

func TestNames(t *testing.T) {
	for id, want := range map[int][2]string{
		1: {"消息管理", "Messages"}, 18: {"小程序开发与数据分析", "Mini Program development and data analysis"}, 182: {"小程序订单管理服务", "Mini Program orders"},
		0: {}, 14: {}, 58: {}, 255: {}, 256 + 1: {}, -1: {},
	} {
		if got := [2]string{Name(id, false), Name(id, true)}; got != want {
			t.Errorf("names of %d are %q, want %q", id, got, want)
		}
	}
}

// Names go into a header and into tables, and are searched by id.
func TestTableIsSoundAndSorted(t *testing.T) {
	if !slices.IsSortedFunc(names[:], func(a, b set) int { return int(a.id) - int(b.id) }) {
		t.Error("names are not in the order of the ids")
	}
	ascii, chinese := regexp.MustCompile(`^[A-Z][A-Za-z ,:()-]{2,60}$`), regexp.MustCompile(`^[\p{Han}A-Z]{3,}$`)
	seen, english := make(map[uint8]bool), make(map[string]bool)
	for _, s := range names {
		if seen[s.id] || english[s.en] {
			t.Errorf("%d %q occurs twice", s.id, s.en)
		}
		if !ascii.MatchString(s.en) || !chinese.MatchString(s.zh) {
			t.Errorf("names of %d are %q and %q", s.id, s.zh, s.en)
		}
		seen[s.id], english[s.en] = true, true
	}
}

func TestNeeded(t *testing.T) {
	for path, want := range map[string][]int{
		"/wxa/generate_urllink": {88, 115}, "/WXA/Generate_UrlLink": {88, 115}, "/cgi-bin/message/custom/send": {1, 6, 19, 100, 101},
		"/wxa/generate_urllink/": nil, "/wxa/nobody_knows": nil, "": nil,
	} {
		if sets, known := Needed(path); !slices.Equal(sets, want) || known != (want != nil) {
			t.Errorf("%q needs %v, %v", path, sets, known)
		}
	}
	plain := regexp.MustCompile(`^(/[a-z_0-9-]+)+$`)
	seen := make(map[string]bool)
	if !slices.IsSortedFunc(needs[:], func(a, b need) int { return strings.Compare(a.path, b.path) }) {
		t.Error("needs are not in the order of the paths")
	}
	for _, n := range needs {
		if !plain.MatchString(n.path) || n.page == "" || len(n.sets) == 0 || seen[n.path] {
			t.Errorf("the row of %q: %q, %v", n.path, n.page, n.sets)
		}
		seen[n.path] = true
	}
}
