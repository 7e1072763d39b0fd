"""What one unread answer may change: nothing is ever judged by what was not seen."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from builders import (
    AFTER,
    AMD,
    AUDIO,
    BEFORE,
    CDI_KATA,
    COCO_AFTER,
    CONTAINERD,
    KATA_KERNEL,
    KUBELET_FILE,
    TIME,
    Aims,
    HostTree,
    audio,
    case_of,
    cdi_spec,
    config_toml,
    containerd_1_7,
    gpu,
    hgx,
    kubelet_yaml,
    nic,
    verdict,
    vga_gpu,
)
from kgpuctl.host.recording import Recorder, RecordingTree
from kgpuctl.names import Stack, Tee
from kgpuctl.report import Status
from kgpuctl.unread import Reason, Unread

Question = tuple[str, str]
WORKSTATION: Final = (vga_gpu(consumers=(AUDIO,)), audio(), nic())
SNP: Final = {"kvm_amd/sev": "Y", "kvm_amd/sev_es": "Y", "kvm_amd/sev_snp": "Y"}
SOUND: Final = {
    "before the install": (HostTree(devices=WORKSTATION), BEFORE),
    "after the install": (HostTree(devices=WORKSTATION).installed(), AFTER),
    "after the coco-operator": (
        HostTree(cpu=AMD, kube=containerd_1_7()).installed(Stack.COCO_OPERATOR),
        COCO_AFTER,
    ),
    "confidential": (
        HostTree(
            cpu=AMD, parameters=SNP, kernel="6.17.0-5-generic", nodes=(*HostTree().nodes, "sev")
        ),
        Aims(confidential=Tee.SNP),
    ),
}
UNSOUND: Final = {
    "before the install": (
        HostTree(
            devices=(
                vga_gpu(driver="nouveau", files={"boot_vga": "1\n", "power_state": "D3cold\n"}),
                audio(),
                gpu("0000:ca:00.0", regions={}, files={"sriov_numvfs": "2\n"}, group=None),
            ),
            quiet="pcie_acs_override=downstream",
            remapped=False,
            modprobe="install vfio-pci /bin/false\n",
            modules=("kvm", "nvidia", "vmw_vsock_vmci_transport"),
            reserved={0x65: "direct"},
            memory=(16, 4),
            put={
                CONTAINERD: config_toml(3, ["gone.toml"]),
                KUBELET_FILE: kubelet_yaml(timeout="1m"),
                "/opt/confidential-containers": "",
                f"{CONTAINERD}.bak": "",
                CDI_KATA: cdi_spec({"0": "/dev/vfio/7"}),
            },
            answers={
                "kvm": "api=12 vm=no error=EBUSY",
                "holders": "complete\n7\tpython3\t/dev/nvidia0\t-",
                "space /opt": "1",
                "version /usr/bin/kubelet": "Kubernetes v1.30.0",
            },
        ),
        BEFORE,
    ),
    "after the install": (
        HostTree(devices=hgx())
        .installed()
        .but(devices=hgx(), modules=("kvm",), nodes=())
        .adding({}, KATA_KERNEL, CDI_KATA),
        AFTER,
    ),
    "without an IOMMU": (
        HostTree(
            cpu=AMD, table=False, groups=False, flags=("hypervisor",), cmdline="amd_iommu=off"
        ),
        Aims(confidential=Tee.SNP),
    ),
}


@cache
def recorded(name: str, *, sound: bool) -> tuple[RecordingTree, Aims]:
    """Return the answers that a host gives, and what it is judged for."""
    host, aims = (SOUND if sound else UNSOUND)[name]
    with TemporaryDirectory() as folder:
        recorder = Recorder(host.tree(Path(folder)))
        case_of(recorder, aims)
        return RecordingTree("host", TIME, dict(recorder.answers)), aims


def each_without_one_answer(
    tree: RecordingTree, reason: Reason
) -> Iterator[tuple[Question, RecordingTree]]:
    """Yield the host without one answer, for every answer."""
    for question in tree.answers:
        unread = Unread(question[1], reason)
        yield question, replace(tree, answers={**tree.answers, question: unread})


REASONS: Final = [Reason.NOT_PERMITTED, Reason.NOT_RECORDED]


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("name", SOUND)
def test_what_was_not_read_is_not_held_against_a_host(name: str, reason: Reason) -> None:
    tree, aims = recorded(name, sound=True)
    assert verdict(tree, aims).problems == {}

    accused = {
        question: judged.problems
        for question, partial in each_without_one_answer(tree, reason)
        if set((judged := verdict(partial, aims)).problems.values()) - {"unknown"}
    }

    assert accused == {}


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("name", UNSOUND)
def test_what_was_not_read_does_not_clear_a_host(name: str, reason: Reason) -> None:
    tree, aims = recorded(name, sound=False)
    whole = {(item.id, item.subject) for item in verdict(tree, aims).results if item.is_problem}

    cleared = {
        question: sorted(whole & passed)
        for question, partial in each_without_one_answer(tree, reason)
        if whole & (passed := _passed(partial, aims))
    }

    assert cleared == {}


def _passed(tree: RecordingTree, aims: Aims) -> set[tuple[str, str]]:
    results = verdict(tree, aims).results
    return {(item.id, item.subject) for item in results if item.status is Status.PASSED}


def test_the_unsound_host_has_many_problems() -> None:
    tree, aims = recorded("before the install", sound=False)

    assert len(verdict(tree, aims).problems) > 20
