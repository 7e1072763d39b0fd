"""Kubernetes objects as far as kgpuctl looks at them: frozen values in the API's own shape.

What a field list leaves out is never decoded, never kept and never recorded: no environment
variable, no argument, no annotation but those named here, no Secret and no ConfigMap at all.
Absent and empty are the same, as they are for the API server. Times are RFC 3339 strings.
"""

from typing import TypeAlias

from msgspec import Struct, field

Labels: TypeAlias = dict[str, str]
Quantities: TypeAlias = dict[str, str | int]


class Shape(
    Struct, frozen=True, gc=False, rename="camel", omit_defaults=True, forbid_unknown_fields=False
):
    """A part of an object; unknown fields are passed over."""


class OwnerReference(Shape, frozen=True):
    """Who made an object, and takes it away again."""

    kind: str
    name: str
    uid: str = ""
    controller: bool = False


class Annotations(Shape, frozen=True):
    """The annotations that decide something; their values are names and versions."""

    release: str = field(default="", name="meta.helm.sh/release-name")
    release_namespace: str = field(default="", name="meta.helm.sh/release-namespace")
    kata_version: str = field(default="", name="katacontainers.io/kata-version")
    argo: str = field(default="", name="argocd.argoproj.io/tracking-id")
    mirror: str = field(default="", name="kubernetes.io/config.mirror")
    previous_labels: str = field(default="", name="kgpuctl/previous-labels")
    cordoned: str = field(default="", name="kgpuctl/cordoned")


class Metadata(Shape, frozen=True):
    """What every object has."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: Labels = {}
    annotations: Annotations = Annotations()
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    deletion_timestamp: str | None = None
    creation_timestamp: str | None = None
    generation: int = 0
    resource_version: str = ""

    @property
    def controller(self) -> OwnerReference | None:
        """Return the one owner that made this object, if any."""
        return next((owner for owner in self.owner_references if owner.controller), None)

    @property
    def full_name(self) -> str:
        """Return NAMESPACE/NAME, or the name alone where there is no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class PodMetadata(Shape, frozen=True):
    """The metadata of a pod: there are many, and their labels decide nothing here."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    annotations: Annotations = Annotations()
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    deletion_timestamp: str | None = None
    creation_timestamp: str | None = None
    resource_version: str = ""

    @property
    def controller(self) -> OwnerReference | None:
        """Return the one owner that made this pod, if any."""
        return next((owner for owner in self.owner_references if owner.controller), None)

    @property
    def full_name(self) -> str:
        """Return NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"


class Condition(Shape, frozen=True):
    """One condition of an object's status."""

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class Taint(Shape, frozen=True):
    """What keeps pods from a node that do not tolerate it."""

    key: str
    value: str = ""
    effect: str = ""

    def __str__(self) -> str:
        return (
            f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"
        )


class NodeSpec(Shape, frozen=True):
    """What was decided of a node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    provider_id: str = field(default="", name="providerID")


class NodeInfo(Shape, frozen=True):
    """What a kubelet says of its host."""

    architecture: str = ""
    container_runtime_version: str = ""
    kernel_version: str = ""
    kubelet_version: str = ""
    operating_system: str = ""
    os_image: str = ""


class RuntimeHandler(Shape, frozen=True):
    """A handler that the node's container runtime has loaded; empty for the default one."""

    name: str = ""


class NodeStatus(Shape, frozen=True):
    """What was seen of a node. `runtime_handlers` is None where the kubelet does not tell."""

    allocatable: Quantities = {}
    capacity: Quantities = {}
    conditions: tuple[Condition, ...] = ()
    node_info: NodeInfo = NodeInfo()
    runtime_handlers: tuple[RuntimeHandler, ...] | None = None


class Node(Shape, frozen=True):
    """A node."""

    metadata: Metadata = Metadata()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Resources(Shape, frozen=True):
    """What a container asks for."""

    limits: Quantities = {}
    requests: Quantities = {}


class Container(Shape, frozen=True):
    """A container as it was asked for."""

    name: str
    image: str = ""
    resources: Resources = Resources()


