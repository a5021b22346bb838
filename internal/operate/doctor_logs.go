// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
)

const (
	// maxConfig is how much of Caddy's configuration is read, in bytes.
	maxConfig = 8 << 20
	// accessLog is the name of Caddy's logger of requests; those of sites have it in front
	// of their own.
	accessLog = "http.log.access"
	// defaultLog is the log that Caddy has also if it is not configured.
	defaultLog = "default"
)

// withCredentials matches a server that has one of the handlers whose requests have
// credentials in their addresses.
var withCredentials = regexp.MustCompile(`"wechat_(proxy|events|messages|authorize)"`)

// logs are the parts of Caddy's configuration that say where requests are logged.
type logs struct {
	unread  string // why nobody looks at them, "" if somebody does
	written []string
	of      map[string]caddyLog
}

// caddyLog is one of Caddy's logs.
type caddyLog struct {
	Writer  struct{ Output string }
	Encoder encoder
	Include []string
	Exclude []string
}

// encoder is the format of a log, and the one around which it is.
type encoder struct {
	Format string
	Wrap   *encoder
	Fields map[string]json.RawMessage
}

// server is what a server of Caddy's says of its sites and of its access logs.
type server struct {
	Routes []json.RawMessage
	Logs   *struct { // nil: it has none
		Default    string             `json:"default_logger_name"` // of hosts that are not in Names
		Names      map[string]oneMore `json:"logger_names"`        // by the host
		Skipped    []string           `json:"skip_hosts"`
		MappedOnly bool               `json:"skip_unmapped_hosts"`
	}
	invoked map[string]json.RawMessage // routes that others invoke
}

// oneMore is a list that may be written as a single text.
type oneMore []string

// UnmarshalJSON reads both forms.
func (o *oneMore) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte(`"`)) {
		*o = oneMore{""}
		return json.Unmarshal(data, &(*o)[0])
	}
	return json.Unmarshal(data, (*[]string)(o))
}

// readLogs reads the configuration. Its error repeats nothing of it.
func readLogs(config io.Reader) (l logs, err error) {
	text, err := io.ReadAll(io.LimitReader(config, maxConfig+1))
	switch {
	case err != nil:
		return l, invalid("make the request again", "the body broke off")
	case len(text) > maxConfig:
		_, _ = io.Copy(io.Discard, config) // who sends it waits for that
		return logs{unread: "Caddy's configuration is larger than 8 MiB"}, nil
	case len(bytes.TrimSpace(text)) == 0:
		return logs{unread: "the request came without Caddy's configuration"}, nil
	}
	return parseLogs(text)
}

// CheckLogs looks for logs of requests that hide no credentials. config is Caddy's
// configuration as JSON.
func CheckLogs(config []byte) (found []Finding, err error) {
	l, err := parseLogs(config)
	if err != nil {
		return nil, err
	}
	for _, r := range l.check() {
		found = append(found, r.Finding)
	}
	return found, nil
}

func parseLogs(text []byte) (l logs, err error) {
	var config struct {
		Logging struct{ Logs map[string]caddyLog }
		Apps    struct {
			HTTP struct{ Servers map[string]json.RawMessage }
		}
	}
	malformed := invalid("send what GET /config/ answers, or no body", "the body is no configuration of Caddy's")
	if json.Unmarshal(text, &config) != nil {
		return l, malformed
	}
	l.of = config.Logging.Logs
	if _, configured := l.of[defaultLog]; !configured {
		l.of = maps.Clone(l.of)
		if l.of == nil {
			l.of = make(map[string]caddyLog)
		}
		l.of[defaultLog] = caddyLog{}
	}
	for _, name := range slices.Sorted(maps.Keys(config.Apps.HTTP.Servers)) {
		text := config.Apps.HTTP.Servers[name]
		if !withCredentials.Match(text) {
			continue
		}
		var s server
		var named struct {
			Routes map[string]json.RawMessage `json:"named_routes"`
		}
		if json.Unmarshal(text, &s) != nil || json.Unmarshal(text, &named) != nil {
			return l, malformed
		}
		s.invoked = named.Routes
		l.written = append(l.written, s.loggers()...)
	}
	return l, nil
}

// loggers returns the names of the loggers to which those requests are written that have
// credentials.
func (s server) loggers() (names []string) {
	if s.Logs == nil {
		return nil
	}
	hosts, others := s.hosts()
	var of []string
	for _, host := range hosts {
		of = append(of, s.named(host)...)
	}
	if others {
		for _, host := range slices.Sorted(maps.Keys(s.Logs.Names)) {
			of = append(of, s.Logs.Names[host]...)
		}
		if !s.Logs.MappedOnly {
			of = append(of, s.Logs.Default)
		}
	}
	for _, name := range of {
		names = append(names, logger(name))
	}
	return names
}

