// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Callers reach a gateway as localhost, under a container's name, or through a
// server that sends a Host of its own. Caddy answers a Host that no site has
// with an empty 200: SDKs show that as "no data", and WeChat takes it for the
// reply to a message.
func TestDocumentedSitesAnswerEveryHost(t *testing.T) {
	example := exampleCaddyfile(t) // sets the secrets
	for name, text := range map[string]string{
		"Caddyfile.example":     example,
		"docs/production.md":    caddyfilesIn(t, "docs/production.md"),
		"docs/zh/production.md": caddyfilesIn(t, "docs/zh/production.md"),
	} {
		t.Run(name, func(t *testing.T) {
			calls, pushes := freeAddress(t), freeAddress(t)
			adapted := mustAdaptText(t, strings.NewReplacer(
				"open.example.com {", "http://"+freeAddress(t)+" {", // no certificate
				"\tapi https://api.weixin.qq.com https://api2.weixin.qq.com", "\tapi http://127.0.0.1:1",
				"\twechat {\n\t\tcomponent", "\twechat {\n\t\tapi http://127.0.0.1:1\n\t\tcomponent",
			).Replace(text))
			elsewhere := strings.NewReplacer(`"127.0.0.1:8080"`, `"`+calls+`"`, `"127.0.0.1:8081"`, `"`+pushes+`"`)
			if err := startRunning(t).load(t, []byte(elsewhere.Replace(string(adapted))), ""); err != nil {
				t.Fatal(err)
			}
			for _, host := range []string{"127.0.0.1:8080", "localhost:8080", "localhost", "gateway", "10.0.0.5", "[::1]:8080", "api.internal.example.com"} {
				status, slug, body := askAs(t, http.MethodGet, host, "http://"+calls+"/cgi-bin/user/get")
				var answer struct{ ErrCode int }
				if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.ErrCode != 41001 || slug != "token_missing" {
					t.Errorf("a call to %s is answered %d %q, want 41001", host, status, body)
				}
				if strings.HasPrefix(name, "docs") {
					if status, _, body := askAs(t, http.MethodPost, host, "http://"+pushes+"/wechat/events"); status == http.StatusOK {
						t.Errorf("a push to %s that is not WeChat's is answered %d %q", host, status, body)
					}
				}
			}
		})
	}
}

// caddyfilesIn returns the minimal Caddyfile of a page, and the site for pushes
// that come through a proxy.
func caddyfilesIn(t *testing.T, document string) string {
	t.Helper()
	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, block := range regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(string(content), -1) {
		if strings.Contains(block[1], "wechat_p") { // other blocks are parts of a wechat block
			found = append(found, block[1])
		}
	}
	if len(found) != 2 {
		t.Fatalf("%s has %d Caddyfiles with sites, want 2", document, len(found))
	}
	return strings.Join(found, "\n")
}

// askAs sends a request with this Host.
func askAs(t *testing.T, method, host, url string) (status int, slug, body string) {
	t.Helper()
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Wechat-Gateway-Error"), string(content)
}
