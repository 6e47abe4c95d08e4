"""What the model consists of: a ledger, objects, PUTs in flight, processes; and what follows from a ledger.

States are hashable values. Entries are made by `entry` alone, which returns one object
for equal fields, so that a ledger is hashed by identities and folds can be cached.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import NamedTuple

_CACHED = 1 << 17


class Key(NamedTuple):
    """An object's name. `attempt` is empty where a removed rule left it out of the name."""

    folder: str
    batch: str
    attempt: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.batch}-{self.attempt or '?'}"


Object = tuple[Key, tuple[str, ...]]  # its name and its bytes: the rows, or the keys of a list


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """A commit. `deliveries` is known to the model alone: which deliveries its counts cover."""

    operation: str
    batch: str
    attempt: str
    added: tuple[Object, ...] = ()
    removed: tuple[Key, ...] = ()
    lists: tuple[Object, ...] = ()
    rejected: tuple[Object, ...] = ()
    duplicates: tuple[str, ...] = ()
    supplements: tuple[tuple[str, int], ...] = ()
    cursor: tuple[int, int] | None = None
    fences: tuple[str, ...] = ()
    oldest_readable: int | None = None
    moved: tuple[str, ...] = ()
    holds: bool = False
    deliveries: tuple[str, ...] = ()

    def rows(self) -> tuple[str, ...]:
        return tuple(row for _, rows in self.added for row in rows)


_entries: dict[tuple[object, ...], Entry] = {}


def entry(**values: object) -> Entry:
    """Return the one entry with these fields."""
    made = Entry(**values)  # type: ignore[arg-type]
    return _entries.setdefault(tuple(getattr(made, each.name) for each in fields(Entry)), made)


def changed(old: Entry, **values: object) -> Entry:
    return entry(**({each.name: getattr(old, each.name) for each in fields(Entry)} | values))


@dataclass(frozen=True, eq=False)
class Job:
    """What a process is there to do; never changes."""

    kind: str  # append, compact, expire, hold, requeue, collect, reader
    inputs: str = ""  # digest of the inputs: two drops of one file have the same
    deliveries: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    supplements: tuple[tuple[str, int], ...] = ()
    bad_line: bool = False
    cursor_sees: int | None = None  # reads a cursor source, of which it sees this many rows
    adopts: str = ""
    adopts_the_living: bool = False
    found_since: tuple[str, ...] = ()  # lies in the adopted claim, but was never frozen
    moves: tuple[str, ...] = ()
    long_lists: bool = False


class Process(NamedTuple):
    name: str
    job: Job
    at: str = "start"
    base: int = 0
    seen: int = 0
    slot: int = 0
    attempts: int = 0
    batch: str = ""
    deliveries: tuple[str, ...] = ()
    cursor: int = 0
    entry: Entry | None = None
    to_write: tuple[Object, ...] = ()
    planned: tuple[Key, ...] = ()
    candidates: frozenset[Object] = frozenset()

    @property
    def is_over(self) -> bool:
        return self.at in ("stopped", "dead", "failed", "in vain", "misled")


class Claim(NamedTuple):
    """A frozen batch in the spool."""

    owner: str
    batch: str
    base: int
    deliveries: tuple[str, ...]


class Flying(NamedTuple):
    """A PUT whose reply was lost; it may land at any later time, or never."""

    slot: int
    entry: Entry | None = None
    object: Object | None = None


class State(NamedTuple):
    ledger: tuple[Entry, ...] = ()
    objects: frozenset[Object] = frozenset()
    flying: frozenset[Flying] = frozenset()
    processes: tuple[Process, ...] = ()
    claims: frozenset[Claim] = frozenset()
    acknowledged: frozenset[str] = frozenset()
    durable: int = 0  # entries that survive a power failure; counted only where power may fail

    def head(self) -> int:
        return len(self.ledger)

    def process(self, name: str) -> Process:
        return next(each for each in self.processes if each.name == name)

    def content(self, key: Key) -> tuple[str, ...] | None:
        return next((content for name, content in self.objects if name == key), None)

    def moved_on(self, process: Process, **values: object) -> State:
        """This state with `process` in its new form, and other fields as given."""
        processes = tuple(process if each.name == process.name else each for each in self.processes)
        return self._replace(processes=processes, **values)  # type: ignore[arg-type]

    def with_object(self, new: Object) -> State:
        """After a create-only PUT of an object arrived."""
        return self if self.content(new[0]) is not None else self._replace(objects=self.objects | {new})

    def with_entry(self, slot: int, new: Entry, *, overwrite: bool) -> State:
        """After a PUT of a commit arrived; an occupied slot stays as it is unless `overwrite`."""
        if slot == len(self.ledger):
            return self._replace(ledger=(*self.ledger, new))
        if overwrite and slot < len(self.ledger):
            return self._replace(ledger=(*self.ledger[:slot], new, *self.ledger[slot + 1 :]))
        return self


@dataclass(frozen=True)
class Faults:
    """What may go wrong in a scenario, by names of processes."""

    deaths: frozenset[str] = field(default_factory=frozenset)
    lost_replies: frozenset[str] = field(default_factory=frozenset)
    late_objects: frozenset[str] = field(default_factory=frozenset)
    power_failure: bool = False


NO_FAULTS = Faults()

Ledger = tuple[Entry, ...]


@lru_cache(_CACHED)
def live(ledger: Ledger) -> dict[Key, tuple[str, ...]]:
    """Return the live data files and their rows."""
    files: dict[Key, tuple[str, ...]] = {}
    for each in ledger:
        for key in each.removed:
            files.pop(key, None)
        files.update(each.added)
    return files


@lru_cache(_CACHED)
def archived(ledger: Ledger) -> tuple[str, ...]:
    """Return the live rows, repeats included."""
    return tuple(row for rows in live(ledger).values() for row in rows)


@lru_cache(_CACHED)
def ever_archived(ledger: Ledger) -> frozenset[str]:
    return frozenset(row for each in ledger for row in each.rows())


@lru_cache(_CACHED)
def reached(ledger: Ledger) -> frozenset[Object]:
    """Return the objects that the newest snapshot and the commits themselves name."""
    of_commits = (each for e in ledger for each in (*e.lists, *e.rejected))
    return frozenset(live(ledger).items()) | frozenset(of_commits)


@lru_cache(_CACHED)
def oldest_readable(ledger: Ledger) -> int:
    """Return the oldest snapshot that may still be asked for, as the newest commit to say so has it."""
    return next((e.oldest_readable for e in reversed(ledger) if e.oldest_readable is not None), 0)


@lru_cache(_CACHED)
def reached_by_kept(ledger: Ledger, oldest: int) -> frozenset[Object]:
    """Return the objects that some snapshot from `oldest` to the head reaches."""
    return frozenset().union(*(reached(ledger[:n]) for n in range(min(oldest, len(ledger)), len(ledger) + 1)))


@lru_cache(_CACHED)
def cursor(ledger: Ledger) -> int:
    return next((e.cursor[1] for e in reversed(ledger) if e.cursor), 0)


@lru_cache(_CACHED)
def committed(ledger: Ledger) -> frozenset[str]:
    return frozenset(each.attempt for each in ledger)


@lru_cache(_CACHED)
def fenced(ledger: Ledger) -> frozenset[str]:
    return frozenset(attempt for each in ledger for attempt in each.fences)
