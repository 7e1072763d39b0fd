"""Find a host's container runtime and read its configuration with everything that it imports.

Locations: the manuals of containerd, k3s, RKE2, k0s and MicroK8s; schema versions 2, 3 and 4 as
in containerd's docs/cri/config.md.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from posixpath import dirname, join, normpath
from typing import Final

from kgpuctl.host.facts import ContainerdConfig, Import, KataArtifact, KataHandler, Runtime
from kgpuctl.host.text import keeping, parse_toml, read_parsed
from kgpuctl.host.tree import Tree
from kgpuctl.unread import Fact, Reason, Unread

MAX_IMPORTS: Final = 64
_ARTIFACT_KEYS: Final = ("path", "kernel", "image", "initrd")


@dataclass(frozen=True, slots=True)
class Flavour:
    """A way of shipping a container runtime; any of `traces` shows that a host has it.

    `hints` (a configuration directory) may outlive it, and count where nothing else is found.
    """

    name: str
    traces: tuple[str, ...]
    hints: tuple[str, ...]
    config: str
    unit: str
    programs: tuple[str, ...]
    state_dir: str
    supported: bool = True


# In the order of asking: a distribution that brings its own containerd goes before a plain one.
FLAVOURS: Final = (
    Flavour(
        "k3s",
        ("/var/lib/rancher/k3s/agent",),
        ("/etc/rancher/k3s",),
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        "k3s",
        ("/var/lib/rancher/k3s/data/current/bin/containerd",),
        "/var/lib/rancher",
    ),
    Flavour(
        "RKE2",
        ("/var/lib/rancher/rke2/agent",),
        ("/etc/rancher/rke2",),
        "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        "rke2-agent",
        ("/var/lib/rancher/rke2/bin/containerd",),
        "/var/lib/rancher",
    ),
    Flavour(
        "k0s",
        ("/var/lib/k0s",),
        ("/etc/k0s",),
        "/etc/k0s/containerd.toml",
        "k0sworker",
        ("/var/lib/k0s/bin/containerd",),
        "/var/lib/k0s",
    ),
    Flavour(
        "microk8s",
        ("/var/snap/microk8s/current",),
        (),
        "/var/snap/microk8s/current/args/containerd.toml",
        "snap.microk8s.daemon-containerd",
        ("/snap/microk8s/current/bin/containerd",),
        "/var/snap/microk8s/common",
    ),
    Flavour(
        "containerd",
        (
            "/etc/containerd/config.toml",
            "/usr/bin/containerd",
            "/usr/local/bin/containerd",
            "/opt/confidential-containers/bin/containerd",
        ),
        (),
        "/etc/containerd/config.toml",
        "containerd",
        (
            "/opt/confidential-containers/bin/containerd",
            "/usr/local/bin/containerd",
            "/usr/bin/containerd",
        ),
        "/var/lib/containerd",
    ),
    Flavour(
        "cri-o", ("/usr/bin/crio",), ("/etc/crio",), "", "crio", (), "/var/lib", supported=False
    ),
    Flavour("docker", ("/usr/bin/dockerd",), (), "", "docker", (), "/var/lib", supported=False),
)


def read_runtime(tree: Tree) -> Fact[Runtime | None]:
    """Return the container runtime, None where there is none, or why that is not known."""
    unread: Unread | None = None
    asked = [(flavour, trace) for flavour in FLAVOURS for trace in flavour.traces]
    asked += [(flavour, hint) for flavour in FLAVOURS for hint in flavour.hints]
    for flavour, trace in asked:
        node = tree.node(trace)
        if isinstance(node, Unread):
            unread = unread or node
        elif node is not None:
            return _read_flavour(tree, flavour)
    return unread


def _read_flavour(tree: Tree, flavour: Flavour) -> Runtime:
    none = ContainerdConfig("", exists=False)
    return Runtime(
        flavour=flavour.name,
        supported=flavour.supported,
        unit=flavour.unit,
        version=_read_version(tree, flavour),
        config=_read_config(tree, flavour.config) if flavour.config else none,
        state_dir=flavour.state_dir,
    )


def _read_version(tree: Tree, flavour: Flavour) -> Fact[str | None]:
    """Return the version of the first of the flavour's programs that is there."""
    for program in flavour.programs:
        answer = tree.ask(f"version {program}")
        if isinstance(answer, Unread):
            return answer
        if answer is not None:
            return parse_version(answer)
    return None


