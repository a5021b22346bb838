// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
)

// Place is something that left the gateway or that it left behind.
type Place struct {
	Name string
	Data []byte
	Log  bool // what clients share with the gateway may not stand here either
}

// finding is a secret that stands where it may not.
type finding struct {
	place, kind, form string
	before            string // what stands in front of it
}

func (f finding) String() string {
	return fmt.Sprintf("%s stands in %s, %s, after %q", f.kind, f.place, f.form, f.before)
}

// SearchEverything fails the test if any real credential stands anywhere: in
// logs, answers, Caddy events, storage, the autosaved configuration, or what
// the admin API shows; or if a client's secret or a gateway token stands in a
// log. It needs Options.Watch, which calls it at the end of the test, and a
// gateway that runs.
func (g *Gateway) SearchEverything() {
	g.t.Helper()
	g.report(g.Places())
}

// Places is all that SearchEverything searches.
func (g *Gateway) Places() []Place {
	g.t.Helper()
	return append(g.shown(), g.written()...)
}

// SearchCredentials fails the test if any real credential stands in data.
func (g *Gateway) SearchCredentials(where string, data []byte) {
	g.t.Helper()
	g.report([]Place{{Name: where, Data: data}})
}

func (g *Gateway) report(places []Place) {
	g.t.Helper()
	for _, found := range search(places, g.WeChat.Credentials(), g.clientSecrets()) {
		g.t.Error(found)
	}
}

// clientSecrets are what may not stand in logs beside real credentials.
func (g *Gateway) clientSecrets() []string {
	return append([]string{ClientSecret}, g.options.Secrets...)
}

// written is what can be searched when the gateway has stopped.
func (g *Gateway) written() []Place {
	g.t.Helper()
	places := []Place{{Name: "the log", Data: []byte(g.Logs()), Log: g.watch != nil}} // without it there is no filter
	err := filepath.WalkDir(g.Storage, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		stored, err := os.ReadFile(path)
		places = append(places, Place{Name: "stored " + entry.Name(), Data: append([]byte(path+"\n"), stored...)})
		return err
	})
	if err != nil {
		g.t.Errorf("searching storage: %v", err)
	}
	if g.watch != nil {
		places = append(places, g.watch.written()...)
	}
	return places
}

// search looks for credentials in all places, and in those that are logs for
// secrets and gateway tokens as well. Of several alike in one place it returns
// the first.
func search(places []Place, credentials, secrets []string) (found []finding) {
	everywhere, inLogs := make(needles), make(needles)
	for _, credential := range credentials {
		everywhere.add("a real credential", credential)
	}
	for _, secret := range secrets {
		inLogs.add("a client secret", secret)
	}
	seen := make(map[finding]bool)
	for _, place := range places {
		note := func(kind, form string, at int) {
			one := finding{place: place.Name, kind: kind, form: form}
			if !seen[one] {
				seen[one] = true
				one.before = string(place.Data[max(0, at-80):at])
				found = append(found, one)
			}
		}
		everywhere.in(place.Data, note)
		if place.Log {
			inLogs.in(place.Data, note)
			for _, at := range gatewayToken.FindAllIndex(place.Data, -1) {
				note("a gateway token", "plain", at[0])
			}
		}
	}
	return found
}

// gatewayToken is enough of a gateway token, code or ticket to be more than a mention.
var gatewayToken = regexp.MustCompile(`gw[ck]?1\.[A-Za-z0-9_.~-]{20}`)

// needles are the texts to look for, by their first characters, which many of
// them share.
type needles map[string][]needle

type needle struct{ text, kind, form string }

// add adds a secret in every form in which it may stand somewhere.
func (n needles) add(kind, secret string) {
	if secret == "" {
		return
	}
	kind = fmt.Sprintf("%s (%.14s…)", kind, secret)
	for form, texts := range formsOf(secret) {
		for _, text := range texts {
			stem := text[:min(len(text), 12)]
			n[stem] = append(n[stem], needle{text, kind, form})
		}
	}
}

func (n needles) in(data []byte, note func(kind, form string, at int)) {
	for stem, alike := range n {
		for at := 0; ; at++ {
			next := bytes.Index(data[at:], []byte(stem))
			if next < 0 {
				break
			}
			at += next
			for _, needle := range alike {
				if bytes.HasPrefix(data[at:], []byte(needle.text)) {
					note(needle.kind, needle.form, at)
				}
			}
		}
	}
}

// formsOf returns how a secret may be written.
func formsOf(secret string) map[string][]string {
	forms := map[string][]string{"plain": {secret}, "in base64": inBase64(secret)}
	if escaped := url.QueryEscape(secret); escaped != secret {
		forms["escaped for a query"] = []string{escaped}
	}
	quoted, _ := json.Marshal(secret)
	if escaped := string(quoted[1 : len(quoted)-1]); escaped != secret {
		forms["escaped for JSON"] = []string{escaped}
	}
	return forms
}

// inBase64 returns what all texts in base64 have in common that contain
// secret: there are three, for it can begin at any of three places of a group,
// in two alphabets. What depends on its neighbours is cut off.
func inBase64(secret string) (texts []string) {
	for shift, cut := range []int{0, 2, 3} {
		shifted := append(make([]byte, shift), secret...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(shifted)[cut:]
			if len(shifted)%3 != 0 {
				text = text[:len(text)-1]
			}
			texts = append(texts, text)
		}
	}
	return texts
}
