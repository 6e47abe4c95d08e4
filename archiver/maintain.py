"""What is done for an archive once something was committed: caches and views, brought up to the head.

Nothing here is needed for what was committed to be safe. So a chore that fails is a line in
the log, and the next run does it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from archiver.archive import Archive
from archiver.delta.publish import publish
from archiver.errors import ArchiverError
from archiver.progress import Progress, Silent

log = logging.getLogger(__name__)

CHECKPOINT_COMMITS: Final = 64
CHECKPOINT_FILES: Final = 20_000  # added or removed

Chore = Callable[[Archive, Progress], None]


def after_commits(archive: Archive, progress: Progress | None = None) -> None:
    """Do what is due after commits: each chore by itself, none of them able to fail the caller."""
    telling = progress or Silent()
    for name, chore in _CHORES.items():
        try:
            chore(archive, telling)
        except ArchiverError as error:
            log.warning("%s is not up to date: %s; the next run tries again", name, error.message)


def _checkpoint(archive: Archive, progress: Progress) -> None:
    """Fold the ledger into a checkpoint where enough commits lie behind the newest one."""
    ledger = archive.ledger
    commits, files = ledger.behind_checkpoint
    if commits >= CHECKPOINT_COMMITS or files >= CHECKPOINT_FILES or ledger.distrusts_checkpoints:
        ledger.write_checkpoint(progress=progress)


def _delta_log(archive: Archive, progress: Progress) -> None:
    """Tell other engines of the new commits, unless the archive has no Parquet or nobody wants that."""
    if archive.publishes_delta and archive.encoding.format == "parquet":
        publish(archive, progress)


def _identity_index(archive: Archive, progress: Progress) -> None:
    """Index the ids of the new files, where there are enough of them to be worth it."""
    archive.identities.update(progress, lazily=True)


_CHORES: dict[str, Chore] = {
    "the checkpoint": _checkpoint,
    "the Delta log": _delta_log,
    "the identity index": _identity_index,
}
