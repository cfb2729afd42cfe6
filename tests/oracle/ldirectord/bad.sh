#!/bin/bash
# What ldirectord says about each file of DIRECTORY, with the process's number as PID and the
# directory cut off:
#
#   bad.sh DIRECTORY > TRANSCRIPT     where ldirectord 4.12 is installed and /var/run is not its own
#                                     (`unshare -m` with a tmpfs there will do)
#
# `status` is asked for: the file is read before anything else is done, and nothing else is done.
export LC_ALL=C
cd "$1" || exit
echo "# ldirectord -d FILE status, for each FILE of bad/; made by bad.sh with $(ldirectord -v | head -1)"
for file in *.cf; do
    echo "$ $file"
    said=$(ldirectord -d "./$file" status 2>&1 >/dev/null </dev/null; echo "= $?")
    # Debugging, it tells more than is asked for.
    grep -v -e '^DEBUG' -e '^Invoking' -e '^Exiting' -e '^Running' -e '^Use of uninit' <<< "$said" \
        | sed -e 's/\[[0-9]\+\] reading/[PID] reading/' -e 's/^\(Error\|Warning\) \[[0-9]\+\]/\1 [PID]/' \
              -e 's/^\([^=]\)/> \1/' -e 's/^$/>/'
done
