// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/credential"
	"github.com/silenceper/wechat/v2/miniprogram"
	miniConfig "github.com/silenceper/wechat/v2/miniprogram/config"
	miniMessage "github.com/silenceper/wechat/v2/miniprogram/message"
	"github.com/silenceper/wechat/v2/miniprogram/qrcode"
	"github.com/silenceper/wechat/v2/officialaccount"
	"github.com/silenceper/wechat/v2/officialaccount/config"
	"github.com/silenceper/wechat/v2/officialaccount/material"
	"github.com/silenceper/wechat/v2/officialaccount/message"
	"github.com/silenceper/wechat/v2/util"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

const silenceperName = "silenceper/wechat v2.1.10, "

func silenceperDrivers() []driver {
	official := func(stable bool) func(*testing.T, target) session {
		return func(t *testing.T, at target) session { return startOfficialAccount(t, at, stable) }
	}
	mini := func(stable bool) func(*testing.T, target) session {
		return func(t *testing.T, at target) session { return startMiniProgram(t, at, stable) }
	}
	return []driver{
		{silenceperName + "official account", gwtest.OfficialAccount, official(false)},
		{silenceperName + "official account, stable_token", gwtest.OfficialAccount, official(true)},
		{silenceperName + "mini program", gwtest.MiniProgram, mini(false)},
		{silenceperName + "mini program, stable_token", gwtest.MiniProgram, mini(true)},
		{silenceperName + "open platform", gwtest.OfficialAccount, startPlatform},
	}
}

// modifyURIs is how users of silenceper name another host.
func modifyURIs(t *testing.T, url string) {
	util.SetURIModifier(func(uri string) string {
		return strings.Replace(uri, "https://api.weixin.qq.com", url, 1)
	})
	t.Cleanup(func() { util.SetURIModifier(nil) })
}

// silenceper is what its faces have in common. It fetches a token when the one
// in its cache is old, and never because of an errcode (credential/default_access_token.go).
type silenceper struct {
	tokens credential.AccessTokenHandle
	cache  *agingCache
	key    string // of the access token in the cache
}

func (s silenceper) token() (string, error)  { return s.tokens.GetAccessToken() }
func (s silenceper) hold(token string) error { return s.cache.Set(s.key, token, time.Hour) }
func (s silenceper) later(d time.Duration)   { s.cache.passed += d }

// agingCache is silenceper's cache with a clock that tests can put forward.
type agingCache struct {
	*cache.Memory
	passed time.Duration
	until  map[string]time.Duration // key → when it is too old
}

func newAgingCache() *agingCache {
	return &agingCache{Memory: cache.NewMemory(), until: make(map[string]time.Duration)}
}

func (c *agingCache) Get(key string) any {
	if c.passed >= c.until[key] {
		return nil
	}
	return c.Memory.Get(key)
}

func (c *agingCache) Set(key string, value any, timeout time.Duration) error {
	c.until[key] = c.passed + timeout
	return c.Memory.Set(key, value, timeout)
}

// tokenKey is where silenceper caches an ordinary account's token.
func tokenKey(prefix, appid string, stable bool) string {
	if stable {
		return prefix + "_stable_access_token_" + appid
	}
	return prefix + "_access_token_" + appid
}

type silenceperOfficial struct {
	silenceper
	account *officialaccount.OfficialAccount
}

func startOfficialAccount(t *testing.T, at target, stable bool) session {
	modifyURIs(t, at.url)
	memory := newAgingCache()
	account := wechat.NewWechat().GetOfficialAccount(&config.Config{
		AppID: at.appid, AppSecret: at.secret, Cache: memory, UseStableAK: stable,
	})
	key := tokenKey(credential.CacheKeyOfficialAccountPrefix, at.appid, stable)
	return silenceperOfficial{silenceper{account, memory, key}, account}
}

func (s silenceperOfficial) get() (string, error) {
	followers, err := s.account.GetUser().ListUserOpenIDs()
	if err != nil {
		return "", err
	}
	return strings.Join(followers.Data.OpenIDs, " "), nil
}

func (s silenceperOfficial) send(text string) error {
	return s.account.GetCustomerMessageManager().Send(message.NewCustomerTextMessage("o-follower", text))
}

