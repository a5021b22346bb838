// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// slow is the name of these measurements for BENCH_ROWS.
const slow = "slow download"

const (
	stampWidth = 19 // digits of a time in nanoseconds
	slowLength = 2 << 10
	slowPause  = 30 * time.Millisecond
)

// answerSlowly sends the time, and after a pause the rest.
func answerSlowly(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "image/jpeg")
	w.Header().Set("Content-Length", strconv.Itoa(slowLength))
	// The gateway holds back what could be the beginning of the real token: a
	// digit could, a line break cannot.
	fmt.Fprintf(w, "%*d\n", stampWidth, time.Now().UnixNano())
	_ = http.NewResponseController(w).Flush()
	select {
	case <-time.After(slowPause):
		_, _ = w.Write(make([]byte, slowLength-stampWidth-1))
	case <-r.Context().Done():
	}
}

// measureSlow takes the time from when the upstream sends the first byte of a
// slow download to when the client has it, through everybody in the centre.
func (r *results) measureSlow(ctx context.Context, f *fleet, cells []cell) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	r.firstBytes = make(map[string][]float64)
	for range 50 {
		for _, c := range cells {
			if c.row != centre {
				continue
			}
			delay, err := firstByte(ctx, client, c.load)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", slow, c.who, err)
			}
			r.firstBytes[c.who] = append(r.firstBytes[c.who], float64(delay.Microseconds())/1000)
		}
	}
	return nil
}

func firstByte(ctx context.Context, client *http.Client, l load) (time.Duration, error) {
	_, query, _ := strings.Cut(l.target, "?")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, cmp.Or(l.scheme, "http")+"://"+l.address+slowPath+"?"+query, nil)
	if err != nil {
		return 0, err
	}
	for _, header := range l.headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	stamp := make([]byte, stampWidth)
	if _, err := io.ReadFull(response.Body, stamp); err != nil {
		return 0, err
	}
	arrived := time.Now()
	sent, err := strconv.ParseInt(string(stamp), 10, 64)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return arrived.Sub(time.Unix(0, sent)), err
}

// client trusts the upstream.
func (f *fleet) client() (*http.Client, error) {
	certificate, err := os.ReadFile(certificateFile(f.folder))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}, nil
}

func (r *results) slowTable() string {
	rows := [][]string{{"who", "median ms", "slowest ms"}}
	for _, who := range []string{direct, stock, nginx, gateway, bearer} {
		if delays := r.firstBytes[who]; len(delays) > 0 {
			rows = append(rows, []string{who, spreadOf(delays).middle(2), grouped(slices.Max(delays), 2)})
		}
	}
	return table(rows)
}
