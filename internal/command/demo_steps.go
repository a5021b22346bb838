// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// The functions in this file are the steps of the demo. Each does what WeChat,
// the browser of an admin or an application would do, and returns the text to
// print.

// ticket lets the sandbox push a ticket.
func (d *demo) ticket(ctx context.Context) (string, error) {
	if err := d.weChat.PushTicket(ctx); err != nil {
		return "", err
	}
	return "POST " + d.platform + "/wechat/events\n← success    (verified, decrypted, sealed into storage, then acknowledged)", nil
}

// Where the links and the result are in the pages of gateway and sandbox.
var (
	launchLink = regexp.MustCompile(`id="authorize"[^>]* href="([^"]+)"`)
	agreeLink  = regexp.MustCompile(`data-appid="([^"]+)" href="([^"]+)"`)
	shownAppID = regexp.MustCompile(`id="appid">([^<]+)<`)
)

// authorize does what the browser of an admin does. It opens the launch page,
// presses the button, follows the link to WeChat's page, chooses the account, and
// follows the redirect back to the gateway. It sends a Referer, which WeChat
// checks, and keeps the cookie that belongs to the state.
func (d *demo) authorize(ctx context.Context, appid string) (string, error) {
	launch := d.platform + "/wechat/authorize"
	if _, err := d.get(ctx, launch, "", nil); err != nil {
		return "", err
	}
	page, err := d.get(ctx, launch, launch, http.NoBody)
	if err != nil {
		return "", err
	}
	link := launchLink.FindStringSubmatch(page)
	if link == nil {
		return "", errors.New("the page after the launch page has no link")
	}
	choices, err := d.get(ctx, html.UnescapeString(link[1]), launch, nil)
	if err != nil {
		return "", err
	}
	for _, choice := range agreeLink.FindAllStringSubmatch(choices, -1) {
		if choice[1] != appid {
			continue
		}
		result, err := d.get(ctx, d.api+html.UnescapeString(choice[2]), launch, nil)
		if err != nil {
			return "", err
		}
		if shown := shownAppID.FindStringSubmatch(result); shown == nil || shown[1] != appid {
			return "", fmt.Errorf("the callback did not say that %s is authorised", appid)
		}
		return "GET " + launch + "  → the button (POST) → WeChat's page → back with auth_code\n← " + appid + " is authorised, its refresh token sealed into storage", nil
	}
	return "", fmt.Errorf("WeChat's page does not offer %s", appid)
}