func (s silenceperOfficial) upload(name string, content []byte) (string, error) {
	media, err := s.account.GetMaterial().MediaUploadFromReader(material.MediaTypeImage, name, bytes.NewReader(content))
	return media.MediaID, err
}

func (s silenceperOfficial) download(id string) ([]byte, error) {
	address, err := s.account.GetMaterial().GetMediaURL(id)
	if err != nil {
		return nil, err
	}
	return util.HTTPGet(address)
}

func (s silenceperOfficial) denied() error {
	_, err := s.account.GetMenu().GetMenu()
	return err
}

func (s silenceperOfficial) login(code string) (openid string, err error) {
	token, err := s.account.GetOauth().GetUserAccessToken(code)
	if err != nil {
		return "", err
	}
	user, err := s.account.GetOauth().GetUserInfo(token.AccessToken, token.OpenID, "zh_CN")
	return user.OpenID, err
}

// redirect sends to the gateway what is meant for WeChat. The mini program's
// codes do not heed util.SetURIModifier (miniprogram/qrcode), but the client.
type redirect struct{ gateway string }

func (to redirect) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "api.weixin.qq.com" {
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host, r.Host = "http", to.gateway, ""
	}
	return http.DefaultTransport.RoundTrip(r)
}

type silenceperMini struct {
	silenceper
	program *miniprogram.MiniProgram
}

func startMiniProgram(t *testing.T, at target, stable bool) session {
	before := util.DefaultHTTPClient
	t.Cleanup(func() { util.DefaultHTTPClient = before })
	sdk := wechat.NewWechat()
	sdk.SetHTTPClient(&http.Client{Transport: redirect{strings.TrimPrefix(at.url, "http://")}})
	memory := newAgingCache()
	program := sdk.GetMiniProgram(&miniConfig.Config{
		AppID: at.appid, AppSecret: at.secret, Cache: memory, UseStableAK: stable,
	})
	key := tokenKey(credential.CacheKeyMiniProgramPrefix, at.appid, stable)
	return silenceperMini{silenceper{program.GetContext(), memory, key}, program}
}

func (s silenceperMini) get() (string, error) {
	categories, err := s.program.GetSubscribe().GetCategory()
	return fmt.Sprint(categories), err
}

func (s silenceperMini) send(text string) error {
	return s.program.GetCustomerMessage().Send(miniMessage.NewCustomerTextMessage("o-follower", text))
}

// upload is made of the SDK's parts: its mini programs have no function for media.
func (s silenceperMini) upload(name string, content []byte) (string, error) {
	token, err := s.token()
	if err != nil {
		return "", err
	}
	answer, err := util.PostFileByStream("media", name, "https://api.weixin.qq.com/cgi-bin/media/upload?type=image&access_token="+token, content)
	if err != nil {
		return "", err
	}
	var media material.Media
	err = util.DecodeWithError(answer, &media, "MediaUpload")
	return media.MediaID, err
}

func (s silenceperMini) download(id string) ([]byte, error) {
	token, err := s.token()
	if err != nil {
		return nil, err
	}
	answer, err := util.HTTPGet("https://api.weixin.qq.com/cgi-bin/media/get?access_token=" + token + "&media_id=" + id)
	if err != nil {
		return nil, err
	}
	return util.HandleFileResponse(answer, "MediaGet")
}

func (s silenceperMini) denied() error {
	return s.program.GetAuth().CheckSession("signature", "o-follower")
}

func (s silenceperMini) login(code string) (openid string, err error) {
	user, err := s.program.GetAuth().Code2Session(code)
	return user.OpenID, err
}

// The codes of mini programs take another way through silenceper than all
// other calls.
func TestSilenceperMiniProgramCode(t *testing.T) {
	w := startWorld(t)
	s := startMiniProgram(t, target{url: w.Proxy, secret: gwtest.ClientSecret, appid: gwtest.MiniProgram}, false).(silenceperMini)
	picture, err := s.program.GetQRCode().GetWXACodeUnlimit(qrcode.QRCoder{Scene: "a=1"})
	ok(t, err)
	if !bytes.HasPrefix(picture, []byte("\xff\xd8")) { // JPEG
		t.Errorf("the SDK returns %.20q…", picture)
	}
	for _, leak := range w.tap.taken() {
		t.Errorf("WeChat saw %s", leak)
	}
}
