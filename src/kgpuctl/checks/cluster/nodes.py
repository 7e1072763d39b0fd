"""The nodes that an install would change: fit for it, and free for it."""

import re
from collections.abc import Iterator
from typing import Final

from kgpuctl.checks.check import (
    Outcome,
    check_all,
    check_each,
    failed,
    known,
    passed,
    skipped,
    warned,
)
from kgpuctl.checks.cluster.candidates import candidates, chosen, each_candidate, has_nfd_labels
from kgpuctl.checks.cluster_case import WORKLOADS, ClusterCase
from kgpuctl.checks.verify.nodes import judge_kubelet
from kgpuctl.cluster.gpus import asked_of, is_gpu_node, is_ready
from kgpuctl.cluster.keep import is_stack_pod
from kgpuctl.cluster.objects import Node
from kgpuctl.names import DEPLOY_PREFIX, WORKLOAD_LABEL, Stack, Workload
from kgpuctl.report import SUBJECT

_TOLERATED: Final = "nvidia.com/gpu"  # the taint that all operands tolerate
_BLOCKING: Final = frozenset({"NoSchedule", "NoExecute"})
_OWN_TAINTS: Final = "node.kubernetes.io/"  # set by Kubernetes for what other findings say
_RECOMMENDED: Final = (2, 1)
_NONE: Final = "no node is named, labelled or known to have an NVIDIA GPU"


@check_all("cluster.target-nodes", "There are nodes to install on, and they are ready for it")
def target_nodes(case: ClusterCase) -> Iterator[Outcome]:
    """A mistyped selector selects nothing, and everything is "ready"."""
    found = candidates(case)
    if not found:
        yield _no_node(case)
        return
    if not chosen(case):
        yield warned(
            "no node is named or labelled yet; all with NVIDIA GPUs are judged here",
            f"Choose: `kgpuctl label-nodes {' '.join(sorted(found)[:3])}`, or --node here.",
        )
    for name, node in sorted(found.items()):
        yield _judge(case, node).about(name)


def _no_node(case: ClusterCase) -> Outcome:
    if has_nfd_labels(case):
        return failed(
            "node-feature-discovery has found an NVIDIA GPU on no node that is not for something "
            "else",
            "Name the nodes with --node; on one of them: `lspci -d 10de:`.",
        )
    return failed(
        "no node is known to have an NVIDIA GPU: this cluster has no node-feature-discovery yet",
        "Name the nodes with --node; `sudo kgpuctl preflight` on each tells of its GPUs.",
    )


def _judge(case: ClusterCase, node: Node) -> Outcome:
    if not is_ready(node):
        return failed(
            "it is not Ready", f"See why: `kubectl describe node {SUBJECT}`, status.conditions."
        )
    if has_nfd_labels(case) and not is_gpu_node(node):
        return failed(
            "it has no NVIDIA GPU, as far as node-feature-discovery tells",
            f"On {SUBJECT}: `lspci -d 10de:`. Without a GPU leave it out.",
        )
    if node.spec.unschedulable:
        return warned(
            "it is cordoned: no pod of an installer is kept away, but no workload runs there",
            f"`kubectl uncordon {SUBJECT}` when it is meant to work.",
        )
    taints = [
        taint
        for taint in node.spec.taints
        if taint.effect in _BLOCKING
        and taint.key != _TOLERATED
        and not taint.key.startswith(_OWN_TAINTS)
    ]
    if taints:
        return warned(
            f"its taints keep the installers' pods away: {', '.join(map(str, taints))}",
            "Give the charts tolerations for them (`daemonsets.tolerations` of the GPU Operator, "
            "`tolerations` of kata-deploy, the NFD worker's too), or take the taints away.",
        )
    return passed("Ready")


