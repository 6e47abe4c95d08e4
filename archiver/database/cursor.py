"""How far a database was read, as the ledger keeps it. No part of it is a secret."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from archiver.errors import IntegrityError

_FORMAT: Final = 1
_TEXTS: Final = ("strategy", "server", "database", "table", "position", "bound")


@dataclass(frozen=True, slots=True)
class Origin:
    """Which database this is. Where it differs from the cursor's, positions mean something else.

    Attributes:
        server: PostgreSQL's system identifier; of SQLite a digest that stays.
        timeline: PostgreSQL's; it grows with each restore and each fail-over. 0 elsewhere.
        database: PostgreSQL's oid of it; empty elsewhere.
        table: Its name, or `query` and a digest of its text.
        columns: Those of the position and the key, in their order; none of SQLite, which has its rowid.
    """

    server: str
    timeline: int
    database: str
    table: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything up to and including (position, key) was read.

    Attributes:
        strategy: By which it was read.
        origin: Which database it was.
        position: As the database writes it.
        key: Values of the key columns, as the database writes them.
        bound: How far rows could be read when it was; never goes back.
    """

    strategy: str
    origin: Origin
    position: str
    key: tuple[str, ...]
    bound: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "strategy": self.strategy,
            "server": self.origin.server,
            "timeline": self.origin.timeline,
            "database": self.origin.database,
            "table": self.origin.table,
            "columns": list(self.origin.columns),
            "position": self.position,
            "key": list(self.key),
            "bound": self.bound,
        }

    @staticmethod
    def from_json(source: str, tree: Any) -> Cursor:
        """Read what the ledger holds.

        Raises:
            IntegrityError: It is no cursor of ours.
        """
        try:
            texts = {name: tree[name] for name in _TEXTS}
            key, timeline, columns = tree["key"], tree["timeline"], tree["columns"]
            if tree["format"] != _FORMAT or type(timeline) is not int or not isinstance(key, list):
                raise ValueError
            if not isinstance(columns, list):
                raise ValueError
            if not all(isinstance(one, str) for one in (*texts.values(), *key, *columns)):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise IntegrityError(
                f"source {source}: the ledger holds no cursor that this version can read",
                hint="a newer version of archiver wrote it, or another kind of source has this name",
            ) from None
        origin = Origin(texts["server"], timeline, texts["database"], texts["table"], tuple(columns))
        return Cursor(texts["strategy"], origin, texts["position"], tuple(key), texts["bound"])

    def at(self, position: str, key: tuple[str, ...]) -> Cursor:
        """Return this one moved on."""
        return replace(self, position=position, key=key)
