"""Reports for programs; docs/reference/report.schema.json describes them."""

import json
import re
from collections.abc import Mapping
from typing import Final

from kgpuctl.report import Report, Result

# Characters that JSON may hold as they are, and terminals obey; lone surrogates are no UTF-8.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)
_CONTROL: Final = re.compile(r"[\x7f-\x9f\ud800-\udfff]")


def dumps(report: Report) -> str:
    """Return the versioned envelope, spelled as Kubernetes spells its objects."""
    envelope: dict[str, object] = {
        "apiVersion": "kgpuctl/v1",
        "kind": "Report",
        "command": report.command,
        "exitCode": report.exit_code,
    }
    if report.error is not None:
        envelope["error"] = {"message": report.error.message, "remedy": report.error.remedy}
    envelope |= {"summary": report.summary, "subject": dict(report.subject.data)}
    head = json.dumps(envelope, indent=2, ensure_ascii=False).removesuffix("\n}")
    # A line for each result: Python's indenting encoder takes twice as long.
    lines = ",\n    ".join(_ENCODER.encode(_result(result)) for result in report.shown)
    results = f"[\n    {lines}\n  ]" if lines else "[]"
    return _CONTROL.sub(_escape, f'{head},\n  "results": {results}\n}}\n')


def _escape(control: re.Match[str]) -> str:
    return f"\\u{ord(control[0]):04x}"


def _result(result: Result) -> Mapping[str, object]:
    return {
        "id": result.id,
        "title": result.title,
        "status": result.status.value,
        "subject": result.subject,
        "message": result.message,
        "remedy": result.remedy_text,
        "docs": result.docs,
        "waived": result.waived,
    }
