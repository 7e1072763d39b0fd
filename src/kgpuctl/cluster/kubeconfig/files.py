"""Reading kubeconfig files, and making one of several as kubectl does: what comes first stands."""

import os
from pathlib import Path
from typing import Final

import msgspec
import yaml

from kgpuctl.cluster.access import Surroundings
from kgpuctl.cluster.failures import ClusterError
from kgpuctl.cluster.kubeconfig.shapes import Document, Kubeconfig
from kgpuctl.cluster.secret import Secret

LARGEST: Final = 16 * 1024 * 1024  # bytes
_DEEPEST: Final = 100
_REMEDY: Final = "Correct the file, or name another with --kubeconfig or KUBECONFIG."


class _Words(yaml.CSafeLoader):
    """YAML in which a scalar is a string, as a kubeconfig's fields are: a token may be 1234."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as the library declares it
        first: [rule for rule in rules if rule[0].endswith((":null", ":merge"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def kubeconfig_paths(option: str | None, around: Surroundings) -> tuple[Path, ...]:
    """Return the files to read, in order: --kubeconfig, else KUBECONFIG, else ~/.kube/config."""
    if option is not None:
        return (_expanded(option, around),)
    listed = [part for part in around.environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    if listed:
        return tuple(dict.fromkeys(_expanded(part, around) for part in listed))
    return (around.home / ".kube" / "config",)


def _expanded(path: str, around: Surroundings) -> Path:
    if path == "~" or path.startswith("~/"):
        return around.home / path[2:]
    return Path(path)


def read_kubeconfig(option: str | None, around: Surroundings) -> Kubeconfig | None:
    """Return the files as one, or None where there is none; --kubeconfig must be there."""
    paths = kubeconfig_paths(option, around)
    found = [(path, content) for path in paths if (content := _read(path)) is not None]
    if not found:
        if option is not None:
            raise ClusterError(
                f"There is no kubeconfig {paths[0]}.", remedy="Correct --kubeconfig."
            )
        return None
    return _merged([(path, _parse(path, content)) for path, content in found])


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no usable path"
        raise ClusterError(
            f"The kubeconfig {path} cannot be read: {why}.",
            remedy="Make it readable, or name another with --kubeconfig or KUBECONFIG.",
        ) from None
    if len(content) > LARGEST:
        raise ClusterError(
            f"The kubeconfig {path} is larger than {LARGEST // 1024**2} MiB.", remedy=_REMEDY
        )
    return content


def _parse(path: Path, content: bytes) -> Document:
    try:
        data = _load(content.decode("utf-8-sig"))
        return msgspec.convert(
            _without_nulls(data or {}, {}), Document, strict=False, dec_hook=_secret
        )
    except msgspec.ValidationError as error:
        what = f"has not the shape of a kubeconfig: {error}"
    except yaml.MarkedYAMLError as error:
        what = "is not YAML" + (
            f": line {error.problem_mark.line + 1}" if error.problem_mark else ""
        )
    except (yaml.YAMLError, ValueError, RecursionError):
        what = "is not YAML"
    # Unchained: the cause may quote what it could not read, and that may be a credential.
    raise ClusterError(f"The kubeconfig {path} {what}.", remedy=_REMEDY)


def _load(text: str) -> object:
    """Return what a YAML text says; deep nesting would crash the parser's own construction."""
    depth = 0
    for event in yaml.parse(text, Loader=_Words):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError("nested too deep")
    return yaml.load(text, Loader=_Words)  # noqa: S506  # it constructs strings, lists and maps


def _without_nulls(value: object, done: dict[int, object]) -> object:
    """Return the value without nulls, which mean the same as absent; aliases stay shared."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        fields: dict[object, object] = {}
        done[id(value)] = fields
        fields.update(
            (key, _without_nulls(item, done)) for key, item in value.items() if item is not None
        )
        return fields
    if isinstance(value, list):
        items: list[object] = []
        done[id(value)] = items
        items.extend(_without_nulls(item, done) for item in value if item is not None)
        return items
    return value


def _secret(kind: type, value: object) -> object:
    if kind is Secret and (value is None or isinstance(value, str)):
        return Secret(value or "")
    raise ValueError("Expected `str`")


def _merged(files: list[tuple[Path, Document]]) -> Kubeconfig:
    whole = Kubeconfig(tuple(str(path) for path, _ in files), "", {}, {}, {})
    current = ""
    for path, document in files:
        current = current or document.current_context
        directory = path.absolute().parent
        for cluster in document.clusters:
            whole.clusters.setdefault(cluster.name, (cluster.cluster, directory))
        for user in document.users:
            whole.users.setdefault(user.name, (user.user, directory))
        for context in document.contexts:
            whole.contexts.setdefault(context.name, context.context)
    return msgspec.structs.replace(whole, current_context=current)
