// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// A gateway under test is told the sandbox's address in place of WeChat's, and the
// sandbox is told where to push. Run it with: go test -v -run Example ./sandbox
func Example() {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "success") // a real one opens the push first
	}))
	defer gateway.Close()

	wechat, err := sandbox.New(sandbox.Config{EventsURL: gateway.URL + "/wechat/events"})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	fmt.Println("ticket:", wechat.PushTicket(ctx))
	fmt.Println("account:", wechat.AddAccount(sandbox.Account{AppID: "wxaaaaaaaaaaaaaaaa"}))
	_, err = wechat.Authorize(ctx, "wxaaaaaaaaaaaaaaaa")
	fmt.Println("authorised:", err)
	fmt.Println("pushes:", len(wechat.Pushes()))
	// Output:
	// ticket: <nil>
	// account: <nil>
	// authorised: <nil>
	// pushes: 2
}

// No socket is needed, and WeChat can be made to fail.
func ExampleSandbox_Inject() {
	wechat, err := sandbox.New(sandbox.Config{})
	if err != nil {
		panic(err)
	}
	wechat.Inject(sandbox.Fault{Path: "/cgi-bin/component/", ErrCode: -1, Times: 1})

	appSecret, _, _ := wechat.Keys()
	client := http.Client{Transport: wechat.Transport()}
	for range 2 {
		body := fmt.Sprintf(`{"component_appid":%q,"component_secret":%q}`, wechat.Component(), appSecret)
		answer, err := client.Post("https://api.weixin.qq.com/cgi-bin/component/api_start_push_ticket", "application/json", strings.NewReader(body))
		if err != nil {
			panic(err)
		}
		var said struct{ ErrCode int }
		err = json.NewDecoder(answer.Body).Decode(&said)
		answer.Body.Close()
		fmt.Println("errcode:", said.ErrCode, err)
	}
	fmt.Println("calls:", wechat.Count("/cgi-bin/component/api_start_push_ticket"))
	// Output:
	// errcode: -1 <nil>
	// errcode: 0 <nil>
	// calls: 2
}
