// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Of WeChat's page: groups 1 to 5, official account and mini program.
var testAccounts = []string{
	"wx570bc396a51b8ff8 gh_3c884a361561 wxd101a85aa106f53e gh_8dad206e9538",
	"wx9252c5e0bb1836fc gh_c0f28a78b318 wxc39235c15087f6f3 gh_905ae9d01059",
	"wx8e1097c5bc82cde9 gh_3f222ed8d140 wx7720d01d4b2a4500 gh_393666f1fdf4",
	"wx14550af28c71a144 gh_26128078e9ab wx05d483572dcd5d8b gh_39abb5d4e1b7",
	"wxa35b9c23cfe664eb gh_2b3713f184a6 wx5910277cae6fd970 gh_7818dcb60240",
}

// What is pushed, in order and to whom, with either reading of the codes, whether
// the gateway exchanges the code of the event or not.
func TestThePublishTestPasses(t *testing.T) {
	for name, row := range map[string]struct {
		switches sandbox.Switches
		late     bool
	}{
		"the code of the event, exchanged":     {},
		"the code of the event, not exchanged": {late: true},
		"a code of its own":                    {switches: sandbox.Switches{DifferentCodes: true}},
		"a code of its own, the other left":    {switches: sandbox.Switches{DifferentCodes: true}, late: true},
		"no event":                             {switches: sandbox.Switches{NoAuthorizedPush: true}},
		"replies looked at closely":            {switches: sandbox.Switches{StrictReplyNames: true}},
		"the old steps":                        {switches: sandbox.Switches{PublishOldSteps: true}},
	} {
		t.Run(name, func(t *testing.T) {
			playPublishTest(t, row.switches, func(t *testing.T, g *publishGateway) {
				g.late = row.late
				if row.switches.StrictReplyNames {
					g.text = func(p pushed) string {
						return sealedReply(strings.Replace(textReply(p.field("FromUserName"), p.field("Content")+"_callback"), "gh_1", p.field("ToUserName"), 1))
					}
				}
				var want []string
				for _, group := range testAccounts {
					names := strings.Fields(group)
					official, officialName, mini, miniName := names[0], names[1], names[2], names[3]
					want = append(want, "component_verify_ticket")
					if !row.switches.NoAuthorizedPush {
						want = append(want, "authorized "+official, "authorized "+mini)
					}
					want = append(want, official+" "+officialName+" TESTCOMPONENT_MSG_TYPE_TEXT", official+" "+officialName+" QUERY_AUTH_CODE")
					if row.switches.PublishOldSteps {
						want = append(want, official+" "+officialName+" LOCATION")
					}
					want = append(want, mini+" "+miniName+" QUERY_AUTH_CODE")
					if row.switches.PublishOldSteps {
						want = append(want, "unauthorized "+official, "unauthorized "+mini)
					}
				}
				for range 2 { // another time everything is as at the first
					before, seen := len(g.receiver.all()), []sandbox.PublishStep(nil)
					steps, err := g.PublishTest(t.Context(), 0, func(step sandbox.PublishStep) { seen = append(seen, step) })
					g.must(err)
					if diff := cmp.Diff(want, pushedIn(g.receiver.all()[before:])); diff != "" {
						t.Error(diff)
					}
					if len(steps) != len(want) || !slices.Equal(steps, seen) {
						t.Errorf("%d steps for %d pushes, told of %d", len(steps), len(want), len(seen))
					}
				}
				_, page := g.do("GET", g.launch(g.component, "https://a.example/", ""), "")
				if offered := links(page); len(offered) != 2 || offered[official] == "" || offered[mini] == "" {
					t.Errorf("after the test admins are offered %v", offered)
				}
			})
		})
	}
}

// pushedIn says of each push what it was.
func pushedIn(pushes []pushed) (list []string) {
	for _, p := range pushes {
		what := p.field("InfoType")
		if account := p.field("AuthorizerAppid"); account != "" {
			what += " " + account
		}
		if what == "" {
			content, _, _ := strings.Cut(p.field("Content"), ":")
			what = strings.TrimPrefix(p.request.URL.Path, "/wechat/messages/") + " " + p.field("ToUserName") + " " + content + p.field("Event")
		}
		list = append(list, what)
	}
	return list
}

// The text has the code of the event, or another one that is good as well.
func TestTheCodeOfThePublishTest(t *testing.T) {
	for _, different := range []bool{false, true} {
		playPublishTest(t, sandbox.Switches{DifferentCodes: different}, func(t *testing.T, g *publishGateway) {
			_, err := g.PublishTest(t.Context(), 1)
			g.must(err)
			codes := map[string]bool{}
			for _, p := range g.receiver.all() {
				code, asked := strings.CutPrefix(p.field("Content"), "QUERY_AUTH_CODE:")
				if asked {
					g.wantCode("a code once more", g.world.component("api_query_auth", g.component, "authorization_code", code), 61009)
				} else {
					code = p.field("AuthorizationCode")
				}
				codes[code] = true
			}
			delete(codes, "")
			if want := map[bool]int{false: 2, true: 4}[different]; len(codes) != want {
				t.Errorf("different %v: %d codes for two accounts", different, len(codes))
			}
		})
	}
}
