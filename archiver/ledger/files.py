"""The data files of one snapshot: found by where and when their rows lie, not by walking through all.

What a checkpoint holds stays in its columns; only what later commits added and removed is
kept here, file by file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from archiver import layout
from archiver.ledger.entry import DataFile


@dataclass(slots=True)
class Entry:
    """A data file and the commits that made it live and, if so, let it go."""

    file: DataFile
    added_by: int
    removed_by: int | None = None


@dataclass(slots=True)
class Volume:
    """What some live files hold together; times of their rows in microseconds since 1970."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    min_us: int | None = None
    max_us: int | None = None

    def add(self, other: DataFile | Volume) -> None:
        """Count `other` in."""
        self.files += other.files if isinstance(other, Volume) else 1
        self.rows += other.rows
        self.bytes += other.bytes
        if other.min_us is not None:
            self.min_us = other.min_us if self.min_us is None else min(self.min_us, other.min_us)
        if other.max_us is not None:
            self.max_us = other.max_us if self.max_us is None else max(self.max_us, other.max_us)


@dataclass(slots=True)
class PartitionSize:
    """Live files of one partition, and those of them that are small."""

    partition: layout.Partition
    files: int = 0
    bytes: int = 0
    small_files: int = 0
    small_bytes: int = 0


class StoredFiles(Protocol):
    """Files of a snapshot that stays: those of a checkpoint, or of commits that were folded once.

    `gone` are keys among its live files to be left out.
    """

    def __len__(self) -> int: ...

    def select(
        self,
        dataset: str | None = None,
        *,
        workspaces: Collection[str] | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
        digests: bool = True,
    ) -> list[DataFile]: ...

    def find(self, keys: Iterable[str]) -> dict[str, DataFile]: ...

    def entries(self, partitions: Collection[layout.Partition] | None = None) -> Iterator[Entry]: ...

    def superseded(self) -> dict[str, int]: ...

    def volumes(self, gone: Collection[str] = ()) -> dict[tuple[str, str], Volume]: ...

    def partition_sizes(
        self,
        *,
        smaller_than: int,
        least: int = 1,
        gone: Collection[str] = (),
        besides: Collection[layout.Partition] = (),
    ) -> list[PartitionSize]: ...


class Below(Protocol):
    """Where the files below the later commits are: the checkpoint, or what took its place."""

    @property
    def files(self) -> StoredFiles: ...


