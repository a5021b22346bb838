// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/advice"
	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// maxTicketWait is how long a push is waited for that WeChat was asked for.
	maxTicketWait = 15 * time.Second
	// ticketPush is the InfoType of a push with a ticket.
	ticketPush = "component_verify_ticket"
	// ticketPoll is how often is looked for it: it may come to another node.
	ticketPoll = time.Second
)

// pushes is what came from WeChat for a component.
type pushes struct {
	asked   asking
	ticket  vault.Ticket // the stored one
	unknown error        // why it is not known; nil also if there is none
	genuine pushlog.Push // the last one
	refused []pushlog.Push
}

// checkComponent looks at what WeChat knows of a component, and at its pushes.
func (o *Operator) checkComponent(ctx context.Context, component string) []result {
	asked := o.Doctor.ask(ctx, o.Engine, component)
	p := o.awaitPush(ctx, component, asked)
	tried := o.Engine.TryComponent(ctx, component)
	return []result{
		checkAppSecret(component, asked), p.checkTicket(component), p.checkSignature(component), p.checkKey(component),
		o.checkWhiteList(component, asked, tried),
	}
}

// awaitPush waits for a push that comes after WeChat was asked for one, here, or on
// another node, of which the stored ticket tells. It does not wait if none can be expected.
func (o *Operator) awaitPush(ctx context.Context, component string, asked asking) pushes {
	for {
		p := pushes{asked: asked}
		p.ticket, p.unknown = o.Vault.LoadTicket(ctx, component)
		if errors.Is(p.unknown, vault.ErrNotFound) {
			p.unknown = nil
		}
		p.genuine, p.refused = o.Pushes.Latest(component)
		if asked.err != nil || p.came(component) || time.Since(asked.at) >= maxTicketWait {
			return p
		}
		select {
		case <-time.After(ticketPoll):
		case <-ctx.Done():
			return p
		}
	}
}

// came reports whether a push has come since WeChat was asked. One that was refused
// counts if it names the component: it is most likely the one.
func (p pushes) came(component string) bool {
	return p.fresh() || slices.ContainsFunc(p.refused, func(r pushlog.Push) bool { return p.since(component, r) })
}

// fresh reports whether a ticket has come since WeChat was asked. The stored one does not
// tell that of two tickets which WeChat has made in the same second.
func (p pushes) fresh() bool {
	return p.ticket.Received.After(p.asked.at) || p.genuine.What == ticketPush && p.genuine.Time.After(p.asked.at)
}

// since reports whether a refused push that names the component came after WeChat was
// asked for one.
func (p pushes) since(component string, r pushlog.Push) bool {
	return r.Component == component && r.Time.After(p.asked.at)
}

// lately reports whether a genuine push has come within the time in which WeChat makes
// two.
func (p pushes) lately() bool {
	return time.Since(p.ticket.Received) < maxTicketAge || time.Since(p.genuine.Time) < maxTicketAge
}

// because returns the refused pushes whose reason is one of these, the newest first.
func (p pushes) because(reasons ...error) (all []pushlog.Push) {
	for _, r := range p.refused {
		if slices.ContainsFunc(reasons, func(reason error) bool { return r.Reason == reason.Error() }) {
			all = append(all, r)
		}
	}
	return all
}

// checkAppSecret looks at the answer to the question for a ticket, which takes the app
// secret and no token.
func checkAppSecret(component string, asked asking) result {
	const check = "app_secret"
	var refusal *openapi.Refusal
	switch {
	case asked.err == nil:
		return well(check, component, "WeChat takes it")
	case errors.Is(asked.err, tokens.ErrAskedLately):
		return well(check, component, "cannot tell: %v", asked.err)
	case !errors.As(asked.err, &refusal):
		return wrong(check, component, "cannot tell: "+problem.Of(asked.err).Text, "see the other findings; then run caddy wechat doctor again")
	case refusesAddress(refusal):
		return well(check, component, "cannot tell: WeChat refuses calls from here, see white_list")
	case refusal.Kind() == openapi.Misconfigured:
		return wrong(check, component, fmt.Sprintf("WeChat refuses it (%s, asked %s)", refusal, ago(asked.at)), refusal.Remedy()).breaks()
	}
	return wrong(check, component, fmt.Sprintf("cannot tell: %s, asked %s", refusal, ago(asked.at)), "run caddy wechat doctor again in a minute")
}

// refusesAddress reports whether WeChat refuses calls from this machine's address.
func refusesAddress(r *openapi.Refusal) bool {
	return r.Code == 61004 || r.Code == 40164 || r.Code == 45035 || r.Code >= 89501 && r.Code <= 89507
}

