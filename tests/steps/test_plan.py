"""What is refused before anything is changed, and what the plan says of running things."""

import pytest

from kgpuctl.names import WORKLOAD_LABEL, Stack
from kgpuctl.report import Status
from kgpuctl.steps.outcome import conclude, pending, refusal
from kgpuctl.steps.plan import Plan
from kgpuctl.steps.stack import recognise
from kgpuctl.steps.targets import Selection
from steps.doing import Run, label
from steps.fake_cluster import FakeCluster
from steps.store import CC_RUNTIMES, COCO_NAMESPACE, NFD, Answer, Store, node, pod, refused


def refusals(plan: Plan) -> dict[str, str]:
    assert refusal(plan)
    assert all(result.remedy_text for result in plan.refused)
    return {result.subject: result.message for result in plan.refused}


def test_a_node_without_a_gpu_is_refused() -> None:
    store = Store().add(node("gpu-1"), node("cpu-1"))
    store.node("cpu-1")["metadata"]["labels"] = {}
    store.node("cpu-1")["status"] = {}

    plan = Run(store).plan(selection=Selection(("gpu-1", "cpu-1")))

    assert refusals(plan).keys() == {"cpu-1"}
    assert "no NVIDIA GPU" in refusals(plan)["cpu-1"]


def test_pods_that_use_gpus_are_listed_and_refused() -> None:
    store = Store().add(node("gpu-1"), node("gpu-2"), pod("train-0", "gpu-1"), pod("b", "gpu-1"))

    plan = Run(store).plan()

    assert refusals(plan) == {
        "gpu-1": "its GPUs are in use by default/train-0 (nvidia.com/gpu: 2), "
        "default/b (nvidia.com/gpu: 2)"
    }
    assert pending(plan) == plan.refused


@pytest.mark.parametrize(
    "free",
    [
        pod("over", "gpu-1") | {"status": {"phase": "Succeeded"}},
        pod("elsewhere", "other"),
        pod("cpu", "gpu-1") | {"spec": {"nodeName": "gpu-1", "containers": [{"name": "a"}]}},
    ],
)
def test_pods_that_use_no_gpu_of_the_node_do_not_matter(free: dict[str, object]) -> None:
    store = Store().add(node("gpu-1"), free)

    plan = Run(store).plan()

    assert not plan.refused
    assert len(plan.jobs) == 1


def test_a_node_that_is_labelled_already_may_be_in_use() -> None:
    store = Store().add(node("gpu-1", {WORKLOAD_LABEL: "vm-passthrough"}), pod("vm", "gpu-1"))

    plan = Run(store).plan(stack=Stack.COCO_OPERATOR)

    assert not plan.refused
    assert [job.holders for job in plan.jobs] == [()]


@pytest.mark.parametrize(
    ("stuck", "why"),
    [
        (pod("ds", "gpu-1", "DaemonSet"), "belongs to a DaemonSet"),
        (pod("alone", "gpu-1", ""), "has no controller"),
        (
            pod("static", "gpu-1", "Node", annotations={"kubernetes.io/config.mirror": "x"}),
            "is a static pod",
        ),
    ],
)
def test_what_eviction_cannot_move_is_refused_before_anything_is_done(
    stuck: dict[str, object], why: str
) -> None:
    store = Store().add(node("gpu-1"), stuck, pod("fine", "gpu-1"))

    plan = Run(store).plan(evict=True)

    assert why in refusals(plan)["gpu-1"]
    assert "fine" not in refusals(plan)["gpu-1"]


def test_restoring_looks_at_who_uses_gpus_too() -> None:
    store = Store().add(node("gpu-1"), node("gpu-2"))
    label(store)
    store.add(pod("vm-0", "gpu-1"))

    assert refusals(Run(store).plan(restore=True)).keys() == {"gpu-1"}


