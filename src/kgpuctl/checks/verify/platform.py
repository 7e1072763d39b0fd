"""The machines: are they up, and of a kind on which VMs with GPUs can run."""

from kgpuctl.checks.check import Outcome, check_each, failed, passed, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.cluster.objects import Condition, Node
from kgpuctl.explanations import Clue, ClueKind
from kgpuctl.names import NFD_PREFIX, WORKLOAD_LABEL
from kgpuctl.report import SUBJECT


def is_down(node: Node) -> bool:
    """Whether a node says that it is not Ready: what else is known of it is from before."""
    return _down(node) is not None


def _down(node: Node) -> Condition | None:
    return next(
        (it for it in node.status.conditions if it.type == "Ready" and it.status != "True"), None
    )


@check_each(
    "verify.platform",
    "The node is a machine that can run Kata VMs with GPUs",
    ClusterCase.each_target,
    none="there is no target node",
)
def platform(case: ClusterCase, node: Node) -> Outcome:
    """A node that is down runs nothing; VMs in VMs and OpenShift are nobody's supported way."""
    if down := _down(node):
        return _of_down(case, node, down)
    return _of_kind(case, node) or _of_use(node)


def _of_kind(case: ClusterCase, node: Node) -> Outcome | None:
    labels = node.metadata.labels
    if any("openshift.io" in key for key in labels):
        known_one = next((it for it in case.catalog.platforms if "openshift" in it.name), None)
        return warned(
            "this is an OpenShift node" + (f": {known_one.reason}" if known_one else ""),
            known_one.instead if known_one else "See NVIDIA's documentation for OpenShift.",
        )
    if labels.get("type") == "virtual-kubelet":
        return warned(
            "this is a virtual node: there is no machine behind it",
            f"Take the label away: `kubectl label node {SUBJECT} {WORKLOAD_LABEL}-`.",
        )
    if labels.get(f"{NFD_PREFIX}cpu-cpuid.HYPERVISOR") == "true":
        return warned(
            "the node is itself a virtual machine",
            "Use bare metal. Inside a VM the hypervisor must hand on VT-x or AMD-V, an IOMMU and "
            "the GPU; `sudo kgpuctl preflight` on the node tells.",
        )
    return None


def _of_use(node: Node) -> Outcome:
    info = node.status.node_info
    if info.architecture not in {"amd64", ""}:
        return warned(
            f"its architecture is {info.architecture}; NVIDIA validates amd64 only",
            "Use a node with an x86_64 CPU, or test it before you rely on it.",
        )
    if node.spec.unschedulable:
        return warned("the node is cordoned: no new pod starts on it", _UNCORDON)
    return passed(info.architecture or "not told")


_UNCORDON = f"When nobody works on it any more: `kubectl uncordon {SUBJECT}`."


def _of_down(case: ClusterCase, node: Node, down: Condition) -> Outcome:
    told = ": ".join(filter(None, (down.reason, down.message)))
    message = f"the node is not Ready: {told}" if told else "the node is not Ready"
    if node.spec.unschedulable:
        return warned(f"{message}; it is cordoned, so somebody is at work there", _UNCORDON)
    found = case.explanations.explain((Clue(ClueKind.CONDITION, down.reason, down.message),))
    if found:
        return failed(f"{message}. {found.cause_for(node=SUBJECT)}", found.remedy_for(node=SUBJECT))
    return failed(
        message,
        f"On {SUBJECT}: `systemctl status kubelet containerd`, `journalctl -u containerd -n 50`. "
        "A containerd that cannot read its configuration (an import of a file that is gone, "
        '"cri" in disabled_plugins) keeps a node down.',
    )
