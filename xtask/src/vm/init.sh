#!/bin/busybox sh
# The guest's first process. From the emulated PCI bus to a writable copy of the host's files.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
. /settings # modules, out, tmpfs_on_tmp

for module in /modules/*.ko; do $bb insmod "$module"; done

# A directory that the host shares: tag, mount point, options. "loose" caches without asking back,
# which suits files that nobody should be changing, not the ones the host is waiting for.
shared() {
    $bb mkdir -p "$2"
    $bb mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" "$1" "$2"
}

$bb mkdir /mnt/layers /mnt/root
$bb mount -t tmpfs -o size=90% layers /mnt/layers
$bb mkdir /mnt/layers/upper /mnt/layers/work
shared host /mnt/host ro,cache=loose
$bb mount -t overlay -o lowerdir=/mnt/host,upperdir=/mnt/layers/upper,workdir=/mnt/layers/work \
    root /mnt/root
cd /mnt/root || exit

$bb mount -t proc proc proc
$bb mount -t sysfs sysfs sys
$bb mount -t devtmpfs devtmpfs dev
$bb mkdir -p dev/pts dev/shm
$bb mount -t devpts devpts dev/pts
$bb mount -t tmpfs tmpfs dev/shm
$bb mount -t tmpfs tmpfs run
[ $tmpfs_on_tmp = no ] || $bb mount -t tmpfs tmpfs tmp
$bb mount -t bpf bpf sys/fs/bpf
$bb mount -t cgroup2 cgroup2 sys/fs/cgroup
$bb mount -t tracefs tracefs sys/kernel/tracing

# The modules lie where they were unpacked; modprobe looks for them here.
release=$($bb uname -r)
$bb mkdir -p "lib/modules/$release"
$bb mount -o bind "/mnt/host$modules" "lib/modules/$release"

shared exchange run/guest rw,cache=none
[ $out = no ] || shared out out rw,cache=none
$bb cp /guest run/guest.sh
exec $bb switch_root . /bin/bash /run/guest.sh
