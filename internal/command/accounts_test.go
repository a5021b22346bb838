// SPDX-License-Identifier: Apache-2.0

package command

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// page returns a page with accounts of these names.
func page(t *testing.T, next string, names ...string) answer {
	p := operate.Accounts{Items: []operate.Account{}, Next: next}
	for _, name := range names {
		p.Items = append(p.Items, operate.Account{AppID: "wxaaaaaaaaaaaaaaaa", State: "authorized", Name: name, Permissions: []operate.Permission{}, Clients: []string{"shop"}})
	}
	return answer{text: encoded(t, p)}
}

// What is typed becomes the query, and the command for the next page is the same list.
func TestAccountsAreAskedFor(t *testing.T) {
	w := newWorld(t)
	for typed, row := range map[string]struct{ query, next string }{
		"":                                 {"", ""},
		"--limit 1":                        {"?limit=1", " --limit 1"},
		"--state failing --client shop":    {"?client=shop&state=failing", " --state failing --client shop"},
		"wxaaaaaaaaaaaaaaaa":               {"?q=wxaaaaaaaaaaaaaaaa", " wxaaaaaaaaaaaaaaaa"},
		"公众号 --component wx1 --cursor old": {"?component=wx1&cursor=old&q=%E5%85%AC%E4%BC%97%E5%8F%B7", " 公众号 --component wx1"},
		"a&b=c --lang en":                  {"?lang=en&q=a%26b%3Dc", " 'a&b=c'"},
		"--state= --limit 1000000000":      {"?limit=1000000000&state=", " --state '' --limit 1000000000"},
	} {
		request := "GET /wechat/accounts" + row.query
		names := slices.Repeat([]string{"杭州"}, 50)
		w.answer(request, page(t, "", names...))
		if got := w.run(slices.Concat([]string{"accounts"}, strings.Fields(typed))...); got.code != 0 || got.err != "" || !strings.HasSuffix(got.out, "\n50 accounts\n") {
			t.Errorf("%s: %+v", typed, got)
		}
		if strings.Contains(typed, "1000000000") {
			w.requests()
			continue // a page that is never full
		}
		w.answer(request, page(t, "more", names...))
		address := " --address " + strings.TrimPrefix(w.URL, "http://")
		if got, want := w.run(slices.Concat([]string{"accounts"}, strings.Fields(typed))...), "; the next one: caddy wechat accounts"+row.next+address+" --cursor more\n"; !strings.HasSuffix(got.out, want) {
			t.Errorf("%s: %+v, want %q", typed, got, want)
		}
		if asked := w.requests(); len(asked) != 2 || asked[0] != request {
			t.Errorf("%s: asked is %q, want %s", typed, asked, request)
		}
	}
}

// Of a search the gateway answers what it has found so far. People get a full page, or
// all there is; programs get the answer.
func TestSearchesGoOnUntilThePageIsFull(t *testing.T) {
	w := newWorld(t)
	w.answer("GET /wechat/accounts?limit=3&q=x", page(t, "c1"))
	w.answer("GET /wechat/accounts?cursor=c1&limit=3&q=x", page(t, "c2", "x1", "x2"))
	w.answer("GET /wechat/accounts?cursor=c2&limit=1&q=x", page(t, "c3", "x3"))
	got := w.run("accounts", "x", "--limit", "3")
	if got.code != 0 || got.err != "" || !strings.Contains(got.out, "3 accounts on this page; ") || !strings.HasSuffix(got.out, " --cursor c3\n") || strings.Count(got.out, "wxaaaa") != 3 {
		t.Errorf("%+v", got)
	}
	w.answer("GET /wechat/accounts?cursor=c1&limit=3&q=x", page(t, ""))
	if got := w.run("accounts", "x", "--limit", "3"); got.code != 0 || got.out != "there is no account with the appid, or the beginning of the name, \"x\"\n" {
		t.Errorf("%+v", got)
	}
	if got, want := w.run("accounts", "x", "--limit", "3", "--json"), page(t, "c1").text; got.out != want {
		t.Errorf("%+v, want %q", got, want)
	}
	w.answer("GET /wechat/accounts?cursor=c1&limit=3&q=x", page(t, "c1"))
	if got := w.run("accounts", "x", "--limit", "3"); got.code != 1 || !strings.Contains(got.err, "goes back") {
		t.Errorf("a cursor that does not move on: %+v", got)
	}
	w.answer("GET /wechat/accounts?cursor=c1&limit=3&q=x", answer{503, `{"error":"storage fails","remedy":"look at it"}`})
	if got := w.run("accounts", "x", "--limit", "3"); got.code != 1 || got.err != "Error: storage fails\nlook at it\n" || got.out != "" {
		t.Errorf("%+v", got)
	}
}

