#!/bin/sh
# Asks the real keepalived (Debian 12's package, unpacked, never installed) what it thinks of each file
# in keepalived.cases, in a network namespace with interfaces eth0 and eth1. As root:
#   sh tests/oracle/keepalived.sh > tests/oracle/keepalived.transcript
# For each case: its name, the exit status of `keepalived --config-test`, and what it said.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "${1:-}" != inside ]; then
    cd "$work"
    apt-get -qq -o APT::Sandbox::User=root download keepalived libsnmp40 libpci3 >&2
    for package in ./*.deb; do dpkg -x "$package" root; done
    PACKAGE=$work/root unshare --net --mount sh "$here/keepalived.sh" inside
    exit
fi
for number in 0 1; do
    ip link add "eth$number" type veth peer name "peer$number"
    ip link set "peer$number" up
    ip link set "eth$number" up multicast on
    ip addr add "192.0.2.$((number + 1))/24" dev "eth$number"
done
export LD_LIBRARY_PATH="$PACKAGE/usr/lib/x86_64-linux-gnu"
csplit -s -z -f "$work/case-" -b %03d "$here/keepalived.cases" '/^=== /' '{*}'
for case in "$work"/case-*; do
    head -n 1 "$case"
    tail -n +2 "$case" > "$work/k.conf"
    status=0
    "$PACKAGE/usr/sbin/keepalived" --config-test --use-file="$work/k.conf" --config-id=red \
        > "$work/said" 2>&1 || status=$?
    echo "status $status"
    sed -n "s#$work/##g; /script_user\|SECURITY\|keepalived_script/d; s/^/  /p" "$work/said"
done
