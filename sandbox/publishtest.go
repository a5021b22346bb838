// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// publishAccounts are WeChat's own test accounts: of each group, from 1, the
// official account and the mini program.
var publishAccounts = [5][2]Account{
	{{AppID: "wx570bc396a51b8ff8", UserName: "gh_3c884a361561"}, {AppID: "wxd101a85aa106f53e", UserName: "gh_8dad206e9538", MiniProgram: true}},
	{{AppID: "wx9252c5e0bb1836fc", UserName: "gh_c0f28a78b318"}, {AppID: "wxc39235c15087f6f3", UserName: "gh_905ae9d01059", MiniProgram: true}},
	{{AppID: "wx8e1097c5bc82cde9", UserName: "gh_3f222ed8d140"}, {AppID: "wx7720d01d4b2a4500", UserName: "gh_393666f1fdf4", MiniProgram: true}},
	{{AppID: "wx14550af28c71a144", UserName: "gh_26128078e9ab"}, {AppID: "wx05d483572dcd5d8b", UserName: "gh_39abb5d4e1b7", MiniProgram: true}},
	{{AppID: "wxa35b9c23cfe664eb", UserName: "gh_2b3713f184a6"}, {AppID: "wx5910277cae6fd970", UserName: "gh_7818dcb60240", MiniProgram: true}},
}

// publishAccount reports whether an account is one of publishAccounts.
func publishAccount(appid string) bool {
	for _, pair := range publishAccounts {
		if pair[0].AppID == appid || pair[1].AppID == appid {
			return true
		}
	}
	return false
}

// What WeChat sends in the test. The answer to the text is the text with
// `_callback` behind it, to an event its name with `from_callback`.
const (
	publishText  = "TESTCOMPONENT_MSG_TYPE_TEXT"
	publishQuery = "QUERY_AUTH_CODE:" // and the code, which the customer message has with `_from_api` behind it
	publishEvent = "LOCATION"
)

// StepTicket is the PublishStep.Step of the ticket. If it fails there is no other.
const StepTicket = "ticket"

// PublishStep is a step of the publish test. Authorization codes are left out of
// its texts: the one that matters is written $query_auth_code$.
type PublishStep struct {
	Group int    `json:"group"`           // of test accounts, from 1
	AppID string `json:"appid,omitempty"` // of the test account; empty for the ticket
	Step  string `json:"step"`

	Sent   string `json:"sent"`   // by WeChat
	Got    string `json:"got"`    // what the gateway answered and did
	Wanted string `json:"wanted"` // what it has to answer and do
	OK     bool   `json:"ok"`
}

// publishRun is a publish test while it runs.
type publishRun struct {
	*Sandbox
	group int
	each  []func(PublishStep)
	steps []PublishStep
}

// PublishTest runs WeChat's full-network publish test (全网发布检测) against the
// gateway: with one group of test accounts, from 1 to 5, or with each in turn if
// group is 0. WeChat draws one, so a gateway has to pass with all. The steps of a
// group:
//
//   - a ticket is pushed, and then, unless Switches.NoAuthorizedPush, the
//     authorisation of both accounts;
//   - the official account gets a text, which is to be answered;
//   - it is asked for a customer message: the gateway answers with an empty body,
//     exchanges the code that stands in the text, and sends a message by custom/send;
//   - the mini program is asked for a customer message, too.
//
// By default the code in the text is that of the authorisation, which the gateway may
// have exchanged already; it can send the message with the token it has. With
// Switches.DifferentCodes it is a code of its own, and the token must not be older
// than its exchange. Switches.PublishOldSteps adds steps. Pushes are repeated as
// others are; a later attempt will do.
//
// It blocks, up to 25 s for a customer message that does not come, and returns the
// steps in order. err is not nil if one has failed, or if ctx has ended before the
// last. After a ticket that was not taken it ends, for nothing else could work;
// otherwise it makes all steps. each is called with each step as soon as it is over.
//
// The test accounts are known to the sandbox from then on, and authorized.
func (s *Sandbox) PublishTest(ctx context.Context, group int, each ...func(PublishStep)) ([]PublishStep, error) {
	if group < 0 || group > len(publishAccounts) {
		return nil, fmt.Errorf("running the publish test: there are groups 1 to %d, not %d", len(publishAccounts), group)
	}
	for _, pair := range publishAccounts {
		for _, account := range pair {
			if err := s.AddAccount(account); err != nil {
				return nil, err
			}
		}
	}
	r := &publishRun{Sandbox: s, each: each}
	for n := range publishAccounts {
		if (group == 0 || group == n+1) && !r.runGroup(ctx, n+1) {
			break
		}
	}
	if ctx.Err() != nil {
		return r.steps, fmt.Errorf("running the publish test, after %d steps: %w", len(r.steps), context.Cause(ctx))
	}
	return r.steps, publishFailure(r.steps)
}

