// SPDX-License-Identifier: Apache-2.0

package bizmsg_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

var revealed = cmp.Comparer(secret.Secret.Equal)

func TestParseEvent(t *testing.T) {
	created := time.Unix(1413192605, 0)
	authorized := bizmsg.Event{
		AppID:                        componentID,
		CreateTime:                   created,
		InfoType:                     bizmsg.InfoAuthorized,
		AuthorizerAppID:              "wx570bc396a51b8ff8",
		AuthorizationCode:            secret.New("queryauthcode@@@abc"),
		AuthorizationCodeExpiredTime: "1413196205",
		PreAuthCode:                  secret.New("preauthcode@@@def"),
	}
	const common = "<xml><AppId>" + componentID + "</AppId><CreateTime>1413192605</CreateTime>"
	cases := map[string]struct {
		plain string
		want  bizmsg.Event
	}{
		"a ticket": {
			"<xml><AppId><![CDATA[" + componentID + "]]></AppId>\n<CreateTime>1413192605</CreateTime>\n<InfoType><![CDATA[component_verify_ticket]]></InfoType>\n<ComponentVerifyTicket><![CDATA[ticket@@@xyz]]></ComponentVerifyTicket>\n</xml>",
			bizmsg.Event{AppID: componentID, CreateTime: created, InfoType: bizmsg.InfoTicket, ComponentVerifyTicket: secret.New("ticket@@@xyz")},
		},
		"an authorization": {
			common + "<InfoType>authorized</InfoType><AuthorizerAppid>wx570bc396a51b8ff8</AuthorizerAppid><AuthorizationCode>queryauthcode@@@abc</AuthorizationCode><AuthorizationCodeExpiredTime>1413196205</AuthorizationCodeExpiredTime><PreAuthCode>preauthcode@@@def</PreAuthCode></xml>",
			authorized,
		},
		"the same as JSON": {
			`{"AppId":"` + componentID + `","CreateTime":1413192605,"InfoType":"authorized","AuthorizerAppid":"wx570bc396a51b8ff8","AuthorizationCode":"queryauthcode@@@abc","AuthorizationCodeExpiredTime":1413196205,"PreAuthCode":"preauthcode@@@def","func_info":[{}]}`,
			authorized,
		},
		"a withdrawal has an appid only": {
			common + "<InfoType>unauthorized</InfoType><AuthorizerAppid>wx570bc396a51b8ff8</AuthorizerAppid></xml>",
			bizmsg.Event{AppID: componentID, CreateTime: created, InfoType: bizmsg.InfoUnauthorized, AuthorizerAppID: "wx570bc396a51b8ff8"},
		},
		"AppId and appid side by side, in a fast registration": {
			common + "<InfoType><![CDATA[notify_third_fasteregister]]></InfoType><appid>wx570bc396a51b8ff8</appid><status>0</status><auth_code>code</auth_code><msg>OK</msg><info><name><![CDATA[公司]]></name><code>1</code></info></xml>",
			bizmsg.Event{AppID: componentID, CreateTime: created, InfoType: bizmsg.InfoFastRegister, AuthorizerAppID: "wx570bc396a51b8ff8", AuthorizationCode: secret.New("code")},
		},
		"an InfoType nobody has heard of, nested and repetitive": {
			common + "<InfoType>new_one</InfoType><appid>wx1</appid><auth_code>x</auth_code><item><a><b>1</b></a></item><item/><msg>文</msg></xml>",
			bizmsg.Event{AppID: componentID, CreateTime: created, InfoType: "new_one"},
		},
		"a name deeper down is not ours": {
			common + "<InfoType>new_one</InfoType><info><ComponentVerifyTicket>x</ComponentVerifyTicket><AppId>y</AppId></info></xml>",
			bizmsg.Event{AppID: componentID, CreateTime: created, InfoType: "new_one"},
		},
		"no CreateTime":                     {"<xml><InfoType>a</InfoType></xml>", bizmsg.Event{InfoType: "a"}},
		"a CreateTime of 0":                 {"<xml><InfoType>a</InfoType><CreateTime>0</CreateTime></xml>", bizmsg.Event{InfoType: "a"}},
		"a CreateTime that is not a number": {"<xml><InfoType>a</InfoType><CreateTime>now</CreateTime></xml>", bizmsg.Event{InfoType: "a"}},
		"a CreateTime beyond the calendar":  {"<xml><InfoType>a</InfoType><CreateTime>9223372036854775807</CreateTime></xml>", bizmsg.Event{InfoType: "a"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := bizmsg.ParseEvent([]byte(tc.plain))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, revealed); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEventsThatAreRefused(t *testing.T) {
	const ticket = "ticket@@@top-secret"
	cases := map[string]string{
		"nothing":                    "",
		"no InfoType":                "<xml><ComponentVerifyTicket>" + ticket + "</ComponentVerifyTicket></xml>",
		"two InfoTypes":              "<xml><InfoType>a</InfoType><InfoType>b</InfoType></xml>",
		"two tickets":                "<xml><InfoType>a</InfoType><ComponentVerifyTicket>" + ticket + "</ComponentVerifyTicket><ComponentVerifyTicket>x</ComponentVerifyTicket></xml>",
		"a ticket with a child":      "<xml><InfoType>a</InfoType><ComponentVerifyTicket>" + ticket + "<b/></ComponentVerifyTicket></xml>",
		"a DOCTYPE":                  "<!DOCTYPE xml><xml><InfoType>a</InfoType></xml>",
		"a comment":                  "<xml><InfoType>a<!-- " + ticket + " --></InfoType></xml>",
		"a bad entity in the ticket": "<xml><InfoType>a</InfoType><ComponentVerifyTicket>&" + ticket + "</ComponentVerifyTicket></xml>",
		"a bad end tag":              "<xml><InfoType>a</InfoType><ComponentVerifyTicket>x</" + ticket + "></xml>",
		"cut short":                  "<xml><InfoType>a</InfoType><ComponentVerifyTicket>" + ticket,
		"something behind":           "<xml><InfoType>a</InfoType></xml>" + ticket,
		"bad JSON":                   `{"InfoType":"a","ComponentVerifyTicket":` + ticket + `}`,
		"not UTF-8":                  "<xml><InfoType>a</InfoType><ComponentVerifyTicket>" + ticket + "\xff</ComponentVerifyTicket></xml>",
	}
	for name, plain := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := bizmsg.ParseEvent([]byte(plain))
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			if diff := cmp.Diff(bizmsg.Event{}, got, revealed); diff != "" {
				t.Errorf("came with the error:\n%s", diff)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error quotes the text: %v", err)
			}
		})
	}
}

func TestEventsDoNotPrintTheirSecrets(t *testing.T) {
	event, err := bizmsg.ParseEvent([]byte("<xml><InfoType>a</InfoType><ComponentVerifyTicket>topsecret</ComponentVerifyTicket><AuthorizationCode>topsecret</AuthorizationCode><PreAuthCode>topsecret</PreAuthCode></xml>"))
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, event); strings.Contains(text, "topsecret") {
			t.Errorf("%s: %s", format, text)
		}
	}
}
