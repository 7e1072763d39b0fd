"""Custom resources as far as kgpuctl looks at them: the operators' own objects, and their CRDs."""

from msgspec import field

from kgpuctl.cluster.objects import Condition, Labels, Metadata, Shape


class Names(Shape, frozen=True):
    """How a custom resource is called."""

    kind: str = ""
    plural: str = ""


class Property(Shape, frozen=True):
    """A field of a schema, as deep as it is looked at."""

    properties: "dict[str, Property]" = field(default_factory=dict)


class Schema(Shape, frozen=True):
    """A custom resource's schema, as far as its field names go."""

    open_api: Property = field(default=Property(), name="openAPIV3Schema")

    @property
    def sandbox_fields(self) -> frozenset[str]:
        """Return the fields of a ClusterPolicy's sandboxWorkloads; empty where it is cut off."""
        spec = self.open_api.properties.get("spec", Property())
        return frozenset(spec.properties.get("sandboxWorkloads", Property()).properties)


class CrdVersion(Shape, frozen=True):
    """One version of a custom resource."""

    name: str
    served: bool = False
    storage: bool = False
    schema: Schema = Schema()


class CrdSpec(Shape, frozen=True):
    """What a custom resource is."""

    group: str = ""
    scope: str = ""
    names: Names = Names()
    versions: tuple[CrdVersion, ...] = ()


class CrdStatus(Shape, frozen=True):
    """Whether a custom resource is served."""

    conditions: tuple[Condition, ...] = ()


class CustomResourceDefinition(Shape, frozen=True):
    """A CustomResourceDefinition."""

    metadata: Metadata = Metadata()
    spec: CrdSpec = CrdSpec()
    status: CrdStatus = CrdStatus()


class SandboxWorkloads(Shape, frozen=True):
    """ClusterPolicy: whether and how GPUs go to VMs. `mode` is None in charts before v26.3."""

    enabled: bool = False
    default_workload: str = ""
    mode: str | None = None


class KataRuntimeClass(Shape, frozen=True):
    """A RuntimeClass that kata-manager is to set up."""

    name: str = ""
    node_selector: Labels = field(default_factory=dict)


class KataManagerConfig(Shape, frozen=True):
    """What kata-manager is to set up."""

    artifacts_dir: str = ""
    runtime_classes: tuple[KataRuntimeClass, ...] = ()


class KataManager(Shape, frozen=True):
    """ClusterPolicy: kata-manager; ignored from v26.3 on."""

    enabled: bool = False
    config: KataManagerConfig = KataManagerConfig()


class CcManager(Shape, frozen=True):
    """ClusterPolicy: the confidential computing mode of GPUs."""

    enabled: bool = False
    default_mode: str = ""


class Operand(Shape, frozen=True):
    """ClusterPolicy: whether an operand is wanted. None: not said, the operator's default."""

    enabled: bool | None = None


class ClusterPolicySpec(Shape, frozen=True):
    """What the GPU Operator is to do."""

    sandbox_workloads: SandboxWorkloads = SandboxWorkloads()
    kata_manager: KataManager = KataManager()
    cc_manager: CcManager = CcManager()
    vfio_manager: Operand = Operand()
    sandbox_device_plugin: Operand = Operand()
    kata_sandbox_device_plugin: Operand = Operand()


class ClusterPolicyStatus(Shape, frozen=True):
    """What the GPU Operator says of itself; conditions come from v23.9 on."""

    state: str = ""
    conditions: tuple[Condition, ...] = ()


class ClusterPolicy(Shape, frozen=True):
    """The GPU Operator's configuration."""

    metadata: Metadata = Metadata()
    spec: ClusterPolicySpec = ClusterPolicySpec()
    status: ClusterPolicyStatus = ClusterPolicyStatus()


class LabelSelector(Shape, frozen=True):
    """Labels that must all be there."""

    match_labels: Labels = field(default_factory=dict)


class CcConfig(Shape, frozen=True):
    """What the CoCo operator installs."""

    payload_image: str = ""


class CcRuntimeSpec(Shape, frozen=True):
    """Where the CoCo operator installs, and what."""

    cc_node_selector: LabelSelector = LabelSelector()
    config: CcConfig = CcConfig()


class Completed(Shape, frozen=True):
    """Nodes that are done."""

    completed_nodes_count: int = 0
    completed_nodes_list: tuple[str, ...] = ()


class InstallationStatus(Shape, frozen=True):
    """How far an installation is."""

    completed: Completed = Completed()


class CcRuntimeStatus(Shape, frozen=True):
    """How far the CoCo operator is; nothing of it is written while no node is selected."""

    total_nodes_count: int = 0
    runtime_class: str = ""
    installation_status: InstallationStatus = InstallationStatus()


class CcRuntime(Shape, frozen=True):
    """What the CoCo operator is asked to install."""

    metadata: Metadata = Metadata()
    spec: CcRuntimeSpec = CcRuntimeSpec()
    status: CcRuntimeStatus = CcRuntimeStatus()
