"""Kata on each node: the installer's label, and the handlers that the container runtime has."""

from collections.abc import Iterator, Mapping

from kgpuctl.catalog import KataProvider, TakesKataBy
from kgpuctl.checks.check import Outcome, check_each, failed, known, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.verify.places import kata_home
from kgpuctl.cluster.custom import CcRuntime
from kgpuctl.cluster.objects import Node
from kgpuctl.names import COCO_WORKER_LABEL, GPU_HANDLER_MARK, KATA_LABEL
from kgpuctl.report import ONE_SUBJECT, SUBJECT, Remedy


@check_each(
    "verify.node-kata-label",
    "Kata is installed on the node",
    ClusterCase.each_target,
    none="there is no target node",
    requires=("verify.stack", "verify.platform", "verify.kata-installer"),
)
def node_kata_label(case: ClusterCase, node: Node) -> Outcome:
    """The label is there before Kata is: its value counts, not its key."""
    labels = node.metadata.labels
    value = labels.get(KATA_LABEL)
    if value == "true":
        return passed(f"{KATA_LABEL}=true")
    if value == "cleanup":
        return failed(f"{KATA_LABEL}=cleanup: Kata is being taken off the node", _read(case))
    if value is not None:
        return failed(
            f"{KATA_LABEL}={value}: the installation goes on, or has failed half-way", _read(case)
        )
    lacking = _unselected(case, labels)
    if lacking:
        return failed(
            f"the CoCo operator has not installed Kata on the node: it selects {lacking}, which "
            "the node does not have",
            "Label it exactly so, with that value and no other: "
            f"`kubectl label --overwrite node {SUBJECT} {lacking}`.",
        )
    return failed(
        f"the node has no label {KATA_LABEL}: Kata is not installed on it",
        _read(case),
    )


def _read(case: ClusterCase) -> str:
    space, found = kata_home(case), case.installer
    if found and found.provider is KataProvider.KATA_DEPLOY and found.daemon_set is None:
        return (
            "kata-deploy installs by Jobs here, and a node that joined later has had none: run "
            f"`helm upgrade` of release {found.release.name} again, and read its Jobs: "
            f"`kubectl -n {space} get jobs,pods`."
        )
    return (
        f"Read the installer's pod on the node: `kubectl -n {space} get pods -o wide "
        f"--field-selector spec.nodeName={ONE_SUBJECT}`, then `kubectl -n {space} logs POD`."
    )


def _unselected(case: ClusterCase, labels: Mapping[str, str]) -> str:
    """Return the labels by which every CcRuntime passes a node over; empty where one takes it."""
    if case.installer is None or case.installer.provider is not KataProvider.COCO_OPERATOR:
        return ""
    lacking = [_lacking(runtime, labels) for runtime in known(case.cluster.cc_runtimes)]
    return min(lacking, key=len, default="")


def _lacking(runtime: CcRuntime, labels: Mapping[str, str]) -> str:
    selector = selector_of(runtime)
    return " ".join(f"{key}={value}" for key, value in selector.items() if labels.get(key) != value)


def selector_of(runtime: CcRuntime) -> Mapping[str, str]:
    """Return the labels of the nodes that a CcRuntime installs on; there is a default."""
    return runtime.spec.cc_node_selector.match_labels or {COCO_WORKER_LABEL: ""}


def advertised(node: Node) -> frozenset[str] | None:
    """Return the handlers that a node's container runtime has loaded; None where nobody tells."""
    handlers = node.status.runtime_handlers
    return None if handlers is None else frozenset(item.name for item in handlers)


