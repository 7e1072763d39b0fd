"""Secrets on a real API server: not asked for, and not told where they come along."""

import base64
import gzip
import json
from pathlib import Path

import pytest

from cluster.api import Object
from cluster.controlplane import Plane
from cluster.live import as_listed, kubelet_of, put, ran
from cluster.proxy import in_front_of
from cluster_commands.planted import MARK, PLACES, planted, text, traces
from running import Ended

pytestmark = pytest.mark.cluster


def secret(kind: str, name: str, namespace: str) -> Object:
    value = f"{MARK}{kind}"
    data = base64.b64encode(value.encode()).decode() if kind == "Secret" else value
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": f"{kind}-{name}"},
        "data": {"token": data},
    }


def assert_kept(*written: str) -> None:
    whole = "\n".join(written)
    assert MARK not in whole
    assert [trace for place in PLACES for trace in traces(place) if trace in whole] == []
    assert base64.b64encode(f"{MARK}Secret".encode()).decode() not in whole


def kept(ended: Ended, *codes: int) -> Ended:
    assert ended.exit_code in codes, ended.err
    assert_kept(ended.out, ended.err)
    return ended


def test_no_command_tells_what_was_planted_or_asks_for_secrets(bare: Plane, tmp_path: Path) -> None:
    content = as_listed(planted())
    content["items"] += [
        secret(kind, "settings", namespace)
        for kind in ("Secret", "ConfigMap")
        for namespace in ("default", "gpu-operator", "kata-system")
    ]
    file = tmp_path / "cluster.json.gz"

    with kubelet_of(bare) as kubelet, in_front_of(bare) as proxy:
        kubelet.text = text("log")
        put(bare, content, kubelet)
        user = bare.kubeconfig(server=proxy.url)
        for words in (
            ("verify", "-v"),
            ("verify", "-o", "json"),
            ("verify", "--wait", "--timeout", "1s", "-v"),
            ("preflight", "--cluster", "--kubelet-config", "-v"),
            ("label-nodes", "--all-gpu-nodes", "--dry-run", "-v"),
        ):
            kept(ran(*words, as_user=user), 0, 3, 4)
        kept(ran("snapshot", file, "--logs", "-v", as_user=user), 0)
        asked = {request.path.partition("?")[0] for request, _ in proxy.log}

    assert [path for path in asked if "secrets" in path or "configmaps" in path] == []
    whole = gzip.decompress(file.read_bytes()).decode()
    assert_kept(whole)
    logs = [item for item in json.loads(whole)["items"] if item["kind"] == "PodLog"]
    assert logs
    assert all("[redacted]" in log["text"] for log in logs)
    kept(ran("verify", "--from", file, "-v"), 3)
