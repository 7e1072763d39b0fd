"""Whether what brings Kata onto the nodes is done: a DaemonSet, Jobs, or an operator."""

from collections.abc import Iterator, Mapping
from typing import Final

from kgpuctl.catalog import KataProvider
from kgpuctl.checks import recognise
from kgpuctl.checks.check import Outcome, check_all, failed, known, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.recognise import KataInstaller
from kgpuctl.checks.stuck import refusal_of, trouble
from kgpuctl.checks.verify.handlers import selector_of
from kgpuctl.checks.verify.operands import is_ready
from kgpuctl.checks.verify.places import kata_home
from kgpuctl.checks.verify.platform import is_down
from kgpuctl.cluster.custom import CcRuntime
from kgpuctl.cluster.objects import DaemonSet, Deployment, Job, Node, Pod
from kgpuctl.report import ONE_SUBJECT, Remedy
from kgpuctl.unread import Unread

_QEMU_PATH: Final = "qemu-path-missing"
_NODES_TOLD: Final = 3


@check_all(
    "verify.kata-installer", "What installs Kata is done with it", requires=("verify.stack",)
)
def kata_installer(case: ClusterCase) -> Iterator[Outcome]:
    """A DaemonSet that is up on the targets, Jobs that ended well, or a complete CcRuntime."""
    installer = case.installer
    if installer is None:
        yield skipped("follows from verify.stack")
    elif installer.provider is KataProvider.COCO_OPERATOR:
        yield from _coco(case, installer)
    elif installer.daemon_set is not None:
        yield from _daemon_sets(case)
    else:
        yield _jobs(case, installer)


def _daemon_sets(case: ClusterCase) -> Iterator[Outcome]:
    """Judge where it matters: what is wrong on other nodes keeps no GPU from a VM."""
    sets = [item.daemon_set for item in case.installers if item.daemon_set is not None]
    told = "; ".join(map(_counted, sets))
    if not any(item.status.desired_number_scheduled for item in sets):
        yield _nowhere(sets[0])
    elif isinstance(case.cluster.pods, Unread) or not case.targets:
        yield _by_count(sets, told)
    else:
        there = _by_node(case, sets)
        bad = [
            outcome.about(name)
            for name, node in case.each_target()
            if not is_down(node) and (outcome := _on(case, node, sets, there.get(name, ())))
        ]
        yield from bad or [passed(told)]


def _counted(item: DaemonSet) -> str:
    status = item.status
    return (
        f"DaemonSet {item.metadata.full_name}: {status.number_ready} of "
        f"{status.desired_number_scheduled} pods are ready"
    )


def _nowhere(item: DaemonSet) -> Outcome:
    space, name = item.metadata.namespace, item.metadata.name
    selector = item.spec.template.spec.node_selector
    told = f": it selects {_written(selector)}" if selector else ""
    return failed(
        f"DaemonSet {item.metadata.full_name} runs on no node{told}",
        f"See its nodeSelector and tolerations: `kubectl -n {space} describe daemonset {name}`, "
        "and label the nodes, or correct `nodeSelector` and `tolerations` in its values.",
    )


