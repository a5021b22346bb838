// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// minFailure is the number of characters of a failure that are shown at least,
// however narrow the terminal is.
const minFailure = 24

// table prints a page of events for people.
type table struct {
	now   time.Time
	width int    // of the terminal in characters; 0: nothing is cut
	next  string // the command that prints the next page, if --cursor is added
	none  string // what to say if there are no events
}

// print prints the events, how many they are, and how to get the next page.
func (t table) print(out io.Writer, page operate.Events) error {
	if len(page.Items) == 0 {
		_, err := fmt.Fprintln(out, t.none)
		return err
	}
	var rows bytes.Buffer
	w := tabwriter.NewWriter(&rows, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join([]string{"CLIENT", "TARGET", "ACCOUNT", "WHAT", "AGE", "NEXT", "TRIES", "EVENT ID", "FAILURE"}, "\t"))
	waiting := 0
	for _, e := range page.Items {
		if e.State == "waiting" {
			waiting++
		}
		cells := []string{e.Client, e.Target, e.AppID, what(e), t.between(e.Queued, t.now), t.due(e), fmt.Sprint(e.Attempts), e.EventID, e.Failure}
		for i := range cells {
			cells[i] = plain(cells[i])
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush() // a buffer takes everything
	text := t.cut(rows.String()) + fmt.Sprintf("%d waiting, %d dead", waiting, len(page.Items)-waiting)
	if page.Next != "" {
		text += " on this page; the next one: " + t.next + " --cursor " + page.Next
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

// cut shortens the rows to the width of the terminal, but of columns before that of
// the failure nothing: an id is of use only as a whole.
func (t table) cut(rows string) string {
	header, _, _ := strings.Cut(rows, "\n")
	width := max(t.width, strings.Index(header, "FAILURE")+minFailure)
	var text strings.Builder
	for row := range strings.Lines(rows) {
		row = strings.TrimRight(row, " \n")
		if t.width > 0 && utf8.RuneCountInString(row) > width {
			row = string([]rune(row)[:width-1]) + "…"
		}
		text.WriteString(row + "\n")
	}
	return text.String()
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
func (t table) due(e operate.Event) string {
	switch {
	case e.State == "dead":
		return "dead"
	case e.Due.Sub(t.now) >= time.Second:
		return "in " + t.between(t.now, e.Due)
	}
	return "now"
}

// between returns a short form of the time from one moment to another.
func (t table) between(from, to time.Time) string {
	return humanize.CustomRelTime(from, to, "", "", []humanize.RelTimeMagnitude{
		{D: time.Minute, Format: "%ds", DivBy: time.Second},
		{D: time.Hour, Format: "%dm", DivBy: time.Minute},
		{D: 48 * time.Hour, Format: "%dh", DivBy: time.Hour},
		{D: math.MaxInt64, Format: "%dd", DivBy: 24 * time.Hour},
	})
}

// plain returns a text without characters that a terminal or the table would
// interpret: parts of it come from outside.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}