// fetchToken gets a gateway token and shows its beginning.
func (d *demo) fetchToken(ctx context.Context) (string, error) {
	token, err := d.gatewayToken(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("GET %s/cgi-bin/token?grant_type=client_credential&appid=%s&secret=<client secret>\n← %s…    (a gateway token: worth nothing at WeChat)",
		d.proxy, demoOfficialAccount, token[:40]), nil
}

// gatewayToken gets a gateway token for the official account, with the client
// secret in the place of WeChat's AppSecret.
func (d *demo) gatewayToken(ctx context.Context) (string, error) {
	answer, err := d.get(ctx, d.proxy+"/cgi-bin/token?"+url.Values{
		"grant_type": {"client_credential"}, "appid": {demoOfficialAccount}, "secret": {demoClientSecret},
	}.Encode(), "", nil)
	if err != nil {
		return "", err
	}
	_, token, _ := strings.Cut(answer, `"access_token":"`)
	token, _, found := strings.Cut(token, `"`)
	if !found || len(token) < 40 {
		return "", fmt.Errorf("no token in %s", answer)
	}
	return token, nil
}

// sendPath is the endpoint for customer messages.
const sendPath = "/cgi-bin/message/custom/send"

// call sends a customer message through the gateway, and shows what the sandbox
// got.
func (d *demo) call(ctx context.Context) (string, error) {
	token, err := d.gatewayToken(ctx)
	if err != nil {
		return "", err
	}
	answer, err := d.get(ctx, d.proxy+sendPath+"?access_token="+token, "",
		strings.NewReader(`{"touser":"o-some-follower","msgtype":"text","text":{"content":"你好 👋"}}`))
	if err != nil {
		return "", err
	}
	if !strings.Contains(answer, `"errcode":0`) {
		return "", fmt.Errorf("WeChat answered %s", answer)
	}
	calls := d.weChat.Calls()
	seen := calls[len(calls)-1]
	return fmt.Sprintf("POST %s%s?access_token=%s…\n→ WeChat saw %s?%.42s…\n← %s",
		d.proxy, sendPath, token[:12], seen.Path, seen.RawQuery, strings.TrimSpace(answer)), nil
}

// heal makes the sandbox reject the real token and calls again. The call
// succeeds, because the gateway renews the token and repeats the call.
func (d *demo) heal(ctx context.Context) (string, error) {
	d.weChat.KillTokens(demoOfficialAccount)
	before := d.weChat.Count("/cgi-bin/component/api_authorizer_token")
	if _, err := d.call(ctx); err != nil {
		return "", err
	}
	renewals := d.weChat.Count("/cgi-bin/component/api_authorizer_token") - before
	return fmt.Sprintf("→ 40001 from WeChat, %d renewal, the same call once more\n← {\"errcode\":0,...}", renewals), nil
}

// bearer calls with the client secret in the header Authorization, without a
// token.
func (d *demo) bearer(ctx context.Context) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.proxy+"/cgi-bin/get_api_domain_ip", nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+demoClientSecret)
	r.Header.Set(openapi.AppIDHeader, demoMiniProgram)
	answer, err := d.do(r)
	if err == nil && !strings.Contains(answer, "ip_list") {
		err = fmt.Errorf("WeChat answered %s", answer)
	}
	return "GET " + d.proxy + "/cgi-bin/get_api_domain_ip\n    Authorization: Bearer <client secret>, Wechat-Appid: " + demoMiniProgram + "\n← " + strings.TrimSpace(answer), err
}

// reply lets a follower write a text, and shows what the application got, and what
// the follower gets.
func (d *demo) reply(ctx context.Context) (string, error) {
	answer, err := d.weChat.Push(ctx, d.weChat.Text(demoOfficialAccount, "o-some-follower", "有货吗？"))
	if err != nil {
		return "", err
	}
	var seen demoMessage
	if err := xml.Unmarshal([]byte(answer.Reply), &seen); err != nil || answer.Shown != sandbox.ShownReply {
		return "", fmt.Errorf("the follower sees %s, not the reply of the application: %q", answer.Shown, answer.Body)
	}
	arrived := d.application.last()
	return fmt.Sprintf("POST %s/wechat/messages/%s    (encrypted with the key of the platform)\n"+
		"→ POST %s%s\n  %s\n  ← %s\n← the follower reads: %s",
		d.platform, demoOfficialAccount, d.applicationURL, arrived.target,
		strings.ReplaceAll(arrived.body, "\n", "\n  "), arrived.reply, seen.Content), nil
}

// publish runs the publish test with all five groups of WeChat's test accounts, and
// shows how the gateway has answered the first.
func (d *demo) publish(ctx context.Context) (string, error) {
	steps, err := d.weChat.PublishTest(ctx, 0)
	if err != nil {
		return "", err
	}
	var shown strings.Builder
	others := 0
	for _, step := range steps {
		if step.Group > 1 {
			others++
			continue
		}
		fmt.Fprintf(&shown, "%-34s ← %s\n", step.Step, step.Got)
	}
	fmt.Fprintf(&shown, "%-34s ← likewise, %d steps", "four more pairs of accounts", others)
	return shown.String(), nil
}

// get sends a request as a browser or an SDK would, and returns the body of the
// answer. The method is POST if there is a body, else GET.
func (d *demo) get(ctx context.Context, address, referer string, body io.Reader) (string, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return "", err
	}
	if referer != "" {
		r.Header.Set("Referer", referer)
	}
	return d.do(r)
}

// do sends r and returns at most 1 MiB of the answer. Any status except 200 is
// an error. It waits at most for the timeout of the browser, ten seconds.
func (d *demo) do(r *http.Request) (string, error) {
	response, err := d.browser.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.300s", r.Method, r.URL.Path, response.Status, body)
	}
	return string(body), err
}