def parse_version(text: str) -> str | None:
    """Return the version in what `containerd --version` or `kubelet --version` prints."""
    match = re.search(r"\bv?([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}[\w.+~-]{0,40})", text)
    return match[1] if match else None


def _read_config(tree: Tree, path: str) -> Fact[ContainerdConfig]:
    """Read the configuration and, depth first, everything that it imports."""
    reader = _ConfigReader(tree)
    main = reader.load(path)
    if isinstance(main, Unread):
        return main
    if main is None:
        return ContainerdConfig(path, exists=False)
    if isinstance(main, str):
        return ContainerdConfig(path, exists=True, problem=main)
    follow = reader.follow(path, main)
    if isinstance(follow, Unread):
        return follow
    version = main.get("version")
    return ContainerdConfig(
        path,
        exists=True,
        version=version if isinstance(version, int) else None,
        disabled_plugins=tuple(
            plugin for table in reader.tables for plugin in _strings(table.get("disabled_plugins"))
        ),
        imports=tuple(reader.imports),
        handlers=tuple(_read_handlers(tree, reader.tables)),
    )


def parse_config(text: str) -> Mapping[str, object]:
    """Parse a containerd configuration; a wrong type keeps containerd from starting."""
    table = parse_toml(text)
    for key in ("disabled_plugins", "imports"):
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"its {key} is not a list of strings")
    if not isinstance(table.get("version", 1), int):
        raise ValueError("its version is not a number")  # noqa: TRY004  # callers catch one error
    return table


def render_config(text: str) -> str:
    """Return the part of a containerd configuration that is judged, as TOML."""
    table = parse_config(text)
    version = table.get("version")
    lines = [f"version = {version:d}"] if isinstance(version, int) else []
    lines += [
        f"{key} = [{', '.join(map(_quote, _strings(table.get(key))))}]"
        for key in ("disabled_plugins", "imports")
    ]
    for plugin, name, path in _config_paths(table):
        lines.append(f"[plugins.{_quote(plugin)}.containerd.runtimes.{_quote(name)}.options]")
        lines += [f"ConfigPath = {_quote(path)}"] if path else []
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class _ConfigReader:
    """Walks a configuration's imports; keeps the parsed tables and what each import was."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.tables: list[Mapping[str, object]] = []
        self.imports: list[Import] = []
        self._done: set[str] = set()

    def load(self, path: str) -> Fact[Mapping[str, object] | str | None]:
        """Return the table in a file, a sentence on why it is none, or None for no file."""
        table = read_parsed(self.tree, path, parse_config, keeping(render_config))
        if isinstance(table, Unread) and table.reason is Reason.UNUSABLE:
            return table.detail
        if isinstance(table, Mapping):
            self.tables.append(table)
        return table

    def follow(self, path: str, table: Mapping[str, object]) -> Unread | None:
        """Load what `table` imports, and what that imports."""
        self._done.add(path)
        for pattern in _strings(table.get("imports")):
            wanted = normpath(join(dirname(path), pattern))
            for target in _expand(self.tree, wanted):
                if isinstance(target, Unread):
                    return target
                if target in self._done or len(self._done) >= MAX_IMPORTS:
                    continue
                self._done.add(target)
                unread = self._follow_one(path, target)
                if unread is not None:
                    return unread
        return None

    def _follow_one(self, path: str, target: str) -> Unread | None:
        table = self.load(target)
        if isinstance(table, Unread):
            return table
        if table is None:
            self.imports.append(Import(target, path, "missing"))
        elif isinstance(table, str):
            self.imports.append(Import(target, path, table))
        else:
            self.imports.append(Import(target, path))
            return self.follow(target, table)
        return None


def _expand(tree: Tree, pattern: str) -> Iterator[str | Unread]:
    """Yield the files that an import names; it is a pattern only with a `*` in it."""
    if "*" not in pattern:
        yield pattern
        return
    paths: list[str] = [""]
    for part in pattern.strip("/").split("/"):
        found: list[str] = []
        for path in paths:
            names = tree.names(path or "/") if any(sign in part for sign in "*?[") else (part,)
            if isinstance(names, Unread):
                if names.reason is not Reason.UNUSABLE:  # a file among directories is no match
                    yield names
                continue
            found += [f"{path}/{name}" for name in names or () if fnmatchcase(name, part)]
        paths = found
    yield from (path for path in paths if tree.node(path) is not None)


def _strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _tables(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


# The plugin whose runtimes count, by the version of the file; any where it tells none.
_PLUGINS: Final = {
    1: "cri",
    2: "io.containerd.grpc.v1.cri",
    3: "io.containerd.cri.v1.runtime",
    4: "io.containerd.cri.v1.runtime",
}


def _config_paths(table: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield plugin, name and ConfigPath ("": none) of every Kata runtime of one file."""
    for plugin, settings in _tables(table.get("plugins")).items():
        containerd = _tables(_tables(settings).get("containerd"))
        for name, runtime in _tables(containerd.get("runtimes")).items():
            if name.startswith("kata"):
                path = _tables(_tables(runtime).get("options")).get("ConfigPath")
                yield plugin, name, path if isinstance(path, str) else ""


