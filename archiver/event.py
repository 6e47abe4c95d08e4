"""From bodies to columns: the forms an event comes in, and the view of each that the columns give.

A column is the value of its member exactly, or null. JSON columns (`targets`, `metadata`,
an alert's `event`) and `extra` are slices of the body, character for character. `extra`
mirrors the body less the members that have a column.

Two ways lead to the same columns. `columns_of` takes bodies whose trees were proven to say
all that the bodies say, a block at a time; `row_of` takes the text of one body of any
kind. A property test holds both against the bodies.
"""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from json.decoder import scanstring  # type: ignore[attr-defined]  # C function without a stub
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from archiver import columns
from archiver.jsontext import Writer, exact_int64, is_unicode, members

# A place for each member: the name of its column, or the places of the object it is.
Places = Mapping[str, "str | Places"]
Tree = dict[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Form:
    """One dataset in one shape: its schema, and where in a body its columns come from.

    Attributes:
        kinds: The columns that are members of this form, and what each holds. Columns of the
            dataset that are not among them are null.
        event_times: The instants that place a row; the first that is not null does.
    """

    schema: str
    dataset: str
    shape: str
    kinds: Mapping[str, str]
    places: Places
    event_times: tuple[str, ...]

    @property
    def identity(self) -> str:
        return columns.IDENTITY_COLUMN[self.dataset]

    @property
    def instants(self) -> list[str]:
        return [name for name, kind in self.kinds.items() if kind == columns.INSTANT]


def _same(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


_EVENT_KINDS: Final = columns.EVENT_ENVELOPE | columns.EVENT_MEMBERS
_ROW_KINDS: Final = {"workspace_id": columns.TEXT} | columns.EVENT_MEMBERS
_NESTED_COLUMNS: Final = {column for names in columns.NESTED.values() for column in names.values()}
_NESTED_PLACES: Final[Places] = {
    **_same(name for name in columns.EVENT_MEMBERS if name not in _NESTED_COLUMNS),
    **columns.NESTED,
}

EVENT: Final = Form(
    "event-webhook.1",
    "events",
    "webhook",
    _EVENT_KINDS,
    {**_same(columns.EVENT_ENVELOPE), "data": _same(columns.EVENT_MEMBERS)},
    ("timestamp",),
)
NESTED_EVENT: Final = Form(
    "event-nested.1",
    "events",
    "nested",
    _EVENT_KINDS,
    {**_same(columns.EVENT_ENVELOPE), "data": _NESTED_PLACES},
    ("timestamp",),
)
ROW_EVENT: Final = Form(
    "event-row.1",
    "events",
    "row",
    _ROW_KINDS,
    # A row has no `event_type`, and no column is made of one. But what has a place is looked at.
    {**_same(_ROW_KINDS), "event_type": "event_type"},
    ("created_at", "occurred_at"),
)
ALERT: Final = Form(
    "alert-webhook.1",
    "alerts",
    "webhook",
    columns.ALERT_MEMBERS,
    _same(columns.ALERT_MEMBERS),
    ("triggered_at",),
)
FORMS: Final = (EVENT, NESTED_EVENT, ROW_EVENT, ALERT)
DATASET_OF_EVENT_TYPE: Final = {"event.created": "events", "alert.triggered": "alerts"}


def form_of(tree: Tree, shape: str = "delivery") -> Form | None:
    """Return the form by which `tree` is to be judged, or None for an unknown event type.

    Args:
        shape: What it came as, see `archiver.block.Block`.
    """
    if shape == "row" or (shape == "archived" and "event_type" not in tree):
        return ROW_EVENT
    event_type = tree.get("event_type")
    if event_type == "alert.triggered":
        return ALERT
    if event_type != "event.created":
        return None
    data = tree.get("data")
    if type(data) is dict and type(data.get("actor")) is dict and "actor_id" not in data:
        return NESTED_EVENT
    return EVENT


# --- instants -------------------------------------------------------------------------------

# All that the judge takes for a date-time (it forgives case and a final line break), and year 0.
_INSTANT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d+))?"
    r"(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))\n?",
    re.ASCII | re.IGNORECASE,
)
# What is certain to be one: Arrow reads it to the microsecond, and refuses only a 31st of June.
# An offset is certain only in years from which it cannot lead out of the years 1 to 9999.
_DAY_AND_TIME: Final = (
    r"-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
)
_OFFSET: Final = r"[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]"
_CERTAIN_INSTANT: Final = rf"\A(?:[1-9][0-9]{{3}}{_DAY_AND_TIME}Z|[12][0-9]{{3}}{_DAY_AND_TIME}{_OFFSET})\z"
_STRICT_INSTANT: Final = re.compile(
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9:]{{8}}(?:\.[0-9]+)?(?:Z|{_OFFSET})", re.ASCII
)
_EPOCH_DAY: Final = datetime.date(1970, 1, 1).toordinal()
_DAYS_OF_YEAR_0: Final = 366
EARLIEST_US: Final = (1 - _EPOCH_DAY) * 86_400_000_000
LATEST_US: Final = (datetime.date.max.toordinal() + 1 - _EPOCH_DAY) * 86_400_000_000 - 1


