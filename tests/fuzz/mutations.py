"""Seeded mutations of a recorded host, and an oracle for what may pass afterwards.

The oracle: each bad host fails one check because of one thing in named files. Whatever else is
changed, that check must not pass; and where one of those files is changed, it may pass only if
`excuse`, which knows nothing of kgpuctl's parsers, finds in the changed text what would make the
host sound.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from builders import (
    AFTER,
    AMD,
    BEFORE,
    GPU,
    UNSET,
    Aims,
    HostTree,
    Region,
    config_toml,
    gpu,
)
from fuzz.garbage import Answers, Question, answers_of, report
from kgpuctl.host.recording import Answer
from kgpuctl.names import Tee
from kgpuctl.report import Status
from kgpuctl.unread import Unread

Texts = Mapping[Question, str]
DEVICE: Final = f"/sys/bus/pci/devices/{GPU}"
CPUINFO: Final = ("read", "/proc/cpuinfo")
CMDLINE: Final = ("read", "/proc/cmdline")
MODPROBE: Final = ("read", "/etc/modprobe.d/local.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A host that fails `check` because of what `files` say, and when it may be excused."""

    check: str
    host: HostTree
    files: tuple[Question, ...]
    excuse: Callable[[Texts], bool]
    aims: Aims = BEFORE


def _lacks(pattern: str) -> Callable[[Texts], bool]:
    """Excuse texts of which one does not match any more."""
    return lambda texts: any(not re.search(pattern, text) for text in texts.values())


def _has(pattern: str) -> Callable[[Texts], bool]:
    """Excuse texts of which one matches now."""
    return lambda texts: any(re.search(pattern, text) for text in texts.values())


def _iommu_is_not_off(texts: Texts) -> bool:
    """Excuse a command line whose last word about it is not `off`, and another vendor's CPU."""
    words = re.findall(r"(?<!\S)intel_iommu=(\S*)", texts.get(CMDLINE, ""))
    switched = [part for word in words for part in word.split(",") if part in {"on", "off"}]
    vendor = re.search(r"(?m)^vendor_id[^\S\n]*:[^\S\n]*(.*?)[^\S\n]*$", texts.get(CPUINFO, ""))
    other_cpu = not vendor or vendor[1] in {"AuthenticAMD", "HygonGenuine"}
    quoted = '"' in texts.get(CMDLINE, "")  # then the words are others
    return quoted or other_cpu or not switched or switched[-1] == "on"


def _all_assigned(texts: Texts) -> bool:
    """Excuse a `resource` whose second line does not say any more that it is unset memory."""
    line = texts[next(iter(texts))].split("\n")[1:2]
    flags = re.fullmatch(r"0x\w{16} 0x\w{16} 0x(\w{16})", line[0]) if line else None
    return flags is not None and not (int(flags[1], 16) & UNSET and int(flags[1], 16) & 0x200)


def _enough_memory(texts: Texts) -> bool:
    """Excuse a text in which a memory size of 26 GiB or more stands."""
    numbers = re.findall(r"\d+", texts[next(iter(texts))])
    return any(int(number) * 1024 >= 26 * 2**30 for number in numbers)


def _no_plugin_is_disabled(texts: Texts) -> bool:
    """Excuse a configuration in which nothing is said of it before the first table."""
    before = re.split(r"(?m)^\s*\[", texts[next(iter(texts))])[0]
    return not re.search(r"(?m)^\s*disabled_plugins\s*=\s*\[.*(['\"])cri\1", before)


def _gate_is_not_shut(texts: Texts) -> bool:
    """Excuse a configuration that does not shut the gate any more, or flags that name it."""
    config, flags = texts.values()
    shut = re.search(r"(?m)^featureGates:\s*\n+( +)KubeletPodResourcesGet: +false\s*$", config)
    return not shut or "KubeletPodResourcesGet" in flags


def _is(*words: str) -> Callable[[Texts], bool]:
    """Excuse a text that is one of these words."""
    return lambda texts: all(text.strip() in words for text in texts.values())


def _unset(region: Region) -> Region:
    return replace(region, flags=region.flags | UNSET)


_LOST: Final = gpu(regions={**gpu().regions, 1: _unset(gpu().regions[1])})
_INSTALLED: Final = HostTree().installed()