def _read_handlers(tree: Tree, tables: list[Mapping[str, object]]) -> Iterator[KataHandler]:
    """Yield the Kata runtimes of all files; a later file's ConfigPath wins.

    A table where this version of the file does not look is ignored, as containerd does.
    """
    found: dict[str, str] = {}
    main = tables[0].get("version")
    for table in tables:
        version = table.get("version", main)
        wanted = _PLUGINS.get(version) if isinstance(version, int) else None
        for plugin, name, path in _config_paths(table):
            if wanted in {None, plugin}:
                found[name] = path or found.get(name, "")
    for name, path in sorted(found.items()):
        yield _read_handler(tree, name, path)


def _read_handler(tree: Tree, name: str, path: str) -> KataHandler:
    if not path:
        return KataHandler(name, "", "it names no ConfigPath")
    files = read_parsed(tree, path, parse_kata, keeping(render_kata))
    if files is None:
        return KataHandler(name, path, f"there is no {path}")
    if isinstance(files, Unread):
        unusable = files.reason is Reason.UNUSABLE
        return KataHandler(name, path, f"{path}: {files.detail}" if unusable else files)
    artifacts = []
    for key, file in files:
        node = tree.node(file)
        exists = node if isinstance(node, Unread) else node is not None
        artifacts.append(KataArtifact(key, file, exists))
    return KataHandler(name, path, "", tuple(artifacts))


def parse_kata(text: str) -> tuple[tuple[str, str], ...]:
    """Return the files that a Kata configuration's hypervisors name, each with its key."""
    hypervisors = _tables(parse_toml(text).get("hypervisor")).values()
    return tuple(
        (key, file)
        for hypervisor in hypervisors
        for key in _ARTIFACT_KEYS
        if isinstance(file := _tables(hypervisor).get(key), str) and file.startswith("/")
    )


def render_kata(text: str) -> str:
    """Return the part of a Kata configuration that is judged, as TOML."""
    return "".join(
        f"[hypervisor.kept{number}]\n{key} = {_quote(file)}\n"
        for number, (key, file) in enumerate(parse_kata(text))
    )
