// SPDX-License-Identifier: Apache-2.0

package gwtoken

// Sign appends the right MAC to any text.
func (k *Key) Sign(text string) string { return k.sign(text) }

// IssueWith is Issue with the random part chosen.
func (k *Key) IssueWith(c Claims, random string) string { return k.issue(tokenPrefix, c, random) }

// IssueCodeWith is IssueCode with the random part chosen.
func (k *Key) IssueCodeWith(c Claims, random string) string { return k.issue(codePrefix, c, random) }
