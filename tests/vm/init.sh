#!/bin/busybox sh
# PID 1 of the initramfs: lay a throw-away layer over the host's root and go on in there.
# /lower is the host, read-only; whatever is written ends up in the VM's memory.
set -e
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
hostname vm
# Without this a failure would end PID 1: the kernel would panic and bury the message.
trap 'echo o >/proc/sysrq-trigger; sleep 60' EXIT
for module in /modules/*; do
    insmod "$module"
done

mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro host /lower
mount -t tmpfs tmpfs /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root

# The modules of the kernel that runs here, not of the one that runs the host.
mkdir -p /root/usr/lib/modules
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro modules \
    /root/usr/lib/modules
mount -t tmpfs tmpfs /root/run
mkdir /root/run/exchange
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 exchange /root/run/exchange
for directory in proc sys dev; do
    mount --move "/$directory" "/root/$directory"
done
exec switch_root /root /bin/sh /run/exchange/session.sh
