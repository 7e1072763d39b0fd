"""Whole hosts as root directories: right by default, so that a test names only what is wrong.

`HostTree` is a host as values; its `tree` makes the directory and opens it, `verdict` (or `judge`)
asks every check about it. All of it is synthetic, in the formats of the kernel's documentation.
"""

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

from kgpuctl.checks.check import run
from kgpuctl.checks.host.case import HostCase
from kgpuctl.checks.host.subject import describe
from kgpuctl.checks.host.table import HOST_CHECKS
from kgpuctl.host.facts import HostFacts, Node, Source, SourceKind
from kgpuctl.host.live import answer
from kgpuctl.host.reader import read_host
from kgpuctl.host.recording import Recorder, open_recording
from kgpuctl.host.tree import DirectoryTree, Keep, Tree
from kgpuctl.names import Stack, Tee
from kgpuctl.report import PROBLEMS, Claim, Report, Result, Status
from kgpuctl.unread import Fact

TIME: Final = "2026-01-02T03:04:05+00:00"
GIB: Final = 2**30
MIB: Final = 2**20
KIB: Final = 2**10


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link, as it is written."""

    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory, empty unless something is put into it."""


DIRECTORY: Final = Directory()
Entry = str | bytes | Link | Directory
Files = Mapping[str, Entry]


def write_tree(root: Path, files: Files) -> Path:
    """Make a root directory of these entries, whose paths are the host's own."""
    for path, entry in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        match entry:
            case Directory():
                place.mkdir(exist_ok=True)
            case Link():
                place.symlink_to(entry.target)
            case str():
                place.write_text(entry, encoding="utf-8")
            case _:
                place.write_bytes(entry)
    return root


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """A processor, and what firmware and kernel show of its platform."""

    cpuinfo: str
    flags: tuple[str, ...]
    table: str
    iommus: tuple[str, ...]
    cmdline: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    remapped: tuple[str, ...] = ("IR-IO-APIC    2-edge", "IR-PCI-MSIX-0000:00:1f.2    0-edge")
    plain: tuple[str, ...] = ("IO-APIC    2-edge", "PCI-MSI-0000:00:1f.2    0-edge")


INTEL: Final = Cpu(
    cpuinfo="vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Platinum 8480+\n",
    flags=("fpu", "lm", "vmx", "sse4_1"),
    table="DMAR",
    iommus=("dmar0", "dmar1"),
    cmdline="intel_iommu=on iommu=pt",
    parameters={"kvm_intel/unrestricted_guest": "Y", "kvm_intel/tdx": "N"},
)
AMD: Final = Cpu(
    cpuinfo="vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9654 96-Core Processor\n",
    flags=("fpu", "lm", "svm", "sse4_1"),
    table="IVRS",
    iommus=("ivhd0", "ivhd1"),
    parameters={"kvm_amd/sev": "N", "kvm_amd/sev_es": "N", "kvm_amd/sev_snp": "N"},
)
ARM: Final = Cpu(
    cpuinfo="BogoMIPS\t: 2000.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n",
    flags=("fp", "asimd", "evtstrm"),
    table="IORT",
    iommus=("smmu3.0x0000000011a00000",),
    remapped=("ITS-MSI 16384    0-edge",),
    plain=("ITS-MSI 16384    0-edge",),
)


def iort(*node_types: int) -> bytes:
    """Return an ACPI IORT table with nodes of these types (4: SMMUv3)."""
    nodes = b"".join(bytes([kind]) + (16).to_bytes(2, "little") + bytes(13) for kind in node_types)
    size = 48 + len(nodes)
    header = b"IORT" + size.to_bytes(4, "little") + bytes(28)
    return (
        header
        + len(node_types).to_bytes(4, "little")
        + (48).to_bytes(4, "little")
        + bytes(4)
        + nodes
    )


def release(id_: str, name: str, like: str = "", version: str = "1", *paths: str) -> Files:
    """Return the files that tell a distribution and its boot loader."""
    words = [f"ID={id_}", f'PRETTY_NAME="{name}"', f'VERSION_ID="{version}"']
    text = "\n".join([*words, f'ID_LIKE="{like}"'] if like else words) + "\n"
    return {"/etc/os-release": text} | dict.fromkeys(paths, "")


