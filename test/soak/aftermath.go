// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// recoveryLimit is more than the longest pause after a failure (a minute and a
// quarter) and the longest wait for a lock that a killed gateway has left.
const recoveryLimit = 3 * time.Minute

// aftermath is what is found when all is quiet again.
type aftermath struct {
	lost     []string // accounts that some gateway can no longer serve, and why
	slowest  time.Duration
	settled  time.Duration // until all messages had arrived
	searched int64         // bytes of logs and storage
	records  int           // of accounts in storage
}

// aftermath ends all faults, pushes one ticket, and looks what the gateways are
// left with. Nothing else is done for them.
func (w *world) aftermath(ctx context.Context) (a aftermath) {
	w.weChat.ClearFaults()
	w.weChat.SetSwitches(sandbox.Switches{})
	for _, n := range w.nodes {
		if !n.alive() {
			w.record.problem(fmt.Sprintf("gateway %d has ended by itself", n.number))
		}
	}
	if err := w.weChat.PushTicket(ctx); err != nil {
		w.record.problem(fmt.Sprintf("a ticket is refused when all is well: %v", err))
	}
	// Until every token in memory has ended: what was lost behind it shows.
	select {
	case <-time.After(lifetime + time.Second):
	case <-ctx.Done():
		return a
	}
	w.callEverybody(&a)
	a.settled = w.deliver.settle(ctx)
	for _, n := range w.nodes {
		if err := n.stop(); err != nil {
			w.record.problem(err.Error())
		}
	}
	if err := w.search(&a); err != nil {
		w.record.problem(fmt.Sprintf("searching for credentials: %v", err))
	}
	if a.records != accounts {
		w.record.problem(fmt.Sprintf("%d of %d accounts are in storage", a.records, accounts))
	}
	return a
}

// callEverybody calls every account that has authorized, through every
// gateway, until it answers.
func (w *world) callEverybody(a *aftermath) {
	type pair struct {
		n     *node
		appid string
	}
	jobs := make(chan pair)
	began := time.Now()
	var mu sync.Mutex
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for p := range jobs {
				from := time.Now()
				answer, _ := w.callers.call(p.n, p.appid, shapes[read])
				for !answer.good() && time.Since(began) < recoveryLimit {
					time.Sleep(100 * time.Millisecond)
					answer, _ = w.callers.call(p.n, p.appid, shapes[read])
				}
				mu.Lock()
				a.slowest = max(a.slowest, time.Since(from))
				if !answer.good() {
					a.lost = append(a.lost, fmt.Sprintf("%s at gateway %d: %v", p.appid, p.n.number, answer))
				}
				mu.Unlock()
			}
		})
	}
	for _, appid := range w.appids {
		if !w.weChat.Authorized(appid) {
			w.record.problem("the soak itself has left " + appid + " unauthorized")
		}
		for _, n := range w.nodes {
			jobs <- pair{n, appid}
		}
	}
	close(jobs)
	all.Wait()
	slices.Sort(a.lost)
}

// search looks for credentials in all logs and in all that is stored.
func (w *world) search(a *aftermath) error {
	export := filepath.Join(w.folder, "storage.tar")
	output, err := w.nodes[0].command("storage", "export", "--config", w.nodes[0].caddyfile(), "--output", export).CombinedOutput()
	if err != nil {
		return fmt.Errorf("exporting storage: %w: %s", err, output)
	}
	file, err := os.Open(export)
	if err != nil {
		return err
	}
	defer file.Close()
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if match, _ := filepath.Match("wechat/*/authorizers/*/wx*.json", header.Name); match {
			a.records++
		}
		if err := w.searchIn(a, "storage, "+header.Name, archive); err != nil {
			return err
		}
	}
	for _, n := range w.nodes {
		log, err := os.Open(filepath.Join(n.folder, "log"))
		if err != nil {
			return err
		}
		err = w.searchIn(a, fmt.Sprintf("the log of gateway %d", n.number), log)
		log.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// searchIn reads a file in pieces that overlap, so that none hides in between.
func (w *world) searchIn(a *aftermath, name string, file io.Reader) error {
	const whole = 1 << 20
	piece, kept := make([]byte, whole), 0
	for {
		n, err := io.ReadFull(file, piece[kept:])
		a.searched += int64(n)
		if credential := findCredential(piece[:kept+n]); credential != "" {
			w.record.problem("a credential stands in " + name + ": " + credential)
			return nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		kept = copy(piece, piece[whole-100:])
	}
}

// marks stand in every credential that the sandbox has or makes, authorization
// codes included.
var marks = [][]byte{[]byte("REALAPPSECRET"), []byte("REALPUSHTOKEN"), []byte("REALAESKEY"), []byte("REALTOKEN"),
	[]byte("REALREFRESH"), []byte("REALTICKET"), []byte("queryauthcode@@@")}

// findCredential returns the mark of a credential in text, "" if there is none.
func findCredential(text []byte) string {
	for _, mark := range marks {
		if bytes.Contains(text, mark) {
			return string(mark)
		}
	}
	return ""
}
