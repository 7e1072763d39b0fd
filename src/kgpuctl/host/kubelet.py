"""Read the kubelet's settings from where each distribution keeps them.

The configuration file, its drop-ins, and flags in environment files and the configurations of
k3s and RKE2; later ones win, and flags win over files, as in the kubelet itself.
"""

import re
from collections.abc import Mapping
from typing import Final

import yaml

from kgpuctl.host.containerd import parse_version
from kgpuctl.host.facts import Fact, Kubelet, Reason, Unread
from kgpuctl.host.procfs import read_text
from kgpuctl.host.tree import Tree

PROGRAMS: Final = (
    "/usr/bin/kubelet",
    "/usr/local/bin/kubelet",
    "/var/lib/k0s/bin/kubelet",
    "/var/lib/rancher/rke2/bin/kubelet",
    "/usr/local/bin/k3s",
    "/snap/microk8s/current/kubelite",
)
_CONFIGS: Final = ("/var/lib/kubelet/config.yaml", "/var/lib/k0s/kubelet-config.yaml")
_DROP_IN_DIRS: Final = (
    "/etc/kubernetes/kubelet.conf.d",
    "/var/lib/rancher/k3s/agent/etc/kubelet.conf.d",
    "/var/lib/rancher/rke2/agent/etc/kubelet.conf.d",
)
_FLAG_FILES: Final = (
    "/var/lib/kubelet/kubeadm-flags.env",
    "/etc/default/kubelet",
    "/etc/sysconfig/kubelet",
    "/var/snap/microk8s/current/args/kubelet",
)
_RANCHER_FILES: Final = ("/etc/rancher/k3s/config.yaml", "/etc/rancher/rke2/config.yaml")
_TRACES: Final = (
    "/var/lib/kubelet",
    "/var/lib/k0s/kubelet",
    "/var/lib/rancher/k3s/agent",
    "/var/lib/rancher/rke2/agent",
    "/var/snap/microk8s/current",
)
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def read_kubelet(tree: Tree) -> Fact[Kubelet | None]:
    """Return the merged settings, None where this host has no kubelet, or why not known."""
    traces = [tree.node(trace) for trace in _TRACES]
    unread = [trace for trace in traces if isinstance(trace, Unread)]
    if not any(trace is not None for trace in traces if trace not in unread):
        return unread[0] if unread else None
    paths = _config_files(tree)
    if isinstance(paths, Unread):
        return paths
    merged = _Merged()
    for path in paths:
        problem = _take_in(tree, path, merged)
        if problem is not None:
            return problem
    return Kubelet(tuple(merged.files), merged.gates, merged.timeout)


def _config_files(tree: Tree) -> Fact[tuple[str, ...]]:
    """Return the files that may hold settings, in the order in which they override each other."""
    drop_ins: list[str] = []
    for folder in _DROP_IN_DIRS:
        names = tree.names(folder)
        if isinstance(names, tuple):
            drop_ins += [f"{folder}/{name}" for name in names if name.endswith(".conf")]
        elif names is not None and names.reason is not Reason.NOT_RECORDED:
            return names
    return (*_CONFIGS, *drop_ins, *_RANCHER_FILES, *_FLAG_FILES)


def _take_in(tree: Tree, path: str, merged: "_Merged") -> Unread | None:
    """Add a file's settings; return why one that is there cannot be used."""
    text = read_text(tree, path)
    if isinstance(text, Unread):
        return None if text.reason is Reason.NOT_RECORDED else text
    if text is None:
        return None
    try:
        if path in _FLAG_FILES:
            merged.add_flags(text)
        else:
            merged.add_yaml(text, arguments_only=path in _RANCHER_FILES)
    except ValueError as error:
        return Unread(path, Reason.UNUSABLE, str(error))
    merged.files.append(path)
    return None


def read_kubelet_version(tree: Tree) -> Fact[str | None]:
    """Return the version of the first kubelet found, or of what carries one inside."""
    for program in PROGRAMS:
        answer = tree.ask(f"version {program}")
        if isinstance(answer, Unread):
            return answer
        if answer is not None:
            return parse_version(answer)
    return None


class _Merged:
    """Settings as they pile up."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.gates: dict[str, bool] = {}
        self.timeout: float | None = None

    def add_yaml(self, text: str, *, arguments_only: bool) -> None:
        """Take in a KubeletConfiguration, or only the `kubelet-arg` list of a Rancher file."""
        try:
            config = yaml.load(text, Loader=_LOADER)  # noqa: S506  # it is the safe loader, in C
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ValueError("it is not YAML") from error
        if config is None:
            return
        if not isinstance(config, dict):
            raise ValueError("it is not a mapping")  # noqa: TRY004  # callers catch one error
        if arguments_only:
            arguments = config.get("kubelet-arg", [])
            for argument in arguments if isinstance(arguments, list) else [arguments]:
                self.add_flags(f"--{argument}")
            return
        gates = config.get("featureGates")
        for gate, value in (gates if isinstance(gates, Mapping) else {}).items():
            if isinstance(value, bool):
                self.gates[str(gate)] = value
        timeout = config.get("runtimeRequestTimeout")
        if timeout is not None:
            self.timeout = parse_duration(str(timeout)) or None

    def add_flags(self, text: str) -> None:
        """Take in --feature-gates and --runtime-request-timeout wherever they stand in `text`."""
        text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
        for gates in re.findall(r"--feature-gates[= ]\"?([\w=,]+)", text):
            for gate in gates.split(","):
                name, _, value = gate.partition("=")
                self.gates[name] = value.lower() == "true"
        for timeout in re.findall(r"--runtime-request-timeout[= ]\"?([\w.]+)", text):
            self.timeout = parse_duration(timeout) or None


def parse_duration(text: str) -> float:
    """Return the seconds in a Go duration ("20m0s"); 0 is the kubelet's word for its default."""
    if text == "0":
        return 0.0
    if not re.fullmatch(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+", text):
        raise ValueError(f"not a duration: {text[:40]!r}")
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
