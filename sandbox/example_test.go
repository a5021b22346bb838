// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

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