UBUNTU: Final = release("ubuntu", "Ubuntu 24.04.1 LTS", "debian", "24.04", "/usr/sbin/update-grub")
DEBIAN: Final = release(
    "debian", "Debian GNU/Linux 12 (bookworm)", "", "12", "/usr/sbin/update-grub"
)
PROXMOX: Final = {**DEBIAN, "/etc/kernel/proxmox-boot-uuids": "9A7C-1B2D\n"}
POP: Final = release("pop", "Pop!_OS 22.04 LTS", "ubuntu debian", "22.04", "/usr/bin/kernelstub")
ROCKY: Final = release(
    "rocky", "Rocky Linux 9.5 (Blue Onyx)", "rhel centos fedora", "9.5", "/usr/sbin/grubby"
)
SLES: Final = release(
    "sles", "SUSE Linux Enterprise Server 15 SP6", "suse", "15.6", "/usr/sbin/grub2-mkconfig"
)
SLE_MICRO: Final = release(
    "sle-micro",
    "SUSE Linux Enterprise Micro 6.0",
    "suse",
    "6.0",
    "/usr/sbin/transactional-update",
    "/usr/sbin/grub2-mkconfig",
)
COREOS: Final = {**release("fedora", "Fedora CoreOS 41", "", "41"), "/ostree": DIRECTORY}
FLATCAR: Final = release("flatcar", "Flatcar Container Linux by Kinvolk 4081.2.0", "coreos", "4081")
TALOS: Final = release("talos", "Talos (v1.9.1)", "", "v1.9.1")
BOTTLEROCKET: Final = release("bottlerocket", "Bottlerocket OS 1.30.0 (metal-k8s-1.31)", "")
ARCH: Final = release("arch", "Arch Linux", "", "", "/etc/kernel/cmdline")
NIXOS: Final = release("nixos", "NixOS 24.11 (Vicuna)", "", "24.11")


# include/linux/ioport.h, as `resource` shows it together with the BAR's own low bits.
_MEM: Final = 0x40200
_MEM64: Final = 0x140204
_PREFETCH: Final = 0x14220C
_ROM: Final = 0x46200
_IO: Final = 0x40101
UNSET: Final = 0x20000000


@dataclass(frozen=True, slots=True)
class Region:
    """A line of `resource`: where it starts, how long it is, and the kernel's flags."""

    start: int
    size: int
    flags: int

    def __str__(self) -> str:
        end = self.start + self.size - 1
        return f"0x{self.start:016x} 0x{end:016x} 0x{self.flags:016x}"


NO_REGION: Final = "0x0000000000000000 0x0000000000000000 0x0000000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pci:
    """One PCI function; `pci_class` has all 24 bits of the class code."""

    address: str
    vendor: int
    device: int
    pci_class: int
    driver: str | None = None
    group: int | None = None
    regions: Mapping[int, Region] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    consumers: tuple[str, ...] = ()
    physfn: str | None = None

    @property
    def is_nvidia(self) -> bool:
        """Whether NVIDIA made it."""
        return self.vendor == NVIDIA

    def resource(self) -> str:
        """Return the text of `resource`: six BARs, the ROM, six of SR-IOV and four of bridges."""
        lines = [str(self.regions.get(index, NO_REGION)) for index in range(17)]
        return "\n".join(lines) + "\n"

    def entries(self) -> dict[str, Entry]:
        """Return its directory in /sys, and the links to and from it."""
        place = f"/sys/devices/pci{self.address[:-5]}/{self.address}"
        own: dict[str, Entry] = {
            "vendor": f"0x{self.vendor:04x}\n",
            "device": f"0x{self.device:04x}\n",
            "class": f"0x{self.pci_class:06x}\n",
            "resource": self.resource(),
            "power_state": "D0\n",
            "numa_node": "0\n",
            **self.files,
        }
        for consumer in self.consumers:
            own[f"consumer:pci:{consumer}"] = Link(f"../../../virtual/devlink/pci:{consumer}")
        if self.driver:
            own["driver"] = Link(f"../../../bus/pci/drivers/{self.driver}")
        if self.physfn:
            own["physfn"] = Link(f"../{self.physfn}")
        if self.group is not None:
            own["iommu_group"] = Link(f"../../../kernel/iommu_groups/{self.group}")
        entries: dict[str, Entry] = {f"{place}/{name}": entry for name, entry in own.items()}
        target = f"../../../devices/pci{self.address[:-5]}/{self.address}"
        entries[f"/sys/bus/pci/devices/{self.address}"] = Link(target)
        if self.driver:
            drivers = "/sys/bus/pci/drivers"
            entries[f"{drivers}/{self.driver}/{self.address}"] = Link(f"../{target}")
        if self.group is not None:
            groups = "/sys/kernel/iommu_groups"
            entries[f"{groups}/{self.group}/devices/{self.address}"] = Link(f"../../{target}")
        return entries


NVIDIA: Final = 0x10DE
MELLANOX: Final = 0x15B3
GPU: Final = "0000:65:00.0"
AUDIO: Final = "0000:65:00.1"
USB: Final = "0000:65:00.2"
UCSI: Final = "0000:65:00.3"
NIC: Final = "0000:66:00.0"
A10, A6000, H100, GH200, QUADRO = 0x2236, 0x2230, 0x2330, 0x2342, 0x1E30
VGA: Final = 0x030000


