// SPDX-License-Identifier: Apache-2.0

// Package tokens is the engine: it decides about every real token, and nothing
// else in the gateway does. [Keeper] is its door. It knows neither Caddy nor who
// calls; what it is told of the world is in [Settings], where it holds tokens in
// memory is a [Memory], and what it writes down goes through package vault.
//
// Below the Keeper the package is a stack. A file uses only files that stand after
// it in this list, and what it needs from above is handed to it as a function:
//
//	operators.go                       the public methods for operators
//	keeper.go                          the public methods; the background work
//	operating.go                       what operators have done
//	componentapi.go authorization.go   what clients ask for; what WeChat's events report
//	exchange.go                        an authorization_code becomes tokens, once
//	sharedtickets.go                   tickets with which applications sign; one call for all who ask
//	authorizers.go components.go       how WeChat issues a token, of each level
//	rejected.go                        what follows when WeChat rejects a token
//	source.go                          memory, vault, WeChat; one renewal of a token at a time in the cluster
//	questions.go                       whether WeChat says that a token is alive
//	tickets.go notices.go retry.go     tickets; what nodes tell each other; saving, and saving again
//	news.go                            what the gateway itself has to tell applications of an account
//	records.go remember.go outcome.go  locks and records; tokens in memory; what came of an attempt
//	base.go codes.go unsaved.go        what all of them share
//	doubts.go                          which calls WeChat rejects although the token is alive
//	health.go forced.go lookups.go     what went wrong with whom, and what is not tried for a while
//	heldtickets.go                     the tickets with which applications sign, in memory
//	lifetime.go token.go events.go     work that outlives its caller; the types
package tokens

import (
	"context"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// watchInterval is how often it is looked whether tickets come and codes are
// pending.
const watchInterval = time.Minute

// Keeper decides about every real token: which one is served, when it is
// renewed and by whom, what is stored before what, and what a failure means.
// It outlives configuration reloads and is safe for concurrent use.
//
// A live token in memory is served without allocation, and without waiting for
// anything. Otherwise a method waits for storage and WeChat, no longer than its
// ctx, unless the storage ignores contexts. Unauthorized is an exception: it saves
// the withdrawal for up to saveTimeout, whatever its ctx says. A renewal or exchange
// that a method has begun goes on when its caller leaves.
type Keeper struct {
	*base
	records       *records
	notices       *notices
	tickets       *tickets
	components    *components
	authorizers   *authorizers
	shared        *sharedTickets
	exchange      *exchange
	authorization *authorization
	api           *componentAPI
	operating     *operating
}

// NewKeeper returns a Keeper that holds tokens in memory and asks current
// for the configuration in force whenever it needs it.
func NewKeeper(current func() *Settings, memory Memory) *Keeper {
	b := &base{lifetime: newLifetime(), settings: current, memory: memory, health: newHealth(), doubts: newDoubts(), codes: newCodes(), held: newHeldTickets()}
	k := &Keeper{base: b, records: newRecords(b), notices: &notices{base: b}}
	k.tickets = &tickets{k.records}
	k.components = newComponents(k.tickets, newSlots())
	k.authorizers = newAuthorizers(k.components, k.notices)
	k.shared = &sharedTickets{k.authorizers}
	k.exchange = newExchange(k.authorizers)
	k.authorization = &authorization{exchange: k.exchange}
	k.api = &componentAPI{k.exchange}
	k.operating = &operating{k.api}
	return k
}

// Run does in the background what no caller asks for, until ctx ends or k is
// closed: it watches the tickets, goes on with codes that were left pending, and
// reads the notices of the other nodes. It returns at once.
func (k *Keeper) Run(ctx context.Context) {
	k.background(func() { k.watch(ctx) })
	k.background(func() { k.notices.follow(ctx) })
}

// watch asks WeChat to push tickets whenever they fail to come, and goes on
// with codes that were left pending, until ctx ends or k is closed. It looks
// once at the start and then every minute.
func (k *Keeper) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	measured := make(map[string]bool)
	for {
		configured := k.settings().Components
		for component := range configured {
			k.tickets.check(ctx, component)
			k.components.measure(ctx, component)
			k.authorization.resumePending(ctx, component)
			measured[component] = true
		}
		for component := range measured {
			if _, still := configured[component]; !still {
				metrics.ForgetComponent(component)
				delete(measured, component)
			}
		}
		k.health.Sweep(time.Now())
		k.doubts.Sweep(time.Now())
		k.held.Sweep(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-k.ctx.Done():
			return
		}
	}
}

