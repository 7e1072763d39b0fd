"""A plan or the outcome of a change for people: nodes with equal words together."""

from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.text import Text

from kgpuctl.render.findings import Finding, group
from kgpuctl.render.lines import wrap
from kgpuctl.report import Report, Status

MIN_WIDTH: Final = 40
_NAMED: Final = 8
_STYLES: Final = {
    Status.PASSED: "green",
    Status.SKIPPED: "dim",
    Status.WARNED: "yellow",
    Status.UNKNOWN: "magenta",
    Status.FAILED: "bold red",
}
_MARKS: Final = {
    Status.PASSED: "✓",
    Status.SKIPPED: "-",
    Status.WARNED: "!",
    Status.UNKNOWN: "?",
    Status.FAILED: "✗",
}
_ASCII: Final = {**_MARKS, Status.PASSED: "+", Status.FAILED: "x"}


@dataclass(frozen=True, slots=True)
class ChangePrinter:
    """A console, and whether to name every node."""

    console: Console
    verbose: bool = False

    def show(self, report: Report) -> None:
        """Print what was or would be done; the sentence that it all comes to stands last."""
        for line in report.subject.lines:
            self._print(line, hanging=2)
        for finding in group(report.shown):
            self._show(finding)
        if report.error is None:  # else it is told on stderr, with what to do
            self._print(report.verdict, mark=Status.PASSED)

    def _show(self, finding: Finding) -> None:
        self._print(self._named(finding.subjects), mark=finding.status, hanging=2)
        self._print(finding.message, indent=4)
        if finding.remedy and finding.status is not Status.PASSED:
            self._print(f"try: {finding.remedy.said_of(finding.subjects)}", indent=4, hanging=5)

    def _named(self, names: tuple[str, ...]) -> str:
        cut = names if self.verbose else names[:_NAMED]
        more = len(names) - len(cut)
        count = f"{len(names):,} nodes: " if len(names) > 1 else ""
        return f"{count}{', '.join(cut)}{f' and {more:,} more (-v names all)' if more else ''}"

    def _print(
        self, text: str, *, mark: Status | None = None, indent: int = 0, hanging: int = 0
    ) -> None:
        width = max(self.console.width, MIN_WIDTH) - indent - (2 if mark else 0)
        for number, line in enumerate(wrap(text, width, 0 if mark else hanging)):
            out = Text(" " * indent)
            if mark:
                marks = _MARKS if self.console.encoding.startswith("utf") else _ASCII
                out.append("  " if number else f"{marks[mark]} ", style=_STYLES[mark])
            out.append(line)
            self.console.print(out, soft_wrap=True)
