"""`kgpuctl rbac`: the rights that a command needs, as a manifest."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from kgpuctl.stdout import write


class Command(StrEnum):
    """The commands that ask a cluster."""

    VERIFY = "verify"
    SNAPSHOT = "snapshot"
    PREFLIGHT = "preflight"
    LABEL_NODES = "label-nodes"


class ManifestOutput(StrEnum):
    """How a manifest is written."""

    YAML = "yaml"
    JSON = "json"


def rbac(  # noqa: PLR0913  # its options
    *,
    command: Annotated[Command, typer.Option(help="The command that is to be run.")],
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Bind to this user.")] = None,
    group: Annotated[str | None, typer.Option(metavar="NAME", help="Bind to this group.")] = None,
    serviceaccount: Annotated[
        str | None,
        typer.Option(metavar="NAMESPACE:NAME", help="Bind to this service account."),
    ] = None,
    kubelet_config: Annotated[
        bool, typer.Option("--kubelet-config", help="Also what --kubelet-config needs.")
    ] = False,
    output: Annotated[
        ManifestOutput, typer.Option("--output", "-o", help="How to write it.")
    ] = ManifestOutput.YAML,
) -> None:
    """Print the least rights with which a command runs, computed from the calls that it makes.

    Example: kgpuctl rbac --command verify --serviceaccount kgpuctl:verify | kubectl apply -f -
    """
    import yaml

    from kgpuctl.cli.calls import calls_of, holder_of
    from kgpuctl.cluster.rights import manifest

    holder = holder_of(user, group, serviceaccount)
    calls = calls_of(command.value, kubelets=kubelet_config)
    objects = manifest(f"kgpuctl-{command.value}", calls, holder)
    if output is ManifestOutput.JSON:
        items = {"apiVersion": "v1", "kind": "List", "items": objects}
        write(json.dumps(items, indent=2) + "\n")
        return
    head = "" if holder else "# It binds them with --user, --group or --serviceaccount.\n"
    write(head + yaml.safe_dump_all(objects, sort_keys=False))
