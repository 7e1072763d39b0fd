"""Credential plugins: each way in which one fails is an error, and what it printed stays hidden."""

import json
import os
import time
from pathlib import Path

import pytest
import trustme

from cluster_api.fake_api import VERSION, FakeApi, ok, serving, status
from cluster_api.workstation import TOKEN, Workstation
from kgpuctl.cluster.access import Access
from kgpuctl.cluster.failures import CredentialError

API = "client.authentication.k8s.io/v1"


def script(workstation: Workstation, text: str) -> str:
    path = workstation.home / "give-token"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def credential(token: str = TOKEN, api_version: str = API, **more: object) -> str:
    answer = {
        "apiVersion": api_version,
        "kind": "ExecCredential",
        "status": {"token": token, **more},
    }
    return f"cat <<'END'\n{json.dumps(answer)}\nEND"


def plugin(workstation: Workstation, text: str, **fields: object) -> dict[str, object]:
    command = script(workstation, text)
    return {"exec": {"apiVersion": API, "command": command, "interactiveMode": "Never", **fields}}


def refusal(workstation: Workstation, user: dict[str, object]) -> CredentialError:
    workstation.log_in("https://127.0.0.1:1", user)
    with pytest.raises(CredentialError) as caught:
        workstation.connect()
    assert TOKEN not in caught.value.message + caught.value.remedy
    assert caught.value.__cause__ is None
    assert caught.value.exit_code == 4
    return caught.value


def test_its_token_is_shown_and_it_runs_once(api: FakeApi, workstation: Workstation) -> None:
    runs = workstation.home / "runs"
    api.answer("/version", ok(VERSION))
    workstation.log_in(api.url, plugin(workstation, f"echo run >> {runs}\n{credential()}"))
    cluster = workstation.connect()

    cluster.version()
    cluster.version()

    assert [seen.headers["authorization"] for seen in api.seen] == [[f"Bearer {TOKEN}"]] * 2
    assert runs.read_text() == "run\n"


def test_it_is_told_what_it_is_asked_and_gets_its_environment(
    api: FakeApi, workstation: Workstation
) -> None:
    api.answer("/version", ok(VERSION))
    text = f'echo "$KUBERNETES_EXEC_INFO" > {workstation.home}/info\necho "$1 $WHO" >&2\n'
    text += f'test "$1 $WHO" = "get bob" || exit 1\n{credential()}'
    user = plugin(
        workstation,
        text,
        args=["get"],
        env=[{"name": "WHO", "value": "bob"}],
        provideClusterInfo=True,
    )
    workstation.log_in(api.url, user, cluster={"tls-server-name": "127.0.0.1"})

    workstation.connect().version()

    info = json.loads((workstation.home / "info").read_text())
    assert info["spec"]["interactive"] is False
    assert info["spec"]["cluster"]["server"] == api.url
    assert info["spec"]["cluster"]["tls-server-name"] == "127.0.0.1"


def test_it_may_give_a_certificate(authority: trustme.CA, workstation: Workstation) -> None:
    leaf = authority.issue_cert("alice@example.org")
    pems = {
        "clientCertificateData": leaf.cert_chain_pems[0].bytes().decode(),
        "clientKeyData": leaf.private_key_pem.bytes().decode(),
    }
    with serving(authority, clients=authority) as api:
        api.answer("/version", ok(VERSION))
        workstation.log_in(api.url, plugin(workstation, credential("", **pems)))

        workstation.connect().version()

        assert api.subjects == ["alice@example.org"]


def test_a_bare_name_is_looked_for_in_path_and_a_path_beside_the_kubeconfig(
    api: FakeApi, workstation: Workstation
) -> None:
    api.answer("/version", ok(VERSION))
    user = plugin(workstation, credential(), command="give-token")
    workstation.environment["PATH"] = f"{workstation.home}:{os.environ['PATH']}"
    workstation.log_in(api.url, user)
    workstation.connect().version()

    user = plugin(workstation, credential(), command="../give-token")
    workstation.log_in(api.url, user)
    workstation.connect().version()

    assert [seen.headers["authorization"] for seen in api.seen] == [[f"Bearer {TOKEN}"]] * 2


