"""Which stack it is: what brings Kata onto the nodes, and does it go with the GPU Operator."""

from typing import Final

from kgpuctl.catalog import Decision, KataProvider, Product, TakesKataBy, Verdict
from kgpuctl.checks import recognise
from kgpuctl.checks.check import Outcome, check, failed, known, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.checks.recognise import KataInstaller
from kgpuctl.names import Stack

TITLES: Final = {
    KataProvider.KATA_DEPLOY: "kata-deploy",
    KataProvider.COCO_OPERATOR: "the CoCo operator",
    KataProvider.COCO_CHART: "the CoCo Helm chart",
}
_IGNORED: Final = "kata-manager-ignored"


@check("verify.stack", "One stack brings Kata and the GPU Operator together")
def stack(case: ClusterCase) -> Outcome:
    """Two of them write the same containerd configuration, and undo each other."""
    providers = list(dict.fromkeys(item.provider for item in case.installers))
    if not providers:
        return failed("nothing that brings Kata onto nodes is on this cluster", _install_kata(case))
    if len(providers) > 1:
        return failed(
            f"two things bring Kata onto the nodes: {' and '.join(TITLES[p] for p in providers)}; "
            "both write containerd's configuration",
            "Keep one, and take the other away with its own uninstall (a CcRuntime before its "
            "operator, and only while that runs): https://github.com/confidential-containers/operator"
            f", {_uninstall(case)}.",
        )
    installer = case.installers[0]
    words = f"{TITLES[installer.provider]} {installer.release.version}".strip()
    if _is_left_alone(case, installer):
        return passed(f"{words}, of which only the CcRuntime is left")
    if case.operator is None:
        return passed(f"{words}, no GPU Operator")
    words = f"{words} with GPU Operator {case.operator.version}"
    return _combination(case, installer, words)


def _uninstall(case: ClusterCase) -> str:
    """Return the commands that take away the Helm releases that bring Kata."""
    releases = dict.fromkeys(
        (item.release.name, item.release.namespace)
        for item in case.installers
        if item.provider is not KataProvider.COCO_OPERATOR
    )
    return ", ".join(f"`helm uninstall {name} -n {space}`" for name, space in releases)


def _is_left_alone(case: ClusterCase, installer: KataInstaller) -> bool:
    """Whether an operator is gone, and what it installed stays: its version is nowhere told."""
    is_coco = installer.provider is KataProvider.COCO_OPERATOR
    return is_coco and recognise.coco_manager(case.cluster) is None


def _combination(case: ClusterCase, installer: KataInstaller, words: str) -> Outcome:
    version = case.operator.version if case.operator else ""
    verdict = case.catalog.combination(version, installer.provider, installer.release.version)
    reasons = "; ".join(verdict.reasons)
    if verdict.decision is not Decision.REFUSED:
        return passed(words)
    if _is_told_as_mode(case, verdict):
        return skipped("follows from verify.sandbox-mode")
    if _is_recognised_only(case, installer):
        return warned(
            f"{words}: {reasons}",
            "It is judged as it stands. For a stack that kgpuctl also installs and takes away, "
            "go on to kata-deploy with GPU Operator v26.3.1 or later and "
            "sandboxWorkloads.mode=kata.",
        )
    if case.catalog.gpu_operator(version).entry is None:
        return skipped("follows from verify.gpu-operator")
    if case.catalog.find(_product(installer), installer.release.version).entry is None:
        return warned(
            f"{words}: {reasons}", "`kgpuctl versions` shows what is known to work with what."
        )
    return failed(f"{words}: {reasons}", "`kgpuctl versions` shows what works with what.")


def _is_told_as_mode(case: ClusterCase, verdict: Verdict) -> bool:
    """Whether the flags of the older stack were given to a chart that ignores them."""
    if all(defect.id != _IGNORED for defect in verdict.defects):
        return False
    known(case.cluster.cluster_policies)
    return case.policy is not None and case.policy.spec.sandbox_workloads.mode != "kata"


def _is_recognised_only(case: ClusterCase, installer: KataInstaller) -> bool:
    """Whether it is one of the two setups that others install, and that can work."""
    if installer.provider is KataProvider.COCO_CHART:
        return True
    if case.takes_kata_by is not TakesKataBy.KATA_MANAGER:
        return False
    known(case.cluster.cluster_policies)
    if installer.provider is not KataProvider.KATA_DEPLOY or case.policy is None:
        return False
    manager = case.policy.spec.kata_manager
    return manager.enabled and not manager.config.runtime_classes


def _product(installer: KataInstaller) -> Product:
    return Product(installer.provider.value)  # the CoCo chart is none, and is judged before


def _install_kata(case: ClusterCase) -> str:
    entry = case.catalog.default(Product.KATA_DEPLOY, Stack.KATA_DEPLOY)
    version = entry.version if entry else ""
    return (
        "Install kata-deploy: `helm install kata-deploy "
        "oci://ghcr.io/kata-containers/kata-deploy-charts/kata-deploy "
        f"--version {version} -n kata-system --create-namespace --set shims.disableAll=true,"
        "shims.qemu-nvidia-gpu.enabled=true`. It restarts containerd on its nodes."
    )
