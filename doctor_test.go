// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// The doctor finds a bare log in what Caddy makes of a Caddyfile.
func TestTheDoctorFindsBareLogs(t *testing.T) {
	const hides, component = "log {\nformat wechat\n}\n", `wechat {
	component wx134c8103faa5a59e {
		app_secret       REALAPPSECRETsandbox000000000001
		token            REALPUSHTOKENsandbox
		encoding_aes_key REALAESKEYsandbox00000000000000000000000001
	}
}
`
	for name, row := range map[string]struct{ global, sites, want string }{
		"no access log":                            {"", ":80 {\nwechat_proxy\n}", ""},
		"a bare log":                               {"", ":80 {\nlog\nwechat_proxy\n}", "default"},
		"a bare log of a host":                     {"", "a.test {\nlog\nwechat_platform\n}", "default"},
		"a bare log, and the default log hides":    {hides, ":80 {\nlog\nwechat_proxy\n}", ""},
		"a log that hides":                         {"", ":80 {\n" + hides + "wechat_proxy\n}", ""},
		"a log of a host that hides":               {"", "a.test {\n" + hides + "wechat_proxy\n}", ""},
		"a file without a format":                  {hides, "a.test {\nlog {\noutput file /tmp/x\n}\nwechat_proxy\n}", "log0"},
		"format console":                           {"", ":80 {\nlog {\nformat console\n}\nwechat_proxy\n}", "log0"},
		"wechat around console":                    {"", ":80 {\nlog {\nformat wechat {\nwrap console\n}\n}\nwechat_proxy\n}", ""},
		"a filter of the address":                  {"", ":80 {\nlog {\nformat filter {\nrequest>uri query {\ndelete access_token\n}\n}\n}\nwechat_proxy\n}", ""},
		"a filter of something else":               {"", ":80 {\nlog {\nformat filter {\nrequest>headers delete\n}\n}\nwechat_proxy\n}", "log0"},
		"one of two hosts is bare":                 {"", "a.test {\n" + hides + "wechat_proxy\n}\nb.test {\nlog\nwechat_platform\n}", "default"},
		"a bare log beside a host that hides":      {"", "http://a.test {\n" + hides + "wechat_proxy\n}\n:80 {\nlog\nwechat_platform\n}", "default"},
		"a host of others is bare":                 {"", "a.test {\n" + hides + "wechat_proxy\n}\nb.test {\nlog\nrespond 404\n}", ""},
		"a site of others is bare":                 {"", ":80 {\nlog\nrespond 404\n}\n:81 {\nwechat_proxy\n}", ""},
		"only some requests are logged":            {"", ":80 {\nlog\nlog_skip\nwechat_proxy\n}", "default"},
		"a second log of a site is bare":           {"", ":80 {\nlog one {\nformat wechat\n}\nlog two {\noutput stderr\nno_hostname\n}\nlog_name one two\nwechat_proxy\n}", "two"},
		"a bare log, which is thrown away":         {"", ":80 {\nlog {\noutput discard\n}\nwechat_proxy\n}", ""},
		"the global log is of errors alone":        {"log {\ninclude http.log.error\n}\n", ":80 {\n" + hides + "wechat_proxy\n}", ""},
		"another global log takes all there is":    {hides + "log all {\noutput file /tmp/x\n}\n", ":80 {\nlog\nwechat_proxy\n}", "all"},
		"a bare host invokes what another one has": {"", "&(gw) {\nwechat_proxy\n}\na.test {\n" + hides + "wechat_proxy\n}\nb.test {\nlog\ninvoke gw\n}", "default"},
		"a host that hides invokes it":             {"", "&(gw) {\nwechat_proxy\n}\nb.test {\n" + hides + "invoke gw\n}\nc.test {\nlog\nrespond 404\n}", ""},
		"in a handle of a site, beside other ones": {"", ":80 {\nlog\nhandle /a/* {\nrespond 404\n}\nhandle {\nwechat_proxy\n}\n}", "default"},
	} {
		found, err := operate.CheckLogs(mustAdaptText(t, "{\n"+row.global+component+"}\n"+row.sites))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var names []string
		for _, f := range found {
			if !f.OK {
				names = append(names, strings.Split(f.Found, `"`)[1])
			}
		}
		if got := strings.Join(names, " "); got != row.want || len(found) == 0 {
			t.Errorf("%s: found is %q, want %q", name, got, row.want)
		}
	}
}
