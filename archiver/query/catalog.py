"""The named queries: one `*.sql` file a question, whose header the program reads.

A header is comment lines before the statement, in this order:

    -- title: Failed logins
    -- answers: Who failed to log in most often, from where, and between when?
    -- when: As a daily look, and first of all when somebody reports a locked account.
    -- param at_least INTEGER 5 leave out who failed less often
    -- column failures BIGINT how often
    -- draw: bars failures

A parameter stands in the statement as `$at_least`. Its type is one of `TYPES`, its default a
literal or NULL. Where a query has `since` or `until`, `$since_day` and `$until_day` are their
days in UTC, for a filter on the partition column `dt`; a day that is only touched counts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from archiver import clock
from archiver.errors import ConfigError
from archiver.times import parse_when

Kind = Literal["VARCHAR", "INTEGER", "DOUBLE", "BOOLEAN", "TIMESTAMP"]
Value = str | int | float | bool | datetime | None
TYPES: Final[tuple[Kind, ...]] = ("VARCHAR", "INTEGER", "DOUBLE", "BOOLEAN", "TIMESTAMP")
DRAWINGS: Final = ("bars", "sparkline")
LARGEST_FILE_BYTES: Final = 262_144

_INSTALLED: Final = Path(__file__).parent.parent / "queries"
_CHECKOUT: Final = Path(__file__).parent.parent.parent / "queries"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_LINE: Final = re.compile(r"-- (title|answers|when|draw): (\S.*)|-- (param|column) (\S.*)")
_PARAM: Final = re.compile(r"([a-z][a-z0-9_]*) ([A-Z]+) ('(?:[^']|'')*'|\S+) (\S.*)")
_COLUMN: Final = re.compile(r"([a-z][a-z0-9_]*) ([A-Z]+(?: [A-Z]+)*(?:\[\])?) (\S.*)")
_USED: Final = re.compile(r"\$([a-z][a-z0-9_]*)")
_DAYS: Final = {"since_day": "since", "until_day": "until"}
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_TRUE: Final = ("true", "yes", "on", "1")
_FALSE: Final = ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a question can be told.

    Attributes:
        name: As in the statement, without its `$`; an option has `-` in place of `_`.
        kind: Of its values. `TIMESTAMP` is an instant.
        default: The value where none is given.
        told: What it means, without a full stop.
    """

    name: str
    kind: Kind
    default: Value
    told: str

    def read(self, given: object, now_us: int) -> Value:
        """Return what `given`, a text or a value of Python, means.

        Raises:
            ConfigError: Nothing of this parameter's type.
        """
        if given is None:
            return None
        try:
            value: Value = _READERS[self.kind](given, now_us)
        except (ValueError, TypeError):
            raise ConfigError(
                f"{self.name}: {given!r:.60} is no {self.kind}", hint=f"{self.name}: {self.told}"
            ) from None
        return value


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the answer: its name, DuckDB's name of its type, and what it means."""

    name: str
    kind: str
    told: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a person would rather see than read.

    Attributes:
        kind: `bars`: one beside each row; `sparkline`: one for each value of `by`, or one in all.
        column: Whose values are drawn.
        by: Column whose values have a line of their own; None is one line for all.
    """

    kind: str
    column: str
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A named query, as its file has it.

    Attributes:
        path: The file.
        title, answers, when: What it is called, what it answers, when to use it.
        statement: The SQL, without the header.
    """

    name: str
    path: Path
    title: str
    answers: str
    when: str
    statement: str
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[Column, ...] = ()
    drawing: Drawing | None = None

    def bind(self, given: Mapping[str, object], *, now_us: int | None = None) -> dict[str, Value]:
        """Return the value of every `$name` in the statement.

        Args:
            given: By parameter; one that is left out has its default. Texts are read as the
                command line reads them: `7d` is an instant.
            now_us: What `7d` is counted back from, in microseconds since 1970; None is now.

        Raises:
            ConfigError: A name that the query has not, or a value that is not of its type.
        """
        now = clock.now_us() if now_us is None else now_us
        known = {one.name: one for one in self.parameters}
        for name in given:
            if name not in known:
                raise ConfigError(f"{self.name} has no parameter {name!r}", hint=nearest(name, known))
        values = {
            name: one.read(given[name], now) if name in given else one.default for name, one in known.items()
        }
        if isinstance(values.get("since"), datetime) and isinstance(values.get("until"), datetime):
            values |= {day: _day(values[name]) for day, name in _DAYS.items()}
        used = set(_USED.findall(_without_comments(self.statement)))
        return {name: value for name, value in values.items() if name in used}


