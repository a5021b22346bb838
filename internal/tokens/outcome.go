// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"cmp"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// What came of an attempt: what callers are shown, what is counted, logged and
// emitted, and how long no other attempt is made.

const (
	renewalFailing  = "renewing token failed"
	exchangeFailing = "exchanging authorization_code failed"

	authoriseAgain = "let an admin of the account authorise the platform again"
	checkEventsURL = "check that the authorization events URL on open.weixin.qq.com is this gateway's"

	// unauthorizedCoolDown is how long "not authorized" is believed without asking
	// again.
	unauthorizedCoolDown = time.Minute
)

// failed counts a failed attempt for who, logs it, starts a cool-down under key,
// and returns what callers are to be shown. Doing is what the log says was
// attempted. The first failure of a kind is logged and emitted, its repetitions
// are not. A failure that is not who's own, of the component, of storage or because
// the gateway ends, starts no cool-down and is logged where it happened.
func (b *base) failed(doing string, who subject.Subject, key healthKey, err error) error {
	shown := publicError(who, err)
	public := problem.Of(shown)
	metrics.Renewals.WithLabelValues(levelLabel(who), public.Slug).Inc()
	if !b.isOwn(who, err) {
		return shown
	}
	pause, isNew := b.health.Failed(key, shown, public.Text, coolDownFor(err), failureOf(err, time.Now()))
	if isNew {
		level := zap.ErrorLevel
		if errors.Is(err, problem.ErrUnauthorized) {
			level = zap.InfoLevel // no fault of anybody
		}
		b.log(who).Log(level, doing, zap.Error(err), openapi.RemedyField(err), zap.Duration("retry_in", pause))
		b.emit(eventRenewalFailed, who, public.Slug)
	}
	return shown
}

// isOwn reports whether a failure is who's own: not of the component, of storage, or
// because the gateway ends.
func (b *base) isOwn(who subject.Subject, err error) bool {
	var component *componentError
	return !(errors.As(err, &component) && !who.IsComponent() || errors.Is(err, vault.ErrUnavailable) || b.ctx.Err() != nil)
}

// coolDownFor returns for how long no attempt is made after err; 0 for a time that
// grows.
func coolDownFor(err error) time.Duration {
	switch {
	case errors.Is(err, problem.ErrUnauthorized), errors.Is(err, problem.ErrNeedsAdmin):
		return unauthorizedCoolDown
	case errors.Is(err, problem.ErrNoTicket): // WeChat was not asked, and the next push may come to another node
		return minCoolDown
	}
	return 0
}

// failureOf returns what operators see of an error, in words that hold nothing of WeChat's
// errmsg.
func failureOf(err error, at time.Time) Failure {
	failure := Failure{Time: at, Text: problem.Of(err).Text}
	var refusal *openapi.Refusal
	var outage *openapi.Outage
	switch {
	case errors.As(err, &refusal):
		failure.Text, failure.Remedy = refusal.Error(), refusal.Remedy()
	case errors.As(err, &outage):
		failure.Text = outage.Error()
	}
	switch {
	case errors.Is(err, problem.ErrNeedsAdmin), errors.Is(err, problem.ErrUnauthorized):
		failure.Remedy = cmp.Or(failure.Remedy, authoriseAgain)
	case errors.Is(err, problem.ErrNoTicket):
		failure.Remedy = checkEventsURL
	}
	return failure
}

// noteOf returns why an account is in trouble that was found at a time, in words that hold
// nothing of WeChat's errmsg.
func noteOf(err error, at time.Time) vault.Note {
	failure := failureOf(err, at)
	note := vault.Note{Since: at, Slug: problem.Of(err).Slug, Text: failure.Text, Remedy: failure.Remedy}
	var refusal *openapi.Refusal
	if errors.As(err, &refusal) {
		note.Errcode, note.RID = refusal.Code, refusal.RID
	}
	return note
}

// withdrawalNote is the note of an account that has withdrawn its authorisation: cause is
// how WeChat has refused a call because of it, nil if an event has told of it.
func withdrawalNote(cause error, at time.Time) vault.Note {
	if cause != nil {
		note := noteOf(cause, at)
		note.Slug = problem.ErrUnauthorized.Slug
		return note
	}
	return vault.Note{Since: at, Slug: problem.ErrUnauthorized.Slug,
		Text: "the account has withdrawn its authorisation, as an event tells", Remedy: authoriseAgain}
}

// rationed counts a look-up that was not made because the client has asked for too
// many unknown authorizers, and says so once a minute. It starts no cool-down: for
// another client the account is looked up.
func (b *base) rationed(who subject.Subject, client string) {
	metrics.Renewals.WithLabelValues(levelLabel(who), problem.ErrRationed.Slug).Inc()
	b.health.LookupLimiter(who.Component(), client).warned.Do(func() {
		b.log(who).Warn("too many unknown authorizers are asked for; WeChat is not asked about more for this client",
			zap.String("client", client))
	})
}

// countRenewed counts a token that was renewed.
func countRenewed(who subject.Subject) {
	metrics.Renewals.WithLabelValues(levelLabel(who), "ok").Inc()
}

// emit tells Caddy's events app in the background. A reason may be empty.
func (b *base) emit(event string, who subject.Subject, reason string) {
	emit := b.settings().Emit
	data := map[string]any{"component": who.Component()}
	if !who.IsComponent() {
		data["authorizer"] = who.Authorizer()
	}
	if reason != "" {
		data["reason"] = reason
	}
	b.background(func() { emit(event, data) })
}

// levelLabel says what kind of token is who's, for metrics.
func levelLabel(who subject.Subject) string {
	if who.IsComponent() {
		return "component"
	}
	return "authorizer"
}

// componentError marks a failure that is the component's, not the authorizer's
// that suffers from it: only the component cools down.
type componentError struct{ error }

func (e *componentError) Unwrap() error { return e.error }

// attributed marks an error as the component's, if who is one.
func attributed(who subject.Subject, err error) error {
	if who.IsComponent() && err != nil {
		return &componentError{err}
	}
	return err
}

// publicError returns what callers are shown of an error: if it concerns the
// component, or who is one, WeChat's refusal becomes ErrNoComponent, because the
// caller can do nothing about it. Other errors are shown as they are.
func publicError(who subject.Subject, err error) error {
	return callError(attributed(who, err))
}

// callError is publicError for a call that a client asks for: WeChat's refusal of
// the call itself is shown as it is, only a refusal that concerns the component's
// token becomes ErrNoComponent.
func callError(err error) error {
	var refusal *openapi.Refusal
	var component *componentError
	if errors.As(err, &component) && errors.As(component, &refusal) && !errors.Is(err, problem.ErrRejected) {
		return &componentRefused{problem.ErrNoComponent.Because("WeChat refuses with errcode %d", refusal.Code), refusal}
	}
	return err
}

// componentRefused is ErrNoComponent of a component to which WeChat refuses its token.
// It does not unwrap to the refusal, which is not an answer to the call that failed.
type componentRefused struct {
	*problem.Problem
	refusal *openapi.Refusal
}

func (e *componentRefused) Unwrap() error { return e.Problem }

// RefusalIn returns WeChat's refusal because of which a method of Keeper has failed: of
// the call, of an account's token or of the component's. It is nil if there is none.
func RefusalIn(err error) *openapi.Refusal {
	var refusal *openapi.Refusal
	var component *componentRefused
	if errors.As(err, &component) {
		return component.refusal
	}
	errors.As(err, &refusal)
	return refusal
}