def _written(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _by_count(sets: list[DaemonSet], told: str) -> Outcome:
    lagging = [it for it in sets if it.status.number_ready < it.status.desired_number_scheduled]
    return failed(told, _follow(lagging[0])) if lagging else passed(told)


def _follow(item: DaemonSet) -> str:
    space, name = item.metadata.namespace, item.metadata.name
    return (
        f"Follow it: `kubectl -n {space} rollout status daemonset/{name}`, and read "
        f"`kubectl -n {space} logs daemonset/{name}`."
    )


def _by_node(case: ClusterCase, sets: list[DaemonSet]) -> Mapping[str, tuple[Pod, ...]]:
    found: dict[str, tuple[Pod, ...]] = {}
    for item in sets:
        for pod in case.pods_of.get(item.metadata.full_name, ()):
            found[pod.spec.node_name] = (*found.get(pod.spec.node_name, ()), pod)
    return found


def _on(
    case: ClusterCase, node: Node, sets: list[DaemonSet], pods: tuple[Pod, ...]
) -> Outcome | None:
    """Judge the installer's pods on one target; None where they are well."""
    item = sets[0]
    name = item.metadata.full_name
    if not pods:
        return _absent(case, node, item)
    sick = [pod for pod in pods if not is_ready(pod)]
    owners = {pod.metadata.controller for pod in pods if is_ready(pod)}
    sick = [pod for pod in sick if pod.metadata.controller not in owners]
    if not sick:
        return None
    found = next((it for pod in sick if (it := trouble(case, pod))), None)
    if found:
        return failed(f"DaemonSet {name}: {found.message(case)}", found.remedy(case))
    return failed(f"DaemonSet {name}: its pod is not ready yet", _follow(item))


def _absent(case: ClusterCase, node: Node, item: DaemonSet) -> Outcome:
    name, labels = item.metadata.full_name, node.metadata.labels
    refused = refusal_of(case, "DaemonSet", name)
    if refused:
        places = {"namespace": item.metadata.namespace}
        cause = f". {refused.explanation.cause_for(**places)}" if refused.explanation else ""
        return failed(
            f"DaemonSet {name}: its pods are refused: {refused.event.message}{cause}",
            Remedy(refused.explanation.remedy_for(**places))
            if refused.explanation
            else _follow(item),
        )
    selector = item.spec.template.spec.node_selector
    lacking = {key: value for key, value in selector.items() if labels.get(key) != value}
    taints = ", ".join(map(str, node.spec.taints))
    why = f"; it selects {_written(lacking)}" if lacking else ""
    why += f"; the node has the taint {taints}" if taints and not lacking else ""
    return failed(
        f"DaemonSet {name} has no pod on the node{why}",
        "Set `nodeSelector` and `tolerations` in the values of kata-deploy so that it takes the "
        f"node: `kubectl describe node {ONE_SUBJECT}` shows its labels and taints.",
    )


def _jobs(case: ClusterCase, installer: KataInstaller) -> Outcome:
    jobs = case.cluster.jobs
    if isinstance(jobs, Unread) and not case.targets:
        known(jobs)
    if isinstance(jobs, Unread):
        return skipped(
            f"kata-deploy runs as Jobs, which are not seen ({jobs}); verify.node-kata-label tells"
        )
    space = installer.release.namespace
    ours = [job for job in jobs if job.metadata.namespace == space and _installs_kata(job)]
    broken = [job.metadata.name for job in ours if _is(job, "Failed")]
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
    if not ours:
        return skipped(
            f"of {installer.release} neither DaemonSet nor Jobs are there any more: Jobs may be, "
            "when they are done; verify.node-kata-label tells"
        )
    return passed(f"{installer.release}, by Jobs")


def _installs_kata(job: Job) -> bool:
    """Whether a Job is kata-deploy's: there may be others in its namespace."""
    images = (container.image for container in job.spec.template.spec.containers)
    return "kata" in job.metadata.name or any("kata-deploy" in image for image in images)


def _is(job: Job, condition: str) -> bool:
    return any(it.type == condition and it.status == "True" for it in job.status.conditions)


def _coco(case: ClusterCase, installer: KataInstaller) -> Iterator[Outcome]:
    manager = recognise.coco_manager(case.cluster)
    runtimes = known(case.cluster.cc_runtimes)
    done = bool(runtimes) and all(map(_is_done, runtimes))
    if manager is None and done:
        yield _gone(runtimes[0])
    elif manager is not None and manager.status.available_replicas < 1:
        yield _unavailable(case, manager, done=done)
        if not done:
            return  # nobody writes a CcRuntime's status while its operator is down
    if not runtimes:
        yield failed(
            "there is no CcRuntime: the CoCo operator has nothing to install",
            "Make it: `kubectl apply -k "
            '"github.com/confidential-containers/operator/config/samples/ccruntime/default'
            f'?ref={installer.release.version or "v0.7.0"}"`.',
        )
    for runtime in runtimes:
        yield _cc_runtime(case, runtime)
    defect = case.catalog.defects.get(_QEMU_PATH)
    entry = case.catalog.coco_operator(installer.release.version).entry
    if defect and entry and defect in entry.defects and not _is_disproved(case):
        yield warned(f"{installer.release}: {defect.what}", defect.to_do)


def _is_disproved(case: ClusterCase) -> bool:
    """Whether a pod shows that VMs with GPUs start in spite of a defect."""
    names = {item.metadata.name for item in case.gpu_classes}
    pods = case.cluster.pods
    return not isinstance(pods, Unread) and any(
        pod.spec.runtime_class_name in names and is_ready(pod) for pod in pods
    )


def _gone(runtime: CcRuntime) -> Outcome:
    return warned(
        f"CcRuntime {runtime.metadata.name} is complete, and its operator is gone: nobody installs "
        "Kata on new nodes, and nobody could take it away",
        "Install the same version of the CoCo operator again, also before you delete the "
        "CcRuntime: https://github.com/confidential-containers/operator.",
    )


def _unavailable(case: ClusterCase, manager: Deployment, *, done: bool) -> Outcome:
    meta = manager.metadata
    pods = case.cluster.pods
    owned = [
        pod
        for pod in (() if isinstance(pods, Unread) else pods)
        if (owner := pod.metadata.controller) and owner.name.startswith(f"{meta.name}-")
    ]
    found = next((item for pod in owned if (item := trouble(case, pod))), None)
    told = f": {found.message(case)}" if found else ""
    message = f"no pod of Deployment {meta.full_name} is available{told}"
    remedy = (
        found.remedy(case)
        if found
        else Remedy(f"See why: `kubectl -n {meta.namespace} describe deployment {meta.name}`.")
    )
    return warned(message, remedy) if done else failed(message, remedy)


def _is_done(runtime: CcRuntime) -> bool:
    total = runtime.status.total_nodes_count
    return 0 < total <= runtime.status.installation_status.completed.completed_nodes_count


def _cc_runtime(case: ClusterCase, runtime: CcRuntime) -> Outcome:
    name, status = runtime.metadata.name, runtime.status
    total, completed = status.total_nodes_count, status.installation_status.completed
    done = completed.completed_nodes_count
    if total == 0:
        return _not_begun(case, runtime)
    if done < total:
        waiting = sorted(_selected(case, runtime) - {*completed.completed_nodes_list})
        more = f" and {len(waiting) - _NODES_TOLD} more" if len(waiting) > _NODES_TOLD else ""
        which = f"; not {', '.join(waiting[:_NODES_TOLD])}{more}" if waiting else ""
        return failed(
            f"CcRuntime {name}: {done} of {total} nodes are done{which}",
            f"Read the installing pods there: `kubectl -n {kata_home(case)} "
            "logs -l name=cc-operator-daemon-install --prefix --tail=50`; the CcRuntime itself "
            "never tells of a failure.",
        )
    return passed(f"CcRuntime {name}: {done} of {total} nodes are done")


def _selected(case: ClusterCase, runtime: CcRuntime) -> set[str]:
    selector = selector_of(runtime)
    return {
        node.metadata.name
        for node in known(case.cluster.nodes)
        if all(node.metadata.labels.get(key) == value for key, value in selector.items())
    }


def _not_begun(case: ClusterCase, runtime: CcRuntime) -> Outcome:
    name, wanted = runtime.metadata.name, _written(selector_of(runtime))
    chosen = len(_selected(case, runtime))
    if chosen:
        return failed(
            f"CcRuntime {name} has no status, though {chosen} nodes have the label {wanted}",
            f"Read its operator's log: `kubectl -n {kata_home(case)} logs "
            f"deployment/{recognise.COCO_MANAGER} -c manager --tail=50`.",
        )
    return failed(
        f"CcRuntime {name} has found no node: it selects {wanted}, which no node has",
        "Label the nodes exactly so, with that value and no other: "
        f"`kubectl label --overwrite node NODE {wanted.replace(',', ' ')}`.",
    )