BAD: Final = (
    Bad(
        check="iommu.kernel-arguments",
        host=HostTree(quiet="intel_iommu=off modprobe.blacklist=nouveau"),
        files=(CMDLINE, CPUINFO),
        excuse=_iommu_is_not_off,
    ),
    Bad(
        check="host.cpu-virtualization",
        host=HostTree(without_flags=("vmx",)),
        files=(CPUINFO,),
        excuse=_has(r"\b(vmx|svm)\b"),
    ),
    Bad(
        check="iommu.interrupt-remapping",
        host=HostTree(remapped=False),
        files=(("read", "/proc/interrupts"),),
        excuse=_has("IR-"),
    ),
    Bad(
        check="iommu.kernel-arguments",
        host=HostTree(parameters={"vfio/enable_unsafe_noiommu_mode": "Y"}),
        files=(("read", "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"),),
        excuse=_is("N", "0"),
    ),
    Bad(
        check="iommu.acs-override",
        host=HostTree(quiet="pcie_acs_override=downstream"),
        files=(CMDLINE,),
        # Behind a quotation mark it is no word of its own.
        excuse=_lacks(r'\A[^"]*(?<!\S)pcie_acs_override='),
    ),
    Bad(
        check="iommu.firmware",
        host=HostTree(table=False),
        files=(("names", "/sys/firmware/acpi/tables"),),
        excuse=_has("DMAR|VIOT"),
    ),
    Bad(
        check="gpu.reserved-regions",
        host=HostTree(reserved={0x65: "direct"}),
        files=(("read", "/sys/kernel/iommu_groups/101/reserved_regions"),),
        excuse=_lacks(r"\bdirect\b(?!-)"),
    ),
    Bad(
        check="gpu.driver",
        host=HostTree(devices=(gpu(driver="nouveau"),)),
        files=(("link", f"{DEVICE}/driver"),),
        excuse=_has(r"(^|/)vfio-pci$"),
    ),
    Bad(
        check="gpu.bars",
        host=HostTree(devices=(_LOST,)),
        files=(("read", f"{DEVICE}/resource"),),
        excuse=_all_assigned,
    ),
    Bad(
        check="gpu.sriov",
        host=HostTree(devices=(gpu(files={"sriov_numvfs": "4\n"}),)),
        files=(("read", f"{DEVICE}/sriov_numvfs"),),
        excuse=_has(r"\A-?0+\n?\Z"),
    ),
    Bad(
        check="gpu.power-state",
        host=HostTree(devices=(gpu(files={"power_state": "D3cold\n"}),)),
        files=(("read", f"{DEVICE}/power_state"),),
        excuse=_is("D0", "D1", "D2", "D3hot", "unknown", "error"),
    ),
    Bad(
        check="driver.nvidia-unloaded",
        host=HostTree(modules=("nvidia", "kvm")),
        files=(),
        excuse=lambda _: False,
    ),
    Bad(
        check="driver.vfio-pci",
        host=HostTree(modprobe="install vfio_pci /bin/false\n"),
        files=(MODPROBE, ("names", "/etc/modprobe.d")),
        excuse=lambda texts: (
            _lacks(r"(?m)^\s*install\s+vfio[_-]pci\s+/bin/false\b")({MODPROBE: texts[MODPROBE]})
            or "local.conf" not in texts["names", "/etc/modprobe.d"].split("\n")
        ),
    ),
    Bad(
        check="driver.nouveau-blocked",
        host=HostTree(quiet=""),
        files=(
            CMDLINE,
            ("read", "/etc/modprobe.d/local.conf"),
            ("read", "/lib/modules/6.8.0-45-generic/modules.dep"),
            ("read", "/proc/sys/kernel/osrelease"),
        ),
        excuse=lambda texts: (
            "nouveau" in texts[CMDLINE]
            or not re.search(
                r"(?m)^[^:\n]*/nouveau\.ko\b",
                texts[("read", "/lib/modules/6.8.0-45-generic/modules.dep")],
            )
        ),
    ),
    Bad(
        check="runtime.config",
        host=HostTree().adding(
            {"/etc/containerd/config.toml": config_toml(more='disabled_plugins = ["cri"]')}
        ),
        files=(("read", "/etc/containerd/config.toml"),),
        excuse=_no_plugin_is_disabled,
    ),
    Bad(
        check="runtime.imports",
        host=HostTree().adding(
            {"/etc/containerd/config.toml": config_toml(imports=["/etc/containerd/gone.toml"])}
        ),
        files=(("read", "/etc/containerd/config.toml"),),
        excuse=_lacks(r"(?m)^\s*imports\s*=.*/etc/containerd/gone\.toml"),
    ),
    Bad(
        check="kubelet.pod-resources",
        host=HostTree().adding(
            {"/var/lib/kubelet/config.yaml": "featureGates:\n  KubeletPodResourcesGet: false\n"}
        ),
        files=(
            ("read", "/var/lib/kubelet/config.yaml"),
            ("read", "/var/lib/kubelet/kubeadm-flags.env"),
        ),
        excuse=_gate_is_not_shut,
    ),
    Bad(
        check="memory.headroom",
        host=HostTree(memory=(16, 8)),
        files=(("read", "/proc/meminfo"),),
        excuse=_enough_memory,
    ),
    Bad(
        check="tee.snp",
        host=HostTree(cpu=AMD, parameters={"kvm_amd/sev": "Y", "kvm_amd/sev_es": "Y"}),
        files=(("read", "/sys/module/kvm_amd/parameters/sev_snp"),),
        excuse=_is("Y", "1"),
        aims=Aims(confidential=Tee.SNP),
    ),
    Bad(
        check="runtime.kata-files",
        host=_INSTALLED.adding({}, "/opt/kata/bin/qemu-system-x86_64"),
        files=(
            (
                "read",
                "/opt/kata/share/defaults/kata-containers/configuration-qemu-nvidia-gpu.toml",
            ),
            ("read", "/etc/containerd/conf.d/kata-deploy.toml"),
        ),
        excuse=lambda texts: any(
            needed not in text
            for text, needed in zip(
                texts.values(), ("/opt/kata/bin/qemu-system-x86_64", "ConfigPath"), strict=True
            )
        ),
        aims=AFTER,
    ),
)


