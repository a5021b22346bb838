// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// option reads the arguments of one subdirective, and its block if it has one.
type option func(d *caddyfile.Dispenser) error

// options reads a block of subdirectives. An unknown one is an error, and so
// is a second one of a name that does not end in * in known.
func options(d *caddyfile.Dispenser, known map[string]option) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		read, repeatable := known[name+"*"]
		if !repeatable {
			read = known[name]
		}
		if read == nil {
			return d.Errf("unrecognized subdirective %s, known are: %s", name,
				strings.ReplaceAll(strings.Join(slices.Sorted(maps.Keys(known)), ", "), "*", ""))
		}
		if seen[name] && !repeatable {
			return d.Errf("%s is already specified", name)
		}
		seen[name] = true
		if err := read(d); err != nil {
			return located(d, name, err)
		}
	}
	return nil
}

// located adds file and line to an error that has none yet.
func located(d *caddyfile.Dispenser, name string, err error) error {
	if strings.Contains(err.Error(), ", at ") || strings.Contains(err.Error(), ", import chain") {
		return err
	}
	return d.Errf("%s: %v", name, err)
}

// texts reads one to most arguments; a repeated subdirective adds to them. A
// placeholder is checked when it is resolved.
func texts(into *[]string, most int, check func(string) error) option {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.ArgErr()
		}
		for _, arg := range args {
			if err := check(arg); err != nil && !strings.Contains(arg, "{") {
				return err
			}
		}
		*into = append(*into, args...)
		if len(*into) > most {
			return d.Errf("at most %d values", most)
		}
		return nil
	}
}

// text reads exactly one argument.
func text(into *string, check func(string) error) option {
	return func(d *caddyfile.Dispenser) error {
		var args []string
		if err := texts(&args, 1, check)(d); err != nil {
			return err
		}
		*into = args[0]
		return nil
	}
}

// flag reads no argument.
func flag(into *bool) option {
	return func(d *caddyfile.Dispenser) error {
		if d.NextArg() {
			return d.ArgErr()
		}
		*into = true
		return nil
	}
}

// number reads a positive number.
func number(into *int) option {
	return func(d *caddyfile.Dispenser) error {
		var arg string
		if !d.AllArgs(&arg) {
			return d.ArgErr()
		}
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 {
			return d.Errf("%q is not a positive number", arg)
		}
		*into = n
		return nil
	}
}

// size reads a size such as 64KiB.
func size(into *int64) option {
	return func(d *caddyfile.Dispenser) error {
		var arg string
		if !d.AllArgs(&arg) {
			return d.ArgErr()
		}
		n, err := humanize.ParseBytes(arg)
		if err != nil || n < 1 || n > 64<<20 {
			return d.Errf("%q is not a size between 1 byte and 64MiB, such as 64KiB", arg)
		}
		*into = int64(n)
		return nil
	}
}

// named reads a block under a name, which may stand only once.
func named[T any](into *map[string]*T, check func(string) error, read func(*T, *caddyfile.Dispenser) error) option {
	return func(d *caddyfile.Dispenser) error {
		var name string
		if !d.AllArgs(&name) {
			return d.ArgErr()
		}
		if err := check(name); err != nil {
			return err
		}
		if (*into)[name] != nil {
			return d.Errf("%s is already specified", name)
		}
		if *into == nil {
			*into = make(map[string]*T)
		}
		(*into)[name] = new(T)
		return read((*into)[name], d)
	}
}
