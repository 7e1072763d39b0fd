"""A kubeconfig as far as it is read; credentials are Secrets from the first moment on."""

from pathlib import Path

from msgspec import Struct, field

from kgpuctl.cluster.secret import Secret


class Kebab(Struct, frozen=True, rename="kebab"):
    """A part of a kubeconfig; unknown fields are passed over, as kubectl does."""


class Cluster(Kebab, frozen=True):
    """Where an API server is, and how it proves to be the right one."""

    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: Secret = Secret("")


class Variable(Struct, frozen=True):
    """A variable in the environment of a credential plugin."""

    name: str
    value: Secret = Secret("")


class Exec(Struct, frozen=True, rename="camel"):
    """A program that gives a credential."""

    command: str = ""
    api_version: str = ""
    args: tuple[Secret, ...] = ()
    env: tuple[Variable, ...] = ()
    install_hint: str = ""
    interactive_mode: str = ""
    provide_cluster_info: bool = False


class Provider(Struct, frozen=True):
    """The older way of getting a token, built into kubectl once."""

    name: str = ""
    config: dict[str, Secret] = {}


class User(Kebab, frozen=True):
    """A credential, or where it is got from."""

    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: Secret = Secret("")
    token: Secret = Secret("")
    token_file: str = field(default="", name="tokenFile")
    username: str = ""
    password: Secret = Secret("")
    exec: Exec | None = None
    auth_provider: Provider | None = None
    impersonate: str = field(default="", name="as")
    impersonate_uid: str = field(default="", name="as-uid")
    impersonate_groups: tuple[str, ...] = field(default=(), name="as-groups")
    impersonate_extra: dict[str, tuple[str, ...]] = field(default={}, name="as-user-extra")


class Context(Kebab, frozen=True):
    """A cluster and a user that go together."""

    cluster: str = ""
    user: str = ""


class NamedCluster(Struct, frozen=True):
    """A cluster as it stands in the list."""

    name: str = ""
    cluster: Cluster = Cluster()


class NamedUser(Struct, frozen=True):
    """A user as it stands in the list."""

    name: str = ""
    user: User = User()


class NamedContext(Struct, frozen=True):
    """A context as it stands in the list."""

    name: str = ""
    context: Context = Context()


class Document(Kebab, frozen=True):
    """One file."""

    current_context: str = ""
    clusters: tuple[NamedCluster, ...] = ()
    users: tuple[NamedUser, ...] = ()
    contexts: tuple[NamedContext, ...] = ()


class Kubeconfig(Struct, frozen=True):
    """All files as one; each entry keeps the directory that its relative paths start from."""

    paths: tuple[str, ...]
    current_context: str
    clusters: dict[str, tuple[Cluster, Path]]
    users: dict[str, tuple[User, Path]]
    contexts: dict[str, Context]
