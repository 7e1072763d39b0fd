"""Recordings: what is replayed is what was read, and a hostile one only ends the run."""

import errno
import gzip
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builders import (
    AFTER,
    AMD,
    BEFORE,
    COCO_AFTER,
    K3S,
    MICROK8S,
    TIME,
    Aims,
    HostTree,
    containerd_1_7,
    hgx,
    judge,
    open_tree,
    recording,
    replayed,
    verdict,
)
from fuzz import archives
from fuzz.archives import ATTACKS, LINE, member, recorded
from fuzz.bounded import bounded
from fuzz.limits import LIMITED, NOBODY, RUN, environment, run_limited
from kgpuctl.errors import KgpuctlError, UnreachableError, UsageError
from kgpuctl.host.facts import Node
from kgpuctl.host.recording import Recorder, RecordingTree, open_recording
from kgpuctl.names import Stack
from kgpuctl.unread import Reason, Unread
from running import Ended, kgpuctl

IS_ROOT = os.geteuid() == 0


def is_told_in_a_sentence_and_a_remedy(ended: Ended) -> bool:
    """Say whether an error came in its two lines, without a traceback."""
    first, second = ended.err.splitlines()
    return (
        first.startswith("error: ")
        and first.endswith(".")
        and second.startswith("  try: ")
        and second.endswith(".")
    )


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Return a directory for temporary files, which must be empty afterwards."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a sound host as a root directory."""
    return HostTree().write(tmp_path / "root")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Return a recording of a sound host."""
    file = tmp_path / "sound.tar.gz"
    file.write_bytes(recording(HostTree().installed().tree(tmp_path / "sound-root"), AFTER))
    return file


# Recording and replaying


def without_source(text: str) -> str:
    """Return a JSON report without where its facts are from."""
    report = json.loads(text)
    del report["subject"]["source"]
    return json.dumps(report, indent=2, ensure_ascii=False)


@pytest.mark.parametrize("source", ["this machine", "a sound tree", "an empty tree"])
def test_a_replayed_report_is_the_recorded_one_byte_for_byte(tmp_path: Path, source: str) -> None:
    folder = tmp_path / "root"
    folder.mkdir()
    if source == "a sound tree":
        HostTree().installed().write(folder)
    arguments = () if source == "this machine" else ("--root", folder)
    file = tmp_path / "host.tar.gz"

    first = kgpuctl("preflight", *arguments, "--record", file, "-o", "json")
    second = kgpuctl("preflight", "--from", file, "-o", "json")

    assert (first.exit_code, first.err) == (second.exit_code, second.err)
    assert without_source(first.out) == without_source(second.out)
    assert json.loads(second.out)["subject"]["source"]["kind"] == "recording"


HOSTS = {
    "plain": HostTree(),
    "installed": HostTree().installed(),
    "coco": HostTree(kube=containerd_1_7()).installed(Stack.COCO_OPERATOR),
    "amd k3s": HostTree(cpu=AMD, kube=K3S),
    "microk8s": HostTree(kube=MICROK8S),
    "hgx": HostTree(devices=hgx("nvidia"), modules=("nvidia",)),
    "bad": HostTree(
        quiet="intel_iommu=off pcie_acs_override=downstream",
        remapped=False,
        modules=("nouveau",),
        modprobe="install vfio_pci /bin/false\n",
        memory=(8, 4),
    ),
    "broken": HostTree().adding(
        {
            "/etc/containerd/config.toml": b"\xff\xfe version = 3",
            "/var/lib/kubelet/config.yaml": "a: [b",
            "/proc/interrupts": b"\0\1\2",
            "/proc/iomem": b"",
        }
    ),
}


@pytest.mark.parametrize("aims", [BEFORE, AFTER, COCO_AFTER], ids=["before", "after", "coco"])
@pytest.mark.parametrize("name", HOSTS)
def test_every_result_is_replayed(tmp_path: Path, name: str, aims: Aims) -> None:
    tree = HOSTS[name].tree(tmp_path / "root")

    assert replayed(tree, tmp_path, aims).results == verdict(tree, aims).results


def test_every_kind_of_answer_survives(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 100%\t\n\\%0A")
    answers: dict[tuple[str, str], object] = {
        ("read", "/empty"): b"",
        ("read", "/text"): b"a\tb\n%41%zz\r\n",
        ("read", "/bytes"): bytes(range(256)),
        ("read", "/long"): bytes(range(256)) * 400,
        ("read", f"/{odd}"): b"odd",
        ("read", "/gone"): None,
        ("read", "/denied"): Unread("/denied", Reason.NOT_PERMITTED),
        ("read", "/broken"): Unread("/elsewhere", Reason.UNUSABLE, f"no {odd}"),
        ("names", "/none"): (),
        ("names", "/some"): ("a", "b c", odd),
        ("link", "/link"): f"../{odd}",
        ("node", "/node"): Node("char", 0o666),
        ("node", "/nothing"): Unread("/nothing", Reason.NOT_RECORDED),
        ("ask", "holders"): "complete\n1\tqemu\t/dev/vfio/1\t-",
        ("ask", "kvm"): Unread("kvm", Reason.NOT_OFFERED, "a directory tree cannot tell"),
    }
    recorder = Recorder(open_tree(tmp_path))
    recorder.answers.update(answers)  # type: ignore[arg-type]  # what a Tree may answer
    file = tmp_path / "file"
    file.write_bytes(recorder.pack(TIME))

    tree = open_recording(str(file))

    assert tree.answers == answers
    assert tree.time == TIME


def test_the_same_answers_make_the_same_bytes(tmp_path: Path) -> None:
    tree = HostTree().tree(tmp_path)

    assert recording(tree) == recording(tree)


def test_a_recording_is_an_ordinary_archive_of_ordinary_files(sound: Path) -> None:
    with tarfile.open(sound, "r:gz") as tar:
        members = tar.getmembers()

    assert members[0].name == "manifest"
    assert all(item.isreg() and item.mode == 0o600 for item in members)


def test_only_its_owner_may_read_a_recording(tmp_path: Path, root: Path) -> None:
    kgpuctl("preflight", "--root", root, "--record", tmp_path / "file")

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


# Attacks


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused(tmp_path: Path, attack: str) -> None:
    file = tmp_path / "attack"
    file.write_bytes(ATTACKS[attack]())

    with pytest.raises(UnreachableError) as refused, bounded(30):
        open_recording(str(file))

    message = str(refused.value)
    assert message.startswith(f"{file} ")
    assert message.endswith(".")
    assert len(message) < 400
    assert message.isprintable()
    assert refused.value.remedy.endswith(".")


IN_A_PROCESS = [
    "a million members",
    "a gigabyte of zeros",
    "a gigabyte of members",
    "a gigabyte after the end",
    "many pax records",
    "forty sparse members",
    "a name that climbs",
    "noise",
]


@pytest.mark.parametrize("attack", IN_A_PROCESS)
def test_an_attack_ends_the_run_within_bounds(tmp_path: Path, scratch: Path, attack: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    file = place / "attack"
    file.write_bytes(ATTACKS[attack]())

    ended = run_limited("preflight", "--from", file, cwd=place, TMPDIR=str(scratch))

    assert (ended.exit_code, ended.out) == (4, ""), ended.err
    assert is_told_in_a_sentence_and_a_remedy(ended)
    assert list(scratch.iterdir()) == []
    assert list(place.iterdir()) == [file]


def test_programs_get_the_envelope_of_a_refused_recording(tmp_path: Path) -> None:
    file = tmp_path / "attack"
    file.write_bytes(archives.noise(100))

    ended = kgpuctl("preflight", "--from", file, "-o", "json")

    envelope = json.loads(ended.out)
    assert envelope["exitCode"] == ended.exit_code == 4
    assert envelope["error"]["message"] in ended.err
    assert envelope["results"] == []


def test_twentieths_of_a_recording_are_refused(sound: Path) -> None:
    content = sound.read_bytes()
    for twentieth in range(20):
        sound.write_bytes(content[: len(content) * twentieth // 20])

        with pytest.raises(UnreachableError):
            open_recording(str(sound))


@pytest.mark.parametrize("missing", [*range(1, 10), 12, 16, 40])
def test_a_recording_without_its_last_bytes_is_refused(sound: Path, missing: int) -> None:
    content = sound.read_bytes()
    sound.write_bytes(content[:-missing])

    with pytest.raises(UnreachableError):
        open_recording(str(sound))


def test_one_flipped_bit_is_found_wherever_it_is(sound: Path) -> None:
    content = sound.read_bytes()
    whole = open_recording(str(sound)).answers
    chance = random.Random(20)  # noqa: S311  # it hides nothing
    places = {*range(10), *range(len(content) - 10, len(content))}
    places |= {chance.randrange(len(content)) for _ in range(300)}
    accepted = []
    for place in sorted(places):
        flipped = bytearray(content)
        flipped[place] ^= 1 << chance.randrange(8)
        sound.write_bytes(flipped)
        try:
            answers = open_recording(str(sound)).answers
        except KgpuctlError:
            continue
        if answers != whole:
            accepted.append(place)

    assert accepted == []


def test_one_flipped_bit_in_the_archive_below_never_raises_anything_else(sound: Path) -> None:
    content = gzip.decompress(sound.read_bytes())
    chance = random.Random(21)  # noqa: S311  # it hides nothing
    for _ in range(300):
        flipped = bytearray(content)
        # The manifest's header and the first of its lines, more often than what follows.
        reach = chance.choice((512, 2048, len(content)))
        flipped[chance.randrange(reach)] ^= 1 << chance.randrange(8)
        sound.write_bytes(gzip.compress(flipped, 1))
        try:
            judge(open_recording(str(sound)), AFTER)
        except KgpuctlError as error:
            assert error.remedy  # noqa: PT017  # most flips are found, some change one answer


@pytest.mark.parametrize(
    ("kind", "code"),
    [("directory", 2), ("fifo", 4), ("missing", 2), ("below a file", 4), ("dangling link", 2)],
)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, scratch: Path, kind: str, code: int
) -> None:
    place = tmp_path / "place"
    match kind:
        case "directory":
            place.mkdir()
        case "fifo":
            os.mkfifo(place)
        case "dangling link":
            place.symlink_to("nowhere")
        case "below a file":
            place.write_text("")
            place /= "file"
        case _:
            pass

    ended = run_limited("preflight", "--from", place, TMPDIR=str(scratch))

    assert (ended.exit_code, ended.out) == (code, "")
    assert is_told_in_a_sentence_and_a_remedy(ended)


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
def test_a_recording_without_permission_is_unreachable(sound: Path) -> None:
    sound.chmod(0o600)
    ended = run_limited("preflight", "--from", sound, cwd=Path("/"), before=NOBODY)

    assert (ended.exit_code, ended.out) == (4, ""), ended.err
    assert "ermission denied" in ended.err
    assert is_told_in_a_sentence_and_a_remedy(ended)


def test_an_empty_name_of_a_recording_does_not_judge_this_host() -> None:
    ended = kgpuctl("preflight", "--from", "")

    assert (ended.exit_code, ended.out) == (2, "")


# What a recording may say


DIGITS = "9" * 5000
LIES: dict[str, tuple[tuple[str, str], object]] = {
    "a group of 5000 digits": (
        ("link", "/sys/bus/pci/devices/0000:65:00.0/iommu_group"),
        f"../{DIGITS}",
    ),
    "a group directory of 5000 digits": (
        ("names", "/sys/kernel/iommu_groups"),
        ("101", DIGITS),
    ),
    "a kubelet version of 5000 digits": (("ask", "version /usr/bin/kubelet"), f"v{DIGITS}.1.1"),
    "a containerd version of 5000 digits": (
        ("ask", "version /usr/bin/containerd"),
        f"containerd v{DIGITS}.1.1",
    ),
    "free space of 5000 digits": (("ask", "space /opt"), DIGITS),
    "a negative space": (("ask", "space /opt"), "-5"),
    "memory of 5000 digits": (("read", "/proc/meminfo"), f"MemTotal: {DIGITS} kB\n".encode()),
    "a KVM that says nothing": (("ask", "kvm"), ""),
    "a KVM of many digits": (("ask", "kvm"), f"api={DIGITS} vm=yes error="),
    "holders of nonsense": (("ask", "holders"), "complete\nnonsense"),
    "holders in another alphabet": (("ask", "holders"), "complete\n\u0663\tq\t/dev/vfio/1\t-"),
    "a kernel of noise": (("read", "/proc/sys/kernel/osrelease"), archives.noise(64)),
    "a driver that is a path": (
        ("link", "/sys/bus/pci/devices/0000:65:00.0/driver"),
        "/" * 100,
    ),
    "devices with odd names": (
        ("names", "/sys/bus/pci/devices"),
        ("0000:65:00.0", "", "..", "/", "\udcff", "0000:65:00.0\n", "a\0b"),
    ),
    "names where a file was": (("read", "/proc/cpuinfo"), ("a", "b")),
    "a file where names were": (("names", "/sys/bus/pci/devices"), b"a"),
    "a node where a link was": (
        ("link", "/sys/bus/pci/devices/0000:65:00.0/driver"),
        Node("file", 0),
    ),
    "text where a node was": (("node", "/dev/kvm"), "yes"),
}


@pytest.mark.parametrize("lie", LIES)
def test_no_answer_of_a_recording_breaks_a_check(tmp_path: Path, lie: str) -> None:
    question, answer = LIES[lie]
    recorder = Recorder(HostTree().installed().tree(tmp_path / "root"))
    judge(recorder, AFTER)
    assert question in recorder.answers
    answers = {**recorder.answers, question: answer}

    with bounded():
        judge(RecordingTree("file", TIME, answers), AFTER)  # type: ignore[arg-type]


ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.mark.parametrize("output", ["human", "markdown", "junit"])
def test_a_recording_cannot_send_commands_to_the_terminal(tmp_path: Path, output: str) -> None:
    recorder = Recorder(HostTree().installed().tree(tmp_path / "root"))
    judge(recorder, AFTER)
    recorder.answers["link", "/sys/bus/pci/devices/0000:65:00.0/driver"] = f"../{ESCAPE}"
    recorder.answers["ask", "holders"] = f"complete\n7\tq{ESCAPE}\t/dev/vfio/1\t-"
    recorder.answers["ask", "version /usr/bin/containerd"] = f"containerd v1.1.1{ESCAPE}"
    recorder.answers["names", "/etc/containerd/conf.d"] = (f"{ESCAPE}.toml",)
    file = tmp_path / f"host{ESCAPE[:3]}"
    file.write_bytes(recorder.pack(f"{TIME[:10]}{ESCAPE}"))

    ended = kgpuctl("preflight", "--from", file, "--after-install", "-v", "-o", output)

    assert ended.exit_code == 3
    assert "\x1b" not in ended.out + ended.err
    assert "\x07" not in ended.out + ended.err


# Where a recording is written


def test_an_existing_file_is_left_alone(tmp_path: Path, root: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")

    ended = kgpuctl("preflight", "--root", root, "--record", file)

    assert (ended.exit_code, ended.out) == (2, "")
    assert "--force" in ended.err
    assert file.read_text() == "mine"


def test_an_existing_file_is_replaced_when_forced(tmp_path: Path, root: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")

    ended = kgpuctl("preflight", "--root", root, "--record", file, "--force")

    assert ended.exit_code == 0
    assert open_recording(str(file)).answers
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "root"]


@pytest.mark.parametrize("target", ["directory", "fifo", "dangling link", "/dev/null", "/dev/full"])
def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, root: Path, target: str) -> None:
    place = tmp_path / "place" if target[0] != "/" else Path(target)
    match target:
        case "directory":
            place.mkdir()
        case "fifo":
            os.mkfifo(place)
        case "dangling link":
            place.symlink_to("nowhere")
        case _:
            pass
    before = place.lstat()

    ended = kgpuctl("preflight", "--root", root, "--record", place, "--force")

    after = place.lstat()
    assert (ended.exit_code, ended.out) == (2, "")
    assert (before.st_ino, before.st_mode, before.st_rdev) == (
        after.st_ino,
        after.st_mode,
        after.st_rdev,
    )


@pytest.mark.parametrize(
    ("name", "code"), [("missing/file", 2), ("root/etc/os-release/file", 2), ("a" * 300, 2)]
)
def test_a_place_where_no_file_can_be_is_refused(
    tmp_path: Path, root: Path, name: str, code: int
) -> None:
    ended = kgpuctl("preflight", "--root", root, "--record", tmp_path / name)

    assert (ended.exit_code, ended.out) == (code, "")
    assert is_told_in_a_sentence_and_a_remedy(ended)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, root: Path, scratch: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()

    # Python ignores SIGXFSZ, so a write beyond the limit fails as on a full disk.
    ended = run_limited(
        *("preflight", "--root", root, "--record", place / "file"),
        limits={"RLIMIT_FSIZE": 1000},
        TMPDIR=str(scratch),
    )

    assert (ended.exit_code, ended.out) == (5, "")
    assert is_told_in_a_sentence_and_a_remedy(ended)
    assert os.strerror(errno.EFBIG) in ended.err
    assert list(place.iterdir()) == list(scratch.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, root: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")

    ended = run_limited(
        *("preflight", "--root", root, "--record", file, "--force"),
        limits={"RLIMIT_FSIZE": 1000},
    )

    assert ended.exit_code == 5
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "root"]


# Ctrl-C

READY = "import kgpuctl.__main__\nprint('ready', file=sys.stderr, flush=True)\n"


def start(*arguments: str | Path, scratch: Path) -> subprocess.Popen[str]:
    """Start kgpuctl in a process group of its own; return when it is about to begin."""
    started = subprocess.Popen(
        [sys.executable, "-c", LIMITED + READY + RUN, "", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(scratch)),
        start_new_session=True,
    )
    assert started.stderr is not None
    assert started.stderr.readline() == "ready\n"
    return started


def interrupt(started: subprocess.Popen[str], delay: float) -> Ended:
    """Press Ctrl-C after a while; return how the process ended."""
    try:
        started.wait(delay)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGINT)
    out, err = started.communicate(timeout=60)
    return Ended(started.returncode, out, err)


def is_whole_or_absent(file: Path) -> bool:
    """Say whether a recording was either written as a whole or not at all."""
    return not file.exists() or bool(open_recording(str(file)).answers)


def test_an_interrupt_at_any_time_leaves_nothing_behind(
    tmp_path: Path, root: Path, scratch: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    arguments = ("preflight", "--root", root, "--record", place / "file", "--force")
    codes = set()
    for number in range(32):
        ended = interrupt(start(*arguments, scratch=scratch), 0.001 + number * 0.015)
        codes.add(ended.exit_code)

        assert "Traceback" not in ended.err
        assert {path.name for path in place.iterdir()} <= {"file"}
        assert is_whole_or_absent(place / "file")
        assert list(scratch.iterdir()) == []

    assert 130 in codes
    # Once Python has ended, and only its process is left, the signal ends that; shells say 130.
    assert codes <= {0, 130, -signal.SIGINT}


def test_an_interrupt_while_it_writes_is_told(tmp_path: Path, scratch: Path) -> None:
    host = HostTree(devices=tuple(replace(gpu, group=None) for gpu in hgx("nvidia")))
    root = host.write(tmp_path / "root")
    read_end, write_end = os.pipe()
    filled = fill(write_end)
    process = subprocess.Popen(
        [sys.executable, "-m", "kgpuctl", "preflight", "--root", str(root), "-o", "json"],
        stdin=subprocess.DEVNULL,
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(scratch)),
        start_new_session=True,
    )
    os.close(write_end)
    wait_until_blocked(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    os.close(read_end)

    assert filled
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err


def fill(pipe: int) -> int:
    """Fill a pipe, so that the next who writes into it must wait; return how much it took."""
    os.set_blocking(pipe, False)
    size = 0
    try:
        while True:
            size += os.write(pipe, bytes(4096))
    except BlockingIOError:
        os.set_blocking(pipe, True)
        return size


def wait_until_blocked(pid: int) -> None:
    """Wait until a process sleeps in a write to a pipe."""
    place = Path(f"/proc/{pid}/syscall")
    with bounded(60):
        while True:
            # The first number is the system call; 1 is write on x86-64, 64 on aarch64.
            if place.read_text().split()[0] in {"1", "64"}:
                return
            os.sched_yield()


# Secrets

SECRETS = ("S3CR3T-one", "S3CR3T-two", "S3CR3T-three")
ONE, TWO, THREE = SECRETS
CONTAINERD_SECRETS = f"""\
version = 3
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins.'io.containerd.cri.v1.images'.registry.configs."r.example".auth]
username = "u"
password = "{ONE}"
[plugins.'io.containerd.cri.v1.images'.registry.configs]
"q.example" = {{ auth = {{ username = "u", password = "{TWO}" }}, tls = {{ key = "{TWO}" }} }}
[plugins.'io.containerd.cri.v1.images'.registry.headers]
Authorization = [
  "Basic {THREE}",
]
other = \"\"\"
{ONE}
{TWO}\"\"\"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
KUBELET_SECRETS = f"""\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
featureGates:
  KubeletPodResourcesGet: true
runtimeRequestTimeout: 20m
staticPodURLHeader:
  Authorization:
  - {ONE}
tokens:
- {TWO}
block: |

  {THREE}
# {ONE}
"""
FLAGS_SECRETS = (
    f"KUBELET_KUBEADM_ARGS=\"--v=2 --bootstrap-token={ONE} --password '{TWO}' --x=a,{THREE}\"\n"
    f"export HTTPS_PROXY=http://user:{ONE}@proxy:3128/ # {TWO}\n"
)
K3S_SECRETS = f"""\
token: {ONE}
agent-token: "{TWO}"
datastore-endpoint: mysql://user:{THREE}@tcp(db:3306)/k3s
kubelet-arg:
  - "authentication-token-webhook=true"
  - feature-gates=KubeletPodResourcesGet=true
  - runtime-request-timeout=20m
  - provider-id={ONE}
etcd-s3-secret-key: {{a: {TWO}}}
"""
COMMAND_LINE = (
    f'token={ONE} foo.password="{TWO} {THREE}" url=http://u:{ONE}@h/ ip=a,{TWO} '
    "modprobe.blacklist=nouveau"
)
MODPROBE = f"options foo key={ONE}\nblacklist nouveau # {TWO}\ninstall bar /x --token {THREE}\n"
SECRET_HOSTS = {
    "kubeadm": HostTree(quiet=COMMAND_LINE, modprobe=MODPROBE).adding(
        {
            "/etc/containerd/config.toml": CONTAINERD_SECRETS,
            "/etc/containerd/conf.d/a.toml": CONTAINERD_SECRETS.partition("imports")[0]
            + f'[a]\npassword = "{THREE}"\n',
            "/var/lib/kubelet/config.yaml": KUBELET_SECRETS,
            "/var/lib/kubelet/kubeadm-flags.env": FLAGS_SECRETS,
            "/etc/default/kubelet": FLAGS_SECRETS,
            "/etc/cdi/x.yaml": f"cdiVersion: 0.5.0\nkind: a/b\ncontainerEdits: {{env: [T={TWO}]}}\n"
            "devices: []\n",
        }
    ),
    "k3s": HostTree(kube=K3S, quiet=COMMAND_LINE).adding(
        {"/etc/rancher/k3s/config.yaml": K3S_SECRETS}
    ),
    "broken files": HostTree(quiet=COMMAND_LINE).adding(
        {
            "/etc/containerd/config.toml": f'password = "{ONE}"\n{TWO} {TWO}\n',
            "/var/lib/kubelet/config.yaml": f"{ONE}: [{TWO}\n{THREE}: ]\n",
            "/var/lib/kubelet/kubeadm-flags.env": b"# caf\xe9\n" + FLAGS_SECRETS.encode(),
            "/etc/modprobe.d/a.conf": f"{THREE} {ONE}\n",
            "/etc/cdi/x.yaml": f"{ONE}: {{{TWO}",
        }
    ),
    "broken k3s": HostTree(kube=K3S).adding(
        {"/etc/rancher/k3s/config.yaml": b"# caf\xe9\n" + K3S_SECRETS.encode()}
    ),
}


