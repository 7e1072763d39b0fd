"""Which nodes are meant, and what is said where that cannot be."""

import pytest

from kgpuctl.errors import UsageError
from kgpuctl.steps.targets import Selection, Targets, choose
from steps.fake_cluster import FakeCluster
from steps.store import Store, node


def plain(name: str) -> dict[str, object]:
    found = node(name)
    found["metadata"]["labels"] = {"kubernetes.io/hostname": name}
    found["status"] = {}
    return found


def chosen(store: Store, selection: Selection, *, restoring: bool = False) -> Targets:
    return choose(FakeCluster(store), selection, restoring=restoring)


MIXED = Store().add(node("gpu-2"), node("gpu-1", {"pool": "a"}), plain("cpu-1"))


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(("gpu-2", "gpu-1", "gpu-2")), ["gpu-1", "gpu-2"]),
        (Selection(("cpu-1",)), ["cpu-1"]),
        (Selection(selector="pool=a"), ["gpu-1"]),
        (Selection(every=True), ["gpu-1", "gpu-2"]),
    ],
)
def test_nodes_come_once_and_by_name(selection: Selection, names: list[str]) -> None:
    assert [one.name for one in chosen(MIXED, selection).nodes] == names


def test_all_unknown_names_are_told_at_once_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        chosen(MIXED, Selection(("gpu-3", "gpu-1", "zebra")))

    assert "'gpu-3' (did you mean gpu-" in caught.value.message
    assert "'zebra'" in caught.value.message
    assert "'gpu-1'" not in caught.value.message


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(), "No node was named. These have an NVIDIA GPU: gpu-1, gpu-2."),
        (Selection(("gpu-1",), "a=b"), "node names and --selector cannot be used together."),
        (Selection(("gpu-1",), "", every=True), "node names and --all-gpu-nodes cannot"),
        (Selection(selector="pool=z"), "No node has labels as --selector 'pool=z' asks."),
        (Selection(selector="a in ("), "--selector 'a in (' is not one: "),
    ],
)
def test_what_cannot_be_meant_is_refused(selection: Selection, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(MIXED, selection)

    assert caught.value.message.startswith(said)


def test_without_nfd_named_nodes_are_taken_and_all_gpu_nodes_is_refused() -> None:
    device_plugin = plain("gpu-9") | {"status": {"allocatable": {"nvidia.com/gpu": "8"}}}
    store = Store().add(plain("gpu-1"), plain("cpu-1"), device_plugin)

    named = chosen(store, Selection(("gpu-1", "gpu-9")))

    assert not named.knows_gpus
    assert [one.name for one in named.without_gpu] == ["gpu-1"]
    with pytest.raises(UsageError, match=r"could leave some out\. GPUs are handed out by gpu-9"):
        chosen(store, Selection(every=True))


def test_nfd_counts_also_where_only_another_node_has_its_labels() -> None:
    store = Store().add(plain("cpu-1"), node("gpu-1"))
    store.node("cpu-1")["metadata"]["labels"]["pool"] = "x"

    assert chosen(store, Selection(selector="pool=x")).knows_gpus


def test_no_gpu_anywhere_is_told() -> None:
    store = Store().add(plain("cpu-1"))
    store.node("cpu-1")["metadata"]["labels"]["feature.node.kubernetes.io/cpu-x"] = "true"

    with pytest.raises(UsageError, match="None of the 1 node is seen to have an NVIDIA GPU"):
        chosen(store, Selection(every=True))


def test_all_that_are_to_be_restored_are_those_with_a_mark() -> None:
    store = Store().add(
        node("gpu-1"),
        node("gpu-2", notes={"kgpuctl/previous-labels": "{}"}),
        node("gpu-3", notes={"kgpuctl/cordoned": "alice"}),
    )

    every = chosen(store, Selection(every=True), restoring=True)

    assert [one.name for one in every.nodes] == ["gpu-2", "gpu-3"]
    with pytest.raises(UsageError, match="These have labels that kgpuctl set: gpu-2, gpu-3"):
        chosen(store, Selection(), restoring=True)
    assert chosen(Store().add(node("a")), Selection(every=True), restoring=True).nodes == ()
