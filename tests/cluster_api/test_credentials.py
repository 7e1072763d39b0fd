"""What a user shows, and what is said where it cannot be used."""

import base64
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from cluster_api.fake_api import VERSION, FakeApi, Reply, Seen, ok, serving, status
from cluster_api.workstation import TOKEN, Workstation
from kgpuctl.cluster.access import Access
from kgpuctl.cluster.failures import ClusterError, CredentialError


def refusal(workstation: Workstation) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        workstation.connect().version()
    assert TOKEN not in caught.value.message + caught.value.remedy
    return caught.value


def pair(leaf: trustme.LeafCert) -> dict[str, object]:
    """Return a certificate and its key as they stand in a kubeconfig."""
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return {
        "client-certificate-data": base64.b64encode(chain).decode(),
        "client-key-data": base64.b64encode(leaf.private_key_pem.bytes()).decode(),
    }


def jwt(**claims: object) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + ".sig"


def test_a_client_certificate_is_shown(authority: trustme.CA, workstation: Workstation) -> None:
    with serving(authority, clients=authority) as api:
        api.answer("/version", ok(VERSION))
        workstation.log_in(api.url, pair(authority.issue_cert("alice@example.org")))

        workstation.connect().version()

        assert api.subjects == ["alice@example.org"]
        assert "authorization" not in api.seen[0].headers


def test_certificate_and_key_may_be_files(authority: trustme.CA, workstation: Workstation) -> None:
    leaf = authority.issue_cert("alice@example.org")
    folder = workstation.path.parent
    with serving(authority, clients=authority) as api:
        api.answer("/version", ok(VERSION))
        workstation.log_in(api.url, {"client-certificate": "alice.crt", "client-key": "alice.key"})
        leaf.cert_chain_pems[0].write_to_path(str(folder / "alice.crt"))
        leaf.private_key_pem.write_to_path(str(folder / "alice.key"))

        workstation.connect().version()

        assert api.subjects == ["alice@example.org"]


def test_a_password_and_a_token_go_into_the_header(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", ok(VERSION))

    workstation.log_in(api.url, {"username": "bob", "password": "pass"})
    workstation.connect().version()
    workstation.log_in(api.url, {"username": "bob", "password": "pass", "token": 123456})
    workstation.connect().version()

    sent = [seen.headers["authorization"] for seen in api.seen]
    assert sent == [[f"Basic {base64.b64encode(b'bob:pass').decode()}"], ["Bearer 123456"]]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


KEY = "-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (
            {"client-certificate": "/nowhere/alice.crt"},
            (
                "client-certificate of the user alice, /nowhere/alice.crt, cannot be read: "
                "No such file or directory."
            ),
        ),
        (
            {"client-certificate-data": "?"},
            "client-certificate-data of the user alice is not base64 of a PEM text.",
        ),
        (
            {"client-certificate-data": encoded("garbage"), "client-key-data": encoded(KEY)},
            "the client certificate is no PEM certificate.",
        ),
        (
            {"client-certificate-data": encoded(CERTIFICATE)},
            "the client key is missing or no PEM key.",
        ),
        (
            {"client-certificate-data": encoded(CERTIFICATE), "client-key-data": encoded(KEY)},
            "the client certificate or key is damaged, or the key is encrypted.",
        ),
        (
            {"token": f"{TOKEN}\n{TOKEN}"},
            "The token of the user alice holds letters that no token has.",
        ),
        (
            {"tokenFile": "/nowhere/token"},
            (
                "tokenFile of the user alice, /nowhere/token, cannot be read: "
                "No such file or directory."
            ),
        ),
        (
            {"tokenFile": "/dev/null"},
            "tokenFile of the user alice, /dev/null, is empty.",
        ),
        (
            {"auth-provider": {"name": "gcp", "config": {"access-token": TOKEN}}},
            "The auth-provider 'gcp' of the user alice is not supported, as in kubectl.",
        ),
        (
            {"auth-provider": {"name": "oidc", "config": {"id-token": jwt(exp=1)}}},
            "The id-token of the user alice has expired or cannot be read.",
        ),
        (
            {"auth-provider": {"name": "oidc", "config": {"id-token": TOKEN}}},
            "The id-token of the user alice has expired or cannot be read.",
        ),
    ],
)
def test_credentials_that_cannot_be_used(
    user: dict[str, object], said: str, workstation: Workstation
) -> None:
    workstation.log_in("https://127.0.0.1:1", user)

    assert refusal(workstation).message.endswith(said)


def test_a_key_of_another_certificate(authority: trustme.CA, workstation: Workstation) -> None:
    mine, other = pair(authority.issue_cert("a@b.c")), pair(authority.issue_cert("d@e.f"))
    workstation.log_in("https://127.0.0.1:1", mine | {"client-key-data": other["client-key-data"]})

    error = refusal(workstation)

    assert isinstance(error, CredentialError)
    assert error.message == (
        "The credentials of alice for cluster prod (context night, https://127.0.0.1:1) cannot be "
        "used: the client key does not belong to the certificate."
    )


