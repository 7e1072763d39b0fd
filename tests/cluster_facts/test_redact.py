"""Credentials in free text are taken out; what explains a failure stays, to the letter."""

import json
import re
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters import Cluster, event, gpu_pod, judged, kata_deploy_cluster, log
from kgpuctl.cluster.recording import dump, open_snapshot
from kgpuctl.cluster.redact import redact
from kgpuctl.explanations import load_explanations
from test_explanations import SEEN, Seen

TABLE: Final = load_explanations()
# In each text what must not be seen afterwards; it is nobody's credential.
PLANTED: Final = {
    "escaped JSON": 'env: "{{\\"password\\": \\"{}\\"}}"',
    "a quoted phrase": "PASSWORD='one {} two'",
    "a signature": "https://x/y?sv=1&sig={}&se=2",
    "a cookie": "Set-Cookie: session={}",
    "curl": "curl -u bob:{} https://x",
    "a bearer token": "Authorization: Bearer {}",
    "a bearer token in a command": "curl -H 'Authorization: bearer {}' https://x",
    "basic authorization": "authorization: Basic {}",
    "an environment variable": "NGC_API_KEY={}",
    "a password": "password={} is wrong",
    "a password after a colon": "PASSWORD: {}",
    "an option": "docker login --username bob --password {} nvcr.io",
    "an option with =": "helm registry login --password={} x",
    "a join token": "kubeadm join 10.0.0.1:6443 --token {} --v 5",
    "JSON": '{{"auths":{{"nvcr.io":{{"username":"bob","password":"{}"}}}}}}',
    "auth of JSON": '{{"auths":{{"nvcr.io":{{"auth":"{}"}}}}}}',
    "an address": "https://bob:{}@registry.example/v2/",
    "a proxy": "HTTPS_PROXY=http://bob:{}@proxy:3128",
    "a database": "postgres://u:{}@db/x",
    "AWS": "AWS_SECRET_ACCESS_KEY={}",
    "a kubeconfig's key": "client-key-data: {}",
    "a Docker configuration": ".dockerconfigjson: {}",
    "a passphrase": "passphrase: {}",
    "a header": "X-Api-Key: {}",
    "an access key": "access_key={}",
    "a client's secret": "clientSecret: '{}'",
}
SECRETS: Final = (
    "Tr0ub4dor-and-3",
    "abcdef.0123456789abcdef",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQpNSUlFb3dJQkFBS0NBUUVB",
)
ALONE: Final = {
    "a JSON Web Token": SECRETS[3],
    "a key of NVIDIA's": "nvapi-abcdefghijklmnopqrstuvwxyz012345",
    "a token of GitHub": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "a token of GitLab": "glpat-ABCDEFGHIJ1234567890",
    "an access key of AWS": "AKIAIOSFODNN7EXAMPLE",
    "an encoded key": SECRETS[4],
    "a key in PEM": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq\nabc\n-----END RSA "
    "PRIVATE KEY-----",
    "a key in PEM, cut off": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ",
}
ORDINARY: Final = (
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "nvcr.io/nvidia/cloud-native/k8s-driver-manager@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    (
        "quay.io/confidential-containers/runtime-payload:kata-containers-"
        "16d6e37196cb5c18ca5e718549f7a747658105a2"
    ),
    "pod nvidia-vfio-manager-77986_gpu-operator(7dda6ddc-1c3e-4685-8c52-cbfb02a775d4)",
    "unexpected status code [manifests v1]: 401 Unauthorized",
    (
        "failed to authorize: failed to fetch anonymous token: unexpected status from GET request "
        "to https://nvcr.io/proxy_auth?scope=repository%3Anvidia%2Fx%3Apull: 401 Unauthorized"
    ),
    'secret "ngc-secret" not found',
    "Unable to retrieve some image pull secrets (ngc-secret); attempting to pull may not succeed.",
    "/opt/kata/share/defaults/kata-containers/runtimes/qemu-nvidia-gpu/configuration-qemu.toml",
    "failed to read /var/run/secrets/kubernetes.io/serviceaccount/token: no such file",
    "/sys/bus/pci/drivers/vfio-pci/0000:65:00.0",
    "runtimeconfig.confidentialcontainers.org/finalizer",
    "nvidia.com/GA102GL_A10",
    "token has expired",
    "token: expired",
    "password authentication failed for user",
    'Post "https://svc:443/validate": x509: certificate signed by unknown authority',
)


