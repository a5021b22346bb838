// SPDX-License-Identifier: Apache-2.0

// Package buffered is the log output wechat_buffered, around another output of Caddy: it
// collects the lines of a busy log, and writes many at once. A line of its own for each
// call, as with the option audit calls, costs a call of the kernel for each otherwise.
//
// Entry point: [Output].
package buffered

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func init() {
	caddy.RegisterModule(Output{})
}

const (
	name      = "wechat_buffered"
	namespace = "caddy.logging.writers"

	// size is how many bytes are collected, and latest how long. A line of the audit has
	// 400 bytes, so a busy gateway writes some 160 at once.
	size   = 64 << 10
	latest = 100 * time.Millisecond

	// exitTime is how long the exit of the process waits for the other output.
	exitTime = 2 * time.Second
)

// Output is the log output wechat_buffered. Lines reach the output around which it is
// after 100 milliseconds, or when there are 64 KiB of them, and when Caddy stops. A
// process that is killed loses what it has collected by then. No line is split, and none
// overtakes another.
//
// The other output must be of this log alone: Caddy does not know that another log with
// the same file writes to the same one.
type Output struct {
	// WriterRaw is the other output, such as {"output": "file", "filename": "calls.log"}.
	// Required.
	WriterRaw json.RawMessage `json:"writer,omitempty" caddy:"namespace=caddy.logging.writers inline_key=output"`

	around caddy.WriterOpener
}

// CaddyModule returns the Caddy module information.
func (Output) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: namespace + "." + name, New: func() caddy.Module { return new(Output) }}
}

// UnmarshalCaddyfile reads:
//
//	output wechat_buffered <another output> ...
func (o *Output) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of this output
	if !d.NextArg() {
		return d.Errf("%s wants the output to which it writes, such as: output %[1]s file /var/log/caddy/calls.log", name)
	}
	other := d.Val()
	opener, err := unmarshal(d, other)
	if err != nil {
		return err
	}
	o.WriterRaw = caddyconfig.JSONModuleObject(opener, "output", other, nil)
	return nil
}

// unmarshal reads another output. Those of Caddy's core have no reader of Caddyfiles.
func unmarshal(d *caddyfile.Dispenser, other string) (any, error) {
	var opener caddy.WriterOpener
	switch other {
	case "stdout":
		opener = caddy.StdoutWriter{}
	case "stderr":
		opener = caddy.StderrWriter{}
	case "discard":
		opener = caddy.DiscardWriter{}
	default:
		return caddyfile.UnmarshalModule(d, namespace+"."+other)
	}
	if d.NextArg() || d.NextBlock(0) {
		return nil, d.ArgErr()
	}
	return opener, nil
}

// Provision loads the other output.
func (o *Output) Provision(ctx caddy.Context) error {
	if o.WriterRaw == nil {
		return errors.New(`it has no output to write to: set writer, such as {"output": "file", "filename": "calls.log"}`)
	}
	loaded, err := ctx.LoadModule(o, "WriterRaw")
	if err != nil {
		return fmt.Errorf("loading the output that %s writes to: %w", name, err)
	}
	o.around = loaded.(caddy.WriterOpener)
	return nil
}

// String names the other output, for people.
func (o Output) String() string { return o.around.String() + ", buffered" }

// WriterKey is one for each other output. It implements caddy.WriterOpener.
func (o Output) WriterKey() string { return name + ":" + o.around.WriterKey() }

// OpenWriter opens the other output, and returns the buffer before it. It implements
// caddy.WriterOpener. Caddy opens a log once, however often it loads the configuration.
func (o Output) OpenWriter() (io.WriteCloser, error) {
	to, err := o.around.OpenWriter()
	if err != nil {
		return nil, err
	}
	b := newBuffer(to)
	caddy.OnExit(func(context.Context) { b.endWithin(exitTime) }) // Caddy 2.11 does not close its logs
	return b, nil
}

var (
	_ caddy.Provisioner     = (*Output)(nil)
	_ caddy.WriterOpener    = (*Output)(nil)
	_ caddyfile.Unmarshaler = (*Output)(nil)
)
