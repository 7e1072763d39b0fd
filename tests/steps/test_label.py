"""What labelling and restoring change, as pure functions and over a store."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgpuctl.names import COCO_WORKER_LABEL, WORKLOAD_LABEL, Stack, Workload
from kgpuctl.report import Status
from kgpuctl.steps.label import ForeignLabelError, Label, Restore, moves_gpus
from kgpuctl.steps.marks import APPLIED, PREVIOUS, ForeignMarkError, MarkedNode, previous, written
from kgpuctl.steps.step import Change
from steps.doing import EVERY, Run, label, restore
from steps.store import Store, merged, node

VALUES = st.none() | st.sampled_from(["", "kata", "container", "vm-passthrough", "x-1_y.Z"])


def marked(value: dict[str, Any]) -> MarkedNode:
    return msgspec.convert(value, MarkedNode)


def changed(value: dict[str, Any], change: Change) -> dict[str, Any]:
    assert change.body["metadata"]["resourceVersion"] == change.version  # type: ignore[index]
    return merged(value, {"metadata": dict(change.metadata)})


def with_labels(workload: str | None, worker: str | None) -> dict[str, Any]:
    found = {WORKLOAD_LABEL: workload, COCO_WORKER_LABEL: worker}
    return node("gpu-1", {key: value for key, value in found.items() if value is not None})


@given(
    workload=VALUES,
    worker=VALUES,
    asked=st.lists(st.tuples(st.sampled_from(Workload), st.booleans()), min_size=1, max_size=5),
)
def test_restoring_gives_the_node_back_byte_for_byte(
    workload: str | None, worker: str | None, asked: list[tuple[Workload, bool]]
) -> None:
    before = with_labels(workload, worker)
    now = before
    for wanted, coco in asked:
        labels = {WORKLOAD_LABEL: wanted.value} | ({COCO_WORKER_LABEL: ""} if coco else {})
        now = changed(now, Label(labels).change(marked(now)))
        assert labels.items() <= now["metadata"]["labels"].items()
        assert not Label(labels).change(marked(now))

    restored = changed(now, Restore().change(marked(now)))

    assert json.dumps(restored, sort_keys=True) == json.dumps(before, sort_keys=True)
    assert not Restore().change(marked(restored))


def test_what_is_remembered_is_the_oldest_value_and_grows_only_by_keys() -> None:
    now = with_labels("container", "old")
    now = changed(now, Label({WORKLOAD_LABEL: "vm-vgpu"}).change(marked(now)))
    now = changed(now, Label({WORKLOAD_LABEL: "vm-passthrough"}).change(marked(now)))
    now = changed(
        now,
        Label({WORKLOAD_LABEL: "vm-passthrough", COCO_WORKER_LABEL: ""}).change(marked(now)),
    )

    assert now["metadata"]["annotations"][PREVIOUS] == (
        '{"node.kubernetes.io/worker":"old","nvidia.com/gpu.workload.config":"container"}'
    )
    assert json.loads(now["metadata"]["annotations"][APPLIED]) == {
        WORKLOAD_LABEL: "vm-passthrough",
        COCO_WORKER_LABEL: "",
    }


def test_a_node_that_is_right_by_itself_is_not_marked() -> None:
    now = with_labels("vm-passthrough", None)

    assert not Label({WORKLOAD_LABEL: "vm-passthrough"}).change(marked(now))


@pytest.mark.parametrize("value", ["container", None, ""])
def test_a_label_that_somebody_else_changed_is_not_put_back(value: str | None) -> None:
    now = with_labels("kata", None)
    now = changed(now, Label({WORKLOAD_LABEL: "vm-passthrough"}).change(marked(now)))
    now = merged(now, {"metadata": {"labels": {WORKLOAD_LABEL: value}}})

    with pytest.raises(ForeignLabelError) as caught:
        Restore().change(marked(now))
    assert caught.value.ours == "vm-passthrough"
    assert caught.value.now == value
    assert "vm-passthrough" in str(caught.value)


def test_a_label_that_is_back_already_only_loses_its_marks() -> None:
    now = with_labels("kata", None)
    now = changed(now, Label({WORKLOAD_LABEL: "vm-passthrough"}).change(marked(now)))
    now = merged(now, {"metadata": {"labels": {WORKLOAD_LABEL: "kata"}}})

    change = Restore().change(marked(now))

    assert not change.labels
    assert not moves_gpus(change)
    assert changed(now, change) == with_labels("kata", None)


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '"x"',
        "[" * 100_000,
        '{"node-role.kubernetes.io/control-plane": ""}',
        '{"nvidia.com/gpu.workload.config": 7}',
        '{"nvidia.com/gpu.workload.config": {"a": 1}}',
    ],
)
def test_an_annotation_that_kgpuctl_never_wrote_changes_nothing(text: str) -> None:
    now = node("gpu-1", notes={PREVIOUS: text})

    with pytest.raises(ForeignMarkError):
        Restore().change(marked(now))
    with pytest.raises(ForeignMarkError):
        Label({WORKLOAD_LABEL: "vm-passthrough"}).change(marked(now))


@given(st.text())
def test_no_annotation_ends_in_a_traceback(text: str) -> None:
    now = marked(node("gpu-1", notes={PREVIOUS: text}))
    try:
        assert previous(now).keys() <= {WORKLOAD_LABEL, COCO_WORKER_LABEL}
    except ForeignMarkError as error:
        assert PREVIOUS in str(error)  # noqa: PT017  # either is right


def test_the_same_labels_are_always_written_alike() -> None:
    assert written({"b": None, "a": "x"}) == written({"a": "x", "b": None}) == '{"a":"x","b":null}'


def test_label_repeat_and_restore_on_a_cluster() -> None:
    store = Store().add(node("gpu-1"), node("gpu-2", {WORKLOAD_LABEL: "container"}))
    before = store.bare()

    first = label(store)
    after = store.bare()

    assert {name: result.status for name, result in first.items()} == {
        "gpu-1": Status.PASSED,
        "gpu-2": Status.PASSED,
    }
    assert first["gpu-2"].message == (
        "nvidia.com/gpu.workload.config=vm-passthrough (was container)"
    )
    assert store.labels("gpu-1")[WORKLOAD_LABEL] == "vm-passthrough"
    assert label(store) == {}
    assert store.bare() == after
    assert len(restore(store)) == 2
    assert store.bare() == before
    assert restore(store) == {}


def test_the_worker_label_is_set_empty_for_the_coco_operator_and_only_for_vms() -> None:
    store = Store().add(node("gpu-1"), node("gpu-2", {COCO_WORKER_LABEL: "true"}))
    run = Run(store)

    results = run.apply(run.plan(stack=Stack.COCO_OPERATOR))

    assert store.labels("gpu-1")[COCO_WORKER_LABEL] == ""
    assert store.labels("gpu-2")[COCO_WORKER_LABEL] == ""
    assert results["gpu-1"].status is Status.PASSED
    assert results["gpu-2"].status is Status.WARNED
    assert "was true" in results["gpu-2"].message
    other = run.plan(Workload.CONTAINER, EVERY, stack=Stack.COCO_OPERATOR)
    assert all(edit.key == WORKLOAD_LABEL for job in other.jobs for edit in job.change.labels)
