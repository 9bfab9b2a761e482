#!/bin/busybox sh
# The first program of the stock guest: mounts, says that it is there, gives a shell, and powers off after it.
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ PS1='guest# '
# Devices that the platform describes and the kernel has no driver for.
undriven() { [ -e "$1" ] && [ ! -e "$1/driver" ]; }
for device in /sys/bus/platform/devices/*.virtio_mmio; do
    undriven "$device" && insmod /modules/virtio_mmio.ko && insmod /modules/virtio_blk.ko
done
undriven /sys/bus/platform/devices/smccc_trng && insmod /modules/arm_smccc_trng.ko
echo "bulkhead-guest: ready"
# A session of its own on the real console device: that is what job control and Ctrl-C need.
setsid cttyhack sh
sync
poweroff -f
