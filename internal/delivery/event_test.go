// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bytes"
	"encoding/xml"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

// pushed returns a push to the events URL.
func pushed(infoType, inner string) []byte {
	return []byte("<xml><AppId><![CDATA[" + component + "]]></AppId>\n<CreateTime>1413192760</CreateTime>\n<InfoType>" +
		infoType + "</InfoType>" + inner + "</xml>")
}

// readEvent returns the event of a push.
func readEvent(t testing.TB, plain string) *delivery.Event {
	t.Helper()
	parsed, err := bizmsg.ParseEvent([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	event, err := delivery.NewEvent(component, parsed, []byte(plain), arrived)
	if err != nil {
		t.Fatal(err)
	}
	return event
}

var arrived = time.Unix(1_700_000_000, 0)

// tenants are targets by name, with the appids that each may act for, separated by
// blanks: "*" is every account, "component" stands for component_api.
type tenants map[*delivery.Target]string

func (all tenants) recipients(_, appID string) (targets []*delivery.Target) {
	for target, rights := range all {
		may := strings.Fields(rights)
		if slices.Contains(may, appID) || appID != "" && slices.Contains(may, "*") || appID == "" && slices.Contains(may, "component") {
			targets = append(targets, target)
		}
	}
	return targets
}

// mustEvent returns what a client that may do everything gets of an event.
func mustEvent(t testing.TB, infoType, inner string) delivery.Item {
	t.Helper()
	everything := tenants{new(delivery.Target): "* component"}
	shares := readEvent(t, string(pushed(infoType, inner))).Shares(everything.recipients)
	if len(shares) != 1 || len(shares[0].Targets) != 1 {
		t.Fatalf("%v", shares)
	}
	return shares[0].Item
}

const authorizedInner = "<AuthorizerAppid>" + account + "</AuthorizerAppid>" +
	"<AuthorizationCode>queryauthcode@@@SECRET</AuthorizationCode>" +
	"<AuthorizationCodeExpiredTime>600</AuthorizationCodeExpiredTime>" +
	"<PreAuthCode><![CDATA[preauthcode@@@SECRET]]></PreAuthCode>"

func TestAnEventIsDeliveredWithoutItsCodes(t *testing.T) {
	event := mustEvent(t, "authorized", authorizedInner)
	want := map[string]string{"AppId": component, "CreateTime": "1413192760", "InfoType": "authorized", "AuthorizerAppid": account}
	if diff := cmp.Diff(want, elements(t, string(event.Body))); diff != "" {
		t.Error(diff)
	}
	if event.Kind != delivery.KindEvent || event.Component != component || event.AppID != account ||
		event.InfoType != "authorized" || !event.Arrived.Equal(arrived) {
		t.Errorf("%+v", event)
	}
}

func TestNoCredentialOfAnyInfoTypeIsDelivered(t *testing.T) {
	for name, inner := range map[string]string{
		"a fast registration":          "<appid>" + account + "</appid><status>0</status><auth_code>SECRET</auth_code><info><code>91110</code></info>",
		"a ticket in the wrong place":  "<ComponentVerifyTicket>SECRET</ComponentVerifyTicket>",
		"a nested one":                 "<info><deep><Authorizer_Refresh_Token>SECRET</Authorizer_Refresh_Token></deep></info>",
		"one with children":            "<access_token><part>SECRET</part></access_token>",
		"an app secret":                "<AppSecret>SECRET</AppSecret>",
		"a session key":                "<session_key>SECRET</session_key>",
		"an attribute":                 `<info token="SECRET">x</info>`,
		"spelt in another letter case": "<AUTHORIZATIONCODE>SECRET</AUTHORIZATIONCODE>",
	} {
		t.Run(name, func(t *testing.T) {
			body := mustEvent(t, "some_new_type", inner).Body
			if bytes.Contains(body, []byte("SECRET")) {
				t.Errorf("%s", body)
			}
			if fields := elements(t, string(body)); fields["InfoType"] != "some_new_type" || fields["AppId"] != component {
				t.Errorf("lost more than the credential: %s", body)
			}
		})
	}
}

func TestWhatIsNotACredentialStays(t *testing.T) {
	inner := "<appid>" + account + "</appid><info><code>91110</code><code_type>1</code_type><name>A &amp; B</name></info>"
	body := string(mustEvent(t, "notify_third_fasteregister", inner).Body)
	for _, part := range []string{"<code>91110</code>", "<code_type>1</code_type>", "<name>A &amp; B</name>"} {
		if !strings.Contains(body, part) {
			t.Errorf("%s is not in %s", part, body)
		}
	}
}

func TestWhichAccountAnEventIsAbout(t *testing.T) {
	for name, row := range map[string]struct{ inner, want string }{
		"AuthorizerAppid":  {"<AuthorizerAppid>" + account + "</AuthorizerAppid>", account},
		"authorizer_appid": {"<authorizer_appid>" + account + "</authorizer_appid>", account},
		"appid":            {"<appid><![CDATA[ " + account + " ]]></appid>", account},
		"verify_appid":     {"<verify_appid>" + account + "</verify_appid>", account},
		"the authorizer goes first": {"<appid>" + account2 + "</appid><AuthorizerAppid>" + account + "</AuthorizerAppid>",
			account},
		"the component is none":           {"<appid>" + component + "</appid>", component},
		"what is not an appid":            {"<appid>../x</appid>", component},
		"one further down is another one": {"<info><appid>" + account + "</appid></info>", component},
		"none":                            {"<procedure_id>1</procedure_id>", component},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mustEvent(t, "notify", row.inner).AppID; got != row.want {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestTheIDIsThatOfTheEvent(t *testing.T) {
	first := mustEvent(t, "authorized", authorizedInner)
	if again := mustEvent(t, "authorized", authorizedInner); again.ID != first.ID || len(first.ID) != 32 {
		t.Errorf("pushed again: %s, first %s", again.ID, first.ID)
	}
	other := mustEvent(t, "authorized", strings.ReplaceAll(authorizedInner, "SECRET", "SECRET2"))
	if other.ID == first.ID {
		t.Error("another authorisation within the same second has the same id")
	}
}

// A text from which the credentials cannot be taken is delivered to nobody, and is
// not quoted.
func TestWhatCannotBeRedactedIsNoEvent(t *testing.T) {
	for name, plain := range map[string]string{
		"neither XML nor JSON": "AuthorizationCode=SECRET",
		"XML that breaks off":  "<xml><AuthorizationCode>SECRET",
		"a namespace":          "<xml xmlns:a='b'><a:AuthorizationCode>SECRET</a:AuthorizationCode></xml>",
		"JSON that breaks off": `{"AuthorizationCode":"SECRET"`,
		"JSON nested too deep": `{"a":` + strings.Repeat(`{"a":`, 40) + `"SECRET"` + strings.Repeat("}", 41),
		"an array of JSON":     `["SECRET"]`,
		"nothing":              "",
	} {
		t.Run(name, func(t *testing.T) {
			event, err := delivery.NewEvent(component, bizmsg.Event{}, []byte(plain), arrived)
			if err == nil || event != nil || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%+v, %v", event, err)
			}
		})
	}
}

func FuzzNewEvent(f *testing.F) {
	f.Add(pushed("authorized", authorizedInner))
	f.Add(pushed("x", "<info token='a'><code>1</code><b/></info><![CDATA[<AuthCode>]]>"))
	f.Add([]byte("<xml><a><auth_code>s</auth_code></a></xml><xml/>"))
	f.Add([]byte("<xml><x:1>a</x:1></xml>"))
	f.Add([]byte("{}"))
	f.Add([]byte("<xml><list><appid>wxaaaaaaaaaaaaaaaa</appid></list>\x1d<list>&#29;<appid/></list></xml>"))
	everything := tenants{new(delivery.Target): "* component"}
	f.Fuzz(func(t *testing.T, plain []byte) {
		event, err := delivery.NewEvent(component, bizmsg.Event{}, plain, arrived)
		if err != nil || bizmsg.IsJSON(plain) {
			return
		}
		body := event.Shares(everything.recipients)[0].Item.Body
		// What was written is read the same: nothing turns into an element on the way.
		again, err := delivery.NewEvent(component, bizmsg.Event{}, body, arrived)
		if err != nil || !bytes.Equal(again.Shares(everything.recipients)[0].Item.Body, body) {
			t.Fatalf("%v: %q is not read the same", err, body)
		}
		d := xml.NewDecoder(bytes.NewReader(body))
		for {
			token, err := d.Token()
			if err != nil {
				return
			}
			if start, ok := token.(xml.StartElement); ok {
				name := strings.ReplaceAll(strings.ToLower(start.Name.Local), "_", "")
				if strings.Contains(name, "authcode") || strings.Contains(name, "ticket") || len(start.Attr) > 0 {
					t.Fatalf("%q came through", body)
				}
			}
		}
	})
}
