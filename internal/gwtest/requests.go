// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"bytes"
	"crypto/sha256"
	"mime/multipart"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Paths of WeChat's API: one of each level, the one most messages are sent to,
// the one at which the gateway renews an authorizer's token, and the one at which it
// asks what account that is.
const (
	AuthorizerPath = "/cgi-bin/user/get"
	ComponentPath  = "/wxa/gettemplatelist"
	EitherPath     = "/cgi-bin/getcallbackip"
	SendPath       = "/cgi-bin/message/custom/send"
	RenewalPath    = "/cgi-bin/component/api_authorizer_token"
	InfoPath       = "/cgi-bin/component/api_get_authorizer_info"
)

// TokenPath returns the path and query with which SDKs fetch a gateway token.
func TokenPath(appid, clientSecret string) string {
	return "/cgi-bin/token?" + url.Values{
		"grant_type": {"client_credential"}, "appid": {appid}, "secret": {clientSecret},
	}.Encode()
}

// Bearer returns the header of a caller without an SDK, who sends the client
// secret itself. appid may be empty.
func Bearer(clientSecret, appid string) http.Header {
	header := http.Header{"Authorization": {"Bearer " + clientSecret}}
	if appid != "" {
		header.Set("Wechat-Appid", appid)
	}
	return header
}

// UploadForm returns a multipart body with one file of n bytes.
func UploadForm(t testing.TB, n int) (contentType, body string) {
	t.Helper()
	var out bytes.Buffer
	form := multipart.NewWriter(&out)
	file, err := form.CreateFormFile("media", "a.bin")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = file.Write(bytes.Repeat([]byte{0xff, 0, '\r', '\n'}, n/4))
	_ = form.Close()
	return form.FormDataContentType(), out.String()
}

// Authorization is what an SDK keeps of api_query_auth and api_authorizer_token.
type Authorization struct {
	AppID     string `json:"authorizer_appid"`
	Token     string `json:"authorizer_access_token"`
	Expires   int    `json:"expires_in"`
	Refresh   string `json:"authorizer_refresh_token"`
	Functions []struct {
		Category struct{ ID int } `json:"funcscope_category"`
	} `json:"func_info"`
}

// Issue makes a gateway token of a client that nobody has asked for. An empty
// appid makes it the component's.
func (g *Gateway) Issue(t testing.TB, client, clientSecret, appid string, expires time.Time) string {
	t.Helper()
	appSecret, _, _ := g.WeChat.Keys()
	key, err := gwtoken.NewKey(secret.New(appSecret), sha256.Sum256([]byte(clientSecret)))
	if err != nil {
		t.Fatal(err)
	}
	return key.Issue(gwtoken.Claims{Client: client, Subject: subject.Of(g.WeChat.Component(), appid), Expires: expires})
}
