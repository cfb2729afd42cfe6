#!/bin/bash
# Plays a scenario over an ldirectord and writes down the table after each event.
#
#   play.sh SCENARIO [TRANSCRIPT]
#
# as root, in a network namespace of its own. LDIRECTORD and IPVSADM are the commands (default:
# those of that name). Without TRANSCRIPT the table is written down when it has not changed for
# SETTLE seconds (default 8); with it, as soon as it is as recorded there, after QUIET seconds (default
# 5) where an event changed nothing, and after PATIENCE seconds (default 60) in any case.
#
# A scenario is a shell script that calls the functions below. 10.9.0.1 is the VIP, 10.9.0.2, .3, .4
# are real servers.
set -u
here=$(cd "$(dirname "$0")" && pwd)
scenario=$1 expected=${2:-}
LDIRECTORD=${LDIRECTORD:-ldirectord} IPVSADM=${IPVSADM:-ipvsadm}
export LC_ALL=C
dir=$(mktemp -d /tmp/pm-ld-XXXXXX)
mkdir "$dir/want" "$dir/have" "$dir/maintenance"
conf=$dir/$(basename "$dir").cf
event=0 servers= before=

finish() {
    $LDIRECTORD "$conf" stop > /dev/null 2>&1
    [ -n "$servers" ] && kill "$servers" 2> /dev/null
    for _ in $(seq 100); do
        $LDIRECTORD "$conf" status > /dev/null 2>&1 || break
        sleep 0.1
    done
    rm -rf "$dir"
}
trap finish EXIT

for address in 10.9.0.1 10.9.0.2 10.9.0.3 10.9.0.4 10.9.0.9; do
    ip address replace "$address/32" dev lo
done
for address in fd09::1 fd09::2 fd09::3; do
    ip address replace "$address/128" dev lo nodad
done
python3 "$here/server.py" "$dir" 10.9.0.2:80 10.9.0.3:80 10.9.0.4:80 10.9.0.2:8080 \
    '[fd09::2]:80' '[fd09::3]:80' &
servers=$!

# The file, from standard input; DIR stands for the scenario's own directory.
config() { sed "s#DIR#$dir#g" > "$conf.new"; mv "$conf.new" "$conf"; }
# A line changed by sed, as an editor would do it.
edit() { sed -e "$1" "$conf" > "$conf.new"; mv "$conf.new" "$conf"; }
# server HOST[:PORT] MODE
server() {
    local name=$1
    case $name in *:80 | *:8080 | \[*) ;; *) name=10.9.0.$name:80 ;; esac
    echo "$2" > "$dir/want/$name"
    for _ in $(seq 200); do
        [ "$(cat "$dir/have/$name" 2> /dev/null)" = "$2" ] && return
        sleep 0.05
    done
    echo "server $name is not $2" >&2
}
# ldirectord WORD
ld() { $LDIRECTORD "$conf" "$1" > /dev/null 2>&1; echo "$1: $?" >> "$dir/said"; }
ipvs() { $IPVSADM "$@"; }

table() {
    $IPVSADM -L -n 2> /dev/null | awk '
        /^(TCP|UDP|FWM)/ { line = $1 " " $2; for (n = 3; n <= NF; n++) line = line " " $n; service = $1 " " $2; print line }
        /^  ->/ && service { print service " -> " $2 " " $3 " weight " $4 }'
    $IPVSADM -L -n --thresholds 2> /dev/null | awk '
        /^(TCP|UDP|FWM)/ { service = $1 " " $2 }
        /^  ->/ && service && ($3 || $4) { print service " -> " $2 " thresholds " $3 " " $4 }'
}
state() {
    table | sort
    tail -n 1 "$dir/command" 2> /dev/null | sed 's/^/command: /'
}
# What the transcript has for the present event.
recorded() { awk -v n="$event" '/^\* / { at++ } at == n && /^  / { print substr($0, 3) }' "$expected"; }

# after TEXT: waits, and writes the table down
after() {
    local now last same=0 end
    event=$((event + 1))
    if [ -n "$expected" ]; then
        # Where the table shall stay as it is, what happened must have been seen first.
        [ "$(recorded)" = "$before" ] && sleep "${QUIET:-5}"
        before=$(recorded)
        end=$((SECONDS + ${PATIENCE:-60}))
        while now=$(state) && [ "$now" != "$(recorded | grep -v '^said ')" ] && [ $SECONDS -lt $end ]; do
            sleep 0.2
        done
    else
        last=$(state)
        while [ $same -lt "${SETTLE:-8}" ]; do
            sleep 1
            now=$(state)
            if [ "$now" = "$last" ]; then same=$((same + 1)); else same=0 last=$now; fi
        done
    fi
    echo "* $1"
    [ -n "$now" ] && sed 's/^/  /' <<< "$now"
    [ -e "$dir/said" ] && sed 's/^/  said /' "$dir/said" && rm "$dir/said"
    return 0
}

echo "# $(sed -n '1s/^# *//p' "$scenario")"
. "$scenario"