def gpu(address: str = GPU, **changes: object) -> Pci:
    """Return an A10: a 3D controller with its windows assigned, alone in its group, and free."""
    bus = int(address.split(":")[1], 16)
    sound = Pci(
        address=address,
        vendor=NVIDIA,
        device=A10,
        pci_class=0x030200,
        group=bus,
        regions={
            0: Region(0xC0000000 + bus * 16 * MIB, 16 * MIB, _MEM),
            1: Region(0x200000000000 + bus * 64 * GIB, 32 * GIB, _PREFETCH),
            3: Region(0x200800000000 + bus * 64 * GIB, 32 * MIB, _PREFETCH),
        },
        files={"sriov_numvfs": "0\n", "sriov_totalvfs": "32\n"},
    )
    return replace(sound, **changes)  # type: ignore[arg-type]  # a field's name and its value


def vga_gpu(address: str = GPU, **changes: object) -> Pci:
    """Return a workstation card: VGA class, with an expansion ROM and an I/O window."""
    regions = {
        0: Region(0xF4000000, 16 * MIB, _MEM),
        1: Region(0xD0000000, 256 * MIB, _PREFETCH),
        3: Region(0xE0000000, 32 * MIB, _PREFETCH),
        5: Region(0xE000, 128, _IO),
        6: Region(0xF5000000, 512 * KIB, _ROM),
    }
    files = {"boot_vga": "0\n"}
    sound = gpu(address, device=A6000, pci_class=VGA, regions=regions, files=files)
    return replace(sound, **changes)  # type: ignore[arg-type]  # a field's name and its value


def function(
    address: str, device: int, pci_class: int, driver: str | None, **changes: object
) -> Pci:
    """Return any other function, in the group of the default GPU unless told otherwise."""
    sound = Pci(
        address=address,
        vendor=NVIDIA,
        device=device,
        pci_class=pci_class,
        driver=driver,
        group=0x65,
        regions={0: Region(0xF6000000, 16 * KIB, _MEM)},
    )
    return replace(sound, **changes)  # type: ignore[arg-type]  # a field's name and its value


def audio(driver: str | None = "snd_hda_intel", **changes: object) -> Pci:
    """Return the audio function of a workstation card."""
    return function(AUDIO, 0x1AEF, 0x040300, driver, **changes)


def usb(driver: str | None = "xhci_hcd") -> Pci:
    """Return the USB controller of a workstation card."""
    return function(USB, 0x1AD6, 0x0C0330, driver)


def ucsi(driver: str | None = "nvidia-gpu") -> Pci:
    """Return the USB-C controller of a workstation card; its driver is the kernel's own."""
    return function(UCSI, 0x1AD7, 0x0C8000, driver)


def nic(driver: str | None = "mlx5_core", group: int = 0x66) -> Pci:
    """Return a network adapter of another vendor."""
    return function(NIC, 0x101B, 0x020000, driver, vendor=MELLANOX, group=group)


def root_port(address: str = "0000:64:01.0", group: int = 0x64) -> Pci:
    """Return the PCIe port above a slot, with its own driver as on every host."""
    return function(address, 0x347A, 0x060400, "pcieport", vendor=0x8086, group=group)


def isa_bridge(driver: str | None, group: int) -> Pci:
    """Return the bridge to the low pin count bus: a bridge by class, an endpoint to VFIO."""
    return function("0000:00:1f.0", 0x1B81, 0x060100, driver, vendor=0x8086, group=group)


def nvswitch(address: str, driver: str | None = None, group: int | None = None) -> Pci:
    """Return an NVSwitch of an HGX board, in a group of its own unless told otherwise."""
    own = int(address.split(":")[1], 16)
    return function(address, 0x22A3, 0x068000, driver, group=own if group is None else group)


def bmc_display() -> Pci:
    """Return the management controller's display, with which a server boots."""
    return function(
        "0000:03:00.0",
        0x2000,
        VGA,
        "ast",
        vendor=0x1A03,
        group=3,
        files={"boot_vga": "1\n"},
    )


