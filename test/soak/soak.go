// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	gateways = 5
	accounts = 1000
	workers  = 64 // calls at a time

	// Tokens of WeChat's live two hours, and five minutes after another has
	// taken their place. Here an hour passes in ten seconds.
	lifetime = 20 * time.Second
	overlap  = 5 * time.Second
)

// world is everything that runs.
type world struct {
	settings
	weChat  *sandbox.Sandbox
	witness *witness
	record  *record
	storage storage
	nodes   []*node
	appids  []string
	callers *callers
	deliver *deliveries
	apis    []*httptest.Server
}

// soak runs the gateways while everything goes wrong, and judges them.
func soak(ctx context.Context, s settings) (err error) {
	fmt.Printf("Soak: %v, seed %d, storage %s, %d gateways, %d accounts, tokens of %v\n",
		s.time, s.seed, s.storage, gateways, accounts, lifetime)
	w := &world{settings: s, record: newRecord()}
	defer w.close()
	if err := w.build(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := w.authorizeAll(ctx); err != nil {
		return err
	}
	fmt.Printf("%d accounts have authorized within %.1f s\n", accounts, time.Since(began).Seconds())
	if err := w.goThrough(ctx); err != nil {
		return err
	}
	a := w.aftermath(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return w.report(a)
}

// build starts WeChat, the storage and the gateways.
func (w *world) build(ctx context.Context) (err error) {
	if w.storage, err = newStorage(w.settings); err != nil {
		return err
	}
	w.weChat, err = sandbox.New(sandbox.Config{
		TokenLifetime: lifetime, Overlap: overlap, EventsURL: "http://gateway/wechat/events",
		MessagesURL: "http://gateway/wechat/messages/$APPID$", Transport: &anyGateway{nodes: &w.nodes, rng: rand.New(rand.NewPCG(w.seed, 0))},
	})
	if err != nil {
		return err
	}
	w.witness = &witness{w.weChat, w.record}
	w.deliver = newDeliveries(w.weChat, w.record)
	for number := range gateways {
		api := httptest.NewServer(w.witness.of(number))
		w.apis = append(w.apis, api)
		n, err := newNode(w.settings, number, w.storage.directive(), api.URL, w.deliver.client())
		if err != nil {
			return err
		}
		w.nodes = append(w.nodes, n)
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	for i := range accounts {
		w.appids = append(w.appids, appid(i))
		if err := w.weChat.AddAccount(sandbox.Account{AppID: w.appids[i]}); err != nil {
			return err
		}
	}
	w.deliver.appids = w.appids
	w.callers = newCallers(w.nodes, w.appids, w.record)
	return nil
}

// authorizeAll lets every account authorise, and waits until the gateways have
// a token of each.
func (w *world) authorizeAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	began := time.Now()
	if err := w.weChat.PushTicket(ctx); err != nil {
		return err
	}
	jobs := make(chan string)
	failed := make(chan error, gateways)
	for range gateways {
		go func() {
			var err error
			for appid := range jobs {
				if _, failure := w.weChat.Authorize(ctx, appid); failure != nil {
					err = failure
				}
			}
			failed <- err
		}()
	}
	for _, appid := range w.appids {
		jobs <- appid
	}
	close(jobs)
	var err error
	for range gateways {
		err = errors.Join(err, <-failed)
	}
	if err != nil {
		return err
	}
	for _, appid := range w.appids {
		for !w.record.givenSince(appid, began) {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("no gateway has got a token of %s: %w", appid, context.Cause(ctx))
			}
		}
	}
	return nil
}

// goThrough lets applications call and chance do its work, for as long as the
// settings say, and tells how it goes.
func (w *world) goThrough(ctx context.Context) error {
	calling, enough := context.WithCancel(ctx)
	defer enough()
	raging, cancel := context.WithTimeout(ctx, w.time)
	defer cancel()
	c := &chaos{
		weChat: w.weChat, nodes: w.nodes, appids: w.appids, storage: w.storage, record: w.record,
		rng: rand.New(rand.NewPCG(w.seed, 1<<32)), ending: ctx, deaths: make(map[string][]time.Time),
		deliveries: w.deliver,
	}
	var all sync.WaitGroup
	all.Go(func() { w.callers.run(calling, w.seed, workers, w.rate) })
	all.Go(func() { w.deliver.run(calling, w.seed) })
	all.Go(func() { w.tell(calling) })
	c.run(raging) // also waits until what it has begun is mended
	enough()
	all.Wait()
	return context.Cause(ctx)
}

// tell says every minute that there is still something going on.
func (w *world) tell(ctx context.Context) {
	began, tick := time.Now(), time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		w.callers.mu.Lock()
		made, failed := w.callers.made, len(w.callers.failures)
		w.callers.mu.Unlock()
		fmt.Printf("%4.0f s: %d calls, %d failed and to be judged\n", time.Since(began).Seconds(), made, failed)
	}
}

// close ends what still runs.
func (w *world) close() {
	for _, n := range w.nodes {
		if n.process != nil {
			_ = n.kill()
		}
	}
	for _, api := range w.apis {
		api.Close()
	}
	if w.deliver != nil {
		w.deliver.server.Close()
	}
	if w.storage != nil {
		w.storage.stop()
	}
}

// anyGateway brings every push to a gateway chosen by chance, as a load
// balancer does that knows of no failure.
type anyGateway struct {
	nodes *[]*node
	mu    sync.Mutex
	rng   *rand.Rand
}

func (g *anyGateway) RoundTrip(r *http.Request) (*http.Response, error) {
	g.mu.Lock()
	n := (*g.nodes)[g.rng.IntN(len(*g.nodes))]
	g.mu.Unlock()
	to := r.Clone(r.Context())
	to.URL.Host = n.Platform
	to.Host = n.Platform
	return http.DefaultTransport.RoundTrip(to)
}
