"""The five recorded clusters: exactly what their README says, from any shape of the file."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from checks.verify.varied import assert_worded, key
from clusters import SNAPSHOTS, judged
from kgpuctl.cluster.recording import dump, open_snapshot
from kgpuctl.report import Report

Key = tuple[str, str, str]
TARGETS: Final = ("gpu-1", "gpu-2")


def each(status: str, id_: str) -> set[Key]:
    """Return the same finding of both targets."""
    return {(status, id_, name) for name in TARGETS}


EXPECTED: Final[dict[str, tuple[int, set[Key]]]] = {
    "v26.7.0-healthy.json": (0, set()),
    "v26.7.0-ready-but-no-gpus.json": (
        3,
        each("failed", "verify.node-kata-label")
        | each("failed", "verify.cc-mode")
        | each("failed", "verify.passthrough-resource"),
    ),
    "v26.7.0-seed-flags-kataManager-ignored.json": (3, {("failed", "verify.sandbox-mode", "")}),
    "v25.10.1-coco-v0.17.0-kata-manager-healthy.json": (
        0,
        {("warned", "verify.kata-installer", ""), ("warned", "verify.device-plugin", "")}
        | each("warned", "verify.kata-handler"),
    ),
    "after-helm-uninstall-v26.7.0.json": (3, {("failed", "verify.gpu-operator", "")}),
}
WORDS: Final = {
    "v26.7.0-ready-but-no-gpus.json": "it hands out no GPU for VMs",
    "v26.7.0-seed-flags-kataManager-ignored.json": "kataManager.enabled=true is ignored",
    "v25.10.1-coco-v0.17.0-kata-manager-healthy.json": "device is already attached",
}


def plain(path: Path, _: Path) -> Path:
    return path


def gzipped(path: Path, folder: Path) -> Path:
    packed = folder / "cluster.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def dumped(path: Path, folder: Path) -> Path:
    """Write it as kgpuctl itself does."""
    copy = folder / "copy.json"
    copy.write_bytes(b"".join(dump(open_snapshot(str(path)))))
    return copy


def dumped_twice(path: Path, folder: Path) -> Path:
    once = dumped(path, folder)
    first = once.read_bytes()
    again = dumped(once, folder)
    assert again.read_bytes().replace(str(once).encode(), b"") == first.replace(
        str(path).encode(), b""
    )
    return again


def found(report: Report) -> set[Key]:
    return {key(result) for result in report.results if result.is_problem}


@pytest.mark.parametrize(
    "shape", [plain, gzipped, dumped, dumped_twice], ids=lambda it: it.__name__
)
@pytest.mark.parametrize("name", EXPECTED)
def test_a_recording(name: str, shape: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    path = SNAPSHOTS / name
    if not path.exists():
        pytest.skip("no recordings at hand")

    report = judged(open_snapshot(str(shape(path, tmp_path))))

    code, expected = EXPECTED[name]
    assert found(report) == expected
    assert report.exit_code == code
    assert_worded(report)
    told = " ".join(result.message for result in report.results)
    assert WORDS.get(name, "") in told
