#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Installs what "make bench" runs beside Go and Caddy: wrk, nginx and Redis.
# What is there already is left alone.
set -euo pipefail

missing=
for program in wrk nginx redis-server; do
	PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

# may_install: whether packages can be installed without asking anybody.
may_install() { command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" </dev/null >/dev/null; }

if ! may_install; then
	echo "make bench needs$missing, and apt-get is not to be used here: install them" >&2
	exit 1
fi
echo "installing$missing"
apt update || true
# shellcheck disable=SC2086 # several packages
apt install --no-install-recommends $missing
# Debian starts what it has installed; nobody has asked for a server.
for service in $missing; do
	case $service in nginx | redis-server) as_root systemctl disable --now "$service" >/dev/null 2>&1 || true ;; esac
done
