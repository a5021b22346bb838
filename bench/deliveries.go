// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// deliveries is the name of these measurements for BENCH_ROWS.
const deliveries = "deliveries"

const (
	messageRate = 300 // a second, each of another follower
	followed    = 20  // accounts that get them
	mostTurns   = 3   // how often each scene is played
	// warming is how long messages come before it counts, and before a target hangs.
	warming = 2 * time.Second
	// drained is how long the queue of a target that answers again may take.
	drained = 5 * time.Minute
)

// scene is who gets the messages, and for how long it is measured.
type scene struct {
	name     string
	targets  int
	straight bool // past the gateway: what this machine adds by itself
	hanging  bool // the last of them, from the end of warming on
	length   time.Duration
}

// scenes: in the last one, the attempts that hang first have ended by themselves, which
// takes 20 seconds, before it is over.
var scenes = []scene{
	{"one target, without a gateway", 1, true, false, 15 * time.Second},
	{"one target", 1, false, false, 15 * time.Second},
	{"five targets", 5, false, false, 15 * time.Second},
	{"five targets, one hangs", 5, false, true, 30 * time.Second},
}

// delivered is what came of the messages of a scene, one element of each turn.
type delivered struct {
	scene
	messages, replies int // of all turns
	p50, p99, longest []float64
	writes            []float64 // files and folders of the storage that were changed
	queued            []float64
	drain             []float64 // seconds until the queue of the hanging target was empty
	lost, twice       int       // deliveries, of all turns
}

// measureDeliveries plays every scene several times.
func (r *results) measureDeliveries(ctx context.Context, f *fleet) error {
	for _, s := range scenes {
		r.delivered = append(r.delivered, delivered{scene: s})
	}
	for turn := range min(r.rounds, mostTurns) {
		for i := range r.delivered {
			d := &r.delivered[i]
			name := fmt.Sprintf("gateway-deliveries-%d-%d", i, turn)
			if err := d.play(ctx, f, name, filepath.Join(f.folder, name, "storage")); err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			say("%-24s %d messages, %d replies, added p50 %5.2f p99 %6.2f longest %7.2f ms, %.0f writes, %.0f queued, %d lost, %d twice", d.name,
				d.messages, d.replies, d.p50[turn], d.p99[turn], d.longest[turn], d.writes[turn], d.queued[turn], d.lost, d.twice)
		}
	}
	return nil
}

// play sends messages to applications, through a gateway of its own.
func (d *delivered) play(ctx context.Context, f *fleet, name, storage string) error {
	n := int(messageRate * (warming + d.length).Seconds())
	apps, err := serveApplications(d.targets, n)
	if err != nil {
		return err
	}
	defer apps.close()
	weChat, err := newWeChat()
	if err != nil {
		return err
	}
	if d.straight {
		d.push(ctx, weChat, apps, n, func(p sandbox.Push) (sandbox.PushAnswer, error) { return apps.post(ctx, p.Plain) })
		d.writes, d.queued, d.drain = append(d.writes, 0), append(d.queued, 0), append(d.drain, 0)
		return nil
	}
	at, err := f.startCaddy(name, site{link: plain, storage: fileSystem(storage)}, func(s site) string { return s.delivering(apps.address, d.targets) })
	if err != nil {
		return err
	}
	defer at.process.stop()
	weChat.SetURLs("", "http://"+at.address+"/wechat/messages/$APPID$")
	warm := time.Now().Add(warming) // a gateway writes when it starts
	if d.hanging {
		hang := time.AfterFunc(warming, func() { apps.hang(d.targets - 1) })
		defer hang.Stop()
	}
	d.push(ctx, weChat, apps, n, func(p sandbox.Push) (sandbox.PushAnswer, error) { return weChat.Push(ctx, p) })
	return d.count(ctx, apps, at.process, storage, warm)
}

