"""What a run found: plain frozen values, ready for any renderer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from kgpuctl.errors import KgpuctlError


def printable(text: str) -> str:
    """Replace what is not printable: a host's files must not command the reader's terminal."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text
    )


class Status(StrEnum):
    """How one check or step ended; the order is from good to bad."""

    PASSED = "passed"
    SKIPPED = "skipped"
    WARNED = "warned"
    UNKNOWN = "unknown"
    FAILED = "failed"


# Stands in a remedy for the subject: equal remedies of many nodes become one command for all.
SUBJECT: Final = "{subject}"
ONE_SUBJECT: Final = "{one subject}"  # where a command takes only one
SUBJECTS_TOLD: Final = 8

PROBLEMS = frozenset({Status.WARNED, Status.UNKNOWN, Status.FAILED})


@dataclass(frozen=True, slots=True)
class KernelArguments:
    """Words to put on the kernel command line, and words to take off; takes effect at boot."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleConfig:
    """A file of our own in /etc/modprobe.d; takes effect at boot, from the initramfs too."""

    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadModules:
    """Kernel modules to load now and at each boot."""

    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopUnit:
    """A systemd unit to stop now and keep from starting again."""

    unit: str


Fix = KernelArguments | ModuleConfig | LoadModules | StopUnit


class Remedy(NamedTuple):
    """What a person does about a finding; `fixes` is the part that a script can do for them.

    `by_hand` is what of the text is left to do where `fixes` do not do all of it.
    """

    text: str
    fixes: tuple[Fix, ...] = ()
    by_hand: str = ""

    def said_of(self, subjects: Sequence[str]) -> str:
        """Return the text for these subjects; of very many only that there are so many."""
        text = self.text.replace(ONE_SUBJECT, subjects[0] if subjects else "NODE")
        if SUBJECT not in text or len(subjects) <= SUBJECTS_TOLD:
            return text.replace(SUBJECT, " ".join(subjects) or "NODE")
        told = text.replace(SUBJECT, "NODE…")
        return f"{told} (NODE…: the {len(subjects)} nodes that -o json lists)"


class Result(NamedTuple):
    """One line of a report: what one check says of one subject (a device, a node, or the whole)."""

    id: str
    title: str
    status: Status
    subject: str = ""
    message: str = ""
    remedy: Remedy | None = None
    docs: str = ""
    waived: bool = False

    @property
    def remedy_text(self) -> str:
        """Return what to do about this one result."""
        return self.remedy.said_of((self.subject,) if self.subject else ()) if self.remedy else ""

    @property
    def is_problem(self) -> bool:
        """Whether a person should look at it: anything but passed, skipped or waived."""
        return self.status in PROBLEMS and not self.waived


class Subject(NamedTuple):
    """What was judged: `lines` for people, `data` (JSON values) for programs."""

    lines: tuple[str, ...]
    data: Mapping[str, object]


class Claim(NamedTuple):
    """What a report comes to, in a sentence for each way it can end."""

    passed: str
    unknown: str
    failed: str


@dataclass(frozen=True, slots=True)
class Report:
    """All results of one command, in the order in which they came.

    `shown` is what renderers list (less than `results` with --only-problems); counts and exit
    code always speak of all results. `error` is set when an error ended the run.
    """

    command: str
    claim: Claim
    subject: Subject
    results: tuple[Result, ...]
    only_problems: bool = False
    error: KgpuctlError | None = field(default=None)

    @property
    def shown(self) -> tuple[Result, ...]:
        """Return the results to list."""
        if not self.only_problems:
            return self.results
        return tuple(result for result in self.results if result.is_problem)

    @property
    def summary(self) -> dict[str, int]:
        """Count results by status; a waived one counts as waived and as nothing else."""
        counts = dict.fromkeys([status.value for status in Status], 0) | {"waived": 0}
        for result in self.results:
            counts["waived" if result.waived else result.status.value] += 1
        return counts

    @property
    def verdict(self) -> str:
        """Return the one sentence that it all comes to."""
        if self.error is not None:
            return self.error.message
        return {3: self.claim.failed, 4: self.claim.unknown}.get(self.exit_code, self.claim.passed)

    @property
    def exit_code(self) -> int:
        """Return 3 if anything failed, 4 if anything stayed unknown, else 0."""
        if self.error is not None:
            return self.error.exit_code
        seen = {result.status for result in self.results if not result.waived}
        if Status.FAILED in seen:
            return 3
        return 4 if Status.UNKNOWN in seen else 0
