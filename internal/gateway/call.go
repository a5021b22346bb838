// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// maxUserBody is the longest body, in bytes, of a call whose only credential is an end
// user's. WeChat wants none, but some HTTP libraries send {} with every call; anybody
// can make these calls, and a body is in memory before anything is sent.
const maxUserBody = 1 << 10

// call is one call of an application. It belongs to the goroutine of its
// request.
type call struct {
	// Call is what is sent to WeChat: the subject whose token is attached, the
	// path and the query, and what came of it. A call that is answered here uses
	// Subject, Path and Report.
	relay.Call
	// client makes the call. It is nil on user paths, and for an anonymous login
	// without a credential.
	client *Client
	// shown is the digest of the client secret in the request, or of the one for
	// which the gateway token in the request was issued. A gateway token in the
	// answer is signed for the same secret. For a login it may be unset: a login
	// issues no token.
	shown secretDigest
	// kind is the level of the path that the client sent. A login may go to
	// another path at WeChat, but rules name the path that was sent.
	kind policy.Kind

	// What is shown of the call, see Trace.
	method  string
	asked   string // path as the client has sent it, but for gateway tokens in it; "" as long as it is not known to be plain
	account string // appid of the account that a parameter names, or that a code is of; "" for none
	own     bool   // the gateway has answered, and has not refused
}

// identify finds the client and the subject of a call that is relayed, and
// checks the client's rights; see login for logins. It waits for nothing, and it
// does not read the body: Relay must still have all of it, and no decision depends
// on it. Its errors are problems, which the caller may see.
//
// The method is checked first, for all kinds of paths. The client is checked
// before its rights, so that a request without a valid credential gets no
// information about rights. The level of the token is checked before the rights,
// so that an SDK with the wrong token gets the errcode that WeChat has for it.
func (g *Gateway) identify(r *http.Request, c *call, path string, route policy.Route) error {
	c.kind, c.Param, c.Path, c.Query = route.Kind, route.Param, path, r.URL.RawQuery
	if route.Actions != nil {
		c.kind = route.KindFor(rewrite.First(c.Query, "action"))
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead:
		// A server answers TRACE with the request that it received. That
		// request has the real token in its query.
		return problem.ErrNotAllowed.Because("WeChat uses GET and POST")
	case route.Kind == policy.User:
		// These paths take the OAuth token of an end user as access_token. It
		// goes to WeChat unchanged; client secrets and gateway tokens do not
		// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Official_Accounts/official_account_website_authorization.html).
		if r.ContentLength < 0 || r.ContentLength > maxUserBody {
			return problem.ErrTooLarge.Because("%s takes no body", path)
		}
		c.Query = rewrite.Without(c.Query, g.Clients.IsCredential)
		return nil
	}
	if err := g.caller(r, c); err != nil {
		return err
	}
	if err := c.fits(c.kind); err != nil {
		return err
	}
	if c.Subject.IsComponent() {
		c.Withhold = withheldFrom(path)
	}
	return c.permit(r.Method, path)
}

// withheldFrom returns the names of the members that a client does not get to see
// in an answer to a call with the component's token: WeChat can tell that token's
// holder every credential of the platform and of its accounts. Where the path is
// not known, an access_token or refresh_token can be one of them.
func withheldFrom(path string) []string {
	if policy.Named(path) {
		return openapi.Unmistakable
	}
	return openapi.AllTokens
}

// caller sets the client and the subject from the credential in the request: the
// client secret in the header Authorization, otherwise the gateway token in the
// query. Another Authorization, such as that of a proxy in front, is ignored beside a
// token, as WeChat ignores it, even if the token is not valid: the SDK must get to
// know that. A valid secret decides over any token.
//
// SDKs send a component's token as access_token or as component_access_token,
// and WeChat's current pages write access_token for both levels. So both names
// are read, and the path decides which level is needed
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/getting_started/how_to_call_api.html).
func (g *Gateway) caller(r *http.Request, c *call) error {
	found, err := g.bearer(r, c)
	if found || err != nil {
		return err
	}
	found, err = g.token(r, c, r.URL.RawQuery)
	if found || err != nil {
		return err
	}
	return missing(r, problem.ErrTokenMissing)
}