ODD: Final = (
    *(b"\0", b"\xff", b"\n", b"\n\n", b" ", b"\t", b'"', b"'", b"[", b"{", b"=", b":", b"#", b"%"),
    *(b"\xe2\x80\xa8", b"\xc2\x85", b"\r\n", b"\\\n", b"!!int ''", b"&a *a", b"\x1b["),
)


class Mutator:
    """Makes one change after another, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  # it hides nothing
        self.ways = (
            self.flip,
            self.cut,
            self.cut_out,
            self.double,
            self.swap_lines,
            self.drop_line,
            self.change_number,
            self.insert,
            self.join_lines,
            self.change_case,
        )

    def change(self, content: bytes) -> bytes:
        """Return a content with one to three changes."""
        for _ in range(self.chance.choice((1, 1, 1, 2, 3))):
            content = self.chance.choice(self.ways)(content)
        return content

    def flip(self, content: bytes) -> bytes:
        """Flip a bit, or replace a byte."""
        if not content:
            return b"\0"
        raw, place = bytearray(content), self.chance.randrange(len(content))
        raw[place] ^= self.chance.choice((1, 2, 4, 8, 16, 32, 64, 128, 255))
        return bytes(raw)

    def cut(self, content: bytes) -> bytes:
        """Cut the end off, or the beginning."""
        place = self.chance.randrange(len(content) + 1)
        return self.chance.choice((content[:place], content[place:]))

    def cut_out(self, content: bytes) -> bytes:
        """Take a piece out."""
        first, last = self._piece(content)
        return content[:first] + content[last:]

    def double(self, content: bytes) -> bytes:
        """Say a piece twice, or very often."""
        first, last = self._piece(content)
        return (
            content[:last] + content[first:last] * self.chance.choice((1, 2, 50)) + content[last:]
        )

    def swap_lines(self, content: bytes) -> bytes:
        """Swap two lines."""
        lines = content.split(b"\n")
        one, other = (self.chance.randrange(len(lines)) for _ in range(2))
        lines[one], lines[other] = lines[other], lines[one]
        return b"\n".join(lines)

    def drop_line(self, content: bytes) -> bytes:
        """Leave a line out."""
        lines = content.split(b"\n")
        del lines[self.chance.randrange(len(lines))]
        return b"\n".join(lines)

    def join_lines(self, content: bytes) -> bytes:
        """Make two lines one."""
        place = content.find(b"\n", self.chance.randrange(len(content) + 1))
        return content if place < 0 else content[:place] + content[place + 1 :]

    def change_number(self, content: bytes) -> bytes:
        """Put another number in place of one."""
        found = list(re.finditer(rb"[0-9a-f]*[0-9][0-9a-f]*", content))
        if not found:
            return content
        number = self.chance.choice(found)
        others = (b"0", b"1", b"-1", b"9" * 20, b"9" * 5000, b"1e400", b"0x", b"", b"00", b"f" * 16)
        return content[: number.start()] + self.chance.choice(others) + content[number.end() :]

    def change_case(self, content: bytes) -> bytes:
        """Write a piece in capitals."""
        first, last = self._piece(content)
        return content[:first] + content[first:last].swapcase() + content[last:]

    def insert(self, content: bytes) -> bytes:
        """Put something odd somewhere."""
        place = self.chance.randrange(len(content) + 1)
        more = self.chance.choice(ODD)
        return content[:place] + more + content[place:]

    def _piece(self, content: bytes) -> tuple[int, int]:
        first = self.chance.randrange(len(content) + 1)
        return first, min(len(content), first + self.chance.randrange(1, 40))


@dataclass(slots=True)
class Tally:
    """What a run of mutations came to."""

    runs: int = 0
    excused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def is_excused(bad: Bad, answers: Answers) -> bool:
    """Say whether the text of the deciding files itself excuses a pass."""
    return bad.excuse({key: _text(answers[key]) for key in bad.files})


def _as_bytes(answer: Answer) -> bytes | None:
    """Return an answer as bytes that can be mutated, None where there is nothing to change."""
    match answer:
        case bytes():
            return answer
        case str():
            return answer.encode("utf-8", "surrogateescape")
        case tuple():
            return "\n".join(answer).encode("utf-8", "surrogateescape")
        case _:
            return None


def _back(content: bytes, answer: Answer) -> Answer:
    """Return mutated bytes as the kind of answer that they were."""
    if isinstance(answer, bytes):
        return content
    text = content.decode("utf-8", "surrogateescape")
    return tuple(sorted(text.split("\n"))) if isinstance(answer, tuple) else text


def _text(answer: Answer) -> str:
    return "" if isinstance(answer, Unread) else (_as_bytes(answer) or b"").decode(errors="replace")


def mutated(answers: Answers, mutator: Mutator, count: int) -> Iterator[tuple[Question, Answers]]:
    """Yield hosts in which one answer is not what it was; each question's turn comes."""
    questions = sorted(key for key, answer in answers.items() if _as_bytes(answer) is not None)
    offset = mutator.chance.randrange(len(questions))
    for number in range(count):
        question = questions[(number + offset) % len(questions)]
        answer = answers[question]
        changed = _back(mutator.change(_as_bytes(answer) or b""), answer)
        yield question, {**answers, question: changed}


