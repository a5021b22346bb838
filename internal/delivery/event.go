// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Event is a push to the authorisation events URL, fit for clients.
type Event struct {
	// Component is the component_appid.
	Component string
	// Authorizer is the appid of the account that this is about, "" for none.
	Authorizer string
	// ID is the same whenever WeChat pushes the same event.
	ID string
	// InfoType is what happened.
	InfoType string
	// CreateTime is WeChat's; zero if it gave none.
	CreateTime time.Time
	// Body is the XML without credentials.
	Body []byte
}

// NewEvent makes an Event of a decrypted push that bizmsg.ParseEvent has read.
// It fails if the push is not XML, which WeChat's console does not offer. The
// error never quotes the text.
func NewEvent(component string, e bizmsg.Event, plain []byte) (Event, error) {
	body, accounts, err := redact(plain)
	if err != nil {
		return Event{}, err
	}
	// One way: it shows nothing of the codes that went into it.
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

// accountNames are the elements that name the account, by InfoType.
var accountNames = []string{"AuthorizerAppid", "authorizer_appid", "appid", "verify_appid"}

// credentials are parts of the names of elements that hold a credential, in
// lower case and without underscores. They are parts, not names, because
// InfoTypes that nobody here has seen are delivered as well.
var credentials = []string{"ticket", "token", "secret", "authcode", "authorizationcode", "sessionkey"}

func isCredential(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "")
	return slices.ContainsFunc(credentials, func(part string) bool { return strings.Contains(name, part) })
}

// errNotXML never quotes the document, which may hold a credential.
var errNotXML = errors.New("redacting event: not well-formed XML")

// redact writes the document anew without the elements that hold credentials,
// without attributes and comments, and returns the texts of the elements below
// the root by name.
func redact(plain []byte) (body []byte, texts map[string]string, err error) {
	var out bytes.Buffer // takes everything, so that the encoder has no errors but of nesting
	texts = make(map[string]string)
	d, e := xml.NewDecoder(bytes.NewReader(plain)), xml.NewEncoder(&out)
	var open []string // names of the elements around
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
			if t.Name.Space != "" { // WeChat has none, and without it a name may be none
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

// about is the account the event is about, or else the component.
func (e Event) about() string { return cmp.Or(e.Authorizer, e.Component) }

// postEvent makes one attempt at delivering a queued event, which is about the
// account of its key. Any 2xx answer says that it was taken.
func (t *Target) postEvent(ctx context.Context, transport http.RoundTripper, e vault.Event) error {
	_, err := t.post(ctx, transport, push{
		appID:    e.AppID,
		envelope: bizmsg.Envelope{AppID: e.Component},
		extra:    [2]string{"event_id", e.ID},
		plain:    e.Body,
	})
	return err
}
