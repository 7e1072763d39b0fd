"""Nodes in use: cordoned, emptied through the eviction API, labelled, and given back."""

import pytest

from kgpuctl.names import WORKLOAD_LABEL
from kgpuctl.report import Result, Status
from kgpuctl.steps.outcome import INTERRUPTED
from steps.doing import Run, label
from steps.store import NODES, Answer, Store, merged, node, pod, refused

MARK = "kgpuctl/cordoned"
BUDGET = "The disruption budget train needs 2 healthy pods and has 2 currently"


def evicting(store: Store, seconds: float = 60) -> tuple[Run, dict[str, Result]]:
    run = Run(store, seconds=seconds)
    planned = run.plan(evict=True)
    assert not planned.refused
    return run, run.apply(planned)


def is_cordoned(store: Store, name: str) -> bool:
    return bool(store.node(name)["spec"].get("unschedulable"))


def test_a_node_in_use_is_emptied_labelled_and_uncordoned() -> None:
    store = Store().add(node("gpu-1"), pod("train-0", "gpu-1"), node("gpu-2"))
    states: list[tuple[str, bool]] = []

    def before(method: str, path: str) -> Answer | None:
        if method in {"POST", "PATCH"}:
            states.append((path.rpartition("/")[2], is_cordoned(store, "gpu-1")))
        return None

    store.before = before
    run, results = evicting(store)

    assert results["gpu-1"].status is Status.PASSED
    assert results["gpu-1"].message.endswith("; evicted default/train-0 (nvidia.com/gpu: 2)")
    assert states == [
        ("gpu-2", False),
        ("gpu-1", False),
        ("eviction", True),
        ("gpu-1", True),
        ("gpu-1", True),
    ]
    assert store.node("gpu-1")["spec"] == {}
    assert MARK not in store.node("gpu-1")["metadata"]["annotations"]
    steps = [entry.step for entry in run.records.entries if entry.object == "node/gpu-1"]
    assert list(dict.fromkeys(steps)) == [
        "step.cordon-node",
        "step.label-node",
        "step.uncordon-node",
    ]


def test_all_nodes_in_use_are_cordoned_before_the_first_eviction() -> None:
    store = Store().add(*(node(f"gpu-{number}") for number in range(4)))
    store.add(*(pod(f"p-{number}", f"gpu-{number}") for number in range(4)))
    open_nodes: list[str] = []

    def before(_: str, path: str) -> Answer | None:
        if path.endswith("/eviction"):
            open_nodes.extend(
                name
                for name in (f"gpu-{number}" for number in range(4))
                if not is_cordoned(store, name) and WORKLOAD_LABEL not in store.labels(name)
            )
        return None

    store.before = before
    _, results = evicting(store)

    assert open_nodes == []
    assert {result.status for result in results.values()} == {Status.PASSED}


def test_a_budget_is_respected_and_named_and_the_node_is_uncordoned() -> None:
    store = Store(budgets={"train-0": BUDGET}).add(node("gpu-1"), pod("train-0", "gpu-1"))
    before = store.bare()

    run, results = evicting(store, seconds=2.5)

    assert results["gpu-1"].status is Status.FAILED
    assert results["gpu-1"].message == (
        "the 2.5 s of --timeout are over, and it still waited for "
        f"default/train-0 (nvidia.com/gpu: 2): {BUDGET}"
    )
    assert "--timeout" in results["gpu-1"].remedy_text
    assert BUDGET in run.said[0]
    assert store.bare() == before
    assert sum(asked.subresource == "eviction" for asked in store.asked) >= 2


def test_a_budget_that_gives_way_in_time_is_waited_for() -> None:
    store = Store(budgets={"train-0": BUDGET}).add(node("gpu-1"), pod("train-0", "gpu-1"))

    def before(_: str, path: str) -> Answer | None:
        if path.endswith("/eviction") and sum(a.subresource != "" for a in store.asked) > 1:
            store.budgets.clear()
        return None

    store.before = before

    assert evicting(store)[1]["gpu-1"].status is Status.PASSED


def test_a_pod_that_does_not_end_is_named() -> None:
    store = Store(lingering={"train-0"}).add(node("gpu-1"), pod("train-0", "gpu-1"))

    run, results = evicting(store, seconds=1.5)

    assert "it still waited for the end of default/train-0" in results["gpu-1"].message
    assert sum(asked.subresource == "eviction" for asked in store.asked) == 1
    assert not is_cordoned(store, "gpu-1")
    assert run.said


def test_what_somebody_else_cordoned_stays_cordoned() -> None:
    store = Store().add(node("gpu-1"), pod("train-0", "gpu-1"))
    store.node("gpu-1")["spec"]["unschedulable"] = True

    _, results = evicting(store)

    assert results["gpu-1"].status is Status.PASSED
    assert is_cordoned(store, "gpu-1")
    assert MARK not in store.node("gpu-1")["metadata"]["annotations"]


def test_a_cordon_that_a_killed_run_left_is_taken_back_by_the_next() -> None:
    labelled = node("gpu-1", {WORKLOAD_LABEL: "vm-passthrough"}, notes={MARK: "alice"})
    unlabelled = node("gpu-2", notes={MARK: "alice"})
    others = node("gpu-3")
    for one in (labelled, unlabelled, others):
        one["spec"]["unschedulable"] = True
    store = Store().add(labelled, unlabelled, others)

    results = label(store)

    assert [is_cordoned(store, f"gpu-{number}") for number in (1, 2, 3)] == [False, False, True]
    assert results["gpu-1"].message == "uncordoned: an earlier run had left it so"
    assert store.labels("gpu-2")[WORKLOAD_LABEL] == "vm-passthrough"
    assert label(store) == {}


