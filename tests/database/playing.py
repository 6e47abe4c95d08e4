"""What schedules are played on: a table, four writers and a reader, kept from schedule to schedule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pytest

from archiver.database.postgres import PostgresRows
from archiver.database.settings import Database
from tests.database.schedules import Interrupted, Schedule, Writer
from tests.database.tables import XID, Reader, events_table, opened, source_of
from tests.services.postgres import PostgresDatabase, Session

WRITERS = 4


@dataclass
class Playground:
    """See the module's words."""

    url: str
    strategy: str
    source: Database
    rows: PostgresRows
    sessions: list[Session]
    prepares: bool

    def play(self, seed: int, patch: pytest.MonkeyPatch) -> Schedule:
        """Play one schedule on an empty table."""
        self.sessions[0].run("TRUNCATE events")
        schedule = self.schedule(seed, patch)
        plain = self.rows.connection
        self.rows.connection = Interrupted(plain, schedule.between)
        try:
            schedule.run()
        finally:
            self.rows.connection = plain
            for session in self.sessions:
                session.run("ROLLBACK")
            plain.run("ROLLBACK")
        return schedule

    def schedule(self, seed: int, patch: pytest.MonkeyPatch) -> Schedule:
        source = replace(self.source, batch_rows=(1, 2, 3, 5, 8)[seed % 5])
        return Schedule(
            seed,
            [Writer(one) for one in self.sessions],
            Reader(source, self.rows, patch),
            client_times=self.strategy == "xid8",
            prepares=self.prepares,
        )


@contextmanager
def playground(database: PostgresDatabase, strategy: str) -> Iterator[Playground]:
    """A table for this strategy. `settled` waits for open transactions alone, not for a minute."""
    database.execute(events_table(XID if strategy == "xid8" else ""))

    settings = {"strategy": strategy, "lag_seconds": 0.0}
    with ExitStack() as open_ones:
        rows = open_ones.enter_context(opened(database.url, **settings))
        assert isinstance(rows, PostgresRows)
        sessions = [open_ones.enter_context(database.session(autocommit=True)) for _ in range(WRITERS)]
        ((most,),) = database.query("SELECT current_setting('max_prepared_transactions')::int4")
        yield Playground(
            database.url, strategy, source_of(database.url, **settings), rows, sessions, most > 0
        )