def test_an_encrypted_key_is_not_asked_for(authority: trustme.CA, workstation: Workstation) -> None:
    leaf = pair(authority.issue_cert("a@b.c"))
    workstation.log_in("https://127.0.0.1:1", leaf | {"client-key-data": encoded(ENCRYPTED)})

    assert refusal(workstation).message.endswith("is damaged, or the key is encrypted.")


def test_a_refused_certificate_that_expired_is_said(
    authority: trustme.CA, workstation: Workstation
) -> None:
    long_ago = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    leaf = authority.issue_cert("a@b.c", not_before=long_ago - timedelta(1), not_after=long_ago)
    with serving(authority) as api:
        api.answer("/version", status(401, "Unauthorized"))
        workstation.log_in(api.url, pair(leaf))

        error = refusal(workstation)

    assert error.message.endswith("(401). The client certificate expired at 2020-01-02 03:04:05Z.")


def test_a_certificate_that_the_server_refuses_in_the_handshake(
    authority: trustme.CA, workstation: Workstation
) -> None:
    with serving(authority, clients=trustme.CA()) as api:
        api.answer("/version", ok(VERSION))
        workstation.log_in(api.url, pair(authority.issue_cert("alice@example.org")))

        error = refusal(workstation)

        assert not api.seen
    # The server cuts the connection right after its alert, which is then not always read.
    assert re.search(
        r"refused the TLS connection \(unknown ca\)|connection broke off", error.message
    )


def test_a_user_without_credentials_is_said(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", status(401, "Unauthorized"))
    workstation.log_in(api.url, {})

    assert refusal(workstation).message.endswith(
        "The user in the kubeconfig has no credentials at all."
    )


def test_an_id_token_is_used_while_it_lasts(api: FakeApi, workstation: Workstation) -> None:
    token = jwt(exp=time.time() + 600)
    api.answer("/version", ok(VERSION))
    workstation.log_in(api.url, {"auth-provider": {"name": "oidc", "config": {"id-token": token}}})

    workstation.connect().version()

    assert api.seen[0].headers["authorization"] == [f"Bearer {token}"]


def test_a_token_file_is_read_again_when_its_token_is_refused(
    api: FakeApi, workstation: Workstation
) -> None:
    token = workstation.home / "token"
    token.write_text("old\n")

    def renewing(_: Seen) -> Reply:
        token.write_text("new\n")
        return status(401, "Unauthorized")

    api.answer("/version", renewing, ok(VERSION))
    workstation.log_in(api.url, {"tokenFile": str(token)})
    cluster = workstation.connect()

    cluster.version()

    assert [seen.headers["authorization"] for seen in api.seen] == [["Bearer old"], ["Bearer new"]]
    assert cluster.retries == 1


def test_a_token_that_stays_refused_is_an_error(api: FakeApi, workstation: Workstation) -> None:
    token = workstation.home / "token"
    token.write_text(TOKEN)
    api.answer("/version", status(401, "Unauthorized"))
    workstation.log_in(api.url, {"tokenFile": str(token)})

    error = refusal(workstation)

    assert error.status == 401
    assert api.count("/version") == 2


def in_a_pod(workstation: Workstation, api: FakeApi) -> Path:
    folder = workstation.around.service_account
    folder.mkdir()
    (folder / "token").write_text(TOKEN)
    (folder / "ca.crt").write_bytes(workstation.authority.cert_pem.bytes())
    workstation.environment |= {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(api.port),
    }
    return folder


def test_in_a_pod_its_service_account_asks(api: FakeApi, workstation: Workstation) -> None:
    api.answer("/version", ok(VERSION))
    in_a_pod(workstation, api)

    cluster = workstation.connect(Access(as_user="bob"))
    cluster.version()

    assert cluster.identity.user == "the service account of this pod (as bob)"
    assert api.seen[0].headers["authorization"] == [f"Bearer {TOKEN}"]
    assert api.seen[0].headers["impersonate-user"] == ["bob"]


def test_in_a_pod_whose_token_is_not_mounted(api: FakeApi, workstation: Workstation) -> None:
    folder = in_a_pod(workstation, api)
    (folder / "token").unlink()

    assert refusal(workstation).message == (
        f"tokenFile of the service account of this pod, {folder}/token, cannot be read: "
        "No such file or directory."
    )


def test_a_context_is_never_looked_for_in_a_pod(api: FakeApi, workstation: Workstation) -> None:
    in_a_pod(workstation, api)

    with pytest.raises(ClusterError, match="There is no kubeconfig"):
        workstation.connect(Access(context="night"))


ENCRYPTED = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBBf4wW2t3xRPJVq0uWd
-----END ENCRYPTED PRIVATE KEY-----
"""
