// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

const (
	many       = 100_000
	starts     = 5       // of each kind
	slowerMost = 200     // ms, to start with many authorizers
	moreMost   = 150_000 // KB, with the tokens of all in memory
	sample     = 10_000  // accounts that are called to see whether they are in memory
	atATime    = 32      // calls
)

// scale measures what a hundred thousand authorizers cost: the time to start,
// and the memory when the tokens of all are kept there, or of as many as
// cache_size allows.
func scale(ctx context.Context, s settings) error {
	fmt.Printf("\nScale: %d authorizers in storage\n", many)
	m := &scaled{settings: s}
	m.folder = filepath.Join(s.folder, "scale")
	defer m.close()
	if err := m.build(ctx); err != nil {
		return err
	}
	if err := m.measureStarts(ctx); err != nil {
		return err
	}
	for _, cacheSize := range []int{many, many / 10} {
		if err := m.measureMemory(ctx, cacheSize); err != nil {
			return err
		}
	}
	return nil
}

// scaled is a folder and a Redis full of tokens, and others with a ticket alone,
// and a WeChat that knows the tokens.
type scaled struct {
	settings
	weChat      *httptest.Server
	disk, empty *files
	redis       *redis // nil where it is not installed
	nodes       []*node
}

// In which of the databases of Redis there is only a ticket.
const emptyDatabase = 1

func (m *scaled) close() {
	for _, n := range m.nodes {
		_ = n.kill()
	}
	if m.redis != nil {
		m.redis.stop()
	}
	if m.weChat != nil {
		m.weChat.Close()
	}
}

// build starts WeChat and fills the storages.
func (m *scaled) build(ctx context.Context) error {
	m.weChat = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `{"errcode":0}`
		if n, err := strconv.Atoi(r.URL.Query().Get(idParameter)); err == nil && r.URL.Query().Get("access_token") != tokenOf(appid(n)) {
			answer = `{"errcode":40014,"errmsg":"invalid access_token"}`
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	}))
	ticket, all, err := seal(ctx)
	if err != nil {
		return err
	}
	if m.disk, err = filledFiles(filepath.Join(m.folder, "full"), all); err != nil {
		return err
	}
	if m.empty, err = filledFiles(filepath.Join(m.folder, "empty"), ticket); err != nil || !redisInstalled() {
		return err
	}
	if m.redis, err = startRedis(m.folder); err != nil {
		return err
	}
	return errors.Join(m.redis.fill(ctx, 0, all), m.redis.fill(ctx, emptyDatabase, ticket))
}

// node makes a gateway that waits to be started.
func (m *scaled) node(storage, options string) (*node, error) {
	n, err := newNode(m.settings, len(m.nodes)+1, storage, m.weChat.URL, options)
	if err == nil {
		m.nodes = append(m.nodes, n)
	}
	return n, err
}

func (m *scaled) measureStarts(ctx context.Context) error {
	if err := m.measureStart(ctx, "files", m.empty.directive(), m.disk.directive()); err != nil {
		return err
	}
	if m.redis == nil {
		fmt.Println("Redis is not measured: redis-server is not installed")
		return nil
	}
	return m.measureStart(ctx, "Redis", m.redis.database(emptyDatabase), m.redis.directive())
}

// measureStart compares the start with an empty storage with that with a full
// one, in turns, so that a busy machine is busy for both.
func (m *scaled) measureStart(ctx context.Context, kind string, storages ...string) error {
	var nodes []*node
	for _, storage := range storages {
		n, err := m.node(storage, "")
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	took := make([][]int, len(nodes))
	for range starts {
		for i, n := range nodes {
			ms, err := startOnce(ctx, n)
			if err != nil {
				return err
			}
			took[i] = append(took[i], ms)
		}
	}
	median := func(i int) int { return slices.Sorted(slices.Values(took[i]))[starts/2] }
	line(fmt.Sprintf("ms to start, %s, no authorizer (median of %d)", kind, starts), median(0), fmt.Sprint(took[0]))
	line(fmt.Sprintf("ms to start, %s, %d authorizers", kind, many), median(1), fmt.Sprint(took[1]))
	if median(1) > median(0)+slowerMost {
		return fmt.Errorf("the start takes %d ms longer, %d are allowed", median(1)-median(0), slowerMost)
	}
	return nil
}

// startOnce starts a gateway, and returns after how many milliseconds it has
// answered its first call.
func startOnce(ctx context.Context, n *node) (int, error) {
	began := time.Now()
	if err := n.start(ctx); err != nil {
		return 0, err
	}
	response, err := http.Get("http://" + n.Proxy + "/cgi-bin/user/get")
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	took := time.Since(began)
	return int(took.Milliseconds()), n.kill()
}

// measureMemory calls every account once, so that its token is kept in memory
// as far as there is room, and looks how much more the gateway takes then.
func (m *scaled) measureMemory(ctx context.Context, cacheSize int) error {
	n, err := m.node(m.disk.directive(), fmt.Sprintf("cache_size %d", cacheSize))
	if err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	before, err := n.memory()
	if err != nil {
		return err
	}
	began := time.Now()
	if good := m.call(n, rand.Perm(many)); good != many {
		return fmt.Errorf("%d of %d accounts are served", good, many)
	}
	took := time.Since(began)
	after, err := n.memory()
	if err != nil {
		return err
	}
	if err := m.disk.take(); err != nil {
		return err
	}
	kept := m.call(n, rand.Perm(many)[:sample]) // what is served without storage is in memory
	if err := m.disk.giveBack(); err != nil {
		return err
	}
	line(fmt.Sprintf("MB more after calls for all, cache_size %d", cacheSize), (after-before)/1000,
		fmt.Sprintf("%d MB before, %d after; %d calls in %.0f s; of %d accounts %d in memory", before/1000, after/1000, many, took.Seconds(), sample, kept))
	switch room := sample * cacheSize / many; {
	case after-before > moreMost:
		return fmt.Errorf("%d MB more, %d are allowed", (after-before)/1000, moreMost/1000)
	case kept < room*8/10: // a cache does not take everything at once
		return fmt.Errorf("of %d accounts %d are in memory, there is room for %d", sample, kept, room)
	case kept > room*12/10:
		return fmt.Errorf("of %d accounts %d are in memory, cache_size allows %d", sample, kept, room)
	}
	return n.kill()
}

// call makes one call for each account and returns how many were answered well.
func (m *scaled) call(n *node, accounts []int) int {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atATime}}
	defer client.CloseIdleConnections()
	var next, good atomic.Int64
	var all sync.WaitGroup
	for range atATime {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(accounts); i = int(next.Add(1)) - 1 {
				if serves(client, n, accounts[i]) {
					good.Add(1)
				}
			}
		})
	}
	all.Wait()
	return int(good.Load())
}

// serves reports whether a call for an account is made with its token.
func serves(client *http.Client, n *node, account int) bool {
	r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/cgi-bin/user/get?%s=%d", n.Proxy, idParameter, account), nil)
	if err != nil {
		return false
	}
	r.Header.Set("Authorization", "Bearer "+caddy.ClientSecret)
	r.Header.Set("Wechat-Appid", appid(account))
	response, err := client.Do(r)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return err == nil && string(body) == `{"errcode":0}`
}

// memory returns the resident memory in KB after a collection of garbage.
func (n *node) memory() (int, error) {
	for range 2 { // what the first one finds is freed by the second
		response, err := http.Get("http://" + n.Admin + "/debug/pprof/heap?gc=1")
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if err != nil {
			return 0, err
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("memory can be measured on Linux alone: %w", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	return strconv.Atoi(number)
}
