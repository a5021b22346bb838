// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Event is a push to the authorisation events URL, without the credentials in
// it, so that clients may get it.
type Event struct {
	// Component is the component_appid.
	Component string
	// Authorizer is the appid of the account that the event is about, "" if it
	// is about the component.
	Authorizer string
	// ID is 32 hexadecimal digits. It is the same whenever WeChat pushes the
	// same event, and at each delivery, so that clients can find repetitions.
	ID string
	// InfoType is WeChat's name for what has happened.
	InfoType string
	// CreateTime is by WeChat's clock; zero if the push has none.
	CreateTime time.Time
	// Body is the XML without credentials.
	Body []byte
}

// NewEvent returns the Event for a verified push. plain is its decrypted text,
// and e what bizmsg.ParseEvent has read from it. It fails if the text is not
// XML; WeChat pushes to platforms in XML only
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/message_push.html).
// The error does not quote the text, which may contain a code.
func NewEvent(component string, e bizmsg.Event, plain []byte) (Event, error) {
	body, accounts, err := redact(plain)
	if err != nil {
		return Event{}, err
	}
	// The codes in the text cannot be computed from the digest.
	digest := sha256.Sum256(append([]byte(component+"\n"), plain...))
	out := Event{
		Component:  component,
		ID:         hex.EncodeToString(digest[:16]),
		InfoType:   e.InfoType,
		CreateTime: e.CreateTime,
		Body:       body,
	}
	for _, name := range accountNames {
		if appID := accounts[name]; out.Authorizer == "" && appID != component && subject.ValidAppID(appID) {
			out.Authorizer = appID
		}
	}
	return out, nil
}

// accountNames are the elements that contain the appid of the account. Which
// one it is depends on the InfoType.
var accountNames = []string{"AuthorizerAppid", "authorizer_appid", "appid", "verify_appid"}

// credentials are parts of the names of elements that contain a credential, in
// lower case and without underscores. They are parts and not whole names,
// because events with an unknown InfoType are delivered as well, and may
// contain credentials with new names.
var credentials = []string{"ticket", "token", "secret", "authcode", "authorizationcode", "sessionkey"}

// isCredential reports whether an element with this name may contain a
// credential.
func isCredential(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "")
	return slices.ContainsFunc(credentials, func(part string) bool { return strings.Contains(name, part) })
}

// errNotXML does not quote the document, which may contain a credential.
var errNotXML = errors.New("redacting event: not well-formed XML")

// redact returns the document without the elements that may contain a
// credential. Attributes, comments, processing instructions and directives are
// left out as well, because they could contain one. It also returns the texts
// of the elements directly below the root, by name; the texts of two elements
// with the same name are joined. The only error is errNotXML.
func redact(plain []byte) (body []byte, texts map[string]string, err error) {
	var out bytes.Buffer // writing to it never fails; errors of the encoder are about nesting
	texts = make(map[string]string)
	d, e := xml.NewDecoder(bytes.NewReader(plain)), xml.NewEncoder(&out)
	var open []string // names of the open elements, the root first
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, errNotXML
		}
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Space != "" { // WeChat uses no namespaces; without its prefix a name may be invalid
				return nil, nil, errNotXML
			}
			if isCredential(t.Name.Local) {
				err = d.Skip()
				break
			}
			open = append(open, t.Name.Local)
			err = e.EncodeToken(xml.StartElement{Name: xml.Name{Local: t.Name.Local}})
		case xml.EndElement:
			open = open[:len(open)-1]
			err = e.EncodeToken(xml.EndElement{Name: xml.Name{Local: t.Name.Local}})
		case xml.CharData:
			if len(open) == 2 {
				texts[open[1]] += strings.TrimSpace(string(t))
			}
			if len(open) > 0 {
				err = e.EncodeToken(t)
			}
		}
		if err != nil {
			return nil, nil, errNotXML
		}
	}
	if e.Close() != nil || out.Len() == 0 {
		return nil, nil, errNotXML
	}
	return out.Bytes(), texts, nil
}

// about returns the appid of the account, or else that of the component.
func (e Event) about() string { return cmp.Or(e.Authorizer, e.Component) }

// Item returns what is delivered of the event, which has arrived then.
func (e Event) Item(arrived time.Time) Item {
	return Item{Kind: KindEvent, Component: e.Component, AppID: e.about(), ID: e.ID, InfoType: e.InfoType, Arrived: arrived, Body: e.Body}
}
