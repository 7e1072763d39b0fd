"""What brings Kata onto the nodes: which stack it is, and whether it is done."""

from collections.abc import Iterator

from kgpuctl.catalog import Decision, KataProvider, Product, TakesKataBy
from kgpuctl.checks import recognise
from kgpuctl.checks.check import (
    Outcome,
    check,
    check_all,
    check_each,
    failed,
    known,
    passed,
    skipped,
    warned,
)
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.recognise import KataInstaller
from kgpuctl.checks.stuck import trouble
from kgpuctl.cluster.objects import CcRuntime, Deployment, Node
from kgpuctl.names import COCO_WORKER_LABEL, GPU_HANDLER_MARK, KATA_LABEL, Stack
from kgpuctl.report import ONE_SUBJECT, SUBJECT, Remedy
from kgpuctl.unread import Unread

_TITLES = {
    KataProvider.KATA_DEPLOY: "kata-deploy",
    KataProvider.COCO_OPERATOR: "the CoCo operator",
    KataProvider.COCO_CHART: "the CoCo Helm chart",
}
_QEMU_PATH = "qemu-path-missing"


@check("verify.stack", "One stack brings Kata and the GPU Operator together")
def stack(case: ClusterCase) -> Outcome:
    """Two of them write the same containerd configuration, and undo each other."""
    providers = list(dict.fromkeys(item.provider for item in case.installers))
    if not providers:
        return failed("nothing that brings Kata onto nodes is on this cluster", _install_kata(case))
    if len(providers) > 1:
        return failed(
            f"two things bring Kata onto the nodes: {' and '.join(_TITLES[p] for p in providers)}; "
            "both write containerd's configuration",
            "Keep one, and take the other away with its own uninstall (a CcRuntime before its "
            "operator, and only while that runs): https://github.com/confidential-containers/operator"
            ", `helm uninstall kata-deploy -n kata-system`.",
        )
    installer = case.installers[0]
    words = f"{_TITLES[installer.provider]} {installer.release.version}".strip()
    if case.operator is None:
        return passed(f"{words}, no GPU Operator")
    words = f"{words} with GPU Operator {case.operator.version}"
    return _combination(case, installer, words)


def _combination(case: ClusterCase, installer: KataInstaller, words: str) -> Outcome:
    version = case.operator.version if case.operator else ""
    verdict = case.catalog.combination(version, installer.provider, installer.release.version)
    reasons = "; ".join(verdict.reasons)
    if verdict.decision is not Decision.REFUSED:
        return passed(words)
    if _is_recognised_only(case, installer):
        return warned(
            f"{words}: {reasons}",
            "It is judged as it stands. For a stack that kgpuctl also installs and takes away, "
            "go on to kata-deploy with GPU Operator v26.3.1 or later and "
            "sandboxWorkloads.mode=kata.",
        )
    if _is_stranger(case, installer):
        return warned(
            f"{words}: {reasons}", "`kgpuctl versions` shows what is known to work with what."
        )
    return failed(f"{words}: {reasons}", "`kgpuctl versions` shows what works with what.")


def _is_recognised_only(case: ClusterCase, installer: KataInstaller) -> bool:
    """Whether it is one of the two setups that others install, and that can work."""
    if installer.provider is KataProvider.COCO_CHART:
        return True
    if isinstance(case.cluster.cluster_policies, Unread) or case.policy is None:
        return False
    manager = case.policy.spec.kata_manager
    return (
        installer.provider is KataProvider.KATA_DEPLOY
        and case.takes_kata_by is TakesKataBy.KATA_MANAGER
        and manager.enabled
        and not manager.config.runtime_classes
    )


def _is_stranger(case: ClusterCase, installer: KataInstaller) -> bool:
    catalog, version = case.catalog, installer.release.version
    operator = case.operator.version if case.operator else ""
    product = Product(installer.provider.value)
    return (
        catalog.find(product, version).entry is None or catalog.gpu_operator(operator).entry is None
    )


def _install_kata(case: ClusterCase) -> str:
    entry = case.catalog.default(Product.KATA_DEPLOY, Stack.KATA_DEPLOY)
    version = entry.version if entry else ""
    return (
        "Install kata-deploy: `helm install kata-deploy "
        "oci://ghcr.io/kata-containers/kata-deploy-charts/kata-deploy "
        f"--version {version} -n kata-system --create-namespace --set shims.disableAll=true,"
        "shims.qemu-nvidia-gpu.enabled=true`. It restarts containerd on its nodes."
    )


