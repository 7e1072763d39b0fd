"""Hosts whose containerd, CDI specs, kubelet or room is not ready: exactly what is said of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from _pytest.mark import ParameterSet

from builders import (
    AFTER,
    BEFORE,
    CDI_KATA,
    COCO_AFTER,
    COCO_BEFORE,
    COCO_CLASS,
    COCO_CONTAINERD,
    COCO_DROP_IN,
    COCO_QEMU,
    CONTAINERD,
    DIRECTORY,
    GIB,
    K0S,
    K3S,
    KATA_FILES,
    KATA_KERNEL,
    KATA_TOML,
    KUBELET_FILE,
    MICROK8S,
    RKE2,
    SOCKET,
    Aims,
    HostTree,
    Kube,
    bmc_display,
    cdi_spec,
    config_toml,
    containerd,
    containerd_1_7,
    gpu,
    handler,
    kubelet_yaml,
    replayed,
    verdict,
)
from kgpuctl.names import Stack, Tee

FAILED, WARNED, UNKNOWN = "failed", "warned", "unknown"
INSTALLED: Final = HostTree().installed()
COCO_HOST: Final = HostTree(kube=containerd_1_7())
COCO_INSTALLED: Final = COCO_HOST.installed(Stack.COCO_OPERATOR)
DROP_IN: Final = HostTree().kube.drop_in
PGPU: Final = {"0": "/dev/vfio/101"}
NO_CONTAINERD: Final = ("/etc/containerd", "/usr/bin/containerd")
EXAMPLE: Final = """\
cdiVersion: 0.5.0
containerEdits: {}
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/vfio/101
kind: nvidia.com/pgpu
name: "0"
"""


def bad(
    id_: str, host: HostTree, expected: Mapping[str, str], code: int = 3, aims: Aims = BEFORE
) -> ParameterSet:
    return pytest.param(host, aims, expected, code, id=id_)


def imports(*paths: str) -> HostTree:
    """Return a host whose containerd imports these paths."""
    return HostTree(kube=containerd(imports=paths))


RUNTIMES: Final = [
    bad("no container runtime", HostTree(drop=NO_CONTAINERD), {"runtime.containerd": FAILED}),
    bad(
        "CRI-O only",
        HostTree(drop=NO_CONTAINERD, put={"/etc/crio/crio.conf": "[crio]\n"}),
        {"runtime.containerd": FAILED},
    ),
    bad(
        "Docker only",
        HostTree(drop=NO_CONTAINERD, put={"/usr/bin/dockerd": ""}),
        {"runtime.containerd": FAILED},
    ),
    bad(
        "containerd as Docker packages it",
        HostTree(put={CONTAINERD: 'disabled_plugins = ["cri"]\n'}),
        {"runtime.config": FAILED},
    ),
    *(
        bad(
            f"the plugin {plugin} is disabled",
            HostTree(kube=containerd(version, more=f'disabled_plugins = ["{plugin}"]')),
            {"runtime.config": FAILED},
        )
        for version, plugin in (
            (2, "io.containerd.grpc.v1.cri"),
            (3, "io.containerd.cri.v1.runtime"),
            (3, "io.containerd.cri.v1.images"),
        )
    ),
    bad(
        "an import disables the CRI plugin",
        HostTree(
            put={DROP_IN: 'version = 3\ndisabled_plugins = ["io.containerd.cri.v1.runtime"]\n'}
        ),
        {"runtime.config": FAILED},
    ),
    bad(
        "the configuration is no TOML",
        HostTree(put={CONTAINERD: "version = 3\nimports = [ , ]\n"}),
        {"runtime.config": FAILED},
    ),
    bad(
        "the configuration is no text",
        HostTree(put={CONTAINERD: b"\xff\xfe\x00version"}),
        {"runtime.config": FAILED},
    ),
    bad(
        "no configuration for kata-manager",
        COCO_HOST.but(drop=("/etc/containerd",)),
        {"runtime.config": FAILED},
        aims=COCO_BEFORE,
    ),
    bad("version 3 for kata-manager", HostTree(), {"runtime.config": FAILED}, aims=COCO_BEFORE),
    bad(
        "version 1 for kata-manager",
        COCO_HOST.adding({CONTAINERD: "[plugins.cri]\n"}),
        {"runtime.config": FAILED},
        aims=COCO_BEFORE,
    ),
    bad(
        "version 4 on containerd 2.1",
        HostTree(kube=containerd(4)),
        {"runtime.config": FAILED},
    ),
    bad(
        "version 3 on containerd 1.7",
        HostTree(kube=containerd(3, running="1.7.24")),
        {"runtime.config": FAILED},
    ),
    *(
        bad(
            f"{name} with its CRI plugin disabled, beside a plain containerd",
            HostTree(
                kube=kube,
                put={
                    path: 'version = 3\ndisabled_plugins = ["io.containerd.cri.v1.runtime"]\n',
                    CONTAINERD: config_toml(3),
                },
            ),
            {"runtime.config": FAILED},
        )
        for name, kube, path in (
            ("k3s", K3S, "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"),
            ("RKE2", RKE2, "/var/lib/rancher/rke2/agent/etc/containerd/config.toml"),
            ("k0s", K0S, "/etc/k0s/containerd.toml"),
            ("microk8s", MICROK8S, "/var/snap/microk8s/7449/args/containerd.toml"),
        )
    ),
    bad(
        "a directory of k3s alone does not hide the containerd that runs",
        HostTree(
            put={"/etc/rancher/k3s": DIRECTORY, CONTAINERD: 'disabled_plugins = ["cri"]\n'},
        ),
        {"runtime.config": FAILED},
    ),
]
IMPORTS: Final = [
    bad(
        "an import that is gone",
        imports("/opt/kata/containerd/config.d/kata-deploy.toml"),
        {"runtime.imports": FAILED},
    ),
    bad(
        "an import that is relative and gone",
        imports("conf.d/kata.toml"),
        {"runtime.imports": FAILED},
    ),
    bad(
        "an import that is no TOML",
        HostTree(put={DROP_IN: "version = \n"}),
        {"runtime.imports": FAILED},
    ),
    bad(
        "an import of an import that is gone",
        HostTree(put={DROP_IN: 'version = 3\nimports = ["/etc/containerd/gone.toml"]\n'}),
        {"runtime.imports": FAILED},
    ),
    bad(
        "the second import is gone, the first one imports its importer",
        HostTree(
            kube=containerd(imports=("/etc/containerd/conf.d/*.toml", "gone.toml")),
            put={DROP_IN: f'version = 3\nimports = ["{CONTAINERD}", "{DROP_IN}"]\n'},
        ),
        {"runtime.imports": FAILED},
    ),
]
HANDLERS: Final = [
    bad(
        "no handler after the install",
        INSTALLED.but(drop=(DROP_IN,)),
        {"runtime.kata-handlers": FAILED},
        aims=AFTER,
    ),
    bad(
        "a handler without GPUs after the install",
        INSTALLED.adding({DROP_IN: handler(3, name="kata-qemu")}),
        {"runtime.kata-handlers": FAILED},
        aims=AFTER,
    ),
    bad(
        "a handler where this version of the configuration does not look",
        INSTALLED.adding(
            {DROP_IN: "version = 3\n" + handler(3, plugin="io.containerd.grpc.v1.cri")}
        ),
        {"runtime.kata-handlers": FAILED},
        aims=AFTER,
    ),
    bad(
        "a handler in a file that nothing imports",
        INSTALLED.adding({CONTAINERD: config_toml(3)}),
        {"runtime.kata-handlers": FAILED},
        aims=AFTER,
    ),
    bad(
        "a handler for plain VMs only",
        INSTALLED.but(parameters={"kvm_intel/tdx": "Y"}, kernel="6.17.0-5-generic"),
        {"runtime.kata-handlers": FAILED},
        aims=Aims(after_install=True, confidential=Tee.TDX),
    ),
    bad(
        "a handler without a configuration",
        INSTALLED.adding({DROP_IN: handler(3, toml="")}),
        {"runtime.kata-files": FAILED},
        aims=AFTER,
    ),
    bad(
        "a handler whose configuration is gone",
        INSTALLED.but(drop=(KATA_TOML,)),
        {"runtime.kata-files": FAILED},
        aims=AFTER,
    ),
    bad(
        "a handler whose kernel is gone",
        INSTALLED.but(drop=(KATA_KERNEL,)),
        {"runtime.kata-files": FAILED},
        aims=AFTER,
    ),
    bad(
        "a handler whose configuration names no hypervisor",
        INSTALLED.adding({KATA_TOML: f'[hypervisor.qemu]\nkernel = "{KATA_KERNEL}"\n'}),
        {"runtime.kata-files": FAILED},
        aims=AFTER,
    ),
    bad(
        "a handler whose configuration is no TOML",
        INSTALLED.adding({KATA_TOML: "[hypervisor.qemu\n"}),
        {"runtime.kata-files": FAILED},
        aims=AFTER,
    ),
    bad(
        "files of a handler are gone before the install",
        HostTree(put={**KATA_FILES, DROP_IN: handler(3)}).adding({}, KATA_KERNEL),
        {"runtime.kata-files": WARNED},
        0,
    ),
    bad(
        "kata-manager's QEMU is not where the configuration says",
        COCO_INSTALLED.but(drop=(COCO_QEMU,)),
        {"runtime.kata-files": FAILED},
        aims=COCO_AFTER,
    ),
]
CDI: Final = [
    bad(
        "no CDI spec after the install",
        INSTALLED.but(drop=(CDI_KATA,)),
        {"runtime.cdi": FAILED},
        aims=AFTER,
    ),
    bad(
        "the published example, its name one level too high",
        INSTALLED.adding({CDI_KATA: EXAMPLE}),
        {"runtime.cdi": FAILED},
        aims=AFTER,
    ),
    bad(
        "a spec that is no YAML",
        INSTALLED.adding({CDI_KATA: "devices: [\n"}),
        {"runtime.cdi": FAILED},
        aims=AFTER,
    ),
    bad(
        "two specs of one directory with one name",
        INSTALLED.adding({"/run/cdi/nvidia.yaml": cdi_spec(PGPU)}),
        {"runtime.cdi": FAILED},
        aims=AFTER,
    ),
    bad(
        "a spec whose group is gone",
        INSTALLED.adding({CDI_KATA: cdi_spec({"0": "/dev/vfio/15"})}),
        {"runtime.cdi": FAILED},
        aims=AFTER,
    ),
    bad(
        "a spec that names the group of another device",
        INSTALLED.but(devices=(gpu(driver="vfio-pci"), bmc_display())).adding(
            {CDI_KATA: cdi_spec({"0": "/dev/vfio/3"}), "/dev/vfio/3": ""}
        ),
        {"runtime.cdi": FAILED},
        aims=AFTER,
    ),
    bad(
        "a stale spec before the install",
        HostTree(put={CDI_KATA: cdi_spec(PGPU)}),
        {"runtime.cdi": WARNED},
        0,
    ),
    bad(
        "a spec of the host driver that is gone",
        HostTree(put={"/etc/cdi/nvidia.yaml": cdi_spec({"all": "/dev/nvidia0"}, "nvidia.com/gpu")}),
        {"runtime.cdi": WARNED},
        0,
    ),
]
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
HOSTS: Final = [*RUNTIMES, *IMPORTS, *HANDLERS, *CDI, *KUBELETS, *ROOM, *LEFTOVERS]


@pytest.mark.parametrize(("host", "aims", "expected", "code"), HOSTS)
def test_exactly_what_is_wrong_is_said(
    host: HostTree, aims: Aims, expected: Mapping[str, str], code: int, tmp_path: Path
) -> None:
    tree = host.tree(tmp_path / "root")
    judged = verdict(tree, aims)

    assert judged.problems == expected
    assert judged.exit_code == code
    assert judged.silent == ()
    assert replayed(tree, tmp_path, aims).results == judged.results


SOUND: Final = [
    pytest.param(
        imports("/etc/containerd/conf.d/*.toml"), BEFORE, id="a glob that matches nothing"
    ),
    pytest.param(
        HostTree(
            put={DROP_IN: f'version = 3\nimports = ["{CONTAINERD}", "{DROP_IN}"]\n'},
        ),
        BEFORE,
        id="imports in a circle",
    ),
    pytest.param(
        imports("conf.d/../conf.d/kata-deploy.toml").adding({DROP_IN: "version = 3\n"}),
        BEFORE,
        id="a relative import",
    ),
    pytest.param(
        INSTALLED.adding({"/etc/cdi/nvidia.yaml": cdi_spec(PGPU)}),
        AFTER,
        id="a spec of /var/run/cdi goes before one of /etc/cdi",
    ),
    pytest.param(
        HostTree(put={"/etc/cdi/intel.yaml": cdi_spec({"0": "/dev/dri/card9"}, "intel.com/gpu")}),
        BEFORE,
        id="another vendor's spec",
    ),
    pytest.param(
        HostTree(put={"/etc/cdi/README": "not a spec"}), BEFORE, id="a file that is no spec"
    ),
    pytest.param(
        HostTree(put={f"{CONTAINERD}.bak": ""}).installed(), AFTER, id="a backup after the install"
    ),
    pytest.param(HostTree(memory=(32, 26)), BEFORE, id="just enough memory"),
    pytest.param(HostTree(answers={"space /opt": str(10 * GIB)}), BEFORE, id="just enough space"),
    pytest.param(
        HostTree(put={"/usr/bin/dockerd": "", "/etc/crio": DIRECTORY}),
        BEFORE,
        id="other runtimes beside containerd",
    ),
    pytest.param(
        INSTALLED.adding({"/usr/bin/qemu": "", KATA_TOML: ""}, KATA_TOML).adding(
            {DROP_IN: handler(3, toml="/etc/kata.toml"), "/etc/kata.toml": KATA_FILES[KATA_TOML]}
        ),
        AFTER,
        id="a handler that is configured elsewhere",
    ),
]


@pytest.mark.parametrize(("host", "aims"), SOUND)
def test_what_is_in_order_is_no_problem(host: HostTree, aims: Aims, tmp_path: Path) -> None:
    assert verdict(host.tree(tmp_path), aims).problems == {}


@pytest.mark.parametrize(
    ("kube", "flavour", "unit"),
    [
        (K3S, "k3s's containerd 2.1.5", "k3s"),
        (RKE2, "RKE2's containerd 2.1.5", "rke2-agent"),
        (K0S, "k0s's containerd 2.1.4", "k0sworker"),
        (MICROK8S, "microk8s's containerd 1.7.27", "snap.microk8s.daemon-containerd"),
        (containerd(), "containerd 2.1.4", "containerd"),
    ],
    ids=["k3s", "RKE2", "k0s", "microk8s", "containerd"],
)
def test_each_distributions_own_containerd_is_named(
    kube: Kube, flavour: str, unit: str, tmp_path: Path
) -> None:
    broken = HostTree(kube=kube).kube.drop_in

    judged = verdict(HostTree(kube=kube, put={broken: "= 1\n"}).tree(tmp_path))

    assert judged.message("runtime.containerd").startswith(flavour)
    assert judged.problems == {"runtime.imports": FAILED}
    assert f"`sudo systemctl restart {unit}`" in judged.remedy("runtime.imports")


def test_the_missing_file_and_its_importer_are_named(tmp_path: Path) -> None:
    host = HostTree(put={DROP_IN: 'version = 3\nimports = ["/etc/containerd/gone.toml"]\n'})

    message = verdict(host.tree(tmp_path)).message("runtime.imports")

    assert message == f"imported by {DROP_IN}: /etc/containerd/gone.toml: missing"


def test_what_a_handler_lacks_is_named(tmp_path: Path) -> None:
    host = INSTALLED.but(drop=(KATA_KERNEL,))

    message = verdict(host.tree(tmp_path), AFTER).message(
        "runtime.kata-files", "kata-qemu-nvidia-gpu"
    )

    assert f"{KATA_KERNEL} (kernel)" in message
    assert "image" not in message


def test_without_a_runtime_nothing_more_is_asked_of_it(tmp_path: Path) -> None:
    judged = verdict(HostTree(drop=NO_CONTAINERD).tree(tmp_path), AFTER)

    for id_ in ("runtime.config", "runtime.imports", "runtime.kata-handlers", "runtime.kata-files"):
        assert judged.status(id_) == "skipped", id_
        assert "runtime.containerd" in judged.message(id_)


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
