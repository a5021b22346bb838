// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"strconv"
	"strings"
	"time"
)

// News is what the gateway itself has to tell of an account. It holds no credential.
type News struct {
	Component, AppID string
	// InfoType begins with gateway_, as no name of WeChat's does.
	InfoType string
	// Occurrence is different for each time that this happens to the account, and the
	// same on all nodes: so whichever of them tells of it, the ID of the Item is the same.
	Occurrence string
	Time       time.Time
	// Reason says in plain words what has happened, Remedy what to do. An empty one is
	// left out.
	Reason, Remedy string
}

// Item returns what applications get: XML in the form of an authorisation event, with
// the elements Reason and Remedy besides.
func (n News) Item() Item {
	digest := sha256.Sum256([]byte(strings.Join([]string{"news", n.Component, n.AppID, n.InfoType, n.Occurrence}, "\n")))
	return Item{
		Kind: KindOwn, Component: n.Component, AppID: n.AppID, ID: hex.EncodeToString(digest[:16]),
		InfoType: n.InfoType, Arrived: time.Now(), Body: n.xml(),
	}
}

func (n News) xml() []byte {
	body := []byte("<xml>")
	for _, element := range [...]struct{ name, text string }{
		{"AppId", n.Component},
		{"CreateTime", strconv.FormatInt(n.Time.Unix(), 10)},
		{"InfoType", n.InfoType},
		{"AuthorizerAppid", n.AppID},
		{"Reason", n.Reason},
		{"Remedy", n.Remedy},
	} {
		if element.text != "" {
			var text strings.Builder
			_ = xml.EscapeText(&text, []byte(element.text)) // a Builder takes everything
			body = append(body, "<"+element.name+">"+text.String()+"</"+element.name+">"...)
		}
	}
	return append(body, "</xml>"...)
}
