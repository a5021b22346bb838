// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
)

const (
	aTicket = "ticket@@@REALTICKETabcdefghijklmnopqrstuvwxyz"
	another = "ticket@@@REALTICKETzyxwvutsrqponmlkjihgfedcba" // begins alike
	odd     = `REAL"SECRET"<with>&all+that/escapes\more`
	gateway = "gw1.PCeLMxwb.shop.wx134c8103faa5a59e~wxaaaaaaaaaaaaaaaa.6b0327a6.2qig1D4I.x2kR0mrHvsOmuEj8MadD6f2rz8bJ"
)

func TestSearchFindsEveryForm(t *testing.T) {
	for _, secret := range []string{aTicket, odd, "short"} {
		for name, row := range map[string]struct{ text, form string }{
			"alone":                       {secret, "plain"},
			"within a text":               {"xx" + secret + "xx", "plain"},
			"after a text that begins so": {secret[:4] + secret[:len(secret)-1] + secret, "plain"},
			"escaped for a query":         {"a=1&b=" + url.QueryEscape(secret) + "&c", "escaped for a query"},
			"escaped for JSON":            {`{"a":"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, "<", `\u003c`, ">", `\u003e`, "&", `\u0026`).Replace(secret) + `"}`, "escaped for JSON"},
			"in base64":                   {base64.StdEncoding.EncodeToString([]byte(secret)), "in base64"},
			"in base64 behind a byte":     {base64.StdEncoding.EncodeToString([]byte("a" + secret + "b")), "in base64"},
			"in base64 behind two bytes":  {base64.URLEncoding.EncodeToString([]byte("ab" + secret + "cd")), "in base64"},
			"in base64 within a text":     {"Basic " + base64.RawURLEncoding.EncodeToString([]byte("user:"+secret+":and more")), "in base64"},
		} {
			found := search([]Place{{Name: "somewhere", Data: []byte(row.text)}}, []string{another, secret}, nil)
			if len(found) == 0 || found[0].place != "somewhere" || !strings.Contains(found[0].kind, secret[:5]) {
				t.Errorf("%s %s: found %v", secret, name, found)
			}
			if len(found) == 1 && found[0].form != row.form && row.form != "escaped for JSON" && row.form != "escaped for a query" {
				t.Errorf("%s %s: found %s", secret, name, found[0].form)
			}
		}
	}
}

// What begins like a secret or is only its name is none.
func TestSearchFindsNothingElse(t *testing.T) {
	text := aTicket[:len(aTicket)-1] + " " + strings.ToLower(aTicket) + " gw1. gw1.abc " + url.QueryEscape(another)
	places := []Place{{Name: "a log", Data: []byte(text), Log: true}, {Name: "nothing", Log: true}}
	if found := search(places, []string{aTicket, ""}, []string{odd}); len(found) != 0 {
		t.Errorf("found %v", found)
	}
}

// What client and gateway share may stand in answers, but not in logs.
func TestSearchKnowsLogs(t *testing.T) {
	text := []byte(gateway + " " + odd + " " + aTicket)
	places := []Place{{Name: "an answer", Data: text}, {Name: "a log", Data: text, Log: true}}
	var got []string
	for _, found := range search(places, []string{aTicket}, []string{odd}) {
		got = append(got, found.kind+" in "+found.place)
	}
	want := []string{
		"a real credential (ticket@@@REALT…) in an answer", "a real credential (ticket@@@REALT…) in a log",
		`a client secret (REAL"SECRET"<w…) in a log`, "a gateway token in a log",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What platforms get in the place of WeChat's codes and tickets may not stand in logs
// either.
func TestSearchKnowsCodesAndTickets(t *testing.T) {
	for _, text := range []string{"gwc1." + gateway[4:], gwtoken.NewTicket()} {
		if found := search([]Place{{Name: "a log", Data: []byte("x=" + text), Log: true}}, nil, nil); len(found) != 1 {
			t.Errorf("%s: found %v", text, found)
		}
	}
}

// A token that stands in every line of a log is one finding, and says where it
// was met first.
func TestSearchSaysItOnce(t *testing.T) {
	text := "at the beginning: " + strings.Repeat(aTicket+"\n", 100)
	found := search([]Place{{Name: "a log", Data: []byte(text)}}, []string{aTicket, another}, nil)
	if len(found) != 1 || found[0].before != "at the beginning: " {
		t.Errorf("found %v", found)
	}
}
