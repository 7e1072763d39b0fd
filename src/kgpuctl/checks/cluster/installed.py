"""What is on the cluster already, and whether an install gets on with it."""

from collections.abc import Iterator
from typing import Final

from kgpuctl.catalog import Decision, KataProvider, Product, TakesKataBy
from kgpuctl.checks import recognise
from kgpuctl.checks.check import (
    Outcome,
    check,
    check_all,
    failed,
    known,
    passed,
    skipped,
    warned,
)
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.recognise import Manager, Release, managed_by
from kgpuctl.cluster.objects import DaemonSet
from kgpuctl.names import CRD_GROUPS, Stack

_FOREIGN: Final = frozenset({Manager.OLM, Manager.ARGO, Manager.FLUX})
_NAMESPACES: Final = {
    Stack.KATA_DEPLOY: ("gpu-operator", "kata-system"),
    Stack.COCO_OPERATOR: ("gpu-operator", recognise.COCO_NAMESPACE),
}
_ENFORCE: Final = "pod-security.kubernetes.io/enforce"
_POLICY_CRD: Final = "clusterpolicies.nvidia.com"
_RULE_CRD: Final = "nodefeaturerules.nfd.k8s-sigs.io"


def wanted(case: ClusterCase) -> Stack:
    """Return the stack that is to be installed."""
    return case.stack or Stack.KATA_DEPLOY


def _foreign(release: Release) -> Outcome:
    return failed(
        f"{release} is managed by {release.manager}, which puts back what anyone else changes",
        f"Change it there: in {release.manager}'s own source, with the values that "
        "docs/how-to/runbook.md names; or take it out of its hands first.",
    )


@check_all("cluster.existing-gpu-operator", "A GPU Operator that is there can be changed")
def existing_gpu_operator(case: ClusterCase) -> Iterator[Outcome]:
    """Two of them write the same objects; one that Argo CD owns is put back at once."""
    known(case.cluster.deployments)  # one without pods is there, too
    found = recognise.gpu_operators(case.cluster)
    if len(found) > 1:
        yield failed(
            f"there are {len(found)} GPU Operators: {', '.join(map(str, found))}",
            "Keep one: `helm list -A` names the releases, `helm uninstall` takes one away.",
        )
    for release in found:
        if release.manager in _FOREIGN:
            yield _foreign(release)
    if len(found) == 1 and found[0].manager not in _FOREIGN:
        yield passed(f"{found[0]}, managed by {found[0].manager}")
    if not found:
        yield passed("there is none")


@check_all("cluster.existing-kata", "What brings Kata already can be changed")
def existing_kata(case: ClusterCase) -> Iterator[Outcome]:
    """Two installers write one containerd configuration; uninstalling one unschedules the other."""
    known(case.cluster.deployments)
    found = case.installers
    releases = [item.release for item in found if item.provider is KataProvider.KATA_DEPLOY]
    if len(releases) > 1:
        yield failed(
            f"kata-deploy is there {len(releases)} times: {', '.join(map(str, releases))}",
            "Before 4.1 they share one node label: uninstalling one unschedules the other. Keep "
            "one: `helm uninstall NAME -n NAMESPACE`.",
        )
    for item in found:
        if item.release.manager in _FOREIGN:
            yield _foreign(item.release)
        elif item.provider is KataProvider.COCO_CHART:
            yield failed(
                f"the CoCo Helm chart is there ({item.release}); kgpuctl does not change it",
                f"Take it away first: `helm uninstall {item.release.name} -n "
                f"{item.release.namespace}`; or judge what it has made: `kgpuctl verify`.",
            )
        elif len(releases) <= 1:
            yield passed(f"{item.release}, managed by {item.release.manager}")
    if not found:
        yield passed("there is none")


def _workers(case: ClusterCase) -> list[DaemonSet]:
    return [
        item
        for item in known(case.cluster.daemon_sets)
        if recognise.image_of(item.spec.template.spec.containers, "node-feature-discovery")
        and "topology" not in item.metadata.name
    ]


@check("cluster.existing-nfd", "There is one node-feature-discovery at most")
def existing_nfd(case: ClusterCase) -> Outcome:
    """Two of them label the same nodes, and Helm refuses CRDs that belong to another release."""
    found = _workers(case)
    names = ", ".join(item.metadata.full_name for item in found)
    if len(found) > 1:
        return failed(
            f"there are {len(found)}: {names}",
            "Keep one: `nfd.enabled=false` in the GPU Operator's values, or "
            "`node-feature-discovery.enabled=false` in kata-deploy's (`nfd.enabled` is no key of "
            "that chart).",
        )
    if not found:
        return passed("there is none")
    item = found[0]
    operator = case.operator
    if operator and item.metadata.namespace == operator.namespace:
        return passed(f"{names}, of the GPU Operator")
    return warned(
        f"{names} is there, managed by {managed_by(item.metadata)}",
        "Install the GPU Operator with `--set nfd.enabled=false`, and see that this one labels "
        "PCI devices of classes 0300 and 0302 by vendor.",
    )


