// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// After the storage was lost, sync brings every refresh token back beforehand,
// page by page; what broke off is gone on with. ACCOUNTS=100000 plays it with
// as many as a platform may have, in two minutes.
func TestSyncRebuildsTheStorage(t *testing.T) {
	accounts := 1203 // three pages
	if text := os.Getenv("ACCOUNTS"); text != "" {
		var err error
		if accounts, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	pages, all := (accounts+499)/500, fmt.Sprintf("%[1]d of %[1]d", accounts)
	appid := func(n int) string { return fmt.Sprintf("wx%016x", n) }
	weChat, err := sandbox.New(sandbox.Config{Switches: sandbox.Switches{NoAuthorizedPush: true}})
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(weChat)
	t.Cleanup(api.Close)
	folder := t.TempDir()
	n := caddy.Node{
		Admin: "unix/" + filepath.Join(t.TempDir(), "admin"), Storage: inFolder(folder), WeChat: api.URL,
		Platform: caddy.FreeAddress(t), Proxy: caddy.FreeAddress(t), Clients: caddy.Shop,
	}
	file := filepath.Join(t.TempDir(), "Caddyfile")
	p := n.Run(t, file)
	p.Serves(n.Platform, n.Proxy)
	weChat.SetURLs("http://"+n.Platform+"/wechat/events", "")
	if err := weChat.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range accounts {
		exchanged(t, weChat, appid(i))
	}

	weChat.Inject(sandbox.Fault{Path: "/cgi-bin/component/api_get_authorizer_list", ErrCode: 45009, Times: 1})
	refused := caddy.Launch(t, "wechat", "sync", "--address", n.Admin)
	if code, want := refused.Wait(), "--from 0"; code == 0 || !strings.Contains(refused.Printed(), want) || !strings.Contains(refused.Printed(), "45009") {
		t.Errorf("sync without quota: exit code %d, %s", code, refused.Printed())
	}
	half := caddy.Launch(t, "wechat", "sync", "--config", file, "--from", "500")
	if code := half.Wait(); code != 0 || !strings.Contains(half.Printed(), all) {
		t.Errorf("sync from 500: exit code %d, %s", code, half.Printed())
	}
	if n := strings.Count(half.Printed(), "using config from file"); n != 1 {
		t.Errorf("the configuration file is read %d times for two pages", n)
	}
	if got := records(t, folder); got != accounts-500 {
		t.Errorf("%d records after the last two pages, want %d", got, accounts-500)
	}
	whole := caddy.Launch(t, "wechat", "sync", "--address", n.Admin)
	if code := whole.Wait(); code != 0 || !regexp.MustCompile(`(?m)^`+all+`\n500 accounts new, 0 restored\n\z`).MatchString(whole.Printed()) || strings.ContainsAny(whole.Printed(), "\r#") {
		t.Errorf("sync: exit code %d, want %q, what was new, and no bar of\n%s", code, all, whole.Printed())
	}
	reseal := caddy.Launch(t, "wechat", "reseal", "--address", n.Admin)
	if code := reseal.Wait(); code != 0 || !regexp.MustCompile(`(?m)\A\d+ of \d+\n(.*\n)*\d+ sealed anew\n\z`).MatchString(reseal.Printed()) || strings.ContainsAny(reseal.Printed(), "\r#") {
		t.Errorf("reseal: exit code %d, %s", code, reseal.Printed())
	}
	if got := records(t, folder); got != accounts {
		t.Errorf("%d records, want %d", got, accounts)
	}
	if got := weChat.Count("/cgi-bin/component/api_get_authorizer_list"); got != 1+(pages-1)+pages {
		t.Errorf("%d pages were asked for, want %d", got, 2*pages)
	}

	// What was stored is what is used: nobody asks again.
	weChat.ResetCounts()
	answer := call(t, "http://"+n.Proxy+"/cgi-bin/token?grant_type=client_credential&appid="+appid(7)+"&secret="+caddy.ClientSecret, "")
	if !strings.Contains(answer, "gw1.") {
		t.Errorf("token of an account: %s", answer)
	}
	if got := weChat.Count("/cgi-bin/component/api_get_authorizer_info"); got > 1 { // for the profile, which no list tells
		t.Errorf("WeChat was asked %d times what it had told", got)
	}
	caddy.WantNoCredential(t, weChat.Credentials(), "what is printed", p.Printed()+whole.Printed()+half.Printed())
}

func TestSyncSaysWhatIsWrong(t *testing.T) {
	nobody := "unix/" + filepath.Join(t.TempDir(), "nobody")
	p := caddy.Launch(t, "wechat", "sync", "--address", nobody)
	if code := p.Wait(); code != 1 || !strings.Contains(p.Printed(), "is the gateway running?") || !strings.HasSuffix(p.Printed(), "\ngo on with: caddy wechat sync --address "+nobody+" --from 0\n") {
		t.Errorf("without a gateway: exit code %d, %s", code, p.Printed())
	}
}

// exchanged lets an account authorise, and its code be exchanged by a process
// that is gone: WeChat has a refresh token for it.
func exchanged(t *testing.T, weChat *sandbox.Sandbox, appid string) {
	t.Helper()
	if err := weChat.AddAccount(sandbox.Account{AppID: appid}); err != nil {
		t.Fatal(err)
	}
	code, err := weChat.Authorize(t.Context(), appid)
	if err != nil {
		t.Fatal(err)
	}
	post := func(path, body string) (answer map[string]any) {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		w := httptest.NewRecorder()
		weChat.ServeHTTP(w, r)
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	token := weChat.ValidToken(sandbox.KindComponent, "")
	if token == "" {
		post("/cgi-bin/component/api_component_token", fmt.Sprintf(`{"component_appid":%q,"component_appsecret":%q,"component_verify_ticket":%q}`,
			sandbox.DefaultComponent, sandbox.DefaultAppSecret, weChat.ValidToken(sandbox.KindTicket, "")))
		token = weChat.ValidToken(sandbox.KindComponent, "")
	}
	post("/cgi-bin/component/api_query_auth?access_token="+token, fmt.Sprintf(`{"component_appid":%q,"authorization_code":%q}`, sandbox.DefaultComponent, code))
}

// records counts the authorizers in the storage.
func records(t *testing.T, storage string) (n int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(storage, "wechat", sandbox.DefaultComponent, "authorizers"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".json") {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
