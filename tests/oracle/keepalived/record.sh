#!/bin/bash
# Records what the real keepalived does to the kernel's IPVS in each scenario of this directory:
#     record.sh SCENARIOS OUT [NAME...]
# as root, on a kernel with IPVS that nobody else uses (a virtual machine); all of them when none is
# named. Each scenario runs in a network namespace of its own; its checks are scripts whose exit
# status the events set.
set -u
scenarios=$1 out=$2
shift 2
modprobe -a ip_vs ip_vs_rr ip_vs_wrr ip_vs_wlc ip_vs_lc ip_vs_sh ip_vs_mh || exit 1

# Waits until every check has run three times since, and what came of it is done.
settle() {
    local dir=$1 what=$2 number tries=0 deadline=$((SECONDS + 120))
    declare -A before
    if [ "$what" = stop ]; then
        while kill -0 "$(cat "$dir/pid" 2>/dev/null)" 2>/dev/null && [ $SECONDS -lt $deadline ]; do sleep 1; done
        sleep 1
        return
    fi
    [ "$what" = reload ] && sleep 3
    local checks=$(grep -o 'check [0-9]*"' "$dir/conf" | tr -dc '0-9\n' | sort -u)
    for number in $checks; do before[$number]=$(runs "$dir" $number); done
    for number in $checks; do
        while [ $(($(runs "$dir" $number) - before[$number])) -lt 3 ] && [ $SECONDS -lt $deadline ]; do sleep 1; done
    done
    sleep 2
}

runs() {
    stat -c %s "$1/runs/$2" 2>/dev/null || echo 0
}

play() {
    local name=$1 file=$scenarios/$1.scenario dir=/run/pm/$1 number=0 event what server
    mkdir -p "$dir/state" "$dir/runs"
    ip netns add "pm-$name"
    ip netns exec "pm-$name" ip link set lo up
    # Parts are separated by lines "== config" and "== events".
    awk -v dir="$dir" '/^== config/ { n++; part = dir "/conf." n; next }
        /^== events/ { part = dir "/events"; next } part { print > part }' "$file"
    sed -i "s#/run/pm/check#$dir/check#" "$dir"/conf.*
    # Each run leaves a byte, so that it is known when all have run often enough.
    printf '#!/bin/sh\nread -r status <%s/state/$1\nprintf . >>%s/runs/$1\nexit $status\n' \
        "$dir" "$dir" >"$dir/check"
    chmod 755 "$dir/check"
    for server in 1 2 3 4 5; do echo 0 >"$dir/state/$server"; done
    exec >"$out/$name.transcript" 2>&1
    echo "# keepalived $(keepalived --version 2>&1 | sed -n 's/^Keepalived v\([^ ]*\).*/\1/p'), kernel $(uname -r); recorded by record.sh"
    while read -r what server event; do
        echo "> $what${server:+ $server}${event:+ $event}"
        case $what in
            initially) echo "$event" >"$dir/state/$server"; continue ;;
            start)
                cp "$dir/conf.1" "$dir/conf"
                ip netns exec "pm-$name" keepalived -C -n -f "$dir/conf" -p "$dir/pid" -c "$dir/cpid" \
                    -r "$dir/vpid" -G >/dev/null 2>&1 </dev/null &
                ;;
            down) echo 1 >"$dir/state/$server" ;;
            up) echo 0 >"$dir/state/$server" ;;
            exit) echo "$event" >"$dir/state/$server" ;;
            reload) cp "$dir/conf.$server" "$dir/conf"; kill -HUP "$(cat "$dir/pid")" ;;
            stop) kill -TERM "$(cat "$dir/pid")" ;;
        esac
        settle "$dir" "$what"
        ip netns exec "pm-$name" ipvsadm -Ln | tail -n +4
    done <"$dir/events"
    kill "$(cat "$dir/pid" 2>/dev/null)" 2>/dev/null
}

all=("$@")
[ $# -gt 0 ] || all=("$scenarios"/*.scenario)
for ((i = 0; i < ${#all[@]}; i += 7)); do
    for file in "${all[@]:i:7}"; do
        play "$(basename "$file" .scenario)" &
    done
    wait
done