def test_a_node_whose_label_somebody_else_changed_is_left_and_the_others_are_restored() -> None:
    store = Store().add(node("gpu-1"), node("gpu-2"))
    label(store)
    store.labels("gpu-1")[WORKLOAD_LABEL] = "container"
    run = Run(store)

    plan = run.plan(restore=True)
    results = run.apply(plan)

    assert not plan.refused
    assert list(results) == ["gpu-2"]
    assert store.labels("gpu-1")[WORKLOAD_LABEL] == "container"
    assert WORKLOAD_LABEL not in store.labels("gpu-2")
    error = conclude(plan, tuple(results.values()), "")
    assert error is not None
    assert error.exit_code == 5
    assert error.message == "Only 1 of 2 nodes were restored; not gpu-1."
    (left,) = plan.left
    assert "is container now, and kgpuctl had set it to vm-passthrough" in left.message


def test_a_mark_that_is_not_ours_is_refused() -> None:
    store = Store().add(node("gpu-1", notes={"kgpuctl/previous-labels": "hello"}))

    assert "kgpuctl/previous-labels is not JSON" in refusals(Run(store).plan())["gpu-1"]


def test_the_plan_says_what_it_does_to_running_things() -> None:
    store = Store().add(node("gpu-1", {"nvidia.com/gpu.deploy.driver": "false"}), pod("p", "gpu-1"))

    notes = " ".join(Run(store).plan(evict=True).notes)

    assert "containers get none there any more" in notes
    assert "emptyDir" in notes
    assert "gpu-1 (nvidia.com/gpu.deploy.driver=false)" in notes


def test_without_nfd_that_is_said() -> None:
    store = Store().add(node("gpu-1"))
    for key in NFD:
        del store.labels("gpu-1")[key]
    store.node("gpu-1")["status"] = {}

    plan = Run(store).plan(selection=Selection(("gpu-1",)))

    assert not plan.refused
    assert any("is not known" in note and "gpu-1" in note for note in plan.notes)


def test_a_dry_run_says_what_would_be_done_and_that_nothing_was() -> None:
    store = Store().add(node("gpu-1"), node("gpu-2", {WORKLOAD_LABEL: "vm-passthrough"}))

    told = {result.subject: result for result in pending(Run(store).plan())}

    assert told["gpu-1"].status is Status.SKIPPED
    assert told["gpu-1"].message == (
        "not done: nvidia.com/gpu.workload.config=vm-passthrough (was not set)"
    )
    assert told["gpu-2"].message == "already so"


def test_who_uses_gpus_is_asked_for_all_nodes_at_once_where_there_are_many() -> None:
    store = Store().add(*(node(f"gpu-{number}") for number in range(60)), pod("p", "gpu-7"))

    plan = Run(store).plan()

    assert refusals(plan).keys() == {"gpu-7"}
    assert sum(asked.resource == "pods" for asked in store.asked) == 1


@pytest.mark.parametrize(
    ("objects", "stack", "why"),
    [
        ({}, Stack.KATA_DEPLOY, "the CoCo operator is not there"),
        (
            {CC_RUNTIMES: {}, f"{CC_RUNTIMES}/cc": {"metadata": {"name": "cc"}}},
            Stack.COCO_OPERATOR,
            "there is a CcRuntime cc",
        ),
        ({CC_RUNTIMES: {}}, Stack.KATA_DEPLOY, "nothing is left but its definitions"),
        (
            {CC_RUNTIMES: {}, COCO_NAMESPACE: {"metadata": {"name": "x"}}},
            Stack.COCO_OPERATOR,
            "there is a namespace confidential-containers-system",
        ),
    ],
)
def test_the_stack_is_recognised(
    objects: dict[str, dict[str, object]], stack: Stack, why: str
) -> None:
    found = recognise(FakeCluster(Store(objects=dict(objects))))

    assert found.stack is stack
    assert why in found.why


@pytest.mark.parametrize("hidden", [CC_RUNTIMES, COCO_NAMESPACE])
def test_a_stack_that_may_not_be_seen_is_a_default_and_said_to_be(hidden: str) -> None:
    def before(_: str, path: str) -> Answer | None:
        return refused(403, "Forbidden", "no") if path == hidden else None

    store = Store(objects={CC_RUNTIMES: {}}, before=before)

    assert recognise(FakeCluster(store)).why.startswith("the default: ")