// hosts returns the hosts of the sites with the gateway's handlers, and whether such a
// site is there for other hosts, too.
func (s server) hosts() (named []string, others bool) {
	found := false
	for _, text := range s.Routes {
		if !withCredentials.Match(text) && !s.invokes(text) {
			continue
		}
		found = true
		var route struct {
			Match []struct{ Host []string }
		}
		if json.Unmarshal(text, &route) != nil || len(route.Match) == 0 {
			others = true
		}
		for _, match := range route.Match {
			named = append(named, match.Host...)
			others = others || len(match.Host) == 0
		}
	}
	return named, others || !found // else they are in a route that nobody seems to invoke
}

// invokes reports whether a route invokes a named one with the gateway's handlers. One
// that only has its name in it may count, too.
func (s server) invokes(text []byte) bool {
	if !bytes.Contains(text, []byte(`"invoke"`)) {
		return false
	}
	for name, route := range s.invoked {
		quoted, _ := json.Marshal(name)
		if withCredentials.Match(route) && bytes.Contains(text, quoted) {
			return true
		}
	}
	return false
}

// named returns the names of the loggers of a host, as Caddy finds them: those of the
// host, else of a wildcard that covers it, else the one of all others.
func (s server) named(host string) []string {
	labels := strings.Split(strings.ToLower(host), ".")
	covering := []string{strings.Join(labels, ".")}
	for i := range labels {
		labels[i] = "*"
		covering = append(covering, strings.Join(labels, "."))
	}
	for _, host := range covering {
		if names, mapped := s.Logs.Names[host]; mapped {
			return names
		}
	}
	if s.Logs.MappedOnly || slices.ContainsFunc(covering, func(host string) bool { return slices.Contains(s.Logs.Skipped, host) }) {
		return nil
	}
	return []string{s.Logs.Default}
}

func logger(name string) string {
	if name == "" {
		return accessLog
	}
	return accessLog + "." + name
}

// check looks for logs that take requests and hide no credentials.
func (l logs) check() (all []result) {
	const check = "logs"
	switch {
	case l.unread != "":
		return []result{well(check, "", "not looked at: %s", l.unread)}
	case len(l.written) == 0:
		return []result{well(check, "", "no site with the gateway has an access log; what Caddy's handlers report as errors goes to the log default")}
	}
	for _, name := range slices.Sorted(maps.Keys(l.of)) {
		log := l.of[name]
		if !log.Encoder.hides() && log.Writer.Output != "discard" && slices.ContainsFunc(l.loggers(), log.takes) {
			all = append(all, wrong(check, "", fmt.Sprintf("the log %q takes the addresses of requests with the credentials in them", pushlog.Word(name)),
				"write format wechat into its log block; that of the log default is in the global options"))
		}
	}
	if len(all) == 0 {
		all = append(all, well(check, "", "each log that takes requests hides the credentials in their addresses"))
	}
	return all
}

// loggers returns all names of loggers of requests: those of the servers, and those that
// only logs name, for a directive can choose one for some requests.
func (l logs) loggers() []string {
	names := slices.Clone(l.written)
	for _, log := range l.of {
		for _, name := range log.Include {
			if strings.HasPrefix(name, accessLog+".") {
				names = append(names, name)
			}
		}
	}
	return names
}

// hides reports whether a format hides the credentials in the address of a request.
func (e *encoder) hides() bool {
	if e == nil {
		return false
	}
	_, filtered := e.Fields["request>uri"]
	return e.Format == "wechat" || e.Format == "filter" && filtered || e.Wrap.hides()
}

// takes reports whether a log takes what a logger writes: the longest name that
// includes or excludes it decides, as Caddy has it.
func (c caddyLog) takes(logger string) bool {
	include, exclude := longest(c.Include, logger), longest(c.Exclude, logger)
	switch {
	case slices.Contains(c.Exclude, "*"): // all loggers of modules
		return false
	case len(c.Include) == 0:
		return exclude == 0
	}
	return include > exclude
}

// longest returns the length of the longest of these names that is the logger's, or that
// of a logger above it; 0 if none is.
func longest(names []string, logger string) (most int) {
	for _, name := range names {
		if strings.HasPrefix(logger+".", name+".") {
			most = max(most, len(name))
		}
	}
	return most
}
