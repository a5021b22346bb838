// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

const account = "wx00000000000000a0"

// texts are the rows without their times.
func texts(rows []Row) (all []string) {
	for _, r := range rows {
		all = append(all, fmt.Sprintf("%s %s %s %d %v: %d, %d", r.Client, r.AppID, r.Class, r.Errcode, r.Own, r.Calls, r.Bytes))
	}
	return all
}

func TestCallsAreCountedByWhatTheyHaveInCommon(t *testing.T) {
	table := New()
	for range 3 {
		table.Count("shop", account, "/cgi-bin/message/custom/send", 0, false, 100)
	}
	table.Count("shop", account, "/cgi-bin/message/custom/typing", 0, false, 1)
	table.Count("shop", account, "/cgi-bin/message/custom/send", 45009, false, 7)
	table.Count("shop", account, "/cgi-bin/message/custom/send", 45009, true, 0)
	table.Count("crm", account, "/wxa/commit", 0, false, 5)
	table.Count("crm", account, "/wxa/commit", 0, false, -1)
	rows, lost, _ := table.Top("", 10)
	want := []string{
		"shop " + account + " /cgi-bin/message/custom 0 false: 4, 301",
		"crm " + account + " /wxa/commit 0 false: 2, 5",
		"shop " + account + " /cgi-bin/message/custom 45009 false: 1, 7",
		"shop " + account + " /cgi-bin/message/custom 45009 true: 1, 0",
	}
	if !slices.Equal(texts(rows), want) || lost != 0 {
		t.Errorf("rows, of which %d calls are lost:\n%s", lost, strings.Join(texts(rows), "\n"))
	}
	if rows, _, _ := table.Top("crm", 10); !slices.Equal(texts(rows), want[1:2]) {
		t.Errorf("rows of crm: %q", texts(rows))
	}
	for n, many := range map[int]int{-1: 0, 0: 0, 2: 2, 1 << 30: 4} {
		if rows, _, _ := table.Top("", n); len(rows) != many {
			t.Errorf("%d rows for %d", len(rows), n)
		}
	}
	if rows, _, _ := table.Top("nobody", 10); len(rows) != 0 {
		t.Errorf("rows of a client that never called: %q", texts(rows))
	}
}

// Strangers choose paths and appids as they like.
func TestStrangersFillNoTable(t *testing.T) {
	table := New()
	for i := range 1000 {
		table.Count("", fmt.Sprintf("wx%016x", i), fmt.Sprintf("/%d", i), 40001, true, 10)
		table.Count(None, account, "/x", 40001, true, 10)
	}
	if rows, lost, _ := table.Top("", 10); !slices.Equal(texts(rows), []string{"none   40001 true: 2000, 20000"}) || lost != 0 {
		t.Errorf("rows, of which %d calls are lost: %q", lost, texts(rows))
	}
}

// A client that makes up paths for ever makes the table neither grow nor forget who is
// busy, and no call is lost without being counted as lost.
func TestTableIsBounded(t *testing.T) {
	table := New()
	const busy, others = 1000, 100_000
	for i := range others {
		table.Count("flood", account, fmt.Sprintf("/%d", i), 0, false, 1)
		if i%(others/busy) == 0 {
			table.Count("shop", account, "/wxa/commit", 0, false, 1)
		}
	}
	rows, lost, _ := table.Top("", 1<<30)
	if len(rows) > shards*maxRows || len(rows) < shards*maxRows/2 {
		t.Errorf("%d rows", len(rows))
	}
	if rows[0].Client != "shop" || rows[0].Calls < busy*9/10 {
		t.Errorf("the busiest row is %q", texts(rows[:1]))
	}
	calls := lost
	for _, r := range rows {
		calls += r.Calls
	}
	if calls != busy+others {
		t.Errorf("%d calls are counted or lost, of %d", calls, busy+others)
	}
}

func TestRowsSaySinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := New()
		began := time.Now()
		time.Sleep(time.Hour)
		table.Count("shop", account, "/x", 0, false, 0)
		time.Sleep(time.Hour)
		table.Count("shop", account, "/x", 0, false, 0)
		rows, _, since := table.Top("", 1)
		if !since.Equal(began) || !rows[0].Since.Equal(began.Add(time.Hour)) {
			t.Errorf("since %v, the row since %v", since, rows[0].Since)
		}
	})
}

