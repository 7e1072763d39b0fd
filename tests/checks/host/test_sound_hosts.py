"""Hosts on which nothing is wrong: preflight must not cry wolf, on any distribution."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from _pytest.mark import ParameterSet

from builders import (
    A6000,
    AFTER,
    AMD,
    ARCH,
    BEFORE,
    BOTTLEROCKET,
    CDI_KATA,
    COCO_AFTER,
    COCO_BEFORE,
    COREOS,
    DEBIAN,
    DIRECTORY,
    FLATCAR,
    GPU,
    INTEL,
    K0S,
    K3S,
    KUBELET,
    KUBELET_FILE,
    MICROK8S,
    NIXOS,
    POP,
    PROXMOX,
    RKE2,
    ROCKY,
    SLE_MICRO,
    SLES,
    TALOS,
    UBUNTU,
    Aims,
    HostTree,
    Region,
    audio,
    bmc_display,
    cdi_spec,
    containerd,
    containerd_1_7,
    function,
    gpu,
    handler,
    hgx,
    kernel_config,
    nic,
    open_tree,
    replayed,
    root_port,
    usb,
    verdict,
    vga_gpu,
)
from kgpuctl.names import Stack, Tee

COCO: Final = Stack.COCO_OPERATOR
NO_GATE: Final = KUBELET.replace("  KubeletPodResourcesGet: true\n", "")
DROP_IN: Final = HostTree().kube.drop_in
SNP: Final = {"kvm_amd/sev": "Y", "kvm_amd/sev_es": "Y", "kvm_amd/sev_snp": "Y"}
CONSUMER: Final = ("0000:65:00.1",)
WORKSTATION: Final = (vga_gpu(consumers=CONSUMER), audio())
MANY: Final = tuple(
    function(
        f"0000:{0x80 + number // 8:02x}:{number % 8:02x}.0",
        0x1592,
        0x020000,
        "ice",
        vendor=0x8086,
        group=0x80 + number,
    )
    for number in range(255)
)


def sound(id_: str, host: HostTree, aims: Aims = BEFORE) -> ParameterSet:
    return pytest.param(host, aims, id=id_)


DISTRIBUTIONS: Final = [
    sound("Intel Ubuntu", HostTree(system=UBUNTU)),
    sound("AMD Ubuntu", HostTree(system=UBUNTU, cpu=AMD)),
    sound("Intel Debian", HostTree(system=DEBIAN)),
    sound("AMD Rocky", HostTree(system=ROCKY, cpu=AMD)),
    sound("Intel SLES", HostTree(system=SLES)),
    sound("AMD SLE Micro", HostTree(system=SLE_MICRO, cpu=AMD)),
    sound("Intel Fedora CoreOS", HostTree(system=COREOS)),
    sound("AMD Flatcar", HostTree(system=FLATCAR, cpu=AMD)),
    sound("Intel Bottlerocket", HostTree(system=BOTTLEROCKET)),
    sound("AMD Proxmox", HostTree(system=PROXMOX, cpu=AMD)),
    sound("Intel Pop!_OS", HostTree(system=POP)),
    sound("Intel Arch", HostTree(system=ARCH)),
    sound("AMD NixOS", HostTree(system=NIXOS, cpu=AMD)),
    sound(
        "Talos, whose kernel has everything built in",
        HostTree(
            system=TALOS, loadable=(), builtin=(), modules=(), nodes=("kvm",), quiet=""
        ).adding(
            {
                "/proc/config.gz": kernel_config(
                    "CONFIG_VFIO_PCI", "CONFIG_VHOST_NET", "CONFIG_VHOST_VSOCK", "CONFIG_TUN"
                ),
                "/usr/lib/modules": DIRECTORY,
            },
            "/usr/lib/modules/6.8.0-45-generic",
        ),
    ),
]
KUBERNETES: Final = [
    sound("k3s", HostTree(kube=K3S)),
    sound("k3s on AMD after the install", HostTree(kube=K3S, cpu=AMD).installed(), AFTER),
    sound("RKE2", HostTree(kube=RKE2)),
    sound("RKE2 after the install", HostTree(kube=RKE2).installed(), AFTER),
    sound("k0s", HostTree(kube=K0S)),
    sound("k0s after the install", HostTree(kube=K0S).installed(), AFTER),
    sound("microk8s", HostTree(kube=MICROK8S)),
    sound("microk8s after the install", HostTree(kube=MICROK8S).installed(), AFTER),
    sound("after the install", HostTree().installed(), AFTER),
    sound("containerd 1.7 after the install", HostTree(kube=containerd_1_7()).installed(), AFTER),
    sound("before the coco-operator", HostTree(kube=containerd_1_7()), COCO_BEFORE),
    sound("after the coco-operator", HostTree(kube=containerd_1_7()).installed(COCO), COCO_AFTER),
    sound(
        "AMD after the coco-operator",
        HostTree(cpu=AMD, kube=containerd_1_7()).installed(COCO),
        COCO_AFTER,
    ),
    sound(
        "containerd 2.3 with a version 4 configuration",
        HostTree(kube=containerd(4, running="v2.3.0")),
    ),
    sound(
        "containerd's defaults without a file",
        HostTree().but(drop=("/etc/containerd",)),
    ),
    sound(
        "a kubelet 1.33 with the gate open",
        HostTree(answers={"version /usr/bin/kubelet": "Kubernetes v1.33.1"}),
    ),
    sound("a kubelet 1.34 without the gate", HostTree(put={KUBELET_FILE: NO_GATE})),
    sound(
        "a kubelet told by flags",
        HostTree(
            put={
                KUBELET_FILE: "kind: KubeletConfiguration\n",
                "/var/lib/kubelet/kubeadm-flags.env": 'KUBELET_KUBEADM_ARGS="--runtime-request-'
                'timeout=15m --feature-gates=KubeletPodResourcesGet=true,Other=false"\n',
            }
        ),
    ),
]
DEVICES: Final = [
    sound("a VGA card whose audio goes along", HostTree(devices=WORKSTATION)),
    sound(
        "NVSwitches with a spec of their own",
        HostTree(devices=hgx())
        .installed()
        .adding({"/run/cdi/nvswitch.yaml": cdi_spec({"0": "/dev/vfio/5"}, "nvidia.com/nvswitch")}),
        AFTER,
    ),
    sound(
        "a spec that also names VFIO's own device",
        HostTree()
        .installed()
        .adding({"/run/cdi/more.yaml": cdi_spec({"vfio": "/dev/vfio/vfio"}, "nvidia.com/any")}),
        AFTER,
    ),
    sound(
        "a VGA card after the install",
        HostTree(devices=WORKSTATION).installed(),
        AFTER,
    ),
    sound(
        "a VGA card with audio, for the stack that binds every function",
        HostTree(devices=(vga_gpu(), audio(), usb()), kube=containerd_1_7()),
        COCO_BEFORE,
    ),
    sound("siblings without a driver", HostTree(devices=(vga_gpu(), audio(None), usb(None)))),
    sound("a sibling on pci-stub", HostTree(devices=(vga_gpu(), audio("pci-stub")))),
    sound("a port with pcieport in the group", HostTree(devices=(root_port(group=0x65), gpu()))),
    sound("a port of its own group", HostTree(devices=(root_port(), gpu()))),
    sound("a card that was bound before the install", HostTree().bound()),
    sound("a network adapter beside it", HostTree(devices=(gpu(), nic(), bmc_display()))),
    sound("two cards of one model", HostTree(devices=(gpu(), gpu("0000:ca:00.0")))),
    sound(
        "two models for the stack that names each",
        HostTree(devices=(gpu(), gpu("0000:ca:00.0", device=A6000)), kube=containerd_1_7()),
        COCO_BEFORE,
    ),
    sound(
        "a card behind an Intel VMD, in a domain of its own",
        HostTree(devices=(gpu("10000:65:00.0"),)),
    ),
    sound("256 functions", HostTree(devices=(gpu(), *MANY))),
    sound("a card without SR-IOV", HostTree(devices=(gpu(files={}),))),
    sound("a card in D3hot", HostTree(devices=(gpu(files={"power_state": "D3hot\n"}),))),
    sound(
        "a card that no driver has enabled yet",
        HostTree(devices=(gpu(files={"power_state": "unknown\n"}),)),
    ),
    sound(
        "a kernel that does not show the power state",
        HostTree(drop=(f"/sys/devices/pci0000:65/{GPU}/power_state",)),
    ),
    sound("a named device", HostTree(devices=(nic(None),)), Aims(devices=("0000:66:00.0",))),
    sound(
        "a framebuffer in another card's memory",
        HostTree(devices=(vga_gpu(), bmc_display()), iomem="a1000000-a17fffff : BOOTFB\n"),
    ),
    sound(
        "an expansion ROM without an address",
        HostTree(
            devices=(vga_gpu(regions={**vga_gpu().regions, 6: Region(0, 512 * 1024, 0x20046200)}),)
        ),
    ),
    sound(
        "a region that the kernel may give away",
        HostTree(reserved={0x65: "direct-relaxable"}),
    ),
    sound(
        "a reserved region of another device",
        HostTree(devices=(gpu(), bmc_display()), reserved={3: "direct"}),
    ),
    sound(
        "NVIDIA's network card, which is none of its GPUs",
        HostTree(
            devices=(gpu(), function("0000:70:00.0", 0x0269, 0x020000, "forcedeth", group=0x70))
        ),
    ),
]
KERNELS: Final = [
    sound("the last intel_iommu counts", HostTree(cmdline="intel_iommu=off intel_iommu=on")),
    sound("no argument where the kernel needs none", HostTree(cpu=AMD, cmdline="amd_iommu=on")),
    sound("Intel's IOMMU on by itself", HostTree(cpu=replace(INTEL, cmdline=""))),
    sound(
        "Hygon, which is AMD's", HostTree(cpu=replace(AMD, cpuinfo="vendor_id\t: HygonGenuine\n"))
    ),
    sound("nouveau told to do nothing", HostTree(quiet="nouveau.modeset=0")),
    sound(
        "a built-in nouveau told to do nothing",
        HostTree(quiet="nouveau.modeset=0", builtin=("kernel/drivers/gpu/drm/nouveau/nouveau.ko",)),
    ),
    sound(
        "a CPU of another vendor",
        HostTree(cpu=replace(INTEL, cpuinfo="vendor_id\t: CentaurHauls\n")),
    ),
    sound("another vendor's argument", HostTree(cpu=AMD, cmdline="intel_iommu=off")),
    sound("an argument that only begins alike", HostTree(cmdline="iommu=nopt intremap=nosid")),
    sound("modules that can be loaded", HostTree(nodes=("kvm", "net/tun"))),
    sound(
        "modules that are built in",
        HostTree(
            nodes=("kvm", "net/tun"),
            loadable=("kernel/fs/xfs/xfs.ko",),
            builtin=(
                "kernel/drivers/vhost/vhost_vsock.ko",
                "kernel/drivers/vhost/vhost_net.ko",
                "kernel/drivers/vfio/pci/vfio-pci.ko",
            ),
        ),
    ),
    sound("an alias that is off", HostTree(modprobe="blacklist vfio-pci\n")),
    sound(
        "a module that other things are done before",
        HostTree(modprobe="install vfio-pci /sbin/modprobe -i vfio-pci; echo bound\n"),
    ),
    sound("nouveau blacklisted in modprobe.d", HostTree(quiet="", modprobe="blacklist nouveau\n")),
    sound(
        "nouveau blacklisted by the distribution",
        HostTree(quiet="", put={"/usr/lib/modprobe.d/nvidia.conf": "blacklist nouveau\n"}),
    ),
    sound(
        "nouveau blacklisted on a line that goes on",
        HostTree(quiet="", modprobe="blacklist \\\n  nouveau\n"),
    ),
    sound(
        "nouveau blacklisted by the initramfs for the whole boot",
        HostTree(
            quiet="rd.driver.blacklist=nouveau",
            put={"/run/modprobe.d/initramfsblacklist.conf": "blacklist nouveau\n"},
        ),
    ),
    sound("nouveau replaced", HostTree(quiet="", modprobe="install nouveau /bin/false\n")),
    sound("nouveau blacklisted among others", HostTree(quiet="module_blacklist=nova_core,nouveau")),
    sound("a kernel without nouveau", HostTree(quiet="", loadable=HostTree().loadable[:2])),
    sound(
        "VFIO through iommufd",
        HostTree()
        .installed()
        .but(nodes=(*HostTree().nodes, "iommu", "vfio/devices/vfio0"))
        .adding({CDI_KATA: cdi_spec({"0": "/dev/vfio/devices/vfio0"})}),
        AFTER,
    ),
    sound(
        "modules whose names only begin like NVIDIA's",
        HostTree(modules=("kvm", "nvidia_wmi_ec_backlight", "i2c_nvidia_gpu")),
    ),
    sound(
        "a Kata VM at work", HostTree(answers={"holders": "complete\n9\tqemu\t/dev/vfio/1\tkata"})
    ),
]
CONFIDENTIAL: Final = [
    sound(
        "SNP",
        HostTree(cpu=AMD, parameters=SNP, kernel="6.17.0-5-generic").but(
            nodes=(*HostTree().nodes, "sev")
        ),
        Aims(confidential=Tee.SNP),
    ),
    sound(
        "SNP after the install",
        HostTree(cpu=AMD, parameters=SNP, kernel="6.17.0-5-generic")
        .installed()
        .but(nodes=(*HostTree().bound().nodes, "sev"))
        .adding({DROP_IN: "version = 3\n" + handler(3, name="kata-qemu-nvidia-gpu-snp")}),
        Aims(confidential=Tee.SNP, after_install=True),
    ),
    sound(
        "TDX",
        HostTree(parameters={"kvm_intel/tdx": "Y"}, kernel="6.17.0-5-generic"),
        Aims(confidential=Tee.TDX),
    ),
]
SOUND: Final = [*DISTRIBUTIONS, *KUBERNETES, *DEVICES, *KERNELS, *CONFIDENTIAL]


@pytest.mark.parametrize(("host", "aims"), SOUND)
def test_a_sound_host_has_no_problem_however_it_is_read(
    host: HostTree, aims: Aims, tmp_path: Path
) -> None:
    tree = host.tree(tmp_path / "root")
    live = verdict(tree, aims)
    bare = verdict(open_tree(tmp_path / "root"), aims)

    assert live.problems == {}
    assert live.exit_code == 0
    assert live.silent == ()
    assert bare.problems == {}
    assert bare.silent == ()
    assert replayed(tree, tmp_path, aims).results == live.results


def test_what_passed_was_seen(tmp_path: Path) -> None:
    judged = verdict(HostTree().installed().tree(tmp_path), AFTER)
    passed = {item.id for item in judged.results if item.status == "passed"}
    skipped = {item.id for item in judged.results if item.status == "skipped"}

    assert skipped == {
        "gpu.nvswitch",
        "gpu.uniform",
        "kubelet.image-gate",
        "leftovers.config-backup",
        "tee.kernel",
        "tee.sev-device",
        "tee.snp",
        "tee.tdx",
    }
    assert not passed & skipped
