// SPDX-License-Identifier: Apache-2.0

package leaks_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// encoding is how a server that echoes a request hands it out, and how the caller
// reads it.
type encoding struct {
	header http.Header
	status int // 0 means 200
	encode func(string) string
	decode func(string) string
}

func same(text string) string { return text }

// byWriter compresses a text.
func byWriter(open func(io.Writer) io.WriteCloser) func(string) string {
	return func(text string) string {
		var out bytes.Buffer
		zip := open(&out)
		_, _ = io.WriteString(zip, text)
		_ = zip.Close()
		return out.String()
	}
}

// byReader reads a text as far as it goes.
func byReader(open func(io.Reader) (io.Reader, error)) func(string) string {
	return func(text string) string {
		in, err := open(strings.NewReader(text))
		if err != nil {
			return text
		}
		plain, _ := io.ReadAll(in)
		return string(plain)
	}
}

var (
	zipped   = byWriter(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	unzipped = byReader(func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })
	deflated = byWriter(func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
	inflated = byReader(func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) })
	rawly    = byWriter(func(w io.Writer) io.WriteCloser { zip, _ := flate.NewWriter(w, 9); return zip })
	unrawly  = byReader(func(r io.Reader) (io.Reader, error) { return flate.NewReader(r), nil })
)

// escaping writes each character of a text in a form, as in "%%%02x".
func escaping(form string) func(string) string {
	return func(text string) string {
		var out strings.Builder
		for _, c := range []byte(text) {
			fmt.Fprintf(&out, form, c)
		}
		return out.String()
	}
}

// unescaping undoes it.
func unescaping(form string) func(string) string {
	return func(text string) string {
		for c := range 128 {
			text = strings.ReplaceAll(text, fmt.Sprintf(form, c), string(rune(c)))
		}
		return text
	}
}

func encoded(value ...string) http.Header { return http.Header{"Content-Encoding": value} }

