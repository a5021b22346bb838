// SPDX-License-Identifier: Apache-2.0

// Package sandbox plays WeChat's side of a third-party platform (第三方平台):
// api.weixin.qq.com, both authorise pages, and the pushes. WeChat offers no such
// place to try things out.
//
//	wechat, err := sandbox.New(sandbox.Config{})            // nothing has to be set
//	server := httptest.NewServer(wechat)                    // or wechat.Transport(), without a socket
//	wechat.SetURLs(gateway+"/wechat/events", gateway+"/wechat/messages/$APPID$")
//	wechat.AddAccount(sandbox.Account{AppID: "wxaaaaaaaaaaaaaaaa"})
//	err = wechat.PushTicket(ctx)                            // sealed, signed and POSTed
//	code, err := wechat.Authorize(ctx, "wxaaaaaaaaaaaaaaaa") // the admin agrees
//	answer, err := wechat.Push(ctx, wechat.Text("wxaaaaaaaaaaaaaaaa", "openid", "hi")) // a follower writes
//	steps, err := wechat.PublishTest(ctx, 0)                // 全网发布检测, before a platform goes live
//	wechat.Inject(sandbox.Fault{Path: "/cgi-bin/", ErrCode: -1, Times: 3})
//	wechat.Credentials()                                    // none of these may ever leak
//
// It is as strict as WeChat is known to be, and where WeChat's documents leave a
// point open or contradict each other, it has a switch (see Switches). Its crypto
// is its own: a fake that borrowed the gateway's would agree with its mistakes.
// State is in memory only. Its credentials are plain strings, made to be found:
// they contain REALAPPSECRET, REALPUSHTOKEN, REALAESKEY, REALTICKET, REALTOKEN or
// REALREFRESH.
//
// # What is known by name
//
// The component API, the pages, quotas, rid/get, user logins, customer and
// template messages, media, menus, followers, mini-program codes: see routes. Any
// other path answers {"errcode":0,"errmsg":"ok"} once the right kind of token has
// been shown. GeneratedMedia names downloads of any size.
//
// # How it pushes
//
// An attempt is hung up on after 5 s (Config.PushTimeout), and there are three in
// all, each sealed and signed anew with a new timestamp around the same text: of
// messages, because WeChat's page says so; of authorisation events, because WeChat
// counts nine failures for three tickets [?]. The next begins at once when the one
// before has failed [?].
//
// A message is done with `success`, `SUCCESS`, an empty body or a sealed reply. It is
// repeated if no answer came in time, the connection broke, or the status is not 200
// [?]; after the last attempt a follower of an official account reads that the
// account is out of service. A follower reads that at once, and nothing is repeated
// [?], if the answer is something else: JSON, HTML, a reply in clear, an empty text
// that was sealed, a reply without ToUserName, FromUserName or a known MsgType, a
// text without Content. Users of mini programs see neither replies nor trouble.
// [?] is what no page of WeChat says. What the follower sees is PushAnswer.Shown.
//
// # The publish test
//
// Before a platform goes live, WeChat lets test accounts of its own authorise it and
// writes to these accounts (PublishTest). WeChat's page says what it writes and what
// it wants back. It does not say whether the authorization code in its text is the one
// that the event of the authorisation has brought [?]: it is, or with
// Switches.DifferentCodes it is not; how long the customer message may take [?]: 10 s
// from the answer on; and whether a later attempt will do [?]: it will. The console of
// 2018 listed an event and the withdrawal as well, which are in no page today:
// Switches.PublishOldSteps.
//
// # Levers over HTTP
//
// Every lever is a method and a path under /_sandbox/, beside the API and never in
// it. Bodies and answers are JSON; an unknown field is refused (400); a lever
// that could not do its work answers 409 with {"error":…}. There is no access
// control: whoever reaches the sandbox may pull.
//
//	GET    /                overview: accounts, counts, settings
//	POST   ticket           a new ticket is pushed
//	POST   stop-tickets     WeChat gives up pushing tickets
//	POST   account          {"appid","user_name","nick_name","mini_program","func_info":[…]}
//	POST   authorize        {"appid"} the admin agrees; answers {"code"}
//	POST   authorized       {"appid"} its last authorisation event is pushed again
//	POST   update           {"appid"} the admin changes the permission sets; answers {"code"}
//	POST   revoke           {"appid"} the admin withdraws
//	POST   event            {"info_type","inner"} any authorisation event
//	POST   message          {"appid","openid","inner"} a follower's message, or {"appid","openid",
//	                        "kind","content"}; answers {"reply","shown","answer"}
//	POST   publish-test     {"group":1} WeChat's publish test, with one group of test accounts
//	                        or, without, with each; answers {"steps":[{"group","appid","step",
//	                        "sent","got","wanted","ok"}],"failed":the first that is not ok}
//	POST   push             a Push: forged, foreign, old, replayed or sent elsewhere
//	POST   expire           {"appid"} its tokens answer 42001; empty: everybody's
//	POST   kill             {"appid"} its tokens answer 40001; empty: everybody's
//	POST   rotate-token     {"appid"} a second process fetches a token
//	POST   rotate-refresh   {"appid"} a new refresh token
//	POST   rotate-secret    {"secret"} a new app secret; empty: made up
//	POST   freeze-secret    {"appid","frozen"} an account's own AppSecret answers 40243
//	POST   rotate-keys      {"token","encoding_aes_key"} new push keys; empty: made up
//	POST   usercode         {"appid","user"} a js_code or OAuth code; answers {"code","openid"}
//	POST   advance          {"by":"2h"} lifetimes pass
//	POST   fault            a Fault, latency as "2s"
//	DELETE fault            no more faults
//	POST   quota            {"path","daily"} a daily limit; negative: none
//	POST   ips              {"allow":[…]} the callers' white list; empty: all
//	POST   urls             {"events","messages","launch_domain"}
//	GET    switches         and POST, which replaces all of them
//	GET    calls            history of calls; DELETE forgets it and the counts
//	GET    pushes           history of push attempts
//	GET    sent             customer and template messages sent
//	GET    count            ?path= and perhaps &token=
//	GET    token            ?kind=ticket|component|authorizer|refresh &appid= the valid one
//	GET    credentials      every real credential so far
//	GET    agree            where the links of the authorise page lead
package sandbox
