// SPDX-License-Identifier: Apache-2.0

package permission

// names are the names of permission sets.
var names = [...]struct {
	id     uint8
	zh, en string
}{
	{1, "消息管理", "Message management"},
}