func TestManyCountAtTheSameTime(t *testing.T) {
	table := New()
	const workers, each = 8, 2000
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range each {
				table.Count("shop", account, fmt.Sprintf("/%d", i%50), w%2, false, 1)
				if i%500 == 0 {
					table.Top("shop", 10)
				}
			}
		})
	}
	all.Wait()
	rows, lost, _ := table.Top("", 1000)
	var calls, bytes uint64
	for _, r := range rows {
		calls, bytes = calls+r.Calls, bytes+r.Bytes
	}
	if len(rows) != 100 || calls != workers*each || bytes != calls || lost != 0 {
		t.Errorf("%d rows, %d calls, %d bytes, %d lost", len(rows), calls, bytes, lost)
	}
}

// A row must not keep the URL or the token that its texts were cut out of.
func TestRowsKeepNoPartOfARequest(t *testing.T) {
	request := []byte("shop " + account + " /wxa/commit?access_token=secret")
	text := string(request)
	table := New()
	table.Count(text[:4], text[5:23], text[24:35], 0, false, 0)
	rows, _, _ := table.Top("", 1)
	if r := rows[0]; shares(r.Client, text) || shares(r.AppID, text) || shares(r.Class, text) {
		t.Errorf("%q is a part of the request", texts(rows))
	}
}

// shares reports whether part lies in the memory of whole.
func shares(part, whole string) bool {
	from, begin := uintptr(unsafe.Pointer(unsafe.StringData(part))), uintptr(unsafe.Pointer(unsafe.StringData(whole)))
	return from >= begin && from < begin+uintptr(len(whole))
}

func TestClass(t *testing.T) {
	long := strings.Repeat("x", 100)
	for path, want := range map[string]string{
		"": "", "/": "/", "/wxa": "/wxa", "/wxa/commit": "/wxa/commit", "/a/b/c": "/a/b/c", "/a/b/c/": "/a/b/c", "/a/b/c/d/e": "/a/b/c", "/a//b/c": "/a//b",
		"/" + long: "/" + long[:maxClass-1], "/" + long[:maxClass-1]: "/" + long[:maxClass-1], "//": "//", "a": "a",
	} {
		if got := Class(path); got != want {
			t.Errorf("class of %q is %q, want %q", path, got, want)
		}
	}
}

func FuzzClass(f *testing.F) {
	for _, path := range []string{"/cgi-bin/message/custom/send", "/a/b/c", "", "//////", "/" + strings.Repeat("é", 100)} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		class := Class(path)
		if !strings.HasPrefix(path, class) || len(class) > maxClass || strings.Count(class, "/") > 3 || Class(class) != class {
			t.Errorf("class of %q is %q", path, class)
		}
		if path != class && len(class) < maxClass && path[len(class)] != '/' {
			t.Errorf("class of %q ends within a segment: %q", path, class)
		}
	})
}

func TestCountAllocatesNothingForAKnownRow(t *testing.T) {
	table := New()
	if n := testing.AllocsPerRun(1000, func() {
		table.Count("shop", account, "/cgi-bin/message/custom/send", 0, false, 512)
		table.Count("", "", "/", 40001, true, 64)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCount(b *testing.B) {
	table := New()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			table.Count("shop", account, "/cgi-bin/message/custom/send", 0, false, 512)
		}
	})
}

// BenchmarkCountNewRows is what a client costs that never calls the same path twice.
func BenchmarkCountNewRows(b *testing.B) {
	table := New()
	paths := make([]string, 100_000)
	for i := range paths {
		paths[i] = fmt.Sprintf("/%d", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		table.Count("shop", account, paths[i%len(paths)], 0, false, 512)
	}
}

// Where more accounts are called than there are rows, a call costs no more than another,
// and an account that becomes busy is found all the same.
func TestCountOfAFullTable(t *testing.T) {
	table := New()
	accounts := make([]string, 100_000)
	for i := range accounts {
		accounts[i] = fmt.Sprintf("wx%016x", i)
		table.Count("shop", accounts[i], "/cgi-bin/user/info", 0, false, 10)
	}
	next := 0
	if n := testing.AllocsPerRun(50_000, func() {
		table.Count("shop", accounts[next%len(accounts)], "/cgi-bin/user/info", 0, false, 10)
		next++
	}); n >= 1 {
		t.Errorf("%v allocations for each call", n)
	}
	for range 1000 {
		table.Count("crm", account, "/cgi-bin/user/info", 0, false, 10)
	}
	rows, lost, _ := table.Top("", 1<<20)
	if rows[0].Client != "crm" {
		t.Errorf("the busiest row is %+v", rows[0])
	}
	total := lost
	for _, r := range rows {
		total += r.Calls
	}
	if want := uint64(len(accounts) + next + 1000); total != want {
		t.Errorf("%d calls are counted or lost, want %d", total, want)
	}
}
