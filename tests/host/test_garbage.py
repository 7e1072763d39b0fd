"""Garbage is never better than not having looked, and never more than a finding.

The oracle of the first part needs no knowledge of any format: with garbage in one place of a host,
only that may pass which also passes where permission was denied to look there. What is garbage to
us but content to the format (an empty file, a file that ends early) is listed with its reason.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from builders import (
    AFTER,
    AMD,
    BEFORE,
    K3S,
    Aims,
    HostTree,
    gpu,
    judge,
    kernel_config,
    open_tree,
    recording,
    vga_gpu,
)
from fuzz.bounded import bounded
from fuzz.garbage import (
    CONTENTS,
    LINKS,
    NAMES,
    UNREADABLE,
    Answers,
    Question,
    answers_of,
    held,
    passed,
    report,
)
from fuzz.mutations import BAD, fuzz, is_excused
from kgpuctl.host.recording import Answer
from kgpuctl.names import Tee
from kgpuctl.report import Status
from kgpuctl.unread import Reason, Unread

HOSTS: Mapping[str, tuple[HostTree, Aims]] = {
    "installed": (HostTree().installed(), AFTER),
    "k3s on AMD for SNP": (
        HostTree(
            cpu=AMD,
            kube=K3S,
            kernel="6.17.0",
            parameters={"kvm_amd/sev": "Y", "kvm_amd/sev_es": "Y", "kvm_amd/sev_snp": "Y"},
            nodes=("kvm", "vhost-net", "vhost-vsock", "net/tun", "sev"),
        ),
        Aims(confidential=Tee.SNP),
    ),
    "bad": (
        HostTree(
            quiet="intel_iommu=off pcie_acs_override=downstream",
            remapped=False,
            modules=("nouveau", "kvm"),
            modprobe="install vfio_pci /bin/false\n",
            memory=(8, 4),
            devices=(vga_gpu(driver="nouveau"), gpu("0000:66:00.0", driver="nvidia")),
            reserved={0x65: "direct"},
            parameters={"vfio/enable_unsafe_noiommu_mode": "Y"},
        ),
        BEFORE,
    ),
    "without modules": (
        HostTree(put={"/proc/config.gz": kernel_config("CONFIG_VFIO_PCI", "CONFIG_TUN")}).adding(
            {}, "/usr/lib/modules"
        ),
        BEFORE,
    ),
}
EMPTY = ("nothing", "only line feeds")
CUT = ("half of it", "all but the end")
ANY = tuple(CONTENTS)

# What is garbage to us and none to the format, and checks that are not about that file:
# (how the path begins, kinds, checks, why).
ALLOWED: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("/etc/modprobe.d/", EMPTY, "", "an empty file is valid"),
    ("/etc/containerd/", EMPTY, "", "TOML may be empty"),
    ("/var/lib/rancher/", EMPTY, "", "TOML may be empty"),
    ("/etc/rancher/", EMPTY, "", "YAML may be empty"),
    ("/var/lib/kubelet/", EMPTY, "", "YAML and files of flags may be empty"),
    ("/sys/kernel/iommu_groups/", EMPTY, "", "a group without reserved regions has an empty file"),
    ("/proc/modules", EMPTY, "", "a kernel without loadable modules shows an empty file"),
    ("/proc/cmdline", ("one word",), "", "one word is a whole command line"),
    ("/etc/os-release", ANY, "", "no check is about the distribution"),
    ("/proc/sys/kernel/hostname", ANY, "", "no check is about the name"),
    ("/sys/class/dmi/", ANY, "", "only words that tell a VM are looked for"),
    ("/etc/containerd/config.toml", ANY, "runtime.containerd", "it is about the program"),
    ("/etc/containerd/conf.d/", ANY, "runtime.containerd", "it is about the program"),
    ("/etc/containerd/conf.d/", ANY, "runtime.config", "runtime.imports is about that file"),
    ("/var/lib/rancher/", ANY, "runtime.containerd", "it is about the program"),
    ("/etc/containerd/conf.d", (), "runtime.config", "a glob that errs matches nothing there too"),
    (
        "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d",
        (),
        "runtime.config",
        "as above",
    ),
)

# Half of these says truly that something bad is not in it: nothing tells that there was more.
CAN_CUT = (("read", "/etc/modprobe.d/local.conf"),)


@cache
def answers(host: str) -> Answers:
    """Return a host's answers."""
    tree, aims = HOSTS[host]
    with TemporaryDirectory() as folder:
        return answers_of(tree, Path(folder), aims)


def is_allowed(path: str, kind: str, check: str) -> bool:
    """Say whether a check may pass with such content."""
    return any(
        path.startswith(start) and (kind in kinds or kind in UNREADABLE) and about in {"", check}
        for start, kinds, about, _ in ALLOWED
        if about or kind not in UNREADABLE
    )


@cache
def passed_where_denied(host: str, question: Question) -> frozenset[tuple[str, str]]:
    """Return what passes where nobody could look in one place."""
    denied = Unread(question[1], Reason.NOT_PERMITTED)
    return passed({**answers(host), question: denied}, HOSTS[host][1])


@cache
def not_bad(host: str) -> frozenset[str]:
    """Return the checks that pass on the host itself, or that are not asked there."""
    results = judge(held(answers(host)), HOSTS[host][1]).values()
    good = {Status.PASSED, Status.SKIPPED}
    return frozenset(result.id for result in results if result.status in good)


def better_than_unread(host: str, question: Question, garbage: Answer) -> list[str]:
    """Return what passes with garbage in one place, but not where nobody could look there."""
    with bounded():
        found = passed({**answers(host), question: garbage}, HOSTS[host][1])
    return sorted(check for check, _ in found - passed_where_denied(host, question))


