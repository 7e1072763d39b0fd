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
    if not any(node is not None and not isinstance(node, Unread) for node in traces):
        return next((node for node in traces if isinstance(node, Unread)), None)
    merged = _Merged()
    paths = [*_CONFIGS]
    for folder in _DROP_IN_DIRS:
        names = tree.names(folder)
        if isinstance(names, Unread) and names.reason is not Reason.NOT_RECORDED:
            return names
        if isinstance(names, tuple):
            paths += [f"{folder}/{name}" for name in names if name.endswith(".conf")]
    for path in (*paths, *_RANCHER_FILES, *_FLAG_FILES):
        text = read_text(tree, path)
        if isinstance(text, Unread):
            if text.reason is Reason.NOT_RECORDED:
                continue
            return text
        if text is None:
            continue
        try:
            if path in _FLAG_FILES:
                merged.add_flags(text)
            else:
                merged.add_yaml(text, arguments_only=path in _RANCHER_FILES)
        except ValueError as error:
            return Unread(path, Reason.UNUSABLE, str(error))
        merged.files.append(path)
    if not merged.files and isinstance(traces[0], Unread):
        return traces[0]
    return Kubelet(tuple(merged.files), merged.gates, merged.timeout)


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
