"""The GPU Operator: is it there, does it say it is ready, and is it set up for Kata."""

from kgpuctl.catalog import Sure, TakesKataBy
from kgpuctl.checks import recognise
from kgpuctl.checks.check import Outcome, check, failed, known, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.stuck import trouble
from kgpuctl.cluster.objects import ClusterPolicy, Condition
from kgpuctl.report import Remedy

INSTALL_OPERATOR = (
    "Install it for Kata: `helm install gpu-operator nvidia/gpu-operator -n gpu-operator "
    "--create-namespace --version {version} --set sandboxWorkloads.enabled=true,"
    "sandboxWorkloads.mode=kata,nfd.enabled=true,nfd.nodefeaturerules=true`."
)
# "Ready" with these reasons means that the operator found nothing to do.
_EMPTY_READY = {
    "NoGPUNodes": "no node has a label that says it has an NVIDIA GPU",
    "NFDLabelsMissing": "no node has any label of node-feature-discovery",
}


def install_operator(case: ClusterCase) -> str:
    """Return the command that installs the GPU Operator for the default stack."""
    entries = case.catalog.entries
    version = next(
        (
            entry.version
            for found in entries.values()
            for entry in found
            if entry.is_default and entry.takes_kata_by is TakesKataBy.MODE_KATA
        ),
        "",
    )
    return INSTALL_OPERATOR.replace("{version}", version)


@check("verify.gpu-operator", "The GPU Operator runs")
def gpu_operator(case: ClusterCase) -> Outcome:
    """Its operands bind GPUs to vfio-pci and hand them out; without it nothing does."""
    found = recognise.gpu_operators(case.cluster)
    if not found:
        return failed("there is no GPU Operator on this cluster", install_operator(case))
    if len(found) > 1:
        return failed(
            f"there are {len(found)} GPU Operators: {', '.join(map(str, found))}",
            "Keep one: they label the same nodes and write the same objects. "
            "`helm list -A` names the releases; `helm uninstall` takes one away.",
        )
    release = found[0]
    deployment = recognise.gpu_operator_deployment(case.cluster, release)
    if deployment is not None and deployment.status.available_replicas < 1:
        return _not_available(case, release.namespace, deployment.metadata.name)
    sure = case.catalog.gpu_operator(release.version).sure
    if sure is Sure.UNKNOWN:
        return warned(
            f"{release}: this version is not in kgpuctl's catalogue, so its known defects are not",
            "`kgpuctl versions` shows the known ones; go on with one of them where you can.",
        )
    if sure is Sure.NEWER:
        return warned(
            f"{release} is newer than any version that kgpuctl knows and is judged like the newest",
            "Look for a newer kgpuctl, and read the release notes of the GPU Operator.",
        )
    return passed(str(release))


def _not_available(case: ClusterCase, namespace: str, name: str) -> Outcome:
    pods = [
        pod
        for pod in known(case.cluster.pods)
        if pod.metadata.namespace == namespace
        and (owner := pod.metadata.controller) is not None
        and owner.name.startswith(f"{name}-")
    ]
    found = next((item for pod in pods if (item := trouble(case, pod))), None)
    if found:
        return failed(
            f"no pod of Deployment {namespace}/{name} is available: {found.message(case)}",
            found.remedy(case),
        )
    return failed(
        f"no pod of Deployment {namespace}/{name} is available",
        f"See why: `kubectl -n {namespace} describe deployment {name}`.",
    )


@check("verify.cluster-policy", "The ClusterPolicy is ready, and has something to be ready for")
def cluster_policy(case: ClusterCase) -> Outcome:
    """It says "ready" also when there is no GPU node and it has made nothing."""
    if not recognise.gpu_operators(case.cluster):
        return skipped("follows from verify.gpu-operator")
    policies = known(case.cluster.cluster_policies)
    counted = [policy for policy in policies if policy.status.state != "ignored"]
    if not counted:
        return failed(
            "there is no ClusterPolicy: the GPU Operator does nothing",
            "Make it with the chart's value `clusterPolicy.deployCR=true` (older charts always "
            "do); `helm get values -n gpu-operator gpu-operator` shows what was set.",
        )
    if len(policies) > 1:
        names = ", ".join(policy.metadata.name for policy in policies)
        return failed(
            f"there are {len(policies)} ClusterPolicies ({names}): only the oldest counts",
            "Delete those that you do not mean: `kubectl delete clusterpolicy NAME`.",
        )
    return _judge(counted[0])