def attack(bad: Bad, folder: Path, seed: int, count: int, tally: Tally) -> None:
    """Mutate a bad host so many times and judge each; half of the changes go to what decides."""
    answers = answers_of(bad.host, folder, bad.aims)
    deciding = {key: answers[key] for key in bad.files}
    mutator = Mutator(seed)
    runs = [mutated(answers, mutator, count - count // 2 if deciding else count)]
    if deciding:
        runs.append(
            (question, {**answers, **changed})
            for question, changed in mutated(deciding, mutator, count // 2)
        )
    for run_of_changes in runs:
        for question, changed in run_of_changes:
            _judge(bad, question, changed, tally)


def _judge(bad: Bad, question: Question, answers: Answers, tally: Tally) -> None:
    tally.runs += 1
    changed = f"{bad.check}: {' '.join(question)} = {answers[question]!r:.200}"
    try:
        results = report(answers, bad.aims).results
    except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
        tally.broken.append(f"{changed}: {type(error).__name__}: {error}")
        return
    if all(result.status is Status.PASSED for result in results if result.id == bad.check):
        if question in bad.files and is_excused(bad, answers):
            tally.excused[bad.check] += 1
        else:
            tally.wrong.append(changed)


def fuzz(folder: Path, seed: int, count: int) -> Tally:
    """Spread `count` mutations over all bad hosts."""
    tally = Tally()
    for number, bad in enumerate(BAD):
        share = (count + number) // len(BAD)
        attack(bad, folder / str(number), seed * 1000 + number, share, tally)
    return tally