@check_all(
    "verify.kata-installer", "What installs Kata is done with it", requires=("verify.stack",)
)
def kata_installer(case: ClusterCase) -> Iterator[Outcome]:
    """A DaemonSet that is up everywhere, Jobs that ended well, or a CcRuntime that is complete."""
    installer = case.installer
    if installer is None:
        yield skipped("follows from verify.stack")
    elif installer.provider is KataProvider.COCO_OPERATOR:
        yield from _coco(case, installer)
    elif installer.daemon_set is not None:
        yield _daemon_set(case, installer)
    else:
        yield _jobs(case, installer)


def _daemon_set(case: ClusterCase, installer: KataInstaller) -> Outcome:
    item = installer.daemon_set
    if item is None:
        return skipped("it runs no DaemonSet")
    name, status = item.metadata.full_name, item.status
    space, plain = item.metadata.namespace, item.metadata.name
    if status.desired_number_scheduled == 0:
        return failed(
            f"DaemonSet {name} runs on no node",
            f"See its nodeSelector: `kubectl -n {space} get daemonset {plain} "
            "-o jsonpath='{.spec.template.spec.nodeSelector}'`, and label the nodes or correct "
            "the chart's value `nodeSelector`.",
        )
    ready, wanted = status.number_ready, status.desired_number_scheduled
    if ready < wanted or status.updated_number_scheduled < wanted:
        pods = case.pods_of.get(name, ())
        found = next((it for pod in pods if (it := trouble(case, pod))), None)
        told = f"; {found.pod.metadata.name}: {found.message(case)}" if found else ""
        return failed(
            f"DaemonSet {name}: {ready} of {wanted} pods are ready, "
            f"{status.updated_number_scheduled} are of its last version{told}",
            found.remedy(case)
            if found
            else f"Follow it: `kubectl -n {space} rollout status daemonset/{plain}`, and read "
            f"`kubectl -n {space} logs daemonset/{plain}`.",
        )
    return passed(f"DaemonSet {name}: {ready} of {wanted} pods are ready")


def _jobs(case: ClusterCase, installer: KataInstaller) -> Outcome:
    jobs = case.cluster.jobs
    if isinstance(jobs, Unread) and not case.targets:
        known(jobs)
    if isinstance(jobs, Unread):
        return skipped("kata-deploy runs as Jobs, which are not seen; verify.node-kata-label tells")
    space = installer.release.namespace
    ours = [job for job in jobs if job.metadata.namespace == space]
    broken = [
        job.metadata.name
        for job in ours
        if any(item.type == "Failed" and item.status == "True" for item in job.status.conditions)
    ]
    if broken:
        return failed(
            f"Jobs of {installer.release} failed: {', '.join(sorted(broken)[:5])}",
            f"Read why: `kubectl -n {space} logs job/{min(broken)}`; then run "
            "`helm upgrade` of the release again.",
        )
    active = sum(job.status.active for job in ours)
    if active:
        return failed(
            f"{active} Jobs of {installer.release} still run",
            f"Wait for them: `kubectl -n {space} get jobs`, or `kgpuctl verify --wait`.",
        )
    return passed(f"{installer.release}, by Jobs")


def _coco(case: ClusterCase, installer: KataInstaller) -> Iterator[Outcome]:
    manager = recognise.coco_manager(case.cluster)
    if manager is not None and manager.status.available_replicas < 1:
        yield _coco_manager(case, manager)
    runtimes = known(case.cluster.cc_runtimes)
    if not runtimes:
        yield failed(
            "there is no CcRuntime: the CoCo operator has nothing to install",
            "Make it: `kubectl apply -k "
            '"github.com/confidential-containers/operator/config/samples/ccruntime/default'
            f'?ref={installer.release.version or "v0.7.0"}"`.',
        )
    for runtime in runtimes:
        yield _cc_runtime(runtime)
    defect = case.catalog.defects.get(_QEMU_PATH)
    entry = case.catalog.coco_operator(installer.release.version).entry
    if defect and entry and defect in entry.defects and _proves_no_handler(case):
        yield warned(f"{installer.release}: {defect.what}", defect.to_do)


def _proves_no_handler(case: ClusterCase) -> bool:
    """Whether no pod shows that VMs start in spite of a defect: a running one proves it."""
    names = {item.metadata.name for item in case.gpu_classes}
    pods = case.cluster.pods
    return isinstance(pods, Unread) or not any(
        pod.spec.runtime_class_name in names
        and any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions)
        for pod in pods
    )