def is_strict_instant(text: str) -> bool:
    """Whether `text` is written as RFC 3339 has it; the judge forgives more. Says nothing of its values."""
    return _STRICT_INSTANT.fullmatch(text) is not None


class Instant(NamedTuple):
    """A point in time, exactly.

    Attributes:
        microseconds: Since 1970 in UTC, floored.
        finer: The digits behind the microseconds, without zeros at the end.
    """

    microseconds: int
    finer: str

    @property
    def is_storable(self) -> bool:
        """Whether it lies in the years 1 to 9999 UTC."""
        return EARLIEST_US <= self.microseconds <= LATEST_US


def parse_instant(text: str) -> Instant | None:
    """Read an RFC 3339 date-time, any offset, year 0 included; None if it is none.

    A second 60 is none, as the judge has it.
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.group(1, 2, 3, 4, 5, 6))
    # Python's dates begin with year 1. Year 0 is a leap year like 4; count it from there.
    if not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year or 4, month)[1]:
        return None
    if year:
        days = datetime.date(year, month, day).toordinal()
    else:
        days = datetime.date(4, month, day).toordinal() - datetime.date(4, 1, 1).toordinal()
        days += 1 - _DAYS_OF_YEAR_0
    seconds = (days - _EPOCH_DAY) * 86400 + hour * 3600 + minute * 60 + second
    fraction, sign, offset_hours, offset_minutes = found.group(7, 8, 9, 10)
    if sign:
        offset = int(offset_hours) * 3600 + int(offset_minutes) * 60
        seconds += -offset if sign == "+" else offset
    fraction = fraction or ""
    return Instant(seconds * 1_000_000 + int(fraction[:6].ljust(6, "0")), fraction[6:].rstrip("0"))


def read_instants(texts: list[str | None]) -> tuple[pa.Array, list[int]]:
    """Read a column of instants in bulk.

    Returns:
        The instants, null where the text is None or not certain to be an instant; and the
        rows where it is not certain, which the judge must see.
    """
    written = pa.array(texts, pa.string())
    if written.null_count == len(written):
        return pa.nulls(len(written), columns.TIME), []
    certain = pc.match_substring_regex(written, _CERTAIN_INSTANT)
    uncertain: list[int] = []
    if pc.all(certain).as_py() is False:
        uncertain = pc.indices_nonzero(pc.invert(certain)).to_pylist()
        written = pc.if_else(certain, written, pa.scalar(None, pa.string()))
    read = _cast(written)
    lost = pc.and_(pc.is_null(read), pc.is_valid(written))
    if pc.any(lost).as_py():  # a 31st of June somewhere
        uncertain = sorted({*uncertain, *pc.indices_nonzero(lost).to_pylist()})
    return read, uncertain


def _cast(written: pa.Array) -> pa.Array:
    """Read instants; null where one is none. One that is none is looked for by halves."""
    try:
        return written.cast(columns.TIME)
    except pa.ArrowInvalid:
        if len(written) == 1:
            return pa.nulls(1, columns.TIME)
        half = len(written) // 2
        return pa.concat_arrays([_cast(written[:half]), _cast(written[half:])])


# --- many bodies at once ----------------------------------------------------------------------

_EVENT_MEMBERS: Final = frozenset(columns.EVENT_MEMBERS)


def flat_members(form: Form, tree: Tree) -> Tree:
    """Return the members that have columns, those of `data` by their flat names.

    It may hold unknown members too, and for an event not those of the envelope.
    """
    if form in (ALERT, ROW_EVENT):
        return tree
    data: Tree = tree["data"]
    if form is EVENT:
        return data
    flat = {name: value for name, value in data.items() if name in _NESTED_PLACES}
    for name, inner in columns.NESTED.items():
        nested = flat.pop(name, None)
        if nested:
            flat.update((inner[member], value) for member, value in nested.items() if member in inner)
    return flat


def constrained(tree: Tree, places: Places) -> Tree:
    """Return what our own schemas have a say in: no unknown members, and nothing inside a JSON object.

    An odd number somewhere in `metadata` then needs no judge. A user's schema may look
    anywhere, so this is not for one.
    """
    kept: Tree = {}
    for name, value in tree.items():
        place = places.get(name)
        if place is None:
            continue
        if type(value) is not dict:
            kept[name] = value
        else:
            kept[name] = {} if isinstance(place, str) else constrained(value, place)
    return kept


def _unknown(tree: Tree, places: Places) -> Tree:
    found = {}
    for name, value in tree.items():
        place = places.get(name)
        if place is None:
            found[name] = value
        elif type(value) is dict and not isinstance(place, str):
            inner = _unknown(value, place)
            if inner:
                found[name] = inner
    return found


def _extra(form: Form, tree: Tree, writer: Writer) -> bytes | None:
    # Nearly all events are webhooks without unknown members; they are told at once.
    if form is EVENT and len(tree) == 4 and _EVENT_MEMBERS.issuperset(tree["data"]):
        return None
    unknown = _unknown(tree, form.places)
    return writer(unknown) if unknown else None


@dataclass(slots=True)
class Proven:
    """Bodies of one form whose trees say all that the bodies say; parallel lists."""

    form: Form
    rows: list[int]  # their numbers in the block
    trees: list[Tree]
    flats: list[Tree]
    writers: list[Writer]

    def values(self, name: str) -> list[Any]:
        """Return a column's values as they were parsed, None where there is none."""
        in_envelope = self.form in (EVENT, NESTED_EVENT) and name in columns.EVENT_ENVELOPE
        return [tree.get(name) for tree in (self.trees if in_envelope else self.flats)]

    def without(self, positions: Iterable[int]) -> Proven:
        """Return the same less the bodies at `positions`."""
        keep = [True] * len(self.rows)
        for position in positions:
            keep[position] = False
        lists = (self.rows, self.trees, self.flats, self.writers)
        return Proven(self.form, *(list(compress(values, keep)) for values in lists))  # type: ignore[arg-type]


