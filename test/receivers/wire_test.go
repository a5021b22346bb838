// SPDX-License-Identifier: Apache-2.0

package receivers_test

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// wire stands between the gateway and a receiver. It keeps the deliveries.
type wire struct {
	to string

	mu         sync.Mutex // guards all below
	deliveries []delivery
	loseAnswer bool // of the next delivery: the receiver has it, the gateway does not learn of that
}

// delivery is a request to a receiver, and its answer.
type delivery struct {
	query  url.Values
	header http.Header
	body   string
	status int
	answer string
}

// id returns the id of what is delivered.
func (d delivery) id() string { return d.query.Get("event_id") }

// clone returns a copy without the answer.
func (d delivery) clone() delivery {
	query, _ := url.ParseQuery(d.query.Encode())
	return delivery{query: query, header: d.header.Clone(), body: d.body}
}

// ServeHTTP passes a delivery on.
func (w *wire) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	body, _ := io.ReadAll(in.Body)
	d := delivery{query: in.URL.Query(), header: in.Header.Clone(), body: string(body)}
	err := w.send(&d)
	w.mu.Lock()
	lose := w.loseAnswer
	w.loseAnswer = false
	w.deliveries = append(w.deliveries, d)
	w.mu.Unlock()
	if err != nil || lose {
		panic(http.ErrAbortHandler)
	}
	out.WriteHeader(d.status)
	_, _ = io.WriteString(out, d.answer)
}

// send makes a delivery to the receiver.
func (w *wire) send(d *delivery) error {
	request, err := http.NewRequest(http.MethodPost, w.to+"/wechat?"+d.query.Encode(), strings.NewReader(d.body))
	if err != nil {
		return err
	}
	request.Header = d.header.Clone()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	d.status, d.answer = response.StatusCode, string(answer)
	return err
}

// loseNextAnswer breaks the connection when the receiver has answered the next delivery.
func (w *wire) loseNextAnswer() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loseAnswer = true
}

// last returns the last delivery.
func (w *wire) last() delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.deliveries[len(w.deliveries)-1]
}

// of returns the deliveries with an id.
func (w *wire) of(id string) []delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.deliveries), func(d delivery) bool { return d.id() != id })
}