// A server between the gateway and WeChat echoes what it gets, in an encoding that
// the caller undoes. The real token is in none.
func TestNothingLeaksFromAnUpstreamThatEncodes(t *testing.T) {
	twice := func(text string) string { return zipped(zipped(text)) }
	untwice := func(text string) string { return unzipped(unzipped(text)) }
	var now encoding
	var padding string
	g := gwtest.StartWithRoutes(t, gwtest.Options{Watch: true}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		for name, values := range now.header {
			w.Header()[name] = values
		}
		w.WriteHeader(max(now.status, http.StatusOK))
		_, _ = io.WriteString(w, now.encode("<p>"+r.URL.String()+padding))
	}})
	for name, row := range map[string]encoding{
		"deflate":                      {encoded("deflate"), 0, deflated, inflated},
		"deflate without a head":       {encoded("deflate"), 0, rawly, unrawly},
		"an encoding of no known name": {encoded("x-own"), 0, same, same},
		"gzip by its old name":         {encoded("x-gzip"), 0, zipped, unzipped},
		"gzip twice":                   {encoded("gzip, gzip"), 0, twice, untwice},
		"gzip twice, in two headers":   {encoded("gzip", "gzip"), 0, twice, untwice},
		"gzip twice that says so once": {encoded("gzip"), 0, twice, untwice},
		"gzip three times":             {encoded("gzip"), 0, func(text string) string { return zipped(twice(text)) }, func(text string) string { return unzipped(untwice(text)) }},
		"gzip and then another":        {encoded("gzip, deflate"), 0, func(text string) string { return deflated(zipped(text)) }, func(text string) string { return unzipped(inflated(text)) }},
		"gzip in capitals":             {encoded("GZIP"), 0, zipped, same},
		"gzip twice as JSON":           {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, 0, twice, untwice},
		"gzip twice on an error page":  {encoded("gzip"), 502, twice, untwice},
		"an instance manipulation":     {http.Header{"Im": {"gzip"}}, 226, zipped, unzipped},
		"a part in gzip":               {encoded("gzip"), 206, zipped, unzipped},
		"a part":                       {http.Header{"Content-Range": {"bytes 0-9/10"}}, 206, same, same},
		"in hexadecimal": {nil, 0, func(text string) string { return hex.EncodeToString([]byte(text)) }, func(text string) string {
			plain, _ := hex.DecodeString(strings.ReplaceAll(text, "*", "0"))
			return string(plain)
		}},
		"in base64":                        {nil, 0, func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }, same}, // is searched for
		"in base64 of addresses, shifted":  {nil, 0, func(text string) string { return base64.URLEncoding.EncodeToString([]byte("x" + text)) }, same},
		"in base64 of addresses, shifted2": {nil, 0, func(text string) string { return base64.URLEncoding.EncodeToString([]byte("xy" + text)) }, same},
		"as an address":                    {nil, 0, escaping("%%%02x"), unescaping("%%%02x")},
		"as an address, twice":             {nil, 0, escaping("%%25%02X"), unescaping("%%25%02X")},
		"as a script":                      {nil, 0, escaping(`\x%02x`), unescaping(`\x%02x`)},
		"as JSON":                          {nil, 0, escaping(`\u%04x`), unescaping(`\u%04x`)},
		"as JSON in JSON":                  {nil, 0, escaping(`\\u%04x`), unescaping(`\\u%04x`)},
		"as HTML":                          {nil, 0, escaping("&#%d;"), unescaping("&#%d;")},
		"as HTML, in hexadecimal":          {nil, 0, escaping("&#x%X;"), unescaping("&#x%X;")},
	} {
		for _, padding = range []string{"", strings.Repeat("x ", 50_000)} {
			t.Run(fmt.Sprintf("%s, %d bytes more", name, len(padding)), func(t *testing.T) {
				now = row
				client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
				defer client.CloseIdleConnections()
				header := gwtest.Bearer(gwtest.ClientSecret, both[0])
				header.Set("Accept-Encoding", "deflate, br, gzip;q=0.1")
				answer, err := g.Try(client, http.MethodGet, gwtest.SendPath, "", header)
				g.SearchCredentials("the answer", []byte(answer.Body))
				g.SearchCredentials("the decoded answer", []byte(row.decode(answer.Body)))
				if row.header == nil && (err != nil || answer.Status != 200 || !strings.Contains(answer.Body, "*")) {
					t.Errorf("answered %d %.200s, %v", answer.Status, answer.Body, err)
				}
			})
		}
	}
}

// A caller asks for one part of an echo after the other and puts the token together.
// Files can be had in parts all the same.
func TestTokenIsNotPutTogetherFromParts(t *testing.T) {
	var kind string
	g := gwtest.StartWithRoutes(t, gwtest.Options{Watch: true}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
		text := "you sent " + r.URL.String()
		if kind == "image/png" {
			text = "\x89PNG" + strings.Repeat("x", 400)
		}
		if w.Header()["Content-Type"] = []string{kind}; kind == "" {
			w.Header()["Content-Type"] = nil
		}
		if ranges := r.Header.Get("Range"); strings.Contains(ranges, ",") {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			w.WriteHeader(http.StatusPartialContent)
			for at := range text {
				_, _ = io.WriteString(w, "\r\n--x\r\nContent-Type: image/png\r\n\r\n"+text[at:at+1])
			}
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
	}})
	for _, kind = range []string{"application/json", "text/plain", "TEXT/HTML; charset=utf-8", "application/problem+json", "application/xhtml+xml", "image/svg+xml", "application/javascript", "", "nonsense"} {
		var whole strings.Builder
		for _, part := range []string{"bytes=0-59", "bytes=60-119", "bytes=120-179", "bytes=180-", "bytes=0-1,2-3"} {
			header := gwtest.Bearer(gwtest.ClientSecret, both[0])
			header.Set("Range", part)
			answer := g.Ask(http.MethodGet, gwtest.SendPath, "", header)
			whole.WriteString(answer.Body)
			if answer.Status != http.StatusBadGateway || answer.ErrCode != -1 {
				t.Errorf("%q, %s: answered %d %s", kind, part, answer.Status, answer.Body)
			}
		}
		g.SearchCredentials("the parts", []byte(whole.String()))
	}
	kind = "image/png"
	header := gwtest.Bearer(gwtest.ClientSecret, both[0])
	header.Set("Range", "bytes=1-3")
	if answer := g.Ask(http.MethodGet, gwtest.SendPath, "", header); answer.Status != http.StatusPartialContent || answer.Body != "PNG" {
		t.Errorf("a part of a picture: answered %d %q", answer.Status, answer.Body)
	}
}

