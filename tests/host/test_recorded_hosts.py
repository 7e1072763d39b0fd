"""Real hosts, each recorded in part: what is there is judged, what is not is unknown."""

import os
import tarfile
from pathlib import Path
from typing import Final

import pytest

from builders import Verdict, open_tree, verdict
from kgpuctl.host.facts import Source, SourceKind, Vendor
from kgpuctl.host.reader import read_host
from kgpuctl.unread import Unread

HOSTS: Final = Path(__file__).parents[1] / "data" / "hosts"
SHARED: Final = Path(os.environ.get("KGPU_SHARED", Path(__file__).parents[3] / "shared")) / "hosts"
P100: Final = "0000:06:00.0"
NAMES: Final = (
    "ghw-amd-ryzen-1600",
    "ghw-laptop-i7-1270p-iommu",
    "ghw-tesla-p100",
    "nfd-pci-rootfs-1",
)

# What none of the four recordings tells of.
NOT_RECORDED: Final = frozenset(
    {
        "driver.nouveau-blocked",
        "driver.nvidia-absent",
        "driver.nvidia-unloaded",
        "driver.vfio-backend",
        "driver.vfio-pci",
        "host.kvm-device",
        "host.tun",
        "host.vhost-net",
        "host.vhost-vsock",
        "iommu.acs-override",
        "iommu.firmware",
        "iommu.interrupt-remapping",
        "iommu.kernel-arguments",
        "kubelet.pod-resources",
        "kubelet.present",
        "kubelet.request-timeout",
        "leftovers.artifacts",
        "leftovers.config-backup",
        "leftovers.containerd-override",
        "runtime.cdi",
        "runtime.config",
        "runtime.containerd",
        "runtime.imports",
        "runtime.kata-files",
        "runtime.kata-handlers",
    }
)
OF_A_GPU: Final = frozenset(
    {
        "gpu.bars",
        "gpu.boot-display",
        "gpu.group-isolated",
        "gpu.group-viable",
        "gpu.iommu-group",
        "gpu.power-state",
        "gpu.reserved-regions",
        "gpu.sriov",
    }
)


def judged(name: str) -> Verdict:
    return verdict(open_tree(HOSTS / name))


def ids(found: Verdict, status: str) -> set[str]:
    return {item.id for item in found.results if item.status == status}


@pytest.mark.parametrize("name", NAMES)
def test_what_was_not_recorded_is_unknown(name: str) -> None:
    found = judged(name)

    assert ids(found, "unknown") >= NOT_RECORDED
    for item in found.results:
        if item.status == "unknown":
            assert item.message.endswith(": not recorded")
            assert item.remedy is not None
            assert "--record" in item.remedy.text


def test_the_tesla_p100_is_found_and_held_by_its_driver() -> None:
    found = judged("ghw-tesla-p100")

    assert ids(found, "passed") == {
        "host.architecture",
        "host.cpu-virtualization",
        "gpu.present",
        "memory.headroom",
    }
    assert found.message("gpu.present") == "1 x NVIDIA Tesla P100 PCIe 16GB"
    assert ids(found, "warned") == {"host.bare-metal"}
    assert ids(found, "failed") == {"gpu.driver"}
    assert found.message("gpu.driver", P100) == "bound to nvidia"
    assert ids(found, "unknown") == NOT_RECORDED | OF_A_GPU | {"iommu.enabled"}
    assert found.exit_code == 3


def test_the_laptop_has_an_iommu_by_its_links() -> None:
    found = judged("ghw-laptop-i7-1270p-iommu")

    assert ids(found, "passed") == {
        "host.architecture",
        "host.bare-metal",
        "host.cpu-virtualization",
        "iommu.enabled",
    }
    assert found.message("iommu.enabled") == "15 IOMMU groups"
    assert ids(found, "warned") == {"memory.headroom"}
    assert ids(found, "failed") == {"gpu.present"}
    assert ids(found, "unknown") == NOT_RECORDED | {"host.unrestricted-guest"}
    assert found.exit_code == 3


def test_the_desktop_without_recorded_links_has_no_known_iommu() -> None:
    found = judged("ghw-amd-ryzen-1600")

    assert ids(found, "passed") == {
        "host.architecture",
        "host.bare-metal",
        "host.cpu-virtualization",
        "memory.headroom",
    }
    assert ids(found, "warned") == set()
    assert ids(found, "failed") == {"gpu.present"}
    assert ids(found, "unknown") == NOT_RECORDED | {"iommu.enabled"}


def test_a_tree_of_some_devices_proves_nothing() -> None:
    found = judged("nfd-pci-rootfs-1")

    assert ids(found, "passed") == set()
    assert ids(found, "failed") == set()
    assert found.exit_code == 4


def test_an_adapter_of_the_laptop_can_be_judged_like_a_gpu() -> None:
    tree = open_tree(HOSTS / "ghw-laptop-i7-1270p-iommu")
    display = "0000:00:02.0"
    facts = read_host(tree, Source(SourceKind.TREE, "/", "", as_root=False), [display])

    assert isinstance(facts.devices, tuple)
    device = next(item for item in facts.devices if item.address == display)
    assert (device.driver, device.iommu_group) == ("i915", 0)
    assert isinstance(device.is_vf, Unread)
    assert isinstance(facts.details[display].bars, Unread)
    assert isinstance(facts.groups, tuple)
    assert facts.groups[0].members == (display,)
    assert isinstance(facts.groups[0].reserved, Unread)


@pytest.mark.parametrize(
    ("name", "vendor", "model", "count"),
    [
        ("ghw-tesla-p100", Vendor.INTEL, "Intel(R) Xeon(R) CPU E5-2695 v4 @ 2.10GHz", 8),
        ("ghw-laptop-i7-1270p-iommu", Vendor.INTEL, "12th Gen Intel(R) Core(TM) i7-1270P", 16),
        ("ghw-amd-ryzen-1600", Vendor.AMD, "AMD Ryzen 5 1600 Six-Core Processor", 12),
    ],
)
def test_the_processor_is_read(name: str, vendor: Vendor, model: str, count: int) -> None:
    tree = open_tree(HOSTS / name)

    cpu = read_host(tree, Source(SourceKind.TREE, "/", "", as_root=False)).cpu

    assert not isinstance(cpu, Unread)
    assert (cpu.vendor, cpu.model, cpu.processors) == (vendor, model, count)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED}")
@pytest.mark.parametrize("name", NAMES)
def test_a_whole_recording_is_judged_like_its_part(name: str, tmp_path: Path) -> None:
    with tarfile.open(SHARED / f"{name}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="tar")
    (root,) = tmp_path.glob("nfd-rootfs-1") if name.startswith("nfd") else (tmp_path,)

    assert verdict(open_tree(root)).results == judged(name).results
