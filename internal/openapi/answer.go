// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
)

// What an Outage may hold besides the errors of the transport.
var (
	errStatus    = errors.New("unexpected HTTP status")
	errTooLarge  = errors.New("answer larger than 1 MiB")
	errMalformed = errors.New("answer is not the JSON that was asked for")
	errGateway   = errors.New("a gateway answered in WeChat's place: is the host in api this gateway's own, by DNS for instance?")
)

// verdict is what every answer says about itself. An absent errcode means 0.
type verdict struct {
	code    int
	message string
}

// judge reads what an answer says about itself.
func judge(data []byte) (verdict, error) {
	var head struct {
		Code    number          `json:"errcode"`
		Message json.RawMessage `json:"errmsg"`
	}
	if unmarshal(data, &head) != nil || head.Code.bad {
		return verdict{}, errMalformed
	}
	message := string(head.Message)
	_ = json.Unmarshal(head.Message, &message) // else it is no text, and stays as it is
	return verdict{code: int(head.Code.value), message: message}, nil
}

// unmarshal reads an answer into a pointer to a struct. It is as tolerant as
// the SDKs had to become: a byte order mark comes first, raw control characters and invalid UTF-8 stand in
// nicknames, numbers come as strings, and a field of an unexpected type must
// not cost us the token next to it: encoding/json leaves it out and goes on
// with the others. The caller checks the fields that it cannot do without.
//
// Errors of encoding/json are not passed on, because they quote the answer.
func unmarshal(data []byte, into any) error {
	data = bytes.Map(func(r rune) rune { // also replaces invalid UTF-8 by U+FFFD
		if r < ' ' {
			return ' ' // between tokens it is a blank already
		}
		return r
	}, bytes.TrimPrefix(data, []byte("\uFEFF")))
	if !bytes.HasPrefix(bytes.TrimLeft(data, " "), []byte("{")) {
		return errMalformed
	}
	var mismatch *json.UnmarshalTypeError
	if err := json.Unmarshal(data, into); err != nil && !errors.As(err, &mismatch) {
		return errMalformed
	}
	return nil
}

// number is an integer that WeChat writes as 7200 or "7200". Absent and null
// are 0; anything else is bad.
type number struct {
	value int64
	bad   bool
}

// UnmarshalJSON never fails, so that the fields after it are still read.
func (n *number) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	value, err := strconv.ParseInt(strings.Trim(string(text), `"`), 10, 32)
	*n = number{value: value, bad: err != nil}
	return nil
}

// lifetime reads an expires_in. One that is missing, not positive or longer
// than a day is a mistake, but the token beside it is real and its predecessor
// is already dying, so it is kept for the documented time.
func (n number) lifetime(documented time.Duration) time.Duration {
	given := time.Duration(n.value) * time.Second
	if n.bad || given <= 0 || given > 24*time.Hour {
		return documented
	}
	return given
}

// functions is a func_info: the permission sets an account has granted.
type functions []struct {
	Category struct {
		ID number `json:"id"`
	} `json:"funcscope_category"`
}

// ids returns the numbers of the permission sets, in WeChat's order.
func (f functions) ids() []int {
	var ids []int
	for _, info := range f {
		if id := info.Category.ID; !id.bad && id.value > 0 {
			ids = append(ids, int(id.value))
		}
	}
	return ids
}
