"""A named query: one `*.sql` file, whose header says what it answers and what it can be told.

A header is comment lines before the statement:

    -- title: Failed logins
    -- topic: Logins
    -- answers: Who failed to log in most often, from where, and between when?
    -- when: As a daily look, and first of all when somebody reports a locked account.
    -- param at_least INTEGER 5 leave out who failed less often
    -- column failures BIGINT how often
    -- draw: bars failures

`title`, `answers` and `when` must be there. A parameter stands in the statement as `$at_least`;
its type is one of `TYPES`, its default a literal or NULL. Of a number the least and the most may
stand behind the type: `INTEGER(1..)`, `DOUBLE(0..100)`. Where a query has `since` and `until`,
`$since_day` and `$until_day` are their days in UTC, for a filter on the partition column `dt`;
a day that is only touched counts.
"""

from __future__ import annotations

import difflib
import numbers
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Final, Literal

from archiver import clock
from archiver.errors import ConfigError
from archiver.times import parse_when

Kind = Literal["VARCHAR", "INTEGER", "DOUBLE", "BOOLEAN", "TIMESTAMP"]
Value = str | int | float | bool | datetime | None
TYPES: Final[Mapping[Kind, str]] = {
    "VARCHAR": "a text",
    "INTEGER": "a whole number",
    "DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "TIMESTAMP": "a date (2026-03-26), a time (2026-03-26T10:15:00Z) or how long ago (24h, 7d)",
}
DRAWINGS: Final = ("bars", "sparkline")
# The options of `archiver query` itself: no parameter may have their names.
OPTIONS: Final = frozenset(
    (
        *("archive", "endpoint_url", "region", "addressing_style", "as_of", "config", "queries"),
        *("format", "output", "raw", "json", "draw", "print", "dialect", "timeout", "limit_memory"),
        *("quiet", "verbose", "log_format", "help", "version"),
    )
)

