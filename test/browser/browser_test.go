// SPDX-License-Identifier: Apache-2.0

// Package browser_test walks through the authorisation pages with a real
// browser: what the Referer shows, whether cookies come back and whether the
// content security policy lets the page live, only a browser can tell.
//
// With SCREENSHOTS=<folder> pictures of the pages are left there.
package browser_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// android is a browser on a phone, by its User-Agent.
const android = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36"

// insideWeChat is the browser built into WeChat.
const insideWeChat = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 " +
	"Chrome/126.0.0.0 Mobile Safari/537.36 MicroMessenger/8.0.50.2701(0x28003253) WeChat/arm64 Weixin NetType/WIFI Language/zh_CN"

// browser is a tab of a browser that knows no site yet.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string // of the browser about the pages
}

// open opens a browser of its own with a User-Agent ("" is Chromium's) and a language.
func open(t *testing.T, userAgent, language string) *browser {
	t.Helper()
	path := need.Command(t, "install Chromium (apt-get install chromium) or Chrome",
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(path), chromedp.WSURLReadTimeout(time.Minute), chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("lang", language), chromedp.WindowSize(1280, 900),
		chromedp.Flag("host-resolver-rules", "MAP open.example.test 127.0.0.1"))
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("closing the browser: %v", err)
		}
		cancel()
	})
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.listen)
	b.do(log.Enable())
	if userAgent == "" {
		b.do(chromedp.Evaluate("navigator.userAgent", &userAgent))
	}
	b.do(emulation.SetUserAgentOverride(userAgent).WithAcceptLanguage(language))
	return b
}

// listen collects what the browser complains of, such as a violation of the
// content security policy.
func (b *browser) listen(event any) {
	if added, ok := event.(*log.EventEntryAdded); ok && added.Entry.Level == log.LevelError {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.complaints = append(b.complaints, added.Entry.Text+" "+added.Entry.URL)
	}
}

func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		var shown, address string
		_ = chromedp.Run(b.ctx, chromedp.Location(&address), chromedp.Text("body", &shown))
		b.t.Fatalf("%v\nat %s, which shows\n%s", err, address, shown)
	}
}

func (b *browser) visit(address string) { b.t.Helper(); b.do(chromedp.Navigate(address)) }

// click clicks and waits for what the next page must have.
func (b *browser) click(selector, next string) {
	b.t.Helper()
	b.do(chromedp.Click(selector, chromedp.ByQuery), chromedp.WaitVisible(next, chromedp.ByQuery))
}

func (b *browser) text(selector string) (text string) {
	b.t.Helper()
	b.do(chromedp.Text(selector, &text, chromedp.ByQuery))
	return text
}

// begin presses the button of the launch page with scripts turned off, so that the page
// after it stays, and returns where its link leads.
func (b *browser) begin() *url.URL {
	b.t.Helper()
	b.do(emulation.SetScriptExecutionDisabled(true))
	b.click("#begin", "#authorize")
	var href string
	var found bool
	b.do(chromedp.AttributeValue("#authorize", "href", &href, &found, chromedp.ByQuery), emulation.SetScriptExecutionDisabled(false))
	link, err := url.Parse(href)
	if err != nil || !found {
		b.t.Fatalf("the page has no proper link: %q, %v", href, err)
	}
	return link
}

// becomePhone makes the browser that of a small phone.
func (b *browser) becomePhone() {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(320, 568, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulateScale(2)))
}

// wantFits fails the test if one has to scroll sideways on a screen of 320 pixels.
func (b *browser) wantFits(page string) {
	b.t.Helper()
	b.becomePhone()
	var width int
	b.do(chromedp.Evaluate("document.documentElement.scrollWidth", &width))
	if width > 320 {
		b.t.Errorf("%s is %d pixels wide", page, width)
	}
}

// picture leaves a screenshot, if one is wanted.
func (b *browser) picture(name string) {
	b.t.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	for _, look := range []struct {
		name          string
		scheme        string
		width, height int64
	}{{"light", "light", 1280, 900}, {"dark", "dark", 1280, 900}, {"phone", "light", 360, 740}, {"narrow", "dark", 320, 640}} {
		var png []byte
		b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.scheme}}),
			chromedp.EmulateViewport(look.width, look.height), chromedp.CaptureScreenshot(&png))
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s-%s.png", name, look.name)), png, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

// wantQuiet fails the test if the browser complained.
func (b *browser) wantQuiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		b.t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
	}
}

func account(appid string) string { return fmt.Sprintf("a[data-appid=%q]", appid) }

// count counts the elements that match.
func count(selector string, n *int) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf("document.querySelectorAll(%q).length", selector), n)
}
