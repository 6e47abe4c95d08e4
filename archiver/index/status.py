"""How far the index goes, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from archiver.index import manifest
from archiver.index.part import PartEntry
from archiver.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class MonthStatus:
    """The index of one month. `ids` counts those of files that are no longer live, too."""

    month: str
    ids: int
    runs: int
    objects: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The index as its manifest tells of it; its objects are not read.

    Attributes:
        sequence: Up to which commit everything is indexed; None if there is no index.
        head: The ledger's newest commit.
    """

    sequence: int | None
    head: int
    manifest: str = ""
    months: list[MonthStatus] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "index_status",
            "sequence": self.sequence,
            "head": self.head,
            "manifest": self.manifest,
            "months": [month.to_json() for month in self.months],
        }


def index_status(ledger: Ledger) -> IndexStatus:
    """Return the state of the index that a run at this ledger's head would use."""
    head = ledger.snapshot.sequence
    found = manifest.newest(ledger, up_to=head)
    if found is None:
        return IndexStatus(None, head)
    months = []
    for month, parts in groupby(sorted(found.parts, key=_month), key=_month):
        of_month = list(parts)
        months.append(
            MonthStatus(
                month=month,
                ids=sum(part.entries for part in of_month),
                runs=len({part.run for part in of_month}),
                objects=len(of_month),
                bytes=sum(part.bytes for part in of_month),
            )
        )
    return IndexStatus(found.sequence, head, found.key, months)


def _month(part: PartEntry) -> str:
    return part.month
