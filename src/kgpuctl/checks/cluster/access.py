"""The cluster itself: does it answer, is its version one that works, may this user change it."""

from kgpuctl.catalog import Product
from kgpuctl.checks.check import Outcome, check, failed, known, passed, skipped, warned
from kgpuctl.checks.cluster_case import ClusterCase
from kgpuctl.cluster.snapshot import SourceKind
from kgpuctl.names import Stack

_TELLS_HANDLERS = (1, 30)  # from here on a kubelet tells its runtime handlers


@check("cluster.reachable", "The cluster answers")
def reachable(case: ClusterCase) -> Outcome:
    """Nothing below is worth reading where this is not so."""
    source = case.cluster.source
    if source.kind is not SourceKind.LIVE:
        return skipped("this is a recording")
    return passed(f"{source.server}, as {source.user}")


@check("cluster.version", "The cluster's Kubernetes version is one that the stack is for")
def version(case: ClusterCase) -> Outcome:
    """Helm refuses a chart on a cluster outside of its range; older kubelets hide what they do."""
    have = known(case.cluster.version)
    stack = case.stack or Stack.KATA_DEPLOY
    for product in Product:
        entry = case.catalog.default(product, stack)
        if entry is None or entry.kubernetes is None:
            continue
        fits = entry.kubernetes.includes(have)
        if fits is None:
            return warned(
                f"{have!r} is no version of Kubernetes that can be compared",
                f"{entry.title} is for {entry.kubernetes.text}: see yourself.",
            )
        if not fits:
            return failed(
                f"{entry.title} is for Kubernetes {entry.kubernetes.text} "
                f"({entry.kubernetes.said_by}), this is {have}",
                "Upgrade the cluster, or choose an older version: `kgpuctl versions`.",
            )
    parts = have.removeprefix("v").split(".")
    if len(parts) > 1 and (int(parts[0]), _minor(parts[1])) < _TELLS_HANDLERS:
        return passed(f"{have}; its kubelets do not tell which runtime handlers they have")
    return passed(have)


def _minor(text: str) -> int:
    digits = text.rstrip("+")
    return int(digits) if digits.isdecimal() else 0


@check("cluster.permissions", "You may do what an install does")
def permissions(case: ClusterCase) -> Outcome:
    """An install that stops half-way for a missing right leaves half a stack."""
    rights = case.rights
    if rights is None:
        return skipped("only a live cluster tells what you may do")
    lacking = [str(call) for call, allowed in known(rights).items() if not allowed]
    if lacking:
        return failed(
            f"you may not: {'; '.join(lacking)}",
            "`kgpuctl rbac --command label-nodes` and `kgpuctl rbac --command verify` print the "
            "rights as manifests; a cluster administrator applies them.",
        )
    return passed(f"{len(known(rights))} calls")
