// SPDX-License-Identifier: Apache-2.0

// Package process_test runs the program as its users do, command by command.
package process_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

const (
	officialAccount = "wxaaaaaaaaaaaaaaaa"
	sendPath        = "/cgi-bin/message/custom/send"
	domainIPPath    = "/cgi-bin/get_api_domain_ip"
	message         = `{"touser":"o123","msgtype":"text","text":{"content":"你好 🎉"}}`
)

func TestMain(m *testing.M) { caddy.Main(m) }

// node is one gateway with a storage of its own.
func node(t *testing.T, weChat, platform, proxy string) caddy.Node {
	return caddy.Node{
		Admin: "off", Storage: inFolder(t.TempDir()), WeChat: weChat,
		Platform: platform, Proxy: proxy, Clients: caddy.Shop,
	}
}

func inFolder(folder string) string { return fmt.Sprintf("file_system %q", folder) }

// gateway runs a node until it serves.
func gateway(t *testing.T, n caddy.Node) *caddy.Process {
	t.Helper()
	p := n.Run(t, filepath.Join(t.TempDir(), "Caddyfile"))
	p.Serves(n.Platform, n.Proxy)
	return p
}

// call makes an HTTP request, a POST if there is content, and returns the body.
func call(t *testing.T, url, content string) string {
	t.Helper()
	method := http.MethodGet
	if content != "" {
		method = http.MethodPost
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// callAs makes a call for an account with the client secret, and reads the answer.
func callAs(ctx context.Context, proxy, appid, path string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+proxy+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+caddy.ClientSecret)
	r.Header.Set("Wechat-Appid", appid)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// token fetches a gateway token for the official account.
func token(t *testing.T, proxy string) string {
	t.Helper()
	answer := call(t, "http://"+proxy+"/cgi-bin/token?grant_type=client_credential&appid="+officialAccount+"&secret="+caddy.ClientSecret, "")
	_, rest, _ := strings.Cut(answer, `"access_token":"`)
	token, _, found := strings.Cut(rest, `"`)
	if !found {
		t.Fatalf("no token in %s", answer)
	}
	return token
}

// send sends a customer message and fails the test if WeChat did not take it.
func send(t *testing.T, proxy, token string) {
	t.Helper()
	if answer := call(t, "http://"+proxy+sendPath+"?access_token="+token, message); !strings.Contains(answer, `"errcode":0`) {
		t.Fatalf("the message was answered %s", answer)
	}
}
