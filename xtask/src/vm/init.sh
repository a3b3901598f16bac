#!/bin/busybox sh
# The init of the machine: what an init system would have set up, then the commands, then off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
b=/bin/busybox
$b mount -t proc -o nosuid,nodev,noexec proc /proc
$b mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
$b mkdir -p /dev/pts /dev/shm /dev/mqueue
$b mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs /dev/shm
$b mount -t mqueue mqueue /dev/mqueue
$b ln -sf /proc/self/fd /dev/fd
$b ln -sf fd/0 /dev/stdin; $b ln -sf fd/1 /dev/stdout; $b ln -sf fd/2 /dev/stderr
$b mount -t tmpfs -o mode=755 tmpfs /run
$b mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
$b mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
$b mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
$b mount -t bpf bpf /sys/fs/bpf 2>/dev/null

# All controllers for everybody; processes only in leaves, as systemd has it.
cgroup=/sys/fs/cgroup
$b mkdir -p $cgroup/init.scope $cgroup/user.slice/session.scope
echo 1 > $cgroup/init.scope/cgroup.procs
for controller in $($b cat $cgroup/cgroup.controllers); do
    echo "+$controller" > $cgroup/cgroup.subtree_control
    echo "+$controller" > $cgroup/user.slice/cgroup.subtree_control
done 2>/dev/null

for module in $($b cat /.vm/modules); do $b modprobe "$module" 2>/dev/null; done
$b ip link set lo up
$b hostname skep-vm
$b stty -F /dev/ttyS1 raw -echo 115200

$b setsid $b sh -c '
    echo 0 > /sys/fs/cgroup/user.slice/session.scope/cgroup.procs
    . /.vm/env
    cd /root
    exec /bin/busybox sh /.vm/commands' < /dev/null > /dev/ttyS1 2>&1
status=$?
$b printf '\n@%s %s@\n' "$($b cat /.vm/token)" $status > /dev/ttyS1
$b sync
$b mount -o remount,ro / 2>/dev/null
$b sleep 0.2
$b reboot -f