class Waiting(Shape, frozen=True):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Terminated(Shape, frozen=True):
    """How a container ended."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""
    finished_at: str | None = None


class Running(Shape, frozen=True):
    """Since when a container runs."""

    started_at: str | None = None


class ContainerState(Shape, frozen=True):
    """One of three."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Shape, frozen=True):
    """A container as it was seen."""

    name: str
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodSpec(Shape, frozen=True):
    """What was asked for of a pod."""

    node_name: str = ""
    runtime_class_name: str = ""
    node_selector: Labels = {}
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class PodStatus(Shape, frozen=True):
    """What was seen of a pod."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Shape, frozen=True):
    """A pod."""

    metadata: PodMetadata = PodMetadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class TemplateSpec(Shape, frozen=True):
    """The pods that a workload makes."""

    node_selector: Labels = {}
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class Template(Shape, frozen=True):
    """A pod template."""

    spec: TemplateSpec = TemplateSpec()


class DaemonSetSpec(Shape, frozen=True):
    """What a DaemonSet makes."""

    template: Template = Template()


class DaemonSetStatus(Shape, frozen=True):
    """How many pods there should be, and are."""

    desired_number_scheduled: int = 0
    number_ready: int = 0
    number_available: int = 0
    updated_number_scheduled: int = 0
    observed_generation: int = 0


class DaemonSet(Shape, frozen=True):
    """A DaemonSet."""

    metadata: Metadata = Metadata()
    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()


class DeploymentSpec(Shape, frozen=True):
    """What a Deployment makes."""

    replicas: int = 1
    template: Template = Template()


class DeploymentStatus(Shape, frozen=True):
    """How many pods there are."""

    replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class Deployment(Shape, frozen=True):
    """A Deployment."""

    metadata: Metadata = Metadata()
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class JobSpec(Shape, frozen=True):
    """What a Job makes."""

    template: Template = Template()


class JobStatus(Shape, frozen=True):
    """How a Job went."""

    active: int = 0
    succeeded: int = 0
    failed: int = 0
    conditions: tuple[Condition, ...] = ()


class Job(Shape, frozen=True):
    """A Job."""

    metadata: Metadata = Metadata()
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class Scheduling(Shape, frozen=True):
    """Where pods of a RuntimeClass may run."""

    node_selector: Labels = {}


class Overhead(Shape, frozen=True):
    """What a RuntimeClass adds to each pod's requests."""

    pod_fixed: Quantities = {}


class RuntimeClass(Shape, frozen=True):
    """A RuntimeClass; its handler must be known to the node's container runtime."""

    handler: str = ""
    metadata: Metadata = Metadata()
    scheduling: Scheduling = Scheduling()
    overhead: Overhead = Overhead()


class NamespaceStatus(Shape, frozen=True):
    """Whether a namespace is being deleted."""

    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class Namespace(Shape, frozen=True):
    """A namespace."""

    metadata: Metadata = Metadata()
    status: NamespaceStatus = NamespaceStatus()


class ObjectReference(Shape, frozen=True):
    """What an event is about."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Series(Shape, frozen=True):
    """An event that came again and again."""

    count: int = 0
    last_observed_time: str | None = None


class Event(Shape, frozen=True):
    """Something that was noticed about an object."""

    metadata: PodMetadata = PodMetadata()
    involved_object: ObjectReference = ObjectReference()
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int = 0
    event_time: str | None = None
    last_timestamp: str | None = None
    series: Series | None = None

    @property
    def time(self) -> str:
        """Return when it was noticed last; empty where nobody says."""
        last = self.series.last_observed_time if self.series else None
        return last or self.last_timestamp or self.event_time or ""


class PodLog(Shape, frozen=True):
    """The end of what a container wrote, with credentials taken out; kgpuctl's own kind."""

    metadata: PodMetadata = PodMetadata()
    container: str = ""
    previous: bool = False
    text: str = ""
    unread: str = ""  # why it could not be had


class KubeletSettings(Shape, frozen=True):
    """The part of a kubelet's configuration that decides about Kata with GPUs."""

    feature_gates: dict[str, bool] = {}
    runtime_request_timeout: str = ""


class KubeletConfig(Shape, frozen=True):
    """A node's kubelet configuration, as its configz endpoint tells it; kgpuctl's own kind."""

    metadata: PodMetadata = PodMetadata()
    kubeletconfig: KubeletSettings = KubeletSettings()