def asked(host: str, method: str) -> list[Question]:
    """Return the questions of a kind that a host gave an answer to."""
    return [key for key, answer in answers(host).items() if key[0] == method and answer is not None]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [kind for kind in CONTENTS if kind not in CUT])
def test_garbage_in_a_file_is_never_better_than_an_unread_file(host: str, kind: str) -> None:
    wrong = []
    for question in asked(host, "read"):
        content = answers(host)[question]
        if isinstance(content, bytes):
            checks = better_than_unread(host, question, CONTENTS[kind](content))
            wrong += [(question[1], item) for item in checks]

    assert [(path, check) for path, check in wrong if not is_allowed(path, kind, check)] == []


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", CUT)
def test_a_file_that_was_cut_off_is_never_better_than_the_whole_file(host: str, kind: str) -> None:
    """What is left may be valid, and says no more than the whole said."""
    wrong = {}
    for question in asked(host, "read"):
        content = answers(host)[question]
        if isinstance(content, bytes):
            cut = {**answers(host), question: CONTENTS[kind](content)}
            found = {check for check, _ in passed(cut, HOSTS[host][1])}
            wrong[question] = sorted(found - not_bad(host))

    assert {path: checks for path, checks in wrong.items() if checks and path not in CAN_CUT} == {}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_never_better_than_what_may_not_be_read(
    host: str, kind: str
) -> None:
    wrong = []
    for question in answers(host):
        if question[0] != "ask":
            checks = better_than_unread(host, question, UNREADABLE[kind](question[1]))
            wrong += [(question[1], item) for item in checks]

    assert [(path, check) for path, check in wrong if not is_allowed(path, kind, check)] == []


@pytest.mark.parametrize("host", HOSTS)
def test_odd_names_in_a_directory_never_raise(host: str) -> None:
    for question in asked(host, "names"):
        for names in NAMES.values():
            with bounded():
                report({**answers(host), question: names}, HOSTS[host][1])
                both = answers(host)[question]
                if isinstance(both, tuple):
                    report({**answers(host), question: (*both, *names)}, HOSTS[host][1])


@pytest.mark.parametrize("host", HOSTS)
def test_odd_links_never_pass_for_more_than_an_unread_link(host: str) -> None:
    wrong = {}
    for question in asked(host, "link"):
        for kind, target in LINKS.items():
            # A link to no group would be read as one to group 99…9; it is one to a driver's name.
            if not (kind == "many digits" and question[1].endswith("iommu_group")):
                wrong[question] = better_than_unread(host, question, target)

    allowed = "physfn"  # whatever it points to, only a virtual function has one
    assert {
        key: checks for key, checks in wrong.items() if checks and not key[1].endswith(allowed)
    } == {}


# Garbage on a disk


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound host as a root directory."""
    return HostTree().installed().write(tmp_path_factory.mktemp("disk"))


def files_of(root: Path) -> list[Path]:
    """Return the regular files of a root directory that the reader reads."""
    paths = [root / path[1:] for method, path in answers("installed") if method == "read"]
    found = {Path(os.path.realpath(path)) for path in paths if path.is_file()}
    return sorted(path for path in found if path.is_relative_to(root))


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop", "40 MB", "gone", "dangling link"])
def test_each_file_can_be_something_else(disk: Path, kind: str) -> None:
    whole = passed_on(disk)
    for file in files_of(disk)[:: 10 if kind == "40 MB" else 1]:
        kept = file.with_name("kept")
        file.rename(kept)
        put(file, kind)
        try:
            with bounded():
                recording(open_tree(disk), AFTER)
                more = passed_on(disk) - whole
        finally:
            file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
            kept.rename(file)

        assert more == frozenset(), file


def passed_on(root: Path) -> frozenset[tuple[str, str]]:
    """Return what passes on a root directory."""
    results = judge(open_tree(root), AFTER)
    return frozenset(key for key, result in results.items() if result.status is Status.PASSED)


def put(place: Path, kind: str) -> None:
    """Put something where a file should be."""
    match kind:
        case "directory":
            place.mkdir()
        case "fifo":
            os.mkfifo(place)
        case "loop":
            place.symlink_to(place.name)
        case "dangling link":
            place.symlink_to("nowhere")
        case "40 MB":
            with place.open("wb") as file:
                file.truncate(40 * 10**6)
        case _:
            pass


# Mutations; `benchmarks/fuzz_host.py` runs as many as one likes

MUTATIONS = int(os.environ.get("FUZZ_MUTATIONS", "1000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.check)
def test_the_oracle_starts_from_hosts_that_are_bad(bad: object, tmp_path: Path) -> None:
    bad = next(item for item in BAD if item is bad)
    known = answers_of(bad.host, tmp_path, bad.aims)
    statuses = {item.status for item in report(known, bad.aims).results if item.id == bad.check}

    assert statuses <= {Status.FAILED, Status.WARNED}
    assert not is_excused(bad, known)


@pytest.mark.timeout(3600)
def test_mutations_raise_nothing_and_nothing_passes_that_is_bad(tmp_path: Path) -> None:
    tally = fuzz(tmp_path, SEED, MUTATIONS)

    assert tally.broken == []
    assert tally.wrong == []
    assert tally.runs == MUTATIONS


def test_the_same_seed_makes_the_same_mutations(tmp_path: Path) -> None:
    first, second = (fuzz(tmp_path / name, 7, 60) for name in ("a", "b"))

    assert first == second


def test_a_host_held_in_memory_is_judged_as_it_is_on_the_disk(tmp_path: Path) -> None:
    host = HostTree().installed()

    assert judge(held(answers_of(host, tmp_path / "a")), AFTER) == judge(
        host.tree(tmp_path / "b"), AFTER
    )
