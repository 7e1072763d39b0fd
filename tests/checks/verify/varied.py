"""A healthy cluster with one thing put in: what verify then finds that it did not find before."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, NamedTuple

import pytest
from _pytest.mark import ParameterSet

from clusters import (
    OLD,
    SNAPSHOTS,
    Change,
    Cluster,
    Json,
    coco_cluster,
    judged,
    kata_deploy_cluster,
    log,
    recorded,
)
from kgpuctl.names import Tee
from kgpuctl.report import Report, Result, Status

KATA: Final = "kata-deploy"
COCO: Final = "coco"
BOTH: Final = (KATA, COCO)
_RECORDED: Final = {
    KATA: "v26.7.0-healthy.json",
    COCO: "v25.10.1-coco-v0.17.0-kata-manager-healthy.json",
}
_BUILT: Final[dict[str, Callable[[], Cluster]]] = {KATA: kata_deploy_cluster, COCO: coco_cluster}
# What a check says that is not asked for want of anything to ask about.
NO_TARGET: Final = "there is no target node"
TOLD: Final = "that Kata is not installed there is told already"
_OF_KATA: Final = frozenset({"verify.kata-installer", "verify.node-kata-label"})
NONE_TOLD: Final = "this kubelet does not tell its runtime handlers"

Key = tuple[str, str, str]


class Variation(NamedTuple):
    """A cluster by name, what is done to it, and what verify must find then: no more, no less."""

    cluster: str
    change: Change
    expected: frozenset[Key]
    says: tuple[str, ...] = ()
    tee: Tee | None = None
    skips: tuple[str, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether its cluster can be had: recordings are not part of the project."""
        return self.cluster in BOTH or (SNAPSHOTS / self.cluster).exists()


def vary(  # noqa: PLR0913  # a row of a table
    name: str,
    change: Change,
    *expected: str,
    on: Iterable[str] = BOTH,
    built_only: bool = False,
    says: Iterable[str] = (),
    tee: Tee | None = None,
    skips: Iterable[str] = (),
) -> list[ParameterSet]:
    """Return rows: the same variation of each stack, of the built and of the recorded cluster.

    A finding is written as it is told: "failed verify.nfd gpu-1". `{plugin}` is the name of the
    stack's device plugin; `says` are parts of the messages; `skips` are reasons of checks that
    are no longer asked, beside those that follow from a finding.
    """
    rows = []
    for stack in on:
        plugin = "sandbox-device-plugin-daemonset"
        plugin = f"nvidia-kata-{plugin}" if stack == KATA else f"nvidia-{plugin}"
        keys = frozenset(_key(text.replace("{plugin}", plugin)) for text in expected)
        for cluster in (stack,) if built_only else (stack, _RECORDED[stack]):
            row = Variation(cluster, change, keys, tuple(says), tee, tuple(skips))
            label = stack if cluster == stack else f"{stack} recorded"
            there = [] if row.is_there else [pytest.mark.skip(reason="no recordings at hand")]
            rows.append(pytest.param(row, id=f"{name} [{label}]", marks=there))
    return rows


def _key(text: str) -> Key:
    status, id_, *subject = text.split(" ", 2)
    return status, id_, subject[0] if subject else ""


@cache
def _original(name: str) -> Cluster:
    return _BUILT[name]() if name in _BUILT else recorded(name)


def healthy(name: str) -> Cluster:
    """Return a cluster that may be changed."""
    return _original(name).copy()


@cache
def before(name: str, tee: Tee | None) -> Report:
    """Return what is said of a cluster before it is changed."""
    return judged(_original(name).snapshot(), tee)


def key(result: Result) -> Key:
    """Return what a finding is known by."""
    return result.status.value, result.id, result.subject


def problems(report: Report) -> frozenset[Key]:
    """Return what a person should look at."""
    return frozenset(key(result) for result in report.results if result.is_problem)


def assert_exactly(row: Variation) -> Report:
    """Change the cluster, and compare: these findings more, and all else as before or explained."""
    cluster = healthy(row.cluster)
    row.change(cluster)
    report, first = judged(cluster.snapshot(), row.tee), before(row.cluster, row.tee)
    expected = frozenset(row.expected)

    assert problems(report) - problems(first) == expected, _told(report)
    told = "\n".join(f"{it.message} {it.remedy_text}" for it in report.results if it.is_problem)
    for words in row.says:
        assert words in told
    assert_worded(report)
    _assert_skips_explained(report, first, row.skips)
    return report


def _assert_skips_explained(report: Report, first: Report, allowed: tuple[str, ...]) -> None:
    asked = {(it.id, it.subject) for it in first.results if it.status is not Status.SKIPPED}
    found = {it.id for it in report.results if it.is_problem}
    for result in report.results:
        is_new = result.status is Status.SKIPPED and (result.id, result.subject) in asked
        if not is_new or result.message in allowed:
            continue
        if result.message == TOLD and found & _OF_KATA:
            continue
        cause = re.fullmatch(r"follows from (verify\.[a-z-]+)", result.message)
        assert cause, f"{result.id} {result.subject} is skipped: {result.message}"
        assert cause[1] in found, f"{result.id}: {cause[1]} is said to be wrong, and is not told"


