// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// events prints a page of events and how many they are. next is the command that prints
// the next page, if --cursor is added; none is what to say if there are no events.
func (s screen) events(page operate.Events, next, none string) {
	if len(page.Items) == 0 {
		s.printf("%s\n", none)
		return
	}
	g := grid{header: []string{"CLIENT", "TARGET", "ACCOUNT", "WHAT", "AGE", "NEXT", "TRIES", "EVENT ID", "FAILURE"}, least: 24}
	waiting := 0
	for _, e := range page.Items {
		if e.State == "waiting" {
			waiting++
		}
		g.rows = append(g.rows, []string{e.Client, e.Target, e.AppID, what(e), between(e.Queued, s.now), s.due(e), fmt.Sprint(e.Attempts), e.EventID, e.Failure})
	}
	g.print(s)
	s.printf("%d waiting, %d dead", waiting, len(page.Items)-waiting)
	if page.Next != "" {
		s.printf(" on this page; the next one: %s --cursor %s", next, page.Next)
	}
	s.printf("\n")
}

// what returns the InfoType of an event, and otherwise what is known.
func what(e operate.Event) string {
	switch {
	case e.InfoType != "":
		return e.InfoType
	case e.Kind != "":
		return e.Kind
	}
	return "?"
}

// due returns when an event is tried next.
func (s screen) due(e operate.Event) string {
	switch {
	case e.State == "dead":
		return "dead"
	case e.Due.Sub(s.now) >= time.Second:
		return "in " + between(s.now, e.Due)
	}
	return "now"
}
