// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// The storages.
const (
	inFiles = "files"
	inRedis = "Redis"
)

// growth is the name of these measurements for BENCH_ROWS.
const growth = "growth"

// size is what a gateway takes whose storage has so many records.
type size struct {
	where               string
	records             int
	start, reload, page []float64 // milliseconds
	rss                 float64   // megabytes, after all of them
}

// traffic is what a gateway asks of WeChat when all of its tokens are due and
// one account of ten is in use.
type traffic struct {
	where             string
	known, inUse      int
	calls             int     // of applications
	renewals, renewed int     // how many, and of how many accounts
	rss               float64 // megabytes
}

// measureGrowth fills both storages, ever more, and looks at a gateway before
// each.
func (r *results) measureGrowth(ctx context.Context, f *fleet) error {
	address, err := f.startRedis()
	if err != nil {
		return err
	}
	steps := []int{100, 10_000, 100_000}
	if r.authorizers > steps[len(steps)-1] {
		steps = append(steps, r.authorizers)
	}
	for _, n := range steps {
		for _, where := range []string{inFiles, inRedis} {
			storage, err := f.records(where, address, n, lifetime)
			if err != nil {
				return err
			}
			s, err := f.size(ctx, where, storage, n)
			if err != nil {
				return fmt.Errorf("%d records in %s: %w", n, where, err)
			}
			say("%9d records in %-6s start %6.0f ms  reload %6.0f ms  page %6.1f ms", n, where, s.start[0], s.reload[0], s.page[0])
			r.sizes = append(r.sizes, s)
		}
	}
	for _, n := range steps[:3] {
		for _, where := range []string{inFiles, inRedis} {
			storage, err := f.records(where, address, n, nearlyOver)
			if err != nil {
				return err
			}
			t, err := f.traffic(ctx, where, storage, n)
			if err != nil {
				return fmt.Errorf("%d records in %s: %w", n, where, err)
			}
			say("%9d records in %-6s %d in use: %d calls, %d renewals", n, where, t.inUse, t.calls, t.renewals)
			r.traffic = append(r.traffic, t)
		}
	}
	return nil
}

// nearlyOver is what is left of tokens that are due, but served all the same.
const nearlyOver = 5 * time.Minute

// records writes n records unless that has been done, and returns the storage
// as Caddyfiles write it. Redis holds those of the last call alone.
func (f *fleet) records(where, address string, n int, left time.Duration) (string, error) {
	if where == inRedis {
		p, err := newPipe(address)
		if err == nil {
			err = errors.Join(writeRecords(p, n, left), p.Close())
		}
		return redis(address), err
	}
	folder := filepath.Join(f.folder, fmt.Sprintf("records-%d-%.0f", n, left.Minutes()))
	if _, err := os.Stat(folder); err == nil {
		return fileSystem(folder), nil
	}
	return fileSystem(folder), writeRecords(files{root: folder}, n, left)
}

// often is how often each time is taken.
const often = 5

func (f *fleet) size(ctx context.Context, where, storage string, n int) (size, error) {
	s := size{where: where, records: n}
	for i := range often {
		name := fmt.Sprintf("gateway-%s-%d-%d", where, n, i)
		began := time.Now()
		at, err := f.startCaddy(name, site{link: h1, storage: storage}, site.gateway)
		if err == nil {
			err = f.callOne(at)
		}
		if err != nil {
			return s, err
		}
		s.start = append(s.start, milliseconds(began))
		if i == often-1 {
			err = f.look(ctx, &s, at, filepath.Join(f.folder, name, "config"))
		}
		if at.process.stop(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// look reloads a gateway and asks it for a page of its accounts.
func (f *fleet) look(ctx context.Context, s *size, at *server, config string) error {
	for range often {
		began := time.Now()
		if err := at.process.reload(ctx, config); err != nil {
			return err
		}
		s.reload = append(s.reload, milliseconds(began))
		began = time.Now()
		accounts, err := at.process.page(ctx)
		if err != nil {
			return err
		}
		if accounts != min(pageLength, s.records) {
			return fmt.Errorf("%d accounts are on a page", accounts)
		}
		s.page = append(s.page, milliseconds(began))
	}
	u, err := at.process.usage()
	s.rss = float64(u.rss) / (1 << 20)
	return err
}

func (f *fleet) callOne(at *server) error {
	file := filepath.Join(f.folder, "token")
	width, err := writeTokens(file, 1, 1)
	if err != nil {
		return err
	}
	return each(load{connections: 1, address: at.address, target: smallPath + query, tokens: &tokens{file: file, width: width, count: 1}}, 1)
}

func (f *fleet) traffic(ctx context.Context, where, storage string, n int) (traffic, error) {
	t := traffic{where: where, known: n, inUse: n / 10}
	file := filepath.Join(f.folder, "tokens-in-use")
	width, err := writeTokens(file, t.inUse, t.inUse)
	if err != nil {
		return t, err
	}
	at, err := f.startCaddy(fmt.Sprintf("gateway-due-%s-%d", where, n), site{link: h1, storage: storage}, site.gateway,
		"SSL_CERT_FILE="+certificateFile(f.folder)) // whom the component API is trusted by
	if err != nil {
		return t, err
	}
	defer at.process.stop()
	if err := f.forget(); err != nil {
		return t, err
	}
	// The first call brings an account's token into memory, the second finds
	// that it is due, and the others find the new one, or that it is on its way,
	// or that too many others are: then a call a second later tries again.
	const calls = 5
	l := load{connections: 64, address: at.address, target: smallPath + query, tokens: &tokens{file: file, width: width, count: t.inUse}}
	for began, before := time.Now(), -1; t.renewed < t.inUse || t.renewals > before; { // until a second has brought no other
		if time.Since(began) > 2*time.Minute {
			return t, fmt.Errorf("of %d accounts in use, %d were renewed", t.inUse, t.renewed)
		}
		if err := each(l, calls*t.inUse); err != nil {
			return t, err
		}
		t.calls += calls * t.inUse
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return t, context.Cause(ctx)
		}
		before = t.renewals
		c, err := f.counts()
		if err != nil {
			return t, err
		}
		t.renewals, t.renewed = c.Renewals, c.Renewed
	}
	u, err := at.process.usage()
	t.rss = float64(u.rss) / (1 << 20)
	return t, err
}

// reload loads a Caddyfile, changed or not.
func (p *process) reload(ctx context.Context, config string) error {
	file, err := os.Open(config)
	if err != nil {
		return err
	}
	defer file.Close()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin/load", file)
	if err != nil {
		return err
	}
	request.Header = http.Header{"Content-Type": {"text/caddyfile"}, "Cache-Control": {"must-revalidate"}}
	_, err = p.ask(request)
	return err
}

// pageLength is how many accounts are on a page of the admin API.
const pageLength = 50

// page asks for the first page of the accounts, and returns how many are on it.
func (p *process) page(ctx context.Context) (accounts int, err error) {
	answer, err := p.get(ctx, "/wechat/accounts")
	if err != nil {
		return 0, err
	}
	var page struct{ Items []json.RawMessage }
	err = json.Unmarshal(answer, &page)
	return len(page.Items), err
}

func milliseconds(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }
