"""Columns of an answer as values that every text format can write: exact, and times in UTC.

Times with a zone become `2026-03-26T10:15:00.000000Z`, those without one the same without
the Z; decimals stay `Decimal` (an integer, if they have no fraction); bytes become base64.
"""

from __future__ import annotations

import base64
import datetime as dt
from decimal import Decimal
from typing import Any, Final

import orjson
import pyarrow as pa

from archiver import clock
from archiver.errors import QueryError
from archiver.query.escaping import shown

_DIRECT: Final = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_null,
)
_CAST: Final = "cast it: column::VARCHAR"
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_INFINITE: Final = (2**63 - 1, -(2**63) + 1)  # as DuckDB writes them
_FIRST_US: Final = -62_135_596_800_000_000  # 0001-01-01
_LAST_US: Final = 253_402_300_799_999_999  # 9999-12-31


def values_of(column: pa.Array) -> list[Any]:
    """Return the values of a column: None, bool, int, float, str, Decimal, and lists and dicts of these.

    Raises:
        QueryError: It holds something that has no form as text.
    """
    if any(fits(column.type) for fits in _DIRECT):
        found: list[Any] = column.to_pylist()
        return found
    if pa.types.is_timestamp(column.type):
        unit, zone = column.type.unit, "Z" if column.type.tz else ""
        counts = column.cast(pa.int64()).to_pylist()
        return [None if one is None else _instant(one, unit, zone) for one in counts]
    if isinstance(column.type, pa.BaseExtensionType):
        raise QueryError(f"a column of type {column.type} cannot be shown", hint=_CAST)
    try:
        return [_plain(one) for one in column.to_pylist(maps_as_pydicts=None)]
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise QueryError(
            f"a value of type {column.type} cannot be shown: {shown(str(error)[:400])}", hint=_CAST
        ) from error


def text_of(value: Any) -> str:
    """Return a value of `values_of` as text; null is empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return orjson.dumps(json_value(value)).decode()
    return str(value)


def json_value(value: Any) -> Any:
    """Make orjson write every number with all its digits."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return orjson.Fragment(str(value))
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:f}")
    if isinstance(value, list):
        return [json_value(one) for one in value]
    if isinstance(value, dict):
        return {key: json_value(one) for key, one in value.items()}
    return value


def _instant(value: int, unit: str, zone: str) -> str:
    if value in _INFINITE:
        return "infinity" if value > 0 else "-infinity"
    microseconds, rest = divmod(value * 1_000_000, _PER_SECOND[unit])
    if not _FIRST_US <= microseconds <= _LAST_US:
        raise QueryError("an instant outside the years 1 to 9999 cannot be shown", hint=_CAST)
    text = clock.to_text(microseconds)[:-1]
    return (f"{text}{rest:03d}" if unit == "ns" else text) + zone


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one line a type
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, pa.MonthDayNano):
        return _interval(value.months, value.days, value.nanoseconds)
    if isinstance(value, tuple):  # of a map
        return [_plain(one) for one in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and value.as_tuple().exponent == 0 else value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dt.datetime):
        zoned = value.tzinfo is not None
        text = clock.to_text(clock.to_us(value if zoned else value.replace(tzinfo=dt.UTC)))
        return text if zoned else text[:-1]
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return _interval(0, value.days, (value.seconds * 1_000_000 + value.microseconds) * 1_000)
    return value


def _interval(months: int, days: int, nanoseconds: int) -> str:
    """Write an interval as ISO 8601 does: `P1M3DT5400.5S`."""
    seconds = Decimal(nanoseconds) / 1_000_000_000
    text = "P" + (f"{months}M" if months else "") + (f"{days}D" if days else "")
    if nanoseconds or text == "P":
        text += f"T{seconds.normalize():f}S"
    return text
