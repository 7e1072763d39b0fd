"""Reports for people: what was judged, the problems, what to do in order, one verdict."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from rich.console import Console

from kgpuctl.render.findings import Finding, count_line, group, problems, remedies
from kgpuctl.render.marks import STYLES, print_line
from kgpuctl.report import PROBLEMS, Report, Status

# Beyond this many findings of one check only their number is told, unless all is asked for.
FINDINGS_SHOWN: Final = 3
IDS_SHOWN: Final = 5
_ORDER: Final = tuple(Status)


@dataclass(frozen=True, slots=True)
class Printer:
    """A console, and how much to say on it."""

    console: Console
    verbose: bool = False

    def show(self, report: Report) -> None:
        """Print a whole report; the verdict comes last, where the eye is."""
        for line in report.subject.lines:
            print_line(self.console, line)
        findings = group(report.shown)
        if findings:
            print_line(self.console, "")
        for area, members in groupby(findings, key=lambda finding: finding.id.partition(".")[0]):
            self._show_area(area, tuple(members))
        self._show_remedies(findings)
        status = {0: Status.PASSED, 4: Status.UNKNOWN}.get(report.exit_code, Status.FAILED)
        print_line(self.console, "")
        print_line(self.console, report.verdict, mark=status, style=STYLES[status])
        hint = "; `kgpuctl checks ID` explains a check" if problems(findings) else ""
        print_line(self.console, f"{count_line(report)}{hint}", indent=2)

    def _show_area(self, area: str, findings: tuple[Finding, ...]) -> None:
        asked = {_weight(finding) for finding in findings} - {Status.SKIPPED}
        worst = max(asked or {Status.SKIPPED}, key=_ORDER.index)
        print_line(self.console, f"{area:<10} {_tell_counts(findings)}", mark=worst)
        if not self.verbose:
            findings = self._show_unseen(findings)
        for _, members in groupby(findings, key=lambda finding: finding.id):
            listed = [item for item in members if self.verbose or _is_listed(item)]
            cut = listed if self.verbose else listed[:FINDINGS_SHOWN]
            for finding in cut:
                self._show_finding(finding)
            rest = sum(len(finding.subjects) or 1 for finding in listed[len(cut) :])
            if rest:
                print_line(self.console, f"and {rest} more like it (-v lists all)", indent=4)

    def _show_unseen(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Tell once of what keeps many checks from being answered; return the other findings."""
        unseen: dict[str, list[str]] = {}
        for finding in findings:
            if finding.status is Status.UNKNOWN and not finding.waived:
                unseen.setdefault(finding.message, []).append(finding.id)
        many = {text: ids for text, ids in unseen.items() if len(ids) > FINDINGS_SHOWN}
        for text, ids in many.items():
            print_line(
                self.console, text, mark=Status.UNKNOWN, indent=2, style=STYLES[Status.UNKNOWN]
            )
            print_line(
                self.console, f"so it is not known of {len(ids)} checks: {', '.join(ids)}", indent=4
            )
        return tuple(
            it for it in findings if it.status is not Status.UNKNOWN or it.message not in many
        )

    def _show_finding(self, finding: Finding) -> None:
        if not _is_listed(finding):
            told = f"{finding.id}  {finding.title}"
            print_line(self.console, told, mark=finding.status, indent=2)
            if finding.message:
                print_line(self.console, _with_subject(finding), indent=4, style="dim")
            return
        mark = _weight(finding)
        print_line(
            self.console,
            f"{finding.title}  [{finding.id}]",
            mark=mark,
            indent=2,
            style=STYLES[mark],
        )
        if finding.message or finding.subjects:
            print_line(self.console, _with_subject(finding), indent=4)

    def _show_remedies(self, findings: Iterable[Finding]) -> None:
        todo = remedies(problems(findings) if self.verbose else _first_of_each(findings))
        if not todo:
            return
        print_line(self.console, "")
        print_line(self.console, "What to do, in this order:", style="bold")
        for number, (text, ids) in enumerate(todo, 1):
            told = ids if self.verbose else ids[:IDS_SHOWN]
            more = f" and {len(ids) - len(told)} more" if len(ids) > len(told) else ""
            print_line(self.console, f"{number:>2}. {text} [{', '.join(told)}{more}]", hanging=4)


def _first_of_each(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the problems that are listed: the first few of each check."""
    for _, members in groupby(problems(findings), key=lambda finding: finding.id):
        yield from list(members)[:FINDINGS_SHOWN]


def _is_listed(finding: Finding) -> bool:
    return finding.waived or finding.status in PROBLEMS


def _weight(finding: Finding) -> Status:
    return Status.SKIPPED if finding.waived else finding.status


def _with_subject(finding: Finding) -> str:
    return ": ".join(part for part in (finding.where, finding.message) if part)


def _tell_counts(findings: Iterable[Finding]) -> str:
    """Count checks by their worst status, the worst first."""
    worst: dict[str, str] = {}
    for finding in sorted(findings, key=lambda item: _ORDER.index(_weight(item))):
        worst[finding.id] = "waived" if finding.waived else finding.status.value
    told = list(worst.values())
    words = ("failed", "unknown", "warned", "waived", "passed", "skipped")
    return ", ".join(f"{told.count(word)} {word}" for word in words if word in told)
