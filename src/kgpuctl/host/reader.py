"""Make HostFacts of a Tree: the one place that knows which files a host is judged by."""

import re
from collections.abc import Callable, Collection
from typing import Final, TypeVar

from kgpuctl.host.cdi import read_cdi
from kgpuctl.host.containerd import read_runtime
from kgpuctl.host.distribution import BOOT_PATHS, UNKNOWN, Distribution, recognise
from kgpuctl.host.facts import Firmware, GpuDetails, HostFacts, IoRange, Runtime, Source
from kgpuctl.host.iommu import read_acpi_tables, read_groups, read_iommus, read_smmu
from kgpuctl.host.kubelet import read_kubelet, read_kubelet_version
from kgpuctl.host.live import read_holders, read_kvm, read_space
from kgpuctl.host.modules import read_modprobe, read_module_index, read_modules
from kgpuctl.host.pci import read_details, read_devices
from kgpuctl.host.procfs import (
    parse_cmdline,
    parse_cpuinfo,
    parse_interrupts,
    parse_iomem,
    parse_meminfo,
    render_cmdline,
)
from kgpuctl.host.text import always, keeping, read_parsed, read_text
from kgpuctl.host.tree import Tree
from kgpuctl.names import (
    ARTIFACTS_DIR,
    COCO_DIR,
    COCO_DROP_IN,
    KATA_DIR,
    OPERATOR_DRIVER,
    POD_RESOURCES,
)
from kgpuctl.unread import Fact, Reason, Unread

T = TypeVar("T")

PARAMETERS: Final = (
    "kvm_amd/sev",
    "kvm_amd/sev_es",
    "kvm_amd/sev_snp",
    "kvm_intel/tdx",
    "kvm_intel/unrestricted_guest",
    "vfio/enable_unsafe_noiommu_mode",
    "vfio_iommu_type1/allow_unsafe_interrupts",
)
PATHS: Final = (
    "/dev/iommu",
    "/dev/kvm",
    "/dev/mshv",
    "/dev/net/tun",
    "/dev/sev",
    "/dev/vfio/devices",
    "/dev/vfio/vfio",
    "/dev/vhost-net",
    "/dev/vhost-vsock",
    "/etc/containerd/config.toml.bak",
    "/proc/driver/nvidia/version",
    "/sys/firmware/devicetree/base",
    "/usr/bin/nvidia-smi",
    OPERATOR_DRIVER,
    ARTIFACTS_DIR,
    COCO_DIR,
    COCO_DROP_IN,
    KATA_DIR,
    *POD_RESOURCES,
)


def read_host(tree: Tree, source: Source, devices: Collection[str] = ()) -> HostFacts:
    """Read everything that the checks look at; `devices` are judged as if they were GPUs."""
    kernel = _line(tree, "/proc/sys/kernel/osrelease", r"[\w.+~-]{1,128}")
    found = read_devices(tree)
    details: dict[str, GpuDetails] = {}
    if isinstance(found, tuple):
        found, details = read_details(tree, found, devices)
    runtime = read_runtime(tree)
    return HostFacts(
        source=source,
        hostname=_line(tree, "/proc/sys/kernel/hostname", r"[\w.-]{1,253}"),
        distribution=read_distribution(tree),
        kernel=kernel,
        cpu=_required(tree, "/proc/cpuinfo", parse_cpuinfo),
        firmware=_read_firmware(tree),
        cmdline=always(
            read_parsed(tree, "/proc/cmdline", parse_cmdline, keeping(render_cmdline)),
            "/proc/cmdline",
        ),
        modules=read_modules(tree),
        module_index=read_module_index(tree, kernel),
        modprobe=read_modprobe(tree),
        parameters={name: _read_parameter(tree, name) for name in PARAMETERS},
        nodes={path: tree.node(path) for path in PATHS},
        kvm=read_kvm(tree),
        holders=read_holders(tree),
        acpi_tables=read_acpi_tables(tree),
        smmu=read_smmu(tree),
        iommus=read_iommus(tree),
        groups=read_groups(tree, found, frozenset(details)),
        interrupts=_required(tree, "/proc/interrupts", parse_interrupts),
        io_ranges=_read_io_ranges(tree),
        devices=found,
        details=details,
        runtime=runtime,
        cdi=read_cdi(tree),
        kubelet=read_kubelet(tree),
        kubelet_version=read_kubelet_version(tree),
        memory=_required(tree, "/proc/meminfo", parse_meminfo),
        space={path: read_space(tree, path) for path in _storage(runtime)},
    )


def _required(tree: Tree, path: str, parse: Callable[[str], T]) -> Fact[T]:
    """Parse what every Linux host has."""
    return always(read_parsed(tree, path, parse), path)


def _line(tree: Tree, path: str, pattern: str) -> Fact[str]:
    """Read a file of one word; anything else in it makes it unusable."""
    text = always(read_text(tree, path), path)
    if isinstance(text, Unread) or re.fullmatch(pattern, text.strip()):
        return text.strip() if isinstance(text, str) else text
    return Unread(path, Reason.UNUSABLE, f"not what it should hold: {text[:40]!r}")


def _read_io_ranges(tree: Tree) -> Fact[tuple[IoRange, ...]]:
    ranges = _required(tree, "/proc/iomem", parse_iomem)
    if isinstance(ranges, tuple) and not any(item.end for item in ranges):
        return Unread("/proc/iomem", Reason.NOT_PERMITTED)
    return ranges


def _read_parameter(tree: Tree, name: str) -> Fact[str | None]:
    """Return a module parameter; None where the module or the parameter is not there."""
    module, _, parameter = name.partition("/")
    return read_parsed(tree, f"/sys/module/{module}/parameters/{parameter}", parse_switch)


def parse_switch(text: str) -> str:
    """Parse a module parameter that is on or off: Y, N, or a small number."""
    if not re.fullmatch(r"(?:[YN]|[0-9]{1,4})\n?", text):
        raise ValueError(f"not a switch: {text[:40]!r}")
    return text.strip()


def _read_firmware(tree: Tree) -> Firmware:
    vendor = read_text(tree, "/sys/class/dmi/id/sys_vendor")
    product = read_text(tree, "/sys/class/dmi/id/product_name")
    return Firmware(
        *(text.strip()[:80] if isinstance(text, str) else "" for text in (vendor, product))
    )


def read_distribution(tree: Tree) -> Fact[Distribution]:
    """Recognise the distribution by /etc/os-release and the boot loader's tools."""
    release: dict[str, str] = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        text = read_text(tree, path)
        if isinstance(text, str):
            pairs = (line.partition("=") for line in text.splitlines())
            release = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
            break
    else:
        return text if isinstance(text, Unread) else UNKNOWN
    boot = next((boot for path, boot in BOOT_PATHS if _is_there(tree, path)), None)
    return recognise(release, boot)


def _is_there(tree: Tree, path: str) -> bool:
    node = tree.node(path)
    return node is not None and not isinstance(node, Unread)


def _storage(runtime: Fact[Runtime | None]) -> tuple[str, ...]:
    """Return the directories that fill up: Kata's files, and the runtime's images."""
    state = runtime.state_dir if isinstance(runtime, Runtime) else "/var/lib"
    return ("/opt", state)
