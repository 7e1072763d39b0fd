"""Credentials planted everywhere appear in nothing that is printed, kept or written."""

import base64
import copy
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import trustme

import kgpuctl
from cluster_api.fake_api import VERSION, FakeApi, Reply, Seen, ok, serving, status
from cluster_api.proxy import proxying
from cluster_api.test_plugins import credential, plugin
from cluster_api.workstation import Workstation, kubeconfig
from kgpuctl.cluster.access import Access, Patience
from kgpuctl.cluster.deadline import Deadline
from kgpuctl.cluster.kubeconfig.files import read_kubeconfig
from kgpuctl.cluster.kubeconfig.whom import find
from kgpuctl.cluster.secret import Secret
from kgpuctl.errors import KgpuctlError

MARK = "MARKED7f3a"


def marked(name: str) -> str:
    return f"{name}-{MARK}"


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(marked("token"))

    assert MARK not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == marked("token")
    for write in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor written"):
            write(secret)


USERS: dict[str, dict[str, object]] = {
    "token": {"token": marked("token")},
    "password": {"username": "bob", "password": marked("password")},
}


@pytest.mark.parametrize("name", USERS)
def test_what_is_read_shows_no_credential(name: str, workstation: Workstation) -> None:
    cluster = {"proxy-url": f"http://bob:{marked('proxy')}@127.0.0.1:1"}
    workstation.log_in("https://127.0.0.1:1", USERS[name], cluster)

    assert MARK not in repr(read_kubeconfig(None, workstation.around))
    whom = find(Access(), workstation.around, Patience(), Deadline(None))
    assert MARK not in repr(whom) + repr(whom.source.fetch())


def misbehaving(seen: Seen) -> Reply:
    sent = " ".join(seen.headers.get("authorization", []))
    return status(400, "BadRequest", f"I was sent {sent}")


@pytest.mark.parametrize("name", ["token", "password"])
@pytest.mark.parametrize(
    "reply", [misbehaving, Reply(503), Reply(200, b"{"), Reply(302, b"", {"Location": "/x"})]
)
def test_a_request_that_fails_tells_no_credential(
    name: str, reply: Reply, authority: trustme.CA, workstation: Workstation
) -> None:
    with serving(authority, "api.test") as api, proxying(api.port) as proxy:
        api.answer("/version", reply)
        url = f"http://bob:{marked('proxy')}@127.0.0.1:{proxy.port}"
        workstation.log_in("https://api.test:1", USERS[name], {"proxy-url": url})
        cluster = workstation.connect()

        with pytest.raises(KgpuctlError) as caught:
            cluster.version()

    printed = "".join(traceback.format_exception(caught.value)) + caught.value.remedy
    printed += "\n".join(workstation.told) + repr(cluster) + repr(cluster.identity)
    assert MARK not in printed
    assert base64.b64encode(marked("password").encode()).decode()[4:-4] not in printed


PROGRAM = """
import os, sys

def watch(event, arguments):
    if event in ("open", "os.open") and isinstance(arguments[0], str):
        flags = arguments[2] or 0
        if flags & (os.O_WRONLY | os.O_RDWR) and not arguments[0].startswith("/dev/"):
            print("WRITES", arguments[0])
    if event.startswith("tempfile."):
        print("WRITES", event)

sys.dont_write_bytecode = True
from kgpuctl.cluster.access import Access
from kgpuctl.cluster.kube import KubeCluster
sys.addaudithook(watch)
print(KubeCluster.connect(Access(), print).version().git_version)
"""


def test_nothing_is_written_to_the_disk(authority: trustme.CA, workstation: Workstation) -> None:
    leaf = authority.issue_cert("alice@example.org")
    pems = {
        "clientCertificateData": leaf.cert_chain_pems[0].bytes().decode(),
        "clientKeyData": leaf.private_key_pem.bytes().decode(),
    }
    text = f"echo {marked('noise')} >&2\n" + credential(marked("token"), **pems)
    with serving(authority, clients=authority) as api:
        api.answer("/version", Reply(503), ok(VERSION))
        workstation.log_in(api.url, plugin(workstation, text))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={
                **os.environ,
                "KUBECONFIG": str(workstation.path),
                "PYTHONPATH": str(Path(kgpuctl.__file__).parents[1]),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert api.subjects == ["alice@example.org"] * api.connections

    assert done.stdout.splitlines()[-1] == "v1.37.2"
    assert "WRITES" not in done.stdout
    assert MARK not in done.stdout + done.stderr
    assert done.stderr == ""


def test_a_kubeconfig_that_cannot_be_parsed_is_not_quoted(
    workstation: Workstation, api: FakeApi
) -> None:
    right = kubeconfig(api.url, None)
    for content in (f"{{token: {marked('token')}", right | {"users": marked("token")}):
        workstation.write(content)

        with pytest.raises(KgpuctlError) as caught:
            workstation.connect()

        assert MARK not in "".join(traceback.format_exception(caught.value))
