// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// spread is a median and the range around it. The zero spread stands for what
// was not measured.
type spread struct {
	median, low, high float64
	n                 int
}

// spreadOf leaves out what is not known (NaN).
func spreadOf(values []float64) spread {
	values = slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(values) == 0 {
		return spread{}
	}
	slices.Sort(values)
	middle := len(values) / 2
	median := values[middle]
	if len(values)%2 == 0 {
		median = (values[middle-1] + values[middle]) / 2
	}
	return spread{median, values[0], values[len(values)-1], len(values)}
}

// middle is the median alone, with so many decimals.
func (s spread) middle(decimals int) string {
	if s.n == 0 {
		return "–"
	}
	return grouped(s.median, decimals)
}

// whole is the median with the range, if there is one.
func (s spread) whole(decimals int) string {
	if s.n < 2 {
		return s.middle(decimals)
	}
	return fmt.Sprintf("%s (%s–%s)", grouped(s.median, decimals), grouped(s.low, decimals), grouped(s.high, decimals))
}

// grouped writes a number with commas between thousands.
func grouped(value float64, decimals int) string {
	text := fmt.Sprintf("%.*f", decimals, value)
	digits, fraction, _ := strings.Cut(text, ".")
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if fraction != "" {
		return digits + "." + fraction
	}
	return digits
}
