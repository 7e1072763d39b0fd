"""Pods that should run in VMs with GPUs: the stuck ones, each with what its words mean."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kgpuctl.checks.check import Outcome, check_all, failed, known, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.stuck import RECENT, Refusal, Trouble, has_started, refusals, trouble
from kgpuctl.checks.verify.gpus import free_on, passthrough_resources
from kgpuctl.checks.verify.operands import is_ready
from kgpuctl.checks.verify.platform import is_down
from kgpuctl.cluster.gpus import asked_of, is_over, is_passthrough_resource
from kgpuctl.cluster.keep import is_stack_pod
from kgpuctl.cluster.objects import Event, Node, Pod
from kgpuctl.names import CONTAINER_RUNTIME_CLASSES, GPU_HANDLER_MARK, STACK_POD_MARKS
from kgpuctl.report import Remedy
from kgpuctl.unread import Reason, Unread

_NOT_FOUND: Final = re.compile(
    r'(?i:runtimeclass(?:es)?(?:\.node\.k8s\.io)?) "([^"]{1,253})" not found'
)
_KATA_WORDS: Final = ("kata", "RuntimeClass")
# Explanations with which neither the VM nor its GPU has anything to do: the program in the
# container ends, its image cannot be had, or there is no room for it. Any pod can have these.
OF_ANY_POD: Final = frozenset(
    {
        "command-not-found",
        "container-config-error",
        "container-crashed",
        "container-failed",
        "container-killed",
        "container-out-of-memory",
        "crash-loop",
        "deadline-exceeded",
        "evicted",
        "gpu-taint",
        "image-name-invalid",
        "image-not-found",
        "image-not-pulled",
        "image-rate-limited",
        "image-registry-not-resolved",
        "image-registry-tls",
        "image-registry-unreachable",
        "image-too-slow",
        "image-unauthorized",
        "image-wrong-platform",
        "insufficient-cpu",
        "insufficient-memory",
        "job-failed",
        "ngc-key-needed",
        "node-cordoned",
        "node-full",
        "other-taint",
        "pod-security-refused",
        "probe-fails",
        "quota-exceeded",
    }
)


@dataclass(frozen=True, slots=True)
class _Room:
    """Where GPUs are left; worked out once, for very many pods may wait for the same."""

    case: ClusterCase
    known: dict[tuple[frozenset[tuple[str, int]], frozenset[tuple[str, str]]], bool]

    def is_used_up(self, pod: Pod) -> bool:
        """Whether nodes do hand out what a pod waits for, and others hold it all."""
        wanted = {name: n for name, n in asked_of(pod).items() if is_passthrough_resource(name)}
        key = frozenset(wanted.items()), frozenset(pod.spec.node_selector.items())
        if key not in self.known:
            self.known[key] = self._is_used_up(wanted, pod.spec.node_selector)
        return self.known[key]

    def _is_used_up(self, wanted: dict[str, int], selector: dict[str, str]) -> bool:
        could = [node for node in self.case.targets.values() if _could_take(node, wanted, selector)]
        return bool(could) and not any(
            all(free_on(self.case, node).get(name, 0) >= number for name, number in wanted.items())
            for node in could
        )


@check_all("verify.workloads", "Pods that ask for VMs with GPUs run")
def workloads(case: ClusterCase) -> Iterator[Outcome]:
    """What a stuck pod shows is explained; one that asks for half of it gets no GPU, silently."""
    down = {node.metadata.name for node in known(case.cluster.nodes) if is_down(node)}
    asked = [pod for pod in known(case.cluster.pods) if _is_asked_about(case, pod)]
    pods = [pod for pod in asked if pod.spec.node_name not in down]
    room = _Room(case, {})
    found = [outcome for pod in pods for outcome in _judge(room, pod)]
    found += [_refused(case, item) for item in refusals(case) if _concerns_vms(case, item.event)]
    if asked and not pods and not found:
        yield skipped("follows from verify.platform")
        return
    yield from found or [_all_well(case, pods)]


def _is_asked_about(case: ClusterCase, pod: Pod) -> bool:
    if pod.status.phase == "Succeeded":
        return False
    return _is_in_vm(case, pod) or (_wants_gpu(pod) and not is_stack_pod(pod))


def _is_in_vm(case: ClusterCase, pod: Pod) -> bool:
    name = pod.spec.runtime_class_name
    return GPU_HANDLER_MARK in name or name in {item.metadata.name for item in case.gpu_classes}


def _wants_gpu(pod: Pod) -> bool:
    return any(map(is_passthrough_resource, asked_of(pod)))


def _all_well(case: ClusterCase, pods: list[Pod]) -> Outcome:
    """Say that nothing is wrong, where all was seen that could be wrong."""
    events = case.cluster.events
    running = sum(is_ready(pod) for pod in pods)
    told = f"{running} of {len(pods)} are ready" if pods else "no pod asks for one"
    if isinstance(events, Unread) and events.reason is Reason.NOT_RECORDED:
        return skipped(f"{told}; without events it is not seen whether any are refused")
    known(events)
    return passed(told) if pods else skipped(told)


def _judge(room: _Room, pod: Pod) -> Iterator[Outcome]:
    case, name = room.case, pod.metadata.full_name
    found = trouble(case, pod)
    in_vm = _is_in_vm(case, pod)
    if found:
        yield _explained(room, found).about(name)
    elif is_over(pod):
        return
    elif in_vm and not asked_of(pod):
        yield warned(
            "it runs in a VM without a GPU: none of its containers asks for one",
            "Put the resource under a container's resources.limits, not under the pod's spec: "
            f"{_limit(case)}.",
        ).about(name)
    elif _wants_gpu(pod) and pod.spec.runtime_class_name in CONTAINER_RUNTIME_CLASSES:
        yield warned(
            "it holds a GPU for VMs and runs as an ordinary container, which cannot use it",
            f"Set spec.runtimeClassName: {_class(case)}.",
        ).about(name)


def _explained(room: _Room, found: Trouble) -> Outcome:
    case = room.case
    if "Insufficient nvidia.com/" in found.what and room.is_used_up(found.pod):
        return warned(
            f"{found.what.rstrip('.')}. All GPUs that it could have are held by other pods.",
            "It starts when one of them ends; verify.resource-free names them.",
        )
    say = warned if _is_its_own(case, found) else failed
    return say(found.message(case), found.remedy(case))


def _is_its_own(case: ClusterCase, found: Trouble) -> bool:
    """Whether a trouble says nothing of VMs and GPUs, or is past: it is told, and no failure."""
    pod = found.pod
    if found.explanation is None:
        return has_started(pod)
    if found.explanation.id in OF_ANY_POD:
        return True
    return is_over(pod) and case.age(pod.metadata.creation_timestamp) > RECENT


def _could_take(node: Node, wanted: dict[str, int], selector: dict[str, str]) -> bool:
    have, labels = passthrough_resources(node), node.metadata.labels
    return all(have.get(name, 0) >= number > 0 for name, number in wanted.items()) and all(
        labels.get(key) == value for key, value in selector.items()
    )


def _limit(case: ClusterCase) -> str:
    names = (
        name
        for node in case.targets.values()
        for name, n in passthrough_resources(node).items()
        if n
    )
    return f'{next(names, "nvidia.com/pgpu")}: "1"'


def _class(case: ClusterCase) -> str:
    return min((item.metadata.name for item in case.gpu_classes), key=len, default="RUNTIMECLASS")


def _concerns_vms(case: ClusterCase, event: Event) -> bool:
    """Whether a refusal is about a pod in a VM, and still holds; the stack's own are told there."""
    name = event.involved_object.name
    if any(mark in name for mark in STACK_POD_MARKS):
        return False
    missing = _NOT_FOUND.search(event.message)
    classes = case.cluster.runtime_classes
    if missing and not isinstance(classes, Unread):
        return missing[1] not in {item.metadata.name for item in classes}
    return any(word in event.message for word in _KATA_WORDS)


def _refused(case: ClusterCase, item: Refusal) -> Outcome:
    about = item.event.involved_object
    subject = f"{about.kind} {about.namespace}/{about.name}"
    message = f"its pods are refused: {item.event.message}"
    if item.explanation is None:
        look = f"`kubectl -n {about.namespace} describe {about.kind.lower()} {about.name}`"
        return warned(message, f"Look at it: {look}.").about(subject)
    places = {"pod": about.name, "namespace": about.namespace, "runtime_class": _class(case)}
    say = warned if item.explanation.id in OF_ANY_POD else failed
    return say(
        f"{message.rstrip('.')}. {item.explanation.cause_for(**places)}",
        Remedy(item.explanation.remedy_for(**places)),
    ).about(subject)
