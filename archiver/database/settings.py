"""`[sources.NAME]`: which rows of which database are events, and how they are read.

The location holds a password, so it is no setting: a setting names the environment variable or
the file that holds it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from archiver.errors import ConfigError
from archiver.streams import NAME

StrategyName = Literal["auto", "xid8", "settled", "rowid"]

_MOST_SECRET_BYTES: Final = 64 << 10
_KEYS: Final[dict[str, type | tuple[type, ...]]] = {
    "type": str,
    "url_env": str,
    "url_file": str,
    "table": str,
    "query": str,
    "strategy": str,
    "position": str,
    "key": (str, list),
    "columns": dict,
    "constants": dict,
    "json": list,
    "exclude": list,
    "lag_seconds": (int, float),
    "batch_rows": int,
    "max_row_bytes": int,
    "statement_timeout_seconds": (int, float),
    "purge": bool,
    "purge_setting": str,
}
STRATEGIES: Final = ("auto", "xid8", "settled", "rowid")


class Location(str):
    """A database's URL. Shows itself to nobody; `reveal` gives it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Location(…)"

    def __str__(self) -> str:
        return "(the database's URL)"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def reveal(self) -> str:
        """Return the URL itself, for the driver alone."""
        return "".join(self)


@dataclass(frozen=True, slots=True)
class Database:
    """A database as a source of rows.

    Attributes:
        name: As commits show it.
        url_env, url_file: Where the URL is; exactly one of them.
        table, query: What is read; exactly one of them.
        strategy: How no row is lost, see docs/database.md; `auto` takes what the table offers.
        position: The column that says in which order rows were committed: of type xid8, a time,
            or a rowid; empty for what the table offers.
        key: Columns that together tell rows apart; empty for the primary key.
        columns: Event member (or any name) -> column.
        constants: Event member -> a text that every row has.
        json: Columns of text that hold JSON.
        exclude: Columns that are left out.
        lag_seconds: For `settled`: how old a row must be at least.
        batch_rows: How many rows a commit has at most.
        max_row_bytes: Of a row's texts as they are fetched; a larger row is an error.
        statement_timeout_seconds: Of each statement; 0 is for ever.
        purge: Whether `archiver purge` may delete archived rows.
        purge_setting: `name=value`, set in the transactions that delete, for tables whose
            triggers ask for it.
    """

    name: str
    url_env: str | None = None
    url_file: str | None = None
    table: str | None = None
    query: str | None = None
    strategy: StrategyName = "auto"
    position: str = ""
    key: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    json: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    lag_seconds: float = 60.0
    batch_rows: int = 500_000
    max_row_bytes: int = 16 << 20
    statement_timeout_seconds: float = 600.0
    purge: bool = False
    purge_setting: str = ""

    def location(self, environment: Mapping[str, str] | None = None) -> Location:
        """Return the URL.

        Raises:
            ConfigError: The variable is not set, or the file cannot be read.
        """
        if self.url_env is not None:
            value = (os.environ if environment is None else environment).get(self.url_env, "")
            if not value.strip():
                raise ConfigError(
                    f"source {self.name}: the variable {self.url_env} is not set",
                    hint="it holds the database's URL: postgresql://role:password@host/database",
                )
            return Location(value.strip())
        path = Path(self.url_file or "")
        try:
            with path.open(encoding="utf-8") as file:
                value = file.read(_MOST_SECRET_BYTES).strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigError(f"source {self.name}: {path}: cannot read the database's URL: {why}") from None
        if not value:
            raise ConfigError(f"source {self.name}: {path} is empty", hint="it holds the database's URL")
        return Location(value)


def read_sources(where: str, tree: Mapping[str, Any], folder: Path) -> dict[str, Database]:
    """Read `[sources.NAME]`, each. Relative paths are relative to `folder`.

    Raises:
        ConfigError: A name, key or value means nothing; names it.
    """
    found = {}
    for name, members in tree.items():
        here = f"{where}: [sources.{name}]"
        if not isinstance(members, dict):
            raise ConfigError(f"{here} must be a table")
        found[str(name)] = _read(here, str(name), members, folder)
    return found


def _read(here: str, name: str, members: Mapping[str, Any], folder: Path) -> Database:
    if NAME.fullmatch(name) is None:
        raise ConfigError(f"{here}: a name is up to 64 letters, digits, dots, dashes, underscores")
    if name == "spool" or name.startswith("spool-"):
        raise ConfigError(f"{here}: spools have such names; choose another")
    for key, value in members.items():
        if key not in _KEYS:
            if key in ("url", "password"):
                raise ConfigError(
                    f"{here} {key}: a URL holds a password, which is not written here",
                    hint='name a variable or a file that holds the URL: url_env = "…" or url_file = "…"',
                )
            raise ConfigError(f"{here} {key} means nothing (known: {', '.join(_KEYS)})")
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool) != (_KEYS[key] is bool):
            raise ConfigError(f"{here} {key} = {value!r:.60} is of the wrong type")
    if members.get("type") != "database":
        raise ConfigError(f'{here} type = {members.get("type")!r:.40}: expected "database"')
    given: dict[str, Any] = {key: value for key, value in members.items() if key != "type"}
    given["key"] = _names(here, "key", given.get("key", ()))
    for key in ("json", "exclude"):
        given[key] = _names(here, key, given.get(key, ()))
    for key in ("columns", "constants"):
        told = given.get(key, {})
        if not all(isinstance(one, str) and one for one in (*told, *told.values())):
            raise ConfigError(f'{here} {key} must be texts: member = "{key.rstrip("s")}"')
    if "url_file" in given:
        given["url_file"] = str(folder / given["url_file"])
    return check_source(here, Database(name=name, **given))


def check_source(here: str, source: Database) -> Database:
    """Return `source` if its values mean something.

    Raises:
        ConfigError: One does not; names it.
    """
    for one, other in (("url_env", "url_file"), ("table", "query")):
        if (getattr(source, one) is None) == (getattr(source, other) is None):
            raise ConfigError(f"{here}: expected one of {one} and {other}")
    if source.strategy not in STRATEGIES:
        raise ConfigError(f"{here} strategy is {', '.join(STRATEGIES)}, not {source.strategy!r:.40}")
    # Not `<`: NaN is in TOML, too.
    if not 1 <= source.lag_seconds <= 86_400:
        raise ConfigError(f"{here} lag_seconds is 1 to 86400: rows are given times before they are committed")
    if not 1 <= source.batch_rows <= 10_000_000:
        raise ConfigError(f"{here} batch_rows is 1 to 10,000,000")
    if not 1024 <= source.max_row_bytes <= 64 << 20:
        raise ConfigError(f"{here} max_row_bytes is 1 KiB to 64 MiB")
    if not 0 <= source.statement_timeout_seconds <= 86_400:
        raise ConfigError(f"{here} statement_timeout_seconds is 0 to 86400")
    if source.query is not None and source.purge:
        raise ConfigError(f"{here}: purge deletes from a table, and this source is a query")
    if source.purge_setting and not all(source.purge_setting.partition("=")[::2]):
        raise ConfigError(f"{here} purge_setting must be name=value")
    return source


def _names(here: str, key: str, told: Any) -> tuple[str, ...]:
    if isinstance(told, str):
        told = [told]
    if not all(isinstance(one, str) and one for one in told):
        raise ConfigError(f'{here} {key} must be a list of texts, none of them empty: ["…"]')
    return tuple(told)
