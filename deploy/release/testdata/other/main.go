// SPDX-License-Identifier: Apache-2.0

// Command other stands for the gateway where it is not compiled.
package main

func main() {}
