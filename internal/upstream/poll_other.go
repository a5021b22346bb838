// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package upstream

import "syscall"

const canProbe = false

// poll is never used where nothing can be probed.
type poll struct{}

func (*poll) prepare() {}

func (*poll) now(syscall.RawConn, []byte) (int, error) { return 0, errNothing }
