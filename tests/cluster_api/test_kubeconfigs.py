"""Which cluster is meant, and what is said where that cannot be told."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from cluster_api.workstation import TOKEN, Workstation, kubeconfig
from kgpuctl.cluster.access import Access
from kgpuctl.cluster.failures import ClusterError
from kgpuctl.errors import UsageError

SERVER = "https://10.0.0.1:6443"


def refusal(workstation: Workstation, access: Access | None = None) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        workstation.connect(access)
    assert caught.value.exit_code == 4
    assert TOKEN not in caught.value.message + caught.value.remedy
    return caught.value


def test_without_any_kubeconfig(workstation: Workstation) -> None:
    error = refusal(workstation)

    assert error.message == f"There is no kubeconfig: {workstation.path} is not there."
    assert error.remedy == "Name one with --kubeconfig or KUBECONFIG."


def test_a_named_kubeconfig_must_be_there(workstation: Workstation) -> None:
    workstation.log_in(SERVER)

    error = refusal(workstation, Access(kubeconfig="/nowhere/config"))

    assert error.message == "There is no kubeconfig /nowhere/config."


def test_an_option_wins_over_the_variable_and_the_variable_over_home(
    workstation: Workstation, authority: trustme.CA
) -> None:
    workstation.log_in(SERVER)
    for name in ("by-variable", "by-option"):
        workstation.write(kubeconfig(f"https://{name}:1", authority), workstation.home / name)

    assert workstation.connect().identity.server == SERVER

    workstation.environment["KUBECONFIG"] = str(workstation.home / "by-variable")
    assert workstation.connect().identity.server == "https://by-variable:1"

    option = Access(kubeconfig="~/by-option")
    assert workstation.connect(option).identity.server == "https://by-option:1"


def test_several_files_are_one_and_the_first_word_stands(
    workstation: Workstation, authority: trustme.CA
) -> None:
    first = kubeconfig("https://first:1", authority) | {"users": None, "current-context": ""}
    second = kubeconfig("https://second:1", authority)
    paths = [
        workstation.write(first, workstation.home / "first"),
        workstation.home / "missing",
        workstation.write(second, workstation.home / "second"),
    ]
    workstation.environment["KUBECONFIG"] = os.pathsep.join(map(str, paths))

    identity = workstation.connect().identity

    assert (identity.server, identity.user, identity.context) == (
        "https://first:1",
        "alice",
        "night",
    )


def test_paths_start_from_the_file_that_names_them(
    workstation: Workstation, authority: trustme.CA
) -> None:
    folder = workstation.home / "elsewhere"
    entry = kubeconfig(SERVER, None, cluster={"certificate-authority": "ca.crt"})
    path = workstation.write(entry, folder / "config")
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())

    assert workstation.connect(Access(kubeconfig=str(path))).identity.server == SERVER


def test_scalars_are_words_as_for_kubectl(workstation: Workstation) -> None:
    workstation.write(
        "current-context: 1\n"
        "contexts: [{name: 1, context: {cluster: 2026-01-01, user: yes}}]\n"
        f"clusters: [{{name: 2026-01-01, cluster: {{server: '{SERVER}',"
        " insecure-skip-tls-verify: true, certificate-authority: null}}]\n"
        "users: [{name: yes, user: {token: 1234567890, exec: ~}}]\n"
    )

    identity = workstation.connect().identity

    assert (identity.context, identity.cluster, identity.user) == ("1", "2026-01-01", "yes")


def unreadable(path: Path) -> None:
    path.mkdir(parents=True)


def written(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (unreadable, "cannot be read: Is a directory."),
        (written(b"a: [\nb: }\n" + TOKEN.encode()), "is not YAML: line 2."),
        (written(b"\xff\xfe\x00" * 9), "is not YAML."),
        (written(b"token: " + TOKEN.encode() + b"\x00"), "is not YAML."),
        (written(b"[" * 99999 + b"]" * 99999), "is not YAML."),
        (written(b"- one\n- two\n"), "has not the shape of a kubeconfig: Expected `object`, "),
        (written(b"users: " + TOKEN.encode()), "has not the shape of a kubeconfig: Expected "),
        (written(b"users: [{name: a, user: {token: [1]}}]"), "has not the shape of a kubeconfig: "),
        (written(b"#" * (16 * 1024**2 + 1)), "is larger than 16 MiB."),
    ],
    ids=["directory", "yaml", "bytes", "control", "deep", "list", "word", "token", "huge"],
)
def test_a_file_that_is_no_kubeconfig(
    make: Callable[[Path], None], said: str, workstation: Workstation
) -> None:
    make(workstation.path)

    error = refusal(workstation)

    assert error.message.startswith(f"The kubeconfig {workstation.path} {said}")
    assert error.__cause__ is None


def test_an_alias_that_holds_itself_is_survived(workstation: Workstation) -> None:
    workstation.write("current-context: x\npreferences: &a [*a]\nextensions: &b {b: *b}\n")

    assert (
        refusal(workstation).message
        == f"There is no context 'x', the current-context, in {workstation.path}."
    )


@pytest.mark.parametrize(
    ("content", "access", "message", "remedy"),
    [
        (
            {"current-context": ""},
            Access(),
            "No context is chosen: {path} names no current-context.",
            "Name one with --context: night.",
        ),
        (
            {},
            Access(context="nigth"),
            "There is no context 'nigth' in {path}; did you mean night?",
            "Name another with --context: night.",
        ),
        (
            {"current-context": "gone"},
            Access(),
            "There is no context 'gone', the current-context, in {path}.",
            "Name another with --context: night.",
        ),
        (
            {"clusters": []},
            Access(),
            "The context 'night' in {path} names the cluster 'prod', which is not there.",
            "Correct it, or name another with --context: night.",
        ),
        (
            {"users": [{"name": "alise", "user": {}}]},
            Access(),
            (
                "The context 'night' in {path} names the user 'alice', which is not there; "
                "did you mean alise?"
            ),
            "Correct it, or name another with --context: night.",
        ),
        (
            {"contexts": [{"name": "night", "context": {"user": "alice"}}]},
            Access(),
            "The context 'night' in {path} names no cluster.",
            "Correct it, or name another with --context: night.",
        ),
        (
            {"contexts": None},
            Access(),
            "There is no context 'night', the current-context, in {path}.",
            "Name another with --context; there is none yet.",
        ),
    ],
)
def test_a_choice_that_leads_nowhere(
    content: dict[str, object],
    access: Access,
    message: str,
    remedy: str,
    workstation: Workstation,
) -> None:
    workstation.write(kubeconfig(SERVER, None) | content)

    error = refusal(workstation, access)

    assert error.message == message.format(path=workstation.path)
    assert error.remedy == remedy


def test_of_many_contexts_some_are_listed(workstation: Workstation) -> None:
    contexts = [{"name": f"c{n:02}", "context": {"cluster": "prod"}} for n in range(12)]
    workstation.write(kubeconfig(SERVER, None) | {"contexts": contexts})

    error = refusal(workstation, Access(context="zzz"))

    assert error.remedy.endswith("c00, c01, c02, c03, c04, c05, c06, c07, c08, c09 and 2 more.")


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("", "The cluster prod has no server address."),
        ("https://", "The server address of the cluster prod is not like https://HOST:PORT."),
        ("ftp://host", "The server address of the cluster prod is not like https://HOST:PORT."),
        (
            "https://h:99999",
            "The server address of the cluster prod is not like https://HOST:PORT.",
        ),
        ("https://h?a=b", "The server address of the cluster prod is not like https://HOST:PORT."),
        (
            f"https://bob:{TOKEN}@host",
            "The server address of the cluster prod holds a user or a password.",
        ),
    ],
)
def test_an_address_that_is_none(server: str, message: str, workstation: Workstation) -> None:
    workstation.write(kubeconfig(server, None))

    assert refusal(workstation).message == message


@pytest.mark.parametrize(
    ("server", "meant"),
    [("host:6443", "https://host:6443"), ("https://host/k8s/c-1/", "https://host/k8s/c-1")],
)
def test_an_address_as_kubectl_reads_it(server: str, meant: str, workstation: Workstation) -> None:
    workstation.log_in(server)

    assert workstation.connect().identity.server == meant


def test_credentials_are_not_sent_unencrypted(workstation: Workstation) -> None:
    workstation.write(kubeconfig("http://host:8001", None))

    assert refusal(workstation).message == (
        "The server of the cluster prod is http://host:8001: the credentials of the user alice "
        "would be sent unencrypted."
    )

    workstation.write(kubeconfig("http://host:8001", None, user={}))
    assert workstation.connect().identity.server == "http://host:8001"


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (
            {"certificate-authority-data": "%%%"},
            "certificate-authority-data of the cluster prod is not base64 of a PEM text.",
        ),
        (
            {"certificate-authority-data": base64.b64encode(b"garbage").decode()},
            "The certificate-authority of the cluster prod is no PEM certificate.",
        ),
        (
            {"certificate-authority": "/nowhere/ca.crt"},
            (
                "certificate-authority of the cluster prod, /nowhere/ca.crt, cannot be read: "
                "No such file or directory."
            ),
        ),
        (
            {"certificate-authority": "/dev/zero"},
            (
                "certificate-authority of the cluster prod, /dev/zero, cannot be read: "
                "it is larger than 1 MiB."
            ),
        ),
        (
            {"proxy-url": "socks5://127.0.0.1:1080"},
            "The proxy in proxy-url is a SOCKS proxy, which is not supported.",
        ),
        (
            {"proxy-url": "gopher://x"},
            "The proxy address in proxy-url is not like http://HOST:PORT.",
        ),
    ],
)
def test_trust_that_cannot_be_used(
    cluster: dict[str, object], message: str, workstation: Workstation
) -> None:
    workstation.write(kubeconfig(SERVER, None, cluster=cluster))

    assert refusal(workstation).message == message


def test_impersonation_is_named_and_needs_a_user(workstation: Workstation) -> None:
    workstation.log_in(SERVER)

    as_bob = workstation.connect(Access(as_user="bob", as_groups=("a", "b")))
    assert as_bob.identity.user == "alice (as bob)"

    with pytest.raises(UsageError, match="--as-group is given without --as"):
        workstation.connect(Access(as_groups=("a",)))
    with pytest.raises(UsageError, match="cannot be the name of a user or group"):
        workstation.connect(Access(as_user="bob\r\nAuthorization: x"))
