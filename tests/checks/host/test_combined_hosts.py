"""Many things wrong at once: none hides another, and none is blamed for another."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from builders import (
    COCO_DROP_IN,
    CONTAINERD,
    DIRECTORY,
    GIB,
    KUBELET_FILE,
    HostTree,
    Pci,
    audio,
    gpu,
    kubelet_yaml,
    nic,
    nvswitch,
    verdict,
)

Defect = Callable[[HostTree], HostTree]
OTHER: Final = "0000:ca:00.0"


def first(**changes: object) -> Defect:
    """Return a defect of the host's first device."""

    def apply(host: HostTree) -> HostTree:
        device, *others = host.devices
        return host.but(devices=(replace(device, **changes), *others))  # type: ignore[arg-type]

    return apply


def with_file(name: str, text: str) -> Defect:
    """Return a defect of a file of the host's first device."""

    def apply(host: HostTree) -> HostTree:
        return first(files={**host.devices[0].files, name: text})(host)

    return apply


def with_device(device: Pci) -> Defect:
    return lambda host: host.but(devices=(*host.devices, device))


def with_put(path: str, entry: str) -> Defect:
    return lambda host: host.adding({path: entry})


def with_answer(question: str, answer: str) -> Defect:
    return lambda host: host.but(answers={**host.answers, question: answer})


def with_words(*words: str) -> Defect:
    return lambda host: host.but(cmdline=" ".join([host.cmdline, *words]))


def without_node(name: str) -> Defect:
    def apply(host: HostTree) -> HostTree:
        module = f"kernel/drivers/vhost/{name.replace('-', '_')}.ko.zst"
        return host.but(
            nodes=tuple(node for node in host.nodes if node != name),
            loadable=tuple(path for path in host.loadable if path != module),
        )

    return apply


# Each makes exactly the checks named here fail or warn, whatever else is wrong.
DEFECTS: Final[Mapping[str, Defect]] = {
    "host.architecture": lambda host: host.but(without_flags=("lm",)),
    "host.bare-metal": lambda host: host.but(flags=("hypervisor",)),
    "host.kvm-usable": with_answer("kvm", "api=12 vm=no error=EBUSY"),
    "host.vhost-vsock": without_node("vhost-vsock"),
    "host.vhost-net": without_node("vhost-net"),
    "iommu.interrupt-remapping": lambda host: host.but(remapped=False),
    "iommu.acs-override": with_words("pcie_acs_override=downstream"),
    "driver.nvidia-unloaded": lambda host: host.but(modules=(*host.modules, "nvidia_uvm")),
    "driver.nouveau-blocked": lambda host: host.but(quiet="quiet"),
    "driver.vfio-pci": lambda host: host.but(modprobe="install vfio-pci /bin/false\n"),
    "driver.users": with_answer("holders", "complete\n7\tpython3\t/dev/nvidia0\t-"),
    "gpu.reserved-regions": lambda host: host.but(reserved={0x65: "direct"}),
    "gpu.group-viable": with_device(audio()),
    "gpu.group-isolated": with_device(nic(None, group=0x65)),
    "gpu.driver": first(driver="nouveau"),
    "gpu.boot-display": with_file("boot_vga", "1\n"),
    "gpu.bars": first(regions={0: gpu().regions[0]}),
    "gpu.sriov": with_file("sriov_numvfs", "2\n"),
    "gpu.power-state": with_file("power_state", "D3cold\n"),
    "gpu.uniform": with_device(gpu(OTHER, device=0x2330)),
    "gpu.nvswitch": with_device(nvswitch("0000:05:00.0")),
    "runtime.imports": with_put("/etc/containerd/conf.d/broken.toml", "= 1\n"),
    "runtime.cdi": with_put("/etc/cdi/broken.yaml", "devices: [\n"),
    "kubelet.request-timeout": with_put(
        KUBELET_FILE, kubelet_yaml("KubeletPodResourcesGet", timeout="2m")
    ),
    "memory.headroom": lambda host: host.but(memory=(16, 8)),
    "disk.headroom": with_answer("space /opt", str(GIB)),
    "leftovers.artifacts": lambda host: host.adding({"/opt/confidential-containers": DIRECTORY}),
    "leftovers.containerd-override": with_put(COCO_DROP_IN, "[Service]\n"),
    "leftovers.config-backup": with_put(f"{CONTAINERD}.bak", ""),
}


def with_all_but(left_out: str = "") -> HostTree:
    """Return a host with every defect, or every one but this."""
    host = HostTree()
    for name, defect in DEFECTS.items():
        host = host if name == left_out else defect(host)
    return host


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_blamed_for_nothing_else(name: str, tmp_path: Path) -> None:
    assert set(verdict(DEFECTS[name](HostTree()).tree(tmp_path)).problems) == {name}


def test_no_defect_hides_another(tmp_path: Path) -> None:
    judged = verdict(with_all_but().tree(tmp_path))

    assert set(judged.problems) == set(DEFECTS)
    assert "unknown" not in judged.problems.values()
    assert judged.silent == ()


@pytest.mark.parametrize("name", DEFECTS)
def test_what_is_right_is_seen_among_many_defects(name: str, tmp_path: Path) -> None:
    judged = verdict(with_all_but(name).tree(tmp_path))

    assert set(judged.problems) == set(DEFECTS) - {name}
