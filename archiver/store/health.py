"""One thing that `archiver doctor` looked at, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """A check that was made.

    Attributes:
        name: What was looked at; the same at every examination.
        status: `failed`: the archive cannot be trusted to work here. `warning`: it works, and
            will bite. `skipped`: not looked at, or of no meaning here.
        found: What was seen.
        fix: What to do about it; empty when it is well.
    """

    name: str
    status: Status
    found: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "status": self.status, "found": self.found, "fix": self.fix}
