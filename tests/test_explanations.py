"""Every row of the explanations against real words, and every real word against its row.

Where the words come from: FACTS are quoted from what the project has collected of threads, code and
documentation (the envelope around them is containerd's and the kubelet's); THREAD are quoted from
the public thread that the row names as its source (addresses and ids shortened); SAID is what
Kubernetes, containerd or the kernel say in every cluster; HINT is put together by us, because only
the kind of message is known, not its wording.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from kgpuctl.explanations import (
    LONGEST,
    PLACES,
    Clue,
    ClueKind,
    Explanation,
    Explanations,
    load_explanations,
    selector_clues,
)
from kgpuctl.render.explanations import as_page

TABLE: Final = load_explanations()
BY_ID: Final = {row.id: row for row in TABLE.rows}
PAGE: Final = Path(__file__).parents[1] / "docs/reference/explanations.md"
SHARED: Final = Path(os.environ.get("KGPU_SHARED", Path(__file__).parents[2] / "shared"))

SANDBOX: Final = "FailedCreatePodSandBox"
SHIM: Final = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to create containerd "
    "task: failed to create shim task: "
)
PULL: Final = 'Failed to pull image "{image}": rpc error: code = {code} desc = failed to pull and '
PULL_IMAGE: Final = PULL + 'unpack image "{image}": '


class Origin(StrEnum):
    FACTS = "facts"
    THREAD = "thread"
    SAID = "said"
    HINT = "hint"


FACTS, THREAD, SAID, HINT = Origin


class Seen(NamedTuple):
    id: str
    clue: Clue
    origin: Origin


def event(id_: str, origin: Origin, text: str, reason: str = SANDBOX) -> Seen:
    return Seen(id_, Clue(ClueKind.EVENT, reason, text), origin)


def state(id_: str, origin: Origin, reason: str, text: str = "", container: str = "") -> Seen:
    return Seen(id_, Clue(ClueKind.STATE, reason, text, container), origin)


def log(id_: str, origin: Origin, text: str, container: str = "main") -> Seen:
    return Seen(id_, Clue(ClueKind.LOG, "", text, container), origin)


def condition(id_: str, origin: Origin, reason: str, text: str = "") -> Seen:
    return Seen(id_, Clue(ClueKind.CONDITION, reason, text), origin)


def pending(id_: str, origin: Origin, text: str) -> Seen:
    return event(id_, origin, text, "FailedScheduling")


def selected(id_: str, label: str, text: str = 'wanted "true", found nothing') -> Seen:
    return Seen(id_, Clue(ClueKind.SELECTOR, label, text), SAID)


def failed(id_: str, origin: Origin, text: str, image: str, code: str = "Unknown") -> Seen:
    return event(id_, origin, (PULL_IMAGE + text).format(image=image, code=code), "Failed")


NOT_MATCHED: Final = "node(s) didn't match Pod's node affinity/selector"
PREEMPTION: Final = "preemption: 0/3 nodes are available: 3 Preemption is not helpful"
VALIDATOR: Final = "Error: error validating vfio-pci driver installation: device not bound to "

REFUSED: Final = [
    event(
        "runtime-class-renamed",
        THREAD,
        'Error creating: pods "cuda-vectoradd-kata" is forbidden: pod rejected: RuntimeClass '
        '"kata-qemu-nvidia-gpu" not found',
        "FailedCreate",
    ),
    event(
        "runtime-class-renamed",
        FACTS,
        'pods "cuda" is forbidden: pod rejected: RuntimeClass "kata-nvidia-gpu" not found',
        "FailedCreate",
    ),
    event(
        "runtime-class-renamed",
        SAID,
        'failed to get runtime class for pod: runtimeclasses.node.k8s.io "kata-qemu-nvidia-gpu-snp"'
        " not found",
        "FailedCreatePodSandBox",
    ),
    event(
        "runtime-class-not-found",
        HINT,
        'pod rejected: RuntimeClass "kata-qemu-gpu" not found',
        "FailedCreate",
    ),
    event(
        "runtime-class-not-found",
        SAID,
        'RuntimeHandler from runtimeClassName "x": runtimeclass.node.k8s.io "x" not found',
    ),
    event(
        "runtime-class-selector-conflict",
        SAID,
        "pod rejected: conflict: runtimeClass.Scheduling.NodeSelector[nvidia.com/cc.ready.state] = "
        "false; pod.Spec.NodeSelector[nvidia.com/cc.ready.state] = true",
        "FailedCreate",
    ),
    event(
        "pod-security-refused",
        SAID,
        'Error creating: pods "nvidia-vfio-manager-x" is forbidden: violates PodSecurity '
        '"baseline:latest": host namespaces (hostPID=true), privileged',
        "FailedCreate",
    ),
    event(
        "quota-exceeded",
        SAID,
        'Error creating: pods "x" is forbidden: exceeded quota: compute, requested: '
        "requests.nvidia.com/pgpu=1, used: requests.nvidia.com/pgpu=8, limited: 8",
        "FailedCreate",
    ),
    event(
        "quota-exceeded",
        SAID,
        "Error creating: insufficient quota to match these scopes: [{PriorityClass In "
        "[system-node-critical system-cluster-critical]}]",
        "FailedCreate",
    ),
]
UNPLACED: Final = [
    selected(
        "cc-mode-on-for-plain-class", "nvidia.com/cc.ready.state", 'wanted "false", found "true"'
    ),
    selected(
        "cc-mode-off-for-confidential-class",
        "nvidia.com/cc.ready.state",
        'wanted "true", found "false"',
    ),
    selected(
        "cc-ready-state-missing", "nvidia.com/cc.ready.state", 'wanted "false", found nothing'
    ),
    selected("kata-marker-missing", "kata-deploy.katacontainers.io/default"),
    selected(
        "kata-label-missing", "katacontainers.io/kata-runtime", 'wanted "true", found "false"'
    ),
    selected("kata-manager-label-missing", "nvidia.com/gpu.deploy.kata-manager"),
    selected("cc-capable-missing", "nvidia.com/cc.capable"),
    selected("tee-label-missing", "amd.feature.node.kubernetes.io/snp"),
    selected("tee-label-missing", "intel.feature.node.kubernetes.io/tdx"),
    selected("coco-worker-label-missing", "node.kubernetes.io/worker", 'wanted "", found nothing'),
    selected("coco-worker-label-missing", "node-role.kubernetes.io/worker"),
    selected("selected-label-missing", "rack", 'wanted "b7", found "b6"'),
    pending(
        "container-gpu-requested", SAID, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    ),
    condition(
        "container-gpu-requested",
        SAID,
        "Unschedulable",
        "0/4 nodes are available: 1 Insufficient nvidia.com/gpu, 3 Insufficient memory.",
    ),
    pending(
        "insufficient-nvswitch",
        SAID,
        "0/2 nodes are available: 2 Insufficient nvidia.com/nvswitch, 2 Insufficient "
        "nvidia.com/pgpu.",
    ),
    pending("insufficient-gpu", FACTS, "0/1 nodes are available: 1 Insufficient nvidia.com/pgpu."),
    condition(
        "insufficient-gpu",
        SAID,
        "Unschedulable",
        "0/3 nodes are available: 1 Insufficient nvidia.com/GA102GL_A10, 2 " + NOT_MATCHED + ". "
        "preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod.",
    ),
    pending(
        "insufficient-gpu",
        SAID,
        "0/2 nodes are available: 1 Insufficient memory, 1 Insufficient nvidia.com/gpu-model-x.",
    ),
    pending(
        "insufficient-tee-keys",
        SAID,
        "0/1 nodes are available: 1 Insufficient sev-snp.amd.com/esids.",
    ),
    pending(
        "insufficient-tee-keys", SAID, "0/1 nodes are available: 1 Insufficient tdx.intel.com/keys."
    ),
    pending(
        "insufficient-memory",
        SAID,
        f"0/3 nodes are available: 1 Insufficient memory, 2 {NOT_MATCHED}. {PREEMPTION}",
    ),
    pending("insufficient-cpu", SAID, "0/1 nodes are available: 1 Insufficient cpu."),
    pending(
        "node-down",
        SAID,
        "0/3 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: "
        f"}}, 2 {NOT_MATCHED}. {PREEMPTION}",
    ),
    pending(
        "node-under-pressure",
        SAID,
        "0/1 nodes are available: 1 node(s) had untolerated taint "
        "{node.kubernetes.io/disk-pressure: }.",
    ),
    pending(
        "node-cordoned",
        SAID,
        f"0/3 nodes are available: 1 node(s) were unschedulable, 2 {NOT_MATCHED}.",
    ),
    pending(
        "gpu-taint",
        SAID,
        "0/3 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: present}, 2 "
        f"{NOT_MATCHED}.",
    ),
    pending(
        "gpu-taint",
        SAID,
        "0/1 nodes are available: 1 node(s) had untolerated taint(s) {nvidia.com/gpu: }.",
    ),
    pending(
        "other-taint",
        SAID,
        "0/3 nodes are available: 1 node(s) had taint {dedicated: ml}, that the pod didn't "
        f"tolerate, 2 {NOT_MATCHED}.",
    ),
    pending(
        "node-selector-mismatch",
        SAID,
        "0/4 nodes are available: 1 node(s) had untolerated taint "
        f"{{node-role.kubernetes.io/control-plane: }}, 3 {NOT_MATCHED}. {PREEMPTION}",
    ),
    pending(
        "node-selector-mismatch",
        THREAD,
        "0/10 nodes are available: 10 node(s) didn't match node selector.",
    ),
    pending(
        "node-selector-mismatch",
        SAID,
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity.",
    ),
    pending("node-full", SAID, "0/1 nodes are available: 1 Too many pods."),
    pending(
        "unschedulable",
        SAID,
        "0/1 nodes are available: 1 node(s) had untolerated taint "
        "{node-role.kubernetes.io/control-plane: }.",
    ),
    condition("unschedulable", SAID, "Unschedulable", "no nodes available to schedule pods"),
]
KUBELET: Final = [
    condition(
        "device-not-allocated",
        SAID,
        "UnexpectedAdmissionError",
        "Pod was rejected: Allocate failed due to requested number of devices unavailable for "
        "nvidia.com/pgpu. Requested: 1, Available: 0, which is unexpected",
    ),
    condition(
        "node-changed-under-pod", THREAD, "NodeAffinity", "Pod Predicate NodeAffinity failed"
    ),
    event("node-changed-under-pod", THREAD, "Predicate NodeAffinity failed", "Rejected"),
    condition(
        "node-changed-under-pod",
        SAID,
        "OutOfnvidia.com/pgpu",
        "Pod was rejected: Node didn't have enough resource: nvidia.com/pgpu, requested: 1",
    ),
    condition("node-changed-under-pod", SAID, "OutOfmemory"),
    condition(
        "evicted",
        SAID,
        "Evicted",
        "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi",
    ),
    condition(
        "deadline-exceeded",
        SAID,
        "DeadlineExceeded",
        "Pod was active on the node longer than the specified deadline",
    ),
    condition(
        "job-failed", SAID, "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    ),
]
VM: Final = [
    event(
        "qemu-path-missing",
        THREAD,
        "Failed to create pod sandbox: rpc error: code = NotFound desc = failed to create "
        "containerd task: failed to create shim task: /opt/nvidia-gpu-operator/artifacts/"
        "runtimeclasses/kata-qemu-nvidia-gpu/configuration-kata-qemu-nvidia-gpu.toml: file "
        "/opt/confidential-containers/bin/qemu-system-x86_64 does not exist: not found",
    ),
    event(
        "kata-file-missing",
        THREAD,
        SHIM + "/opt/kata/share/defaults/kata-containers/configuration-qemu-tdx.toml: file "
        "/run/containerd/x/PLACEHOLDER_FOR_DISTRO_QEMU_WITH_TDX_SUPPORT does not exist: not found",
    ),
    event(
        "nvidia-runtime-not-configured",
        THREAD,
        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox "
        'runtime: no runtime for "nvidia" is configured',
    ),
    event(
        "nvidia-runtime-not-configured",
        THREAD,
        'Failed create pod sandbox: rpc error: code = Unknown desc = RuntimeHandler "nvidia" not '
        "supported",
    ),
    event(
        "handler-not-configured",
        FACTS,
        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox "
        'runtime: no runtime for "kata-qemu-nvidia-gpu" is configured',
    ),
    event(
        "handler-not-configured",
        SAID,
        "Failed to create pod sandbox: rpc error: code = Unknown desc = unable to get OCI runtime "
        'for sandbox "0f1": no runtime for "kata-nvidia-gpu" is configured',
    ),
    event("handler-not-configured", SAID, 'RuntimeHandler "kata-nvidia-gpu" not supported'),
    event(
        "handler-not-configured",
        SAID,
        "rpc error: code = Unknown desc = failed to find runtime handler kata-qemu-nvidia-gpu from "
        "runtime list map[crun:0xc0 runc:0xc1]",
    ),
    event(
        "device-already-attached",
        FACTS,
        SHIM + "QMP command failed: vfio 0000:65:00.0: device is already attached: unknown",
    ),
    event(
        "group-not-viable",
        THREAD,
        SHIM + "QMP command failed: vfio 0000:1b:00.0: group 41 is not viable: unknown",
    ),
    event(
        "group-not-viable",
        FACTS,
        SHIM + "failed to launch qemu: exit status 1, error messages from qemu log: "
        "qemu-system-x86_64: -device vfio-pci,host=0000:01:00.0: vfio 0000:01:00.0: Please ensure "
        "all devices within the iommu_group are bound to their vfio bus driver.",
    ),
    event(
        "group-in-several-address-spaces",
        FACTS,
        SHIM + "QMP command failed: vfio 0000:01:00.1: group 1 used in multiple address spaces: "
        "unknown",
    ),
    event(
        "cdi-device-named-otherwise",
        FACTS,
        SHIM + "device cold plug failed: cold plug: CDI device injection failed: CDI device "
        "injection failed: unresolvable CDI devices nvidia.com/pgpu=vfio1",
    ),
    event(
        "cdi-device-unresolvable",
        THREAD,
        'error injecting devices: "unresolvable CDI devices nvidia.com/pgpu=0"',
    ),
    event(
        "cdi-nothing-to-inject",
        FACTS,
        SHIM + "no CDI annotations, no devices to inject",
        "Failed",
    ),
    event(
        "cdi-wait-in-guest",
        THREAD,
        "waiting for CDI spec(s) to be generated",
        "Failed",
    ),
    event(
        "cdi-wait-in-guest",
        THREAD,
        SHIM + "failed to inject devices after CDI timeout of 100 seconds",
    ),
    event(
        "pod-resources-get-disabled",
        THREAD,
        "Failed to create pod sandbox: device cold plug failed: GetPodResources failed for "
        "pod(cuda-vectoradd-kata) in namespace(default): rpc error: code = Unknown desc = "
        "PodResources API Get method disabled",
    ),
    event(
        "vhost-vsock-missing",
        FACTS,
        SHIM + "open /dev/vhost-vsock: no such device: unknown",
    ),
    event(
        "vhost-vsock-missing",
        HINT,
        SHIM + "failed to launch qemu: qemu-system-x86_64: -device vhost-vsock-pci,id=vsock-1: "
        "unable to set guest cid: Address already in use",
    ),
    event(
        "vhost-net-missing",
        THREAD,
        "Failed to create pod sandbox: rpc error: code = Unknown desc = CreateContainer failed: "
        "Could not setup vhost fds eth0 : open /dev/vhost-net: no such file or directory: unknown",
    ),
    event(
        "kvm-missing",
        THREAD,
        SHIM + "failed to launch qemu: exit status 1, error messages from qemu log: Could not "
        "access KVM kernel module: No such file or directory",
    ),
    event(
        "kvm-missing",
        THREAD,
        SHIM + "qemu-system-x86_64: failed to initialize KVM: No such file or directory",
    ),
    event("kvm-missing", SAID, SHIM + "open /dev/kvm: no such file or directory"),
    event(
        "annotation-not-enabled",
        THREAD,
        SHIM + "annotation io.katacontainers.config.hypervisor.memory_offset is not enabled: "
        "unknown",
    ),
    event(
        "annotation-not-enabled",
        FACTS,
        SHIM + "io.katacontainers.config.hypervisor.default_memory: is not enabled",
    ),
    event("annotation-not-enabled", HINT, SHIM + "annotation default_memory is not enabled"),
    event(
        "dma-map-bad-address",
        THREAD,
        SHIM + "QMP command failed: vfio 0000:17:00.0: failed to setup container for group 57: "
        "memory listener initialization failed: Region dimm1: vfio_dma_map(0x3ea4e990, "
        "0x40000000, 0x500000000, 0xfffaa3fff000) = -14 (Bad address): unknown",
    ),
    event(
        "dma-map-bad-address",
        THREAD,
        SHIM + "qemu-system-x86_64: vfio_container_dma_map(0x55558771a400, 0xfa800000, 0x4000, "
        "0x7788e9d2c000) = -14 (Bad address)",
    ),
    event(
        "memory-not-pinned",
        THREAD,
        SHIM + "qemu-system-x86_64: VFIO_MAP_DMA failed: Cannot allocate memory",
    ),
    log("memory-not-pinned", FACTS, "vfio_pin_pages_remote: RLIMIT_MEMLOCK exceeded"),
    event(
        "iommufd-bind-invalid",
        THREAD,
        SHIM + "qemu-system-x86_64-tdx-experimental: -device vfio-pci,host=0000:8e:00.0,"
        "iommufd=iommufdvfio-0: vfio 0000:8e:00.0: error bind device fd=31 to iommufd=30: Invalid "
        "argument",
    ),
    event(
        "vfio-device-busy",
        THREAD,
        SHIM + "QMP command failed: vfio 0000:88:00.0: failed to open /dev/vfio/124: Device or "
        "resource busy: unknown",
    ),
    log("bar-not-reserved", FACTS, "vfio-pci 0000:01:00.0: BAR 0: can't reserve [mem 0xa0000000]"),
    log("bar-not-reserved", HINT, "a0000000-a07e8fff : BOOTFB"),
    log(
        "gpu-asleep",
        THREAD,
        "vfio-pci 0000:01:00.0: Unable to change power state from D3cold to D0, device "
        "inaccessible",
    ),
    event(
        "gpu-asleep",
        THREAD,
        SHIM + "qemu-system-x86_64-snp-experimental: ../hw/pci/pci.c:1633: pci_irq_handler: "
        "Assertion `0 <= irq_num && irq_num < PCI_NUM_PINS' failed.",
    ),
    log(
        "interrupt-remapping-missing",
        FACTS,
        "No interrupt remapping support",
    ),
    event(
        "interrupt-remapping-missing",
        HINT,
        SHIM + "QMP command failed: vfio 0000:65:00.0: failed to setup container for group 57: "
        "Failed to set group container: Operation not permitted",
    ),
    event(
        "interrupt-remapping-missing",
        HINT,
        SHIM + "vfio 0000:65:00.0: failed to set iommu for container: Operation not permitted",
    ),
    event("no-vfio-backend", FACTS, SHIM + "No usable VFIO backend"),
    event(
        "no-vfio-backend",
        SAID,
        SHIM + "vfio 0000:65:00.0: no iommu_group found: No such file or directory",
    ),
    event(
        "qmp-timeout",
        THREAD,
        SHIM + 'Others("failed to handle message start sandbox in task handler\\n\\nCaused by:\\n'
        "    0: start vm\\n    1: timed out waiting for QMP ready: qmp.sock\\n    2: qmp handshake "
        'failed")',
    ),
    event("qmp-timeout", THREAD, SHIM + "QMP not ready yet: qmp handshake failed"),
    event(
        "vsock-timeout",
        THREAD,
        SHIM + "Failed to Check if grpc server is working: rpc error: code = DeadlineExceeded desc "
        "= timed out connecting to vsock 3564712613:1024: unknown",
    ),
    event(
        "vsock-timeout",
        THREAD,
        SHIM
        + "2: connect\\n    3: vsock: failed to connect to Vsock { vsock_cid: 37, port: 1024 }",
    ),
    event("vsock-timeout", THREAD, SHIM + "err failed to connect to cid: 3746705066 port: 1024"),
    event(
        "ttrpc-closed",
        FACTS,
        SHIM + "Failed to Check if grpc server is working: ttrpc: closed: unknown",
    ),
    event(
        "qemu-out-of-memory",
        SAID,
        "System OOM encountered, victim process: qemu-system-x86, pid: 4711",
        "SystemOOM",
    ),
    event("qemu-out-of-memory", HINT, SHIM + "failed to launch qemu: signal: killed"),
    event(
        "image-layer-in-other-snapshotter",
        THREAD,
        "Failed to create pod sandbox: rpc error: code = NotFound desc = failed to create "
        "containerd container: error unpacking image: failed to extract layer sha256:1021ef88: "
        "failed to get reader from content store: content digest "
        "sha256:fbe1a72f5dcd08ba4ca3ce3468c742786c1f6578c1f6bb401be1c4620d6ff705: not found",
    ),
    event(
        "cri-service-unknown",
        FACTS,
        "Failed to create pod sandbox: rpc error: code = Unimplemented desc = unknown service "
        "runtime.v1.RuntimeService",
    ),
    condition(
        "container-runtime-down",
        SAID,
        "KubeletNotReady",
        "[container runtime is down, PLEG is not healthy: pleg was last seen active 3m ago]",
    ),
    event(
        "container-runtime-down",
        THREAD,
        "Failed to create pod sandbox: rpc error: code = Unavailable desc = connection error: desc "
        '= "transport: Error while dialing dial unix /run/containerd/containerd.sock: connect: '
        'connection refused"',
    ),
    condition(
        "network-not-ready",
        SAID,
        "KubeletNotReady",
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
        "message:Network plugin returns error: cni plugin not initialized",
    ),
    event(
        "network-not-ready",
        SAID,
        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network "
        'for sandbox "54378bb1": plugin type="calico" failed (add): i/o timeout',
    ),
    event(
        "vm-start-timeout",
        FACTS,
        "Failed to create pod sandbox: rpc error: code = DeadlineExceeded desc = context deadline "
        "exceeded",
    ),
    event("vm-start-timeout", THREAD, SHIM + "create container timeout: 0f1e"),
    event(
        "vm-start-timeout",
        THREAD,
        SHIM + "CreateContainerRequest timed out: context deadline exceeded",
        "Failed",
    ),
    state("vm-start-timeout", SAID, "CreateContainerError", "context deadline exceeded"),
    event("vm-start-timeout", SAID, "Error: context deadline exceeded", "Failed"),
    event(
        "qemu-not-launched",
        THREAD,
        SHIM + "failed to launch qemu: exit status 1, error messages from qemu log: "
        "qemu-system-x86_64: -object memory-backend-file,id=mem0: can't open backing store",
    ),
    event(
        "qemu-not-launched",
        THREAD,
        SHIM + "Unable to launch /usr/bin/qemu-system-x86_64: exit status 1",
    ),
    event(
        "vfio-device-refused",
        SAID,
        SHIM + "QMP command failed: vfio 0000:65:00.0: failed to get region 1 info",
    ),
    event("vfio-device-refused", HINT, SHIM + "device cold plug failed: cold plug: no device"),
    event("sandbox-not-created", SAID, SHIM + "something new: unknown"),
]
IMAGES: Final = [
    failed(
        "kube-rbac-proxy-gone",
        FACTS,
        "failed to resolve reference: gcr.io/kubebuilder/kube-rbac-proxy:v0.13.1: not found",
        "gcr.io/kubebuilder/kube-rbac-proxy:v0.13.1",
        "NotFound",
    ),
    event(
        "kube-rbac-proxy-gone",
        FACTS,
        'Back-off pulling image "gcr.io/kubebuilder/kube-rbac-proxy:v0.13.1"',
        "BackOff",
    ),
    state(
        "kube-rbac-proxy-gone",
        FACTS,
        "ImagePullBackOff",
        'Back-off pulling image "gcr.io/kubebuilder/kube-rbac-proxy:v0.13.1"',
        "kube-rbac-proxy",
    ),
    state("kube-rbac-proxy-gone", FACTS, "ErrImagePull", "", "kube-rbac-proxy"),
    state(
        "image-name-invalid",
        SAID,
        "InvalidImageName",
        'Failed to apply default image tag "nvcr.io/:v1": couldn\'t parse image reference',
    ),
    event("image-name-invalid", SAID, "Error: InvalidImageName", "Failed"),
    failed(
        "ngc-key-needed",
        SAID,
        'failed to resolve reference "{image}": failed to authorize: failed to fetch oauth token: '
        "unexpected status from GET request to https://nvcr.io/proxy_auth: 401 Unauthorized",
        "nvcr.io/nvidia/cloud-native/kata-gpu-artifacts:ubuntu22.04-535.54.03",
    ),
    state(
        "ngc-key-needed",
        SAID,
        "ErrImagePull",
        'failed to resolve reference "nvcr.io/x/y:1": pull access denied, repository does not '
        "exist or may require authorization: insufficient_scope: authorization failed",
    ),
    failed(
        "image-unauthorized",
        SAID,
        'failed to resolve reference "{image}": pull access denied, repository does not exist or '
        "may require authorization: server message: insufficient_scope: authorization failed",
        "registry.example/gpu-operator:v26.7.0",
    ),
    failed(
        "image-unauthorized",
        SAID,
        'failed to resolve reference "{image}": unexpected status from HEAD request: 403 Forbidden',
        "registry.example/gpu-operator:v26.7.0",
    ),
    failed(
        "image-rate-limited",
        SAID,
        "failed to copy: httpReadSeeker: failed open: unexpected status code: 429 Too Many "
        "Requests - Server message: toomanyrequests: You have reached your pull rate limit.",
        "docker.io/library/busybox:1.36",
    ),
    failed(
        "image-registry-tls",
        SAID,
        'failed to resolve reference "{image}": failed to do request: Head "https://mirror/v2/": '
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "mirror.example/kata-deploy:4.0.0",
    ),
    failed(
        "image-registry-tls",
        SAID,
        'failed to do request: Head "https://mirror/v2/": http: server gave HTTP response to HTTPS '
        "client",
        "mirror.example/kata-deploy:4.0.0",
    ),
    failed(
        "image-registry-not-resolved",
        SAID,
        'failed to do request: Head "https://nvcr.io/v2/": dial tcp: lookup nvcr.io on '
        "10.0.0.10:53: no such host",
        "nvcr.io/nvidia/gpu-operator:v26.7.0",
    ),
    event(
        "image-too-slow",
        SAID,
        'Failed to pull image "quay.io/kata-containers/kata-deploy:4.0.0": rpc error: code = '
        "DeadlineExceeded desc = context deadline exceeded",
        "Failed",
    ),
    failed(
        "image-registry-unreachable",
        SAID,
        'failed to do request: Head "https://nvcr.io/v2/": dial tcp 203.0.113.9:443: i/o timeout',
        "nvcr.io/nvidia/gpu-operator:v26.7.0",
    ),
    failed(
        "image-registry-unreachable",
        SAID,
        'failed to do request: Head "https://quay.io/v2/": net/http: TLS handshake timeout',
        "quay.io/kata-containers/kata-deploy:4.0.0",
    ),
    failed(
        "image-wrong-platform",
        SAID,
        "no match for platform in manifest: not found",
        "quay.io/kata-containers/kata-deploy:4.0.0",
        "NotFound",
    ),
    failed(
        "image-not-found",
        SAID,
        'failed to resolve reference "{image}": {image}: not found',
        "nvcr.io/nvidia/cloud-native/k8s-kata-manager:v0.9.9",
        "NotFound",
    ),
    state("image-not-found", SAID, "ErrImagePull", "manifest unknown: manifest unknown"),
    state(
        "image-not-pulled", SAID, "ImagePullBackOff", 'Back-off pulling image "nvcr.io/nvidia/x:1"'
    ),
    state("image-not-pulled", SAID, "ErrImageNeverPull"),
    event("image-not-pulled", SAID, "Error: ErrImagePull", "Failed"),
    event("image-not-pulled", SAID, 'Back-off pulling image "nvcr.io/nvidia/x:1"', "BackOff"),
]
OPERANDS: Final = [
    log(
        "host-driver-installed",
        THREAD,
        "NVIDIA GPU driver is already pre-installed on the node, disabling the containerized "
        "driver",
        "k8s-driver-manager",
    ),
    log("host-driver-installed", THREAD, "driver is pre-installed on host", "k8s-driver-manager"),
    log("host-driver-installed", THREAD, "Host driver detected: 580.82.07", "k8s-driver-manager"),
    log(
        "gpu-held-by-nvidia",
        FACTS,
        VALIDATOR + "'vfio-pci'; device: 0000:18:00.0 driver: 'nvidia'",
        "vfio-pci-validation",
    ),
    log(
        "gpu-held-by-nouveau",
        FACTS,
        VALIDATOR + "'vfio-pci'; device: 0000:18:00.0 driver: 'nouveau'",
        "vfio-pci-validation",
    ),
    log(
        "gpu-not-bound-yet",
        FACTS,
        VALIDATOR + "'vfio-pci'; device: 0000:18:00.0 driver: ''",
        "vfio-pci-validation",
    ),
    log(
        "vfio-bind-refused",
        FACTS,
        "binding device 0000:00:06.0\n/bin/vfio-manage.sh: line 113: echo: write error: Invalid "
        "argument",
        "nvidia-vfio-manager",
    ),
    log(
        "vfio-bind-failed",
        THREAD,
        'level=warning msg="Failed to bind device 0000:65:00.0: failed to write"',
        "nvidia-vfio-manager",
    ),
    log(
        "vfio-bind-failed",
        THREAD,
        "failed to bind device 0000:65:00.0 to vfio driver: permission denied",
        "nvidia-vfio-manager",
    ),
    log(
        "host-driver-in-use",
        THREAD,
        "Unloading NVIDIA driver kernel modules...\nCould not unload NVIDIA driver kernel modules, "
        "driver is in use",
        "k8s-driver-manager",
    ),
    log(
        "host-driver-in-use",
        FACTS,
        "NVRM: Attempting to remove device 0000:65:00.0 with non-zero usage count!",
    ),
    log("gpus-not-cc-capable", FACTS, "Some GPUs are not cc-capable: {'0000:65:00.0'}"),
    log(
        "glibc-too-old",
        THREAD,
        "nvidia-kubevirt-gpu-device-plugin: /lib64/libc.so.6: version `GLIBC_2.32' not found "
        "(required by nvidia-kubevirt-gpu-device-plugin)",
        "nvidia-sandbox-device-plugin-ctr",
    ),
    log(
        "kata-deploy-distribution-mismatch",
        THREAD,
        'Error: this node runs k3s, but the chart was configured for k8sDistribution "k8s", so the '
        "directory mounted at /etc/containerd is not the one k3s reads its configuration from.",
        "kube-kata",
    ),
    log(
        "kata-files-in-use",
        HINT,
        "cp: cannot create regular file '/opt/kata/bin/containerd-shim-kata-v2': Text file busy",
        "kube-kata",
    ),
    log(
        "containerd-config-version",
        THREAD,
        'level=fatal msg="Error: unable to load config: unsupported config version: 3"',
    ),
    log(
        "containerd-config-version",
        THREAD,
        "unknown containerd config version: 4 (supported versions: 2 and 3)",
    ),
    log(
        "coco-no-worker",
        FACTS,
        "no suitable worker nodes found for runtime installation. Please make sure to label the "
        "nodes with labels specified in CcNodeSelector",
        "manager",
    ),
    log(
        "workload-config-invalid",
        FACTS,
        '"msg":"WARNING: failed to get GPU workload config for node; using default","NodeName":""',
        "gpu-operator",
    ),
    log("workload-config-invalid", THREAD, '"Error":"invalid GPU workload config: kata"'),
    condition("no-gpu-node-found", FACTS, "NoGPUNodes"),
    log(
        "no-gpu-node-found",
        FACTS,
        "No GPU node in the cluster, do not create DaemonSets",
        "gpu-operator",
    ),
    condition("nfd-labels-missing", FACTS, "NFDLabelsMissing"),
    condition("operand-not-ready", FACTS, "OperandNotReady"),
    condition("gpu-operator-not-reconciled", FACTS, "ReconcileFailed"),
    condition(
        "stuck-finalizer",
        SAID,
        "SomeFinalizersRemain",
        "Some content in the namespace has finalizers remaining: "
        "runtimeconfig.confidentialcontainers.org/finalizer in 1 resource instances",
    ),
    log("kata-manager-no-gpu", FACTS, "invalid spec, no devices", "nvidia-kata-manager"),
    log(
        "guest-artifacts-refused",
        HINT,
        "failed to pull artifact: GET https://nvcr.io/proxy_auth: response status code 401",
        "nvidia-kata-manager",
    ),
    log("nvswitch-not-passed", FACTS, "CUDA error 802"),
    log("nvswitch-not-passed", SAID, "cudaGetDeviceCount failed: system not yet initialized"),
    log(
        "no-gpu-in-container",
        SAID,
        "Failed to allocate device vector A (error code no CUDA-capable device is detected)!",
    ),
    log(
        "no-gpu-in-container",
        SAID,
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure",
    ),
]
ENDED: Final = [
    state("container-config-error", SAID, "CreateContainerConfigError", 'secret "ngc" not found'),
    event("container-config-error", SAID, 'Error: configmap "settings" not found', "Failed"),
    state("container-out-of-memory", SAID, "OOMKilled", "exit code 137"),
    state("driver-manager-fails", FACTS, "CrashLoopBackOff", "", "k8s-driver-manager"),
    state("vfio-validation-fails", FACTS, "CrashLoopBackOff", "", "vfio-pci-validation"),
    state("vfio-manager-fails", FACTS, "CrashLoopBackOff", "", "nvidia-vfio-manager"),
    state("cc-manager-fails", FACTS, "Error", "exit code 1", "nvidia-cc-manager"),
    state("kata-manager-fails", FACTS, "CrashLoopBackOff", "", "nvidia-kata-manager"),
    state("kata-deploy-fails", SAID, "Error", "exit code 1", "kube-kata"),
    state("kata-deploy-fails", SAID, "CrashLoopBackOff", "", "cc-runtime-install-pod"),
    state("command-not-found", SAID, "Error", "exit code 127 sh: nvidia-smi: not found"),
    state(
        "command-not-found",
        SAID,
        "CreateContainerError",
        'exec: "run": executable file not found in $PATH',
    ),
    event(
        "command-not-found",
        SAID,
        "Error: failed to create containerd task: failed to create shim task: OCI runtime create "
        'failed: exec: "run": executable file not found in $PATH: unknown',
        "Failed",
    ),
    state("container-killed", SAID, "Error", "exit code 137"),
    state("container-crashed", SAID, "Error", "exit code 139"),
    state("container-not-created", SAID, "RunContainerError", "something new"),
    Seen(
        "installer-not-ready-yet",
        Clue(ClueKind.EVENT, "Unhealthy", "Startup probe failed: HTTP probe failed", "kube-kata"),
        SAID,
    ),
    event(
        "installer-not-ready-yet",
        SAID,
        'Readiness probe failed: Get "http://10.0.0.7:8090/readyz": dial tcp: connection refused',
        "Unhealthy",
    ),
    event(
        "probe-fails",
        SAID,
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
        "Unhealthy",
    ),
    state(
        "crash-loop",
        SAID,
        "CrashLoopBackOff",
        "back-off 5m0s restarting failed container=main pod=x_default(0f1e)",
    ),
    event(
        "crash-loop",
        SAID,
        "Back-off restarting failed container main in pod x_default(0f1e)",
        "BackOff",
    ),
    state("container-failed", SAID, "Error", "exit code 1"),
]
SEEN: Final = [*REFUSED, *UNPLACED, *KUBELET, *VM, *IMAGES, *OPERANDS, *ENDED]

HEALTHY: Final = [
    ("Scheduled", "Successfully assigned default/cuda-vectoradd-kata to gpu-1"),
    ("Pulling", 'Pulling image "gcr.io/kubebuilder/kube-rbac-proxy:v0.13.1"'),
    ("Pulled", 'Successfully pulled image "nvcr.io/nvidia/x:1" in 2m1s (2m1s including waiting)'),
    ("Created", "Created container: cuda-vectoradd"),
    ("Started", "Started container cuda-vectoradd"),
    ("Killing", "Stopping container nvidia-vfio-manager"),
    ("SuccessfulCreate", "Created pod: nvidia-cc-manager-7kq89"),
    ("Completed", "Job completed"),
    ("NodeReady", "Node gpu-1 status is now: NodeReady"),
    ("Starting", "Starting kubelet."),
]
HEALTHY_LOGS: Final = [
    "Test PASSED",
    'level=info msg="containerd successfully restarted"',
    'level=info msg="runtime successfully restarted"',
    'level=info msg="Binding device 0000:65:00.0"',
    "Node is ready",
]


def explained(*clues: Clue) -> str | None:
    found = TABLE.explain(clues)
    return found.id if found else None


def name_of(seen: Seen) -> str:
    return f"{seen.id}-{seen.clue.kind}"


@pytest.mark.parametrize("seen", SEEN, ids=name_of)
def test_what_was_seen_is_explained_by_exactly_its_row(seen: Seen) -> None:
    assert explained(seen.clue) == seen.id


def test_every_row_and_each_of_its_matches_has_words_that_it_is_for() -> None:
    for row in TABLE.rows:
        clues = [seen.clue for seen in SEEN if seen.id == row.id]
        assert clues, row.id
        for match in row.matches:
            assert any(match.fits(clue) for clue in clues), (row.id, match)


def test_no_general_row_stands_before_a_specific_one() -> None:
    order = list(BY_ID)
    for seen in SEEN:
        fitting = [
            row.id for row in TABLE.rows if any(match.fits(seen.clue) for match in row.matches)
        ]
        assert fitting[0] == seen.id, fitting
        assert all(order.index(later) > order.index(seen.id) for later in fitting[1:])


def test_general_rows_are_really_hidden_behind_specific_ones() -> None:
    fitting: dict[str, set[str]] = {row.id: set() for row in TABLE.rows}
    for seen in SEEN:
        for row in TABLE.rows:
            if row.id != seen.id and any(match.fits(seen.clue) for match in row.matches):
                fitting[row.id].add(seen.id)

    assert len(fitting["sandbox-not-created"]) > 20
    assert len(fitting["image-not-pulled"]) > 8
    assert len(fitting["unschedulable"]) > 10
    assert "cdi-device-named-otherwise" in fitting["cdi-device-unresolvable"]
    assert "gpu-held-by-nvidia" in fitting["gpu-not-bound-yet"]
    assert "runtime-class-renamed" in fitting["runtime-class-not-found"]


SANDBOXES: Final = [seen for seen in VM if seen.clue.reason == SANDBOX]
WRAPPINGS: Final = [
    "Failed to create pod sandbox: rpc error: code = Unknown desc = {}",
    'rpc error: code = Internal desc = failed to start sandbox "24f0ab51": {}: unknown',
    "(combined from similar events): {}\\n\\nStack backtrace:\\n   0: anyhow::context",
    "\n  {}\n",
]


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_what_is_wrapped_around_a_message_changes_nothing(wrapping: str) -> None:
    for seen in SANDBOXES:
        bare = seen.clue.text.removeprefix(SHIM)
        clue = seen.clue._replace(text=wrapping.replace("{}", bare))
        assert explained(clue) == seen.id


def test_a_specific_clue_wins_wherever_it_stands() -> None:
    general = Clue(ClueKind.STATE, "CrashLoopBackOff", "back-off restarting", "nvidia-vfio-manager")
    specific = Clue(ClueKind.LOG, "", "echo: write error: Invalid argument", "nvidia-vfio-manager")

    assert explained(general) == "vfio-manager-fails"
    assert explained(general, specific) == explained(specific, general) == "vfio-bind-refused"


@pytest.mark.parametrize(("reason", "text"), HEALTHY)
def test_a_healthy_event_needs_no_explanation(reason: str, text: str) -> None:
    assert explained(Clue(ClueKind.EVENT, reason, text)) is None


@pytest.mark.parametrize("text", HEALTHY_LOGS)
def test_a_healthy_log_needs_no_explanation(text: str) -> None:
    assert explained(Clue(ClueKind.LOG, "", text, "main")) is None


def test_nothing_explains_nothing() -> None:
    assert explained() is None
    for kind in set(ClueKind) - {ClueKind.SELECTOR}:
        assert explained(Clue(kind, "", "")) is None
    assert Explanations(()).explain([SEEN[0].clue]) is None


def recorded() -> Iterator[Clue]:
    """Yield events and conditions of the recorded clusters; their operands are all well."""
    for path in sorted((SHARED / "snapshots").glob("*.json")):
        items: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["items"]
        for item in items:
            if item["kind"] == "Event":
                yield Clue(ClueKind.EVENT, item["reason"], item.get("message", ""))
            for row in item.get("status", {}).get("conditions") or ():
                yield Clue(ClueKind.CONDITION, row.get("reason", ""), row.get("message", ""))


def test_nothing_in_the_recorded_clusters_is_taken_for_trouble() -> None:
    clues = set(recorded())
    if not clues:
        pytest.skip("no recorded clusters in the shared data")
    assert {explained(clue): clue for clue in clues}.keys() == {None}


def test_a_label_that_no_node_has_is_a_clue() -> None:
    wanted = {
        "katacontainers.io/kata-runtime": "true",
        "nvidia.com/cc.ready.state": "false",
        "kubernetes.io/os": "linux",
    }
    nodes = [
        {"kubernetes.io/os": "linux", "nvidia.com/cc.ready.state": "true"},
        {"kubernetes.io/os": "linux", "nvidia.com/cc.ready.state": ""},
    ]
    clues = selector_clues(wanted, nodes)

    assert [clue[1:3] for clue in clues] == [
        ("katacontainers.io/kata-runtime", 'wanted "true", found nothing'),
        ("nvidia.com/cc.ready.state", 'wanted "false", found "true"'),
    ]
    assert explained(*clues) == "cc-mode-on-for-plain-class"
    assert explained(clues[0]) == "kata-label-missing"
    assert selector_clues(wanted, []) != ()
    assert selector_clues({}, nodes) == ()


def test_the_label_that_is_missing_tells_more_than_the_scheduler() -> None:
    said = Clue(ClueKind.CONDITION, "Unschedulable", f"0/3 nodes are available: 3 {NOT_MATCHED}.")
    label = Clue(ClueKind.SELECTOR, "kata-deploy.katacontainers.io/default", 'wanted "true"')

    assert explained(said) == "node-selector-mismatch"
    assert explained(said, label) == "kata-marker-missing"


def test_ids_are_unique_and_spelled_alike() -> None:
    assert len(BY_ID) == len(TABLE.rows)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id_) for id_ in BY_ID)


@pytest.mark.parametrize("row", TABLE.rows, ids=lambda row: row.id)
def test_a_row_says_why_what_to_do_and_who_says_so(row: Explanation) -> None:
    for text in (row.cause_text, row.remedy_text):
        assert len(text) > 30
        assert text.endswith((".", "?", "`.", ")."))
        assert text.count("`") % 2 == 0
        assert set(re.findall(r"\{([a-z_]+)\}", text)) <= set(PLACES)
    assert row.sources
    for source in row.sources:
        plain = r"[\w.-]+/[\w.-]+(#\d+|@[0-9a-f]{7,40}|: \S+@\S+)"
        assert re.fullmatch(rf"{plain}|Kubernetes: [\w /-]+", source), source


def test_a_remedy_is_filled_in_for_the_pod_at_hand() -> None:
    row = BY_ID["driver-manager-fails"]
    told = row.remedy_for(node="gpu-1", pod="nvidia-vfio-manager-x", namespace="gpu-operator")

    assert "kubectl -n gpu-operator logs nvidia-vfio-manager-x -c k8s-driver-manager" in told
    assert "kubectl get node gpu-1" in told


def test_what_is_not_known_of_the_pod_stays_for_a_person_to_fill_in() -> None:
    assert "kubectl -n NAMESPACE logs POD" in BY_ID["driver-manager-fails"].remedy_for()
    assert "kubectl -n NAMESPACE logs" in BY_ID["driver-manager-fails"].remedy_for(namespace="")
    assert "RUNTIME_CLASS runs only" in BY_ID["kata-label-missing"].cause
    assert "kata-x runs only" in BY_ID["kata-label-missing"].cause_for(runtime_class="kata-x")


def test_filling_in_is_safe_whatever_the_values_are() -> None:
    row = BY_ID["runtime-class-selector-conflict"]
    told = row.remedy_for(runtime_class="{node}{0.__class__}", node="gpu-1", surplus="x")

    assert "{node}{0.__class__}" in told
    assert "jsonpath='{.scheduling.nodeSelector}'" in told
    assert "\x1b" not in row.remedy_for(runtime_class="kata\x1b[31m")


def patterns() -> list[str]:
    found = (
        text
        for row in TABLE.rows
        for match in row.matches
        for text in (match.reason, match.container, *match.texts)
    )
    return sorted({text for text in found if text})


@pytest.mark.parametrize("pattern", patterns())
def test_no_expression_repeats_without_end(pattern: str) -> None:
    """Bounded repetition keeps every expression linear in the length of a text."""
    plain = re.sub(r"\\.|\[(?:\\.|[^\]])*\]", "x", pattern)

    assert not re.search(r"[*+]|\{\d*,\}", plain)
    assert not re.search(r"\)(?:\{|\?\?)", plain), "a repeated group"
    re.compile(pattern)


def cost(text: str) -> float:
    """Return the seconds that all expressions take together, the best of three."""
    taken = []
    for _ in range(3):
        start = time.process_time()
        for pattern in patterns():
            re.search(pattern, text)
        taken.append(time.process_time() - start)
    return min(taken)


def hostile(length: int) -> str:
    """Return text made of the beginnings of everything that is looked for."""
    parts = [seen.clue.text[: len(seen.clue.text) * 2 // 3] for seen in SEEN]
    parts += ["a" * 400, " " * 400, "0" * 400, "vfio_dma_map(" * 30, "taint {" * 60, "\\n" * 200]
    text = "|".join(parts)
    return (text * (length // len(text) + 1))[:length]


def test_ten_times_the_text_takes_about_ten_times_as_long() -> None:
    cost(hostile(1000))  # compiles them all

    assert cost(hostile(100_000)) < 40 * cost(hostile(10_000))


@pytest.mark.parametrize(
    "start", ["group 1", "vfio_dma_map(", "unresolvable CDI devices nvidia.com/"]
)
def test_a_beginning_that_comes_again_and_again_costs_no_more(start: str) -> None:
    text = (start * (100_000 // len(start) + 1))[:100_000]

    assert cost(text) < 40 * cost(text[:10_000])


def test_of_a_very_long_text_both_ends_are_looked_at() -> None:
    filler = "x" * (2 * LONGEST)
    for text in (f"{filler} ttrpc: closed", f"ttrpc: closed {filler}"):
        assert explained(Clue(ClueKind.EVENT, SANDBOX, text)) == "ttrpc-closed"


def test_every_origin_is_told_and_most_words_are_not_ours() -> None:
    ours = [seen for seen in SEEN if seen.origin is HINT]

    assert {seen.origin for seen in SEEN} == set(Origin)
    assert len(ours) * 10 < len(SEEN)


def test_the_reference_page_says_what_the_table_says() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert re.findall(r'<a id="([^"]+)">', page) == list(BY_ID)
    assert page == as_page(TABLE.rows)