// count looks what the storage has seen, lets a hanging target answer, and looks
// whether every target has got every message.
func (d *delivered) count(ctx context.Context, apps *applications, p *process, storage string, warm time.Time) error {
	writes, err := changed(filepath.Join(storage, "wechat"), warm)
	if err != nil {
		return err
	}
	_, queued, err := p.queue(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	apps.release()
	for waiting := 1; waiting > 0; {
		if waiting, _, err = p.queue(ctx); err != nil {
			return err
		}
		if time.Since(began) > drained {
			return fmt.Errorf("%d messages still wait", waiting)
		}
		if waiting > 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}
	d.writes = append(d.writes, float64(writes))
	d.queued = append(d.queued, float64(queued))
	d.drain = append(d.drain, time.Since(began).Seconds())
	lost, twice := apps.count()
	d.lost += lost
	d.twice += twice
	return nil
}

// delivering is a Caddyfile for a gateway that delivers messages to so many targets at
// one address.
func (s site) delivering(address string, targets int) string {
	var deliver strings.Builder
	for i := range targets {
		fmt.Fprintf(&deliver, `
			deliver http://%s/%d {
				name  target%d
				token bench
				queue 200000
			}`, address, i, i)
	}
	return s.globals(fmt.Sprintf(`wechat {
		component %s {
			app_secret       %s
			token            bench
			encoding_aes_key %s
		}
		client %s {
			secret      %s
			authorizers *%s
		}
		api %s://%s
	}`, component, appSecret, pushKey, clientID, clientSecret, deliver.String(), s.scheme(), s.upstream)) + fmt.Sprintf(`%s {
	bind 127.0.0.1
	wechat_platform
}
`, s.name())
}

// pushKey seals what is pushed.
const pushKey = "0123456789abcdef0123456789abcdef0123456789A"

// newWeChat returns a WeChat that pushes messages of the accounts.
func newWeChat() (*sandbox.Sandbox, error) {
	weChat, err := sandbox.New(sandbox.Config{
		Component: component, Token: "bench", EncodingAESKey: pushKey, History: 100,
		Transport: &http.Transport{MaxIdleConnsPerHost: idle},
	})
	for i := 0; i < followed && err == nil; i++ {
		err = weChat.AddAccount(sandbox.Account{AppID: followedAccount(i)})
	}
	return weChat, err
}

func followedAccount(i int) string { return fmt.Sprintf("wx%016x", i%followed) }

// push sends n messages at a constant rate, whether or not the earlier ones have been
// answered, and notes by how many milliseconds each answer came later than the
// application made it, counted from when the message was due.
func (d *delivered) push(ctx context.Context, weChat *sandbox.Sandbox, apps *applications, n int, send func(sandbox.Push) (sandbox.PushAnswer, error)) {
	took, good := make([]time.Duration, n), make([]bool, n)
	interval := time.Second / messageRate
	begin, due := time.Now().Add(10*time.Millisecond), make(chan int, n)
	go pace(ctx, begin, interval, due)
	var all sync.WaitGroup
	for i := range due {
		all.Go(func() {
			answer, err := send(weChat.Text(followedAccount(i), fmt.Sprintf("follower%d", i), strconv.Itoa(i)))
			took[i] = time.Since(begin.Add(time.Duration(i) * interval))
			good[i] = err == nil && answer.Attempts == 1 && strings.Contains(answer.Reply, replyTo(i))
			if err != nil { // WeChat knows that it is not taken
				apps.excuse(i)
			}
		})
	}
	all.Wait()
	d.messages += n
	for _, g := range good {
		if g {
			d.replies++
		}
	}
	added := apps.added(took)[int(messageRate*warming.Seconds()):]
	slices.Sort(added)
	d.p50 = append(d.p50, added[len(added)/2])
	d.p99 = append(d.p99, added[len(added)*99/100])
	d.longest = append(d.longest, added[len(added)-1])
}

// changed returns how many files and folders have changed since: what is stored or
// deleted changes its folder.
func changed(folder string, since time.Time) (n int, err error) {
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.ModTime().After(since) {
			n++
		}
		return err
	})
	return n, err
}

var (
	waitingMetric = regexp.MustCompile(`(?m)^caddy_wechat_events_waiting{.*} (\S+)$`)
	queuedMetric  = regexp.MustCompile(`(?m)^caddy_wechat_deliveries_total{.*outcome="queued".*} (\S+)$`)
)

// queue asks how many messages wait, for all targets, and how many have been queued.
func (p *process) queue(ctx context.Context) (waiting, queued int, err error) {
	text, err := p.get(ctx, "/metrics")
	sum := func(metric *regexp.Regexp) (all int) {
		for _, found := range metric.FindAllSubmatch(text, -1) {
			value, _ := strconv.ParseFloat(string(found[1]), 64)
			all += int(value)
		}
		return all
	}
	return sum(waitingMetric), sum(queuedMetric), err
}

// deliveryGoals are those of what the gateway adds to a message.
func (r *results) deliveryGoals() (all []goal) {
	for _, d := range r.delivered {
		switch {
		case d.straight:
		case d.hanging:
			all = append(all, goal{"p99 added to a message, ms: " + d.name, spreadOf(d.p99), 1, false, 10})
		default:
			all = append(all, goal{"p99 added to a message, ms: " + d.name, spreadOf(d.p99), 1, false, 5},
				goal{"files written: " + d.name, spreadOf(d.writes), 0, false, 0})
		}
	}
	return all
}

// deliveryTable shows what the gateway adds to what the application takes.
func (r *results) deliveryTable() string {
	rows := [][]string{{"who gets it", "messages", "replies", "added p50 ms", "p99 ms", "longest ms", "files written", "queued", "s to empty the queue", "deliveries lost", "made twice"}}
	for _, d := range r.delivered {
		drain := "–"
		if d.hanging {
			drain = spreadOf(d.drain).whole(0)
		}
		rows = append(rows, []string{
			d.name, grouped(float64(d.messages), 0), grouped(float64(d.replies), 0), spreadOf(d.p50).whole(2), spreadOf(d.p99).whole(2),
			spreadOf(d.longest).whole(0), spreadOf(d.writes).whole(0), spreadOf(d.queued).whole(0), drain, fmt.Sprint(d.lost), fmt.Sprint(d.twice),
		})
	}
	return table(rows)
}
