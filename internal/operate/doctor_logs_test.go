// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"net/http"
	"strings"
	"testing"
)

// What GET /config/ answers for these Caddyfiles is abridged here to what counts.
func TestLogsThatHideNothing(t *testing.T) {
	const (
		proxy   = `"routes":[{"handle":[{"handler":"wechat_proxy"}]}]`
		bare    = `"srv0":{` + proxy + `,"logs":{}}`
		own     = `"srv0":{` + proxy + `,"logs":{"default_logger_name":"log0"}}`
		two     = `"srv0":{` + proxy + `,"logs":{"logger_names":{"a.test":["log0"],"b.test":[""]}}}`
		named   = `"srv0":{"routes":[{"match":[{"host":["a.test"]}],"handle":[{"handler":"wechat_proxy"}]},{"match":[{"host":["b.test"]}]}],`
		of      = `"include":["http.log.access.log0"]`
		without = `"exclude":["http.log.access.log0"]`
	)
	for name, row := range map[string]struct{ logs, servers, want string }{
		"a bare log of a site, and the log default that nobody has configured":    {``, bare, "default"},
		"the default log has the format console":                                  {`"default":{"encoder":{"format":"console"}}`, bare, "default"},
		"the default log has format wechat":                                       {`"default":{"encoder":{"format":"wechat"}}`, bare, ""},
		"format wechat around console":                                            {`"default":{"encoder":{"format":"wechat","wrap":{"format":"console"}}}`, bare, ""},
		"format append around wechat":                                             {`"default":{"encoder":{"format":"append","wrap":{"format":"wechat"}}}`, bare, ""},
		"a filter of the address around json":                                     {`"default":{"encoder":{"format":"filter","wrap":{"format":"json"},"fields":{"request>uri":{"filter":"query"}}}}`, bare, ""},
		"a filter of something else":                                              {`"default":{"encoder":{"format":"filter","fields":{"request>headers":{"filter":"delete"}}}}`, bare, "default"},
		"a site's own log is bare, and the default log wechat":                    {`"default":{"encoder":{"format":"wechat"},` + without + `},"log0":{` + of + `,"writer":{"output":"file"}}`, own, "log0"},
		"a site's own log is wechat, and the default log takes none":              {`"default":{` + without + `},"log0":{"encoder":{"format":"wechat"},` + of + `}`, own, ""},
		"one site of two is bare":                                                 {`"default":{` + without + `},"log0":{"encoder":{"format":"wechat"},` + of + `}`, two, "default"},
		"both are":                                                                {`"default":{` + without + `},"log0":{` + of + `}`, two, "default log0"},
		"no access log":                                                           {`"default":{}`, `"srv0":{` + proxy + `}`, ""},
		"a site of others has a bare log":                                         {`"default":{}`, `"srv0":{` + proxy + `},"srv1":{"routes":[],"logs":{}}`, ""},
		"hosts that are not named are not logged":                                 {`"default":{` + without + `},"log0":{"encoder":{"format":"wechat"},` + of + `}`, `"srv0":{` + proxy + `,"logs":{"logger_names":{"a.test":"log0"},"skip_unmapped_hosts":true}}`, ""},
		"a log that only log_name can choose":                                     {`"default":{"encoder":{"format":"wechat"}},"audit":{"include":["http.log.access.audit"]}`, bare, "audit"},
		"what is thrown away":                                                     {`"default":{"writer":{"output":"discard"}}`, bare, ""},
		"a log of errors alone, beside one that hides":                            {`"default":{"encoder":{"format":"wechat"}},"errors":{"include":["http.log.error"]}`, bare, ""},
		"a log that excludes all access logs, and includes one":                   {`"default":{"encoder":{"format":"wechat"}},"x":{"include":["http"],"exclude":["http.log"]}`, bare, ""},
		"a log that excludes one site of another name that begins like the first": {`"default":{"encoder":{"format":"wechat"}},"x":{"exclude":["http.log.acc"]}`, bare, "x"},
		"a log that takes nothing of modules":                                     {`"default":{"encoder":{"format":"wechat"}},"x":{"exclude":["*"]}`, bare, ""},
		"a named site hides, and strangers' hosts go to the default log":          {`"default":{` + without + `},"log0":{"encoder":{"format":"wechat"},` + of + `}`, named + `"logs":{"logger_names":{"a.test":["log0"]}}}`, ""},
		"a named site is bare beside one of others that hides":                    {`"default":{` + without + `},"log0":{"encoder":{"format":"wechat"},` + of + `}`, named + `"logs":{"logger_names":{"b.test":["log0"]}}}`, "default"},
		"a named site has no log beside one of others that is bare":               {``, named + `"logs":{"logger_names":{"b.test":[""]},"skip_hosts":["a.test"]}}`, ""},
		"a wildcard covers a named site":                                          {`"default":{` + without + `},"log0":{"encoder":{"format":"wechat"},` + of + `}`, named + `"logs":{"logger_names":{"*.test":["log0"]}}}`, ""},
		"a site of a path, for all hosts":                                         {`"default":{` + without + `},"log0":{"encoder":{"format":"wechat"},` + of + `}`, `"srv0":{"routes":[{"match":[{"path":["/gw/*"]}],"handle":[{"handler":"wechat_proxy"}]}],"logs":{"logger_names":{"b.test":["log0"]}}}`, "default"},
		"a route that others invoke":                                              {``, `"srv0":{"routes":[{"handle":[{"handler":"invoke"}]}],"named_routes":{"gw":{"handle":[{"handler":"wechat_proxy"}]}},"logs":{}}`, "default"},
		"a console with a log per push":                                           {``, `"srv0":{"routes":[{"handle":[{"handler":"subroute","routes":[{"handle":[{"handler":"wechat_events"}]}]}]}],"logs":{}}`, "default"},
		"a site that only tells its health":                                       {``, `"srv0":{"routes":[{"handle":[{"handler":"wechat_health"}]}],"logs":{}}`, ""},
	} {
		found, err := CheckLogs([]byte(`{"logging":{"logs":{` + row.logs + `}},"apps":{"http":{"servers":{` + row.servers + `}}}}`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var names []string
		for _, f := range found {
			if f.OK != (f.Remedy == "") || f.Check != "logs" {
				t.Errorf("%s: %+v", name, f)
			}
			if !f.OK {
				names = append(names, strings.Split(f.Found, `"`)[1])
			}
		}
		if got := strings.Join(names, " "); got != row.want || len(found) == 0 {
			t.Errorf("%s: found is %q, want %q", name, got, row.want)
		}
	}
}

// What a proxy in front says is compared with what the gateway would tell WeChat.
func TestProxiesInFront(t *testing.T) {
	for _, row := range []struct {
		name, value string
		want        string // what differs, "" for nothing
	}{
		{"X-Forwarded-Proto", "https", "another scheme than"},
		{"X-Forwarded-Proto", "http", ""},
		{"X-Forwarded-Proto", "HTTP", ""},
		{"X-Forwarded-Proto", "https, http", "another scheme than"},
		{"X-Forwarded-Host", "gw.test:8080", ""},
		{"X-Forwarded-Host", "www.test", "another host than"},
		{"Forwarded", `for=192.0.2.1;proto=https;host="www.test"`, "another scheme and host than"},
		{"Forwarded", `For=192.0.2.1; Proto=http; Host=gw.test:8080`, ""},
		{"Forwarded", `for=192.0.2.1;proto=https, for=192.0.2.2;proto=http`, "another scheme than"},
		{"Forwarded", `nonsense;=;,`, ""},
		{"X-Forwarded-For", "192.0.2.1", ""},
	} {
		var s Site
		s.Note("http://gw.test:8080/wechat/authorize", http.Header{row.name: {row.value}})
		got := s.check()
		if got.OK != (row.want == "") || !strings.Contains(got.Found, row.want) || strings.Contains(got.Found, "www.test") {
			t.Errorf("%s: %s: %+v, want %q", row.name, row.value, got, row.want)
		}
	}
	var s Site
	s.Note("https://gw.test/wechat/authorize", http.Header{"X-Forwarded-Host": {"gw.test:443"}, "X-Forwarded-Proto": {"https"}})
	if got := s.check(); !got.OK {
		t.Errorf("the port that browsers leave out: %+v", got)
	}
}
