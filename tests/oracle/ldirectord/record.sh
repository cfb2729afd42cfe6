#!/bin/bash
# Records all scenarios, each in a network namespace of its own.
#
#   record.sh DIRECTORY     on a throw-away Linux with IPVS, as root; transcripts go to DIRECTORY
here=$(cd "$(dirname "$0")" && pwd)
modprobe ip_vs
for file in "$here"/scenarios/*.scn; do
    name=$(basename "$file" .scn)
    (ip netns add "r-$name"; ip -n "r-$name" link set lo up
     ip netns exec "r-$name" "$here/play.sh" "$file" > "$1/$name.transcript" 2> "$1/$name.err") &
    [ "$(jobs -r | wc -l)" -ge "${AT_ONCE:-6}" ] && wait -n
done
wait
