// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bytes"
	"encoding/xml"
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

func mustEvent(t testing.TB, infoType, inner string) delivery.Event {
	t.Helper()
	plain := pushed(infoType, inner)
	parsed, err := bizmsg.ParseEvent(plain)
	if err != nil {
		t.Fatal(err)
	}
	event, err := delivery.NewEvent(component, parsed, plain)
	if err != nil {
		t.Fatal(err)
	}
	return event
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
	if event.Component != component || event.Authorizer != account || event.InfoType != "authorized" ||
		!event.CreateTime.Equal(time.Unix(1413192760, 0)) {
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
		"the component is none":           {"<appid>" + component + "</appid>", ""},
		"what is not an appid":            {"<appid>../x</appid>", ""},
		"one further down is another one": {"<info><appid>" + account + "</appid></info>", ""},
		"none":                            {"<procedure_id>1</procedure_id>", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mustEvent(t, "notify", row.inner).Authorizer; got != row.want {
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

func TestWhatIsNotXMLIsNotDelivered(t *testing.T) {
	plain := []byte(`{"AppId":"` + component + `","InfoType":"authorized","AuthorizationCode":"SECRET"}`)
	parsed, err := bizmsg.ParseEvent(plain)
	if err != nil {
		t.Fatal(err)
	}
	event, err := delivery.NewEvent(component, parsed, plain)
	if err == nil || event.Body != nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("%+v, %v", event, err)
	}
}

func FuzzNewEvent(f *testing.F) {
	f.Add(pushed("authorized", authorizedInner))
	f.Add(pushed("x", "<info token='a'><code>1</code><b/></info><![CDATA[<AuthCode>]]>"))
	f.Add([]byte("<xml><a><auth_code>s</auth_code></a></xml><xml/>"))
	f.Add([]byte("<xml><x:1>a</x:1></xml>"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, plain []byte) {
		event, err := delivery.NewEvent(component, bizmsg.Event{}, plain)
		if err != nil {
			if event.Body != nil {
				t.Error("a body escaped with an error")
			}
			return
		}
		// What was written is read the same: nothing turns into an element on the way.
		again, err := delivery.NewEvent(component, bizmsg.Event{}, event.Body)
		if err != nil || !bytes.Equal(again.Body, event.Body) {
			t.Fatalf("%v: %q became %q", err, event.Body, again.Body)
		}
		d := xml.NewDecoder(bytes.NewReader(event.Body))
		for {
			token, err := d.Token()
			if err != nil {
				return
			}
			if start, ok := token.(xml.StartElement); ok {
				name := strings.ReplaceAll(strings.ToLower(start.Name.Local), "_", "")
				if strings.Contains(name, "authcode") || strings.Contains(name, "ticket") || len(start.Attr) > 0 {
					t.Fatalf("%q came through", event.Body)
				}
			}
		}
	})
}
