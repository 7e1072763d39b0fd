"""Read the kubelet's settings from where each distribution keeps them.

The configuration file, its drop-ins, and flags in environment files and the configurations of
k3s and RKE2; later ones win, and flags win over files, as in the kubelet itself.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from kgpuctl.host.containerd import parse_version
from kgpuctl.host.facts import Kubelet
from kgpuctl.host.text import keeping, parse_yaml, read_text
from kgpuctl.host.tree import Tree
from kgpuctl.unread import Fact, Reason, Unread

PROGRAMS: Final = (
    "/usr/bin/kubelet",
    "/usr/local/bin/kubelet",
    "/var/lib/k0s/bin/kubelet",
    "/var/lib/rancher/rke2/bin/kubelet",
    "/usr/local/bin/k3s",
    "/snap/microk8s/current/kubelite",
)
_CONFIGS: Final = (
    "/var/lib/kubelet/config.yaml",
    "/var/lib/k0s/kubelet-config.yaml",
    "/etc/kubernetes/kubelet.yaml",  # Talos
    "/etc/kubernetes/kubelet/config.json",  # EKS
    "/etc/kubernetes/kubelet/kubelet-config.json",
    "/etc/kubernetes/kubelet/config",  # Bottlerocket
)
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
_RANCHER: Final = ("/etc/rancher/k3s/config.yaml", "/etc/rancher/rke2/config.yaml")
_TRACES: Final = (
    "/var/lib/kubelet",
    "/var/lib/k0s/kubelet",
    "/var/lib/rancher/k3s/agent",
    "/var/lib/rancher/rke2/agent",
    "/var/snap/microk8s/current",
)
# As YAML 1.1 spells it, which the kubelet reads.
_TRUE: Final = frozenset({"true", "yes", "on", "y"})
_JUDGED: Final = re.compile(r"(?:feature-gates|runtime-request-timeout)=")
# A line of an environment file, of microk8s' flags, or the rest of a continued one.
_FLAG_LINE: Final = re.compile(r"\s*(?:$|--?\w|(?:export\s+)?[A-Za-z_]\w*=)")
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
    try:
        merged.add_arguments()
    except ValueError as error:
        return Unread(_RANCHER[0], Reason.UNUSABLE, str(error))
    return Kubelet(tuple(merged.files), merged.gates, merged.timeout)


def _config_files(tree: Tree) -> Fact[tuple[str, ...]]:
    """Return the files that may hold settings, in the order in which they override each other."""
    paths = list(_CONFIGS)
    for folder, ending in [(folder, ".conf") for folder in _DROP_IN_DIRS] + [
        (f"{path}.d", ".yaml") for path in _RANCHER
    ]:
        names = tree.names(folder)
        if isinstance(names, Unread):
            return names
        paths += [folder.removesuffix(".d")] if ending == ".yaml" else []
        paths += [f"{folder}/{name}" for name in names or () if name.endswith(ending)]
    return (*paths, *_FLAG_FILES)


def _is_rancher(path: str) -> bool:
    return path.startswith(_RANCHER)


def _take_in(tree: Tree, path: str, merged: "_Merged") -> Unread | None:
    """Add a file's settings; return why one that is there cannot be used."""
    text = read_text(tree, path, keeping(lambda text: _render(path, text)))
    if isinstance(text, Unread):
        return text
    if text is None:
        return None
    try:
        merged.add(path, text)
    except ValueError as error:
        return Unread(path, Reason.UNUSABLE, str(error))
    merged.files.append(path)
    return None


def _render(path: str, text: str) -> str:
    """Return the part of a file that is judged, in the file's own format."""
    found = _Merged()
    found.add(path, text)
    if _is_rancher(path):
        return json.dumps({key: list(filter(_JUDGED.match, args)) for key, args in found.given})
    if path not in _FLAG_FILES:
        timeout = (
            {} if found.timeout_text is None else {"runtimeRequestTimeout": found.timeout_text}
        )
        return json.dumps({"featureGates": found.gates} | timeout)
    gates = ",".join(f"{gate}={str(value).lower()}" for gate, value in found.gates.items())
    flags = [f"--feature-gates={gates}"] if gates else []
    flags += [f"--runtime-request-timeout={found.timeout_text}"] if found.timeout_text else []
    return " ".join(flags) + "\n"


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
        self.timeout_text: str | None = None
        self.given: list[tuple[str, list[str]]] = []  # Rancher's kubelet-arg and kubelet-arg+

    @property
    def timeout(self) -> float | None:
        """Return the timeout in seconds; 0 is the kubelet's word for its default."""
        return parse_duration(self.timeout_text) or None if self.timeout_text else None

    def add(self, path: str, text: str) -> None:
        """Take in a KubeletConfiguration, a Rancher configuration, or a file of flags."""
        if path in _FLAG_FILES:
            self._add_flags(text)
            return
        config = parse_yaml(text)
        if config is None or config == "":
            return
        if not isinstance(config, dict):
            raise ValueError("it is not a mapping")  # noqa: TRY004  # callers catch one error
        if not _is_rancher(path):
            self._add_config(config)
            return
        for key in ("kubelet-arg", "kubelet-arg+"):
            if key in config:
                value = config[key] if isinstance(config[key], list) else [config[key]]
                self.given.append((key, [item for item in value if isinstance(item, str)]))

    def add_arguments(self) -> None:
        """Take in Rancher's arguments: a later kubelet-arg replaces what was, with + it adds."""
        arguments: list[str] = []
        for key, values in self.given:
            arguments = (arguments if key.endswith("+") else []) + values
        for argument in arguments:
            self._add_flags(f"--{argument}")

    def _add_config(self, config: Mapping[str, object]) -> None:
        gates = config.get("featureGates")
        for gate, value in (gates if isinstance(gates, Mapping) else {}).items():
            if isinstance(value, str):
                self.gates[gate] = value.lower() in _TRUE
        timeout = config.get("runtimeRequestTimeout")
        if timeout is not None:
            self._set_timeout(timeout if isinstance(timeout, str) else "")

    def _add_flags(self, text: str) -> None:
        """Take in --feature-gates and --runtime-request-timeout wherever they stand in `text`."""
        lines = [line for line in text.split("\n") if not line.lstrip().startswith("#")]
        if not all(_FLAG_LINE.match(line) for line in lines):
            raise ValueError("a line of it is neither a flag nor a variable")
        text = "\n".join(lines)
        for gates in re.findall(r"--feature-gates[= ]\"?([\w=,]+)", text):
            for gate in gates.split(","):
                name, _, value = gate.partition("=")
                self.gates[name] = value.lower() in _TRUE
        for timeout in re.findall(r"--runtime-request-timeout[= ]\"?([\w.]+)", text):
            self._set_timeout(timeout)

    def _set_timeout(self, text: str) -> None:
        parse_duration(text)  # refuses what is none
        self.timeout_text = text


def parse_duration(text: str) -> float:
    """Return the seconds in a Go duration ("20m0s")."""
    if text == "0":
        return 0.0
    number = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
    if not re.fullmatch(rf"(?:{number}(?:h|ms|m|s)){{1,8}}", text):
        raise ValueError("its runtimeRequestTimeout is not a duration")
    parts = re.findall(rf"({number})(h|ms|m|s)", text)
    return sum(float(value) * _UNITS[unit] for value, unit in parts)