def _coco_manager(case: ClusterCase, manager: Deployment) -> Outcome:
    meta = manager.metadata
    pods = known(case.cluster.pods)
    owned = [
        pod
        for pod in pods
        if (owner := pod.metadata.controller) and owner.name.startswith(f"{meta.name}-")
    ]
    found = next((item for pod in owned if (item := trouble(case, pod))), None)
    told = f": {found.message(case)}" if found else ""
    return failed(
        f"no pod of Deployment {meta.full_name} is available{told}",
        found.remedy(case)
        if found
        else f"See why: `kubectl -n {meta.namespace} describe deployment {meta.name}`.",
    )


def _cc_runtime(runtime: CcRuntime) -> Outcome:
    name, status = runtime.metadata.name, runtime.status
    total = status.total_nodes_count
    done = status.installation_status.completed.completed_nodes_count
    selector = runtime.spec.cc_node_selector.match_labels or {COCO_WORKER_LABEL: ""}
    wanted = ",".join(f"{key}={value}" for key, value in selector.items())
    if total == 0:
        return failed(
            f"CcRuntime {name} has found no node: it selects {wanted}",
            f"Label the nodes exactly so: `kubectl label node NODE {wanted}`.",
        )
    if done < total:
        return failed(
            f"CcRuntime {name}: {done} of {total} nodes are done",
            "Read the installing pods of the others: `kubectl -n confidential-containers-system "
            "logs -l name=cc-operator-daemon-install --prefix`; the CcRuntime itself never tells "
            "of a failure.",
        )
    return passed(f"CcRuntime {name}: {done} of {total} nodes are done")


@check_each(
    "verify.node-kata-label",
    "Kata is installed on the node",
    ClusterCase.each_target,
    none="there is no target node",
    requires=("verify.stack", "verify.kata-installer"),
)
def node_kata_label(case: ClusterCase, node: Node) -> Outcome:
    """The label is there before Kata is: its value counts, not its key."""
    value = node.metadata.labels.get(KATA_LABEL)
    if value == "true":
        return passed(f"{KATA_LABEL}=true")
    space = case.installer.release.namespace if case.installer else "kata-system"
    read = (
        f"Read the installer's pod on the node: `kubectl -n {space} get pods -o wide "
        f"--field-selector spec.nodeName={ONE_SUBJECT}`, then `kubectl -n {space} logs POD`."
    )
    if value is None:
        return failed(f"the node has no label {KATA_LABEL}: Kata is not installed on it", read)
    if value == "cleanup":
        return failed(f"{KATA_LABEL}=cleanup: Kata is being taken off the node", read)
    return failed(f"{KATA_LABEL}={value}: the installation goes on, or has failed half-way", read)


def _advertised(node: Node) -> frozenset[str] | None:
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
        "verify.runtime-class",
        "verify.node-kata-label",
        "verify.kata-manager-done",
    ),
)
def kata_handler(case: ClusterCase, node: Node) -> Outcome:
    """A RuntimeClass is only a name: "no runtime for … is configured" comes from the node."""
    have = _advertised(node)
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
    if case.takes_kata_by is not TakesKataBy.KATA_MANAGER or defect is None:
        return None
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
        "restarted since: `systemctl restart containerd`; if not, restart the installer's pod on "
        "the node. `sudo kgpuctl preflight --after-install` there names the file."
    )


def _with_handler(case: ClusterCase) -> Iterator[tuple[str, Node]]:
    for node in known(case.cluster.nodes):
        name = node.metadata.name
        loaded = any(GPU_HANDLER_MARK in handler for handler in _advertised(node) or ())
        if loaded and (not case.nodes or name in case.nodes):
            yield name, node


@check_each(
    "verify.handler-fresh",
    "Handlers for Kata with GPUs are there because something still installs them",
    _with_handler,
    none="no node tells of such a handler",
    requires=("verify.node-kata-label",),
)
def handler_fresh(case: ClusterCase, node: Node) -> Outcome:
    """After an uninstall the runtime goes on with what it has loaded until it is restarted."""
    if case.installers and node.metadata.labels.get(KATA_LABEL) == "true":
        return passed("its installer is there")
    gone = (
        "nothing on this cluster installs it"
        if not case.installers
        else (f"the node has no label {KATA_LABEL}=true")
    )
    return failed(
        f"the node still has a handler for Kata with GPUs, but {gone}",
        f"On {SUBJECT} see that the handler is gone from containerd's configuration, then "
        "`systemctl restart containerd`; or install Kata there again.",
    )
