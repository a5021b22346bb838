// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	caddylogging "github.com/caddyserver/caddy/v2/modules/logging"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/internal/audit"
	_ "github.com/caddy-wechat/caddy-wechat/internal/buffered" // the log output for a line a call
	"github.com/caddy-wechat/caddy-wechat/internal/logging"
)

func init() {
	caddy.RegisterModule(LogFormat{})
}

// LogFormat is the log format wechat, which keeps credentials out of Caddy's logs:
// Caddy logs the address of every request, and SDKs put tokens and secrets into
// addresses. It is Caddy's format filter with filters of its own:
//
//   - In the address of a request, also before it was rewritten, in its Referer and in the
//     Location of an answer, the values of parameters are REDACTED whose name has token,
//     secret, code, ticket, state, session or a percent sign in it, in any case.
//   - Authorization, Proxy-Authorization, Cookie and Set-Cookie are left out, even if
//     Caddy is told to log credentials. So is Wechat-Appid.
//   - Gateway tokens, gateway codes and gateway tickets are hidden wherever they stand in
//     a line, also in its message.
//
// What others know about persons, such as openids, stays. A log has the format that
// wrap names. Other fields may have filters of Caddy as in the format filter.
type LogFormat struct {
	caddylogging.FilterEncoder

	// plain is the format without filters, for lines of the audit, which have nothing to
	// hide: with filters they cost twice as much. It is nil where a filter is for a field
	// of theirs, at a terminal, and for a logger that has fields of its own.
	plain zapcore.Encoder
}

// CaddyModule returns the Caddy module information.
func (LogFormat) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.encoders.wechat", New: func() caddy.Module { return new(LogFormat) }}
}

// UnmarshalCaddyfile reads:
//
//	format wechat {
//		wrap <another format> {...}     # default: console at a terminal, else json
//		<field> <filter> {...}          # a filter of Caddy for another field; repeatable
//	}
func (f *LogFormat) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the format
	if d.NextArg() {
		return d.ArgErr()
	}
	d.Reset()
	return f.FilterEncoder.UnmarshalCaddyfile(d)
}

// Provision sets up the format.
func (f *LogFormat) Provision(ctx caddy.Context) error {
	plain := caddylogging.FilterEncoder{WrappedRaw: f.WrappedRaw} // Provision takes it away
	if err := f.FilterEncoder.Provision(ctx); err != nil {
		return err
	}
	address, hidden := logging.Address{}, caddylogging.DeleteFilter{}
	own := map[string]caddylogging.LogFieldFilter{
		"request>uri": address, "request>headers>Referer": address, "resp_headers>Location": address,
		"request>headers>Authorization": hidden, "request>headers>Proxy-Authorization": hidden,
		"request>headers>Cookie": hidden, "resp_headers>Set-Cookie": hidden, "request>headers>Wechat-Appid": hidden,

		// What Caddy's handlers rewrite and reverse_proxy write at level DEBUG.
		"uri": address, "headers>Location": address, "headers>Set-Cookie": hidden,

		// The address that a proxy in front has received.
		"request>headers>X-Forwarded-Uri": address, "request>headers>X-Original-Uri": address,
		"request>headers>X-Original-Url": address, "request>headers>X-Rewrite-Url": address,
	}
	for _, field := range slices.Sorted(maps.Keys(own)) {
		if f.Fields[field] != nil {
			return fmt.Errorf("%s is filtered by the format wechat itself: leave out that line", field)
		}
	}
	maps.Copy(f.Fields, own)
	if audit.AnyField(func(name string) bool { return f.Fields[name] != nil }) {
		return nil
	}
	if plain.WrappedRaw == nil {
		f.plain = &caddylogging.JSONEncoder{}
		return f.plain.(caddy.Provisioner).Provision(ctx)
	}
	loaded, err := ctx.LoadModule(&plain, "WrappedRaw")
	f.plain, _ = loaded.(zapcore.Encoder)
	return err
}

// ConfigureDefaultFormat implements caddy.ConfiguresFormatterDefault: the format at a
// terminal is another one.
func (f *LogFormat) ConfigureDefaultFormat(to caddy.WriterOpener) error {
	if stderr, err := os.Stderr.Stat(); caddy.IsWriterStandardStream(to) && (err != nil || stderr.Mode()&os.ModeCharDevice != 0) {
		f.plain = nil
	}
	return f.FilterEncoder.ConfigureDefaultFormat(to)
}

// Clone returns a copy that further fields can be added to. It implements
// zapcore.Encoder.
func (f LogFormat) Clone() zapcore.Encoder {
	return LogFormat{FilterEncoder: f.FilterEncoder.Clone().(caddylogging.FilterEncoder)}
}

// EncodeEntry returns a line of the log. It implements zapcore.Encoder.
func (f LogFormat) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	encode := f.FilterEncoder.EncodeEntry
	if f.plain != nil && audit.IsCall(fields) {
		encode = f.plain.EncodeEntry
	}
	line, err := encode(entry, fields)
	if err == nil {
		logging.BlankTokens(line.Bytes())
	}
	return line, err
}

var (
	_ zapcore.Encoder                  = LogFormat{}
	_ caddy.Provisioner                = (*LogFormat)(nil)
	_ caddy.ConfiguresFormatterDefault = (*LogFormat)(nil)
	_ caddyfile.Unmarshaler            = (*LogFormat)(nil)
)
