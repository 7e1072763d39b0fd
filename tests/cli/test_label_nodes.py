"""`kgpuctl label-nodes` as a whole, over HTTPS."""

import json
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from cluster_api.fake_api import FakeApi, serving
from cluster_api.workstation import TOKEN
from kgpuctl.names import COCO_WORKER_LABEL, WORKLOAD_LABEL
from kgpuctl.steps.label import CALLS
from steps.command import Administrator, serve
from steps.store import CC_RUNTIMES, LEASE, Answer, Store, node, pod, refused

BUDGET = "The disruption budget train needs 2 healthy pods and has 2 currently"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def api(authority: trustme.CA) -> Iterator[FakeApi]:
    with serving(authority) as server:
        yield server


@pytest.fixture
def alice(tmp_path: Path, authority: trustme.CA, api: FakeApi) -> Administrator:
    return Administrator.at(tmp_path, authority, api.url)


def three() -> Store:
    return Store().add(node("gpu-1"), node("gpu-2", {WORKLOAD_LABEL: "container"}), node("gpu-3"))


def is_labelled(store: Store, name: str) -> bool:
    return store.labels(name).get(WORKLOAD_LABEL) == "vm-passthrough"


def until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def changes(store: Store) -> list[str]:
    reading = {"get", "list"}
    return [str(asked) for asked in store.asked if asked.verb not in reading]


def test_label_again_and_restore(api: FakeApi, alice: Administrator) -> None:
    store = three()
    before = store.bare()
    serve(api, store)

    first = alice.run("--all-gpu-nodes", "--yes")
    again = alice.run("--all-gpu-nodes", "--yes")
    back = alice.run("--all-gpu-nodes", "--restore", "--yes")

    assert (first.exit_code, first.err) == (0, "")
    assert first.out.splitlines()[-1] == "✓ 3 nodes labelled."
    assert "nvidia.com/gpu.workload.config=vm-passthrough (was container)" in first.out
    assert "containers get none there any" in first.out
    assert (again.exit_code, again.out.splitlines()[-1]) == (
        0,
        "✓ Nothing to do, 3 nodes were so already.",
    )
    assert back.exit_code == 0
    assert back.out.splitlines()[-1] == "✓ 3 nodes restored."
    assert store.bare() == before
    assert store.objects[LEASE]["spec"]["holderIdentity"] == ""
    assert len(alice.journals) == 2  # one for each run that changed something
    assert str(alice.journals[0]) in first.out.replace("\n  ", "")
    assert stat.S_IMODE(alice.journals[0].stat().st_mode) == 0o600


def test_the_secret_is_in_nothing_that_is_written(api: FakeApi, alice: Administrator) -> None:
    serve(api, three())

    ended = alice.run("--all-gpu-nodes", "--yes", "-v")

    assert ended.exit_code == 0
    told = ended.out + ended.err + "".join(path.read_text() for path in alice.journals)
    assert "PATCH /api/v1/nodes/gpu-1: 200" in ended.err
    assert TOKEN not in told


def test_json_tells_programs_what_was_planned_and_done(api: FakeApi, alice: Administrator) -> None:
    serve(api, three())

    dry = json.loads(alice.run("gpu-1", "gpu-2", "--dry-run", "-o", "json").out)
    done = json.loads(alice.run("gpu-1", "gpu-2", "--yes", "-o", "json").out)

    expected = [
        {
            "node": "gpu-1",
            "labels": [{"key": WORKLOAD_LABEL, "before": None, "after": "vm-passthrough"}],
            "evict": [],
        },
        {
            "node": "gpu-2",
            "labels": [{"key": WORKLOAD_LABEL, "before": "container", "after": "vm-passthrough"}],
            "evict": [],
        },
    ]
    assert dry["subject"]["changes"] == done["subject"]["changes"] == expected
    assert (dry["exitCode"], dry["subject"]["dryRun"], dry["subject"]["journal"]) == (0, True, None)
    assert [result["status"] for result in dry["results"]] == ["skipped", "skipped"]
    assert [result["status"] for result in done["results"]] == ["passed", "passed"]
    assert done["subject"]["journal"] == str(alice.journals[0])
    assert done["subject"]["stack"] == "kata-deploy"


def test_a_dry_run_changes_nothing_and_asks_for_nothing_that_would(
    api: FakeApi, alice: Administrator
) -> None:
    store = three()
    serve(api, store)

    ended = alice.run("--all-gpu-nodes", "--dry-run")

    assert ended.exit_code == 0
    assert ended.out.splitlines()[-1] == (
        "✓ Dry run: 3 nodes would be labelled. Nothing was changed."
    )
    assert changes(store) == []
    assert alice.journals == []