@dataclass(frozen=True, slots=True)
class Catalog:
    """The queries that came with the program, and those in a user's folders.

    A name in a later folder takes the place of the same one in an earlier.

    Attributes:
        folders: Where to look, the program's own first.
    """

    folders: tuple[Path, ...] = field(default_factory=lambda: (queries_folder(),))

    @staticmethod
    def of(folders: Iterable[str | Path] = ()) -> Catalog:
        """Return the program's queries and those of `folders`.

        Raises:
            ConfigError: One is no folder.
        """
        own = tuple(Path(folder) for folder in folders)
        for folder in own:
            if not folder.is_dir():
                raise ConfigError(f"{folder}: no such folder", hint="name a folder of *.sql files")
        return Catalog((queries_folder(), *own))

    def names(self) -> list[str]:
        """Return the names of all queries, in order. No file is read."""
        return sorted(self._paths())

    def __iter__(self) -> Iterator[Query]:
        return (read_query(path) for _, path in sorted(self._paths().items()))

    def get(self, name: str) -> Query:
        """Return a query.

        Raises:
            ConfigError: There is none of that name, or its file is no query.
        """
        paths = self._paths()
        if name not in paths:
            raise ConfigError(f"no query is called {name!r:.60}", hint=nearest(name, paths))
        return read_query(paths[name])

    def _paths(self) -> dict[str, Path]:
        return {
            path.stem: path
            for folder in self.folders
            for path in sorted(folder.glob("*.sql"))
            if _NAME.fullmatch(path.stem)
        }


def queries_folder() -> Path:
    """Return the folder of queries that came with the program: beside it, or in the checkout."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint: the name that was probably meant, or all that there are."""
    there = sorted(known)
    close = difflib.get_close_matches(name, there, 1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(there) or 'none'}"


