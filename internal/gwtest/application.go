// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// HelloMessage is what WeChat pushes of a follower's text message, without the
// members that every message has.
const HelloMessage = "<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[hello]]></Content><MsgId>1</MsgId>"

// Application is a client to which messages and events are delivered. It keeps
// them and answers as the test says.
type Application struct {
	mu         sync.Mutex
	deliveries []Delivery
	answer     DeliveryAnswer
}

// Delivery is one request to an Application.
type Delivery struct {
	Query url.Values
	Body  string
}

// DeliveryAnswer returns the HTTP status and the body that answer a delivery.
type DeliveryAnswer func(query url.Values, body string) (status int, text string)

// Success is the DeliveryAnswer of an application that takes the delivery and
// has no reply.
func Success(url.Values, string) (int, string) { return http.StatusOK, "success" }

// NewApplication returns an application that answers with Success.
func NewApplication() *Application { return &Application{answer: Success} }

// ServeHTTP keeps the delivery and answers it.
func (a *Application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.deliveries = append(a.deliveries, Delivery{r.URL.Query(), string(body)})
	answer := a.answer
	a.mu.Unlock()
	status, text := answer(r.URL.Query(), string(body))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// AnswerWith changes how the application answers from now on.
func (a *Application) AnswerWith(answer DeliveryAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

// Deliveries returns what was delivered so far, in this order.
func (a *Application) Deliveries() []Delivery {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.deliveries)
}

// Count returns how many deliveries have a body with part in it.
func (a *Application) Count(part string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, delivery := range a.deliveries {
		if strings.Contains(delivery.Body, part) {
			n++
		}
	}
	return n
}
