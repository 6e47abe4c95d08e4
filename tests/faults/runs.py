"""Real `archiver` processes on a real spool: started, killed, run to the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from archiver.segment import SegmentWriter
from tests.support import RECEIVED_US, event

LONGEST_RUN_SECONDS = 120


def start_run(spool: Path, archive: str, *options: str) -> subprocess.Popen[str]:
    """Start `archiver run` as cron would."""
    command = [sys.executable, "-m", "archiver", "run", "--spool", str(spool), "--archive", archive]
    return subprocess.Popen(
        [*command, "--settle", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a run's own end and return its exit code and what it printed."""
    out, err = process.communicate(timeout=LONGEST_RUN_SECONDS)
    return process.returncode, out, err


def kill_after(process: subprocess.Popen[str], seconds: float) -> bool:
    """Send SIGKILL after `seconds`; say whether the process was still alive."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    process.communicate()
    return False


@dataclass
class Deliveries:
    """Fills a spool with what a sender would send, and remembers what must come of it.

    Attributes:
        ids: Of all valid events delivered so far.
        rejected: Bodies that must be in quarantine, and how often.
    """

    spool: Path
    random: random.Random
    ids: set[str] = field(default_factory=set)
    rejected: Counter[bytes] = field(default_factory=Counter)
    sent: int = 0

    def __post_init__(self) -> None:
        self.spool.mkdir(parents=True, exist_ok=True)

    def deliver(self, count: int) -> None:
        """Put one file with about `count` deliveries into the spool: a segment or a foreign file."""
        bodies = []
        for _ in range(count):
            self.sent += 1
            draw = self.random.random()
            if draw < 0.02:
                body = b'{"rubbish":%d' % self.sent
                self.rejected[body] += 1
            elif draw < 0.1 and self.ids:
                body = self._event(self.random.choice(sorted(self.ids)[-50:]))
            else:
                body = self._event(f"e{self.sent}")
                self.ids.add(f"e{self.sent}")
            bodies.append(body)
        if self.random.random() < 0.5:
            with SegmentWriter(self.spool) as segment:
                for body in bodies:
                    segment.append(body, RECEIVED_US, "stream")
                segment.seal()
        else:
            # A foreign program writes under another name first, so that nobody reads half a file.
            draft = self.spool / f".{self.sent}.draft"
            draft.write_bytes(b"\n".join(bodies) + b"\n")
            draft.rename(self.spool / f"{self.sent}.jsonl")

    def _event(self, event_id: str) -> bytes:
        number = int(event_id[1:])
        return event(event_id, workspace=f"w{number % 5}", timestamp=f"2026-03-{number % 3 + 10}T10:15:00Z")


def typical_seconds(spool: Path, archive: str) -> float:
    """Return how long a run takes that is not disturbed."""
    started = time.monotonic()
    code, _, err = finish(start_run(spool, archive))
    assert code in (0, 3), err
    return time.monotonic() - started
