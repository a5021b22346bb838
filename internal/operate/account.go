// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// ActionTimeout bounds what an operator has done: WeChat is asked twice, or the storage is
// slow.
const ActionTimeout = 30 * time.Second

// Account returns all that is known of an account. The query has component and lang.
func (o *Operator) Account(ctx context.Context, appid, query string) (AccountDetail, error) {
	values, err := parseQuery(query, "component", "lang")
	if err != nil {
		return AccountDetail{}, err
	}
	who, english, err := o.parseWho(appid, values)
	if err != nil {
		return AccountDetail{}, err
	}
	return o.detail(ctx, who, english)
}

// Renew ends the account's cool-downs and has WeChat issue a new token, although the
// present one may live. It returns the account afterwards. The query has component and
// lang.
func (o *Operator) Renew(ctx context.Context, appid, query string) (AccountDetail, error) {
	return o.act(ctx, "renew", appid, query, func(ctx context.Context, who subject.Subject) error {
		_, err := o.Engine.Renew(ctx, who)
		return err
	})
}

// Reread ends the account's cool-downs, asks WeChat who the account is and what it has
// granted, and stores that. It returns the account afterwards. The query is that of Renew.
func (o *Operator) Reread(ctx context.Context, appid, query string) (AccountDetail, error) {
	return o.act(ctx, "reread", appid, query, o.Engine.Reread)
}

// act does something with an account that an operator has named, and returns the
// account afterwards.
func (o *Operator) act(ctx context.Context, action, appid, query string, do func(context.Context, subject.Subject) error) (AccountDetail, error) {
	who, english, err := o.parseAct(appid, query)
	if err != nil {
		return AccountDetail{}, err
	}
	before, err := o.load(ctx, who)
	if err != nil {
		return AccountDetail{}, storageFailed(err)
	}
	within, cancel := context.WithTimeout(ctx, ActionTimeout)
	defer cancel()
	if err := do(within, who); err != nil {
		told := o.refusedAbout(who, err)
		o.did(action, string(who), string(before.standing), "", told)
		return AccountDetail{}, told
	}
	after, err := o.detail(ctx, who, english)
	if err != nil {
		o.did(action, string(who), string(before.standing), "", nil)
		return AccountDetail{}, err
	}
	o.did(action, string(who), string(before.standing), after.State, nil)
	return after, nil
}

// Forget deletes all that is stored of an account that has withdrawn its authorisation.
// The query is that of Renew.
func (o *Operator) Forget(ctx context.Context, appid, query string) (Count, error) {
	who, _, err := o.parseAct(appid, query)
	if err != nil {
		return Count{}, err
	}
	within, cancel := context.WithTimeout(ctx, ActionTimeout)
	defer cancel()
	if err := o.Engine.Forget(within, who); err != nil {
		told := o.refusedAbout(who, err)
		o.did("forget", string(who), "", "", told)
		return Count{}, told
	}
	o.did("forget", string(who), string(vault.Withdrawn), "forgotten", nil)
	return Count{1}, nil
}

func (o *Operator) parseAct(appid, query string) (who subject.Subject, english bool, err error) {
	values, err := parseAction(query, "component", "lang")
	if err != nil {
		return "", false, err
	}
	return o.parseWho(appid, values)
}

// parseWho returns the account that a request is about.
func (o *Operator) parseWho(appid string, values url.Values) (who subject.Subject, english bool, err error) {
	if _, err := parseAppID("account", appid); err != nil || appid == "" {
		return "", false, invalid("write the appid into the path, /wechat/accounts/<appid>: it is wx and 16 hexadecimal digits in lower case", "%q is no appid", appid)
	}
	component, err := o.component(values)
	if err != nil {
		return "", false, err
	}
	english, err = parseEnglish(values.Get("lang"))
	return subject.Of(component, appid), english, err
}

// detail returns all that is known of an account.
func (o *Operator) detail(ctx context.Context, who subject.Subject, english bool) (AccountDetail, error) {
	known, err := o.load(ctx, who)
	if err != nil {
		return AccountDetail{}, storageFailed(err)
	}
	if known.missing {
		return AccountDetail{}, o.unknownAccount(who)
	}
	profile, err := o.loadProfile(ctx, who)
	if err != nil {
		return AccountDetail{}, storageFailed(err)
	}
	last, cooling := o.Engine.Health(who)
	d := AccountDetail{
		Account: o.newAccount(who, known, profile, english), Component: who.Component(), Principal: profile.Principal,
		Learned: profile.Learned.UTC(), Authorised: known.EventTime.UTC(), CoolingUntil: cooling.UTC(), LastFailure: newFailure(last),
		Unstored: o.Engine.IsUnsaved(who), Pending: known.Code != nil && time.Now().Before(known.CodeExpires),
	}
	if known.Token != nil {
		d.Obtained = known.Obtained.UTC()
	}
	if advised, at := o.Advisor.Last(who); !at.IsZero() {
		d.Advice = Failure{Time: at.UTC(), Text: advised.Text, Remedy: advised.Remedy}
	}
	d.Cause, err = o.cause(ctx, who, known)
	return d, err
}