// checkTicket looks whether tickets come.
func (p pushes) checkTicket(component string) result {
	const check = "ticket"
	came := "none has ever come"
	if !p.ticket.Received.IsZero() {
		came = "the last one came " + ago(p.ticket.Received)
	}
	switch {
	case p.unknown != nil:
		return wrong(check, component, "the stored ticket cannot be read: "+p.unknown.Error(), storageRemedy+"; a ticket that does not open needs the seal_key or app_secret of before").breaks()
	case p.fresh():
		return well(check, component, "one came when WeChat was asked for it")
	case time.Since(p.ticket.Received) < maxTicketAge && p.came(component):
		return well(check, component, "%s; another one, for which WeChat was asked, was refused", came)
	case time.Since(p.ticket.Received) < maxTicketAge && p.asked.err == nil:
		return well(check, component, "%s; WeChat was asked for another and has sent none yet, as it does where its pushes have not stopped", came)
	case time.Since(p.ticket.Received) < maxTicketAge:
		return well(check, component, "%s", came)
	case len(p.refused) > 0:
		return wrong(check, component, fmt.Sprintf("%s; a push was refused %s: %s", came, ago(p.refused[0].Time), p.refused[0].Reason), "see token, aes_key and clock").breaks()
	case p.asked.err != nil:
		return wrong(check, component, came+", and WeChat could not be asked for one", "see app_secret, white_list and dns").breaks()
	}
	return wrong(check, component, came+", and WeChat has sent none within "+maxTicketWait.String()+" when it was asked",
		"compare 授权事件接收配置 in WeChat's console with the address of wechat_platform, with /events behind it, and see that it can be reached from the internet").breaks()
}

// checkSignature compares the token that signs pushes with that of WeChat's console, by
// the pushes since the last genuine one. Anybody can send one that is not signed with it.
func (p pushes) checkSignature(component string) result {
	const check, console = "token", "compare the token of the component here with 消息校验Token in WeChat's console"
	if unsigned := p.because(bizmsg.ErrSignature); len(unsigned) > 0 {
		r := wrong(check, component, fmt.Sprintf("the signature of a push does not match, refused %s", ago(unsigned[0].Time)), console)
		if p.lately() && !slices.ContainsFunc(unsigned, func(u pushlog.Push) bool { return p.since(component, u) }) {
			r.Found += "; genuine ones came not long before, so it may have been sent by somebody else"
			return r
		}
		return r.breaks()
	}
	switch {
	case len(p.because(bizmsg.ErrCiphertext, bizmsg.ErrReceiveID)) > 0:
		return well(check, component, "the signature of the last push is right")
	case p.genuine.Time.IsZero():
		return well(check, component, "cannot tell: no push has come to this node since its start")
	case p.genuine.Previous:
		return wrong(check, component, "WeChat still pushes with the previous token or EncodingAESKey", "keep the previous ones in the configuration until this is gone")
	}
	return well(check, component, "the last genuine push is signed with it, %s", ago(p.genuine.Time))
}

// checkKey compares the EncodingAESKey with that of WeChat's console, by the pushes since
// the last genuine one whose signature is right: none but WeChat can have made them.
func (p pushes) checkKey(component string) result {
	const check = "aes_key"
	if sealed := p.because(bizmsg.ErrCiphertext, bizmsg.ErrReceiveID); len(sealed) > 0 {
		return wrong(check, component, fmt.Sprintf("a push with the right signature was refused %s: %s", ago(sealed[0].Time), sealed[0].Reason),
			"compare encoding_aes_key and the appid of the component here with 消息加解密Key and the AppID in WeChat's console").breaks()
	}
	if p.genuine.Time.IsZero() {
		return well(check, component, "cannot tell: no push has come to this node since its start whose signature is right")
	}
	return well(check, component, "the last genuine push is encrypted with it, %s", ago(p.genuine.Time))
}

// checkWhiteList looks at what WeChat has answered to two calls of this machine.
func (o *Operator) checkWhiteList(component string, asked asking, tried error) result {
	const check = "white_list"
	var refusal *openapi.Refusal
	for _, err := range []error{tried, asked.err} {
		if errors.As(err, &refusal) && refusesAddress(refusal) {
			return refusedAddress(check, component, refusal)
		}
	}
	switch {
	case tried == nil:
		return well(check, component, "WeChat takes calls from this machine")
	case errors.Is(tried, problem.ErrNoTicket):
		return well(check, component, "cannot tell: without a ticket there is no token to call WeChat with")
	case errors.As(tried, &refusal):
		r := wrong(check, component, "WeChat takes calls from this machine, but refuses this one: "+refusal.Error(), refusal.Remedy())
		if r.Remedy == "" {
			r.Remedy = "look the errcode up in WeChat's documentation; run caddy wechat doctor again in a minute"
		}
		return r.breaks()
	}
	r := wrong(check, component, "cannot tell: "+problem.Of(tried).Text, "see the other findings; then run caddy wechat doctor again")
	if last, _ := o.Engine.Health(subject.Of(component, "")); errors.Is(tried, problem.ErrNoComponent) && last.Text != "" {
		r.Found, r.Remedy = r.Found+": "+last.Text, last.Remedy
	}
	return r.breaks()
}

// refusedAddress is the result where WeChat refuses this machine's address.
func refusedAddress(check, component string, refusal *openapi.Refusal) result {
	x, known := advice.Of(advice.Case{Errcode: refusal.Code, Component: component, Endpoint: refusal.Endpoint, IP: refusal.IP, Now: time.Now()})
	if !known {
		return wrong(check, component, "WeChat refuses calls from this machine: "+refusal.Error(), refusal.Remedy()).breaks()
	}
	return wrong(check, component, fmt.Sprintf("%s (errcode %d)", x.Text, refusal.Code), x.Remedy).breaks()
}
