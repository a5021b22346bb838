// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// The contestants.
const (
	direct  = "direct"  // no proxy at all
	stock   = "stock"   // Caddy's reverse_proxy
	nginx   = "nginx"   // its proxy_pass
	gateway = "gateway" // called with a gateway token
	bearer  = "bearer"  // the same, called with a client secret
)

// The goals are set for the first row. Every other row differs from it in what
// its name says.
const (
	centre    = "TLS h1, 64 connections, GET, 100 B"
	openLoop  = "open loop, at half of stock's rate"
	named     = "a site with a name"
	audited   = "every call in the audit"
	collected = "garbage collected half as often"
	scale     = "many authorizers"
)

// cell is one measurement of each round: a contestant in a row.
type cell struct {
	row, who string
	at       *server
	load     load
	open     bool // a constant rate: half of what stock has just reached at the centre
}

// shapes are the rows that all contestants take part in. Not every combination
// is measured, that would take hours: each row turns away from the centre in
// one direction, or in two that could get in each other's way.
var shapes = []struct {
	name        string
	link        link
	connections int
	path        string
	body        int
	bearer      bool // this contestant too
}{
	{centre, h1, 64, smallPath, 0, true},
	{"1 connection", h1, 1, smallPath, 0, false},
	{"16 connections", h1, 16, smallPath, 0, false},
	{"256 connections", h1, 256, smallPath, 0, false},
	{"2 KB", h1, 64, mediumPath, 0, false},
	{"1 MB", h1, 64, largePath, 0, false},
	{"POST of 1 KB", h1, 64, sendPath, 1 << 10, true},
	{"TLS h2", h2, 64, smallPath, 0, false},
	{"TLS h2, 256 connections", h2, 256, smallPath, 0, false},
	{"TLS h2, POST of 1 KB", h2, 64, sendPath, 1 << 10, false},
	{"plain", plain, 64, smallPath, 0, false},
	{"plain, 256 connections", plain, 256, smallPath, 0, false},
}

// query is in every request, beside the token.
const query = "?openid=o6_bmjrPTlm6_2sgVt7hMZOPfL2M"

// cells starts the contestants and returns what to measure, in order.
func (f *fleet) cells() ([]cell, error) {
	storage, err := f.records(inFiles, "", 1, lifetime)
	if err != nil {
		return nil, err
	}
	servers := make(map[link]map[string]*server)
	for _, l := range []link{h1, h2, plain} {
		if servers[l], err = f.contestants(l, storage); err != nil {
			return nil, err
		}
	}
	token, err := fetchToken(servers[h1][gateway].address)
	if err != nil {
		return nil, err
	}
	var cells []cell
	for _, s := range shapes {
		for _, who := range []string{direct, stock, nginx, gateway, bearer} {
			at := servers[s.link][who]
			if at == nil || who == bearer && !s.bearer {
				continue
			}
			l := load{connections: s.connections, scheme: at.scheme, address: at.address, target: s.path + query, body: s.body}
			if who == bearer {
				l.headers = []string{"Authorization: Bearer " + clientSecret, "Wechat-Appid: " + authorizer(0)}
			} else {
				l.target += "&access_token=" + token
			}
			cells = append(cells, cell{row: s.name, who: who, at: at, load: l})
		}
		if s.name == centre {
			cells = append(cells, openLoops(cells)...)
		}
	}
	if cells, err = f.namedSites(cells, storage); err != nil {
		return nil, err
	}
	return f.besideItself(cells, storage)
}

// namedSites adds stock and gateway of the centre once more, in sites that
// answer to one name alone, as that for WeChat does in docs/production.md.
func (f *fleet) namedSites(cells []cell, storage string) ([]cell, error) {
	at := make(map[string]*server)
	var err error
	if at[stock], err = f.startCaddy("stock-named", site{link: h1, named: true}, site.stock); err != nil {
		return nil, err
	}
	if at[gateway], err = f.startCaddy("gateway-named", site{link: h1, named: true, storage: storage}, site.gateway); err != nil {
		return nil, err
	}
	for _, c := range cells {
		if c.row == centre && at[c.who] != nil {
			c.row, c.at, c.load.address = named, at[c.who], at[c.who].address
			cells = append(cells, c)
		}
	}
	return cells, nil
}

// These are contestants in rows of their own, beside the gateway of the centre.
const (
	auditing   = "gateway, audit calls" // in the row audited
	collecting = "gateway, GOGC=200"    // in the row collected: as the service and the image are run
)

