// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"strings"

	"go.uber.org/zap/zapcore"
)

// withheld stands in the place of a credential.
const withheld = "REDACTED"

// credentialWords are parts of the names of parameters that are credentials. A
// percent sign counts too, because an encoded name can be any of them.
var credentialWords = []string{"token", "secret", "code", "ticket", "state", "session", "%"}

// Address is a log filter for fields that are addresses: a text, or a list of
// texts as the values of a header are. It hides the credentials in them, see
// [RedactAddress], and leaves out a field of any other type.
type Address struct{}

// Filter returns the field without credentials. It has the form of Caddy's log
// filters.
func (Address) Filter(field zapcore.Field) zapcore.Field {
	switch field.Type {
	case zapcore.StringType:
		field.String = RedactAddress(field.String)
	case zapcore.ArrayMarshalerType:
		list, _ := field.Interface.(zapcore.ArrayMarshaler) // of this type by the contract of zapcore.Field
		field.Interface = zapcore.ArrayMarshalerFunc(func(out zapcore.ArrayEncoder) error {
			return list.MarshalLogArray(addresses{out})
		})
	default:
		field.Type = zapcore.SkipType
	}
	return field
}

// addresses encodes a list of texts, each without credentials.
type addresses struct{ zapcore.ArrayEncoder }

// AppendString adds a text to the list. It implements
// zapcore.PrimitiveArrayEncoder.
func (a addresses) AppendString(text string) { a.ArrayEncoder.AppendString(RedactAddress(text)) }

// AppendByteString adds a text to the list. It implements
// zapcore.PrimitiveArrayEncoder.
func (a addresses) AppendByteString(text []byte) { a.AppendString(string(text)) }

// RedactAddress returns an address in which the credentials are replaced: the
// values of parameters with such names, however they are spelt, and gateway
// tokens, gateway codes and gateway tickets wherever they are. An address without
// any is returned as it is.
func RedactAddress(address string) string { return redactTokens(redactParameters(address)) }

// redactParameters replaces the values of parameters whose name has one of
// credentialWords in it.
func redactParameters(address string) string {
	var out strings.Builder
	done := 0 // how much of address is in out
	for at := 0; at < len(address); {
		begin := strings.IndexAny(address[at:], "?&;")
		if begin < 0 {
			break
		}
		at += begin + 1
		name := upTo(address[at:], "?&;=")
		at += len(name)
		if at == len(address) || address[at] != '=' || !namesCredential(name) {
			continue
		}
		out.WriteString(address[done:at])
		out.WriteString("=" + withheld)
		at += len(upTo(address[at:], "&;"))
		done = at
	}
	if done == 0 {
		return address
	}
	out.WriteString(address[done:])
	return out.String()
}

// redactTokens replaces what looks like a gateway token, a gateway code or a
// gateway ticket, up to the end of the part of the address that it is in.
func redactTokens(address string) string {
	var out strings.Builder
	done := 0 // how much of address is in out
	for at := 0; ; {
		begin := strings.Index(address[at:], "gw")
		if begin < 0 {
			break
		}
		at += begin
		prefix, rest := tokenPrefix(address[at:]), ""
		if prefix > 0 { // else nothing is searched, or an address of many gw would take long
			rest = upTo(address[at+prefix:], "?&;/")
		}
		if rest == "" {
			at += len("gw")
			continue
		}
		kind, _, _ := strings.Cut(address[at:at+prefix], "1")
		out.WriteString(address[done:at])
		out.WriteString(kind + "1." + withheld)
		at += prefix + len(rest)
		done = at
	}
	if done == 0 {
		return address
	}
	out.WriteString(address[done:])
	return out.String()
}

// upTo returns the part of text before the first of these characters; all of it if
// there is none.
func upTo(text, characters string) string {
	if end := strings.IndexAny(text, characters); end >= 0 {
		return text[:end]
	}
	return text
}

// namesCredential reports whether the name of a parameter has one of
// credentialWords in it. Case does not count, nor that of the two letters outside
// ASCII that are an s and a k in another case.
func namesCredential(name string) bool {
	name = strings.Map(func(letter rune) rune {
		switch {
		case 'A' <= letter && letter <= 'Z':
			return letter + 'a' - 'A'
		case letter == 'ſ':
			return 's'
		case letter == '\u212a': // the Kelvin sign
			return 'k'
		}
		return letter
	}, name)
	for _, word := range credentialWords {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