// WeChat's success repeats the request, in some encoding: the calls that the gateway
// makes itself carry the app secret or the component's token, and a client would have
// it with the answer.
func TestNothingLeaksFromSuccessesThatEcho(t *testing.T) {
	const folder = "/cgi-bin/component/"
	own := map[string]string{ // what the answer must have to be taken
		folder + "api_start_push_ticket":     "",
		folder + "clear_quota/v2":            "",
		folder + "api_create_preauthcode":    `,"pre_auth_code":"p","expires_in":600`,
		folder + "api_get_authorizer_option": `,"option_value":"1"`,
		folder + "api_set_authorizer_option": "",
		folder + "api_get_authorizer_info":   `,"authorization_info":{"authorizer_appid":"` + both[0] + `"}`,
		folder + "api_get_authorizer_list":   `,"total_count":1,"list":[{"authorizer_appid":"` + both[0] + `","x":ECHO}]`,
		"/cgi-bin/openapi/rid/get":           `,"request":{"request_url":ECHO}`,
	}
	for name, encode := range map[string]func(string) string{
		"plainly": same, "as an address": escaping("%%%02X"), "as HTML": escaping("&#%d;"), "in base64": func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) },
	} {
		for _, all := range []bool{false, true} { // characters escaped in JSON
			t.Run(fmt.Sprintf("%s, escaped %t", name, all), func(t *testing.T) {
				routes := make(map[string]http.HandlerFunc)
				asked := make(map[string]int)
				for path, members := range own {
					routes[path] = func(w http.ResponseWriter, r *http.Request) {
						asked[r.URL.Path]++
						body, _ := io.ReadAll(r.Body)
						echo := encode(r.URL.String() + " " + string(body))
						text, _ := json.Marshal(echo)
						if all {
							text = []byte(`"` + escaping(`\u%04x`)(echo) + `"`)
						}
						w.Header().Set("Content-Type", "application/json")
						_, _ = io.WriteString(w, strings.ReplaceAll(`{"errcode":0,"errmsg":ECHO,"list_of":[[ECHO]]`+members+`}`, "ECHO", string(text)))
					}
				}
				g := gwtest.StartThenRoutes(t, gwtest.Options{Watch: true, Clients: gwtest.ManyClients(), Secrets: []string{gwtest.SoloSecret, gwtest.SoloNextSecret, gwtest.HashedSecret, gwtest.NarrowSecret, gwtest.PlatformSecret, gwtest.IdleSecret}}, routes)
				for path := range own {
					answer := g.Ask(http.MethodPost, path, `{"authorizer_appid":"`+both[0]+`","option_name":"voice_recognize","option_value":"1","rid":"1-2-3"}`, gwtest.Bearer(gwtest.PlatformSecret, g.WeChat.Component()))
					if answer.Status != 200 || answer.ErrCode != 0 || asked[path] == 0 {
						t.Errorf("%s: answered %d %s", path, answer.Status, answer.Body)
					}
					var shown any
					_ = json.Unmarshal([]byte(answer.Body), &shown)
					plain, _ := json.Marshal(shown)
					plain = bytes.ReplaceAll(plain, []byte(`\u0026`), []byte("&"))
					for _, form := range []string{"%%%02X", "&#%d;"} {
						g.SearchCredentials("the decoded answer of "+path, []byte(unescaping(form)(string(plain))))
					}
					g.SearchCredentials("the answer of "+path, plain)
				}
			})
		}
	}
}