def hgx(driver: str | None = None) -> tuple[Pci, ...]:
    """Return the eight GPUs and four NVSwitches of an HGX H100."""
    boards = [
        gpu(f"0000:{bus:02x}:00.0", device=H100, driver=driver)
        for bus in (0x18, 0x2A, 0x3A, 0x5D, 0x9A, 0xAB, 0xBA, 0xDB)
    ]
    return (*boards, *(nvswitch(f"0000:{bus:02x}:00.0", driver) for bus in range(5, 9)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kube:
    """A host's container runtime and kubelet: their files, and the versions they tell.

    `drop_in` is where an installer adds its handlers: a file that the configuration imports.
    """

    files: Files
    versions: Mapping[str, str]
    version: int
    drop_in: str


_GATES: Final = ("KubeletPodResourcesGet", "RuntimeClassInImageCriApi")


def kubelet_yaml(*gates: str, timeout: str = "20m") -> str:
    """Return a kubelet's configuration with these feature gates open."""
    opened = "".join(f"  {gate}: true\n" for gate in gates)
    return (
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
        "authentication:\n  anonymous:\n    enabled: false\n"
        f"featureGates:\n{opened or '  OtherGate: true'}\n"
        f"runtimeRequestTimeout: {timeout}\n"
    )


KUBELET: Final = kubelet_yaml(*_GATES)
_FLAGS: Final = "feature-gates=KubeletPodResourcesGet=true"
KUBELET_34: Final = "Kubernetes v1.34.2"
KUBELET_FILE: Final = "/var/lib/kubelet/config.yaml"
SOCKET: Final = "/var/lib/kubelet/pod-resources/kubelet.sock"
CONTAINERD: Final = "/etc/containerd/config.toml"
CONTAINERD_PROGRAM: Final = "/usr/bin/containerd"

_PLUGINS: Final = {
    2: "io.containerd.grpc.v1.cri",
    3: "io.containerd.cri.v1.runtime",
    4: "io.containerd.cri.v1.runtime",
}


def config_toml(version: int = 3, imports: Sequence[str] = (), more: str = "") -> str:
    """Return a containerd configuration with runc in it."""
    return (
        f"version = {version}\n"
        f"imports = {list(imports)!r}\n"
        f"{more}\n"
        f"[plugins.'{_PLUGINS[version]}'.containerd.runtimes.runc]\n"
        'runtime_type = "io.containerd.runc.v2"\n'
    )


def containerd(
    version: int = 3,
    *,
    running: str = "v2.1.4",
    imports: Sequence[str] = ("/etc/containerd/conf.d/*.toml",),
    more: str = "",
) -> Kube:
    """Return containerd as kubeadm hosts have it."""
    return Kube(
        files={
            CONTAINERD: config_toml(version, imports, more),
            CONTAINERD_PROGRAM: "",
            "/usr/bin/kubelet": "",
            KUBELET_FILE: KUBELET,
            "/var/lib/kubelet/kubeadm-flags.env": 'KUBELET_KUBEADM_ARGS="--v=2"\n',
            SOCKET: "",
        },
        versions={
            CONTAINERD_PROGRAM: f"containerd github.com/containerd/containerd/v2 {running} 75cb2b7",
            "/usr/bin/kubelet": KUBELET_34,
        },
        version=version,
        drop_in="/etc/containerd/conf.d/kata-deploy.toml",
    )


def containerd_1_7() -> Kube:
    """Return containerd 1.7 with its version 2 configuration."""
    return containerd(2, running="v1.7.24")


def _rancher(name: str, containerd_program: str, kubelet_program: str) -> Kube:
    folder = f"/var/lib/rancher/{name}/agent/etc/containerd"
    return Kube(
        files={
            f"{folder}/config.toml": config_toml(3, [f"{folder}/config-v3.toml.d/*.toml"]),
            containerd_program: "",
            kubelet_program: "",
            f"/etc/rancher/{name}/config.yaml": "token: K10c0ffee\nkubelet-arg:\n"
            f"  - {_FLAGS}\n  - runtime-request-timeout=20m\n",
            SOCKET: "",
        },
        versions={
            containerd_program: "containerd github.com/k3s-io/containerd v2.1.5-k3s1 abc",
            kubelet_program: "k3s version v1.34.2+k3s1 (abc)"
            if name == "k3s"
            else "Kubernetes v1.34.2+rke2r1",
        },
        version=3,
        drop_in=f"{folder}/config-v3.toml.d/kata-deploy.toml",
    )


K3S: Final = _rancher(
    "k3s", "/var/lib/rancher/k3s/data/current/bin/containerd", "/usr/local/bin/k3s"
)
RKE2: Final = _rancher(
    "rke2", "/var/lib/rancher/rke2/bin/containerd", "/var/lib/rancher/rke2/bin/kubelet"
)
K0S: Final = Kube(
    files={
        "/etc/k0s/containerd.toml": 'version = 3\nimports = ["/run/k0s/containerd-cri.toml"]\n',
        "/run/k0s/containerd-cri.toml": config_toml(3, ["/etc/k0s/containerd.d/*.toml"]),
        "/var/lib/k0s/bin/containerd": "",
        "/var/lib/k0s/bin/kubelet": "",
        "/var/lib/k0s/kubelet-config.yaml": KUBELET,
        "/var/lib/k0s/kubelet/pod-resources/kubelet.sock": "",
    },
    versions={
        "/var/lib/k0s/bin/containerd": "containerd github.com/containerd/containerd/v2 v2.1.4 abc",
        "/var/lib/k0s/bin/kubelet": "Kubernetes v1.34.2+k0s",
    },
    version=3,
    drop_in="/etc/k0s/containerd.d/kata-deploy.toml",
)
MICROK8S: Final = Kube(
    files={
        "/var/snap/microk8s/7449/args/containerd.toml": config_toml(
            2, ["/var/snap/microk8s/current/args/containerd.d/*.toml"]
        ),
        "/var/snap/microk8s/7449/args/kubelet": f"# flags\n--{_FLAGS}\n"
        "--runtime-request-timeout=20m0s\n",
        "/var/snap/microk8s/current": Link("7449"),
        "/snap/microk8s/current/bin/containerd": "",
        "/var/snap/microk8s/common/var/lib/kubelet/pod-resources/kubelet.sock": "",
    },
    versions={
        "/snap/microk8s/current/bin/containerd": "containerd github.com/containerd/containerd "
        "v1.7.27 abc",
        "/snap/microk8s/current/kubelite": "Kubernetes v1.34.1",
    },
    version=2,
    drop_in="/var/snap/microk8s/7449/args/containerd.d/kata-deploy.toml",
)

KATA_TOML: Final = "/opt/kata/share/defaults/kata-containers/configuration-qemu-nvidia-gpu.toml"
KATA_KERNEL: Final = "/opt/kata/share/kata-containers/vmlinuz-nvidia-gpu.container"
KATA_FILES: Final[Files] = {
    KATA_TOML: '[hypervisor.qemu]\npath = "/opt/kata/bin/qemu-system-x86_64"\n'
    f'kernel = "{KATA_KERNEL}"\n'
    'image = "/opt/kata/share/kata-containers/kata-containers-nvidia-gpu.img"\ninitrd = ""\n'
    '[agent.kata]\nkernel_modules = []\n[runtime]\nname = "kata"\n',
    "/opt/kata/bin/qemu-system-x86_64": "",
    KATA_KERNEL: "",
    "/opt/kata/share/kata-containers/kata-containers-nvidia-gpu.img": "",
}
COCO_CLASS: Final = "/opt/nvidia-gpu-operator/artifacts/runtimeclasses/kata-qemu-nvidia-gpu"
COCO_TOML: Final = f"{COCO_CLASS}/configuration-kata-qemu-nvidia-gpu.toml"
COCO_QEMU: Final = "/opt/confidential-containers/bin/qemu-system-x86_64"
COCO_CONTAINERD: Final = "/opt/confidential-containers/bin/containerd"
COCO_DROP_IN: Final = "/etc/systemd/system/containerd.service.d/containerd-for-cc-override.conf"
COCO_FILES: Final[Files] = {
    COCO_TOML: f'[hypervisor.qemu]\npath = "{COCO_QEMU}"\n'
    f'kernel = "{COCO_CLASS}/vmlinuz"\ninitrd = "{COCO_CLASS}/initrd"\n',
    f"{COCO_CLASS}/vmlinuz": "",
    f"{COCO_CLASS}/initrd": "",
    COCO_QEMU: "",
    COCO_CONTAINERD: "",
    COCO_DROP_IN: f"[Service]\nExecStart=\nExecStart={COCO_CONTAINERD}\n",
}


def handler(
    version: int, toml: str = KATA_TOML, name: str = "kata-qemu-nvidia-gpu", *, plugin: str = ""
) -> str:
    """Return the tables that give containerd a Kata runtime."""
    place = f"plugins.'{plugin or _PLUGINS[version]}'.containerd.runtimes.{name}"
    return (
        f'[{place}]\nruntime_type = "io.containerd.{name}.v2"\n'
        "privileged_without_host_devices = true\n"
        f'[{place}.options]\nConfigPath = "{toml}"\n'
    )


CDI_KATA: Final = "/run/cdi/nvidia.com-pgpu.yaml"


def cdi_spec(nodes: Mapping[str, str], kind: str = "nvidia.com/pgpu") -> str:
    """Return a CDI spec with a device for each name, and its device node."""
    devices = "".join(
        f'- name: "{name}"\n  containerEdits:\n    deviceNodes:\n    - path: {path}\n'
        for name, path in nodes.items()
    )
    return f"cdiVersion: 0.5.0\nkind: {kind}\ncontainerEdits: {{}}\ndevices:\n{devices}"


Answers = Mapping[str, Fact[str | None]]
_MODULES: Final = ("vfio", "vfio_iommu_type1", "vfio_pci", "vfio_pci_core")
_LOADABLE: Final = (
    "kernel/drivers/vfio/vfio.ko.zst",
    "kernel/drivers/vfio/pci/vfio-pci.ko.zst",
    "kernel/drivers/gpu/drm/nouveau/nouveau.ko.zst",
    "kernel/drivers/vhost/vhost_vsock.ko.zst",
    "kernel/drivers/vhost/vhost_net.ko.zst",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTree:
    """A host before the install, on which nothing is wrong: Ubuntu on Intel with one A10.

    The kernel's command line is the CPU's own words, then `cmdline`, then `quiet`, which keeps
    nouveau away. `table` is the firmware's word for an IOMMU, `groups` the kernel's. `put` adds or
    replaces files; `drop` leaves out paths with all that lies below them. `answers` are laid over
    those of a live host (see `kgpuctl.host.live`). `memory` is in GiB: all, and what is available.
    """

    cpu: Cpu = INTEL
    flags: tuple[str, ...] = ()
    without_flags: tuple[str, ...] = ()
    system: Files = field(default_factory=lambda: UBUNTU)
    kernel: str = "6.8.0-45-generic"
    cmdline: str = ""
    quiet: str = "modprobe.blacklist=nouveau"
    acpi: tuple[str, ...] = ("APIC", "FACP", "MCFG")
    table: bool = True
    remapped: bool = True
    modules: tuple[str, ...] = ("kvm",)
    loadable: tuple[str, ...] = _LOADABLE
    builtin: tuple[str, ...] = ("kernel/net/ipv4/tunnel4.ko", "kernel/drivers/net/tun.ko")
    modprobe: str = "# nothing\n"
    parameters: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[Pci, ...] = field(default_factory=lambda: (gpu(),))
    reserved: Mapping[int, str] = field(default_factory=dict)
    groups: bool = True
    iomem: str = "e0000000-e0ffffff : PCI Bus 0000:03\n"
    nodes: tuple[str, ...] = ("kvm", "vhost-net", "vhost-vsock", "net/tun")
    memory: tuple[int, int] = (512, 480)
    hugepages: int = 0
    kube: Kube = field(default_factory=containerd)
    put: Files = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    answers: Answers = field(default_factory=dict)

    def but(self, **changes: object) -> "HostTree":
        """Return a copy with other values in some fields."""
        return replace(self, **changes)  # type: ignore[arg-type]  # a field's name and its value

    def adding(self, files: Files, *drop: str) -> "HostTree":
        """Return a copy with more files put in, and some left out."""
        return replace(self, put={**self.put, **files}, drop=(*self.drop, *drop))

    def bound(self, driver: str = "vfio-pci") -> "HostTree":
        """Return a copy whose NVIDIA functions are all on vfio-pci, with VFIO's device files."""
        devices = tuple(
            replace(device, driver=driver) if device.is_nvidia else device
            for device in self.devices
        )
        groups = {device.group for device in devices if device.is_nvidia} - {None}
        nodes = (*self.nodes, "vfio/vfio", *(f"vfio/{number}" for number in groups))
        return replace(self, devices=devices, nodes=nodes, modules=(*self.modules, *_MODULES))

    def installed(self, stack: Stack = Stack.KATA_DEPLOY) -> "HostTree":
        """Return a copy on which a stack was installed as it should be."""
        host = self.bound()
        paths = [
            f"/dev/vfio/{device.group}" for device in host.devices if device.pci_class >> 16 == 3
        ]
        spec = cdi_spec({str(index): path for index, path in enumerate(paths)})
        if stack is Stack.KATA_DEPLOY:
            tables = f"version = {self.kube.version}\n" + handler(self.kube.version)
            return host.adding({**KATA_FILES, self.kube.drop_in: tables, CDI_KATA: spec})
        config = config_toml(2) + handler(2, COCO_TOML)
        return host.adding({**COCO_FILES, CONTAINERD: config, CDI_KATA: spec})

    def entries(self) -> dict[str, Entry]:
        """Return everything that lies below the root directory."""
        parts: Iterable[Files] = (
            self.system,
            _SKELETON,
            self._proc(),
            self._kernel_modules(),
            self._firmware(),
            self._groups(),
            *(device.entries() for device in self._seen_devices()),
            dict.fromkeys([f"/dev/{name}" for name in ("null", *self.nodes)], ""),
            self.kube.files,
            self.put,
        )
        entries = dict(chain.from_iterable(part.items() for part in parts))
        return {
            path: entry
            for path, entry in entries.items()
            if not any(path == gone or path.startswith(f"{gone}/") for gone in self.drop)
        }

    def _seen_devices(self) -> tuple[Pci, ...]:
        """Return the devices as the kernel shows them: without an IOMMU there is no group."""
        if self.groups:
            return self.devices
        return tuple(replace(device, group=None) for device in self.devices)

    def _proc(self) -> Files:
        flags = [flag for flag in (*self.cpu.flags, *self.flags) if flag not in self.without_flags]
        key = "Features" if self.cpu is ARM else "flags"
        cpus = "".join(
            f"processor\t: {number}\n{self.cpu.cpuinfo}{key}\t\t: {' '.join(flags)}\n\n"
            for number in range(2)
        )
        chips = self.cpu.remapped if self.remapped else self.cpu.plain
        lines = [f"{number:4}:        12          0  {chip}" for number, chip in enumerate(chips)]
        total, available = (size * GIB // KIB for size in self.memory)
        words = " ".join(filter(None, (self.cpu.cmdline, self.cmdline, self.quiet)))
        return {
            "/proc/cpuinfo": cpus,
            "/proc/cmdline": f"BOOT_IMAGE=/vmlinuz-{self.kernel} root=UUID=6d1e ro {words}\n",
            "/proc/interrupts": "           CPU0       CPU1\n" + "\n".join(lines) + "\n",
            "/proc/iomem": f"00001000-0009ffff : System RAM\n{self.iomem}",
            "/proc/meminfo": f"MemTotal:    {total} kB\nMemFree:   1 kB\n"
            f"MemAvailable: {available} kB\nHugePages_Total: {self.hugepages}\n"
            "Hugepagesize: 1048576 kB\n",
            "/proc/modules": "".join(
                f"{name} 16384 0 - Live 0x0000000000000000\n" for name in self.modules
            ),
            "/proc/sys/kernel/osrelease": f"{self.kernel}\n",
            "/proc/sys/kernel/hostname": "gpu-1\n",
        }

    def _kernel_modules(self) -> Files:
        folder = f"/usr/lib/modules/{self.kernel}"
        parameters = {**self.cpu.parameters, **self.parameters}
        return {
            f"{folder}/modules.dep": "".join(f"{path}:\n" for path in self.loadable),
            f"{folder}/modules.builtin": "".join(f"{path}\n" for path in self.builtin),
            "/etc/modprobe.d/local.conf": self.modprobe,
            **{f"/sys/module/{name}/initstate": "live\n" for name in self.modules},
            **{
                f"/sys/module/{name.replace('/', '/parameters/')}": f"{value}\n"
                for name, value in parameters.items()
            },
        }

    def _firmware(self) -> Files:
        names = (*self.acpi, self.cpu.table) if self.table else self.acpi
        files: dict[str, Entry] = {f"/sys/firmware/acpi/tables/{name}": "" for name in names}
        if "IORT" in names:
            files["/sys/firmware/acpi/tables/IORT"] = iort(2, 0, 4)
        iommus = self.cpu.iommus if self.groups else ()
        return {
            **files,
            "/sys/class/dmi/id/sys_vendor": "Supermicro\n",
            "/sys/class/dmi/id/product_name": "SYS-421GE-TNRT\n",
            "/sys/class/iommu": DIRECTORY,
            **{f"/sys/class/iommu/{name}": DIRECTORY for name in iommus},
        }

    def _groups(self) -> Files:
        numbers = {device.group for device in self._seen_devices()} - {None}
        files: dict[str, Entry] = {"/sys/kernel/iommu_groups": DIRECTORY}
        for number in numbers:
            folder = f"/sys/kernel/iommu_groups/{number}"
            files[f"{folder}/type"] = "identity\n"
            kinds = ["msi", *(kind for group, kind in self.reserved.items() if group == number)]
            files[f"{folder}/reserved_regions"] = "".join(
                f"0x00000000fee00000 0x00000000feefffff {kind}\n" for kind in kinds
            )
        return files

    def live_answers(self) -> Answers:
        """Return what the host answers while it runs."""
        return {
            "root": "yes",
            "kvm": "api=12 vm=yes error=",
            "holders": "complete",
            "space /opt": str(200 * GIB),
            "space /var": str(200 * GIB),
            **{f"version {path}": text for path, text in self.kube.versions.items()},
            **self.answers,
        }

    def write(self, folder: Path) -> Path:
        """Make the root directory."""
        return write_tree(folder, self.entries())

    def tree(self, folder: Path) -> "AnsweringTree":
        """Make the root directory and open it as a host that runs."""
        return AnsweringTree(open_tree(self.write(folder)), self.live_answers())

    def facts(self, folder: Path, *devices: str) -> HostFacts:
        """Make the root directory and read it."""
        return read_facts(self.tree(folder), *devices)


_SKELETON: Final[Files] = {
    "/usr/bin": DIRECTORY,
    "/usr/lib/modules": DIRECTORY,
    "/lib": Link("usr/lib"),
    "/opt": DIRECTORY,
    "/run": DIRECTORY,
    "/var/lib": DIRECTORY,
    "/var/run": Link("../run"),
    "/sys/bus/pci/devices": DIRECTORY,
    "/sys/bus/pci/drivers/pcieport": DIRECTORY,
    "/sys/module": DIRECTORY,
}


@dataclass(frozen=True, slots=True)
class AnsweringTree:
    """A directory that answers live questions too; what it is not told of is not there."""

    tree: Tree
    answers: Answers

    def read(self, path: str, keep: Keep | None = None) -> Fact[bytes | None]:
        """Return the content of a regular file."""
        return self.tree.read(path, keep)

    def names(self, path: str) -> Fact[tuple[str, ...] | None]:
        """Return the sorted names in a directory."""
        return self.tree.names(path)

    def link(self, path: str) -> Fact[str | None]:
        """Return where a symbolic link points."""
        return self.tree.link(path)

    def node(self, path: str) -> Fact[Node | None]:
        """Return what is at `path`."""
        return self.tree.node(path)

    def ask(self, question: str) -> Fact[str | None]:
        """Return the answer that was prepared."""
        return self.answers.get(question)


def open_tree(root: Path) -> DirectoryTree:
    """Open a root directory as `--root` does."""
    return DirectoryTree.open(str(root), answer)


def read_facts(tree: Tree, *devices: str, kind: SourceKind = SourceKind.TREE) -> HostFacts:
    """Read a host as preflight does."""
    source = Source(kind, "/host", TIME, as_root=tree.ask("root") == "yes")
    return read_host(tree, source, devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aims:
    """What a host is judged for."""

    stack: Stack = Stack.KATA_DEPLOY
    confidential: Tee | None = None
    after_install: bool = False
    devices: tuple[str, ...] = ()


BEFORE: Final = Aims()
AFTER: Final = Aims(after_install=True)
COCO_BEFORE: Final = Aims(stack=Stack.COCO_OPERATOR)
COCO_AFTER: Final = Aims(stack=Stack.COCO_OPERATOR, after_install=True)


def case_of(tree: Tree, aims: Aims = BEFORE) -> HostCase:
    """Read a host for an aim."""
    facts = read_facts(tree, *aims.devices)
    return HostCase(facts, aims.stack, aims.confidential, aims.after_install, aims.devices)


def judge(tree: Tree, aims: Aims = BEFORE) -> dict[tuple[str, str], Result]:
    """Ask a host every check; results by check id and subject."""
    return {(item.id, item.subject): item for item in verdict(tree, aims).results}


_WORST: Final = (Status.WARNED, Status.UNKNOWN, Status.FAILED)


def problems(results: Iterable[Result]) -> dict[str, str]:
    """Return the worst status of every check that has a problem."""
    found: dict[str, Status] = {}
    for result in results:
        if result.status in PROBLEMS:
            before = found.get(result.id, result.status)
            found[result.id] = max(before, result.status, key=_WORST.index)
    return {id_: status.value for id_, status in found.items()}


def recording(tree: Tree, aims: Aims = BEFORE) -> bytes:
    """Return the recording of a host."""
    recorder = Recorder(tree)
    case_of(recorder, aims)
    return recorder.pack(TIME)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What preflight makes of a host; `silent` are results that leave out why or what to do."""

    problems: Mapping[str, str]
    exit_code: int
    silent: tuple[str, ...]
    results: tuple[Result, ...]

    def remedy(self, id_: str) -> str:
        """Return the remedy of a check's first problem."""
        found = next(item for item in self.results if item.id == id_ and item.is_problem)
        return found.remedy.text if found.remedy else ""

    def message(self, id_: str, subject: str = "") -> str:
        """Return what a check said of one subject."""
        return next(
            item.message for item in self.results if (item.id, item.subject) == (id_, subject)
        )

    def status(self, id_: str, subject: str = "") -> str:
        """Return how a check ended for one subject."""
        return next(
            item.status.value for item in self.results if (item.id, item.subject) == (id_, subject)
        )


def verdict(tree: Tree, aims: Aims = BEFORE) -> Verdict:
    """Judge a host and sum it up."""
    case = case_of(tree, aims)
    results = run(HOST_CHECKS, case)
    subjects = {(item.id, item.subject) for item in results}
    assert len(subjects) == len(results), "a check said two things of one subject"
    report = Report("preflight", Claim("", "", ""), describe(case), results)
    silent = tuple(item.id for item in results if _is_silent(item))
    return Verdict(problems(results), report.exit_code, silent, results)


def _is_silent(result: Result) -> bool:
    if result.status is Status.SKIPPED:
        return not result.message
    return result.is_problem and not (result.message and result.remedy and result.remedy.text)


def replayed(tree: Tree, folder: Path, aims: Aims = BEFORE) -> Verdict:
    """Record a host into a file, and judge that file."""
    file = folder / "recording.tar.gz"
    file.write_bytes(recording(tree, aims))
    return verdict(open_recording(str(file)), aims)


def kernel_config(*builtin: str) -> bytes:
    """Return a /proc/config.gz in which these options are built in."""
    lines = [f"CONFIG_FILLER_{number}=y" for number in range(200)]
    return gzip.compress("\n".join([*lines, *(f"{name}=y" for name in builtin)]).encode() + b"\n")
