"""Which files become one: small ones of one partition, and each only along with its like.

A file is rewritten only if the others that are rewritten with it are together at least half
as large. So whatever it becomes part of is half as large again, and a row is rewritten at
most as often as its file can grow so before it is large enough: a handful of times in its
life, however many small files come after it. Of the files that stay small, each is more than
twice as large as all smaller ones together, so there are few of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from archiver import clock, layout
from archiver.errors import ConfigError
from archiver.ledger.entry import DataFile
from archiver.ledger.files import Entry
from archiver.ledger.ledger import Ledger
from archiver.partition import DAY_US

TARGET_BYTES: Final = 128 << 20
LARGEST_TARGET_BYTES: Final = 4 << 30  # S3 takes 5 GiB in one put
MOST_FILES: Final = 1_000  # that one commit removes, and so the most that become one
_LINES_SHRINK: Final = 8  # about so much smaller are JSON lines compressed than in memory
_LARGEST_SHARE: Final = 2
_PARTITIONS_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Policy:
    """What is worth compacting.

    Attributes:
        target_bytes: So large files become at most; one of half of it is left alone. Of JSON
            lines an eighth is meant, since they are larger in memory by that.
        min_files: So many small files make a partition worth it.
        min_age: Partitions to which a file was added within this time are left for later.
        datasets, workspaces: Only of these; none named is all.
        since_us, until_us: Only days that may hold rows at or after, and before; microseconds
            since 1970.
    """

    target_bytes: int = TARGET_BYTES
    min_files: int = 4
    min_age: timedelta = timedelta(0)
    datasets: tuple[str, ...] = ()
    workspaces: tuple[str, ...] = ()
    since_us: int | None = None
    until_us: int | None = None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ConfigError: It says what.
        """
        if self.min_files < 2:
            raise ConfigError(
                f"min-files {self.min_files}: one file alone is as it should be", hint="2 or more"
            )
        if self.target_bytes < 1 << 20:
            raise ConfigError(f"a target of {self.target_bytes} bytes: files of less than 1 MiB are small")
        if self.target_bytes > LARGEST_TARGET_BYTES:
            raise ConfigError(
                f"a target of {self.target_bytes} bytes: a file is made in memory and put in one request",
                hint="4GiB or less; 128MiB to 1GiB suit all engines",
            )
        for dataset in self.datasets:
            if dataset not in layout.DATASETS:
                raise ConfigError(f"no such dataset: {dataset}", hint=", ".join(layout.DATASETS))

    def covers(self, partition: layout.Partition) -> bool:
        """Say whether the files of a partition are asked for at all."""
        if self.datasets and partition.dataset not in self.datasets:
            return False
        if self.workspaces and partition.workspace not in self.workspaces:
            return False
        start = clock.from_text(f"{partition.dt}T00:00:00.000000Z")
        return (self.since_us is None or start + DAY_US > self.since_us) and (
            self.until_us is None or start < self.until_us
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Files of one partition that become one.

    Attributes:
        files: In the order in which rows of equal times stand.
    """

    partition: layout.Partition
    files: tuple[DataFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


def plan(ledger: Ledger, policy: Policy, *, without: Collection[str] = ()) -> list[list[Group]]:
    """Return what is to be done at the ledger's head: groups that share no file, by partition.

    Args:
        without: Files that are to be left alone.
    """
    files = ledger.snapshot.files
    small = _small_bytes(policy, str(ledger.snapshot.archive["data_format"]))
    candidates = [
        one.partition
        for one in files.partition_sizes(smaller_than=small, least=policy.min_files)
        if policy.covers(one.partition)
    ]
    candidates.sort(key=lambda one: (one.dataset, one.workspace, one.dt))
    newest = _settled(ledger, policy.min_age)
    found = []
    for start in range(0, len(candidates), _PARTITIONS_AT_ONCE):
        part = candidates[start : start + _PARTITIONS_AT_ONCE]
        by_partition: dict[layout.Partition, list[Entry]] = {one: [] for one in part}
        for entry in files.entries(by_partition.keys()):
            if entry.removed_by is None:
                by_partition[entry.file.partition].append(entry)
        for partition, entries in by_partition.items():
            if newest is not None and any(entry.added_by > newest for entry in entries):
                continue
            left = [one for one in entries if one.file.bytes < small and one.file.key not in without]
            groups = list(_groups(partition, _worth_it(left, policy.min_files), policy, 2 * small))
            if groups:
                found.append(groups)
    return found


def _small_bytes(policy: Policy, form: str) -> int:
    """Return the size from which on a file is left alone."""
    return policy.target_bytes // 2 // (1 if form == "parquet" else _LINES_SHRINK)


def _settled(ledger: Ledger, min_age: timedelta) -> int | None:
    """Return the newest commit that is old enough; None if all are."""
    if not min_age:
        return None
    try:
        return ledger.sequence_at(clock.now_us() - min_age // timedelta(microseconds=1))
    except ConfigError:  # the archive is younger
        return -1


def _worth_it(entries: list[Entry], min_files: int) -> list[Entry]:
    """Return the smallest files: as many as may be, the largest at most twice as large as the others."""
    entries = sorted(entries, key=lambda one: (one.file.bytes, one.file.key))
    together, count = 0, 0
    for number, entry in enumerate(entries):
        if number + 1 >= min_files and entry.file.bytes <= _LARGEST_SHARE * together:
            count = number + 1
        together += entry.file.bytes
    return entries[:count]


def _groups(
    partition: layout.Partition, entries: list[Entry], policy: Policy, target_bytes: int
) -> Iterator[Group]:
    """Cut the files of a partition into groups, by time: so new files overlap little."""
    entries = sorted(entries, key=lambda one: (one.file.min_us, one.file.key))
    part: list[Entry] = []
    size = 0
    for entry in entries:
        if part and (size + entry.file.bytes > target_bytes or len(part) == MOST_FILES):
            if len(part) > 1:
                yield _group(partition, part)
            part, size = [], 0
        part.append(entry)
        size += entry.file.bytes
    # What is left over behind full groups waits until it is worth a file of its own.
    if len(part) >= policy.min_files:
        yield _group(partition, part)


def _group(partition: layout.Partition, entries: list[Entry]) -> Group:
    entries = sorted(entries, key=lambda one: (one.added_by, layout.number_of(one.file.key), one.file.key))
    return Group(partition, tuple(one.file for one in entries))