@check_each(
    "verify.kata-handler",
    "The node's container runtime has loaded a handler for Kata with GPUs",
    ClusterCase.each_target,
    none="there is no target node",
    requires=(
        "verify.stack",
        "verify.sandbox-mode",
        "verify.platform",
        "verify.runtime-class",
        "verify.node-kata-label",
        "verify.kata-manager-done",
    ),
)
def kata_handler(case: ClusterCase, node: Node) -> Outcome:
    """A RuntimeClass is only a name: "no runtime for … is configured" comes from the node."""
    have = advertised(node)
    wanted = {item.handler for item in case.gpu_classes}
    info = node.status.node_info
    schema = _schema_trouble(case, info.container_runtime_version)
    if have is None:
        if schema:
            return warned(schema[0], schema[1])
        return skipped("this kubelet does not tell its runtime handlers")
    found = sorted(have & wanted)
    if found:
        return passed(", ".join(found))
    told = ", ".join(sorted(filter(None, have))) or "none but the default one"
    message = f"it has loaded {told}; of the GPU RuntimeClasses none ({', '.join(sorted(wanted))})"
    if schema:
        return failed(f"{message}. {schema[0]}", schema[1])
    return failed(message, _where_configuration(info.kubelet_version))


def _schema_trouble(case: ClusterCase, runtime: str) -> tuple[str, str] | None:
    """Return what kata-manager does on containerd 2, whose default configuration it cannot edit."""
    defect = case.catalog.defects.get("kata-manager-containerd-2")
    name, _, version = runtime.partition("://")
    major = version.removeprefix("v").partition(".")[0]
    by_manager = case.takes_kata_by is TakesKataBy.KATA_MANAGER
    from_coco = case.installer and case.installer.provider is KataProvider.COCO_OPERATOR
    if not by_manager or not from_coco or defect is None:
        return None  # kata-deploy writes the handlers itself, and knows containerd 2
    if name != "containerd" or not major.isdecimal() or int(major) < 2:  # noqa: PLR2004
        return None
    return f"containerd {version} with kata-manager: {defect.what}", defect.to_do


def _where_configuration(kubelet: str) -> Remedy:
    flavour = next((name for name in ("k3s", "rke2", "k0s", "microk8s") if name in kubelet), "")
    if flavour:
        return Remedy(
            f"This node runs {flavour}, whose containerd reads another file. Install kata-deploy "
            f"with `--set k8sDistribution={flavour}`; for kata-manager set CONTAINERD_CONFIG and "
            "CONTAINERD_SOCKET in kataManager.env."
        )
    return Remedy(
        f"On {SUBJECT} look for the handler in what containerd has loaded: "
        "`containerd config dump | grep -A3 nvidia-gpu`. If it is there, containerd was not "
        "restarted since: `systemctl restart containerd`; if not, read the log of the installer's "
        "pod there. Restart that pod only when no VM runs on the node: when it ends it takes Kata "
        "off the node first. `sudo kgpuctl preflight --after-install` there names the file."
    )


def _with_handler(case: ClusterCase) -> Iterator[tuple[str, Node]]:
    for node in known(case.cluster.nodes):
        name = node.metadata.name
        loaded = any(GPU_HANDLER_MARK in handler for handler in advertised(node) or ())
        if loaded and (not case.nodes or name in case.nodes):
            yield name, node


@check_each(
    "verify.handler-fresh",
    "Handlers for Kata with GPUs are there because something still installs them",
    _with_handler,
    none="no node tells of such a handler",
    requires=("verify.platform",),
)
def handler_fresh(case: ClusterCase, node: Node) -> Outcome:
    """After an uninstall the runtime goes on with what it has loaded until it is restarted."""
    if case.installers and node.metadata.labels.get(KATA_LABEL) == "true":
        return passed("its installer is there")
    if case.installers and node.metadata.name in case.targets:
        return skipped("that Kata is not installed there is told already")
    gone = (
        "nothing on this cluster installs it"
        if not case.installers
        else f"the node has no label {KATA_LABEL}=true"
    )
    return failed(
        f"the node still has a handler for Kata with GPUs, but {gone}",
        f"On {SUBJECT} see that the handler is gone from containerd's configuration, then "
        "`systemctl restart containerd`; or install Kata there again.",
    )
