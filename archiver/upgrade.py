"""Bringing an archive to a newer format, step by step. Version 1 is the first, so there are no steps yet.

A later version of the format adds its step to `STEPS`: a function that takes an open archive
of one version to the next. What a step does ends in a commit, the first one that carries the
new number; from it on, programs that know only the old one refuse the archive, as they must.
Nothing that was written before is written anew: a reader of version 2 goes on reading what
version 1 wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from archiver.archive import Archive, open_archive
from archiver.errors import CommitConflictError, IntegrityError
from archiver.ledger.entry import FORMAT
from archiver.ledger.snapshot import Snapshot
from archiver.progress import Progress, Silent
from archiver.store.base import Store

# Takes an archive of one version to the next by a commit. Safe to run again after an interruption.
Step = Callable[[Archive, Progress], None]
# Version -> the step that leads from it to the next one.
STEPS: Final[dict[int, Step]] = {}
NEWEST: Final = FORMAT


@dataclass(slots=True)
class UpgradeReport:
    """What was, or would be, done.

    Attributes:
        found: Version of the archive before.
        newest: The version that this program writes.
        steps: The versions that were, or would be, reached, in order.
    """

    found: int
    newest: int
    dry_run: bool
    steps: list[int] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "message_type": "upgrade_report",
            "dry_run": self.dry_run,
            "found": self.found,
            "newest": self.newest,
            "steps": self.steps,
        }


def format_of(_: Snapshot) -> int:
    """Return the version of the format that an archive has at a snapshot.

    It is the only one that there is: a commit of any other is refused before it is folded. The
    first step to come gives the snapshot a member that tells.
    """
    return FORMAT


def upgrade(store: Store, *, dry_run: bool = False, progress: Progress | None = None) -> UpgradeReport:
    """Bring the archive in `store` to the newest version of the format that this program writes.

    What was interrupted is gone on with by the next call: it begins at the version that it finds.

    Args:
        dry_run: Only say which steps there are; nothing is written.

    Raises:
        ArchiveNotFoundError: None is there.
        IntegrityError: Its version is newer than this program, or not known at all. Nothing was written.
        CommitConflictError: A step did not get there, since others came first; what was reached stands.
    """
    archive = open_archive(store)
    found = format_of(archive.ledger.snapshot)
    ahead = range(found, NEWEST)
    if found > NEWEST or not all(version in STEPS for version in ahead):
        raise IntegrityError(
            f"{store.location}: expected a format from which a way leads to {NEWEST}, found {found}",
            hint="use the newest version of archiver",
        )
    report = UpgradeReport(found, NEWEST, dry_run)
    for version in ahead:
        if not dry_run:
            STEPS[version](archive, progress or Silent())
            reached = format_of(archive.ledger.refresh())
            if reached != version + 1:
                raise CommitConflictError(
                    f"{store.location}: expected format {version + 1} after its step, found {reached}",
                    hint="run again; if it stays, another program writes into this archive",
                )
        report.steps.append(version + 1)
    return report
