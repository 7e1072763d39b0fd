"""Reports for tickets and wikis, as Markdown."""

import re
from typing import Final

from kgpuctl.render.findings import Finding, count_line, group, problems, remedies
from kgpuctl.report import Report

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~])")


def dumps(report: Report) -> str:
    """Return a heading, the verdict, a table of findings and what to do."""
    lines = [f"## kgpuctl {report.command}", ""]
    lines += [f"- {_escape(line)}" for line in report.subject.lines]
    lines += ["", f"**{report.verdict}** {count_line(report).capitalize()}.", ""]
    findings = group(report.shown)
    if findings:
        lines += ["| status | check | where | finding |", "|---|---|---|---|"]
        lines += [_row(finding) for finding in findings]
        lines.append("")
    todo = remedies(problems(findings))
    if todo:
        lines += ["### What to do, in this order", ""]
        lines += [
            f"{number}. {_code_kept(text)} ({', '.join(f'`{id}`' for id in ids)})"  # noqa: A001
            for number, (text, ids) in enumerate(todo, 1)
        ]
        lines.append("")
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    status = "waived" if finding.waived else finding.status.value
    told = f"{finding.title}: {finding.message}" if finding.message else finding.title
    cells = (
        f"**{status}**" if status in {"failed", "unknown", "warned"} else status,
        f"`{finding.id}`",
        _escape(finding.where),
        _escape(told),
    )
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _code_kept(text: str) -> str:
    """Escape a remedy but for its `commands`, which Markdown spells the same way."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if index % 2 else _escape(part) for index, part in enumerate(parts))
