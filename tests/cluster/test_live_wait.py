"""`verify --wait` on clusters that become right, or do not."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from cluster.controlplane import Plane
from cluster.faults import Always, Fault, Request, none
from cluster.live import Content, as_listed, content_of, kubelet_of, put, results, verified
from cluster.proxy import in_front_of
from cluster.replay import replay
from clusters import GPU_CLASS, KATA_LABEL, NFD_LABEL, Cluster, Json, kata_deploy_cluster
from running import SRC

pytestmark = pytest.mark.cluster

DEADLINE: Final = 60.0
CLEAR: Final = "\r\x1b[K"
KEYS: Final = ("id", "subject", "status", "message")


class Waiting:
    """A `verify --wait` that runs, and what it has said on stderr so far."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: int) -> None:
        self.process = process
        self._stderr = stderr
        self._said = b""
        self._out = b""
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._listen, self._collect)
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # a terminal whose last user has gone
            while part := os.read(self._stderr, 65536):
                self._said += part

    def _collect(self) -> None:
        if self.process.stdout is not None:
            with self.process.stdout as out:
                self._out = out.read()

    @property
    def said(self) -> str:
        return self._said.decode()

    def until(self, words: str) -> None:
        """Wait until it has said this."""
        deadline = time.monotonic() + DEADLINE
        while words not in self.said:
            assert time.monotonic() < deadline, f"no {words!r} in {self.said!r}"
            assert self.process.poll() is None or words in self.said, self.said
            time.sleep(0.02)

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return exit code and stdout."""
        code = self.process.wait(DEADLINE)
        for thread in self._threads:
            thread.join(DEADLINE)
        return code, self._out.decode()


@contextlib.contextmanager
def waiting(kubeconfig: Path, *arguments: str, terminal: bool = False) -> Iterator[Waiting]:
    """Run `kgpuctl verify --wait`; its stderr is a pipe or a terminal of 80 columns."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "kgpuctl", "verify", "--wait", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": str(SRC),
            "COLUMNS": "80",
            "TERM": "xterm",
        },
    )
    os.close(theirs)
    try:
        yield Waiting(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def unfinished() -> Content:
    """Return a cluster in which the install of the stack is not done yet."""
    cluster = kata_deploy_cluster()
    for node in ("gpu-1", "gpu-2"):
        del cluster.labels(node)[KATA_LABEL]
    del cluster.labels("gpu-1")[NFD_LABEL]
    handlers = cluster.get("Node", "gpu-1")["status"]["runtimeHandlers"]
    handlers[:] = [item for item in handlers if item["name"] != GPU_CLASS]
    unready(cluster)
    cluster.drop("ClusterPolicy", "cluster-policy")
    cluster.drop("CustomResourceDefinition", "clusterpolicies.nvidia.com")
    return as_listed(cluster)


def unready(cluster: Cluster) -> None:
    """Let one pod of the vfio-manager not be ready."""
    pod = cluster.pod("nvidia-vfio-manager")
    pod["status"] |= {"conditions": [{"type": "Ready", "status": "False"}]}
    pod["status"]["containerStatuses"][0]["ready"] = False
    status = cluster.get("DaemonSet", "nvidia-vfio-manager")["status"]
    status |= {"numberReady": 1, "numberAvailable": 1}


def set_right(plane: Plane, *which: Callable[[Json], bool]) -> None:
    """Write objects as they are in the finished cluster."""
    finished = as_listed(kata_deploy_cluster())["items"]
    items = [item for item in finished if any(fits(item) for fits in which)]
    assert items
    replay(plane, {"items": items})


def is_named(kind: str, name: str) -> Callable[[Json], bool]:
    return lambda item: item["kind"] == kind and item["metadata"]["name"].startswith(name)


def is_policy(item: Json) -> bool:
    """Say whether it is the ClusterPolicy or what lets the API server know such objects."""
    return "cluster" in item["metadata"]["name"] and "olic" in item["metadata"]["name"]


def without_clock(said: str) -> list[str]:
    return [re.sub(r"^\d+:\d\d ", "", line) for line in said.splitlines()]


def test_what_becomes_right_while_it_waits_is_told_line_by_line(bare: Plane) -> None:
    put(bare, unfinished())

    with waiting(bare.kubeconfig(), "-o", "json", "--timeout", "60s") as run:
        run.until("verify.cluster-policy: failed")
        set_right(bare, is_policy)
        run.until("verify.cluster-policy: failed -> passed")
        set_right(bare, is_named("Node", "gpu-1"))
        run.until("verify.nfd: failed -> passed")
        set_right(bare, is_named("Node", "gpu-2"))
        run.until("verify.node-kata-label: failed -> passed (gpu-2)")
        set_right(bare, is_named("DaemonSet", "nvidia-vfio"), is_named("Pod", "nvidia-vfio"))
        code, out = run.ended()

    assert code == 0
    assert json.loads(out)["exitCode"] == 0
    told = without_clock(run.said)
    assert [line for line in told if "failed" in line] == [
        "verify.cluster-policy: failed",
        "verify.nfd: failed (gpu-1)",
        "verify.node-kata-label: failed (gpu-1, gpu-2)",
        "verify.cluster-policy: failed -> passed",
        "verify.operands: failed (nvidia-vfio-manager)",
        "verify.nfd: failed -> passed (gpu-1)",
        "verify.node-kata-label: failed -> passed (gpu-1)",
        "verify.node-kata-label: failed -> passed (gpu-2)",
        "verify.operands: failed -> passed (nvidia-vfio-manager)",
    ]
    assert len(set(told)) == len(told)  # only changes, each once
    others = [line for line in told if "failed" not in line]
    assert all(line.split(": ")[1].startswith("skipped -> passed") for line in others)


def test_a_handler_that_is_reported_ends_the_wait(bare: Plane) -> None:
    cluster = kata_deploy_cluster()
    handlers = cluster.get("Node", "gpu-2")["status"]["runtimeHandlers"]
    handlers[:] = [item for item in handlers if item["name"] != GPU_CLASS]
    put(bare, as_listed(cluster))

    with waiting(bare.kubeconfig(), "-o", "json") as run:
        run.until("verify.kata-handler: failed (gpu-2)\n")
        began = time.monotonic()
        set_right(bare, is_named("Node", "gpu-2"))
        code, out = run.ended()

    assert code == 0
    assert time.monotonic() - began < 5
    assert json.loads(out)["summary"]["failed"] == 0
    assert without_clock(run.said)[1:] == ["verify.kata-handler: failed -> passed (gpu-2)"]


def test_a_log_that_says_it_is_done_ends_the_wait(bare: Plane) -> None:
    with kubelet_of(bare) as kubelet:
        kubelet.text = "copying artifacts\n"
        put(bare, content_of("built-coco"), kubelet)

        with waiting(bare.kubeconfig(), "-o", "json") as run:
            run.until("verify.kata-manager-done: failed (gpu-1, gpu-2)")
            kubelet.text += "containerd successfully restarted\n"  # nothing else changes
            code, _ = run.ended()

    assert code == 0
    assert "verify.kata-manager-done: failed -> passed (gpu-1, gpu-2)" in run.said


def shown(written: str) -> list[str]:
    """Return what stands on a terminal after this was written; it has no end to the right."""
    rows, column = [""], 0
    for part in re.findall(r"\x1b\[K|[\r\n]|[^\x1b\r\n]+", written):
        if part == "\r":
            column = 0
        elif part == "\n":
            rows.append("")
            column = 0
        elif part == "\x1b[K":
            rows[-1] = rows[-1][:column]
        else:
            rows[-1] = rows[-1][:column] + part + rows[-1][column + len(part) :]
            column += len(part)
    return rows


def lines_shown(said: str) -> list[str]:
    return [line for line in said.replace("\r\n", "\n").split(CLEAR) if line]


def test_a_terminal_has_one_live_line_and_none_at_the_end(bare: Plane) -> None:
    put(bare, unfinished())

    with waiting(bare.kubeconfig(), terminal=True) as run:
        run.until("waiting 0:02  verify.cluster-policy: ")
        set_right(bare, lambda _: True)
        code, out = run.ended()

    assert code == 0
    assert shown(run.said) == [""]
    assert "\n" not in run.said
    for line in lines_shown(run.said):
        assert re.match(r"waiting \d+:\d\d  verify\.[a-z-]+", line)
        assert len(line) < 80
    assert out.startswith("cluster: context test, ")
    assert out.rstrip().splitlines()[-2].startswith("✓ Passed: ")
    assert "waiting" not in out


def test_requests_that_are_told_do_not_mix_with_the_live_line(bare: Plane) -> None:
    put(bare, unfinished())

    with waiting(bare.kubeconfig(), "-v", terminal=True) as run:
        run.until("waiting 0:02")
        set_right(bare, lambda _: True)
        code, _ = run.ended()

    assert code == 0
    rows = shown(run.said.replace("\r\n", "\n"))
    assert rows.pop() == ""
    assert rows
    assert all(row.startswith("GET /") for row in rows), rows


@pytest.mark.parametrize("terminal", [False, True])
def test_the_deadline_ends_it_with_the_last_report(bare: Plane, *, terminal: bool) -> None:
    put(bare, unfinished())
    now = verified(as_user=bare.kubeconfig())
    began = time.monotonic()

    with waiting(bare.kubeconfig(), "-o", "json", "--timeout", "3s", terminal=terminal) as run:
        code, out = run.ended()

    assert code == 3
    assert 3 <= time.monotonic() - began < 15
    last = [tuple(item[key] for key in KEYS) for item in json.loads(out)["results"]]
    assert last == results(now)
    if terminal:
        assert shown(run.said) == [""]
    else:
        assert len(run.said.splitlines()) == 3


def expired_once(request: Request) -> Fault | None:
    return Fault.EXPIRED if request.is_watch and request.number == 0 else None


def test_a_watch_that_is_too_old_begins_anew(bare: Plane) -> None:
    put(bare, unfinished())

    with in_front_of(bare) as proxy:
        proxy.begin(expired_once)
        user = bare.kubeconfig(server=proxy.url)
        with waiting(user, "-o", "json") as run:
            run.until("verify.cluster-policy: failed")
            set_right(bare, lambda _: True)
            code, _ = run.ended()
        expired = [request.path for request, fault in proxy.log if fault is Fault.EXPIRED]
        lists = [r.path.partition("?")[0] for r, _ in proxy.log if not r.is_watch]

    assert code == 0
    assert any("/pods" in path for path in expired)
    assert lists.count("/api/v1/pods") >= 2


def test_a_connection_that_is_cut_and_comes_back_is_taken_up_again(bare: Plane) -> None:
    put(bare, unfinished())

    with in_front_of(bare) as proxy:
        user = bare.kubeconfig(server=proxy.url)
        with waiting(user, "-o", "json") as run:
            run.until("verify.cluster-policy: failed")
            proxy.begin(Always(Fault.RESET))
            proxy.server.end_connections()
            time.sleep(1.5)
            set_right(bare, lambda _: True)
            assert run.process.poll() is None
            proxy.begin(none)
            code, _ = run.ended()

    assert code == 0
    assert "verify.cluster-policy: failed -> passed" in run.said


@pytest.mark.parametrize("terminal", [False, True])
def test_an_api_server_that_stays_away_ends_it(bare: Plane, *, terminal: bool) -> None:
    put(bare, unfinished())

    with in_front_of(bare) as proxy:
        user = bare.kubeconfig(server=proxy.url)
        with waiting(user, terminal=terminal) as run:
            run.until("verify.cluster-policy")
            proxy.begin(Always(Fault.RESET))
            proxy.server.end_connections()
            code, out = run.ended()

    assert (code, out) == (4, "")
    rows = shown(run.said.replace("\r\n", "\n"))
    assert rows[0 if terminal else 3].startswith("error: Cannot ")


@pytest.mark.parametrize("terminal", [False, True])
def test_ctrl_c_ends_it_at_once_and_leaves_the_terminal_clean(
    bare: Plane, *, terminal: bool
) -> None:
    put(bare, unfinished())

    with waiting(bare.kubeconfig(), terminal=terminal) as run:
        run.until("waiting 0:01" if terminal else "verify.node-kata-label: failed")
        began = time.monotonic()
        run.process.send_signal(signal.SIGINT)
        code, out = run.ended()
        took = time.monotonic() - began

    assert (code, out) == (130, "")
    assert took < 2
    rows = shown(run.said.replace("\r\n", "\n"))
    assert "Traceback" not in run.said
    assert not any("waiting" in row for row in rows)
    assert rows[-2].startswith("interrupted: ")


def test_what_may_not_be_read_is_not_waited_for(bare: Plane) -> None:
    put(bare, content_of("built-kata-deploy"))
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "half"},
        "rules": [
            {
                "apiGroups": ["", "apps", "nvidia.com", "node.k8s.io", "batch"],
                "resources": ["*"],
                "verbs": ["list", "watch"],
            }
        ],
    }
    bare.api.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "half"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "half",
        },
        "subjects": [{"kind": "User", "name": "half", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    bare.api.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    time.sleep(1)
    began = time.monotonic()

    with waiting(bare.kubeconfig("half"), "-o", "json") as run:
        code, out = run.ended()

    assert code == 4
    assert time.monotonic() - began < 15
    unknown = [item for item in json.loads(out)["results"] if item["status"] == "unknown"]
    assert unknown
    assert all("you may not list c" in item["message"] for item in unknown)