def test_one_that_is_not_installed(workstation: Workstation) -> None:
    hint = "Get it from\nhttps://example.org."
    user = plugin(workstation, "", command="no-such-plugin", installHint=hint)

    error = refusal(workstation, user)

    assert error.message == (
        "The credential plugin no-such-plugin of the user alice (context night) is not installed: "
        "it is not in PATH."
    )
    assert error.remedy == "Get it from https://example.org."


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        ("", {"command": "/nowhere/plugin"}, "cannot be started: No such file or directory."),
        ("", {"command": "/dev/null"}, "cannot be started: Permission denied."),
        ("", {"command": ""}, "has no command."),
        ("", {"args": ["a\0b"]}, "cannot be started: its command line is not usable."),
        ("exit 3", {}, "ended with code 3."),
        ("echo no >&2; echo session expired >&2; exit 1", {}, 'code 1: "session expired".'),
        (f"echo token: {TOKEN} >&2; exit 1", {}, 'ended with code 1: "token: [redacted]".'),
        (
            'echo "I was given $1 and $KEY" >&2; exit 1',
            {"args": [f"--key={TOKEN}"], "env": [{"name": "KEY", "value": TOKEN}]},
            'ended with code 1: "I was given --key=[hidden] and [hidden]".',
        ),
        (f"echo {TOKEN}; echo got {TOKEN} >&2; exit 1", {}, 'code 1: "got [hidden]".'),
        (
            f"{credential()}\necho gave {TOKEN} >&2; exit 1",
            {},
            'ended with code 1: "gave [hidden]".',
        ),
        ("printf 'a%.0s' $(seq 300) >&2; exit 1", {}, f'code 1: "{"a" * 200}…".'),
        (r"printf 'red \033[31m' >&2; exit 1", {}, 'ended with code 1: "red ?[31m".'),
        ("kill -TERM $$", {}, "was ended by SIGTERM."),
        ("true", {}, "printed nothing."),
        (f"echo {TOKEN}", {}, "printed something that is no ExecCredential."),
        ("echo '[1]'", {}, "printed something that is no ExecCredential."),
        ("yes '[' | head -c 3000000", {}, "printed something that is no ExecCredential."),
        (
            credential().replace("ExecCredential", "Secret"),
            {},
            "printed something that is no ExecCredential.",
        ),
        (credential(""), {}, "gave an empty credential."),
        (
            credential(expirationTimestamp="2020-01-02T03:04:05Z"),
            {},
            "gave a credential that expired at 2020-01-02 03:04:05Z.",
        ),
        (
            credential(expirationTimestamp="soon"),
            {},
            "gave a credential with an expirationTimestamp that is no time.",
        ),
        (
            credential(api_version="client.authentication.k8s.io/v1beta1"),
            {},
            (
                "answered in apiVersion client.authentication.k8s.io/v1beta1, "
                "but the kubeconfig says client.authentication.k8s.io/v1."
            ),
        ),
        (
            credential(),
            {"apiVersion": "client.authentication.k8s.io/v1alpha1"},
            "is declared for apiVersion client.authentication.k8s.io/v1alpha1.",
        ),
        (
            credential(),
            {"interactiveMode": "Always"},
            'wants a terminal (interactiveMode "Always"), which it is not given here.',
        ),
    ],
)
def test_one_that_fails(
    text: str, fields: dict[str, object], said: str, workstation: Workstation
) -> None:
    error = refusal(workstation, plugin(workstation, text, **fields))

    assert error.message.startswith("The credential plugin ")
    assert error.message.endswith(said)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    end = time.monotonic() + 20
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(pid)


def test_one_that_hangs_is_killed_with_its_children(workstation: Workstation) -> None:
    pids = workstation.home / "pids"
    text = f"sleep 60 & echo $! >> {pids}; echo $$ >> {pids}; echo open a browser >&2; wait"

    error = refusal(workstation, plugin(workstation, text))

    assert error.message.endswith('had not ended after 1 s and was killed: "open a browser".')
    for pid in map(int, pids.read_text().split()):
        assert ends(pid)


def test_the_time_of_the_whole_command_bounds_it(workstation: Workstation) -> None:
    workstation.log_in("https://127.0.0.1:1", plugin(workstation, "sleep 60"))

    with pytest.raises(CredentialError, match="was killed"):
        workstation.connect(Access(timeout=0.1))


def test_one_that_leaves_a_child_behind_is_not_waited_for(
    api: FakeApi, workstation: Workstation
) -> None:
    pids = workstation.home / "pids"
    api.answer("/version", ok(VERSION))
    workstation.log_in(api.url, plugin(workstation, f"sleep 3 & echo $! > {pids}\n{credential()}"))

    assert workstation.connect().version().major == "1"
    assert alive(int(pids.read_text()))


def test_a_refused_token_is_renewed_once(api: FakeApi, workstation: Workstation) -> None:
    count = workstation.home / "count"
    text = f"echo x >> {count}\n" + credential("tok-$N").replace("'END'", "END")
    text = f"N=$(cat {count} 2>/dev/null | wc -l)\n{text}"
    api.answer("/version", status(401, "Unauthorized"), ok(VERSION))
    workstation.log_in(api.url, plugin(workstation, text))
    cluster = workstation.connect()

    assert cluster.version().major == "1"

    tokens = [seen.headers["authorization"] for seen in api.seen]
    assert tokens == [["Bearer tok-0"], ["Bearer tok-1"]]
    assert cluster.retries == 1


def test_one_that_fails_when_asked_again_ends_the_command(
    api: FakeApi, workstation: Workstation
) -> None:
    flag = workstation.home / "flag"
    text = f"test -e {flag} && {{ echo logged out >&2; exit 1; }}\ntouch {flag}\n{credential()}"
    api.answer("/version", status(401, "Unauthorized"))
    workstation.log_in(api.url, plugin(workstation, text))
    cluster = workstation.connect()

    with pytest.raises(CredentialError, match='ended with code 1: "logged out"'):
        cluster.version()
