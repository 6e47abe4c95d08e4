"""The rules by which no row is lost, taken out of the code one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from archiver.database import settled, xid8
from archiver.database.postgres import PostgresRows
from tests.faults.removals import Change, apply

_XID8: Final = "archiver.database.xid8:Xid8.bound"
_SETTLED: Final = "archiver.database.settled:Settled.bound"
_WHERE: Final = "archiver.database.postgres:PostgresRows._where"


def _changed(where: str, *texts: str) -> Callable[[pytest.MonkeyPatch], None]:
    change = Change(where, tuple(zip(texts[::2], texts[1::2], strict=True)))
    return lambda patch: apply(change, patch)


def _replaced(module: Any, name: str, *texts: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Other texts in a statement."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        sql = getattr(module, name)
        for old, new in zip(texts[::2], texts[1::2], strict=True):
            assert sql.count(old) == 1, f"{name}: {sql.count(old)} times: {old}"
            sql = sql.replace(old, new)
        patch.setattr(module, name, sql)

    return remove


def _one_snapshot(patch: pytest.MonkeyPatch) -> None:
    """Take the cap in the snapshot in which the rows are then read."""
    bound = PostgresRows.bound

    def early(self: PostgresRows, cursor: Any) -> Any:
        with contextlib.suppress(Exception):
            self.connection.run("ROLLBACK")
        self.connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self.connection.run("SELECT 1")
        return bound(self, cursor)

    @contextlib.contextmanager
    def page(self: PostgresRows, after: Any, upto: Any, limit: int) -> Iterator[Any]:
        if upto.value is None:
            yield iter(())
            return
        names = ", ".join((*self.expressions, *self.placed))
        sql = f"SELECT {names} FROM {self.table.relation} WHERE {self._where(after, upto)}"
        with self.connection.stream(f"{sql} ORDER BY {self.order} LIMIT {limit}") as rows:
            yield rows

    apply(
        Change(
            _SETTLED,
            (('with connection.transaction("BEGIN READ ONLY"):', "with contextlib.nullcontext():"),),
        ),
        patch,
    )
    patch.setattr(settled, "contextlib", contextlib, raising=False)
    patch.setattr(PostgresRows, "bound", early)
    patch.setattr(PostgresRows, "page", page)


OF_XID8: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "no bound": _changed(
        _XID8, "connection.rows(_XMIN)[0]", '"9223372036854775807", *connection.rows(_XMIN)[0][1:]'
    ),
    "the snapshot's xmax as the bound": _replaced(
        xid8, "_XMIN", "pg_snapshot_xmin(now)::text", "pg_snapshot_xmax(now)::text"
    ),
    "a cursor of the position alone": _changed(
        _WHERE,
        "({', '.join(map(quoted, names))}) > ({', '.join(told)})",
        "{quoted(names[0])} > {told[0]}",
    ),
}
OF_SETTLED: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "the clock alone as the cap": _replaced(
        settled, "_CAP", "$1::timestamptz AS", "'infinity'::timestamptz AS"
    ),
    "cap and rows in one snapshot": _one_snapshot,
    "prepared transactions passed over": _replaced(settled, "_PREPARED", "WHERE", "WHERE false AND"),
    "the time of PREPARE as the start": _changed(
        _SETTLED,
        "if prepared:",
        'if prepared:\n        oldest = min(oldest or "z", prepared[0][1])\n    if False:',
    ),
    "prepared transactions first": _changed(
        _SETTLED,
        'with connection.transaction("BEGIN READ ONLY"):',
        'prepared = connection.rows(_PREPARED)\n    with connection.transaction("BEGIN READ ONLY"):',
        "prepared = connection.rows(_PREPARED)  # after",
        "# after",
    ),
    "the clock read behind the sessions": _changed(
        _SETTLED,
        'oldest or "infinity", seen',
        "oldest or \"infinity\", connection.value('SELECT clock_timestamp()::text')",
    ),
    "the start of the transaction alone": _replaced(
        settled,
        "_ACTIVITY",
        "CASE WHEN state = 'idle' THEN xact_start ELSE least(xact_start, query_start) END",
        "xact_start",
    ),
    "a cursor of the position alone": OF_XID8["a cursor of the position alone"],
    "a column that rounds": _replaced(
        settled, "_CAP", "least(oldest, seen - lag) - rounding AS", "least(oldest, seen - lag) AS"
    ),
}
