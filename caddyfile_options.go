// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-wechat/caddy-wechat/internal/audit"
	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
)

// errMissing is the error for an option without a value.
var errMissing = errors.New("a value is missing")

// option parses the arguments of one subdirective, and its block if it has one.
// Its errors need not name the file, the line and the subdirective: parseBlock
// adds them. It must not quote a value that may be a secret.
type option func(d *caddyfile.Dispenser) error

// parseBlock parses a block of subdirectives. known has the option for each
// name; a name that ends in * may occur several times. An unknown name is an
// error, also a second occurrence of a name without *, and a block after an
// option that has none.
func parseBlock(d *caddyfile.Dispenser, known map[string]option) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		read, repeatable := known[name+"*"]
		if !repeatable {
			read = known[name]
		}
		if read == nil {
			return located{d.Errf("unrecognized subdirective %s, want one of %s", check.Quote(name),
				strings.ReplaceAll(strings.Join(slices.Sorted(maps.Keys(known)), ", "), "*", ""))}
		}
		if seen[name] && !repeatable {
			return located{d.Errf("%s: already specified, it may stand only once", name)}
		}
		seen[name] = true
		if err := read(d); err != nil {
			return locate(d, name, err)
		}
		if d.NextBlock(d.Nesting()) {
			return located{d.Errf("%s: takes no block", name)}
		}
	}
	return nil
}

// located is an error that already names its file and line.
type located struct{ error }

// locate adds subdirective, file and line to an error, unless the error is from
// a block inside the subdirective and has them.
func locate(d *caddyfile.Dispenser, name string, err error) error {
	var inner located
	if errors.As(err, &inner) {
		return inner
	}
	return located{d.Errf("%s: %w", name, err)}
}

// secretOption parses the current value of a secret, and the previous one if
// there are two. A placeholder is not resolved here, so its value is checked by
// Provision.
func secretOption(into *[]string, valid func(string) error) option {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if err := check.Pair(args); err != nil {
			return err
		}
		for _, arg := range args {
			switch {
			case check.Placeholder.MatchString(arg):
				continue
			case strings.ContainsAny(arg, "{}"):
				return errBraces
			}
			if err := valid(arg); err != nil {
				return err
			}
		}
		*into = args
		return nil
	}
}

// listOption parses one or more values that are no secrets. If the subdirective
// is repeated, its values are added. most is the largest number of values in
// all.
func listOption(into *[]string, most int, valid func(string) error) option {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) == 0 {
			return errMissing
		}
		for _, arg := range args {
			if err := plain(arg, valid); err != nil {
				return err
			}
		}
		*into = append(*into, args...)
		if len(*into) > most {
			return fmt.Errorf("%d values, at most %d are possible", len(*into), most)
		}
		return nil
	}
}

// plain checks a value that is no secret. Placeholders are only resolved in
// secrets, so the error for one here says what to write instead.
func plain(text string, valid func(string) error) error {
	err := valid(text)
	if err != nil && check.Placeholder.MatchString(text) {
		return fmt.Errorf("%s can stand for a secret only; here write {$NAME}, which is filled in when the Caddyfile is read",
			check.Placeholder.FindString(text))
	}
	return err
}

// offOption parses off, the only value of a subdirective, and sets into then. otherwise
// says how it is without the line.
func offOption(into *bool, otherwise string) option {
	return func(d *caddyfile.Dispenser) error {
		arg, err := argument(d)
		if err == nil && arg != "off" {
			err = fmt.Errorf("%s is unknown, want off; without this line %s", check.Quote(arg), otherwise)
		}
		*into = true
		return err
	}
}

// pathKindOption parses a kind and the paths that are of this kind. A path may occur
// only once, in all lines together.
func pathKindOption(into *map[string]string) option {
	kinds := make(policy.PathKinds)
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) < 2 {
			return errors.New("want authorizer, component or either, then paths")
		}
		if *into == nil {
			*into = make(map[string]string)
		}
		for _, path := range args[1:] {
			err := plain(path, func(string) error { _, err := kinds.Add(args[0], path); return err })
			if err != nil {
				return err
			}
			(*into)[path] = args[0]
		}
		return nil
	}
}

// argument parses the arguments of a subdirective that has exactly one.
func argument(d *caddyfile.Dispenser) (string, error) {
	args := d.RemainingArgs()
	switch len(args) {
	case 0:
		return "", errMissing
	case 1:
		return args[0], nil
	}
	return "", fmt.Errorf("%d values, want exactly one", len(args))
}

// stringOption parses exactly one value that is no secret.
func stringOption(into *string, valid func(string) error) option {
	return func(d *caddyfile.Dispenser) error {
		arg, err := argument(d)
		if err != nil {
			return err
		}
		*into = arg
		return plain(arg, valid)
	}
}

// checkAudit accepts the names of what the audit has lines of.
func checkAudit(mode string) error {
	if _, ok := audit.ParseMode(mode); !ok {
		return fmt.Errorf("%s is unknown, want off, refusals or calls", check.Quote(mode))
	}
	return nil
}

// boolOption parses a subdirective without arguments, which sets the value to
// true.
func boolOption(into *bool) option {
	return func(d *caddyfile.Dispenser) error {
		if d.NextArg() {
			return errors.New("takes no value")
		}
		*into = true
		return nil
	}
}

// intOption parses a whole number of 1 or more.
func intOption(into *int) option {
	return func(d *caddyfile.Dispenser) error {
		arg, err := argument(d)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 {
			return fmt.Errorf("%s is not a whole number above 0", check.Quote(arg))
		}
		*into = n
		return nil
	}
}

// sizeOption parses a size such as 64KiB, from least to most bytes. want says so in
// words, for the error.
func sizeOption(into *int64, least, most uint64, want string) option {
	return func(d *caddyfile.Dispenser) error {
		arg, err := argument(d)
		if err != nil {
			return err
		}
		n, err := humanize.ParseBytes(arg)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%s is not a size between %s", check.Quote(arg), want)
		}
		*into = int64(n)
		return nil
	}
}

// blockOption parses a name and the block after it, and adds the result to a
// map. A name may occur only once.
func blockOption[T any](into *map[string]*T, valid func(string) error, read func(*T, *caddyfile.Dispenser) error) option {
	return func(d *caddyfile.Dispenser) error {
		var name string
		if err := stringOption(&name, valid)(d); err != nil {
			return err
		}
		if (*into)[name] != nil {
			return fmt.Errorf("%s is already specified", name)
		}
		if *into == nil {
			*into = make(map[string]*T)
		}
		(*into)[name] = new(T)
		return read((*into)[name], d)
	}
}
