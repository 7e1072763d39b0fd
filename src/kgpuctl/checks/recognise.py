"""What is installed on a cluster: recognised from its objects, never asked for.

No Secret is read: Helm's own release records stay closed. Releases show by the labels and
annotations that Helm leaves on what it made, and by the tags of images.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from kgpuctl.catalog import KataProvider
from kgpuctl.checks.check import known
from kgpuctl.cluster.custom import ClusterPolicy
from kgpuctl.cluster.objects import Container, DaemonSet, Deployment, Metadata, RuntimeClass
from kgpuctl.cluster.snapshot import ClusterSnapshot
from kgpuctl.names import CHART_LABEL, GPU_HANDLER_MARK, KATA_CLASS_LABEL, Tee
from kgpuctl.unread import Unread

COCO_MANAGER: Final = "cc-operator-controller-manager"
COCO_NAMESPACE: Final = "confidential-containers-system"
_CHART: Final = re.compile(r"gpu-operator-(v?\d+\.\d+\.\d+\S*)")
_COCO_CHART_MARK: Final = "kata-as-coco-runtime"


class Manager(StrEnum):
    """Who keeps a release as it is, and would put back what anyone else changes."""

    HELM = "Helm"
    OLM = "Operator Lifecycle Manager"
    ARGO = "Argo CD"
    FLUX = "Flux"
    NOBODY = "nobody"


class Release(NamedTuple):
    """Something that was installed: what, where, in which version, and who manages it."""

    name: str
    namespace: str
    version: str
    manager: Manager

    def __str__(self) -> str:
        return f"{self.name} {self.version} in {self.namespace}".replace("  ", " ")


class KataInstaller(NamedTuple):
    """What brings Kata onto the nodes. `daemon_set` is None where Jobs or an operator do it."""

    provider: KataProvider
    release: Release
    daemon_set: DaemonSet | None = None


def managed_by(meta: Metadata) -> Manager:
    """Say who manages an object, as its labels, annotations and owners tell."""
    labels, notes = meta.labels, meta.annotations
    if any(owner.kind == "ClusterServiceVersion" for owner in meta.owner_references):
        return Manager.OLM
    if any(key.startswith("olm.") for key in labels):
        return Manager.OLM
    if notes.argo or "argocd.argoproj.io/instance" in labels:
        return Manager.ARGO
    if any("toolkit.fluxcd.io/" in key for key in labels):
        return Manager.FLUX
    if notes.release or labels.get("app.kubernetes.io/managed-by") == "Helm":
        return Manager.HELM
    return Manager.NOBODY


def tag(image: str) -> str:
    """Return the tag of an image; empty where it has only a digest, or none."""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2]


def image_of(containers: Iterable[Container], part: str) -> str:
    """Return the first image whose name holds a part; empty where there is none."""
    return next((item.image for item in containers if part in item.image), "")


def _deployments(cluster: ClusterSnapshot, name: str) -> tuple[Deployment, ...]:
    """Return the Deployments; where they are not known, it is sure that one without pods is not up.

    A list of pods without one of a Deployment's says as much as the Deployment itself would.
    """
    if isinstance(cluster.deployments, Unread) and not isinstance(cluster.pods, Unread):
        owners = (pod.metadata.controller for pod in cluster.pods)
        hashed = re.compile(rf"{re.escape(name)}-[a-z0-9]+")
        if not any(owner and hashed.fullmatch(owner.name) for owner in owners):
            return ()
    return known(cluster.deployments)


def gpu_operators(cluster: ClusterSnapshot) -> tuple[Release, ...]:
    """Return the GPU Operators of a cluster: there should be one."""
    return tuple(
        _gpu_operator(item)
        for item in _deployments(cluster, "gpu-operator")
        if item.metadata.labels.get("app.kubernetes.io/component") == "gpu-operator"
        or any(_is_operator(container.image) for container in item.spec.template.spec.containers)
    )


def _is_operator(image: str) -> bool:
    """Whether an image is the GPU Operator's, by its name: with a tag, with a digest or without."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0] == "gpu-operator"


def gpu_operator_deployment(cluster: ClusterSnapshot, release: Release) -> Deployment | None:
    """Return the Deployment that a release was recognised by."""
    return next(
        (item for item in known(cluster.deployments) if _gpu_operator(item) == release),
        None,
    )


