"""The GPU Operator: is it there, does it say it is ready, and is it set up for Kata."""

from kgpuctl.catalog import Sure, TakesKataBy
from kgpuctl.checks import recognise
from kgpuctl.checks.check import Outcome, check, failed, known, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.stuck import trouble
from kgpuctl.checks.verify.nodes import has_host_driver
from kgpuctl.checks.verify.operands import judge_operands
from kgpuctl.checks.verify.places import operator_home
from kgpuctl.checks.verify.platform import is_down
from kgpuctl.checks.verify.policy import EMPTY_READY, WAITS_FOR_OPERANDS, condition, telling
from kgpuctl.cluster.custom import ClusterPolicy
from kgpuctl.report import Remedy, Status
from kgpuctl.unread import Unread

INSTALL_OPERATOR = (
    "Install it for Kata: `helm install gpu-operator nvidia/gpu-operator -n gpu-operator "
    "--create-namespace --version {version} --set sandboxWorkloads.enabled=true,"
    "sandboxWorkloads.mode=kata,nfd.enabled=true,nfd.nodefeaturerules=true`."
)


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
    pods = case.cluster.pods
    owned = [
        pod
        for pod in (() if isinstance(pods, Unread) else pods)
        if pod.metadata.namespace == namespace
        and (owner := pod.metadata.controller) is not None
        and owner.name.startswith(f"{name}-")
    ]
    found = next((item for pod in owned if (item := trouble(case, pod))), None)
    if found:
        return failed(
            f"no pod of Deployment {namespace}/{name} is available: {found.message(case)}",
            found.remedy(case),
        )
    return failed(
        f"no pod of Deployment {namespace}/{name} is available",
        f"See why: `kubectl -n {namespace} describe deployment {name}`.",
    )


@check(
    "verify.cluster-policy",
    "The ClusterPolicy is ready, and has something to be ready for",
    requires=("verify.gpu-operator",),
)
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
            f"do); {_values(case)} shows what was set.",
        )
    if len(policies) > 1:
        names = ", ".join(policy.metadata.name for policy in policies)
        return failed(
            f"there are {len(policies)} ClusterPolicies ({names}): only the oldest counts",
            "Delete those that you do not mean: `kubectl delete clusterpolicy NAME`.",
        )
    return _judge(case, counted[0])


def _values(case: ClusterCase) -> str:
    release = case.operator
    name = release.name if release else "gpu-operator"
    return f"`helm get values -n {operator_home(case)} {name}`"


def _judge(case: ClusterCase, policy: ClusterPolicy) -> Outcome:
    status, ready = policy.status, condition(policy, "Ready")
    if not status.state:
        return failed(
            "the ClusterPolicy has no status: no operator has looked at it",
            f"See the operator's log: `kubectl -n {operator_home(case)} logs "
            "deployment/gpu-operator --tail=50`.",
        )
    if ready and ready.reason in EMPTY_READY:
        return failed(
            f"it says {status.state}, with the reason {ready.reason}: "
            f"{EMPTY_READY[ready.reason]}, so the operator has deployed nothing",
            "See that node-feature-discovery runs on the GPU nodes: `kubectl get pods -A -o wide "
            "| grep node-feature-discovery-worker`, and that it found the GPUs: "
            "`kubectl get nodes -L feature.node.kubernetes.io/pci-10de.present`.",
        )
    if status.state != "ready" or (ready and ready.status != "True"):
        return _not_ready(case, policy)
    return passed(f"state {status.state}" + ("" if ready else "; this version has no conditions"))


def _not_ready(case: ClusterCase, policy: ClusterPolicy) -> Outcome:
    """Leave operands that do not run to their own check, which knows why."""
    told = telling(policy)
    reason = told.reason if told else ""
    seen = ": ".join(filter(None, (reason, told.message if told else "")))
    message = f"its state is {policy.status.state}" + (f": {seen}" if seen else "")
    look = f"Look at it: `kubectl describe clusterpolicy {policy.metadata.name}`."
    if reason not in WAITS_FOR_OPERANDS or not case.targets:
        return failed(message, look)
    if isinstance(case.cluster.pods, Unread) or isinstance(case.cluster.daemon_sets, Unread):
        return failed(message, look)
    if cause := _known_cause(case):
        return skipped(f"follows from {cause}")
    return warned(
        f"{message}; the operands for VMs are ready on every target",
        f"See which one it waits for: `kubectl -n {operator_home(case)} get pods`. {look}",
    )


def _known_cause(case: ClusterCase) -> str:
    """Return the check that tells why operands do not run on a target."""
    if any(outcome.status is not Status.PASSED for outcome in judge_operands(case)):
        return "verify.operands"
    if any(map(has_host_driver, case.targets.values())):
        return "verify.operand-labels"
    return "verify.platform" if any(map(is_down, case.targets.values())) else ""


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
            _for_kata(case),
        )
    return passed("sandboxWorkloads.mode is kata")


def _for_kata(case: ClusterCase) -> str:
    """Say what to set; where the older stack was meant, that is only half of it."""
    if isinstance(case.cluster.cc_runtimes, Unread) or not case.cluster.cc_runtimes:
        return _set(case, TakesKataBy.MODE_KATA)
    return (
        "This operator takes Kata from kata-deploy: take the CoCo operator away (its CcRuntime "
        f"first), install kata-deploy, and then: {_set(case, TakesKataBy.MODE_KATA)} To stay with "
        "the CoCo operator go back to GPU Operator v25.10.1 or older."
    )


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
