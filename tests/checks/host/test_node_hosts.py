"""Hosts whose kubelet or room is not ready, or where something is left: what is said of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from builders import (
    BEFORE,
    COCO_BEFORE,
    COCO_CLASS,
    COCO_CONTAINERD,
    COCO_DROP_IN,
    CONTAINERD,
    DIRECTORY,
    GIB,
    K3S,
    KUBELET_FILE,
    SOCKET,
    Aims,
    HostTree,
    containerd_1_7,
    kubelet_yaml,
    verdict,
)
from exactly import assert_exactly, bad
from kgpuctl.names import Tee

FAILED, WARNED, UNKNOWN = "failed", "warned", "unknown"
COCO_HOST: Final = HostTree(kube=containerd_1_7())


KUBELETS: Final = [
    bad(
        "no kubelet",
        HostTree(drop=("/usr/bin/kubelet", "/var/lib/kubelet")),
        {"kubelet.present": FAILED},
    ),
    bad(
        "no socket of pod resources",
        HostTree(drop=(SOCKET,)),
        {"kubelet.pod-resources": FAILED},
    ),
    bad(
        "the gate is closed",
        HostTree(
            put={
                KUBELET_FILE: kubelet_yaml().replace(
                    "OtherGate: true", "KubeletPodResourcesGet: false"
                )
            }
        ),
        {"kubelet.pod-resources": FAILED},
    ),
    bad(
        "an old kubelet without the gate",
        HostTree(
            put={KUBELET_FILE: kubelet_yaml()},
            answers={"version /usr/bin/kubelet": "Kubernetes v1.33.9"},
        ),
        {"kubelet.pod-resources": FAILED},
    ),
    bad(
        "a drop-in closes the gate",
        HostTree(
            put={
                "/etc/kubernetes/kubelet.conf.d/90-gates.conf": "kind: KubeletConfiguration\n"
                "featureGates: {KubeletPodResourcesGet: false}\n"
            }
        ),
        {"kubelet.pod-resources": FAILED},
    ),
    bad(
        "a flag closes the gate",
        HostTree(
            put={
                "/etc/default/kubelet": "KUBELET_EXTRA_ARGS="
                "--feature-gates=KubeletPodResourcesGet=false\n"
            }
        ),
        {"kubelet.pod-resources": FAILED},
    ),
    *(
        bad(
            f"the kubelet waits {timeout}",
            HostTree(put={KUBELET_FILE: kubelet_yaml("KubeletPodResourcesGet", timeout=timeout)}),
            {"kubelet.request-timeout": WARNED},
            0,
        )
        for timeout in ("2m0s", "9m59s", "0s")
    ),
    bad(
        "a later file of k3s replaces the kubelet's arguments",
        HostTree(kube=K3S, put={"/etc/rancher/k3s/config.yaml.d/90.yaml": "kubelet-arg: [v=2]\n"}),
        {"kubelet.request-timeout": WARNED},
        0,
    ),
    bad(
        "the kubelet's default time",
        HostTree(put={KUBELET_FILE: "kind: KubeletConfiguration\n"}),
        {"kubelet.request-timeout": WARNED},
        0,
    ),
    bad(
        "the kubelet's time is no time",
        HostTree(put={KUBELET_FILE: kubelet_yaml(timeout="soon")}),
        {
            "kubelet.present": UNKNOWN,
            "kubelet.pod-resources": UNKNOWN,
            "kubelet.request-timeout": UNKNOWN,
        },
        4,
    ),
    bad(
        "the gate for images is not open",
        HostTree(
            put={KUBELET_FILE: kubelet_yaml("KubeletPodResourcesGet")},
            parameters={"kvm_intel/tdx": "Y"},
            kernel="6.17.0-5-generic",
        ),
        {"kubelet.image-gate": WARNED},
        0,
        aims=Aims(confidential=Tee.TDX),
    ),
]
ROOM: Final = [
    bad("little memory", HostTree(memory=(32, 25)), {"memory.headroom": WARNED}, 0),
    bad(
        "memory that huge pages hold",
        HostTree(memory=(512, 12), hugepages=480),
        {"memory.headroom": WARNED},
        0,
    ),
    bad(
        "too little memory even for kata-manager's overhead",
        COCO_HOST.but(memory=(16, 7)),
        {"memory.headroom": WARNED},
        0,
        aims=COCO_BEFORE,
    ),
    *(
        bad(
            f"little space below {path}",
            HostTree(answers={f"space {path}": str(9 * GIB)}),
            {"disk.headroom": WARNED},
            0,
        )
        for path in ("/opt", "/var/lib/containerd")
    ),
]
LEFTOVERS: Final = [
    *(
        bad(f"{path} is left", HostTree(put={path: DIRECTORY}), {"leftovers.artifacts": WARNED}, 0)
        for path in ("/opt/confidential-containers", COCO_CLASS)
    ),
    bad(
        "/opt/kata is left for the coco-operator",
        COCO_HOST.adding({"/opt/kata": DIRECTORY}),
        {"leftovers.artifacts": WARNED},
        0,
        aims=COCO_BEFORE,
    ),
    bad(
        "the CoCo operator's containerd is left",
        HostTree(put={COCO_DROP_IN: f"[Service]\nExecStart={COCO_CONTAINERD}\n"}),
        {"leftovers.containerd-override": WARNED},
        0,
    ),
    bad(
        "a backup is left",
        HostTree(put={f"{CONTAINERD}.bak": "version = 2\n"}),
        {"leftovers.config-backup": WARNED},
        0,
    ),
]
HOSTS: Final = [*KUBELETS, *ROOM, *LEFTOVERS]


@pytest.mark.parametrize(("host", "aims", "expected", "code"), HOSTS)
def test_exactly_what_is_wrong_is_said(
    host: HostTree, aims: Aims, expected: Mapping[str, str], code: int, tmp_path: Path
) -> None:
    assert_exactly(host, aims, expected, code, tmp_path)


SOUND: Final = [
    pytest.param(HostTree(memory=(32, 26)), BEFORE, id="just enough memory"),
    pytest.param(HostTree(answers={"space /opt": str(10 * GIB)}), BEFORE, id="just enough space"),
    pytest.param(
        HostTree(
            kube=K3S,
            put={
                "/etc/rancher/k3s/config.yaml": "token: K10c0ffee\n",
                "/etc/rancher/k3s/config.yaml.d/gpu.yaml": "kubelet-arg+:\n"
                "- runtime-request-timeout=20m\n- feature-gates=KubeletPodResourcesGet=true\n",
            },
        ),
        BEFORE,
        id="a drop-in of k3s adds to the kubelet's arguments",
    ),
]


@pytest.mark.parametrize(("host", "aims"), SOUND)
def test_what_is_in_order_is_no_problem(host: HostTree, aims: Aims, tmp_path: Path) -> None:
    assert verdict(host.tree(tmp_path), aims).problems == {}


def test_huge_pages_are_named_where_they_hold_the_memory(tmp_path: Path) -> None:
    host = HostTree(memory=(512, 12), hugepages=480)

    judged = verdict(host.tree(tmp_path))

    assert "480.0 GiB of it in huge pages" in judged.message("memory.headroom")
    assert "huge pages" in judged.remedy("memory.headroom")


def test_k3s_is_told_its_own_file_for_the_gate(tmp_path: Path) -> None:
    config = "kubelet-arg: [runtime-request-timeout=20m]\n"
    host = HostTree(
        kube=K3S,
        put={"/etc/rancher/k3s/config.yaml": config},
        answers={"version /usr/local/bin/k3s": "k3s version v1.32.1+k3s1 (abc)"},
    )

    judged = verdict(host.tree(tmp_path))

    assert judged.problems == {"kubelet.pod-resources": FAILED}
    assert "/etc/rancher/k3s/config.yaml" in judged.remedy("kubelet.pod-resources")
    assert "systemctl restart k3s" in judged.remedy("kubelet.pod-resources")