// publishFailure tells of the first step that failed, or returns nil.
func publishFailure(steps []PublishStep) error {
	failed := failedSteps(steps)
	if len(failed) == 0 {
		return nil
	}
	first := failed[0]
	return fmt.Errorf("publish test: %d of %d steps failed, first that of group %d, %s: got %s; wanted %s",
		len(failed), len(steps), first.Group, first.Step, first.Got, first.Wanted)
}

func failedSteps(steps []PublishStep) []PublishStep {
	return slices.DeleteFunc(slices.Clone(steps), func(step PublishStep) bool { return step.OK })
}

// publishAnswer is what the lever answers.
func publishAnswer(steps []PublishStep) object {
	answer := object{"steps": append([]PublishStep{}, steps...)}
	if failed := failedSteps(steps); len(failed) > 0 {
		answer["failed"] = failed[0]
	}
	return answer
}

// runGroup makes the steps of a group. It reports whether others make sense.
func (r *publishRun) runGroup(ctx context.Context, group int) bool {
	r.group = group
	pair, switches := publishAccounts[group-1], r.switches()
	if !r.event(ctx, StepTicket, "", "component_verify_ticket", r.PushTicket) {
		return false
	}
	var codes [len(pair)]string
	for i, account := range pair {
		codes[i] = r.authorizeForTest(account.AppID)
		if !switches.NoAuthorizedPush {
			r.event(ctx, kindName(account)+": authorization", account.AppID, "authorized", func(ctx context.Context) error {
				return r.PushAuthorized(ctx, account.AppID)
			})
		}
	}
	official, mini := pair[0], pair[1]
	r.passive(ctx, official, "text", publishText, publishText+"_callback")
	r.customer(ctx, official, codes[0])
	if switches.PublishOldSteps {
		r.passive(ctx, official, publishEvent, "", publishEvent+"from_callback")
	}
	r.customer(ctx, mini, codes[1])
	if switches.PublishOldSteps {
		for _, account := range pair {
			r.event(ctx, kindName(account)+": withdrawal", account.AppID, "unauthorized", func(ctx context.Context) error {
				return r.Revoke(ctx, account.AppID)
			})
		}
	}
	return ctx.Err() == nil
}

// authorizeForTest lets a test account authorise anew, as WeChat does for each
// test, and returns the code that stands in the text.
func (s *Sandbox) authorizeForTest(appid string) (code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.accounts[appid]
	account.authorized, account.authTime, account.granted = true, s.now(), account.FuncInfo
	code = s.newCode(appid)
	s.describe(account, "authorized", code, random("preauthcode@@@", 64))
	return code
}

// event pushes an event, and reports whether it was answered `success`.
func (r *publishRun) event(ctx context.Context, step, appid, infoType string, push func(context.Context) error) bool {
	return r.step(ctx, PublishStep{Step: step, AppID: appid, Sent: "the event " + infoType, Wanted: "`success`" + r.inTime()},
		func() (string, bool) {
			if err := push(ctx); err != nil {
				return readable(err.Error(), ""), false
			}
			return "`success`", true
		})
}

// passive pushes a message, or an event of the account, that is to be answered with
// a text.
func (r *publishRun) passive(ctx context.Context, account Account, kind, content, wanted string) {
	step, sent := "event", "the event "+kind
	if content != "" {
		step, sent = "text", textOf(content, "")
	}
	r.step(ctx, PublishStep{
		Step: kindName(account) + ": " + step, AppID: account.AppID,
		Sent: sent, Wanted: "as reply " + textOf(wanted, "") + r.inTime(),
	}, func() (string, bool) {
		message, err := r.Message(account.AppID, publishFollower(account), kind, content)
		if err != nil {
			return err.Error(), false
		}
		answer, err := r.Push(ctx, message)
		right := err == nil && element(answer.Reply, "MsgType") == "text" && element(answer.Reply, "Content") == wanted
		return told(answer, err, ""), right
	})
}

// step makes a step by calling try, unless ctx has ended, notes it, and reports
// whether it is well.
func (r *publishRun) step(ctx context.Context, step PublishStep, try func() (got string, ok bool)) bool {
	if ctx.Err() != nil {
		return false
	}
	step.Group = r.group
	step.Got, step.OK = try()
	if ctx.Err() != nil {
		return false // the step has not come to its end
	}
	r.steps = append(r.steps, step)
	for _, tell := range r.each {
		tell(step)
	}
	return step.OK
}

func (s *Sandbox) inTime() string {
	return " within " + s.cfg.PushTimeout.Round(time.Millisecond).String()
}

func kindName(account Account) string {
	if account.MiniProgram {
		return "mini program"
	}
	return "official account"
}

// publishFollower is the openid that writes to a test account.
func publishFollower(account Account) string { return openID(account.AppID, "publish test") }