_LINE: Final = re.compile(r"-- (title|topic|answers|when|draw): (\S.*)|-- (param|column) (\S.*)")
_PARAM: Final = re.compile(
    r"([a-z][a-z0-9_]{0,62}) ([A-Z]+)(?:\((-?[0-9]{1,18})?\.\.(-?[0-9]{1,18})?\))? "
    r"('(?:[^']|'')*'|\S+) (\S.*)"
)
_COLUMN: Final = re.compile(r"([a-z][a-z0-9_]*) ([A-Z]+(?: [A-Z]+)*(?:\([0-9, ]+\))?(?:\[\])?) (\S.*)")
_NO_CODE: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_USED: Final = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_DAYS: Final = {"since_day": "since", "until_day": "until"}
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_NUMBERS: Final = re.compile(r"U?(?:TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DOUBLE|FLOAT|DECIMAL\(.*\)|DECIMAL")
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
        least, most: Of a number; None where nothing is too little or too much.
    """

    name: str
    kind: Kind
    default: Value
    told: str
    least: int | None = None
    most: int | None = None

    @property
    def default_text(self) -> str:
        """The default as a user would write it; empty where there is none."""
        return as_written(self.default)

    @property
    def extent(self) -> str:
        """What a number must be: `from 1`, `from 0 to 23`, `up to 5`; empty where it may be any."""
        least = "" if self.least is None else f"from {self.least:,}"
        most = "" if self.most is None else f"{'to' if least else 'up to'} {self.most:,}"
        return f"{least} {most}".strip()

    def read(self, given: object, now_us: int) -> Value:
        """Return what `given`, a text or a value of Python, means; None is the default.

        Raises:
            ConfigError: Nothing of this parameter's type, or a number beyond its bounds.
        """
        if given is None:
            return self.default
        try:
            found = _READERS[self.kind](given, now_us)
            if isinstance(found, int | float) and not self._is_within(found):
                raise ValueError
            return found
        except (ValueError, TypeError, OverflowError, ConfigError):
            kind = f"{TYPES[self.kind]} {self.extent}".rstrip()
            raise ConfigError(
                f"{self.name}: {given!r:.60} is not {kind}", hint=f"{self.name} means: {self.told}"
            ) from None

    def _is_within(self, number: float) -> bool:
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)


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
        kind: `bars`: one for each row; `sparkline`: one for each value of `by`, or one in all.
        column: Whose values are drawn.
        by: Column that names the bars, or whose values have a line of their own.
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
        topic: What it is listed under; may be empty.
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
    topic: str = ""

    def bind(self, given: Mapping[str, object], *, now_us: int | None = None) -> dict[str, Value]:
        """Return the value of every `$name` in the statement.

        Args:
            given: By parameter; one that is left out, or None, has its default. Texts are read
                as the command line reads them: `7d` is an instant.
            now_us: What `7d` is counted back from, in microseconds since 1970; None is now.

        Raises:
            ConfigError: A name that the query has not, a value that is not of its type, or a
                time that ends before it begins.
        """
        now = clock.now_us() if now_us is None else now_us
        known = {one.name: one for one in self.parameters}
        for name in given:
            if name not in known:
                raise ConfigError(f"{self.name} has no parameter {name!r:.60}", hint=nearest(name, known))
        values = {name: one.read(given.get(name), now) for name, one in known.items()}
        since, until = values.get("since"), values.get("until")
        if isinstance(since, datetime) and isinstance(until, datetime):
            if since > until:
                raise ConfigError(
                    f"since ({as_written(since)}) is after until ({as_written(until)})",
                    hint="since is where the time asked for begins, until is where it ends",
                )
            values |= {"since_day": since.date().isoformat(), "until_day": until.date().isoformat()}
        used = _used(self.statement)
        return {name: value for name, value in values.items() if name in used}


def as_written(value: Value) -> str:
    """Return a parameter's value as a user would write it; NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        midnight = value.astimezone(UTC).time() == time(0)
        return value.date().isoformat() if midnight else clock.to_text(clock.to_us(value))
    return str(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint: the name that was probably meant, or all that there are."""
    there = sorted(known)
    close = difflib.get_close_matches(name, there, 1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(there) or 'none'}"


def parse(path: Path, text: str) -> Query:
    """Return the query that a file of that name and text is.

    Raises:
        ValueError: It is none; says why.
    """
    said: dict[str, str] = {}
    parameters: list[Parameter] = []
    columns: list[Column] = []
    lines = text.split("\n")
    count = next((n for n, line in enumerate(lines) if not line.startswith("--")), len(lines))
    for number, line in enumerate(lines[:count], start=1):
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            raise ValueError(f"line {number} is no line of a header: {line!r:.60}")
        if found[3] == "param":
            parameters.append(_parameter(found[4]))
        elif found[3] == "column":
            columns.append(_column(found[4]))
        elif found[1] in said:
            raise ValueError(f"{found[1]} stands twice in the header")
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
        topic=said.get("topic", ""),
    )
    _check_names(query)
    return query


def _check_names(query: Query) -> None:
    names = [one.name for one in query.parameters]
    options = [*names, *(f"no_{one.name}" for one in query.parameters if one.kind == "BOOLEAN")]
    used = _used(query.statement)
    if len(set(options)) < len(options):
        raise ValueError("a parameter stands twice in the header, or is called no_ and a boolean's name")
    if taken := sorted(OPTIONS.intersection(options)):
        option = "--" + taken[0].replace("_", "-")
        raise ValueError(f"{option} is an option of `archiver query`: give the parameter another name")
    wanted = {_DAYS.get(name, name) for name in used}
    if used & _DAYS.keys() and not {"since", "until"} <= set(names):
        raise ValueError("$since_day and $until_day need the parameters since and until")
    if unknown := wanted - set(names):
        raise ValueError(f"the header has no parameter {', '.join(sorted(unknown))}")
    if unused := set(names) - wanted:
        raise ValueError(f"the statement does not use ${', $'.join(sorted(unused))}")
    if len({one.name for one in query.columns}) < len(query.columns):
        raise ValueError("a column stands twice in the header")


def _parameter(text: str) -> Parameter:
    found = _PARAM.fullmatch(text)
    if found is None:
        raise ValueError(f"a parameter is `name TYPE default what it means`: {text!r:.80}")
    name, kind, least, most, default, told = found.groups()
    if name in _DAYS:
        raise ValueError(f"{name} is made from {_DAYS[name]}")
    for known in TYPES:
        if kind == known:
            bounds = [None if one is None else int(one) for one in (least, most)]
            if bounds != [None, None] and kind not in ("INTEGER", "DOUBLE"):
                raise ValueError(f"{name}: only numbers have bounds, and {kind} is none")
            bare = Parameter(name, known, None, told, *bounds)
            literal = default[1:-1].replace("''", "'") if default.startswith("'") else default
            try:
                value = None if default == "NULL" else bare.read(literal, clock.now_us())
            except ConfigError as error:
                raise ValueError(f"the default of {error.message}") from None
            return replace(bare, default=value)
    raise ValueError(f"{name}: the type {kind} is none of {', '.join(TYPES)}")


def _column(text: str) -> Column:
    found = _COLUMN.fullmatch(text)
    if found is None:
        raise ValueError(f"a column is `name TYPE what it means`: {text!r:.80}")
    return Column(*found.groups())


def _drawing(text: str, columns: Iterable[Column]) -> Drawing:
    words = text.split()
    if words[0] not in DRAWINGS or len(words) not in (2, 4) or (len(words) == 4 and words[2] != "by"):
        raise ValueError(
            f"draw is `bars COLUMN` or `sparkline COLUMN`, with or without `by COLUMN`: {text!r:.80}"
        )
    kinds = {one.name: one.kind for one in columns}
    if missing := [word for word in words[1::2] if word not in kinds]:
        raise ValueError(f"draw: no column is called {missing[0]}")
    if not _NUMBERS.fullmatch(kinds[words[1]]):
        raise ValueError(f"draw: {words[1]} is {kinds[words[1]]}, and only numbers can be drawn")
    return Drawing(words[0], words[1], words[3] if len(words) == 4 else None)


def _used(statement: str) -> set[str]:
    """Return the names of the parameters in a statement; those in texts and comments are none."""
    return set(_USED.findall(_NO_CODE.sub(" ", statement)))


def _text(given: object, _: int) -> str:
    if not isinstance(given, str):
        raise TypeError
    given.encode()  # what was no UTF-8 on the command line is no text
    return given


def _integer(given: object, _: int) -> int:
    if isinstance(given, bool) or not isinstance(given, numbers.Integral | str):
        raise TypeError
    if isinstance(given, str) and not _INTEGER.fullmatch(given.strip()):
        raise ValueError
    if not -(2**63) <= (found := int(given)) < 2**63:
        raise ValueError
    return found


def _double(given: object, _: int) -> float:
    if isinstance(given, bool) or not isinstance(given, numbers.Real | str):
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
    if isinstance(given, str):
        return clock.from_us(parse_when(given, now_us))
    if isinstance(given, datetime):
        # By way of a number: what is called datetime elsewhere (pandas) becomes Python's own.
        return clock.from_us(clock.to_us(given if given.tzinfo is not None else given.replace(tzinfo=UTC)))
    if isinstance(given, date):
        return datetime.combine(given, time(0), UTC)
    raise TypeError


_READERS: Final[Mapping[Kind, Callable[[object, int], Value]]] = {
    "VARCHAR": _text,
    "INTEGER": _integer,
    "DOUBLE": _double,
    "BOOLEAN": _boolean,
    "TIMESTAMP": _instant,
}
