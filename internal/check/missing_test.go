// SPDX-License-Identifier: Apache-2.0

package check

import "testing"

func TestEverythingMissingIsNamedOnceAndInOrder(t *testing.T) {
	var missing Missing
	if err := missing.Err(); err != nil {
		t.Errorf("nothing is missing, but: %v", err)
	}
	for _, placeholder := range []struct{ text, option string }{
		{"Bearer {env.SHOP}", "client shop, header Authorization"},
		{"{file./run/b}", "client shop, secret"},
		{"{env.A}", "component wx1, token"},
		{"{env.SHOP}", "client shop, secret"},
		{"{env.SHOP}", "client shop, secret"},
		{"{file./run/a}-{file./run/b}", "client crm, secret"},
	} {
		for _, found := range Placeholder.FindAllStringSubmatch(placeholder.text, -1) {
			missing.Add(found[1], found[2], placeholder.option)
		}
	}
	const want = "environment variables that are not set or empty: A (component wx1, token), SHOP (client shop, header Authorization; client shop, secret); " +
		"files that are missing, unreadable or empty: /run/a (client crm, secret), /run/b (client shop, secret; client crm, secret)"
	if err := missing.Err(); err == nil || err.Error() != want {
		t.Errorf("said is\n%v, want\n%s", err, want)
	}
}
