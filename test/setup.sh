#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Installs what the tests run beside Go: a C compiler for the race detector, a
# browser, Redis, Prometheus, systemd, Node.js, Python, PHP, Java. What is there
# already is left alone. What cannot be had is named and its tests are skipped,
# except under CI=true: there it is an error.
set -euo pipefail
cd "$(dirname "$0")"

left_out=0

# has COMMAND...: whether any of them is installed.
has() { command -v "$@" >/dev/null 2>&1; }

# Debian's Python gets the package, and another one may come first in PATH.
has_requests() { python3 -c 'import requests' 2>/dev/null || /usr/bin/python3 -c 'import requests' 2>/dev/null; }

has_prometheus() { has prometheus && has promtool; }

has_systemd() { has systemd-analyze && has systemd-nspawn; }

has_php_curl() { php -r "exit((int)!extension_loaded('curl'));" 2>/dev/null; }

# may_install: whether packages can be installed without asking anybody.
may_install() { has apt-get && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" </dev/null >/dev/null; }

leave_out() {
	echo "left out: $1, because $2"
	left_out=1
}

# want WHAT PACKAGES CHECK...: installs the packages if the command CHECK fails.
want() {
	local what=$1 packages=$2
	shift 2
	"$@" && return
	if ! may_install; then
		leave_out "$what" "apt-get is not to be used here; install: $packages"
		return
	fi
	echo "installing $packages"
	[ -n "${updated:-}" ] || apt update || true
	updated=1
	# shellcheck disable=SC2086 # several packages
	apt install --no-install-recommends $packages || leave_out "$what" "apt-get cannot install $packages"
}

want "the race detector" "gcc libc6-dev" has gcc clang
want "the tests with a browser" "chromium" has chromium chromium-browser google-chrome google-chrome-stable
want "the tests with Redis" "redis-server" has redis-server
want "the tests with Prometheus" "prometheus" has_prometheus
want "the tests of the systemd service" "systemd systemd-container" has_systemd
want "the tests with Node.js" "nodejs npm" has node
want "the callers and the receiver in Python" "python3 python3-requests" has_requests
want "the callers and the receiver in PHP" "php-cli php-curl" has_php_curl
want "the callers in Java" "default-jdk-headless" has javac
for folder in npm sdk/node transparent receivers/node servers/node; do
	if has node && ! [ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]; then
		echo "installing the packages of test/$folder"
		(cd "$folder" && npm ci --ignore-scripts --loglevel=error >/dev/null) || leave_out "the tests in test/$folder" "npm cannot install their packages"
	fi
done

[ "$left_out" = 0 ] || [ "${CI:-}" != true ] || { echo "under CI=true nothing may be left out"; exit 1; }
