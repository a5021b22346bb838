// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	storageredis "github.com/pberkel/caddy-storage-redis"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics/metricstest"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// sizeOfQueue is how many items BenchmarkQueue lets wait: BENCH_QUEUE. Without it,
// the benchmarks here are left out, because they take minutes. BENCH_REDIS is the
// address of a Redis whose content may be deleted; without it only files are used.
func sizeOfQueue(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("BENCH_QUEUE"))
	if err != nil || n < 1 {
		b.Skip("BENCH_QUEUE is not set")
	}
	return n
}

// storages calls measure with an empty storage of each kind, as Caddy uses them.
func storages(b *testing.B, measure func(b *testing.B, storage vault.Storage)) {
	b.Run("files", func(b *testing.B) { measure(b, &certmagic.FileStorage{Path: b.TempDir()}) })
	address := os.Getenv("BENCH_REDIS")
	if address == "" {
		return
	}
	host, port, _ := strings.Cut(address, ":")
	storage := storageredis.New()
	storage.Host, storage.Port = []string{host}, []string{port}
	storage.KeyPrefix = fmt.Sprintf("bench-%d", time.Now().UnixNano())
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := storage.Provision(ctx); err != nil { // not in the benchmark: what it logs would stand in its line
		b.Fatal(err)
	}
	defer func() { _ = storage.Cleanup() }()
	b.Run("Redis", func(b *testing.B) { measure(b, storage) })
}

// benchNode returns a node that serves nothing yet, and its only target.
func benchNode(b *testing.B, storage vault.Storage) (*delivery.Courier, *delivery.Target, *vault.Vault) {
	ring, err := vault.NewKeyring(bytes.Repeat([]byte{1}, vault.KeySize))
	if err != nil {
		b.Fatal(err)
	}
	v := vault.New(func() vault.Storage { return storage }, func(string) *vault.Keyring { return ring })
	target := plainTarget(b, "shop")
	target.MaxWaiting = 200_000
	targets := map[vault.Queue]*delivery.Target{target.Queue(): target}
	node := delivery.NewCourier(func() delivery.Settings { return delivery.Settings{Vault: v, Log: zap.NewNop(), Targets: targets} })
	b.Cleanup(node.Close)
	return node, target, v
}

// benchItem is a message of the usual size, of one of 1,000 accounts.
func benchItem(node *delivery.Courier, i int) delivery.Item {
	m := item(node, numbered(i%1000), fmt.Sprintf("a%08d1", i))
	m.Body = bytes.Repeat([]byte("x"), 500)
	return m
}

// unsynced is a storage of files without its fsync, to fill it. The name and the
// content of each file are the same.
type unsynced struct{ *certmagic.FileStorage }

func (s unsynced) Store(_ context.Context, key string, value []byte) error {
	name := s.Filename(key)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(name, value, 0o600)
}

// waiting returns how many items wait, as it is shown.
func waiting(b *testing.B) int {
	return int(metricstest.Value(b, "caddy_wechat_events_waiting", "shop", "main"))
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkQueue starts a node with many items in its queue and lets it deliver them
// to an application that answers at once. It reports how long it takes until the node
// knows all items, what they take in memory then, and how many it delivers a second.
func BenchmarkQueue(b *testing.B) {
	n := sizeOfQueue(b)
	storages(b, func(b *testing.B, storage vault.Storage) {
		fill := storage
		if files, ok := storage.(*certmagic.FileStorage); ok {
			fill = unsynced{files}
		}
		filler, target, _ := benchNode(b, fill)
		var next atomic.Int64
		var done sync.WaitGroup
		for range 16 {
			done.Go(func() {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					if err := filler.Enqueue(b.Context(), benchItem(filler, i), []*delivery.Target{target}, time.Time{}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		done.Wait()
		for b.Loop() {
			node, target, _ := benchNode(b, storage)
			answers := make(chan struct{})
			node.SetSend(func(context.Context, *delivery.Target, delivery.Item) delivery.Result {
				<-answers
				return delivery.Result{}
			})
			before, began := heap(), time.Now()
			node.Serve(map[vault.Queue]*delivery.Target{target.Queue(): target})
			for waiting(b) < n {
				time.Sleep(time.Millisecond)
			}
			b.ReportMetric(float64(time.Since(began).Milliseconds()), "start-ms")
			b.ReportMetric((heap()-before)/float64(n), "heap-B/item")
			began = time.Now()
			close(answers)
			for waiting(b) > 0 {
				time.Sleep(10 * time.Millisecond)
			}
			b.ReportMetric(float64(n)/time.Since(began).Seconds(), "delivered/s")
		}
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkEnqueue measures how many messages a second are stored by one caller, and
// by sixteen.
func BenchmarkEnqueue(b *testing.B) {
	sizeOfQueue(b)
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("%d", callers), func(b *testing.B) {
			storages(b, func(b *testing.B, storage vault.Storage) {
				node, target, _ := benchNode(b, storage)
				node.SetSend(func(context.Context, *delivery.Target, delivery.Item) delivery.Result {
					return delivery.Result{Err: errDown, Gone: true}
				})
				node.Serve(map[vault.Queue]*delivery.Target{target.Queue(): target})
				const length = 3 * time.Second
				var next atomic.Int64
				var done sync.WaitGroup
				began := time.Now()
				for range callers {
					done.Go(func() {
						for time.Since(began) < length {
							if err := node.Enqueue(b.Context(), benchItem(node, int(next.Add(1))), []*delivery.Target{target}, time.Time{}); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				done.Wait()
				b.ReportMetric(float64(next.Load())/time.Since(began).Seconds(), "stored/s")
				b.ReportMetric(0, "ns/op")
			})
		})
	}
}
