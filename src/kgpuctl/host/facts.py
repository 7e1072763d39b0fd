"""What is known about a host at one moment: values only, no file is opened here.

A fact is either a value or `Unread` with the reason. `None` and empty tuples mean "looked, and
there is none"; that is never the same as not having been able to look.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from kgpuctl.host.distribution import Distribution
from kgpuctl.unread import Fact, Reason, Unread


class Vendor(StrEnum):
    """Who made the CPU, as far as virtualization differs."""

    INTEL = "Intel"
    AMD = "AMD"
    ARM = "ARM"
    OTHER = "other"


class SourceKind(StrEnum):
    """Where facts come from."""

    LIVE = "live"
    TREE = "tree"
    RECORDING = "recording"


class Source(NamedTuple):
    """Where these facts were read, when (ISO 8601, UTC), and whether by root."""

    kind: SourceKind
    path: str
    time: str
    as_root: bool


class Cpu(NamedTuple):
    """/proc/cpuinfo: the first processor, and how many there are."""

    vendor: Vendor
    model: str
    flags: frozenset[str]
    processors: int


class Firmware(NamedTuple):
    """/sys/class/dmi/id; each empty where the firmware or the recording does not tell."""

    vendor: str = ""
    product: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One entry of a directory: its kind (file, dir, link, char, block, socket, fifo) and mode."""

    kind: str
    mode: int


class KvmProbe(NamedTuple):
    """What /dev/kvm answered; `error` is an errno name of the step that failed (EBUSY, …)."""

    api_version: int | None
    vm_created: bool
    error: str = ""


class Holder(NamedTuple):
    """A process that holds a device file open.

    `kata` is true for a VM of a Kata sandbox whose shim still lives: it is in use, not lost.
    """

    pid: int
    command: str
    path: str
    kata: bool = False


class Bar(NamedTuple):
    """One memory region of a PCI device: number 0-5, size and start in bytes."""

    number: int
    start: int
    size: int
    prefetchable: bool
    assigned: bool


class PciDevice(NamedTuple):
    """One PCI function. `pci_class` is the class code's upper 16 bits (0x0302 = 3D controller)."""

    address: str
    vendor: int
    device: int
    pci_class: int
    driver: Fact[str | None]
    iommu_group: Fact[int | None]
    is_vf: Fact[bool] = False

    @property
    def slot(self) -> str:
        """Return the address without its function: what sits in one slot."""
        return self.address.rpartition(".")[0]

    @property
    def id(self) -> str:
        """Return vendor:device as lspci writes it."""
        return f"{self.vendor:04x}:{self.device:04x}"


class GpuDetails(NamedTuple):
    """What only matters of a device that is to be handed to a VM.

    `bars` in order of their number; `consumers` are the PCI addresses of device links
    (`consumer:pci:…`): the functions that the GPU's power depends on, of which vfio-manager
    binds one; `vfs` is the number of SR-IOV virtual functions that are enabled (None: no SR-IOV).
    """

    bars: Fact[tuple[Bar, ...]]
    vfs: Fact[int | None]
    power_state: Fact[str | None]
    boot_vga: Fact[bool]
    numa_node: Fact[int | None]
    consumers: Fact[tuple[str, ...]]


class IommuGroup(NamedTuple):
    """/sys/kernel/iommu_groups/N and the PCI devices in it."""

    number: int
    reserved: Fact[tuple[str, ...]]  # the types of its reserved regions: direct, msi, …
    members: tuple[str, ...]  # PCI addresses


class Interrupts(NamedTuple):
    """The chips of /proc/interrupts that carry PCI messages or IO-APIC lines."""

    remapped: int
    plain: int


class ModuleIndex(NamedTuple):
    """What /lib/modules/RELEASE offers: names with `_`, as the kernel spells them."""

    loadable: frozenset[str]
    builtin: frozenset[str]


class ModprobeConfig(NamedTuple):
    """What modprobe.d says: blacklisted names, and `install` lines that replace loading."""

    blacklisted: frozenset[str]
    replaced: frozenset[str]