def _judge(policy: ClusterPolicy) -> Outcome:
    status = policy.status
    ready = _condition(policy, "Ready")
    error = _condition(policy, "Error")
    told = error if error and error.status == "True" else ready
    reason = f": {told.reason}: {told.message}".rstrip(": ") if told and told.reason else ""
    look = f"Look at it: `kubectl describe clusterpolicy {policy.metadata.name}`."
    if not status.state:
        return failed(
            "the ClusterPolicy has no status: no operator has looked at it",
            "See the operator's log: `kubectl -n gpu-operator logs deployment/gpu-operator`.",
        )
    if ready and ready.reason in _EMPTY_READY:
        return failed(
            f"it says {status.state}, with the reason {ready.reason}: "
            f"{_EMPTY_READY[ready.reason]}, so the operator has deployed nothing",
            "See that node-feature-discovery runs on the GPU nodes: `kubectl get pods -A -o wide "
            "| grep node-feature-discovery-worker`, and that it found the GPUs: "
            "`kubectl get nodes -L feature.node.kubernetes.io/pci-10de.present`.",
        )
    if status.state != "ready" or (ready and ready.status != "True"):
        return failed(f"its state is {status.state}{reason}", look)
    return passed(f"state {status.state}" + ("" if ready else "; this version has no conditions"))


def _condition(policy: ClusterPolicy, kind: str) -> Condition | None:
    return next((item for item in policy.status.conditions if item.type == kind), None)


@check("verify.sandbox-mode", "The GPU Operator is set up to give GPUs to Kata VMs")
def sandbox_mode(case: ClusterCase) -> Outcome:
    """The published flags are ignored by today's charts, and nobody says so."""
    by = case.takes_kata_by
    if by is None:
        return skipped("follows from verify.gpu-operator")
    if case.policy is None:
        return skipped("follows from verify.cluster-policy")
    if not case.policy.spec.sandbox_workloads.enabled:
        return failed(
            "sandboxWorkloads.enabled is false: every node gets the operands for containers",
            _set(case, by),
        )
    judge = _by_kata_manager if by is TakesKataBy.KATA_MANAGER else _by_mode
    return judge(case, case.policy)


def _by_mode(case: ClusterCase, policy: ClusterPolicy) -> Outcome:
    sandbox, name = policy.spec.sandbox_workloads, policy.metadata.name
    version = case.operator.version if case.operator else ""
    if sandbox.mode is None:
        return failed(
            "sandboxWorkloads.mode is not in the ClusterPolicy, though this operator reads it: its "
            "CRD is from an older chart, and the API server drops what the CRD does not know",
            Remedy(
                "Upgrade the CRD, then the release: `helm upgrade` with "
                "`operator.upgradeCRD=true`, or apply crds/nvidia.com_clusterpolicies.yaml of "
                f"chart {version}; then "
                f"`kubectl get clusterpolicy {name} -o jsonpath='{{.spec.sandboxWorkloads}}'` "
                "must show mode: kata."
            ),
        )
    if sandbox.mode != "kata":
        ignored = (
            f"; kataManager.enabled=true is ignored by GPU Operator {version}"
            if policy.spec.kata_manager.enabled
            else ""
        )
        return failed(
            f"sandboxWorkloads.mode is {sandbox.mode}: GPUs are handed out for KubeVirt, and what "
            f"Kata needs is not deployed{ignored}",
            _set(case, TakesKataBy.MODE_KATA),
        )
    return passed("sandboxWorkloads.mode is kata")


def _by_kata_manager(case: ClusterCase, policy: ClusterPolicy) -> Outcome:
    if policy.spec.kata_manager.enabled:
        return passed("kataManager is enabled")
    return failed(
        "kataManager.enabled is false: nothing sets up Kata's handlers for GPUs on the nodes",
        _set(case, TakesKataBy.KATA_MANAGER),
    )


def _set(case: ClusterCase, by: TakesKataBy) -> str:
    release = case.operator
    name = release.name if release else "gpu-operator"
    space = release.namespace if release else "gpu-operator"
    version = release.version if release else ""
    value = (
        "sandboxWorkloads.mode=kata" if by is TakesKataBy.MODE_KATA else "kataManager.enabled=true"
    )
    return (
        f"Set it: `helm upgrade {name} nvidia/gpu-operator -n {space} --version {version} "
        f"--reuse-values --set sandboxWorkloads.enabled=true,{value}`. Pods that use GPUs on the "
        "target nodes lose them when the operands restart: drain them first."
    )
