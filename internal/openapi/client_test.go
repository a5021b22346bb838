// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
)

// serve starts a server and returns a client of it.
func serve(t *testing.T, handler http.HandlerFunc) *openapi.Client {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &openapi.Client{Transport: server.Client().Transport, Hosts: []string{server.URL}}
}

func wantOutage(t *testing.T, err error, status int) *openapi.Outage {
	t.Helper()
	var outage *openapi.Outage
	if !errors.As(err, &outage) {
		t.Fatalf("error is %v, want an Outage", err)
	}
	if outage.Status != status {
		t.Errorf("status of the outage is %d, want %d", outage.Status, status)
	}
	return outage
}

func TestOtherStatusIsAnOutageWhateverTheBody(t *testing.T) {
	for _, status := range []int{201, 204, 302, 400, 401, 403, 404, 429, 500, 502, 503, 504} {
		client := &openapi.Client{Transport: answers(status, `{"component_access_token":"t","expires_in":7200}`)}
		_, err := client.ComponentToken(t.Context(), component, appSecret, ticket)
		wantOutage(t, err, status)
	}
}

func TestGzip(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "text/plain")
		z := gzip.NewWriter(w)
		io.WriteString(z, `{"component_access_token":"t","expires_in":7200}`)
		z.Close()
	})
	token, err := client.ComponentToken(t.Context(), component, appSecret, ticket)
	if err != nil || token.Value.Reveal() != "t" {
		t.Errorf("got %q, %v", token.Value.Reveal(), err)
	}
}

// A small compressed answer must not fill the memory.
func TestAnswerIsLimitedAfterDecompression(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, `{"component_access_token":"t","expires_in":7200}`)
		for range 8 {
			io.WriteString(z, strings.Repeat(" ", 1<<20))
		}
		z.Close()
	})
	_, err := client.ComponentToken(t.Context(), component, appSecret, ticket)
	wantOutage(t, err, 200)
	if !strings.Contains(err.Error(), "1 MiB") {
		t.Errorf("error is %v", err)
	}
}

func TestAnswerOfExactlyTheLimitIsRead(t *testing.T) {
	const answer = `{"component_access_token":"t","expires_in":7200}`
	client := &openapi.Client{Transport: answers(200, answer+strings.Repeat(" ", 1<<20-len(answer)))}
	if _, err := client.ComponentToken(t.Context(), component, appSecret, ticket); err != nil {
		t.Error(err)
	}
}

// A redirect would carry the token to another host.
func TestRedirectIsNotFollowed(t *testing.T) {
	stranger := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s went astray", r.Method, r.URL.Path)
	}))
	defer stranger.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, stranger.URL+"?"+r.URL.RawQuery, status)
		})
		_, err := client.PreAuthCode(t.Context(), component, componentToken)
		wantOutage(t, err, status)
	}
}

