// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"cmp"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/pberkel/caddy-storage-redis" // pages show it, and our binaries have it
)

// Pages may show this directive of github.com/mholt/caddy-ratelimit v0.1.0, which our
// binaries do not have. It has this place in the order.
func init() {
	httpcaddyfile.RegisterHandlerDirective("rate_limit", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return caddyhttp.StaticResponse{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("rate_limit", httpcaddyfile.Before, "basic_auth")
}

// partOf are the places that an excerpt of a Caddyfile may be from.
var partOf = []string{
	"{\n%s\n}\n", inApp, inComponent, inClient, strings.Replace(inClient, "%s", "deliver https://shop.internal/wechat {\n%s\n}", 1),
	inSite, strings.Replace(inSite, "%s", "wechat_proxy {\n%s\n}", 1), strings.Replace(inSite, "%s", "wechat_platform {\n%s\n}", 1),
}

var (
	globalOptions = regexp.MustCompile(`(?m)^\{$`)
	gatewayOption = regexp.MustCompile(`(?m)^\twechat\b`)
	siteOrSnippet = regexp.MustCompile(`(?m)^(\(|\S*[.:]\S* (.* )?\{$)`) // an address has a dot or a colon
	leftOut       = regexp.MustCompile(`(?m)^\s*\.\.\.\n`)
	namedValue    = regexp.MustCompile(`\[?<(\w+)>\]?`) // <new> or [<previous>], which may be missing
)

// What users copy from a page, Caddy takes: each Caddyfile as it is, and each excerpt at
// one place at least.
func TestDocumentedCaddyfilesAdapt(t *testing.T) {
	found := 0
	for _, name := range forUsers(t) {
		if path.Ext(name) != ".md" {
			continue
		}
		for _, block := range readPage(t, name).blocks {
			if block.language != "caddyfile" {
				continue
			}
			found++
			text := namedValue.ReplaceAllString(leftOut.ReplaceAllString(block.text, ""), "{env.$1}")
			if refusal := adaptsSomewhere(text); refusal != "" {
				t.Errorf("%s: %s\n%s", name, refusal, block.text)
			}
		}
	}
	if found < 20 {
		t.Errorf("%d Caddyfiles are found", found)
	}
}

// adaptsSomewhere returns why Caddy refuses a Caddyfile, or an excerpt wherever it stands.
func adaptsSomewhere(text string) string {
	hasOptions := globalOptions.MatchString(text)
	if hasOptions || siteOrSnippet.MatchString(text) {
		switch { // the directives of the gateway need its option
		case !hasOptions:
			text = "{\n\twechat\n}\n" + text
		case !gatewayOption.MatchString(text):
			text = strings.Replace(text, "{\n", "{\n\twechat\n", 1)
		}
		return adapts(text)
	}
	likely, all := "", ""
	for _, place := range partOf {
		refusal := adapts(strings.Replace(place, "%s", text, 1))
		if refusal == "" {
			return ""
		}
		all += refusal + "\n"
		if !strings.Contains(refusal, "unrecognized") { // the option belongs there, and has another fault
			likely += refusal + "\n"
		}
	}
	return cmp.Or(likely, all)
}

// adapts returns why Caddy refuses a text, or what it warns of.
func adapts(text string) string {
	_, warnings, err := adaptText(string(caddyfile.Format([]byte(text))))
	if err != nil {
		return err.Error()
	}
	if len(warnings) > 0 {
		return warnings[0].String()
	}
	return ""
}