// Flush tries once more to store what is not stored yet, while storage is still
// there. It waits for saveTimeout at most, and not at all if there is nothing.
func (k *Keeper) Flush() {
	if k.begin() == nil {
		defer k.work.Done()
		k.records.flush()
	}
}

// Close ends all work and waits for it, tries a last time to store what is not
// stored yet, and closes the memory. Callers who come later, with requests of a
// configuration that is gone, get no token. It may be called again.
func (k *Keeper) Close() {
	k.end()
	k.records.flush()
	k.memory.Close()
}

// Current returns a token of who that is alive as far as it is known, for a call of
// client. A token that is due for a renewal is returned,
// and renewed in the background. A token that WeChat has rejected is returned until
// there is a newer one: what WeChat says to one caller shuts who for nobody else.
// Only if there is no token that has not expired, Current waits for a renewal, which
// goes on without the caller. Its errors are for [problem.Of]: ErrUnauthorized and
// ErrNeedsAdmin mean that there is no token until the account's admin acts, others
// that a later call may succeed. ErrRationed means that client has asked for too many
// accounts that nobody knows.
func (k *Keeper) Current(ctx context.Context, who subject.Subject, client string) (*Token, error) {
	return k.sourceOf(who).current(ctx, who, client)
}

// Replace returns a token of who with which a call that WeChat has rejected may be
// repeated once: the newest one, or, if the newest was rejected and WeChat does not
// say that it is alive, a new one. Its errors are for [problem.Of]. ErrPathRejects:
// the token is alive, WeChat rejects only such calls. ErrRejected: there is no newer
// token for now. ErrUnauthorized and ErrNeedsAdmin: as from Current. It waits for a
// question at WeChat (about five seconds at most) and for a renewal, but no longer
// than ctx.
func (k *Keeper) Replace(ctx context.Context, who subject.Subject, r Rejection) (*Token, error) {
	return k.sourceOf(who).replace(ctx, who, r)
}

// Accepted is told of every call that WeChat has answered with neither a rejection of
// its token nor a failure. It waits for nothing and does not allocate.
func (k *Keeper) Accepted(who subject.Subject, token *Token, by Caller) {
	k.doubts.Accepted(who, token, by)
}

// Recheck is told that WeChat has answered "not authorized" (61003) to a call
// with a token that is alive. Some calls mean something else by it, so the
// refresh token decides, in the background: if the account has withdrawn and the
// event was lost, WeChat says so again there. It returns at once.
func (k *Keeper) Recheck(who subject.Subject, token *Token) {
	if !who.IsComponent() {
		k.authorizers.recheck(who, token)
	}
}

func (k *Keeper) sourceOf(who subject.Subject) *source {
	if who.IsComponent() {
		return k.components.source
	}
	return k.authorizers.source
}

// Ticket stores a component_verify_ticket that WeChat pushed. Only when it
// returns nil may the push be acknowledged. An older ticket never replaces a
// newer one, by WeChat's CreateTime; a new one ends the component's cool-down.
func (k *Keeper) Ticket(ctx context.Context, component string, ticket secret.Secret, created time.Time) error {
	return k.tickets.store(ctx, component, ticket, created)
}

// Authorized takes an authorized or updateauthorized event. The code is
// stored before Authorized returns, so that no crash can lose it: until it is
// exchanged, a new authorisation has no refresh token. The exchange follows in the
// background. An event older than what is known changes no record. The push may be
// acknowledged only if Authorized returns nil.
func (k *Keeper) Authorized(ctx context.Context, g Grant) error {
	return k.authorization.authorized(ctx, g)
}

// Unauthorized takes an unauthorized event. Unless it is older than what is known,
// the tokens are dropped and the record stays as a tombstone, which a later
// authorized event or a later look-up at WeChat ends. The push may be acknowledged
// only if Unauthorized returns nil.
func (k *Keeper) Unauthorized(ctx context.Context, component, authorizer string, at time.Time) error {
	return k.authorization.unauthorized(ctx, component, authorizer, at)
}