// TestFallback lists which failures lead to the next host: those before any
// byte can have been sent, and no other.
func TestFallback(t *testing.T) {
	opError := func(op string, err error) error { return &net.OpError{Op: op, Net: "tcp", Err: err} }
	for name, test := range map[string]struct {
		err   error
		hosts []string
	}{
		"connection refused":             {opError("dial", syscall.ECONNREFUSED), []string{"one", "two"}},
		"dialling timed out":             {opError("dial", context.DeadlineExceeded), []string{"one", "two"}},
		"dial error inside a *url.Error": {&url.Error{Op: "Post", URL: "x", Err: opError("dial", syscall.ENETUNREACH)}, []string{"one", "two"}},
		"host name not found":            {&net.DNSError{Err: "no such host", Name: "one", IsNotFound: true}, []string{"one", "two"}},
		"reset while reading":            {opError("read", syscall.ECONNRESET), []string{"one"}},
		"broken pipe while writing":      {opError("write", syscall.EPIPE), []string{"one"}},
		"connection closed":              {io.ErrUnexpectedEOF, []string{"one"}},
		"bad certificate":                {&tls.CertificateVerificationError{Err: errors.New("unknown authority")}, []string{"one"}},
		"answer awaited in vain":         {context.DeadlineExceeded, []string{"one"}},
	} {
		t.Run(name, func(t *testing.T) {
			var hosts []string
			client := &openapi.Client{
				Hosts: []string{"https://one", "https://two"},
				Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					hosts = append(hosts, r.URL.Host)
					if r.URL.Host == "one" {
						return nil, test.err
					}
					body, _ := io.ReadAll(r.Body)
					if r.URL.RawQuery != escapedToken || string(body) != `{"component_appid":"wx0123456789abcdef"}` {
						t.Errorf("second request is %s with %s", r.URL.RawQuery, body)
					}
					return answers(200, `{"pre_auth_code":"p","expires_in":600}`)(r)
				}),
			}
			_, err := client.PreAuthCode(t.Context(), component, componentToken)
			if diff := cmp.Diff(test.hosts, hosts); diff != "" {
				t.Errorf("hosts called (-want +got):\n%s", diff)
			}
			if len(test.hosts) == 1 && !errors.Is(err, test.err) || len(test.hosts) == 2 && err != nil {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestFallbackOverRealSockets(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	client := serve(t, answer(`{"pre_auth_code":"p","expires_in":600}`))
	client.Hosts = []string{gone.URL, client.Hosts[0]}
	if _, err := client.PreAuthCode(t.Context(), component, componentToken); err != nil {
		t.Error(err)
	}
	client.Hosts = []string{gone.URL, gone.URL}
	_, err := client.PreAuthCode(t.Context(), component, componentToken)
	wantOutage(t, err, 0)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error is %v, want that of the last host", err)
	}
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

// A connection that dies after the request was written may have issued a
// token. Nothing below this package may send it again either.
func TestNothingIsSentTwice(t *testing.T) {
	var requests atomic.Int32
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 { // leaves an idle connection for the next request to die on
			io.WriteString(w, `{"pre_auth_code":"p","expires_in":600}`)
			return
		}
		panic(http.ErrAbortHandler)
	})
	client.Hosts = append(client.Hosts, client.Hosts[0])
	if _, err := client.PreAuthCode(t.Context(), component, componentToken); err != nil {
		t.Fatal(err)
	}
	_, err := client.PreAuthCode(t.Context(), component, componentToken)
	wantOutage(t, err, 0)
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests arrived, want 2", n)
	}
}

func TestTimeout(t *testing.T) {
	var hosts int
	hang := roundTrip(func(r *http.Request) (*http.Response, error) {
		hosts++
		<-r.Context().Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: r.Context().Err()}
	})
	for name, test := range map[string]struct{ timeout, want time.Duration }{
		"is ten seconds unless set, all hosts together": {0, 10 * time.Second},
		"can be set": {3 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				hosts = 0
				client := &openapi.Client{Transport: hang, Timeout: test.timeout}
				err := client.StartPushTicket(t.Context(), component, appSecret)
				wantOutage(t, err, 0)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != test.want {
					t.Errorf("%v after %v, want a deadline after %v", err, time.Since(start), test.want)
				}
				if hosts != 1 {
					t.Errorf("%d hosts were called, the last with no time left", hosts)
				}
			})
		})
	}
}

func TestCallerMayLeave(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then does the server see the client leave
		cancel()
		<-r.Context().Done()
	})
	err := client.StartPushTicket(ctx, component, appSecret)
	wantOutage(t, err, 0)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// The body may stop half way, too.