def test_a_diff_is_what_the_server_makes_of_it(api: FakeApi, alice: Administrator) -> None:
    store = three()
    before = store.bare()
    serve(api, store)

    ended = alice.run("gpu-2", "--dry-run", "--diff")

    assert ended.exit_code == 0
    assert ended.out.rpartition("\n\n")[2] == (
        "--- node/gpu-2 (now)\n"
        "+++ node/gpu-2 (then)\n"
        "@@ -3 +3,3 @@\n"
        "-label nvidia.com/gpu.workload.config: 'container'\n"
        "+label nvidia.com/gpu.workload.config: 'vm-passthrough'\n"
        "+annotation kgpuctl/applied-labels: "
        """'{"nvidia.com/gpu.workload.config":"vm-passthrough"}'\n"""
        "+annotation kgpuctl/previous-labels: "
        """'{"nvidia.com/gpu.workload.config":"container"}'\n"""
    )
    assert store.bare() == before


def test_a_change_that_the_server_would_refuse_is_told_by_the_diff(
    api: FakeApi, alice: Administrator
) -> None:
    store = three()
    store.before = lambda method, _: (
        refused(403, "Forbidden", "a webhook wants a ticket") if method == "PATCH" else None
    )
    serve(api, store)

    ended = alice.run("gpu-2", "--dry-run", "--diff")

    assert ended.exit_code == 5
    assert "The API server would refuse to change node gpu-2" in ended.err
    assert "a webhook wants a ticket" in ended.err


def test_equal_changes_of_many_nodes_are_shown_once(api: FakeApi, alice: Administrator) -> None:
    serve(api, Store().add(*(node(f"gpu-{number:02}") for number in range(30))))

    ended = alice.run("--all-gpu-nodes", "--dry-run", "--diff")

    assert ended.out.count("+label ") == 1
    assert "--- 30 nodes: gpu-00, gpu-01" in ended.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "No node was named. These have an NVIDIA GPU: gpu-1, gpu-2, gpu-3."),
        (["gpu-7", "zebra"], "There are no nodes 'gpu-7' (did you mean gpu-"),
        (["-l", "a in ("], "--selector 'a in (' is not one: "),
        (["gpu-1", "--all-gpu-nodes"], "node names and --all-gpu-nodes cannot be used together."),
        (
            ["gpu-1", "--workload", "vm-passthru"],
            "--workload is 'vm-passthru'; did you mean vm-passthrough?",
        ),
        (["gpu-1", "--workload", "kata"], "--workload is 'kata'."),
        (["gpu-1", "--diff"], "--diff cannot be used without --dry-run."),
        (["gpu-1", "--restore", "--workload", "container"], "--workload cannot be used with"),
        (["gpu-1", "--timeout", "soon"], "'soon' is no time to wait."),
    ],
)
def test_what_cannot_be_meant_is_exit_2_and_changes_nothing(
    api: FakeApi, alice: Administrator, words: list[str], said: str
) -> None:
    store = three()
    serve(api, store)

    ended = alice.run(*words, "--yes")

    assert ended.exit_code == 2
    assert f"error: {said}" in ended.err
    assert changes(store) == []


def test_the_nodes_and_pods_in_the_way_are_listed_and_nothing_is_changed(
    api: FakeApi, alice: Administrator
) -> None:
    store = three().add(pod("train-0", "gpu-1"), node("cpu-1"))
    store.node("cpu-1")["metadata"]["labels"] = {}
    store.node("cpu-1")["status"] = {}
    serve(api, store)

    ended = alice.run("gpu-1", "gpu-2", "cpu-1", "--yes")
    told = json.loads(alice.run("gpu-1", "gpu-2", "cpu-1", "--yes", "-o", "json").out)

    assert ended.exit_code == told["exitCode"] == 5
    assert "default/train-0 (nvidia.com/gpu: 2)" in ended.out
    assert "2 nodes cannot be changed: cpu-1, gpu-1." in ended.err
    assert "Nothing was changed." in ended.err
    assert [(result["subject"], result["status"]) for result in told["results"]] == [
        ("cpu-1", "failed"),
        ("gpu-1", "failed"),
    ]
    assert told["error"]["remedy"]
    assert changes(store) == []