// cause returns why an account is not authorized; the zero Cause if it is.
func (o *Operator) cause(ctx context.Context, who subject.Subject, known stored) (Cause, error) {
	if known.unreadable {
		return Cause{
			Slug: problem.ErrStorage.Slug, Text: "its record does not open",
			Remedy: "see the log, which names the file and the reason; if seal_key was changed, add the previous key",
		}, nil
	}
	if known.standing == vault.Stands {
		return Cause{}, nil
	}
	note, err := o.Vault.LoadNote(ctx, who, known.standing)
	switch {
	case errors.Is(err, vault.ErrUnavailable):
		return Cause{}, storageFailed(err)
	case err != nil: // an earlier release has stored the record without one
		note = vault.Note{Since: cmp.Or(known.TroubleSince, known.EventTime), Slug: string(known.standing)}
	}
	return Cause{Since: note.Since.UTC(), Slug: note.Slug, Errcode: note.Errcode, RID: note.RID, Text: note.Text, Remedy: note.Remedy}, nil
}

func newFailure(f tokens.Failure) Failure {
	return Failure{Time: f.Time.UTC(), Text: f.Text, Remedy: f.Remedy}
}

// unknownAccount returns the error for an account of which nothing is stored.
func (o *Operator) unknownAccount(who subject.Subject) *Error {
	return &Error{
		Status: http.StatusNotFound, Text: fmt.Sprintf("account %s is not known under component %s", who.Authorizer(), who.Component()),
		Remedy: "see which are: GET /wechat/accounts, caddy wechat accounts; if it has authorised the platform, caddy wechat sync brings it in",
	}
}

// refusedAbout is refused for an error about one account.
func (o *Operator) refusedAbout(who subject.Subject, err error) *Error {
	if told := o.refused(who.Component(), err); told.Status != http.StatusNotFound {
		return told
	}
	return o.unknownAccount(who)
}

// refused returns the error for one of the engine about a component or its accounts. Its
// text has nothing of WeChat's errmsg: a refusal is told by endpoint, errcode and rid.
func (o *Operator) refused(component string, err error) *Error {
	var refusal *openapi.Refusal
	told := &Error{Text: problem.Of(err).Text}
	switch {
	case errors.Is(err, vault.ErrNotFound):
		told.Status = http.StatusNotFound
	case errors.Is(err, tokens.ErrAuthorized):
		told.Status, told.Text = http.StatusConflict, "the account is authorized, WeChat's next list would bring it back"
		told.Remedy = "its admin withdraws the authorisation in WeChat first; then forget it"
	case errors.Is(err, problem.ErrUnauthorized):
		told.Status, told.Text = http.StatusConflict, "WeChat says that the account is not authorized to this component"
		told.Remedy = "an admin of the account must authorise the platform, on its launch page"
	case errors.Is(err, problem.ErrNeedsAdmin):
		told.Status, told.Remedy = http.StatusConflict, "an admin of the account must authorise the platform again, on its launch page"
	case errors.Is(err, problem.ErrNoTicket):
		told.Status, told.Remedy = http.StatusServiceUnavailable, "wait ten minutes for WeChat's next push; if none comes, compare the events URL, token and EncodingAESKey with those in its console"
	case errors.Is(err, vault.ErrUnavailable), errors.Is(err, problem.ErrStorage):
		return storageFailed(err)
	case errors.As(err, &refusal):
		told.Status, told.Text, told.Remedy = http.StatusBadGateway, refusal.Error(), refusal.Remedy()
	case errors.Is(err, problem.ErrNoComponent):
		told.Status = http.StatusServiceUnavailable
		if last, _ := o.Engine.Health(subject.Of(component, "")); last.Text != "" {
			told.Text, told.Remedy = told.Text+": "+last.Text, last.Remedy
		}
	case errors.Is(err, problem.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		told.Status = http.StatusGatewayTimeout
	default:
		told.Status = http.StatusBadGateway
	}
	if told.Remedy == "" {
		told.Remedy = "see GET /wechat/status, caddy wechat status, for the component; then make the request again"
	}
	return told
}
