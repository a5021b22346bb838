// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"golang.org/x/text/width"
)

// screen is where the answers are printed for people.
type screen struct {
	out   io.Writer
	now   time.Time // also says in which time zone times are shown
	width int       // of the terminal in columns; 0: there is none, and nothing is cut, wrapped or left out
}

// newScreen returns the screen of a command.
func newScreen(cmd *cobra.Command) screen {
	s := screen{out: cmd.OutOrStdout(), now: time.Now()}
	if isTerminal(s.out) {
		s.width, _, _ = term.GetSize(int(s.out.(*os.File).Fd()))
	}
	return s
}

// isTerminal reports whether what is written there is read in a terminal.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// printf prints a text.
func (s screen) printf(format string, arguments ...any) { fmt.Fprintf(s.out, format, arguments...) }

// entry prints a name and beside it texts, each on lines of its own. Empty ones are
// left out, and so is the name if all are.
func (s screen) entry(name string, texts ...string) { s.beside(12, name, texts...) }

// beside is entry for names of so many characters at most.
func (s screen) beside(longest int, name string, texts ...string) {
	for _, text := range texts {
		for _, line := range wrap(plain(text), s.width-longest-4) {
			s.printf("  %-*s  %s\n", longest, name, line)
			name = ""
		}
	}
}

// clock returns a time as the clock of this machine shows it, with the date and its
// distance from UTC: the gateway may be elsewhere.
func (s screen) clock(t time.Time) string {
	return t.In(s.now.Location()).Format("2006-01-02 15:04:05Z07:00")
}

// since returns how long ago something was, and when.
func (s screen) since(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return fmt.Sprintf("%s ago (%s)", between(t, s.now), s.clock(t))
}

// until returns in what time something will be, and when.
func (s screen) until(t time.Time) string {
	if t.Before(s.now) {
		return s.since(t)
	}
	return fmt.Sprintf("in %s (%s)", between(s.now, t), s.clock(t))
}

// moment prints since when something is so, if it is known.
func (s screen) moment(name string, t time.Time) {
	if !t.IsZero() {
		s.entry(name, s.since(t))
	}
}

// expiry returns how long a token lives.
func (s screen) expiry(t time.Time) string {
	switch {
	case t.IsZero():
		return "none"
	case t.After(s.now):
		return "expires " + s.until(t)
	}
	return "expired " + s.since(t)
}

// between returns a short form of the time from one moment to another.
func between(from, to time.Time) string {
	return humanize.CustomRelTime(from, to, "", "", []humanize.RelTimeMagnitude{
		{D: time.Minute, Format: "%ds", DivBy: time.Second},
		{D: 3 * time.Hour, Format: "%dm", DivBy: time.Minute}, // tokens live for two hours
		{D: 48 * time.Hour, Format: "%dh", DivBy: time.Hour},
		{D: math.MaxInt64, Format: "%dd", DivBy: 24 * time.Hour},
	})
}

// plain returns a text without characters that a terminal or a table would
// interpret: parts of it come from outside.
func plain(text string) string { return plainBut("", text) }

// plainLines is plain for a text of several lines, which may be indented.
func plainLines(text string) string { return plainBut("\n\t", text) }

func plainBut(kept, text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || strings.ContainsRune(kept, r) {
			return r
		}
		return ' '
	}, text)
}

// plainJSON returns JSON that means the same, with what a terminal would interpret
// written as an escape: it can only stand in the texts of it.
func plainJSON(text []byte) []byte {
	if !json.Valid(text) {
		return []byte(plainLines(string(text)))
	}
	var out bytes.Buffer
	for _, r := range string(text) {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			for _, unit := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&out, `\u%04x`, unit)
			}
		}
	}
	return out.Bytes()
}

// columns returns how many columns of a terminal a text takes: Chinese characters
// take two.
func columns(text string) (n int) {
	for _, r := range text {
		n += columnsOf(r)
	}
	return n
}

func columnsOf(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) { // stands above or below another
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// cut shortens a text to so many columns, of which the last one says that something is
// missing.
func cut(text string, limit int) string {
	if columns(text) <= limit {
		return text
	}
	free := limit - 1
	for i, r := range text {
		if free -= columnsOf(r); free < 0 {
			return text[:i] + "…"
		}
	}
	return text
}

// wrap divides a text into lines of so many columns, between words. A word that is
// longer stays whole. If there are too few columns to read anything, the text is one
// line.
func wrap(text string, limit int) (lines []string) {
	const tooFew = 20
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case limit >= tooFew && columns(line)+1+columns(word) > limit:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// counted returns a number with its noun and verb.
func counted(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}