// besideItself adds the gateway of the centre once more for each of these.
func (f *fleet) besideItself(cells []cell, storage string) ([]cell, error) {
	for _, other := range []struct {
		row, who, folder string
		audited          bool
		environment      []string
	}{
		{audited, auditing, "gateway-audited", true, nil},
		{collected, collecting, "gateway-collected", false, []string{"GOGC=200"}},
	} {
		at, err := f.startCaddy(other.folder, site{link: h1, storage: storage, audited: other.audited}, site.gateway, other.environment...)
		if err != nil {
			return nil, err
		}
		for _, c := range cells {
			if c.row == centre && c.who == gateway {
				c.row = other.row
				cells = append(cells, c)
				c.who, c.at, c.load.address = other.who, at, at.address
				cells = append(cells, c)
			}
		}
	}
	return cells, nil
}

// openLoops are the proxies of the centre once more, at a constant rate.
func openLoops(cells []cell) (loops []cell) {
	for _, c := range cells {
		if c.at.process != nil && c.who != bearer {
			c.row, c.open = openLoop, true
			loops = append(loops, c)
		}
	}
	return loops
}

// contestants starts those that can reach the upstream over a link.
func (f *fleet) contestants(l link, storage string) (map[string]*server, error) {
	var err error
	servers := make(map[string]*server)
	name := func(who string) string { return who + "-" + string(l) }
	if servers[stock], err = f.startCaddy(name(stock), site{link: l}, site.stock); err != nil {
		return nil, err
	}
	if servers[gateway], err = f.startCaddy(name(gateway), site{link: l, storage: storage}, site.gateway); err != nil {
		return nil, err
	}
	servers[bearer] = servers[gateway]
	if l == h2 { // neither wrk nor nginx speaks it
		return servers, nil
	}
	servers[direct] = &server{address: f.upstream[l]}
	if l == h1 {
		servers[direct].scheme = "https"
	}
	servers[nginx], err = f.startNginx(name(nginx), site{link: l})
	return servers, err
}

// fetchToken gets a gateway token as an SDK would.
func fetchToken(address string) (string, error) {
	query := url.Values{"grant_type": {"client_credential"}, "appid": {authorizer(0)}, "secret": {clientSecret}}
	response, err := http.Get("http://" + address + "/cgi-bin/token?" + query.Encode())
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(answer), `"access_token":"`)
	token, _, found := strings.Cut(rest, `"`)
	if !found {
		return "", fmt.Errorf("the gateway answers no token but %s", answer)
	}
	return token, nil
}

// cached is how many tokens the gateways keep in memory, their default.
const cached = 100_000

// The contestants in the row with many authorizers, beside stock.
const (
	one    = "gateway, one authorizer"
	within = "gateway, as many as it keeps in memory"
	beyond = "gateway, more than it keeps in memory"
	raised = "gateway, cache_size raised to keep all"
)

// scaleCells starts gateways before a storage with n records, and brings into
// memory what fits. Each request has another gateway token, which costs
// the client time and memory, so stock is measured again with such requests; and
// where there is one authorizer, it has as many tokens as elsewhere authorizers have.
func (f *fleet) scaleCells(reference *server, n int) ([]cell, error) {
	begin := time.Now()
	storage, err := f.records(inFiles, "", n, lifetime)
	if err != nil {
		return nil, err
	}
	held := min(n, cached)
	var width int
	choose := func(name string, n, authorizers int, zipf bool) *tokens {
		file := filepath.Join(f.folder, name)
		if err == nil {
			width, err = writeTokens(file, n, authorizers)
		}
		return &tokens{file, width, n, zipf}
	}
	ofOne, ofSome, ofAll := choose("tokens-of-one", held, 1, false), choose("tokens-of-some", held, held, false), choose("tokens", n, n, true)
	if err != nil {
		return nil, err
	}
	say("%d authorizers written in %.0f s", n, time.Since(begin).Seconds())
	var cells []cell
	add := func(who string, at *server, t *tokens) {
		cells = append(cells, cell{row: scale, who: who, at: at, load: load{
			connections: 64, address: at.address, target: smallPath + query, tokens: t,
		}})
	}
	add(stock, reference, ofOne)
	begin = time.Now()
	for i, g := range []struct {
		who  string
		size int // how many it keeps in memory; 0 for its default
		used *tokens
	}{{within, 0, ofSome}, {beyond, 0, ofAll}, {raised, n, ofAll}} {
		at, err := f.startCaddy(fmt.Sprintf("gateway-many-%d", i), site{link: h1, storage: storage, cacheSize: g.size}, site.gateway)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			add(one, at, ofOne)
		}
		add(g.who, at, g.used)
		if err := each(cells[len(cells)-1].load, max(g.size, held)); err != nil {
			return nil, err
		}
	}
	say("memory filled in %.0f s", time.Since(begin).Seconds())
	return cells, nil
}
