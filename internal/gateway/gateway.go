// SPDX-License-Identifier: Apache-2.0

// Package gateway serves the calls of applications. It finds the client that
// makes a call, decides whose token the call takes, and checks whether the
// client may make it. It answers some calls itself: those whose request or
// answer would contain WeChat's credentials.
//
// It sends nothing to WeChat itself. Package relay sends the calls that are
// relayed, package tokens makes those of WeChat's component API. Package
// gateway stores nothing and receives no pushes, see package push.
//
// Entry points: [Gateway.ServeHTTP] serves one call. [NewClient] and
// [Clients.Add] collect the clients when a configuration is loaded.
package gateway

import (
	"errors"
	"net/http"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/advice"
	"github.com/caddy-wechat/caddy-wechat/internal/logging"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/permission"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/usage"
)

// Gateway serves the calls of applications in the way the WeChat API does. Each
// wechat_proxy of a configuration has one. Its fields are set before the first
// call and never changed, so it is safe for concurrent use.
type Gateway struct {
	// Clients are the applications that may call.
	Clients *Clients
	// Kinds are the kinds of paths that the configuration has; nil for none.
	Kinds policy.PathKinds
	// Components are the configured component_appids. An anonymous login needs
	// them: no client says which platform it is for.
	Components map[string]struct{}
	// Tokens makes the calls of the component API. It survives a reload, while
	// the Gateway and its Clients are made anew.
	Tokens *tokens.Keeper
	// Relay sends the other calls to WeChat.
	Relay *relay.Relay
	// Log receives the causes of refusals, which callers do not see. Anybody
	// can cause one, so it must be a logger of logging.Throttle.
	Log *zap.Logger

	// Strangers counts the calls without a client. Usage counts all calls, by client,
	// account, path and errcode.
	Strangers *metrics.Meter
	Usage     *usage.Table
	// Advisor remembers what was said about refusals of WeChat, see Hint.
	Advisor *advice.Advisor
	// Sets returns which permission sets an account has granted, false if that is not
	// known at once. nil means that it never is.
	Sets func(account subject.Subject) (permission.Bits, bool)

	bodies relay.Bodies // of calls that are answered here, by address

	// Identified is called with the client of a call, after the client is found
	// and before the call is answered; not for calls without a client, nor for
	// those that are refused earlier. The call waits for it. It must not be nil
	// and must be safe for concurrent use.
	Identified func(r *http.Request, client *Client)

	// Begun is called when a call begins, and Ended when it has ended, also if it was cut
	// off, by the goroutine of the request, which waits. Either may be nil.
	Begun, Ended func(r *http.Request, t Trace)

	// Address returns the address from which a request comes, without a zone
	// and as IPv4 where it is IPv4 in IPv6; the zero Addr if it is not known. It
	// must not be nil and must be safe for concurrent use.
	Address func(r *http.Request) netip.Addr
}

// Looped reports whether a gateway sent the request. Most likely this gateway
// called itself, because the host name of WeChat's API resolves to its own
// address. The URL of such a request contains a real token. The caller must not
// write it into an access log.
func Looped(r *http.Request) bool { return r.Header.Get(openapi.HopHeader) != "" }

// ServeHTTP serves one call. It answers the endpoints that have a row in the
// table endpoints, and tickets that applications share. It relays all other calls to WeChat. It returns when the
// answer is written. Like [relay.Relay.Forward] it panics with
// [http.ErrAbortHandler] when a relayed answer ends too early.
//
// A loop is refused first, because this gateway would receive the relayed call
// again. The path is checked before the route, because all later decisions
// depend on its text: a path that WeChat reads as another one would bypass the
// rights of the client. So would a query with a blank in it, which some servers take
// for the end of the request line's address.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := newCall(r)
	defer g.ended(r, c)
	if g.Begun != nil {
		g.Begun(r, Trace{c})
	}
	if Looped(r) {
		g.refuse(w, r, c, problem.ErrLoop)
		return
	}
	path, ok := policy.Clean(r.URL.EscapedPath())
	if !ok {
		g.refuse(w, r, c, problem.ErrNotAllowed.Because("the path is not plain: want segments of letters, digits, _ - . after single slashes"))
		return
	}
	c.asked = logging.RedactAddress(path)
	if !policy.CleanQuery(r.URL.RawQuery) {
		g.refuse(w, r, c, problem.ErrBadRequest.Because("the query has a blank or a control character, which must be escaped: %%20 for a blank"))
		return
	}
	route := g.Kinds.Lookup(path)
	var err error
	switch {
	case route.Endpoint != policy.Relayed && route.Endpoint != policy.SharedTicket:
		g.serveEndpoint(w, r, c, path, route)
		return
	case route.Kind == policy.Login:
		err = g.login(w, r, c, path, route)
	default:
		err = g.identify(r, c, path, route)
	}
	if err != nil {
		g.refuse(w, r, c, err)
		return
	}
	if c.client != nil {
		c.Client = c.client.ID
		g.Identified(r, c.client)
	}
	if route.Endpoint == policy.SharedTicket && g.serveSharedTicket(w, r, c) {
		return
	}
	if route.Kind == policy.Login {
		r = asGET(r)
	}
	g.Relay.Forward(w, r, &c.Call)
}

// refuse answers a call with the problem of err. What is left of its body is read
// for at most bodyTimeout, see problem.Refuse.
//
// A wrong credential is a warning as well, a line a minute for each address:
// somebody is trying secrets, or an application was forgotten when its secret
// was replaced. The line does not have the credential, nor the path, which may
// contain one. Of IPv6 the line names the /64, because one host has all of it.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, c *call, err error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	for _, credential := range []error{problem.ErrClientSecret, problem.ErrBearer, problem.ErrTokenUnknown, problem.ErrAddress} {
		if errors.Is(err, credential) {
			address := g.Address(r)
			shown := address.String()
			if address.Is6() {
				shown = netip.PrefixFrom(address, 64).Masked().String()
			}
			g.Log.With(zap.String("slug", problem.Of(err).Slug), zap.String("address", shown)).Warn("credential refused", zap.Error(err))
		}
	}
	if refused := tokens.RefusalIn(err); refused != nil {
		g.Hint(w, &c.Call, refused)
	}
	c.Report.Problem = problem.Of(err)
	t := Trace{c}
	c.Report.Wrote(c.Report.Problem.Status, problem.Refuse(w, r, g.Log, err, problem.Unread(w, r), problem.About{Client: t.ClientID(), AppID: t.AppID()}))
}