def everything_in(file: Path) -> bytes:
    """Return an archive as it is, unpacked, and each of its members."""
    raw = file.read_bytes()
    unpacked = gzip.decompress(raw)
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
        names = "\n".join(tar.getnames())
    return raw + unpacked + names.encode()


@pytest.mark.parametrize("name", SECRET_HOSTS)
def test_no_secret_is_recorded_or_told(tmp_path: Path, name: str) -> None:
    root = SECRET_HOSTS[name].write(tmp_path / "root")
    file = tmp_path / "file"

    told = kgpuctl("preflight", "--root", root, "--record", file, "-v")
    as_json = kgpuctl("preflight", "--from", file, "-v", "-o", "json")

    everywhere = everything_in(file).decode("latin-1") + told.out + told.err + as_json.out
    assert [secret for secret in SECRETS if secret in everywhere] == []


@pytest.mark.parametrize("name", SECRET_HOSTS)
def test_what_is_left_out_changes_no_result(tmp_path: Path, name: str) -> None:
    tree = SECRET_HOSTS[name].tree(tmp_path / "root")

    assert replayed(tree, tmp_path).results == verdict(tree).results
    assert replayed(tree, tmp_path, AFTER).results == verdict(tree, AFTER).results


# What cannot be seen as an attack from the outside


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    """Cut a content into pieces."""
    for start_at in range(0, len(content), size):
        yield content[start_at : start_at + size]


