"""Secrets planted everywhere, and every command run: none of them comes out anywhere."""

import base64
import gzip
import hashlib
import json
from pathlib import Path

import pytest

from cluster_api.fake_api import FakeApi, Reply
from cluster_commands.planted import MARK, PLACES, planted, text, traces
from cluster_commands.served import Desk, refuse_all, refusing, serve
from kgpuctl.cluster.redact import GONE
from running import Ended


def assert_kept(*written: str, places: tuple[str, ...] = PLACES) -> None:
    """Assert that no trace of a secret is in what was written."""
    whole = "\n".join(written)
    found = [
        whole[max(0, at - 120) : at + 60]
        for place in places
        for trace in traces(place)
        if (at := whole.find(trace)) >= 0
    ]
    assert found == []
    assert MARK not in whole


def kept(ended: Ended, *exit_codes: int) -> Ended:
    """Assert that a command ended as it should, and told no secret."""
    assert ended.exit_code in exit_codes, ended.err
    assert "Traceback" not in ended.err
    assert_kept(ended.out, ended.err)
    return ended


@pytest.mark.parametrize(
    ("output", "more"),
    [("human", "-v"), ("json", "-v"), ("junit", "--no-color"), ("markdown", "--only-problems")],
)
def test_verify_tells_none(api: FakeApi, desk: Desk, output: str, more: str) -> None:
    serve(api, planted(), logs=text("log"))

    ended = kept(desk.run("verify", "-o", output, more), 3)

    assert "leaky" in ended.out
    assert GONE.strip("[]") in ended.out


@pytest.mark.parametrize(("output", "more"), [("human", "-v"), ("json", "--kubelet-config")])
def test_preflight_tells_none(api: FakeApi, desk: Desk, output: str, more: str) -> None:
    serve(api, planted(), logs=text("log"))

    kept(desk.run("preflight", "--cluster", "-o", output, more), 3, 4)


def test_a_snapshot_holds_none(api: FakeApi, desk: Desk) -> None:
    serve(api, planted(), logs=text("log"))
    plain, packed = desk.home / "plain.json", desk.home / "packed.json.gz"

    kept(desk.run("snapshot", plain, "--logs", "-v"), 0)
    kept(desk.run("snapshot", packed, "--logs"), 0)
    kept(desk.run("snapshot", "-"), 0)

    content = plain.read_text(encoding="utf-8")
    assert_kept(content, gzip.decompress(packed.read_bytes()).decode())
    logs = [item for item in json.loads(content)["items"] if item["kind"] == "PodLog"]
    assert any("leaky" in log["metadata"]["name"] for log in logs)
    for log in logs:
        assert GONE in log["text"]
        assert "HOME=/root" in log["text"]  # what is no secret stays
    kept(desk.run("verify", "--from", plain, "-v"), 3)


def test_a_recording_with_secrets_in_it_is_judged_without_telling_them(desk: Desk) -> None:
    path = desk.home / "foreign.json"
    path.write_bytes(planted().content())

    kept(desk.run("verify", "--from", path, "-v"), 3)
    kept(desk.run("verify", "--from", path, "-o", "json"), 3)
    kept(desk.run("preflight", "--cluster", "--from", path, "-v"), 3, 4)


def test_a_key_that_begins_before_the_log_does_is_gone(api: FakeApi, desk: Desk) -> None:
    body = base64.b64encode(hashlib.shake_256(b"key").digest(1200)).decode()
    rows = [body[at : at + 64] for at in range(0, len(body), 64)]
    assert any("/" in row for row in rows)
    serve(api, planted(), logs="\n".join([*rows, "-----END PRIVATE KEY-----", "and failed"]))

    ended = desk.run("snapshot", "-", "--logs")

    assert ended.exit_code == 0
    assert "and failed" in ended.out
    assert [row for row in rows if row in ended.out] == []


def test_a_wait_in_a_pipe_tells_none(api: FakeApi, desk: Desk) -> None:
    serve(api, planted(), logs=text("log"))

    ended = kept(desk.run("verify", "--wait", "--timeout", "2s", "-v"), 3)

    assert "0:00 verify.platform: failed (gpu-2)" in ended.err


@pytest.mark.parametrize("code", [400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("words", ["verify -v", "preflight --cluster -v -o json"])
def test_a_server_that_says_too_much_is_not_quoted(
    api: FakeApi, desk: Desk, code: int, words: str
) -> None:
    serve(api, planted())
    refuse_all(api, refusing(code, text("event").replace("\n", " ")))

    kept(desk.run(*words.split(), "--timeout", "1s"), 3, 4)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, text("event").encode()),
        Reply(200, f'{{"items": ["{MARK}event'.encode()),
        Reply(200, f'{{"items": "{MARK}event"}}'.encode()),
        Reply(200, f'{{"items": [{{"metadata": {{"name": {{"{MARK}event": 1}}}}}}]}}'.encode()),
        Reply(302, b"", {"Location": f"https://sso.example/?token={MARK}event"}),
        Reply(502, f"<html>{text('event')}</html>".encode(), {"Content-Type": "text/html"}),
        Reply(500, text("event").encode(), {"Content-Type": "text/plain"}),
    ],
    ids=["no JSON", "half", "other shape", "other shape within", "redirect", "page", "text"],
)
def test_rubbish_is_not_quoted(api: FakeApi, desk: Desk, reply: Reply) -> None:
    serve(api, planted())
    refuse_all(api, reply)

    kept(desk.run("verify", "-v", "-o", "json", "--timeout", "1s"), 4)


