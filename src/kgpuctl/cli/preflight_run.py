"""Read a host, judge it, and report: what `kgpuctl preflight` does between parse and print."""

import datetime as dt
from dataclasses import dataclass

from kgpuctl.checks.check import run
from kgpuctl.checks.host.case import HostCase
from kgpuctl.checks.host.subject import describe
from kgpuctl.checks.host.table import HOST_CHECKS
from kgpuctl.checks.waivers import refuse_unknown_ids, waive
from kgpuctl.config import Waiver
from kgpuctl.host.facts import Source, SourceKind
from kgpuctl.host.live import answer
from kgpuctl.host.reader import read_host
from kgpuctl.host.recording import Recorder, open_recording
from kgpuctl.host.tree import DirectoryTree
from kgpuctl.names import Stack, Tee
from kgpuctl.report import Claim, Report

CLAIM = Claim(
    passed="Passed: this host can give its GPUs to Kata VMs.",
    unknown="Not known: some of what decides it could not be read.",
    failed="Failed: this host cannot give its GPUs to Kata VMs yet.",
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for, options and configuration put together."""

    root: str
    recording: str | None
    devices: tuple[str, ...]
    stack: Stack
    confidential: Tee | None
    after_install: bool
    waivers: tuple[Waiver, ...]
    only_problems: bool
    now: dt.datetime


@dataclass(frozen=True, slots=True)
class Judged:
    """A report, and what it was made of."""

    report: Report
    case: HostCase
    recorder: Recorder

    def pack(self) -> bytes:
        """Return the recording of what was read."""
        return self.recorder.pack(self.case.host.source.time)

    def fix_script(self) -> str:
        """Return the remedies as a shell script for this host's distribution."""
        from kgpuctl.render.fix_script import dumps

        return dumps(self.report, self.case.distribution)


def judge(wishes: Wishes) -> Judged:
    """Read the host that was named and ask it every check."""
    if wishes.waivers:
        from kgpuctl.cli.tables import all_checks

        refuse_unknown_ids(wishes.waivers, (check.id for check in all_checks()))
    time = wishes.now.isoformat(timespec="seconds")
    if wishes.recording is not None:
        recording = open_recording(wishes.recording)
        recorder = Recorder(recording)
        kind, path, time = SourceKind.RECORDING, wishes.recording, recording.time
    else:
        tree = DirectoryTree.open(wishes.root, answer)
        recorder = Recorder(tree)
        kind, path = (SourceKind.LIVE if tree.live else SourceKind.TREE), tree.root
    source = Source(kind, path, time, as_root=recorder.ask("root") == "yes")
    case = HostCase(
        read_host(recorder, source, wishes.devices),
        wishes.stack,
        wishes.confidential,
        wishes.after_install,
        wishes.devices,
    )
    results = waive(run(HOST_CHECKS, case), wishes.waivers, wishes.now.date())
    report = Report("preflight", CLAIM, describe(case), results, wishes.only_problems)
    return Judged(report, case, recorder)