def _gpu_operator(item: Deployment) -> Release:
    meta = item.metadata
    chart = _CHART.fullmatch(meta.labels.get(CHART_LABEL, ""))
    version = (
        (chart[1] if chart else "")
        or meta.labels.get("app.kubernetes.io/version", "")
        or tag(image_of(item.spec.template.spec.containers, "gpu-operator"))
    )
    name = meta.annotations.release or meta.name
    return Release(name, meta.namespace, version, managed_by(meta))


def policies(cluster: ClusterSnapshot) -> tuple[ClusterPolicy, ...]:
    """Return the ClusterPolicies that count: the operator ignores all but the oldest."""
    return tuple(
        policy for policy in known(cluster.cluster_policies) if policy.status.state != "ignored"
    )


def kata_installers(cluster: ClusterSnapshot) -> tuple[KataInstaller, ...]:
    """Return what brings Kata onto the nodes; more than one kind of it is a mix."""
    found = [_of_daemon_set(item) for item in known(cluster.daemon_sets)]
    installers = [item for item in found if item]
    if not any(item.provider is KataProvider.KATA_DEPLOY for item in installers):
        seen = {(item.release.name, item.release.namespace) for item in installers}
        jobs = _jobs(cluster)
        installers += (it for it in jobs if (it.release.name, it.release.namespace) not in seen)
    if known(cluster.cc_runtimes) or coco_manager(cluster):
        installers.append(_coco(cluster))
    return tuple(installers)


def _of_daemon_set(item: DaemonSet) -> KataInstaller | None:
    meta, image = item.metadata, image_of(item.spec.template.spec.containers, "kata-deploy")
    if not image or meta.name.startswith("cc-operator-"):
        return None
    is_chart = _COCO_CHART_MARK in meta.name or meta.namespace == "coco-system"
    provider = KataProvider.COCO_CHART if is_chart else KataProvider.KATA_DEPLOY
    name = meta.annotations.release or meta.name
    release = Release(name, meta.namespace, tag(image), managed_by(meta))
    return KataInstaller(provider, release, item)


def _jobs(cluster: ClusterSnapshot) -> list[KataInstaller]:
    """Recognise kata-deploy in job mode: nothing of it keeps running but its RuntimeClasses."""
    releases = {
        Release(
            item.metadata.annotations.release,
            item.metadata.annotations.release_namespace,
            item.metadata.annotations.kata_version,
            managed_by(item.metadata),
        )
        for item in known(cluster.runtime_classes)
        if item.metadata.annotations.kata_version and item.metadata.annotations.release
    }
    return [KataInstaller(KataProvider.KATA_DEPLOY, item) for item in sorted(releases)]


def coco_manager(cluster: ClusterSnapshot) -> Deployment | None:
    """Return the CoCo operator's Deployment, also one that is not up."""
    return next(
        (
            item
            for item in _deployments(cluster, COCO_MANAGER)
            if image_of(item.spec.template.spec.containers, "confidential-containers/operator")
            or item.metadata.name == COCO_MANAGER
        ),
        None,
    )


def _coco(cluster: ClusterSnapshot) -> KataInstaller:
    manager = coco_manager(cluster)
    if manager is None:
        release = Release("CoCo operator", COCO_NAMESPACE, "", Manager.NOBODY)
    else:
        containers = manager.spec.template.spec.containers
        image = image_of(containers, "confidential-containers/operator")
        meta = manager.metadata
        release = Release("CoCo operator", meta.namespace, tag(image), managed_by(meta))
    return KataInstaller(KataProvider.COCO_OPERATOR, release)


def gpu_classes(cluster: ClusterSnapshot, tee: Tee | None = None) -> tuple[RuntimeClass, ...]:
    """Return the RuntimeClasses for VMs with GPUs; with `tee` only those for that one."""
    return tuple(
        item
        for item in known(cluster.runtime_classes)
        if (
            GPU_HANDLER_MARK in item.handler or item.metadata.labels.get(KATA_CLASS_LABEL) == "true"
        )
        and (tee is None or tee_of(item) is tee)
    )


def tee_of(item: RuntimeClass) -> Tee | None:
    """Say for which confidential VMs a RuntimeClass is; None for plain ones."""
    words = item.metadata.name.split("-")
    return next((tee for tee in Tee if tee.value in words), None)
