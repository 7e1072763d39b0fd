#!/bin/sh
# Make a directory that looks like a GPU node to `kgpuctl preflight --root DIR`.
#
# It is made up: an Intel server with one NVIDIA A10, Ubuntu and containerd. Nothing is installed
# and nothing outside of DIR is touched. Two things are wrong on purpose; the tutorial finds them.
set -eu

dir=${1:?usage: example-host.sh DIR}
if [ -e "$dir" ]; then
    echo "example-host.sh: $dir exists already" >&2
    exit 1
fi

# put PATH TEXT...: write a file with a line for each TEXT.
put() {
    path=$dir$1
    shift
    mkdir -p "$(dirname "$path")"
    printf '%s\n' "$@" >"$path"
}

# link PATH TARGET: make a symbolic link.
link() {
    mkdir -p "$(dirname "$dir$1")"
    ln -s "$2" "$dir$1"
}

release=6.8.0-90-generic

put /etc/os-release 'ID=ubuntu' 'ID_LIKE=debian' 'VERSION_ID="24.04"' 'PRETTY_NAME="Ubuntu 24.04.3 LTS"'
put /proc/sys/kernel/osrelease "$release"
put /proc/sys/kernel/hostname gpu-1
put /proc/cmdline "BOOT_IMAGE=/boot/vmlinuz-$release root=/dev/sda2 ro intel_iommu=on"
put /proc/cpuinfo 'processor : 0' 'vendor_id : GenuineIntel' \
    'model name : Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz' 'flags : fpu lm vmx sse4_1'
put /proc/meminfo 'MemTotal: 263856128 kB' 'MemAvailable: 251658240 kB' \
    'HugePages_Total: 0' 'Hugepagesize: 2048 kB'
put /proc/interrupts '           CPU0' \
    '  1:        9  IR-IO-APIC    1-edge      i8042' \
    ' 24:      310  IR-PCI-MSI-0000:64:00.0    0-edge      aerdrv'
put /proc/iomem '00001000-0009ffff : System RAM' '00100000-7fffffff : System RAM'
put /proc/modules 'nouveau 2985984 0 - Live 0x0000000000000000' \
    'kvm_intel 479232 0 - Live 0x0000000000000000'

put /sys/class/dmi/id/sys_vendor 'Example Inc.'
put /sys/class/dmi/id/product_name 'Model 2U'
put /sys/firmware/acpi/tables/DMAR ''
put /sys/class/iommu/dmar0/intel-iommu/version '1:0'
put /sys/module/kvm_intel/parameters/unrestricted_guest Y
put /sys/module/nouveau/initstate live

# pci ADDRESS VENDOR DEVICE CLASS DRIVER GROUP: a PCI function, its driver and its IOMMU group.
pci() {
    pci=/sys/bus/pci/devices/$1
    put "$pci/vendor" "0x$2"
    put "$pci/device" "0x$3"
    put "$pci/class" "0x$4"
    link "$pci/driver" "../../drivers/$5"
    link "$pci/iommu_group" "../../../../kernel/iommu_groups/$6"
    link "/sys/kernel/iommu_groups/$6/devices/$1" "../../../../bus/pci/devices/$1"
    put "/sys/kernel/iommu_groups/$6/reserved_regions" \
        '0x00000000fee00000 0x00000000feefffff msi'
    mkdir -p "$dir/sys/bus/pci/drivers/$5"
}

none='0x0000000000000000 0x0000000000000000 0x0000000000000000'
pci 0000:64:00.0 8086 347a 060400 pcieport 41
pci 0000:65:00.0 10de 2236 030200 nouveau 42
put /sys/bus/pci/devices/0000:65:00.0/resource \
    '0x00000000e0000000 0x00000000e0ffffff 0x0000000000040200' \
    '0x0000202000000000 0x00002027ffffffff 0x000000000014220c' "$none" \
    '0x0000202800000000 0x0000202801ffffff 0x000000000014220c' "$none" "$none" "$none"
put /sys/bus/pci/devices/0000:65:00.0/power_state D0
put /sys/bus/pci/devices/0000:65:00.0/numa_node 0

for device in null kvm vhost-vsock vhost-net net/tun; do
    put "/dev/$device" ''
done
put "/lib/modules/$release/modules.dep" \
    'kernel/drivers/vfio/pci/vfio-pci.ko.zst: kernel/drivers/vfio/vfio.ko.zst' \
    'kernel/drivers/gpu/drm/nouveau/nouveau.ko.zst:'
put "/lib/modules/$release/modules.builtin" 'kernel/fs/ext4/ext4.ko'
put /etc/modprobe.d/blacklist.conf '# See modprobe.d(5).' 'blacklist pcspkr'
put /usr/sbin/update-grub ''
put /etc/default/grub 'GRUB_DEFAULT=0' 'GRUB_CMDLINE_LINUX_DEFAULT="intel_iommu=on"'

put /usr/bin/containerd ''
put /etc/containerd/config.toml 'version = 3'
put /var/lib/kubelet/config.yaml 'kind: KubeletConfiguration' 'featureGates:' \
    '  KubeletPodResourcesGet: true'
put /var/lib/kubelet/pod-resources/kubelet.sock ''
mkdir -p "$dir/opt" "$dir/run"