def test_a_recording_packed_again_by_other_programs_is_read(sound: Path) -> None:
    whole = open_recording(str(sound)).answers
    content = gzip.decompress(sound.read_bytes())
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(piece) for piece in pieces(content, 777))

    sound.write_bytes(packed + packer.flush())

    assert open_recording(str(sound)).answers == whole


def test_the_smallest_recording_is_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(recorded(lines=LINE))

    assert open_recording(str(file)).answers == {("read", "/x"): b"abc"}


def test_a_recording_through_a_link_is_read(sound: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(sound)

    assert open_recording(str(tmp_path / "link")).answers


def test_what_was_never_asked_was_not_recorded(sound: Path) -> None:
    tree = open_recording(str(sound))

    for fact in (
        tree.read("/x"),
        tree.names("/x"),
        tree.link("/x"),
        tree.node("/x"),
        tree.ask("x"),
    ):
        assert isinstance(fact, Unread)
        assert fact.reason is Reason.NOT_RECORDED


def test_a_recording_that_is_not_there_is_a_mistake_of_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_recording(str(tmp_path / "nothing"))


def test_a_name_that_no_kernel_takes_is_refused() -> None:
    with pytest.raises(KgpuctlError):
        open_recording("a\0b")


def test_a_member_in_the_old_style_is_read(tmp_path: Path) -> None:
    content = b"abc" * 300
    block = archives.patched(archives.header("files/0", len(content)), 156, b"\0")
    file = tmp_path / "file"
    file.write_bytes(recorded(block + archives.padded(content), lines=archives.FILE_LINE))

    assert open_recording(str(file)).read("/x") == content


def test_the_attacks_are_wrong_by_themselves_only(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(recorded(member("files/0", b"abc"), lines=archives.FILE_LINE))

    assert open_recording(str(file)).read("/x") == b"abc"