def columns_of(
    proven: Proven, instants: Mapping[str, pa.Array], only: Collection[str] | None = None
) -> dict[str, pa.Array]:
    """Build the members' columns, and `extra`; of `only` these if it is not None.

    `version` must hold integers of 64 bits or None.
    """
    built: dict[str, pa.Array] = {}
    writers = proven.writers
    present = {*columns.EVENT_ENVELOPE}.union(*proven.flats)
    for name, kind in proven.form.kinds.items():
        if kind == columns.INSTANT:
            built[name] = instants[name]
        elif only is not None and name not in only:
            continue
        elif name not in present:
            built[name] = pa.nulls(len(writers), pa.int64() if kind == columns.INTEGER else pa.string())
        elif kind == columns.TEXT:
            built[name] = pa.array(proven.values(name), pa.string())
        elif kind == columns.INTEGER:
            built[name] = pa.array(proven.values(name), pa.int64())
        else:
            values = zip(proven.values(name), writers, strict=True)
            written = [None if value is None else write(value) for value, write in values]
            built[name] = pa.array(written, pa.string())
    if only is None or "extra" in only:
        extras = map(_extra, [proven.form] * len(writers), proven.trees, writers)
        built["extra"] = pa.array(list(extras), pa.string())
    return built


# --- one body of any kind -----------------------------------------------------------------------


def _walk(text: str, start: int, places: Places, slices: dict[str, str]) -> str | None:
    """Put each column's slice of the object at `start` into `slices`; return what is left over."""
    left = []
    for name, key, value, value_start in members(text, start):
        place = places.get(name)
        if place is None:
            left.append(f"{key}:{value}")
        elif isinstance(place, str):
            slices[place] = value
        elif value[0] == "{":
            inner = _walk(text, value_start, place, slices)
            if inner is not None:
                left.append(f"{key}:{inner}")
    return "{" + ",".join(left) + "}" if left else None


def slices_of(form: Form, text: str) -> dict[str, str]:
    """Return for each column (and `extra`) the slices of a valid body that it is a view of."""
    slices: dict[str, str] = {}
    extra = _walk(text, 0, form.places, slices)
    if extra is not None:
        slices["extra"] = extra
    return slices


def row_of(form: Form, text: str) -> dict[str, Any]:
    """Return the members' columns of one valid body, and `extra`.

    Text as str, `version` as int, instants as `Instant` (storable or not), JSON as text;
    what cannot be told exactly is None.
    """
    slices = slices_of(form, text)
    row: dict[str, Any] = {"extra": slices.get("extra")}
    for name, kind in form.kinds.items():
        row[name] = _value(kind, slices.get(name, "null"))
    return row


def _value(kind: str, text: str) -> Any:
    if text == "null":
        return None
    if kind == columns.JSON:
        return text
    if kind == columns.INTEGER:
        return exact_int64(text)
    value = scanstring(text, 1, True)[0]
    if kind == columns.INSTANT:
        return parse_instant(value)
    return value if is_unicode(value) else None


def columns_of_rows(form: Form, rows: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Build the columns out of rows of `row_of` whose instants are storable."""
    built = {}
    for name, kind in (*form.kinds.items(), ("extra", columns.JSON)):
        values = [row[name] for row in rows]
        if kind == columns.INSTANT:
            values = [value and value.microseconds for value in values]
        built[name] = pa.array(values, columns.SCHEMAS[form.dataset].field(name).type)
    return built