@check_each(
    "cluster.node-runtime",
    "The node's container runtime is one that the stack can set up",
    each_candidate,
    none=_NONE,
)
def node_runtime(case: ClusterCase, node: Node) -> Outcome:
    """NVIDIA supports containerd only; the old stack replaces it by an older one."""
    told = node.status.node_info.container_runtime_version
    name, _, version = told.partition("://")
    if name != "containerd":
        return failed(
            f"its container runtime is {told or 'not told'}; only containerd is supported",
            f"Set up {SUBJECT} with containerd, or choose other nodes.",
        )
    match = re.match(r"v?(\d+)\.(\d+)", version)
    numbers = (int(match[1]), int(match[2])) if match else (0, 0)
    if case.stack is Stack.COCO_OPERATOR and numbers >= (2, 0):
        return failed(
            f"containerd {version}: CoCo v0.7.0 replaces it by a fork of 1.6, which cannot read "
            "its configuration",
            "Use the kata-deploy stack on these nodes, or nodes with containerd 1.",
        )
    if case.stack is not Stack.COCO_OPERATOR and numbers < _RECOMMENDED:
        return warned(
            f"containerd {version}: Kata recommends 2.1 or later, NVIDIA validates 2.2 and 2.3",
            f"Upgrade containerd on {SUBJECT}, or try one such node first.",
        )
    return passed(told)


@check_all("cluster.label-values", "No node has a workload label that the operator ignores")
def label_values(case: ClusterCase) -> Iterator[Outcome]:
    """The operator takes a mistyped value for the default, and says so in its log only."""
    for node in known(case.cluster.nodes):
        value = node.metadata.labels.get(WORKLOAD_LABEL)
        if value is not None and value not in WORKLOADS:
            yield failed(
                f"{WORKLOAD_LABEL}={value!r} is none of {', '.join(sorted(WORKLOADS))}",
                f"Set it right: `kgpuctl label-nodes {SUBJECT}`, or take it away: "
                f"`kubectl label node {SUBJECT} {WORKLOAD_LABEL}-`.",
            ).about(node.metadata.name)


@check_each(
    "cluster.stale-operand-labels",
    "The node has no label left that keeps operands away",
    each_candidate,
    none=_NONE,
)
def stale_operand_labels(case: ClusterCase, node: Node) -> Outcome:
    """The operator never removes them at an uninstall, and honours them at the next install."""
    labels = node.metadata.labels
    deploy = {key: value for key, value in labels.items() if key.startswith(DEPLOY_PREFIX)}
    stale = {key: value for key, value in deploy.items() if value not in {"true", ""}}
    if stale:
        told = ", ".join(f"{key}={value}" for key, value in sorted(stale.items()))
        return failed(
            f"the operator will honour these: {told}",
            "If nothing changes drivers there now, take them away: "
            f"`kubectl label node {SUBJECT} {' '.join(f'{key}-' for key in sorted(stale))}`.",
        )
    if deploy and case.operator is None:
        return warned(
            f"{len(deploy)} labels {DEPLOY_PREFIX}* are left from a GPU Operator that is gone",
            f"Take them away before the install: `kubectl label node {SUBJECT} "
            f"{' '.join(f'{key}-' for key in sorted(deploy))}`.",
        )
    return passed()


@check_each(
    "cluster.gpu-workloads",
    "No pod uses a GPU on a node that is to be switched",
    each_candidate,
    none=_NONE,
)
def gpu_workloads(case: ClusterCase, node: Node) -> Outcome:
    """Switching a node takes its driver away: what runs on its GPUs breaks."""
    known(case.cluster.pods)
    if node.metadata.labels.get(WORKLOAD_LABEL) == Workload.VM_PASSTHROUGH:
        return skipped("the node gives its GPUs to VMs already")
    pods = sorted(
        pod.metadata.full_name
        for pod in case.pods_on.get(node.metadata.name, ())
        if asked_of(pod) and not is_stack_pod(pod)
    )
    if pods:
        more = f" and {len(pods) - 3} more" if len(pods) > 3 else ""  # noqa: PLR2004
        return failed(
            f"GPUs are in use by {', '.join(pods[:3])}{more}",
            f"Let them end or move them: `kgpuctl label-nodes {SUBJECT} --evict` evicts them, and "
            "respects PodDisruptionBudgets.",
        )
    return passed("no pod uses its GPUs")


@check_each("cluster.kubelet", "The kubelet lets Kata see its devices", each_candidate, none=_NONE)
def kubelet(case: ClusterCase, node: Node) -> Outcome:
    """Kata asks the kubelet which GPU a pod was given; a big VM takes minutes to start."""
    return judge_kubelet(case, node, with_gate=case.stack is not Stack.COCO_OPERATOR)