def test_the_stack_is_recognised_and_said(api: FakeApi, alice: Administrator) -> None:
    store = three()
    store.objects[CC_RUNTIMES] = {}
    store.objects[f"{CC_RUNTIMES}/ccruntime-sample"] = {"metadata": {"name": "ccruntime-sample"}}
    serve(api, store)

    ended = alice.run("gpu-1", "--yes")
    other = alice.run("gpu-3", "--yes", "--stack", "kata-deploy")

    assert "stack coco-operator: there is a CcRuntime ccruntime-sample" in ended.out
    assert store.labels("gpu-1")[COCO_WORKER_LABEL] == ""
    assert "stack kata-deploy: as --stack says" in other.out
    assert COCO_WORKER_LABEL not in store.labels("gpu-3")


def test_the_stack_may_stand_in_the_configuration(api: FakeApi, alice: Administrator) -> None:
    serve(api, three())
    (alice.home / "kgpuctl.toml").write_text('stack = "coco-operator"\n')

    assert "stack coco-operator: as the configuration says" in alice.run("gpu-1", "--yes").out


def test_without_yes_and_a_terminal_the_plan_is_shown_and_nothing_is_changed(
    api: FakeApi, alice: Administrator
) -> None:
    store = three()
    serve(api, store)

    ended = alice.run("--all-gpu-nodes")

    assert (ended.exit_code, ended.out) == (2, "")
    assert "3 nodes to be labelled." in ended.err
    assert "there is no terminal to ask on" in ended.err
    assert changes(store) == []


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2)])
def test_on_a_terminal_it_asks(api: FakeApi, alice: Administrator, typed: str, code: int) -> None:
    store = three()
    serve(api, store)

    ended = alice.answer(typed, "--all-gpu-nodes")

    assert "Label 3 nodes? [y/N]" in ended.err
    assert ended.exit_code == code
    assert is_labelled(store, "gpu-1") == (code == 0)
    assert "\x1b" not in ended.out
    if code:
        assert "You said no. Nothing was changed." in ended.err


def test_what_changed_while_it_asked_is_not_done_unseen(api: FakeApi, alice: Administrator) -> None:
    store = three()
    serve(api, store)

    def before(method: str, path: str) -> Answer | None:
        if method == "POST" and "leases" in path:
            store.labels("gpu-1")[WORKLOAD_LABEL] = "kata"
        return None

    store.before = before
    ended = alice.answer("y\n", "--all-gpu-nodes")

    assert ended.exit_code == 5
    assert "The cluster has changed while you were asked." in ended.err
    assert store.labels("gpu-1")[WORKLOAD_LABEL] == "kata"
    assert store.objects[LEASE]["spec"]["holderIdentity"] == ""


def test_a_partial_failure_is_exit_5_and_the_next_run_completes_it(
    api: FakeApi, alice: Administrator
) -> None:
    store = three()
    store.before = lambda method, path: (
        refused(403, "Forbidden", "gpu-2 is not yours")
        if method == "PATCH" and path.endswith("gpu-2")
        else None
    )
    serve(api, store)

    ended = alice.run("--all-gpu-nodes", "--yes")
    store.before = lambda _method, _path: None
    again = alice.run("--all-gpu-nodes", "--yes")

    assert ended.exit_code == 5
    assert "error: Only 2 of 3 nodes were labelled; not gpu-2." in ended.err
    assert "gpu-2 is not yours" in " ".join(ended.out.split())
    assert again.exit_code == 0
    assert again.out.splitlines()[-1] == "✓ 1 node labelled, 2 nodes were so already."


def test_two_administrators_at_once(
    api: FakeApi, alice: Administrator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(lingering={"p"}).add(node("gpu-1"), pod("p", "gpu-1"))
    serve(api, store)
    bob = Administrator(tmp_path_factory.mktemp("bob"), alice.kubeconfig)

    with alice.start("gpu-1", "--evict", "--yes", "--timeout", "60s") as first:
        until(lambda: any(asked.subresource for asked in store.asked))
        second = bob.run("gpu-1", "--evict", "--yes")
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=60)

    assert second.exit_code == 5
    assert f"(process {first.pid}) with `kgpuctl label-nodes` since " in second.err
    assert "its Lease kube-system/kgpuctl runs until " in second.err
    assert bob.journals == []
    assert first.returncode == 130
    assert "Interrupted: 0 of 1 node were labelled; not gpu-1." in err
    assert "it still waited for the end of default/p" in out.replace("\n    ", " ")
    assert store.objects[LEASE]["spec"]["holderIdentity"] == ""
    assert store.node("gpu-1")["spec"] == {}


