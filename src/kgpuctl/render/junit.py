"""Reports for CI servers, as JUnit XML: unknown is an error, warned passes with its text."""

import re
from typing import Final
from xml.etree import ElementTree as ET

from kgpuctl.report import Report, Result, Status

# What XML 1.0 cannot hold at all.
_ILLEGAL: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def dumps(report: Report) -> str:
    """Return one test suite with a test case for each result."""
    summary = report.summary
    suite = ET.Element(
        "testsuite",
        name=f"kgpuctl {report.command}",
        tests=str(len(report.shown) or int(report.error is not None)),
        failures=str(summary["failed"]),
        errors=str(summary["unknown"] + int(report.error is not None)),
        skipped=str(sum(_is_skip(result) for result in report.shown)),
    )
    for result in report.shown:
        _add_case(suite, report.command, result)
    if report.error is not None:
        case = ET.SubElement(suite, "testcase", classname=report.command, name=report.command)
        error = ET.SubElement(case, "error", message=_clean(report.error.message))
        error.text = _clean(report.error.remedy)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _is_skip(result: Result) -> bool:
    return result.waived or result.status is Status.SKIPPED


def _add_case(suite: ET.Element, command: str, result: Result) -> None:
    area = result.id.partition(".")[0]
    name = f"{result.id} {result.subject}".strip()
    case = ET.SubElement(suite, "testcase", classname=f"{command}.{area}", name=_clean(name))
    message = _clean(f"{result.title}: {result.message}" if result.message else result.title)
    remedy = _clean(result.remedy_text)
    if _is_skip(result):
        ET.SubElement(case, "skipped", message=message)
    elif result.status is Status.FAILED:
        ET.SubElement(case, "failure", message=message, type=result.id).text = remedy
    elif result.status is Status.UNKNOWN:
        ET.SubElement(case, "error", message=message, type=result.id).text = remedy
    elif result.status is Status.WARNED:
        ET.SubElement(case, "system-out").text = f"warning: {message}\n{remedy}"


def _clean(text: str) -> str:
    return _ILLEGAL.sub("?", text)
