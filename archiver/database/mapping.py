"""Which column of a table, or constant, becomes which member of a row's body.

A column called like an event's member becomes it, unless the settings say otherwise; columns
without one keep their names and end in `extra`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from archiver import columns
from archiver.database.settings import Database
from archiver.errors import ConfigError

# In the order of the body.
KNOWN: Final[dict[str, str]] = {"workspace_id": columns.TEXT, **columns.EVENT_MEMBERS}
REQUIRED: Final = ("id", "workspace_id", "actor_id", "action")
TIMES: Final = ("created_at", "occurred_at")
HASHES: Final = frozenset({"event_hash", "previous_event_hash"})  # as bytes they are written in hex digits
# By these a delivery is told from a row.
_TAKEN: Final = frozenset({"event_type"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table or query.

    Attributes:
        type: The database's name of its type, domains resolved.
        category: PostgreSQL's one-letter category of the type (A: array, C: composite); else empty.
    """

    name: str
    type: str
    category: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the body: of a column, or a constant text.

    Attributes:
        kind: Of an event's member (`columns.TEXT` …); None for one that is not an event's.
        is_json: The settings say that the column of text holds JSON.
    """

    member: str
    kind: str | None
    column: Column | None = None
    constant: str | None = None
    is_json: bool = False


def mapped(source: Database, table: Sequence[Column], position: Collection[str] = ()) -> tuple[Member, ...]:
    """Return the members of a row's body, in their order.

    Args:
        table: The columns, in the table's order.
        position: Columns that only say where in the order of commits a row is; left out unless
            they are mapped by name, since a restored database has others.

    Raises:
        ConfigError: The settings name what is not there, or a required member has no column.
    """
    here = f"[sources.{source.name}]"
    by_name = {column.name: column for column in table}
    named = dict(source.columns)
    for key, names in (
        ("columns", named.values()),
        ("json", source.json),
        ("exclude", source.exclude),
    ):
        for name in names:
            if name not in by_name:
                raise ConfigError(f"{here} {key}: there is no column {name!r:.80}{_nearest(name, by_name)}")
    for member in source.constants:
        if member in named:
            raise ConfigError(f"{here}: {member!r:.80} is both a column and a constant")
    used = set(named.values())
    for name in by_name:
        if name in used or name in source.exclude or name in named:
            continue
        if name in source.constants:
            raise ConfigError(f"{here} constants: {name!r:.80} is a column, too", hint="exclude the column")
        if name not in position or name in KNOWN:
            named[name] = name
    if taken := _TAKEN & {*named, *source.constants}:
        member = min(taken)
        raise ConfigError(
            f"{here}: a row cannot have a member {member!r}: deliveries are known by it",
            hint=f'give the column another name: columns = {{ db_{member} = "{named.get(member, member)}" }},'
            " or exclude it",
        )
    members = [
        Member(member, KNOWN.get(member), by_name[named[member]], is_json=named[member] in source.json)
        if member in named
        else Member(member, KNOWN.get(member), constant=source.constants[member])
        for member in [
            *(one for one in KNOWN if one in named or one in source.constants),
            *_others(source, named),
        ]
    ]
    _check_required(here, members, by_name)
    return tuple(members)


def left_out(table: Sequence[Column], members: Sequence[Member]) -> tuple[str, ...]:
    """Return the columns that are in no member of the body, in the table's order."""
    taken = {member.column.name for member in members if member.column is not None}
    return tuple(column.name for column in table if column.name not in taken)


def _others(source: Database, named: dict[str, str]) -> list[str]:
    return [one for one in (*named, *source.constants) if one not in KNOWN]


def _check_required(here: str, members: list[Member], by_name: Collection[str]) -> None:
    have = {one.member for one in members}
    missing = [one for one in REQUIRED if one not in have]
    if not have.intersection(TIMES):
        missing.append("created_at")
    if missing:
        example = f'{missing[0]} = "{next(iter(by_name), "…")}"'
        raise ConfigError(
            f"{here}: no column for {', '.join(missing)}; the columns are {', '.join(list(by_name)[:60])}",
            hint=f"name them under {here[:-1]}.columns]: {example}; a text that every row has goes under "
            f"{here[:-1]}.constants]",
        )


def _nearest(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else f" (there are: {', '.join(list(known)[:60])})"
