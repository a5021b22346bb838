#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Builds ./caddy with this plugin, the Redis storage and any further modules:
#
#	./xcaddy.sh [--with module[@version]]...
#
# Where modules cannot be downloaded, what go.mod names is built without them.
set -euo pipefail
cd "$(dirname "$0")"

redis=github.com/pberkel/caddy-storage-redis
version() { go list -m -f '{{.Version}}' "$1"; }

# Databases that nothing here uses; they would double the size.
export XCADDY_GO_BUILD_FLAGS="-tags nobadger,nomysql,nopgx"

# A version, any, keeps Go from asking the module proxy for the local plugin.
if go tool xcaddy build "$(version github.com/caddyserver/caddy/v2)" --output "$PWD/caddy" \
	--with github.com/caddy-wechat/caddy-wechat@v0.0.0=. --with "$redis@$(version $redis)" "$@"; then
	exit
fi

echo "xcaddy failed, see above: building what go.mod names instead" >&2
# shellcheck disable=SC2086 # several flags
go build $XCADDY_GO_BUILD_FLAGS -o caddy ./cmd/caddy
if [ $# != 0 ]; then
	echo "./caddy is built, but without: $*" >&2
	exit 1
fi
