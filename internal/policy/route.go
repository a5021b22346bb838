// SPDX-License-Identifier: Apache-2.0

// Package policy decides two things about a call to the WeChat API, from its
// method and path, and for a few paths from the parameter action: which token the
// path takes ([Lookup], [PathKinds]), and whether a client may make the call
// ([Rights]). A path passes [Clean] first. Nothing depends on a body.
//
// The path decides about the token, never the name of the query parameter:
// SDKs send component tokens as access_token and as component_access_token,
// and the current documentation writes access_token for both
// (Third-party_Platforms/2.0/getting_started/how_to_call_api).
package policy

import "strings"

// Kind is the level of a path: whose token WeChat wants there, and so which
// right a client needs.
type Kind uint8

const (
	// Authorizer paths take an authorizer_access_token. It is the kind of
	// every path the table does not know: that token can do least, and a
	// platform-level API answers it with 61014.
	Authorizer Kind = iota

	// Component paths take the component_access_token. They need
	// Rights.ComponentAPI.
	Component

	// Either paths take both: the subject of the gateway token decides, and
	// an authorizer named by header.
	Either

	// Login paths exchange an end user's code for an identity. They carry the
	// component's token but act for the one authorizer named by "appid" in
	// the query, hence need the rights of an authorizer-level path and a
	// right to that authorizer. The appid that was checked must be set in the
	// query again, alone: WeChat might read the second of two.
	Login

	// User paths carry the end user's own OAuth token in access_token. It
	// passes untouched; no token of ours is attached, no client needed.
	User

	// None is a token endpoint: the gateway answers with a token of its own,
	// and no real token moves. Such a token carries no right, so rules do not
	// narrow these paths; the endpoint asks Rights.Authorizer.
	None
)

// Endpoint names a call that is not simply relayed.
type Endpoint uint8

const (
	// Relayed is the zero Endpoint: the call goes to WeChat.
	Relayed Endpoint = iota

	// The token endpoints. Where WeChat takes its secret, the gateway takes
	// the client's.
	Token              // GET, POST /cgi-bin/token
	StableToken        // /cgi-bin/stable_token
	APIComponentToken  // /cgi-bin/component/api_component_token
	APIAuthorizerToken // /cgi-bin/component/api_authorizer_token

	// Calls whose answers carry credentials, which must be replaced.
	APIQueryAuth         // /cgi-bin/component/api_query_auth
	APIGetAuthorizerInfo // /cgi-bin/component/api_get_authorizer_info
	APIGetAuthorizerList // /cgi-bin/component/api_get_authorizer_list
	RIDGet               // /cgi-bin/openapi/rid/get: quotes the URL of an earlier call, token included

	// APIAuthorizerOption are api_get_authorizer_option and
	// api_set_authorizer_option, the old form: bodies name the account.
	APIAuthorizerOption

	// Calls that carry WeChat's secret in the body, which only the gateway
	// has.
	APIStartPushTicket    // /cgi-bin/component/api_start_push_ticket
	ComponentClearQuotaV2 // /cgi-bin/component/clear_quota/v2
	ClearQuotaV2          // /cgi-bin/clear_quota/v2

	// SharedTicket is /cgi-bin/ticket/getticket: what applications share is answered
	// from memory, other calls to the path are relayed.
	SharedTicket

	// APICreatePreauthcode spends the quota the authorise page lives on.
	APICreatePreauthcode // /cgi-bin/component/api_create_preauthcode
)

// Actions are kinds by the value of the query parameter action.
type Actions map[string]Kind

// Route says how the gateway treats a path.
type Route struct {
	Kind     Kind
	Endpoint Endpoint

	// Actions are the kinds that replace Kind for some values of the query
	// parameter action, where one path serves several calls; nil for most paths.
	// It is shared by all Routes of the path and must not be changed.
	Actions *Actions

	// Param is the query parameter that carries the real token when the call
	// is relayed; "" where none is attached.
	Param string

	// Rewrite is the path sent to WeChat instead, with component_appid added
	// and secret dropped; "" means the path as it is.
	Rewrite string

	// Anonymous calls need no client, as their credential is the end user's
	// own. No rights are asked: whom they refused, the call without
	// credentials would serve.
	Anonymous bool
}

// KindFor returns the kind of a call with this action, "" for none.
func (r Route) KindFor(action string) Kind {
	if r.Actions != nil {
		if kind, ok := (*r.Actions)[action]; ok {
			return kind
		}
	}
	return r.Kind
}

// Lookup returns the route of a path that passed Clean. It ignores case,
// because WeChat might: a path that differs from an entry by case alone has
// the route of that entry. Clean refuses the other ways to dodge an entry.
func Lookup(path string) Route {
	route, _ := builtIn(strings.ToLower(path))
	return route
}

// builtIn is Lookup for a path in lower case. Known says that the table has the path,
// or that it is in a family.
func builtIn(path string) (route Route, known bool) {
	if route, ok := table[path]; ok {
		return route, true
	}
	for _, f := range families {
		if strings.HasPrefix(path, f.prefix) {
			return f.route, true
		}
	}
	return authorizer, false
}

// Named reports whether the table has a path, which passed Clean, as itself and not
// only as one of its family. What the answers to such a path hold is known. What an
// operator says of a path by PathKinds tells nothing about its answers.
func Named(path string) bool {
	_, named := table[strings.ToLower(path)]
	return named
}
