"""Hosts whose containerd, Kata handlers or CDI specs are not ready: what is said of each."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
import yaml

from builders import (
    AFTER,
    BEFORE,
    CDI_KATA,
    COCO_AFTER,
    COCO_BEFORE,
    COCO_QEMU,
    COCO_TOML,
    CONTAINERD,
    DIRECTORY,
    K0S,
    K3S,
    KATA_FILES,
    KATA_KERNEL,
    KATA_TOML,
    MICROK8S,
    RKE2,
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
    verdict,
)
from exactly import assert_exactly, bad
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
        "imports that are no list",
        HostTree(put={CONTAINERD: 'version = 3\nimports = "/etc/containerd/more.toml"\n'}),
        {"runtime.config": FAILED},
    ),
    bad(
        "disabled plugins that are no list",
        HostTree(put={CONTAINERD: 'version = 3\ndisabled_plugins = "cri"\n'}),
        {"runtime.config": FAILED},
    ),
    bad(
        "a version that no containerd knows",
        HostTree(put={CONTAINERD: "version = 9\n"}),
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
        "a broken import in one of several directories",
        imports("/etc/containerd/*/part.toml").adding(
            {"/etc/containerd/a/part.toml": "version = 3\n", "/etc/containerd/b/part.toml": "=\n"}
        ),
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
        "one name twice in a spec",
        INSTALLED.adding({CDI_KATA: cdi_spec(PGPU) + cdi_spec(PGPU).partition("devices:\n")[2]}),
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
HOSTS: Final = [*RUNTIMES, *IMPORTS, *HANDLERS, *CDI]


@pytest.mark.parametrize(("host", "aims", "expected", "code"), HOSTS)
def test_exactly_what_is_wrong_is_said(
    host: HostTree, aims: Aims, expected: Mapping[str, str], code: int, tmp_path: Path
) -> None:
    assert_exactly(host, aims, expected, code, tmp_path)


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
    pytest.param(
        INSTALLED.adding(
            {CDI_KATA: json.dumps(yaml.safe_load(cdi_spec(PGPU)))}, CDI_KATA.replace("yaml", "json")
        ),
        AFTER,
        id="a spec in JSON",
    ),
    pytest.param(
        COCO_HOST.installed(Stack.COCO_OPERATOR).adding(
            {CONTAINERD: config_toml(2) + handler(2, COCO_TOML, "kata-nvidia-gpu")}
        ),
        COCO_AFTER,
        id="the name that newer kata-managers give",
    ),
    pytest.param(
        INSTALLED.but(parameters={"kvm_intel/tdx": "Y"}, kernel="6.17.0-5-generic").adding(
            {DROP_IN: "version = 3\n" + handler(3, name="kata-qemu-nvidia-gpu-tdx")}
        ),
        Aims(after_install=True, confidential=Tee.TDX),
        id="a handler for confidential VMs",
    ),
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
