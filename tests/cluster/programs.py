"""The programs of a Kubernetes control plane: built from controlplane/go.mod, or found.

    python tests/cluster/programs.py      build what is missing, print where it is

The Go module proxy is all that is needed; no container image, no release archive. What was built
is kept below the user's cache, in a directory named after all that it was built from.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ASSETS: Final = "KUBEBUILDER_ASSETS"  # the field's name for a directory with such programs

API: Final = ("etcd", "kube-apiserver")
ALL: Final = (*API, "kube-controller-manager", "kube-scheduler", "kwok", "kubectl")

_MODULE: Final = Path(__file__).parent / "controlplane"
_KUBERNETES: Final = "k8s.io/kubernetes"
_PACKAGES: Final = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
}
_VERSIONED: Final = "k8s.io/component-base/version"
_RECIPE: Final = "1"  # to be counted up where they are built otherwise
_SWITCHES: Final = (1, 21)  # the first Go that fetches a newer one where go.mod asks for it


class NoProgramsError(Exception):
    """They are not here, and this machine cannot build them; the sentence says why."""


class BuildError(Exception):
    """Go could not build one of them."""


@dataclass(frozen=True, slots=True)
class Programs:
    """A directory with programs."""

    directory: Path

    def path(self, name: str) -> str:
        """Return the file of one program."""
        return str(self.directory / name)


def find(needed: Sequence[str] = ALL) -> Programs:
    """Return where these programs are, and build nothing."""
    given = os.environ.get(ASSETS)
    if given:
        missing = [name for name in needed if not os.access(Path(given) / name, os.X_OK)]
        if missing:
            raise NoProgramsError(
                f"{ASSETS}={given} has no {', '.join(missing)}:"
                " put them there, or unset it to have all of them built."
            )
        return Programs(Path(given).absolute())
    directory = _cache() / _fingerprint()
    if not directory.is_dir():
        _check_go()
        raise NoProgramsError("The control plane is not built yet: nox -s cluster builds it.")
    return Programs(directory)


def build() -> Programs:
    """Return where the programs are, built now if they are not there. Cold, it takes 11 minutes."""
    if os.environ.get(ASSETS):
        return find()
    directory = _cache() / _fingerprint()
    if not directory.is_dir():
        _check_go()
        with _locked(directory.parent):
            if not directory.is_dir():
                _build_into(directory)
    return Programs(directory)


def _cache() -> Path:
    configured = os.environ.get("XDG_CACHE_HOME")
    home = Path(configured) if configured else Path.home() / ".cache"
    return home / "kgpuctl" / "controlplane"


def _fingerprint() -> str:
    """Name the versions of all that is built in, and how it is built."""
    files = [(_MODULE / name).read_bytes() for name in ("go.mod", "go.sum")]
    how = " ".join((_RECIPE, *ALL)).encode()
    return hashlib.sha256(b"\0".join([*files, how])).hexdigest()[:16]


def _check_go() -> None:
    """Say what is missing before anything is waited for."""
    if shutil.which("go") is None:
        raise NoProgramsError(
            f"There is no Go here to build the control plane with: install it, or set {ASSETS}."
        )
    told = _go("env", "GOVERSION", capture=True)
    found = re.match(r"go(\d+)\.(\d+)", told)
    if found is None or (int(found[1]), int(found[2])) < _SWITCHES:
        raise NoProgramsError(
            f"{told.strip() or 'The Go here'} is too old to build the control plane with:"
            f" install Go 1.21 or later, or set {ASSETS}."
        )


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Let one process build at a time; the kernel lets go if it dies."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in cache.glob("new-*"):  # by a build that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield


def _build_into(directory: Path) -> None:
    """Build all, and only then give the directory its name, so a half-filled one is never used."""
    flags = _linker_flags()
    with tempfile.TemporaryDirectory(prefix="new-", dir=directory.parent) as name:
        made = Path(name) / "made"
        made.mkdir()
        for program in ALL:
            start = time.monotonic()
            package = _PACKAGES.get(program, f"{_KUBERNETES}/cmd/{program}")
            _go("build", "-buildvcs=false", f"-ldflags={flags}", "-o", str(made / program), package)
            _say(f"built {program} in {time.monotonic() - start:.0f} s")
        made.rename(directory)


def _linker_flags() -> str:
    """Leave debugging tables out, and tell Kubernetes its version, which its own build does."""
    version = _go("list", "-m", "-f", "{{.Version}}", _KUBERNETES, capture=True).strip()
    major, minor = version.removeprefix("v").split(".")[:2]
    told = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X {_VERSIONED}.{key}={value}" for key, value in told.items())])


def _go(*arguments: str, capture: bool = False) -> str:
    """Run Go in the module; what it builds needs no C compiler."""
    done = subprocess.run(
        ["go", *arguments],
        cwd=_MODULE,
        env=os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture else sys.stderr,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"go {arguments[0]} of {arguments[-1]} failed: see what it says above.")
    return done.stdout or ""


def _say(text: str) -> None:
    sys.stderr.write(f"programs.py: {text}\n")


def main() -> int:
    """Build; a machine that cannot is said so, and no failure: the tests are skipped on it."""
    try:
        built = build()
    except NoProgramsError as error:
        _say(str(error))
        return 0
    except BuildError as error:
        _say(str(error))
        return 1
    _say(f"the control plane's programs are in {built.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
