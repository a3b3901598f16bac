#!/bin/busybox sh
# The first process: from here to the root disk.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /new
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
for module in /mods/*.ko; do $b insmod "$module"; done
tries=0
until [ -b /dev/vda ] || [ $tries -gt 50 ]; do $b sleep 0.1; tries=$((tries + 1)); done
$b mount -t ext4 -o noatime /dev/vda /new || { echo "no root disk"; $b reboot -f; }
$b mount --move /dev /new/dev
$b umount /sys /proc
exec $b switch_root /new /.vm/init