class Files(Mapping[str, DataFile]):
    """The live data files of a snapshot, by key.

    As a mapping it is for small archives and for tests; what must stay fast in one with
    millions of files asks `select`, `find`, `entries`, `volumes` and `partition_sizes`.
    """

    def __init__(self, below: Below | None = None) -> None:
        self._below = below
        self._entries: dict[str, Entry] = {}  # added since
        self._removed: dict[str, int] = {}  # of those below, since
        self._live = 0  # of those added since

    def __len__(self) -> int:
        stored = len(self._below.files) - len(self._removed) if self._below is not None else 0
        return self._live + stored

    def __iter__(self) -> Iterator[str]:
        return (file.key for file in self.select(digests=False))

    def __getitem__(self, key: str) -> DataFile:
        return self.find((key,))[key]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self.find((key,))

    @property
    def since_checkpoint(self) -> int:
        """How many files were added and removed behind the checkpoint that this began with."""
        return len(self._entries) + len(self._removed)

    def add(self, file: DataFile, sequence: int) -> None:
        """Take note that commit `sequence` adds `file`.

        Raises:
            KeyError: It was there already, as far as the commits behind the checkpoint tell.
        """
        if file.key in self._entries:
            raise KeyError(file.key)
        self._entries[file.key] = Entry(file, sequence)
        self._live += 1

    def remove(self, keys: Collection[str], sequence: int) -> None:
        """Take note that commit `sequence` removes `keys`.

        Raises:
            KeyError: One of them is not live.
        """
        stored = [key for key in keys if key not in self._entries]
        known = self._find_below(stored)
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None and entry.removed_by is None:
                entry.removed_by = sequence
                self._live -= 1
            elif entry is None and key in known and key not in self._removed:
                self._removed[key] = sequence
            else:
                raise KeyError(key)

    def select(
        self,
        dataset: str | None = None,
        *,
        workspaces: Collection[str] | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
        digests: bool = True,
    ) -> list[DataFile]:
        """Return the live files that can hold rows of these workspaces and times, by key.

        Args:
            dataset: Only of this one.
            workspaces: Only of these.
            since_us, until_us: Only files with times at or after `since_us` and before
                `until_us`, in microseconds since 1970.
            digests: Without, `digest` and `bodies` may be empty, which is most of what
                would be read.
        """
        found = []
        if self._below is not None:
            stored = self._below.files.select(
                dataset, workspaces=workspaces, since_us=since_us, until_us=until_us, digests=digests
            )
            found = [file for file in stored if file.key not in self._removed]
        folders = layout.folders_of(dataset, workspaces)
        for entry in list(self._entries.values()):  # others may go on meanwhile
            file = entry.file
            if entry.removed_by is not None or not file.key.startswith(folders):
                continue
            if (since_us is not None and file.max_us < since_us) or (
                until_us is not None and file.min_us >= until_us
            ):
                continue
            found.append(file)
        return sorted(found, key=lambda file: file.key)

    def find(self, keys: Iterable[str]) -> dict[str, DataFile]:
        """Return those of `keys` that are live."""
        wanted = list(keys)
        found = {
            key: entry.file
            for key in wanted
            if (entry := self._entries.get(key)) is not None and entry.removed_by is None
        }
        stored = [key for key in wanted if key not in self._entries and key not in self._removed]
        return found | self._find_below(stored)

    def _find_below(self, keys: Collection[str]) -> dict[str, DataFile]:
        return self._below.files.find(keys) if self._below is not None and keys else {}

    def entries(self, partitions: Collection[layout.Partition] | None = None) -> Iterator[Entry]:
        """Yield all files that are known, live or not, of these partitions or of all.

        A file that was removed at or before `oldest_readable` may be missing: nothing needs it.
        """
        if self._below is not None:
            for entry in self._below.files.entries(partitions):
                removed_by = self._removed.get(entry.file.key)
                yield entry if removed_by is None else Entry(entry.file, entry.added_by, removed_by)
        for entry in list(self._entries.values()):  # others may go on meanwhile
            if partitions is None or entry.file.partition in partitions:
                yield entry

    def superseded(self) -> dict[str, int]:
        """Return the keys that are no longer live, each with the commit that removed it.

        Those that were removed at or before `oldest_readable` may be missing.
        """
        stored = self._below.files.superseded() if self._below is not None else {}
        since = {key: one.removed_by for key, one in self._entries.items() if one.removed_by is not None}
        return stored | self._removed | since

    def volumes(self, gone: Collection[str] = ()) -> dict[tuple[str, str], Volume]:
        """Return what the live files of each (dataset, workspace) hold.

        Args:
            gone: Live files to be left out.
        """
        found: dict[tuple[str, str], Volume] = {}
        if self._below is not None:
            found = self._below.files.volumes({*self._removed, *gone})
        for entry in list(self._entries.values()):  # others may go on meanwhile
            if entry.removed_by is None and entry.file.key not in gone:
                where = entry.file.partition
                found.setdefault((where.dataset, where.workspace), Volume()).add(entry.file)
        return found

    def partition_sizes(
        self,
        *,
        smaller_than: int,
        least: int = 1,
        gone: Collection[str] = (),
        besides: Collection[layout.Partition] = (),
    ) -> list[PartitionSize]:
        """Return the partitions with at least `least` live files that are small, in no order.

        Args:
            smaller_than: A file of fewer bytes is small.
            least: So many small files make a partition worth naming.
            gone: Live files to be left out.
            besides: Partitions to be named whatever they hold.
        """
        found: dict[layout.Partition, PartitionSize] = {}
        fresh: dict[layout.Partition, list[int]] = defaultdict(list)
        for entry in list(self._entries.values()):  # others may go on meanwhile
            if entry.removed_by is None and entry.file.key not in gone:
                fresh[entry.file.partition].append(entry.file.bytes)
        if self._below is not None:
            stored = self._below.files.partition_sizes(
                smaller_than=smaller_than,
                least=least,
                gone={*self._removed, *gone},
                besides={*fresh, *besides},  # together with what is new they may be enough
            )
            found = {one.partition: one for one in stored}
        for partition, sizes in fresh.items():
            small = [size for size in sizes if size < smaller_than]
            one = found.setdefault(partition, PartitionSize(partition))
            one.files += len(sizes)
            one.bytes += sum(sizes)
            one.small_files += len(small)
            one.small_bytes += sum(small)
        return [one for one in found.values() if one.small_files >= least or one.partition in besides]
