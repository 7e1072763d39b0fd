"""A plan or the outcome of a change for people: nodes with equal words together."""

from dataclasses import dataclass
from typing import Final

from rich.console import Console

from kgpuctl.render.findings import Finding, group
from kgpuctl.render.marks import print_line
from kgpuctl.report import Report, Status

_NAMED: Final = 8


@dataclass(frozen=True, slots=True)
class ChangePrinter:
    """A console, and whether to name every node."""

    console: Console
    verbose: bool = False

    def show(self, report: Report) -> None:
        """Print what was or would be done; the sentence that it all comes to stands last."""
        for line in report.subject.lines:
            print_line(self.console, line, hanging=2)
        for finding in group(report.shown):
            self._show(finding)
        if report.error is None:  # else it is told on stderr, with what to do
            print_line(self.console, report.verdict, mark=Status.PASSED)

    def _show(self, finding: Finding) -> None:
        print_line(self.console, self._named(finding.subjects), mark=finding.status)
        print_line(self.console, finding.message, indent=4)
        if finding.remedy and finding.status is not Status.PASSED:
            print_line(
                self.console,
                f"try: {finding.remedy.said_of(finding.subjects)}",
                indent=4,
                hanging=5,
            )

    def _named(self, names: tuple[str, ...]) -> str:
        cut = names if self.verbose else names[:_NAMED]
        more = len(names) - len(cut)
        count = f"{len(names):,} nodes: " if len(names) > 1 else ""
        return f"{count}{', '.join(cut)}{f' and {more:,} more (-v names all)' if more else ''}"
