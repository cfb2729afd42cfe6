#!/bin/bash
# Records all scenarios, each in a network namespace of its own.
#
#   record.sh DIRECTORY [NAME...]     on a throw-away Linux with IPVS, as root; transcripts go to DIRECTORY
#
# With COMPARE=1 it does not wait for a table to settle, but for the one that transcripts/ has: much quicker, to see
# whether it comes.
here=$(cd "$(dirname "$0")" && pwd)
modprobe ip_vs
out=$1
shift
[ $# -gt 0 ] || set -- $(cd "$here/scenarios" && ls | sed 's/\.scn$//')
for name; do
    file=$here/scenarios/$name.scn
    expected=${COMPARE:+$here/transcripts/$name.transcript}
    (ip netns add "r-$name"; ip -n "r-$name" link set lo up
     ip netns exec "r-$name" "$here/play.sh" "$file" $expected > "$out/$name.transcript" 2> "$out/$name.err") &
    [ "$(jobs -r | wc -l)" -ge "${AT_ONCE:-6}" ] && wait -n
done
wait
