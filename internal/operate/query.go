// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// paging is how many items are on a page of a list: if no limit is given, and at most.
type paging struct{ usual, most int }

// eventID is the form of the ids of events.
var eventID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// invalid returns the error for a request that must be changed.
func invalid(remedy, format string, arguments ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Text: fmt.Sprintf(format, arguments...), Remedy: remedy}
}

// parseQuery reads the query of a request strictly: what is misspelt or left out
// by mistake could otherwise turn "this one" into "all".
func parseQuery(text string, allowed ...string) (url.Values, error) {
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, invalid("encode its values as in the query of a URL: a percent sign as %25, a semicolon as %3B", "the query cannot be read")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case !slices.Contains(allowed, name):
			return nil, invalid(use(allowed), "there is no parameter %q here", name)
		case len(values[name]) > 1:
			return nil, invalid("give it one value, and make a request for each", "%s is given %d times", name, len(values[name]))
		}
	}
	return values, nil
}

// use is the remedy for a parameter that there is not.
func use(allowed []string) string {
	if len(allowed) == 0 {
		return "leave it out"
	}
	return "use " + strings.Join(allowed, ", ")
}

// parseAction is parseQuery for a request that changes something. There an empty
// value is refused: in a script it is a variable that is not set.
func parseAction(text string, allowed ...string) (url.Values, error) {
	values, err := parseQuery(text, allowed...)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values.Get(name) == "" {
			return nil, invalid("give it a value or leave it out", "%s is empty", name)
		}
	}
	return values, nil
}

// parseStates returns the states that are meant, in the order of a list: both if
// none is named.
func parseStates(text string) ([]delivery.State, error) {
	switch state := delivery.State(text); state {
	case "":
		return []delivery.State{delivery.StateWaiting, delivery.StateDead}, nil
	case delivery.StateWaiting, delivery.StateDead:
		return []delivery.State{state}, nil
	}
	return nil, invalid("write waiting or dead, or leave it out for both", "state %q is none", text)
}

// parseLimit returns the number of items on a page.
func (p paging) parseLimit(text string) (int, error) {
	limit, err := strconv.Atoi(cmp.Or(text, strconv.Itoa(p.usual)))
	if err != nil || limit < 1 || limit > p.most {
		return 0, invalid(fmt.Sprintf("write a number from 1 to %d, or leave it out for %d", p.most, p.usual), "limit %q is no length of a page", text)
	}
	return limit, nil
}

// parseOffset returns the offset of a page of a task, below end; 0 if it is left out.
func parseOffset(text string, end int) (int, error) {
	offset, err := strconv.Atoi(cmp.Or(text, "0"))
	switch {
	case err != nil || offset < 0:
		return 0, invalid("write a number from 0: the next of the page before, or leave it out for the first page", "offset %q is none", text)
	case offset >= end:
		return 0, invalid("begin without an offset, then use the next of each page until it is the total", "offset %d is not below %d", offset, end)
	}
	return offset, nil
}

// parseAppID returns an appid in a query; "" if it is left out.
func parseAppID(name, text string) (string, error) {
	if text != "" && !subject.ValidAppID(text) {
		return "", invalid("an appid is wx and 16 hexadecimal digits in lower case", "%s %q is no appid", name, text)
	}
	return text, nil
}

// parseEnglish returns whether names are wanted in English.
func parseEnglish(text string) (bool, error) {
	switch text {
	case "", "zh":
		return false, nil
	case "en":
		return true, nil
	}
	return false, invalid("write en or zh, or leave it out for zh", "lang %q is none", text)
}

// parseSelection returns what an operator wants to replay or to discard.
func parseSelection(text string) (s delivery.Selection, err error) {
	values, err := parseAction(text, "client", "target", "event_id", "since", "state", "all")
	if err != nil {
		return s, err
	}
	s = delivery.Selection{Client: values.Get("client"), Target: values.Get("target"), EventID: values.Get("event_id")}
	states, err := parseStates(values.Get("state"))
	if err != nil {
		return s, err
	}
	if len(states) == 1 {
		s.State = states[0]
	}
	if s.EventID != "" && !eventID.MatchString(s.EventID) {
		return s, invalid("copy all 32 characters of it from GET /wechat/events, or from the query of a delivery", "event_id %q is none", s.EventID)
	}
	if since := values.Get("since"); since != "" {
		// A + that is not encoded arrives as a blank.
		if s.Since, err = time.Parse(time.RFC3339, strings.ReplaceAll(since, " ", "+")); err != nil {
			return s, invalid("write it by RFC 3339, as 2006-01-02T15:04:05Z or 2006-01-02T23:04:05%2B08:00", "since %q is no time", since)
		}
	}
	switch all := values.Get("all"); all {
	case "true":
		s.All = true
	case "", "false":
	default:
		return s, invalid("write true or leave it out", "all %q is neither true nor false", all)
	}
	if s.Client == "" && s.Target == "" && s.EventID == "" && s.Since.IsZero() && !s.All {
		return s, invalid("name a client, target, event_id or since; all=true means all of them", "nothing is named")
	}
	return s, nil
}