def plugin(desk: Desk, script: str) -> dict[str, object]:
    path = desk.home / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(path),
            "args": ["--secret", f"{MARK}argument"],
            "env": [{"name": "PLUGIN_SECRET", "value": f"{MARK}environment"}],
            "interactiveMode": "Never",
        }
    }


GIVEN = json.dumps(
    {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": f"{MARK}token"},
    }
)
SCRIPTS = {
    "works and talks": f"echo 'noise $PLUGIN_SECRET' >&2; echo '{GIVEN}'",
    "fails and tells": 'echo "with $PLUGIN_SECRET and $2" >&2; exit 1',
    "fails after its answer": f"echo '{GIVEN}'; echo 'token {MARK}token is bad' >&2; exit 1",
    "prints rubbish": f"echo '{MARK}rubbish'",
    "prints half of it": f"echo '{GIVEN[:-20]}'",
    "gives something else": f"""echo '{{"kind": "{MARK}kind", "apiVersion": "{MARK}v"}}'""",
    "tells a bearer": f"echo 'Authorization: Bearer {MARK}0aB1cD2eF3' >&2; exit 3",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_exec_plugin_gives_nothing_away(api: FakeApi, desk: Desk, name: str) -> None:
    serve(api, planted())
    desk.log_in(api.url, plugin(desk, SCRIPTS[name]))

    kept(desk.run("verify", "-v", "-o", "json"), 3, 4)


def test_a_kubeconfig_gives_nothing_away(api: FakeApi, desk: Desk) -> None:
    serve(api, planted())
    key = base64.b64encode(f"{MARK}key".encode()).decode()
    users: list[dict[str, object]] = [
        {"token": f"{MARK}token"},
        {"token": f"{MARK}token\n"},
        {"username": "bob", "password": f"{MARK}password"},
        {"client-certificate-data": key, "client-key-data": key},
        {"token": [f"{MARK}token"]},
        {"auth-provider": {"name": "oidc", "config": {"id-token": f"{MARK}token"}}},
    ]
    for user in users:
        desk.log_in(api.url, user)
        ended = kept(desk.run("verify", "-v"), 0, 2, 3, 4)
        assert key not in ended.out + ended.err

    desk.kubeconfig.write_text(f'{{"users": [{{"token": "{MARK}token"', encoding="utf-8")
    kept(desk.run("verify", "-v"), 2, 4)


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_a_proxy_with_a_password_is_named_without_it(api: FakeApi, desk: Desk, scheme: str) -> None:
    proxy = f"{scheme}://bob:{MARK}proxy@127.0.0.1:1"
    desk.log_in(api.url, cluster={"proxy-url": proxy})
    kept(desk.run("verify", "-v", "--timeout", "1s"), 2, 4)


def test_a_proxy_of_the_environment_is_named_without_its_password(api: FakeApi, desk: Desk) -> None:
    desk.log_in(api.url.replace("127.0.0.1", "api.invalid"))
    desk.environment = {"HTTPS_PROXY": f"http://bob:{MARK}proxy@127.0.0.1:1", "NO_PROXY": ""}

    ended = kept(desk.run("verify", "-v", "--timeout", "1s"), 4)

    assert "127.0.0.1:1" in ended.err


def test_a_server_address_with_a_password_is_not_told(api: FakeApi, desk: Desk) -> None:
    desk.log_in(f"https://bob:{MARK}url@127.0.0.1:{api.port}")

    kept(desk.run("verify", "-v", "--timeout", "3s"), 2, 3, 4)


def test_nothing_is_left_on_the_disk(api: FakeApi, desk: Desk) -> None:
    serve(api, planted(), logs=text("log"))
    mine = {desk.kubeconfig}
    desk.environment = {"TMPDIR": str(desk.home), "XDG_STATE_HOME": str(desk.home / "state")}

    desk.run("snapshot", desk.home / "a.json", "--logs")
    desk.run("verify", "-v")
    desk.run("label-nodes", "--all-gpu-nodes", "--dry-run")

    left = [path for path in desk.home.rglob("*") if path.is_file() and path not in mine]
    assert Path(desk.home / "a.json") in left
    for path in left:
        assert_kept(path.read_text(encoding="utf-8", errors="replace"))
