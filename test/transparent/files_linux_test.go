// SPDX-License-Identifier: Apache-2.0

package transparent_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// exampleSites returns the sites of Caddyfile.example for WeChat's names, at
// 127.0.0.1, with an access log in a file. Most SDKs call the host for files without
// TLS, and do not follow where Caddy would send them.
func exampleSites(t *testing.T, access string) string {
	t.Helper()
	example, err := os.ReadFile("../../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	_, commented, found := strings.Cut(string(example), "# https://"+host+", ")
	if !found {
		t.Fatal("Caddyfile.example has no site for " + host)
	}
	sites := strings.ReplaceAll("https://"+host+", "+commented, "\n#", "\n")
	sites = strings.ReplaceAll(sites, "format wechat", "output file "+access+"\nformat wechat")
	return strings.ReplaceAll(sites, "bind 10.0.0.5", "bind 127.0.0.1")
}

// The host for files is off at WeChat. What SDKs send there goes to the hosts of
// api, like any other call, by whatever scheme it comes.
func TestFileHost(t *testing.T) {
	if !inPrivateNetwork(t) {
		return
	}
	access := filepath.Join(t.TempDir(), "access.log")
	g := gwtest.Start(t, gwtest.Options{Global: "skip_install_trust", Sites: exampleSites(t, access)})
	awaitCertificate(t, g, host, "127.0.0.1:443")
	awaitCertificate(t, g, fileHost, "127.0.0.1:443")
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots(t, g)}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

	for _, scheme := range []string{"https", "http"} {
		t.Run(scheme+" download", func(t *testing.T) {
			g.WeChat.ResetCounts()
			wantDownload(t, g, client, scheme)
			g.WeChat.KillTokens(gwtest.OfficialAccount)
			wantDownload(t, g, client, scheme)
			wantNothingOfOurs(t, g)
		})
	}
	t.Run("co-wechat-api 3.11.0, video", func(t *testing.T) {
		g.WeChat.ResetCounts()
		var answer struct {
			ErrMsg, Error string
		}
		runNode(t, "video.js", &answer, map[string]string{"appid": gwtest.OfficialAccount, "secret": gwtest.ClientSecret}, trust(g), "GATEWAY=127.0.0.1")
		if answer.Error != "" || answer.ErrMsg != "ok" {
			t.Errorf("the SDK returns %+v", answer)
		}
		wantCallTo(t, g, "/cgi-bin/media/uploadvideo")
		await(t, g, "a call to "+fileHost+" in the access log", func() bool {
			log, _ := os.ReadFile(access)
			return slices.ContainsFunc(requestsIn(string(log)), func(one seen) bool {
				return one.Request.Host == fileHost && strings.Contains(one.Request.URI, "uploadvideo")
			})
		})
		wantNothingOfOurs(t, g)
		log, err := os.ReadFile(access)
		if err != nil {
			t.Fatal(err)
		}
		g.SearchCredentials("the access log", log)
	})
}

// wantDownload downloads by this scheme.
func wantDownload(t *testing.T, g *gwtest.Gateway, client *http.Client, scheme string) {
	t.Helper()
	const size = 300_000
	response, err := client.Get(scheme + "://" + fileHost + "/cgi-bin/media/get?access_token=" + g.Token(gwtest.OfficialAccount) + "&media_id=" + sandbox.GeneratedMedia(size))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i % 251)
	}
	if err != nil || response.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
		t.Fatalf("answered %s with %d bytes, %.200q, %v", response.Status, len(got), got, err)
	}
	wantCallTo(t, g, "/cgi-bin/media/get")
}

// wantCallTo fails the test unless the last call to a path went to the host of
// api with the real token of the account.
func wantCallTo(t *testing.T, g *gwtest.Gateway, path string) {
	t.Helper()
	calls := slices.DeleteFunc(g.WeChat.Calls(), func(c sandbox.Call) bool { return c.Path != path })
	if len(calls) == 0 {
		t.Fatalf("WeChat saw no call to %s", path)
	}
	last, token := calls[len(calls)-1], g.WeChat.ValidToken(sandbox.KindAuthorizer, gwtest.OfficialAccount)
	if last.Host != strings.TrimPrefix(g.API, "http://") || last.ErrCode != 0 || !strings.Contains(last.RawQuery, "access_token="+token) {
		t.Errorf("WeChat saw %s at %s, answered %d, want %s and the token that is valid", path, last.Host, last.ErrCode, g.API)
	}
}
