#!/bin/bash
# In the guest's real root: runs the command the host left, leaves its exit status, ends the guest.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
ip link set lo up
cd /run/guest || exit
(. ./command) </dev/null >stdout 2>stderr
echo $? >status
# Reboots at once, which qemu takes for the end.
echo b >/proc/sysrq-trigger
sleep 10
