#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Boots systemd over a copy of this machine that vanishes afterwards, with a network
# of its own:
#
#	unshare --mount --pid --fork --kill-child --mount-proc machine.sh FOLDER
#
# FOLDER/trial.service is what it runs, and sees FOLDER as /box. The exit code is
# that of `systemctl exit`.
set -euo pipefail
box=$(realpath "$1")

# nspawn and the systemd in it move processes within their control group: they get
# one of their own, whatever hierarchies there are.
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group=$(mktemp -d /sys/fs/cgroup/caddy-wechat-XXXXXX)
trap 'find "$group" -depth -type d -exec rmdir {} +' EXIT

# What nspawn notes in /run, and the mounts, vanish with the mount namespace.
mount -t tmpfs tmpfs /run
mkdir /run/root
mount --bind / /run/root

inside='umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
status=0
# shellcheck disable=SC2016 # the inner shell expands it
(
	echo "$BASHPID" >"$group/cgroup.procs"
	exec unshare --cgroup --mount --pid --fork --mount-proc sh -c "$inside" sh \
		systemd-nspawn --quiet --register=no --keep-unit --link-journal=no --console=pipe --private-network \
		--machine=caddy-wechat --directory=/run/root --volatile=overlay \
		--tmpfs=/etc/caddy --tmpfs=/var/lib/caddy --bind="$box:/box" \
		--bind-ro="$box/caddy:/usr/local/bin/caddy" \
		--bind-ro="$box/caddy-wechat.service:/etc/systemd/system/caddy-wechat.service" \
		--bind-ro="$box/trial.service:/etc/systemd/system/trial.service" \
		--boot -- --unit=trial.service
) </dev/null || status=$?
exit "$status"