class IoRange(NamedTuple):
    """A line of /proc/iomem: first and last byte, and its name."""

    start: int
    end: int
    name: str


class Import(NamedTuple):
    """An import of containerd's configuration that names one file."""

    path: str
    imported_by: str
    problem: str = ""  # "missing", or why it does not parse


class KataArtifact(NamedTuple):
    """A file that a Kata configuration names (`key`: path, kernel, image, initrd)."""

    key: str
    path: str
    exists: Fact[bool]


class KataHandler(NamedTuple):
    """A runtime of containerd's configuration that runs Kata, and what its ConfigPath names.

    `problem` says why that file cannot be used ("" if it can); then there are no artifacts.
    """

    name: str
    config_path: str
    problem: Fact[str]
    artifacts: tuple[KataArtifact, ...] = ()


class ContainerdConfig(NamedTuple):
    """containerd's configuration with all its imports.

    `problem` says why the file itself cannot be used; then the rest is empty.
    """

    path: str
    exists: bool
    problem: str = ""
    version: int | None = None
    disabled_plugins: tuple[str, ...] = ()
    imports: tuple[Import, ...] = ()
    handlers: tuple[KataHandler, ...] = ()


class Runtime(NamedTuple):
    """The container runtime of a host: its flavour and where that keeps its configuration."""

    flavour: str  # containerd, k3s, RKE2, k0s, microk8s; or cri-o, docker
    supported: bool
    unit: str
    version: Fact[str | None]
    config: Fact[ContainerdConfig]
    state_dir: str


class CdiDevice(NamedTuple):
    """A device of a CDI spec and the device files it adds, with whether each exists."""

    name: str
    nodes: tuple[tuple[str, Fact[bool]], ...]


class CdiSpec(NamedTuple):
    """A CDI spec file; `problem` says why it does not parse."""

    path: str
    kind: str = ""
    devices: tuple[CdiDevice, ...] = ()
    problem: str = ""


class Kubelet(NamedTuple):
    """The kubelet's settings as far as they bear on GPU VMs, merged from `files`."""

    files: tuple[str, ...]
    gates: Mapping[str, bool]
    request_timeout: float | None  # seconds; None: the kubelet's default (2 minutes)
    problem: str = ""


class Memory(NamedTuple):
    """/proc/meminfo in bytes."""

    total: int
    available: int
    hugepages: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A host at one moment. Paths are the host's own, whatever root they were read below."""

    source: Source
    hostname: Fact[str]
    distribution: Fact[Distribution]
    kernel: Fact[str]
    cpu: Fact[Cpu]
    firmware: Firmware
    cmdline: Fact[tuple[str, ...]]
    # kernel modules
    modules: Fact[frozenset[str]]
    module_index: Fact[ModuleIndex]
    modprobe: Fact[ModprobeConfig]
    parameters: Mapping[str, Fact[str | None]]  # "module/parameter"
    # virtualization
    nodes: Mapping[str, Fact[Node | None]]  # device files and other paths looked for
    kvm: Fact[KvmProbe]
    holders: Fact[tuple[Holder, ...]]
    # IOMMU
    acpi_tables: Fact[frozenset[str]]
    smmu: Fact[bool]  # whether the IORT table has an SMMU node
    iommus: Fact[tuple[str, ...]]
    groups: Fact[tuple[IommuGroup, ...]]
    interrupts: Fact[Interrupts]
    io_ranges: Fact[tuple[IoRange, ...]]
    # PCI
    devices: Fact[tuple[PciDevice, ...]]
    details: Mapping[str, GpuDetails] = field(default_factory=dict)
    # Kubernetes
    runtime: Fact[Runtime | None] = None
    cdi: Fact[tuple[CdiSpec, ...]] = ()
    kubelet: Fact[Kubelet | None] = None
    kubelet_version: Fact[str | None] = None
    # room
    memory: Fact[Memory] = field(default=Unread("/proc/meminfo", Reason.NOT_RECORDED))
    space: Mapping[str, Fact[int]] = field(default_factory=dict)  # free bytes below a path