def test_the_lease_of_a_killed_run_is_taken_over_by_the_next_at_once(
    api: FakeApi, alice: Administrator
) -> None:
    store = Store(lingering={"p"}).add(node("gpu-1"), pod("p", "gpu-1"))
    serve(api, store)

    with alice.start("gpu-1", "--evict", "--yes") as first:
        until(lambda: any(asked.subresource for asked in store.asked))
        first.kill()
        first.communicate()
    assert store.node("gpu-1")["spec"] == {"unschedulable": True}
    del store.objects["/api/v1/namespaces/default/pods/p"]
    again = alice.run("gpu-1", "--evict", "--yes")

    assert again.exit_code == 0
    assert "that process is gone" in again.err
    assert is_labelled(store, "gpu-1")
    assert store.node("gpu-1")["spec"] == {}


def test_a_budget_is_named_once_without_a_terminal(api: FakeApi, alice: Administrator) -> None:
    store = Store(budgets={"train-0": BUDGET}).add(node("gpu-1"), pod("train-0", "gpu-1"))
    serve(api, store)

    ended = alice.run("gpu-1", "--evict", "--yes", "--timeout", "3s")

    assert ended.exit_code == 5
    line = f"gpu-1: waiting for default/train-0 (nvidia.com/gpu: 2): {BUDGET}\n"
    assert ended.err.count(line) == 1
    assert "\x1b" not in ended.err
    assert "/api/v1/namespaces/default/pods/train-0" in store.objects
    assert store.node("gpu-1")["spec"] == {}


def test_a_journal_that_cannot_be_written_changes_nothing(
    api: FakeApi, alice: Administrator
) -> None:
    store = three()
    serve(api, store)
    (alice.home / ".local").write_text("")

    ended = alice.run("--all-gpu-nodes", "--yes")

    assert ended.exit_code == 5
    assert "No journal can be written to" in ended.err
    assert changes(store) == []


def test_a_server_that_takes_its_time_ends_with_the_timeout(
    api: FakeApi, alice: Administrator
) -> None:
    store = three()

    def before(*_: str) -> Answer | None:
        time.sleep(3)
        return None

    store.before = before
    serve(api, store)

    ended = alice.run("--all-gpu-nodes", "--yes", "--timeout", "1s")

    assert ended.exit_code == 4
    assert "within the 1 s of --timeout. Nothing was changed." in ended.err


def test_the_calls_that_rbac_grants_are_the_ones_that_are_made(
    api: FakeApi, alice: Administrator
) -> None:
    store = three().add(pod("p", "gpu-1"))
    store.objects[CC_RUNTIMES] = {}
    serve(api, store)

    assert alice.run("--all-gpu-nodes", "--evict", "--yes").exit_code == 0
    assert alice.run("--all-gpu-nodes", "--restore", "--yes").exit_code == 0

    made = {(asked.verb, asked.group, asked.resource, asked.subresource) for asked in store.asked}
    granted = {
        (call.verb, call.resource.group, call.resource.plural, call.subresource) for call in CALLS
    }
    assert made == granted


def test_a_second_ctrl_c_leaves_at_once_and_the_next_run_puts_things_in_order(
    api: FakeApi, alice: Administrator
) -> None:
    store = Store(lingering={"p"}).add(node("gpu-1"), pod("p", "gpu-1"))
    hanging = threading.Event()

    def before(*_: str) -> Answer | None:
        if hanging.is_set():
            time.sleep(2)  # nothing is answered while somebody wants to leave
        return None

    store.before = before
    serve(api, store)
    with alice.start("gpu-1", "--evict", "--yes") as first:
        until(lambda: any(asked.subresource for asked in store.asked))
        hanging.set()
        first.send_signal(signal.SIGINT)
        time.sleep(0.3)
        first.send_signal(signal.SIGINT)
        _, err = first.communicate(timeout=10)
    hanging.clear()
    del store.objects["/api/v1/namespaces/default/pods/p"]

    assert first.returncode == 130
    assert "left at once: run the same command again" in err
    assert store.node("gpu-1")["spec"] == {"unschedulable": True}
    assert alice.run("gpu-1", "--evict", "--yes").exit_code == 0
    assert store.node("gpu-1")["spec"] == {}
    assert is_labelled(store, "gpu-1")
