"""What is run on kgpuctl itself: `nox -l` lists it. All sessions share the environment .venv."""

import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests", "docs"]
nox.options.default_venv_backend = "none"

PYTHON = sys.executable
BIN = Path(PYTHON).parent


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, with branch coverage unless some of them are named."""
    chosen = session.posargs
    if chosen:
        session.run(PYTHON, "-m", "pytest", *chosen)
        return
    coverage = (PYTHON, "-m", "coverage")
    session.run(*coverage, "erase")
    session.run(*coverage, "run", "-m", "pytest", "-n", "2", "-m", "not vm and not cluster")
    session.run(*coverage, "combine", "-q")
    session.run(*coverage, "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types, layers and shell."""
    session.run(PYTHON, "-m", "ruff", "check")
    session.run(PYTHON, "-m", "ruff", "format", "--check")
    session.run(PYTHON, "-m", "mypy")
    session.run(str(BIN / "lint-imports"), "--no-logo")
    session.run("shellcheck", "install.sh", ".ci/run", success_codes=[0, 127])


@nox.session
def docs(session: nox.Session) -> None:
    """Write docs/reference/checks.md anew; what it says must already be committed."""
    session.run(PYTHON, "docs/write_reference.py", *session.posargs)


@nox.session
def vm(session: nox.Session) -> None:
    """Run preflight in real kernels with an Intel, an AMD and no IOMMU."""
    session.run(PYTHON, "-m", "pytest", "-m", "vm", "tests/vm", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Build a Kubernetes control plane from its Go modules, and run the tests that talk to it."""
    session.run(PYTHON, "tests/cluster/programs.py")
    session.run(PYTHON, "-m", "pytest", "-m", "cluster", "tests/cluster", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Mutate every file of a recorded host more than 10,000 times."""
    session.run(PYTHON, "benchmarks/fuzz_host.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure start-up and preflight; print the ratios that are promised."""
    session.run(PYTHON, "benchmarks/startup.py", *session.posargs)


@nox.session
def bench_cluster(session: nox.Session) -> None:
    """Measure verify and label-nodes against a real API server with 5,000 nodes."""
    session.run(PYTHON, "tests/cluster/programs.py")
    session.run(PYTHON, "benchmarks/big_cluster.py", *session.posargs)