// missing returns the error for a request without a credential: for one whose
// Authorization is no client's ErrBearer, otherwise the error that is given.
func missing(r *http.Request, otherwise *problem.Problem) error {
	if r.Header.Get("Authorization") != "" {
		return problem.ErrBearer
	}
	return otherwise
}

// token sets the client and the subject from the gateway token in a query, and
// reports whether there was one.
func (g *Gateway) token(r *http.Request, c *call, query string) (found bool, err error) {
	token := rewrite.First(query, "access_token", "component_access_token")
	if token == "" {
		return false, nil
	}
	signer, who, err := g.Clients.withToken(token, c.Report.Began)
	c.client, c.shown, c.Subject = signer.client, signer.shown, who
	if err != nil {
		return true, err
	}
	return true, g.admit(r, c.client)
}

// admit checks the address from which a client calls. It must be called wherever
// a client is recognised, before anything else is read or sent.
func (g *Gateway) admit(r *http.Request, client *Client) error {
	if len(client.From) == 0 {
		return nil
	}
	return client.admits(g.Address(r))
}

// bearer sets the client from a client secret in the header Authorization, and
// reports whether there was one. A secret does not say for whom the client acts, so
// the subject is, in this order:
//
//   - the component, on component-level and login paths (a login names its
//     account in a parameter), or if the header Wechat-Appid names the component;
//   - the account that Wechat-Appid names;
//   - the client's account, if it has exactly one.
//
// Whether the client may act for the account is checked later, by permit. A
// client with several accounts must send the header: a guess could send a
// message from the wrong account.
func (g *Gateway) bearer(r *http.Request, c *call) (found bool, err error) {
	if c.client, c.shown = g.Clients.authorization(r); c.client == nil {
		return false, nil
	}
	if err := g.admit(r, c.client); err != nil {
		return true, err
	}
	named := r.Header.Get(openapi.AppIDHeader)
	switch {
	case c.kind == policy.Component || c.kind == policy.Login || named == c.client.Component:
		c.Subject = subject.Of(c.client.Component, "")
	case named != "" && !subject.ValidAppID(named):
		return true, problem.ErrUnauthorized.Because("%s is not an appid", openapi.AppIDHeader)
	case named != "":
		c.Subject = subject.Of(c.client.Component, named)
	case c.client.Rights.OnlyAuthorizer() != "":
		c.Subject = subject.Of(c.client.Component, c.client.Rights.OnlyAuthorizer())
	default:
		return true, problem.ErrUnauthorized.Because("the client has several authorizers, name one in the header %s", openapi.AppIDHeader)
	}
	return true, nil
}

// fits refuses a token of the wrong level for a path of this kind, with WeChat's
// errcodes: 61014 where a component's token is needed, 61015 where an
// authorizer's is. Other kinds take a token of either level.
func (c *call) fits(kind policy.Kind) error {
	switch {
	case kind == policy.Component && !c.Subject.IsComponent():
		return problem.ErrWantComponent
	case kind == policy.Authorizer && c.Subject.IsComponent():
		return problem.ErrWantAuthorizer
	}
	return nil
}

// permit checks the client's rights. A gateway token contains no rights: they
// are read from the configuration at every call, so a right that a reload takes
// away is gone for tokens that exist already.
//
// The path is checked before the account. An account that the client may not use
// gets the same error as one that has not authorised the component. So a client
// cannot find out which accounts have.
func (c *call) permit(method, path string) error {
	kind := c.kind
	if kind == policy.Either {
		// The level of the token decides. Only the component's token needs
		// the right component_api.
		kind = policy.Authorizer
		if c.Subject.IsComponent() {
			kind = policy.Component
		}
	}
	if !c.client.Rights.Path(method, path, kind) {
		return problem.ErrNotAllowed.Because("%s %s", method, path)
	}
	if !c.Subject.IsComponent() && !c.client.Rights.Authorizer(c.Subject.Authorizer()) {
		return problem.ErrUnauthorized
	}
	return nil
}
