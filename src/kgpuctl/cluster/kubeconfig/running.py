"""Running a program that may hang, flood or leave children behind; nothing of it outlives this."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

LARGEST: Final = 1024 * 1024  # bytes kept of what it prints
_STEP: Final = 0.05  # seconds; how often an open pipe of a program that has ended is looked at


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended; `code` is None where it had to be ended."""

    code: int | None
    stdout: bytes
    stderr: bytes


def run(
    command: Sequence[str], environment: Mapping[str, str], directory: Path, seconds: float
) -> Done:
    """Run a program without a terminal and without input; kill it and its children when late."""
    process = subprocess.Popen(  # noqa: S603  # what the kubeconfig names, as for kubectl
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=environment,
        start_new_session=True,
    )
    try:
        stdout, stderr = _drain(process, time.monotonic() + seconds)
        code = process.poll()
    finally:
        if process.poll() is None:
            _kill(process)
        for pipe in _pipes(process):
            pipe.close()
    return Done(code, stdout, stderr)


def _drain(process: "subprocess.Popen[bytes]", end: float) -> tuple[bytes, bytes]:
    """Return both outputs, until the program has ended or its time is over."""
    kept = (bytearray(), bytearray())
    with selectors.DefaultSelector() as pipes:
        for pipe, into in zip(_pipes(process), kept, strict=True):
            pipes.register(pipe, selectors.EVENT_READ, into)
        while (left := end - time.monotonic()) > 0:
            ended = process.poll() is not None
            ready = pipes.select(0 if ended else min(left, _STEP))
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                key.data.extend(chunk[: LARGEST - len(key.data)])
                if not chunk:
                    pipes.unregister(key.fileobj)
            # Children may hold the pipes open: what the program itself wrote is all there.
            if ended and not ready:
                break
    return bytes(kept[0]), bytes(kept[1])


def _pipes(process: "subprocess.Popen[bytes]") -> list[IO[bytes]]:
    return [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End the program with all that it started, by the group that it leads."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