@check("cluster.mixed-stacks", "Nothing of another stack is there")
def mixed_stacks(case: ClusterCase) -> Outcome:
    """Both stacks write containerd's configuration; the second undoes the first."""
    ours = {
        Stack.KATA_DEPLOY: KataProvider.KATA_DEPLOY,
        Stack.COCO_OPERATOR: KataProvider.COCO_OPERATOR,
    }[wanted(case)]
    others = [item for item in case.installers if item.provider is not ours]
    if others:
        return failed(
            f"asked for is {wanted(case)}, there is {', '.join(str(it.release) for it in others)}",
            "Take the other one away first (a CcRuntime before its operator), or go on with it: "
            f"--stack {others[0].provider}.",
        )
    return passed()


@check_all(
    "cluster.pod-security", "The namespaces let privileged pods in", none="no such namespace yet"
)
def pod_security(case: ClusterCase) -> Iterator[Outcome]:
    """All installers and operands are privileged; a namespace that enforces less refuses them."""
    homes = set(_NAMESPACES[wanted(case)])
    if case.operator:
        homes.add(case.operator.namespace)
    for item in known(case.cluster.namespaces):
        name = item.metadata.name
        level = item.metadata.labels.get(_ENFORCE, "privileged")
        if name not in homes:
            continue
        if level != "privileged":
            yield failed(
                f"{_ENFORCE}={level}: its DaemonSets would make no pod",
                f"`kubectl label --overwrite namespace {name} {_ENFORCE}=privileged`",
            ).about(name)
        else:
            yield passed(level).about(name)


@check("cluster.versions", "The versions that are there work together")
def versions(case: ClusterCase) -> Outcome:
    """Some pairs end ready and never start a pod."""
    operator = case.operator
    installer = case.installer
    if operator is None or installer is None:
        return _single(case)
    verdict = case.catalog.combination(
        operator.version, installer.provider, installer.release.version
    )
    told = f"GPU Operator {operator.version} with {installer.release}: {'; '.join(verdict.reasons)}"
    if verdict.decision is Decision.REFUSED:
        return failed(told, "`kgpuctl versions` shows what works with what.")
    if verdict.decision is Decision.WARNED:
        todo = " ".join(defect.to_do for defect in verdict.defects)
        return warned(told, todo or "`kgpuctl versions` shows what works with what.")
    return passed(told)


def _single(case: ClusterCase) -> Outcome:
    """Judge one half of a stack by what the other will be."""
    stack, operator = wanted(case), case.operator
    if operator is None:
        entry = case.catalog.default(Product.GPU_OPERATOR, stack)
        return passed(f"GPU Operator {entry.version} goes with it" if entry else "")
    needs = TakesKataBy.MODE_KATA if stack is Stack.KATA_DEPLOY else TakesKataBy.KATA_MANAGER
    if case.takes_kata_by is not needs:
        return failed(
            f"GPU Operator {operator.version} takes Kata by {case.takes_kata_by}; the {stack} "
            f"stack needs {needs}",
            "Upgrade it (its CRDs first), or choose the other stack with --stack; `kgpuctl "
            "versions` shows what works with what.",
        )
    return passed(f"GPU Operator {operator.version} takes Kata by {needs}")


@check("cluster.nfd", "Node-feature-discovery is there, or comes with the install")
def nfd(case: ClusterCase) -> Outcome:
    """Without its labels the operator sees no GPU node, and says that it is ready."""
    if _workers(case):
        return passed(", ".join(item.metadata.full_name for item in _workers(case)))
    names = {item.metadata.name for item in known(case.cluster.crds)}
    if case.confidential and _RULE_CRD not in names:
        return warned(
            "there is none: kata-deploy from 4.1 on looks for its CRD when it renders the "
            "RuntimeClasses for confidential VMs",
            "Install node-feature-discovery, or the GPU Operator which brings it, before "
            "kata-deploy.",
        )
    return passed("the GPU Operator's chart brings it")


@check("cluster.crds", "No CRD is left from another version")
def crds(case: ClusterCase) -> Outcome:
    """Helm never upgrades CRDs; the API server drops every field that an old one does not know."""
    ours = [item for item in known(case.cluster.crds) if item.spec.group in CRD_GROUPS]
    policy = next((item for item in ours if item.metadata.name == _POLICY_CRD), None)
    if policy is not None and wanted(case) is Stack.KATA_DEPLOY:
        fields = {
            name
            for version in policy.spec.versions
            if version.served
            for name in version.schema.sandbox_fields
        }
        if fields and "mode" not in fields:
            return failed(
                f"CRD {_POLICY_CRD} does not know sandboxWorkloads.mode: it is from a chart before "
                "v26.3, and mode=kata would be dropped without a word",
                "Upgrade it with the chart (`operator.upgradeCRD=true`), or where no GPU Operator "
                f"runs delete it: `kubectl delete crd {_POLICY_CRD}`.",
            )
    left = [item.metadata.name for item in ours if item.spec.group == "nvidia.com"]
    if left and case.operator is None:
        return warned(
            f"{len(left)} CRDs are left from a GPU Operator that is gone: {', '.join(left[:3])}",
            f"Delete them before the install: `kubectl delete crd {' '.join(left)}`.",
        )
    return passed(f"{len(ours)} CRDs") if ours else skipped("there is none")
