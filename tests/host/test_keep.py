"""What a recording keeps of files that people write: all that is judged, and nothing else."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import (
    AFTER,
    K3S,
    KATA_FILES,
    KATA_TOML,
    KUBELET,
    HostTree,
    case_of,
    cdi_spec,
    config_toml,
    handler,
)
from fuzz.garbage import answers_of, report
from fuzz.mutations import Mutator
from kgpuctl.host import cdi, containerd, modules, procfs
from kgpuctl.host.recording import Recorder
from kgpuctl.host.text import keeping

Render = Callable[[str], str]
Parser = Callable[[str], object]

SECRET = "hunter2"  # noqa: S105  # it is one only in these tests
CMDLINE = "BOOT_IMAGE=/vmlinuz ro intel_iommu=on,sm_on modprobe.blacklist=nouveau,nvidia\n"
MODPROBE = "# x\nblacklist nouveau\ninstall vfio-pci /bin/false\noptions kvm nested=1\n"
CONFIG = config_toml(3, ["/etc/containerd/conf.d/*.toml"], 'disabled_plugins = ["x"]') + handler(3)


def _judged_config(text: str) -> object:
    return containerd.render_config(text)


# A file's Keep, what is judged of it, and an example.
KEEPS: Mapping[str, tuple[Render, Parser, str]] = {
    "command line": (procfs.render_cmdline, procfs.parse_cmdline, CMDLINE),
    "modprobe.d": (modules.render_modprobe, modules.parse_modprobe, MODPROBE),
    "containerd": (containerd.render_config, _judged_config, CONFIG),
    "kata": (containerd.render_kata, containerd.parse_kata, str(KATA_FILES[KATA_TOML])),
    "cdi": (cdi.render_spec, cdi.parse_spec, cdi_spec({"0": "/dev/vfio/1", "1": "/dev/x"})),
}
FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", KEEPS)
def test_what_is_judged_is_kept(name: str) -> None:
    render, parse, example = KEEPS[name]

    assert parse(render(example)) == parse(example)


@pytest.mark.parametrize("name", KEEPS)
def test_keeping_twice_is_keeping_once(name: str) -> None:
    render, _, example = KEEPS[name]

    assert render(render(example)) == render(example)


@pytest.mark.parametrize("name", KEEPS)
@FUZZ
@given(seed=st.integers(0, 2**32))
def test_what_is_judged_of_a_changed_file_is_kept(name: str, seed: int) -> None:
    render, parse, example = KEEPS[name]
    changed = Mutator(seed).change(example.encode()).decode(errors="replace")
    try:
        judged = parse(changed)
    except ValueError:
        return

    assert parse(render(changed)) == judged
    assert render(render(changed)) == render(changed)


_CDI_SECRETS = (
    f"kind: a/b\ndevices:\n- name: '0'\n  containerEdits:\n    env:\n    - T={SECRET}\n"
    f"    deviceNodes:\n    - path: /dev/x\n      note: {SECRET}\n# {SECRET}\n"
)
# Where people put credentials: each is a way to say it, in the file of that name.
PLANTED = [
    ("command line", f"ro token={SECRET} intel_iommu=on\n"),
    ("command line", f"token={SECRET} intel_iommu=off\n"),
    ("command line", f'x foo.password="my {SECRET} x" ro\n'),
    ("command line", f"url=http://u:{SECRET}@h/ks ip=a,{SECRET}\n"),
    ("command line", f'ro "x={SECRET} y" iommu=pt\n'),
    ("modprobe.d", f"options nvme key={SECRET}\nblacklist nouveau\n"),
    ("modprobe.d", f"# {SECRET}\nblacklist nouveau # {SECRET}\n"),
    ("modprobe.d", f"install foo /bin/x --token {SECRET}\n"),
    ("modprobe.d", f"install foo /bin/false {SECRET}\nalias a {SECRET}\n"),
    ("containerd", f'version = 3\n[a."r".auth]\nusername = "u"\npassword = "{SECRET}"\n'),
    ("containerd", f'a = {{ "r" = {{ auth = {{ password = "{SECRET}" }} }} }}\n'),
    ("containerd", f'auth = [\n  "Basic {SECRET}",\n]\nversion = 3\n'),
    ("containerd", f'x = """\n{SECRET}\n"""\n'),
    ("containerd", f"x = '''\n{SECRET}\n'''\n# {SECRET}\n"),
    ("containerd", f'[plugins."p".containerd.runtimes.runc.options]\nEnv = ["T={SECRET}"]\n'),
    ("containerd", f'[plugins."p".containerd.runtimes.kata.options]\nToken = "{SECRET}"\n'),
    ("containerd", f'[proxy_plugins.{SECRET}]\naddress = "//u:{SECRET}@h"\n'),
    ("kata", f'[hypervisor.qemu]\npath = "/x"\nentropy = "{SECRET}"\n[agent]\nk = "{SECRET}"\n'),
    ("kata", f'[hypervisor.{SECRET}]\nkernel_params = "token={SECRET}"\nkernel = "/k"\n'),
    ("cdi", f"kind: a/b\ndevices: []\nannotations: {{token: {SECRET}}}\n"),
    ("cdi", f"kind: a/b\ncontainerEdits: {{env: ['T={SECRET}']}}\ndevices: [{{name: '0'}}]\n"),
    ("cdi", _CDI_SECRETS),
]


@pytest.mark.parametrize(("name", "text"), PLANTED)
def test_a_planted_secret_is_not_kept(name: str, text: str) -> None:
    render, parse, _ = KEEPS[name]

    assert SECRET not in render(text)
    assert parse(render(text)) == parse(text)


@pytest.mark.parametrize("name", KEEPS)
@FUZZ
@given(
    content=st.binary(max_size=100),
    way=st.sampled_from(["{}", "[{}", "{}: [", "{} = \n", "key = '{}", "\t{}\x00", "{}\n\n= x"]),
)
def test_of_a_file_that_cannot_be_parsed_only_the_reason_is_kept(
    name: str, content: bytes, way: str
) -> None:
    render, _, _ = KEEPS[name]
    raw = way.format(SECRET).encode() + content

    kept = keeping(render)(raw)

    assert SECRET.encode() not in kept


@pytest.mark.parametrize("name", KEEPS)
def test_a_file_that_is_no_text_is_not_kept(name: str) -> None:
    render, _, example = KEEPS[name]

    for raw in (b"\xff" + example.encode(), example.encode() + b"\0", bytes(range(256))):
        kept = keeping(render)(raw)

        assert example.encode() not in kept
        assert keeping(render)(kept) == kept


KUBELET_WAYS = {
    "/var/lib/kubelet/config.yaml": [
        f"{KUBELET}tokens:\n- {SECRET}\n",
        f"{KUBELET}block: |\n\n  {SECRET}\n",
        f"{KUBELET}# {SECRET}\n",
        f"{KUBELET}staticPodURLHeader: {{Authorization: ['Basic {SECRET}']}}\n",
        json.dumps({"featureGates": {"KubeletPodResourcesGet": True}, "password": SECRET}),
        f"{SECRET}: [\n",
    ],
    "/var/lib/kubelet/kubeadm-flags.env": [
        f'A="--bootstrap-token={SECRET} --feature-gates=KubeletPodResourcesGet=true"\n',
        f"export TOKEN='{SECRET}'\nB=\"--token {SECRET} --x=a,{SECRET}\"\n",
        f"HTTPS_PROXY=http://u:{SECRET}@proxy:3128\n# {SECRET}\n",
    ],
}


@pytest.mark.parametrize(
    ("path", "text"), [(path, text) for path, texts in KUBELET_WAYS.items() for text in texts]
)
def test_of_a_kubelet_only_gates_and_timeout_are_kept(tmp_path: Path, path: str, text: str) -> None:
    host = HostTree().adding({path: text})

    report(answers_of(host, tmp_path))

    assert SECRET not in repr(recorded(host, tmp_path / "again"))


@pytest.mark.parametrize(
    "text",
    [
        f"token: {SECRET}\nkubelet-arg:\n- runtime-request-timeout=20m\n",
        f"kubelet-arg: ['token={SECRET}', 'feature-gates=KubeletPodResourcesGet=true']\n",
        f'kubelet-arg:\n  - "authentication-token-webhook=true"\n  - provider-id={SECRET}\n',
        f"datastore-endpoint: mysql://u:{SECRET}@tcp(h)/k\n",
        f"agent-token: {SECRET}\n",
        f"{SECRET}\n",
    ],
)
def test_of_k3s_only_gates_and_timeout_are_kept(tmp_path: Path, text: str) -> None:
    host = HostTree(kube=K3S).adding({"/etc/rancher/k3s/config.yaml": text})

    report(answers_of(host, tmp_path))

    assert SECRET not in repr(recorded(host, tmp_path / "again"))


def recorded(host: HostTree, folder: Path) -> object:
    """Return all answers that a recording of a host would have."""
    recorder = Recorder(host.tree(folder))
    case_of(recorder, AFTER)
    return recorder.answers