def test_a_mark_without_a_cordon_is_taken_away() -> None:
    store = Store().add(node("gpu-1", {WORKLOAD_LABEL: "vm-passthrough"}, notes={MARK: "alice"}))

    label(store)

    assert MARK not in store.node("gpu-1")["metadata"]["annotations"]


@pytest.mark.parametrize(
    "answer",
    [
        refused(403, "Forbidden", "evictions are not yours"),
        refused(500, "InternalError", "This pod has more than one PodDisruptionBudget"),
    ],
)
def test_a_refused_eviction_fails_the_node_and_uncordons_it(answer: Answer) -> None:
    store = Store().add(node("gpu-1"), pod("train-0", "gpu-1"))
    before = store.bare()
    store.before = lambda _, path: answer if path.endswith("/eviction") else None

    _, results = evicting(store)

    assert str(answer.value["message"]) in results["gpu-1"].message
    assert store.bare() == before


def test_a_pod_that_is_gone_or_another_by_now_is_well() -> None:
    store = Store().add(node("gpu-1"), pod("train-0", "gpu-1"))
    path = "/api/v1/namespaces/default/pods/train-0"

    def before(_: str, asked: str) -> Answer | None:
        if asked.endswith("/eviction"):
            store.objects.pop(path, None)
        return None

    store.before = before

    assert evicting(store)[1]["gpu-1"].status is Status.PASSED


def test_ctrl_c_while_evicting_uncordons() -> None:
    store = Store(lingering={"p-0", "p-1"}).add(node("gpu-0"), node("gpu-1"))
    store.add(pod("p-0", "gpu-0"), pod("p-1", "gpu-1"))
    before = store.bare()
    run = Run(store)
    planned = run.plan(evict=True)
    store.before = lambda _, path: (
        run.stop.because(INTERRUPTED) if path.endswith("/eviction") else None
    )

    results = run.apply(planned)

    assert {result.status for result in results.values()} == {Status.FAILED}
    assert store.bare() == before


def test_a_lost_lease_leaves_the_cordon_with_its_mark_and_says_so() -> None:
    store = Store(lingering={"p"}).add(node("gpu-1"), pod("p", "gpu-1"))
    run = Run(store)
    planned = run.plan(evict=True)

    def before(_: str, path: str) -> Answer | None:
        if path.endswith("/eviction"):
            run.right.trouble = "the Lease was taken over by bob"
        return None

    store.before = before
    results = run.apply(planned)

    assert is_cordoned(store, "gpu-1")
    assert MARK in store.node("gpu-1")["metadata"]["annotations"]
    assert "it stays cordoned: the Lease was taken over by bob" in results["gpu-1"].message
    assert "kubectl uncordon gpu-1" in results["gpu-1"].remedy_text


def test_a_new_pod_that_eviction_cannot_move_is_told() -> None:
    store = Store(lingering={"p"}).add(node("gpu-1"), pod("p", "gpu-1"))

    def before(_: str, path: str) -> Answer | None:
        if path.endswith("/eviction"):
            store.add(pod("ds", "gpu-1", "DaemonSet"))
        return None

    store.before = before
    _, results = evicting(store)

    assert "default/ds (nvidia.com/gpu: 2) belongs to a DaemonSet" in results["gpu-1"].message
    assert not is_cordoned(store, "gpu-1")


def test_the_operator_is_given_time_before_pods_may_come_back() -> None:
    store = Store().add(
        node("gpu-1", {"nvidia.com/gpu.deploy.device-plugin": "true"}), pod("p", "gpu-1")
    )
    asked_while_cordoned: list[bool] = []

    def before(method: str, path: str) -> Answer | None:
        if method == "GET" and path == f"{NODES}/gpu-1":
            labels = store.labels("gpu-1")
            if labels.get(WORKLOAD_LABEL) == "vm-passthrough" and is_cordoned(store, "gpu-1"):
                asked_while_cordoned.append(True)
                if len(asked_while_cordoned) == 2:
                    gone = {"status": {"allocatable": {"nvidia.com/gpu": "0"}}}
                    store.objects[path] = merged(store.objects[path], gone)
        return None

    store.before = before
    run, results = evicting(store)

    assert results["gpu-1"].status is Status.PASSED
    assert len(asked_while_cordoned) >= 2
    assert "gpu-1: waiting until nvidia.com/gpu is not handed out any more" in run.said


def test_what_is_still_handed_out_at_the_end_is_a_warning() -> None:
    store = Store().add(
        node("gpu-1", {"nvidia.com/gpu.deploy.device-plugin": "true"}), pod("p", "gpu-1")
    )

    _, results = evicting(store, seconds=1.5)

    assert results["gpu-1"].status is Status.WARNED
    assert "nvidia.com/gpu is still handed out there" in results["gpu-1"].message
    assert not is_cordoned(store, "gpu-1")


def test_a_node_that_cannot_be_cordoned_is_not_emptied() -> None:
    store = Store().add(node("gpu-1"), pod("p", "gpu-1"))
    store.before = lambda method, _: refused(403, "Forbidden", "no") if method == "PATCH" else None

    _, results = evicting(store)

    assert results["gpu-1"].status is Status.FAILED
    assert not any(asked.subresource for asked in store.asked)