// Exchange turns an authorization_code into stored tokens and returns the
// authorizer's appid. The event and the browser's redirect may bring the same
// code in either order: it is spent once, both get the same answer. An error whose
// [openapi.KindOf] is CodeSpent means that the code is no good.
func (k *Keeper) Exchange(ctx context.Context, component string, code secret.Secret) (appid string, err error) {
	return k.exchange.do(ctx, component, code)
}

// Exchanged reports whether this node knows whose the code is because it is spent,
// so that Exchange returns that and asks nobody.
func (k *Keeper) Exchanged(component string, code secret.Secret) bool {
	_, spent := k.codes.Spent(codeID(component, code))
	return spent
}

// QueryAuth is Exchange for a client that wants to know more than the appid.
func (k *Keeper) QueryAuth(ctx context.Context, component string, code secret.Secret) (Authorization, error) {
	return k.api.queryAuth(ctx, component, code)
}

// Authorization returns what is stored of an authorisation, for a client that does not
// have WeChat's code of it. If that code is still to be exchanged, it waits for that; if
// WeChat then fails, it returns what an account with a refresh token had granted before. Of
// an account that is not known here, or not as authorized, WeChat is asked, as for Current,
// whose errors these are.
func (k *Keeper) Authorization(ctx context.Context, who subject.Subject, client string) (Authorization, error) {
	return k.api.authorizationOf(ctx, who, client)
}

// PreAuthCode fetches a pre_auth_code for the launch page.
func (k *Keeper) PreAuthCode(ctx context.Context, component string) (openapi.PreAuthCode, error) {
	return k.api.preAuthCode(ctx, component)
}

// AuthorizerInfo asks WeChat who an authorizer is, and stores the refresh
// token that it tells.
func (k *Keeper) AuthorizerInfo(ctx context.Context, who subject.Subject, client string) (openapi.AuthorizerInfo, error) {
	return k.api.authorizerInfo(ctx, who, client)
}

// AuthorizerList asks WeChat for one page of the authorizers, and stores the
// refresh tokens that it tells.
func (k *Keeper) AuthorizerList(ctx context.Context, component, client string, offset, count int) (openapi.AuthorizerList, error) {
	return k.api.authorizerList(ctx, component, client, offset, count)
}

// SharedTicket returns a ticket of an account with which applications sign, of one of
// SharedKinds: from memory while it lives, else from WeChat, by one call for all who ask
// at once, on this node. It is never one whose life has ended. In the last half hour it
// is asked for anew, at most once a minute; if no other one can be had within two
// seconds, that which lives is returned. It is forgotten with the account's tokens.
//
// Without a ticket that lives it waits for WeChat, no longer than ctx and renewTimeout.
// The call goes on when a caller leaves. Its errors are as from CallComponentAPI, and
// are not remembered: the next call asks again.
func (k *Keeper) SharedTicket(ctx context.Context, who subject.Subject, client, kind string) (*SharedTicket, error) {
	return k.shared.get(ctx, heldKey{who, kind}, client)
}

// CallComponentAPI makes a call of client with who's token and returns WeChat's
// answer, which does not repeat that token, but may hold other credentials.
func (k *Keeper) CallComponentAPI(ctx context.Context, who subject.Subject, client, endpoint string, body openapi.Params) (answer []byte, err error) {
	err = k.sourceOf(who).withToken(ctx, who, Caller{client, endpoint}, func(token secret.Secret) (err error) {
		answer, err = k.settings().API.Call(ctx, endpoint, token, body)
		return err
	})
	return answer, callError(err)
}

// ReturnCode sends a code back to the sender of a message that an account has got, see
// openapi.Client.ReturnCode. It waits for a token of the account as Current does, and for
// WeChat, no longer than ctx. After an error that is no [openapi.Refusal] the message may
// have been sent.
func (k *Keeper) ReturnCode(ctx context.Context, who subject.Subject, openid string, code secret.Secret) error {
	by := itself(openapi.EndpointCustomSend, who.Authorizer())
	return k.authorizers.withToken(ctx, who, by, func(token secret.Secret) error {
		return k.settings().API.ReturnCode(ctx, token, openid, code)
	})
}

// CallWithSecret makes a call that carries the component's app secret, in the
// member of that name, and no token.
func (k *Keeper) CallWithSecret(ctx context.Context, component, endpoint, name string, body openapi.Params) ([]byte, error) {
	s := k.settings()
	return s.API.CallWithSecret(ctx, endpoint, name, s.Components[component], body)
}