IN_ADDRESSES: Final = frozenset({"an address", "a proxy", "a database"})


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        (name, secret)
        for name in PLANTED
        for secret in SECRETS
        if not ("/" in secret and name in IN_ADDRESSES)  # there it would end the host's part
    ],
)
def test_a_credential_is_taken_out(name: str, secret: str) -> None:
    text = f"before {PLANTED[name].format(secret)} after"

    cleaned = redact(text)

    assert secret not in cleaned
    assert cleaned.startswith("before ")
    assert redact(cleaned) == cleaned


@pytest.mark.parametrize("name", ALONE)
def test_what_looks_like_one_is_taken_out_wherever_it_stands(name: str) -> None:
    assert ALONE[name] not in redact(f"it said {ALONE[name]}")


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: f"{seen.id}: {seen.clue.text[:40]}")
def test_what_explains_a_failure_still_does(seen: Seen) -> None:
    clue = seen.clue._replace(text=redact(seen.clue.text))

    row = TABLE.explain([clue])

    assert row is not None
    assert row == TABLE.explain([seen.clue])


@given(st.text(max_size=400))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_text_is_cleaned_once_and_for_all(text: str) -> None:
    cleaned = redact(text)

    assert redact(cleaned) == cleaned


@pytest.mark.parametrize(
    "text",
    ["token=" * 20_000, "a" * 200_000, "-----BEGIN " * 20_000, "://" * 60_000, "x:y@" * 50_000],
    ids=lambda text: text[:12],
)
def test_no_text_makes_it_slow(text: str) -> None:
    """Minutes would stop every command; the limit of this test is the runner's own."""
    assert len(redact(text)) <= 2 * len(text)


MARK: Final = "Pl4nted-s3cret-v4lue"


def planted() -> Cluster:
    """Return a cluster with a mark wherever a credential can stand."""
    cluster = kata_deploy_cluster()
    made = gpu_pod("stuck")
    container = made["spec"]["containers"][0]
    container["env"] = [{"name": "NGC_API_KEY", "value": MARK}]
    container["args"] = ["--password", MARK]
    container["command"] = ["sh", "-c", f"TOKEN={MARK} run"]
    made["metadata"]["annotations"] = {"example.com/token": MARK}
    made["metadata"]["labels"] = {"example.com/secret": MARK}
    made["status"] = {
        "phase": "Pending",
        "message": f"password={MARK}",
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "message": f"https://bob:{MARK}@x",
                "lastTransitionTime": "2026-11-24T10:00:00Z",
            }
        ],
        "containerStatuses": [
            {
                "name": "main",
                "ready": False,
                "state": {"waiting": {"reason": "Error", "message": f"token: {MARK}"}},
                "lastState": {"terminated": {"exitCode": 1, "message": f"api_key={MARK}"}},
            }
        ],
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": {"k": MARK}}
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x"},
        "data": {"k": MARK},
    }
    cluster.add(made, secret, config, log(made, "main", f"Authorization: Bearer {MARK}\n"))
    cluster.add(event("Pod", "default", "stuck", "Failed", f"login --password {MARK}"))
    down = {"type": "Ready", "status": "False", "reason": "x", "message": f"secret={MARK}"}
    cluster.get("Node", "gpu-2")["status"]["conditions"] = [down]
    cluster.get("Node", "gpu-2")["metadata"]["annotations"] = {"example.com/key": MARK}
    return cluster


def test_a_planted_secret_is_in_nothing_that_is_written(tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    path.write_bytes(planted().content())

    snapshot = open_snapshot(str(path))
    report = judged(snapshot)

    assert MARK.encode() not in b"".join(dump(snapshot))
    assert all(MARK not in f"{it.message}{it.remedy_text}" for it in report.results)
    assert MARK not in json.dumps(dict(report.subject.data))


def test_only_what_is_looked_at_is_kept() -> None:
    """Fields that may hold a secret are not decoded at all: no rule has to find it."""
    text = b"".join(dump(planted().snapshot())).decode()

    assert not re.search(r'"(?:env|args|command|data|volumes)":', text)
    assert "example.com/" not in text
