"""Reports for programs; docs/reference/report.schema.json describes them."""

import json
from collections.abc import Mapping

from kgpuctl.report import Report, Result


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
    envelope |= {
        "summary": report.summary,
        "subject": dict(report.subject.data),
        "results": [_result(result) for result in report.shown],
    }
    return json.dumps(envelope, indent=2, ensure_ascii=False) + "\n"


def _result(result: Result) -> Mapping[str, object]:
    return {
        "id": result.id,
        "title": result.title,
        "status": result.status.value,
        "subject": result.subject,
        "message": result.message,
        "remedy": result.remedy.text if result.remedy else "",
        "docs": result.docs,
        "waived": result.waived,
    }
