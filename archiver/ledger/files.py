"""The data files of one snapshot: found by where and when their rows lie, not by walking through all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from archiver import layout
from archiver.ledger.entry import DataFile


@dataclass(slots=True)
class Entry:
    """A data file and the commits that made it live and, if so, let it go."""

    file: DataFile
    added_by: int
    removed_by: int | None = None


class Files(Mapping[str, DataFile]):
    """The live data files of a snapshot, by key.

    As a mapping it is for small archives and for tests; what must stay fast in one with
    millions of files asks `select`, `find` and `entries`.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def __iter__(self) -> Iterator[str]:
        return (entry.file.key for entry in self.entries() if entry.removed_by is None)

    def __getitem__(self, key: str) -> DataFile:
        return self.find((key,))[key]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self.find((key,))

    def add(self, file: DataFile, sequence: int) -> None:
        """Take note that commit `sequence` adds `file`.

        Raises:
            KeyError: It was there already.
        """
        if file.key in self._entries:
            raise KeyError(file.key)
        self._entries[file.key] = Entry(file, sequence)
        self._live += 1

    def remove(self, key: str, sequence: int) -> None:
        """Take note that commit `sequence` removes `key`.

        Raises:
            KeyError: It is not live.
        """
        entry = self._entries[key]
        if entry.removed_by is not None:
            raise KeyError(key)
        entry.removed_by = sequence
        self._live -= 1

    def select(
        self,
        dataset: str | None = None,
        *,
        workspaces: Collection[str] | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
    ) -> list[DataFile]:
        """Return the live files that can hold rows of these workspaces and times, by key.

        Args:
            dataset: Only of this one.
            workspaces: Only of these.
            since_us, until_us: Only files with times at or after `since_us` and before
                `until_us`, in microseconds since 1970.
        """
        found = []
        for entry in self._entries.values():
            file = entry.file
            if entry.removed_by is not None:
                continue
            if (since_us is not None and file.max_us < since_us) or (
                until_us is not None and file.min_us >= until_us
            ):
                continue
            where = file.partition
            if dataset in (None, where.dataset) and (workspaces is None or where.workspace in workspaces):
                found.append(file)
        return sorted(found, key=lambda file: file.key)

    def find(self, keys: Iterable[str]) -> dict[str, DataFile]:
        """Return those of `keys` that are live."""
        return {
            key: entry.file
            for key in keys
            if (entry := self._entries.get(key)) is not None and entry.removed_by is None
        }

    def entries(self, partitions: Collection[layout.Partition] | None = None) -> Iterator[Entry]:
        """Yield all files that are known, live or not, of these partitions or of all.

        A file that was removed at or before `oldest_readable` may be missing: nothing needs it.
        """
        for entry in self._entries.values():
            if partitions is None or entry.file.partition in partitions:
                yield entry

    def superseded(self) -> dict[str, int]:
        """Return the keys that are no longer live, each with the commit that removed it.

        Those that were removed at or before `oldest_readable` may be missing.
        """
        return {key: one.removed_by for key, one in self._entries.items() if one.removed_by is not None}
