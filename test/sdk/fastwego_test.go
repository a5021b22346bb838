// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime/multipart"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/faabiosr/cachego"
	"github.com/faabiosr/cachego/sync"
	"github.com/fastwego/miniprogram"
	"github.com/fastwego/miniprogram/apis/customer_message"
	"github.com/fastwego/miniprogram/apis/nearbypoi"
	"github.com/fastwego/miniprogram/apis/subscribe"
	miniUser "github.com/fastwego/miniprogram/apis/user"
	"github.com/fastwego/offiaccount"
	"github.com/fastwego/offiaccount/apis/customservice"
	fastMaterial "github.com/fastwego/offiaccount/apis/material"
	"github.com/fastwego/offiaccount/apis/menu"
	"github.com/fastwego/offiaccount/apis/oauth"
	"github.com/fastwego/offiaccount/apis/user"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

func fastwegoDrivers() []driver {
	return []driver{
		{"fastwego/offiaccount v1.0.1", gwtest.OfficialAccount, startFastOfficial},
		{"fastwego/miniprogram v1.0.0-beta.4", gwtest.MiniProgram, startFastMini},
	}
}

// customerText is a customer message as fastwego wants it, already in JSON.
func customerText(text string) []byte {
	body, _ := json.Marshal(map[string]any{"touser": "o-follower", "msgtype": "text", "text": map[string]string{"content": text}})
	return body
}

// mediaID reads what an upload is answered with.
func mediaID(answer []byte, err error) (string, error) {
	if err != nil {
		return "", err
	}
	var media struct {
		ID string `json:"media_id"`
	}
	err = json.Unmarshal(answer, &media)
	return media.ID, err
}

// binary is what a download returns: fastwego takes every answer for JSON, and
// hands over one that is none together with the error.
func binary(answer []byte, err error) ([]byte, error) {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return answer, nil
	}
	return answer, err
}

// fastOfficial renews when it meets 40001 or 42001, and by its own clock (client.go).
type fastOfficial struct {
	app    *offiaccount.OffiAccount
	folder string // for what fastwego wants to read from a file
}

func startFastOfficial(t *testing.T, at target) session {
	before := offiaccount.WXServerUrl
	t.Cleanup(func() { offiaccount.WXServerUrl = before })
	offiaccount.WXServerUrl = at.url
	app := offiaccount.New(offiaccount.Config{Appid: at.appid, Secret: at.secret})
	app.AccessToken.Cache = sync.New() // the default are files in a folder that all may read
	app.Logger = nil                   // the default prints tokens
	return fastOfficial{app, t.TempDir()}
}

func (s fastOfficial) token() (string, error) { return s.app.AccessToken.GetAccessTokenHandler(s.app) }
func (s fastOfficial) hold(token string) error {
	return hold(s.app.AccessToken.Cache, s.app.Config.Appid, token)
}

func hold(cache cachego.Cache, appid, token string) error { return cache.Save(appid, token, time.Hour) }

func (s fastOfficial) get() (string, error) {
	followers, err := user.Get(s.app, nil)
	return string(followers), err
}

func (s fastOfficial) send(text string) error {
	_, err := customservice.SendMessage(s.app, customerText(text))
	return err
}

func (s fastOfficial) upload(name string, content []byte) (string, error) {
	path := filepath.Join(s.folder, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return "", err
	}
	return mediaID(fastMaterial.MediaUpload(s.app, path, url.Values{"type": {"image"}}))
}

// download does without material.MediaGet, which takes no media_id.
func (s fastOfficial) download(id string) ([]byte, error) {
	return binary(s.app.Client.HTTPGet("/cgi-bin/media/get?media_id=" + id))
}

func (s fastOfficial) denied() error {
	_, err := menu.Get(s.app)
	return err
}

func (s fastOfficial) login(code string) (openid string, err error) {
	token, err := oauth.GetAccessToken(s.app.Config.Appid, s.app.Config.Secret, code)
	if err != nil {
		return "", err
	}
	user, err := oauth.GetUserInfo(token.AccessToken, token.Openid, oauth.LANG_zh_CN)
	return user.Openid, err
}

// fastMini is the same client once more, in a module of its own.
type fastMini struct{ app *miniprogram.Miniprogram }

func startFastMini(t *testing.T, at target) session {
	before := miniprogram.WXServerUrl
	t.Cleanup(func() { miniprogram.WXServerUrl = before })
	miniprogram.WXServerUrl = at.url
	app := miniprogram.New(miniprogram.Config{Appid: at.appid, Secret: at.secret})
	app.AccessToken.Cache = sync.New()
	app.Logger = nil
	return fastMini{app}
}

func (s fastMini) token() (string, error) { return s.app.AccessToken.GetAccessTokenHandler(s.app) }
func (s fastMini) hold(token string) error {
	return hold(s.app.AccessToken.Cache, s.app.Config.Appid, token)
}

func (s fastMini) get() (string, error) {
	categories, err := subscribe.GetCategory(s.app)
	return string(categories), err
}

func (s fastMini) send(text string) error {
	_, err := customer_message.Send(s.app, customerText(text))
	return err
}

// upload does without customer_message.UploadTempMedia, which says it is JSON.
func (s fastMini) upload(name string, content []byte) (string, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	file, err := form.CreateFormFile("media", name)
	if err != nil {
		return "", err
	}
	_, _ = file.Write(content) // a bytes.Buffer does not fail
	if err := form.Close(); err != nil {
		return "", err
	}
	return mediaID(s.app.Client.HTTPPost("/cgi-bin/media/upload?type=image", &body, form.FormDataContentType()))
}

func (s fastMini) download(id string) ([]byte, error) {
	return binary(customer_message.GetTempMedia(s.app, url.Values{"media_id": {id}}))
}

func (s fastMini) denied() error {
	_, err := nearbypoi.GetList(s.app, nil)
	return err
}

// login sends the access token as well, of which WeChat's page says nothing.
func (s fastMini) login(code string) (openid string, err error) {
	answer, err := miniUser.Code2Session(s.app, url.Values{
		"appid": {s.app.Config.Appid}, "secret": {s.app.Config.Secret}, "js_code": {code}, "grant_type": {"authorization_code"},
	})
	if err != nil {
		return "", err
	}
	var user struct{ OpenID string }
	err = json.Unmarshal(answer, &user)
	return user.OpenID, err
}
