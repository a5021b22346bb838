// SPDX-License-Identifier: Apache-2.0

package bizmsg_test

import (
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

// People have control characters in their names, and WeChat does not escape them.
func TestControlCharactersDoNotMakeAnEventUnreadable(t *testing.T) {
	xml := func(name string) string {
		return "<xml><AppId>" + componentID + "</AppId><InfoType>something</InfoType><name>" + name + "</name></xml>"
	}
	for name, plain := range map[string]string{
		"in CDATA":             xml("<![CDATA[a\x1db]]>"),
		"in a text":            xml("a\x00b\x1fc\x7f"),
		"by its number":        xml("a&#29;b&#029;&#x1D;&#x0;&#xFFFF;&#99999999999;"),
		"not a character":      xml("a\ufffeb\uffffc"),
		"between the elements": "<xml>\x01<AppId>" + componentID + "</AppId>\x1d<InfoType>something</InfoType></xml>\x02",
		"in JSON":              "{\"AppId\":\"" + componentID + "\",\x01\"InfoType\":\"something\",\"name\":\"a\x1d\n\tb\"}",
	} {
		t.Run(name, func(t *testing.T) {
			event, err := bizmsg.ParseEvent([]byte(plain))
			if err != nil || event.InfoType != "something" || event.AppID != componentID {
				t.Errorf("%+v, %v", event, err)
			}
		})
	}
}

func TestWithoutControlsLeavesEverythingElse(t *testing.T) {
	for _, text := range []string{
		"<xml>\t\r\n a &amp; &#65;&#x4E2D;&#10; 中 \U0001F600 \u0085 <![CDATA[]]]]></xml>", `{"a":"\u001d 中 é"}`, "", "\xff\x01",
	} {
		if got := string(bizmsg.WithoutControls([]byte(text))); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}
