"""Read CDI specs (github.com/cncf-tags/container-device-interface, SPEC.md)."""

import json
from collections.abc import Mapping
from typing import Final

from kgpuctl.host.facts import CdiDevice, CdiSpec
from kgpuctl.host.text import keeping, parse_yaml, read_text
from kgpuctl.host.tree import Tree
from kgpuctl.unread import Fact, Reason, Unread

DIRECTORIES: Final = ("/etc/cdi", "/var/run/cdi")
_ENDINGS: Final = (".yaml", ".yml", ".json")


def read_cdi(tree: Tree) -> Fact[tuple[CdiSpec, ...]]:
    """Read every spec in CDI's two directories."""
    specs = []
    for folder in DIRECTORIES:
        names = tree.names(folder)
        if isinstance(names, Unread):
            return names
        for name in names or ():
            if not name.endswith(_ENDINGS):
                continue
            path = f"{folder}/{name}"
            text = read_text(tree, path, keeping(render_spec))
            if isinstance(text, Unread):
                if text.reason is not Reason.UNUSABLE:
                    return text
                specs.append(CdiSpec(path, problem=text.detail))
            elif text is not None:
                specs.append(_read_spec(tree, path, text))
    return tuple(specs)


def _read_spec(tree: Tree, path: str, text: str) -> CdiSpec:
    try:
        kind, devices = parse_spec(text)
    except ValueError as error:
        return CdiSpec(path, problem=str(error))
    return CdiSpec(
        path,
        kind,
        tuple(
            CdiDevice(name, tuple((node, _exists(tree, node)) for node in nodes))
            for name, nodes in devices
        ),
    )


def _exists(tree: Tree, path: str) -> Fact[bool]:
    node = tree.node(path)
    return node if isinstance(node, Unread) else node is not None


def parse_spec(text: str) -> tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]:
    """Return a spec's kind and its devices, each with the host paths of its device nodes."""
    spec = parse_yaml(text)
    kind = spec.get("kind") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(kind, str) or "/" not in kind:
        raise ValueError("it has no kind of the form vendor/class")
    devices = spec.get("devices")
    if not isinstance(devices, list):
        raise ValueError("it has no list of devices")  # noqa: TRY004  # callers catch one error
    return kind, tuple(_parse_device(device) for device in devices)


def render_spec(text: str) -> str:
    """Return the part of a spec that is judged, as JSON."""
    kind, devices = parse_spec(text)
    listed = [
        {"name": name, "containerEdits": {"deviceNodes": [{"path": node} for node in nodes]}}
        for name, nodes in devices
    ]
    return json.dumps({"kind": kind, "devices": listed})


def _parse_device(device: object) -> tuple[str, tuple[str, ...]]:
    name = device.get("name") if isinstance(device, dict) else None
    if not isinstance(device, dict) or not isinstance(name, str) or not name:
        # The published example has the name one level too high: such a device is refused.
        raise ValueError("a device has no name")
    edits = device.get("containerEdits")
    nodes = edits.get("deviceNodes") if isinstance(edits, Mapping) else None
    paths = []
    for node in nodes if isinstance(nodes, list) else ():
        path = (node.get("hostPath") or node.get("path")) if isinstance(node, dict) else None
        if isinstance(path, str) and path.startswith("/") and "\0" not in path:
            paths.append(path)
    return name, tuple(paths)
