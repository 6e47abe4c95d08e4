"""The command line, killed at work: some call of the store is the last thing that the process begins.

    python -m tests.faults.killed CALL MILLISECONDS run --spool … --archive …

The signal is a real SIGKILL, sent so many milliseconds after the call began: before it has
done anything, in the middle, or when the process has gone on for a while.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

from archiver.cli.main import main
from archiver.store import open as opening
from tests.faults.faulty_store import Call, Fault, FaultPlan, FaultyStore


class KillPlan(FaultPlan):
    """Kills this process a while after the call with this number began."""

    def __init__(self, number: int, seconds: float) -> None:
        super().__init__()
        self._number = number
        self._seconds = seconds

    def take(self, call: Call) -> Fault | None:
        fault = super().take(call)
        if len(self.calls) == self._number:
            threading.Thread(target=self._kill, daemon=True).start()
        return fault

    def _kill(self) -> None:
        time.sleep(self._seconds)
        os.kill(os.getpid(), signal.SIGKILL)


def _spoil(number: int, milliseconds: float) -> None:
    open_store = opening.open_store

    def spoiled(*arguments: Any) -> FaultyStore:
        return FaultyStore(open_store(*arguments), KillPlan(number, milliseconds / 1000))

    opening.open_store = spoiled  # type: ignore[assignment]


if __name__ == "__main__":
    _spoil(int(sys.argv[1]), float(sys.argv[2]))
    sys.argv[:] = ["archiver", *sys.argv[3:]]
    main()
