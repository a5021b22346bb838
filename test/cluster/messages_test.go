// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// delivered is within how long what waits is delivered when everything works again: a
// lock of a killed node, and the longest pause between two attempts at an application
// that was down for a short time.
const delivered = time.Minute

// The application is down: WeChat hears success for 50 messages and 10 events. The
// gateway is killed. When both are back, all arrive: once, and the messages of each
// account in order.
func TestKilledWhileAnApplicationIsDown(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		c, app := startDelivering(t, s, 1)
		const messages, events = 50, 10
		var followers sync.WaitGroup
		for _, appid := range []string{shop, cafe} {
			followers.Go(func() {
				for i := range messages / 2 {
					answer, err := c.weChat.Push(t.Context(), c.weChat.Text(appid, "follower", fmt.Sprintf("%s %02d", appid, i)))
					if err != nil || answer.Shown != sandbox.ShownSilence || answer.Attempts != 1 {
						t.Errorf("message %d of %s: %s at attempt %d (%v)", i, appid, answer.Shown, answer.Attempts, err)
					}
				}
			})
		}
		for i := range events {
			c.must(c.weChat.PushEvent(t.Context(), "notify_of_the_test", fmt.Sprintf("<AuthorizerAppid>%s</AuthorizerAppid><Number>event %d</Number>", shop, i)))
		}
		followers.Wait()
		c.nodes[0].Kill()
		c.nodes[0].restart()
		app.serve()
		c.until("everything has arrived", delivered, func() bool { return app.taken("") >= messages+events })
		last := make(map[string]string)
		ids := make(map[string]bool)
		for _, d := range app.deliveries("") {
			if ids[d.id] {
				t.Errorf("%q was delivered twice", d.text)
			}
			ids[d.id] = true
			if strings.HasPrefix(d.text, "event") {
				continue
			}
			if d.text <= last[d.appid] {
				t.Errorf("%q was delivered after %q", d.text, last[d.appid])
			}
			last[d.appid] = d.text
		}
		if len(ids) != messages+events {
			t.Errorf("%d messages and events have arrived, want %d", len(ids), messages+events)
		}
	})
}

// The gateway is killed while an application works on three messages: one that has just
// come, one that has been claimed in the storage, and one for which WeChat has had success
// after its third attempt. The followers see no trouble, and the application gets each
// message again, with the same id: because WeChat repeats it, or from the queue.
func TestKilledDuringAttempts(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		c, app := startDelivering(t, s, 1)
		app.serve()
		answers := make(map[string]<-chan shown)
		push := func(text string) {
			app.takes(text, time.Hour)
			answers[text] = c.push([]string{text})
			c.until("the application has "+text, delivered, func() bool { return len(app.deliveries(text)) == 1 })
		}
		push("answered")
		time.Sleep(12 * time.Second) // WeChat's third attempt is answered after 15.5 s
		before := c.claims()
		push("claimed")
		c.until("WeChat has had success", delivered, func() bool { return len(answers["answered"]) == 1 })
		c.until("the second message is claimed", delivered, func() bool { return c.claims() > before })
		push("new")
		c.nodes[0].Kill()
		c.nodes[0].restart()
		for text, want := range map[string]string{"answered": sandbox.ShownSilence, "claimed": sandbox.ShownSilence, "new": sandbox.ShownReply} {
			if answer := <-answers[text]; answer.err != nil || answer.Shown != want {
				t.Errorf("%s: the follower sees %s after %d attempts, want %s (%v)", text, answer.Shown, answer.Attempts, want, answer.err)
			}
			c.until("the application has it again: "+text, delivered, func() bool { return app.taken(text) > 0 })
			if got := app.deliveries(text); len(got) != 2 || got[0].id != got[1].id {
				t.Errorf("delivered: %v, want it twice, with the same id", got)
			}
		}
	})
}

// claims is how many messages nodes have noted in the storage that they deliver.
func (c *cluster) claims() (n int) {
	c.Helper()
	keys, err := c.storage.List(c.Context(), "wechat/"+component+"/messages", true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Error(err)
	}
	for _, key := range keys {
		if strings.HasSuffix(key, ".json") {
			n++
		}
	}
	return n
}

// A stop in good order while two messages are delivered: one ends within the grace
// period. It was delivered once, and a copy that comes after the restart gets the same
// reply. The other one is queued, and delivered after the restart.
func TestStopDuringAttempts(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		c, app := startDelivering(t, s, 1)
		app.serve()
		a := c.nodes[0]
		a.Kill()
		a.Global = "grace_period 8s"
		a.restart()
		app.takes("short", 4*time.Second)
		app.takes("long", time.Hour)
		answers := map[string]<-chan shown{"short": c.push([]string{"short"}), "long": c.push([]string{"long"})}
		c.until("the application has both", delivered, func() bool { return len(app.deliveries("")) == 2 })
		c.must(a.Process.Process.Signal(syscall.SIGTERM))
		a.Wait()
		a.restart()
		short, long := <-answers["short"], <-answers["long"]
		c.wantReply(short)
		if long.err != nil || long.Shown != sandbox.ShownSilence {
			t.Errorf("long: the follower sees %s (%v)", long.Shown, long.err)
		}
		again, err := c.weChat.Push(t.Context(), sandbox.Push{Again: true, Number: short.Tries[len(short.Tries)-1].Number})
		c.wantReply(shown{again, "short", err})
		app.wantOnce("short")
		c.until("the other one is delivered", delivered, func() bool { return app.taken("long") == 1 })
		if got := app.deliveries("long"); len(got) != 2 || got[0].id != got[1].id {
			t.Errorf("delivered: %v, want it twice, with the same id", got)
		}
	})
}

// Copies that come five seconds apart, to one node and the other, of messages that take 7
// and 12 s: one delivery each, and the reply.
func TestCopiesReachTwoNodes(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		c, app := startDelivering(t, s, 2)
		app.serve()
		app.takes("seven", 7*time.Second)
		app.takes("twelve", 12*time.Second)
		answers := c.push([]string{"seven", "twelve"}, c.nodes[0].messages(), c.nodes[1].messages())
		for range 2 {
			c.wantReply(<-answers)
		}
		app.wantOnce("seven")
		app.wantOnce("twelve")
	})
}

// Configurations are loaded while a hundred messages a second come: each is delivered
// once, and replied to.
func TestReloadWhileMessagesAreDelivered(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		c, app := startDelivering(t, s, 1)
		app.serve()
		const messages, reloads = 400, 4
		a := c.nodes[0]
		client := a.Wechat
		var answers []<-chan shown
		for i := range messages {
			app.takes(fmt.Sprintf("message %d", i), 50*time.Millisecond)
		}
		reloading := make(chan error, 1)
		go func() {
			var err error
			for i := range reloads {
				a.Wechat = fmt.Sprintf("%s\ncache_size %d", client, 1000+i)
				err = errors.Join(err, a.reload())
			}
			reloading <- err
		}()
		for i := range messages {
			answers = append(answers, c.push([]string{fmt.Sprintf("message %d", i)}))
			time.Sleep(10 * time.Millisecond)
		}
		c.must(<-reloading)
		for _, answer := range answers {
			s := <-answer
			c.wantReply(s)
			app.wantOnce(s.text)
		}
	})
}
