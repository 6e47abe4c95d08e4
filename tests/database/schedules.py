"""Random schedules of writers, with a reader in between: the same ones for the same seed.

Several sessions insert rows, in transactions that stay open, with savepoints, prepared, rolled
back, some with times that the client sets. The reader does what a run does, and before each of its
statements the writers may do something. At the end all transactions end; then each row that was
committed must have been read once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from archiver.database.connection import Connection
from tests.database.tables import Reader
from tests.services.postgres import Session

TABLE = "events"


class Interrupted(Connection):
    """A connection before each of whose statements something may happen."""

    def __init__(self, inner: Connection, before: Callable[[str], None]) -> None:
        super().__init__(inner.source, inner._raw, inner._errors, inner._secrets)
        self._before = before

    def table(self, sql: str, *values: Any) -> pa.Table:
        self._before(sql)
        return super().table(sql, *values)

    def stream(self, sql: str) -> Any:
        self._before(sql)
        return super().stream(sql)


@dataclass
class Writer:
    """One session, and the rows of its open transaction: a list for each savepoint, the outermost first."""

    session: Session
    levels: list[list[str]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return bool(self.levels)

    @property
    def rows(self) -> list[str]:
        return [one for level in self.levels for one in level]


@dataclass
class Schedule:
    """One schedule. `run` plays it; `told` is what happened, for whoever must understand a loss."""

    seed: int
    writers: list[Writer]
    reader: Reader
    client_times: bool = False
    prepares: bool = True
    steps: int = 20
    committed: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    prepared: dict[str, list[str]] = field(default_factory=dict)
    is_over: bool = False

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._count = 0

    def run(self) -> None:
        """Play all steps, end all transactions, read what is left."""
        for _ in range(self.steps):
            if self.random.random() < 0.2:
                self.read()
            else:
                self.step()
        self.finish()
        for _ in range(2):
            self.reader.run()

    def read(self) -> None:
        dies_in = self.random.choice((None, None, None, 0, 1))
        self.told.append(f"read, dies in {dies_in}" if dies_in is not None else "read")
        before = set(self.reader.seen)
        self.reader.run(dies_in=dies_in)
        self.told.append(f"  had {sorted(set(self.reader.seen) - before)}")

    def between(self, sql: str) -> None:
        """What writers do before a statement of the reader."""
        if not self.is_over and self.random.random() < 0.12:
            self.told.append(f"  before {' '.join(sql.split())[:60]}:")
            self.step()

    def step(self) -> None:
        """One action of one writer."""
        writer = self.random.choice(self.writers)
        if not writer.is_open:
            self.random.choice((self._begin, self._begin, self._alone, self._end_prepared, self._delete))(
                writer
            )
            return
        actions = [self._insert] * 5 + [self._savepoint] * 2 + [self._commit] * 3 + [self._roll_back]
        if len(writer.levels) > 1:
            actions += [self._roll_back_to] * 2 + [self._release]
        if self.prepares:
            actions.append(self._prepare)
        self.random.choice(actions)(writer)

    def finish(self) -> None:
        self.is_over = True
        for writer in self.writers:
            if writer.is_open:
                self.random.choice((self._commit, self._commit, self._roll_back))(writer)
        for gid in list(self.prepared):
            self._end(gid, self.writers[0])

    def lost(self) -> set[str]:
        return self.committed - self.deleted - set(self.reader.seen)

    def twice(self) -> set[str]:
        return {one for one, count in self.reader.seen.items() if count > 1}

    def strange(self) -> set[str]:
        return set(self.reader.seen) - self.committed

    def check(self) -> None:
        """Every row that was committed was read, once; no other was."""
        found = {"lost": self.lost(), "twice": self.twice(), "strange": self.strange()}
        story = "\n".join(self.told)
        assert not any(found.values()), f"seed {self.seed}: {found}\n{story}"

    def _say(self, writer: Writer, what: str) -> None:
        self.told.append(f"  {self.writers.index(writer)}: {what}")

    def _begin(self, writer: Writer) -> None:
        self._say(writer, "begin")
        writer.session.run("BEGIN")
        writer.levels = [[]]
        if self.random.random() < 0.5:
            self._insert(writer)

    def _alone(self, writer: Writer) -> None:
        """A row in a transaction of its own."""
        self.committed.update(self._put(writer))

    def _insert(self, writer: Writer) -> None:
        writer.levels[-1] += self._put(writer)

    def _put(self, writer: Writer) -> list[str]:
        ids = []
        for _ in range(self.random.randint(1, 3)):
            self._count += 1
            # In no order: a later row often has the smaller id.
            ids.append(f"{self.random.randrange(1 << 20):05x}-{self._count}")
        self._say(writer, f"insert {ids}")
        if self.client_times and self.random.random() < 0.3:
            day = self.random.randint(1, 28)
            values = ", ".join(f"('{one}', '2001-02-{day:02d}T00:00:00Z')" for one in ids)
            writer.session.run(f"INSERT INTO {TABLE} (id, created_at) VALUES {values}")
        else:
            values = ", ".join(f"('{one}')" for one in ids)
            writer.session.run(f"INSERT INTO {TABLE} (id) VALUES {values}")
        return ids

    def _savepoint(self, writer: Writer) -> None:
        self._say(writer, "savepoint")
        writer.session.run(f"SAVEPOINT s{len(writer.levels)}")
        writer.levels.append([])
        self._insert(writer)

    def _roll_back_to(self, writer: Writer) -> None:
        self._say(writer, "roll back to savepoint")
        writer.session.run(f"ROLLBACK TO SAVEPOINT s{len(writer.levels) - 1}")
        writer.levels[-1] = []

    def _release(self, writer: Writer) -> None:
        self._say(writer, "release savepoint")
        writer.session.run(f"RELEASE SAVEPOINT s{len(writer.levels) - 1}")
        rows = writer.levels.pop()
        writer.levels[-1] += rows

    def _commit(self, writer: Writer) -> None:
        self._say(writer, "commit")
        writer.session.run("COMMIT")
        self.committed.update(writer.rows)
        writer.levels = []

    def _roll_back(self, writer: Writer) -> None:
        self._say(writer, "roll back")
        writer.session.run("ROLLBACK")
        writer.levels = []

    def _prepare(self, writer: Writer) -> None:
        gid = f"g{self.seed}-{self._count}-{len(self.prepared)}"
        if gid in self.prepared:
            return
        self._say(writer, f"prepare {gid}")
        writer.session.run(f"PREPARE TRANSACTION '{gid}'")
        self.prepared[gid] = writer.rows
        writer.levels = []

    def _end_prepared(self, writer: Writer) -> None:
        if self.prepared:
            self._end(self.random.choice(list(self.prepared)), writer)

    def _end(self, gid: str, writer: Writer) -> None:
        rows = self.prepared.pop(gid)
        if self.random.random() < 0.75:
            self._say(writer, f"commit prepared {gid}")
            writer.session.run(f"COMMIT PREPARED '{gid}'")
            self.committed.update(rows)
        else:
            self._say(writer, f"roll back prepared {gid}")
            writer.session.run(f"ROLLBACK PREPARED '{gid}'")

    def _delete(self, writer: Writer) -> None:
        there = sorted(self.committed - self.deleted)
        if there and self.random.random() < 0.5:
            gone = self.random.choice(there)
            self._say(writer, f"delete {gone}")
            writer.session.run(f"DELETE FROM {TABLE} WHERE id = '{gone}'")
            self.deleted.add(gone)
