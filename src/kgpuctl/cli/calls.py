"""Which calls each command makes, put together from those who make them."""

from collections.abc import Sequence

from kgpuctl.cluster.reader import KUBELET_CALLS, LIST_CALLS, LOG_CALLS, WATCH_CALLS
from kgpuctl.cluster.resources import Call
from kgpuctl.cluster.rights import Holder
from kgpuctl.errors import UsageError, shown
from kgpuctl.steps.label import CALLS as LABEL_CALLS


def calls_of(command: str, *, kubelets: bool = False) -> tuple[Call, ...]:
    """Return the calls of a command. Every user may ask what they may do, and the version."""
    reading: Sequence[Call] = (*LIST_CALLS, *LOG_CALLS, *(KUBELET_CALLS if kubelets else ()))
    return {
        "verify": (*reading, *WATCH_CALLS),
        "snapshot": tuple(reading),
        "preflight": tuple(reading),
        "label-nodes": tuple(LABEL_CALLS),
    }[command]


def install_calls() -> tuple[Call, ...]:
    """Return what preparing a cluster and verifying it asks of it."""
    return tuple(dict.fromkeys((*calls_of("label-nodes"), *calls_of("verify"))))


def holder_of(user: str | None, group: str | None, serviceaccount: str | None) -> Holder | None:
    """Return who is to have the rights; only one can be named."""
    named = [word for word in (user, group, serviceaccount) if word is not None]
    if len(named) > 1:
        raise UsageError(
            "Only one of --user, --group and --serviceaccount can be used.",
            remedy="Run the command once for each.",
        )
    if serviceaccount is not None:
        namespace, _, name = serviceaccount.partition(":")
        if not namespace or not name:
            raise UsageError(
                f"{shown(serviceaccount)} is no service account.",
                remedy="Write it as NAMESPACE:NAME, such as kgpuctl:verify.",
            )
        return Holder("ServiceAccount", name, namespace)
    if user is not None:
        return Holder("User", user)
    return Holder("Group", group) if group is not None else None
