"""What became of a destination's events since it began, in a file that others may look at.

    <state>/<destination>/status.json

It is an account and nothing else: what is sent next follows from the cursor alone.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Final

from archiver import clock, durable
from archiver.forward.sending import Tally

FILE: Final = "status.json"
WRITE_SECONDS: Final = 1.0
_LARGEST_BYTES: Final = 1 << 20


class Account:
    """The tally of one destination, kept from run to run.

    Args:
        folder: The destination's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self.tally = read_tally(folder)
        self.before = replace(self.tally)
        self._written_at = 0.0

    def changed(self) -> None:
        """Write it, once a second at most."""
        if time.monotonic() - self._written_at >= WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write it now. That it cannot be written stops nothing."""
        self._written_at = time.monotonic()
        document = {**asdict(self.tally), "written_us": clock.now_us()}
        with contextlib.suppress(OSError):
            durable.replace(self._path, json.dumps(document, sort_keys=True).encode() + b"\n")


def read_tally(folder: Path) -> Tally:
    """Return what is told in a destination's folder; an empty tally where nothing, or no tally, is told."""
    try:
        with (folder / FILE).open("rb") as file:
            told = json.loads(file.read(_LARGEST_BYTES))
    except (OSError, ValueError, RecursionError):
        return Tally()
    tally = Tally()
    if not isinstance(told, dict):
        return tally
    for one in fields(Tally):
        value, default = told.get(one.name), getattr(tally, one.name)
        is_number = type(value) is int and value >= 0
        if one.name in ("trouble",):
            if isinstance(value, str):
                tally.trouble = value[:500]
        elif one.name == "is_open":
            tally.is_open = value is True
        elif is_number and (default is None or type(default) is int):
            setattr(tally, one.name, value)
    return tally