def read_query(path: Path) -> Query:
    """Read one file.

    Raises:
        ConfigError: It cannot be read, or its header is not one.
    """
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise ConfigError(f"{path}: larger than {LARGEST_FILE_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        return _parsed(path, text)
    except ValueError as error:
        raise ConfigError(
            f"{path}: {error}", hint="`archiver queries show failed_logins` shows how a query is written"
        ) from None


def _parsed(path: Path, text: str) -> Query:
    said: dict[str, str] = {}
    parameters: list[Parameter] = []
    columns: list[Column] = []
    lines = text.splitlines()
    count = next((n for n, line in enumerate(lines) if not line.startswith("--")), len(lines))
    for number, line in enumerate(lines[:count], start=1):
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            raise ValueError(f"line {number} is no line of a header: {line!r:.60}")
        if found[3] == "param":
            parameters.append(_parameter(found[4]))
        elif found[3] == "column":
            columns.append(_column(found[4]))
        else:
            said[found[1]] = found[2]
    if missing := [name for name in ("title", "answers", "when") if name not in said]:
        raise ValueError(f"the header has no {', no '.join(missing)}")
    statement = "\n".join(lines[count:]).strip().rstrip(";").rstrip()
    if not statement:
        raise ValueError("there is no statement below the header")
    query = Query(
        name=path.stem,
        path=path,
        title=said["title"],
        answers=said["answers"],
        when=said["when"],
        statement=statement,
        parameters=tuple(parameters),
        columns=tuple(columns),
        drawing=_drawing(said["draw"], columns) if "draw" in said else None,
    )
    _check_names(query)
    return query


def _check_names(query: Query) -> None:
    names = [one.name for one in query.parameters]
    used = set(_USED.findall(_without_comments(query.statement)))
    if len(set(names)) < len(names):
        raise ValueError("a parameter stands twice in the header")
    wanted = {_DAYS.get(name, name) for name in used}
    if used & _DAYS.keys() and not {"since", "until"} <= set(names):
        raise ValueError("$since_day and $until_day need the parameters since and until")
    if unknown := wanted - set(names):
        raise ValueError(f"the header has no parameter {', '.join(sorted(unknown))}")
    if unused := set(names) - wanted:
        raise ValueError(f"the statement does not use ${', $'.join(sorted(unused))}")


def _parameter(text: str) -> Parameter:
    found = _PARAM.fullmatch(text)
    if found is None:
        raise ValueError(f"a parameter is `name TYPE default what it means`: {text!r:.80}")
    name, kind, default, told = found.groups()
    if name in _DAYS:
        raise ValueError(f"{name} is made from {_DAYS[name]}")
    for known in TYPES:
        if kind == known:
            bare = Parameter(name, known, None, told)
            literal = default[1:-1].replace("''", "'") if default.startswith("'") else default
            try:
                value = None if default == "NULL" else bare.read(literal, clock.now_us())
            except ConfigError as error:
                raise ValueError(f"the default of {error.message}") from None
            return Parameter(name, known, value, told)
    raise ValueError(f"{name}: the type {kind} is none of {', '.join(TYPES)}")


def _column(text: str) -> Column:
    found = _COLUMN.fullmatch(text)
    if found is None:
        raise ValueError(f"a column is `name TYPE what it means`: {text!r:.80}")
    return Column(*found.groups())


def _drawing(text: str, columns: Iterable[Column]) -> Drawing:
    words = text.split()
    if words[0] not in DRAWINGS or len(words) not in (2, 4) or (len(words) == 4 and words[2] != "by"):
        raise ValueError(f"draw is `bars COLUMN` or `sparkline COLUMN by COLUMN`: {text!r:.80}")
    named = {one.name for one in columns}
    if missing := [word for word in words[1::2] if word not in named]:
        raise ValueError(f"draw: no column is called {missing[0]}")
    return Drawing(words[0], words[1], words[3] if len(words) == 4 else None)


def _without_comments(statement: str) -> str:
    return re.sub(r"--[^\n]*", "", statement)


def _day(value: Value) -> str:
    assert isinstance(value, datetime)  # noqa: S101  (for the type checker)
    return value.astimezone(UTC).date().isoformat()


def _text(given: object, _: int) -> str:
    if not isinstance(given, str):
        raise TypeError
    return given


def _integer(given: object, _: int) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and -(2**63) <= given < 2**63:
        return given
    if isinstance(given, str) and _INTEGER.fullmatch(given.strip()):
        return int(given)
    raise ValueError


def _double(given: object, _: int) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise TypeError
    found = float(given)
    if found != found or found in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
        raise ValueError
    return found


def _boolean(given: object, _: int) -> bool:
    if isinstance(given, bool):
        return given
    if isinstance(given, str) and given.strip().lower() in (*_TRUE, *_FALSE):
        return given.strip().lower() in _TRUE
    raise ValueError


def _instant(given: object, now_us: int) -> datetime:
    if isinstance(given, datetime):
        return given if given.tzinfo is not None else given.replace(tzinfo=UTC)
    if isinstance(given, str):
        return clock.from_us(parse_when(given, now_us))
    raise TypeError


_READERS: Final[dict[Kind, Any]] = {
    "VARCHAR": _text,
    "INTEGER": _integer,
    "DOUBLE": _double,
    "BOOLEAN": _boolean,
    "TIMESTAMP": _instant,
}
