"""label-nodes as its users run it: in a process of its own, on a server that a test speaks for."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from cluster_api.fake_api import FakeApi, Reply, Seen
from cluster_api.workstation import Workstation
from running import SRC, Ended
from steps.store import CC_RUNTIMES, COCO_NAMESPACE, LEASE, NODES, PODS, Store

_JSON = {"Content-Type": "application/json"}


def serve(api: FakeApi, store: Store) -> None:
    """Let a server answer as the store does, also about what is not there yet."""

    def answer(seen: Seen) -> Reply:
        given = store.handle(seen.method, seen.path, seen.query, seen.body)
        return Reply(given.status, given.body, _JSON)

    lease = LEASE.rpartition("/")[0]
    for path in (NODES, PODS, CC_RUNTIMES, COCO_NAMESPACE, lease, LEASE, *store.objects):
        api.answer(path, answer)
        api.answer(f"{path}/eviction", answer)


@dataclass(frozen=True)
class Administrator:
    """Somebody with a kubeconfig, who runs label-nodes."""

    home: Path
    kubeconfig: Path

    @classmethod
    def at(cls, home: Path, authority: trustme.CA, url: str) -> "Administrator":
        workstation = Workstation(home, authority)
        workstation.log_in(url)
        return cls(home, workstation.path)

    @property
    def environment(self) -> Mapping[str, str]:
        dropped = ("KGPUCTL_", "NO_COLOR", "FORCE_COLOR", "XDG_", "KUBE")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        return kept | {
            "PYTHONPATH": str(SRC),
            "COLUMNS": "80",
            "TERM": "dumb",
            "PYTHONUTF8": "1",
            "HOME": str(self.home),
            "KUBECONFIG": str(self.kubeconfig),
        }

    @property
    def journals(self) -> list[Path]:
        return sorted((self.home / ".local/state/kgpuctl/journal").glob("*.jsonl"))

    def start(
        self, *words: str, stdin: int = subprocess.DEVNULL, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "kgpuctl", "label-nodes", *words],
            text=True,
            env=self.environment,
            cwd=self.home,
            start_new_session=True,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )

    def run(self, *words: str) -> Ended:
        with self.start(*words) as process:
            out, err = process.communicate(timeout=240)
            return Ended(process.returncode, out, err)

    def answer(self, text: str, *words: str) -> Ended:
        """Run it on a terminal, and type once it asks; what is not on the terminal comes apart."""
        with _terminal() as (near, far), self.start(*words, stdin=far, stderr=far) as process:
            shown = ""
            deadline = time.monotonic() + 60
            typed = False
            while process.poll() is None and time.monotonic() < deadline:
                shown += _read(near)
                if "[y/N]" in shown and not typed:
                    os.write(near, text.encode())
                    typed = True
            out, _ = process.communicate(timeout=60)
            return Ended(process.returncode, out, shown + _read(near))


@contextmanager
def _terminal() -> Iterator[tuple[int, int]]:
    near, far = pty.openpty()
    try:
        yield near, far
    finally:
        os.close(near)
        os.close(far)


def _read(descriptor: int) -> str:
    ready, _, _ = select.select([descriptor], [], [], 0.05)
    return os.read(descriptor, 65536).decode(errors="replace") if ready else ""
