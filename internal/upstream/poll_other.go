// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package upstream

import "syscall"

// canProbe is false: on this system no connection can be read without waiting.
// New passes all calls to the http.Transport then.
const canProbe = false

// poll is never used here. It exists so that socket.go compiles.
type poll struct{}

func (*poll) prepare() {}

func (*poll) now(syscall.RawConn, []byte) (int, error) { return 0, errNothing }
