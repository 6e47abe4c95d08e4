"""What a purge deleted, what stayed, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

# Why a row stays. See docs/database.md.
Reason = Literal[
    "not_archived", "differs", "in_quarantine", "changed_since", "locked", "kept_by_database", "too_new"
]
# These need somebody: the next purge would find the same.
NEEDING: Final = frozenset({"not_archived", "differs", "in_quarantine", "changed_since", "kept_by_database"})
_MOST_EXAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class Stayed:
    """A row that was not deleted, for an example. All of it is data of the database."""

    key: tuple[str, ...]
    workspace: str
    id: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"key": list(self.key), "workspace": self.workspace, "id": self.id, "detail": self.detail}


@dataclass(slots=True)
class PurgeReport:
    """What was deleted, or would be.

    Attributes:
        before: The first UTC day that is too new.
        deleted: By workspace and UTC day; the rows that would be, in a dry run.
        transactions: That deleted something.
        gone: Rows that somebody else deleted meanwhile.
        stayed: How many rows stayed, by reason. `too_new` counts up to a million of them.
        examples: The first of them, by reason.
        not_archived_columns: They went, or would go, with the rows.
        verified_files, verified_bytes: Data files that were held against the ledger.
        head: Sequence of the newest commit that was looked at.
        upto: The ledger's cursor: rows behind it were not looked at.
        stopped: Why it ended before the last row; empty if it did not.
        position: Of the last row that was looked at; empty before the first.
    """

    source: str
    dry_run: bool = False
    before: str = ""
    deleted: dict[tuple[str, str], int] = field(default_factory=dict)
    transactions: int = 0
    gone: int = 0
    stayed: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Stayed]] = field(default_factory=dict)
    not_archived_columns: tuple[str, ...] = ()
    verified_files: int = 0
    verified_bytes: int = 0
    head: int = -1
    upto: str = ""
    stopped: str = ""
    position: str = ""
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """How many were deleted, or would be."""
        return sum(self.deleted.values())

    @property
    def needs_somebody(self) -> bool:
        """Whether rows stayed that the next purge would not take either."""
        return any(self.stayed.get(reason) for reason in NEEDING)

    def stay(self, reason: Reason, rows: int = 1, example: Stayed | None = None) -> None:
        self.stayed[reason] = self.stayed.get(reason, 0) + rows
        if example is not None and len(self.examples.setdefault(reason, [])) < _MOST_EXAMPLES:
            self.examples[reason].append(example)

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "purge_report",
            "source": self.source,
            "dry_run": self.dry_run,
            "before": self.before,
            "deleted": self.rows,
            "days": [
                {"workspace": workspace, "day": day, "rows": rows}
                for (workspace, day), rows in sorted(self.deleted.items())
            ],
            "transactions": self.transactions,
            "gone": self.gone,
            "stayed": dict(sorted(self.stayed.items())),
            "examples": {
                reason: [one.to_json() for one in examples]
                for reason, examples in sorted(self.examples.items())
            },
            "not_archived_columns": list(self.not_archived_columns),
            "verified": {"files": self.verified_files, "bytes": self.verified_bytes},
            "head": self.head,
            "upto": self.upto,
            "stopped": self.stopped,
            "position": self.position,
            "seconds": round(self.seconds, 3),
        }