func TestTimeoutWhileReading(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"errcode":`)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	client.Timeout = 50 * time.Millisecond
	err := client.StartPushTicket(t.Context(), component, appSecret)
	wantOutage(t, err, 200)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}

// TestErrorsShowNoSecret lets everything go wrong in the ways that repeat the
// request, and searches the texts of all errors in the chain.
func TestErrorsShowNoSecret(t *testing.T) {
	echo := func(r *http.Request) string {
		body, _ := io.ReadAll(r.Body)
		query, _ := url.QueryUnescape(r.URL.RawQuery)
		return r.URL.String() + " " + query + " " + string(body)
	}
	for name, transport := range map[string]roundTrip{
		"url.Error": func(r *http.Request) (*http.Response, error) {
			inner := &url.Error{Op: "Post", URL: echo(r), Err: syscall.ECONNRESET}
			return nil, fmt.Errorf("outer: %w", &url.Error{Op: "Post", URL: r.URL.String(), Err: inner})
		},
		"escaped query in another error": func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("sending %q", r.URL.RawQuery)
		},
		"dial error naming the URL": func(r *http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: "Post", URL: r.URL.String(), Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
		},
		"malformed answer that echoes": func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("malformed HTTP response %s", echo(r))
		},
		"page that echoes": func(r *http.Request) (*http.Response, error) {
			return answers(200, "<html>"+echo(r))(r)
		},
		"error page that echoes": func(r *http.Request) (*http.Response, error) {
			return answers(500, echo(r))(r)
		},
		"errmsg that echoes": func(r *http.Request) (*http.Response, error) {
			return answers(200, fmt.Sprintf(`{"errcode":40013,"errmsg":%q}`, "rid: "+echo(r)))(r)
		},
		"wrong type with an echo": func(r *http.Request) (*http.Response, error) {
			return answers(200, fmt.Sprintf(`{"errcode":%q}`, echo(r)))(r)
		},
	} {
		for endpoint, call := range calls {
			_, err := call(t.Context(), &openapi.Client{Transport: transport})
			if err == nil {
				t.Errorf("%s, %s: no error", name, endpoint)
			}
			for ; err != nil; err = errors.Unwrap(err) {
				text := fmt.Sprintf("%s\n%v\n%+v\n%#v", err.Error(), err, err, err)
				for _, s := range sent {
					if strings.Contains(text, s.Reveal()) || strings.Contains(text, url.QueryEscape(s.Reveal())) {
						t.Errorf("%s, %s: the error shows %q: %s", name, endpoint, s.Reveal(), text)
					}
				}
			}
		}
	}
}

func TestCauseOfAURLErrorIsKept(t *testing.T) {
	client := &openapi.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		return nil, &url.Error{Op: "Post", URL: r.URL.String(), Err: syscall.ECONNRESET}
	})}
	_, err := client.PreAuthCode(t.Context(), component, componentToken)
	wantOutage(t, err, 0)
	if !errors.Is(err, syscall.ECONNRESET) || strings.Contains(err.Error(), "http") {
		t.Errorf("error is %v", err)
	}
}

// FuzzAnswer feeds answers to every endpoint. Whatever they are, a call ends
// with a usable token or with one of the two errors.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"errcode":"61004","errmsg":"requestIP: ::1.2.3.4 rid: 1-2-3"}`,
		`{"component_access_token":"t","expires_in":"7200"}`, `{"pre_auth_code":"p","expires_in":-5}`,
		`{"authorizer_access_token":"t","authorizer_refresh_token":"r","expires_in":1e9}`,
		`{"authorization_info":{"authorizer_appid":"wxfedcba9876543210","func_info":[{"funcscope_category":{"id":"1"}}]}}`,
		`{"authorizer_info":{"nick_name":"` + "\x01\xff" + `","MiniProgramInfo":{}},"authorization_info":{"authorization_appid":"wxfedcba9876543210"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		client := &openapi.Client{Transport: answers(200, string(body))}
		for endpoint, call := range calls {
			got, err := call(t.Context(), client)
			var refusal *openapi.Refusal
			var outage *openapi.Outage
			switch {
			case errors.As(err, &refusal):
				if refusal.Code == 0 {
					t.Errorf("%s: refusal without a code", endpoint)
				}
				_ = refusal.Remedy()
			case errors.As(err, &outage):
			case err != nil:
				t.Errorf("%s: error %T", endpoint, err)
			default:
				checkLifetimes(t, endpoint, got)
			}
		}
	})
}

// checkLifetimes fails where a token has no sane lifetime, or a lifetime no token.
func checkLifetimes(t *testing.T, endpoint string, got plain) {
	if access, ok := got["access"].(plain); ok {
		got = access
	}
	value, ok := got["value"].(string)
	lifetime, _ := got["lifetime"].(time.Duration)
	if ok && (value == "") != (lifetime == 0) || lifetime < 0 || lifetime > 24*time.Hour {
		t.Errorf("%s: lifetime %v of %q", endpoint, lifetime, value)
	}
}