def assert_worded(report: Report) -> None:
    """See that each finding says what is wrong and what to do, with all its blanks filled in."""
    for result in report.results:
        if not result.is_problem:
            continue
        assert result.message, result.id
        assert result.remedy_text, result.id
        assert result.remedy_text.count("`") % 2 == 0, result.remedy_text
        for text in (result.message, result.remedy_text):
            assert "{subject}" not in text or result.subject == ""
            assert "{one subject}" not in text
            assert not re.search(r"\bNone\b|  |:\s*$|\{\}|Namespace/", text), text


def _told(report: Report) -> str:
    return "\n".join(
        f"{it.status.value} {it.id} {it.subject}: {it.message}"
        for it in report.results
        if it.is_problem
    )


# ---- what is put in ------------------------------------------------------------------------------


def together(*changes: Change) -> Change:
    """Return several changes as one."""

    def change(cluster: Cluster) -> None:
        for part in changes:
            part(cluster)

    return change


def label(node: str, key_: str, value: str | None) -> Change:
    """Set a label of a node, or take it away."""

    def change(cluster: Cluster) -> None:
        if value is None:
            cluster.labels(node).pop(key_, None)
        else:
            cluster.labels(node)[key_] = value

    return change


def both_targets(make: Callable[[str], Change]) -> Change:
    """Do the same to both targets."""
    return together(make("gpu-1"), make("gpu-2"))


def offers(node: str, amounts: Json) -> Change:
    """Replace what a node hands out; nothing is handed out of what is not named."""

    def change(cluster: Cluster) -> None:
        status = cluster.get("Node", node)["status"]
        for field in ("allocatable", "capacity"):
            kept = {name: n for name, n in status[field].items() if "nvidia.com/" not in name}
            status[field] = kept | amounts

    return change


def policy_status(state: str, ready: Json | None = None, error: Json | None = None) -> Change:
    """Have the operator say something else of itself."""

    def change(cluster: Cluster) -> None:
        told = [
            {"type": kind, **words}
            for kind, words in (("Ready", ready), ("Error", error))
            if words is not None
        ]
        cluster.policy()["status"] = {"state": state, "conditions": told}

    return change


def not_ready(reason: str, message: str) -> Change:
    """Have the operator wait for something, as it says it from v23.9 on."""
    return policy_status(
        "notReady",
        {"status": "False", "reason": "Error", "message": ""},
        {"status": "True", "reason": reason, "message": message},
    )


WAITS: Final = not_ready(
    "OperandNotReady", "ClusterPolicy is not ready, states not ready: [state-sandbox-validation]"
)


def gone(owner: str, *nodes: str) -> Change:
    """Take an operand's pods from nodes, as its DaemonSet counts them."""

    def change(cluster: Cluster) -> None:
        status = cluster.get("DaemonSet", owner)["status"]
        for node in nodes:
            cluster.drop_pods(owner, node)
            for field in ("desiredNumberScheduled", "numberReady", "updatedNumberScheduled"):
                status[field] -= 1

    return change


def crash(  # noqa: PLR0913  # what a pod shows
    owner: str,
    container: str,
    words: str,
    *,
    node: str = "gpu-1",
    init: bool = False,
    written: str = "",
) -> Change:
    """Have a container end again and again; `words` it leaves behind, `written` is its log."""

    def change(cluster: Cluster) -> None:
        found = cluster.pod(owner, node)
        state = {
            "name": container,
            "ready": False,
            "restartCount": 12,
            "state": {
                "waiting": {
                    "reason": "CrashLoopBackOff",
                    "message": f"back-off 5m0s restarting failed container={container}",
                }
            },
            "lastState": {
                "terminated": {
                    "exitCode": 1,
                    "reason": "Error",
                    "message": words,
                    "finishedAt": OLD,
                }
            },
        }
        field = "initContainerStatuses" if init else "containerStatuses"
        found["status"] = {
            "phase": "Pending" if init else "Running",
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
            field: [state],
        }
        if cluster.has("DaemonSet", owner):
            cluster.get("DaemonSet", owner)["status"]["numberReady"] -= 1
        if written:
            cluster.add(log(found, container, written, previous=True))

    return change


def waiting(owner: str, container: str, reason: str, message: str, node: str = "gpu-1") -> Change:
    """Have a container wait for something that does not come, as for its image."""

    def change(cluster: Cluster) -> None:
        found = cluster.pod(owner, node)
        found["status"] = {
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
            "containerStatuses": [
                {
                    "name": container,
                    "ready": False,
                    "state": {"waiting": {"reason": reason, "message": message}},
                }
            ],
        }

    return change


def set_image(daemon_set: str, image: str) -> Change:
    """Have a DaemonSet run another image."""

    def change(cluster: Cluster) -> None:
        spec = cluster.get("DaemonSet", daemon_set)["spec"]["template"]["spec"]
        spec["containers"][0]["image"] = image

    return change