func TestMistakesInAccounts(t *testing.T) {
	w := newWorld(t)
	w.answer("GET /wechat/accounts?limit=1000000000", answer{400, `{"error":"limit \"1000000000\" is no length of a page","remedy":"write a number from 1 to 1000"}` + "\n"})
	for _, row := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"accounts", "--limit", "1000000000"}, "is no length of a page\nwrite a number from 1 to 1000\n"},
		{[]string{"accounts", "--limit", "x"}, "invalid argument"},
		{[]string{"accounts", "杭州", "某某"}, "2 texts are given\nput a text with blanks into quotes: '杭州 某某'\n"},
		{[]string{"accounts", ""}, "the text is empty"},
		{[]string{"accounts", "--page", "2"}, "unknown flag: --page"},
		{[]string{"account"}, "no account is named\nwrite caddy wechat account <appid> [renew | reread | forget]"},
		{[]string{"account", "renew", "wxaaaaaaaaaaaaaaaa"}, "the account is named first\nwrite caddy wechat account <appid> renew"},
		{[]string{"account", "renew"}, "the account is named first"},
		{[]string{"account", "杭州"}, "is no appid"},
		{[]string{"account", "../status"}, "is no appid"},
		{[]string{"account", ".."}, "is no appid"},
		{[]string{"account", ""}, "is no appid"},
		{[]string{"account", "wxaaaaaaaaaaaaaaaa?x"}, "is no appid"},
		{[]string{"account", "wxaaaaaaaaaaaaaaaa", "renwe"}, "unknown action \"renwe\"\ndid you mean renew?"},
		{[]string{"account", "wxaaaaaaaaaaaaaaaa", "delete"}, "unknown action \"delete\"\nknown are: renew, reread, forget"},
		{[]string{"account", "wxaaaaaaaaaaaaaaaa", ""}, "unknown action \"\""},
		{[]string{"account", "wxaaaaaaaaaaaaaaaa", "renew", "forget"}, "more than one action"},
		{[]string{"pushes", "all"}, `unknown command "all"`},
		{[]string{"usage", "shop"}, `unknown command "shop"`},
	} {
		if got := w.run(row.arguments...); got.code != 1 || got.out != "" || !strings.Contains(got.err, row.want) {
			t.Errorf("%q: %+v, want %q", row.arguments, got, row.want)
		}
	}
	if asked := w.requests(); len(asked) != 1 {
		t.Errorf("asked is %q, want the first alone", asked)
	}
	// For programs the refusal is there as it was answered.
	if got := w.run("accounts", "--limit", "1000000000", "--json"); got.code != 1 || !strings.HasPrefix(got.out, `{"error":"limit `) || !strings.HasSuffix(got.out, "}\n") || got.err == "" {
		t.Errorf("%+v", got)
	}
}

// Each action is one request, and says what is done.
func TestActionsOnAnAccount(t *testing.T) {
	w := newWorld(t)
	account := encoded(t, brokenAccount())
	for _, row := range []struct{ arguments, request, answer, out string }{
		{"", "GET /wechat/accounts/wxaaaaaaaaaaaaaaaa", account, "wxaaaaaaaaaaaaaaaa  杭州"},
		{"--component wx1 --lang en", "GET /wechat/accounts/wxaaaaaaaaaaaaaaaa?component=wx1&lang=en", account, "wxaaaaaaaaaaaaaaaa  杭州"},
		{"renew", "POST /wechat/accounts/wxaaaaaaaaaaaaaaaa/renew", account, "the token is renewed\n\nwxaaaaaaaaaaaaaaaa  杭州"},
		{"reread --component wx1", "POST /wechat/accounts/wxaaaaaaaaaaaaaaaa/reread?component=wx1", account, "the account is read anew\n\nwxaaaaaaaaaaaaaaaa  杭州"},
		{"forget", "POST /wechat/accounts/wxaaaaaaaaaaaaaaaa/forget", `{"count":1}`, "1 account is forgotten\n"},
	} {
		w.answer(row.request, answer{text: row.answer})
		arguments := append([]string{"account", "wxaaaaaaaaaaaaaaaa"}, strings.Fields(row.arguments)...)
		if got := w.run(arguments...); got.code != 0 || got.err != "" || !strings.HasPrefix(got.out, row.out) {
			t.Errorf("%q: %+v", arguments, got)
		}
		if got := w.run(append(arguments, "--json")...); got.code != 0 || got.out != row.answer {
			t.Errorf("%q in JSON: %+v", arguments, got)
		}
		if asked := w.requests(); !slices.Equal(asked, []string{row.request, row.request}) {
			t.Errorf("%q: asked is %q", arguments, asked)
		}
	}
	w.answer("POST /wechat/accounts/wxaaaaaaaaaaaaaaaa/forget", answer{409, `{"error":"the account is authorized","remedy":"let its admin withdraw first"}`})
	if got := w.run("account", "wxaaaaaaaaaaaaaaaa", "forget"); got.code != 1 || got.err != "Error: the account is authorized\nlet its admin withdraw first\n" {
		t.Errorf("%+v", got)
	}
}
