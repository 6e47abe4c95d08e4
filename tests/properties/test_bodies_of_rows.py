"""Bodies of rows against the rows: each says exactly what its row says, digit by digit, and no more.

The expectation is made value by value, without Arrow's kernels.
"""

# ruff: noqa: E501  # tables of odd values read better wide

from __future__ import annotations

import datetime
import json
import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.database.bodies import bodies
from archiver.database.fetched import Fetched, Layout
from archiver.errors import SourceError
from tests.properties.event_bodies import NAMES, NUMBERS, STRINGS

US = pa.timestamp("us", "UTC")
NO_NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "",
    "01",
    "1.",
    ".5",
    "+1",
    "1e",
    "1\n",
    "0x1",
    "1 ",
    '1,"id":"x"',
    "１",
]
NO_JSON = [
    "", " ", "{", "x", 'a"b', '"a', '1,"id":"x"', '},"id":"x"', '{}}', "NaN", '{"a":Infinity}', "01", "[1,]", "\ufeff{}",
    '{"a":1,"a":2}', '{"a":{"b":1,"\\u0062":2}}', "{} {}", "[" * 128 + "]" * 128, "1],[2", "\u00a01", "'a'", '"\n"',
]  # fmt: skip
JSON = [
    "null", "{}", ' {"a" : 1}\n', '{"b": [1.50, 1E+2, -0]}', '"x"', "12345678901234567890.50", '"\\ud800"', "true",
    '{"Łódź": "\\u0141"}', "[" * 127 + "]" * 127, '{"a":"{\\"id\\":1}"}', "9" * 5000, "1e400", "[\r\n1]",
]  # fmt: skip

storable = (st.sampled_from(STRINGS) | st.text(max_size=6)).filter(
    lambda text: text.encode("utf-8", "replace").decode() == text
)
moments = st.datetimes() | st.sampled_from(
    [datetime.datetime.fromisoformat(text) for text in ("0001-01-01", "9999-12-31T23:59:59.999999")]
)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def instant(moment: datetime.datetime) -> str:
    return quoted(f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond:06}Z")


# Of each kind of column: Arrow's type, values, and what stands for each in a body.
KINDS: dict[str, tuple[str, pa.DataType, st.SearchStrategy[Any], Any]] = {
    "text": ("text", pa.string(), storable, quoted),
    "int16": ("number", pa.int16(), st.integers(-(2**15), 2**15 - 1), str),
    "int64": ("number", pa.int64(), st.integers(-(2**63), 2**63 - 1), str),
    "digits": ("number", pa.string(), st.sampled_from(NUMBERS), str),
    "no number": ("number", pa.string(), st.sampled_from(NO_NUMBERS), quoted),
    "boolean": ("boolean", pa.bool_(), st.booleans(), lambda value: "true" if value else "false"),
    "instant": ("instant", US, moments, instant),
    "instant as text": ("instant", pa.string(), storable, quoted),
    "json": ("json", pa.string(), st.sampled_from(JSON), str),
    "json as text": ("json_text", pa.string(), st.sampled_from(JSON), str),
    "no json": ("json_text", pa.string(), st.sampled_from(NO_JSON), quoted),
}


@st.composite
def batches(draw: st.DrawFn) -> tuple[pa.RecordBatch, Layout, list[str]]:
    rows = draw(st.integers(0, 4))
    names = [name for name in NAMES if name != "\udc00"]
    members = draw(st.lists(st.sampled_from(names) | storable, unique=True, max_size=7))
    arrays: dict[str, pa.Array] = {"nobody asks for this": pa.array(["x"] * rows, pa.string())}
    layout = []
    wanted: list[list[str]] = [[] for _ in range(rows)]
    for number, member in enumerate(members):
        kind, arrow, values, write = KINDS[draw(st.sampled_from(sorted(KINDS)))]
        optional = draw(st.sampled_from([values, st.none() | values, st.none()]))
        column = draw(st.lists(optional, min_size=rows, max_size=rows))
        written = [None if one is None else write(one) for one in column]
        odd = None
        if arrow is US and draw(st.booleans()):
            odd = f"odd {number}"
            odds = [None if one is not None else draw(st.none() | storable) for one in column]
            arrays[odd] = pa.array(odds, pa.string())
            written = [one if text is None else quoted(text) for one, text in zip(written, odds, strict=True)]
        arrays[f"column {number}"] = pa.array(column, arrow)
        layout.append(Fetched(member, kind, f"column {number}", odd))  # type: ignore[arg-type]
        for row, text in enumerate(written):
            if text is not None:
                wanted[row].append(f"{quoted(member)}:{text}")
    batch = pa.RecordBatch.from_pydict(arrays)
    return batch, tuple(layout), ["{" + ",".join(row) + "}" for row in wanted]


def parsed(text: str) -> Any:
    """Every name and value, in order, numbers as their digits."""
    return json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=str)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(batches(), st.integers(0, 3))
def test_a_body_says_what_its_row_says_and_no_more(
    drawn: tuple[pa.RecordBatch, Layout, list[str]], start: int
) -> None:
    batch, layout, wanted = drawn
    written = bodies(batch, layout)
    written.validate(full=True)
    assert written.to_pylist() == wanted
    for text in wanted:
        names = [name for name, _ in parsed(text)]
        assert names == [one.member for one in layout if one.member in names]
    assert bodies(batch.slice(start), layout).to_pylist() == wanted[start:]


def one_body(kind: str, value: Any, member: str = "m", arrow: pa.DataType | None = None) -> str:
    batch = pa.RecordBatch.from_pydict(
        {"c": pa.array([None, value, "x" if isinstance(value, str) else None], arrow)}
    )
    found = bodies(batch, (Fetched(member, kind, "c"),)).to_pylist()  # type: ignore[arg-type]
    assert found[0] == "{}"
    return str(found[1])


@pytest.mark.parametrize("code", range(0x21))
def test_text_is_escaped_as_python_does(code: int) -> None:
    for text in (chr(code), f'a{chr(code)}"\\', "\x7f\u2028é😀"):
        assert one_body("text", text) == json.dumps({"m": text}, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("number", NUMBERS)
def test_digits_are_kept(number: str) -> None:
    body = one_body("number", number)
    assert body == f'{{"m":{number}}}'
    if abs(int(re.split("[eE]", number)[1]) if "e" in number.lower() else 0) < 10**6:
        assert json.loads(body, parse_float=Decimal, parse_int=Decimal) == {"m": Decimal(number)}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_odd_value_stands_as_it_should(name: str) -> None:
    kind, arrow, _, write = KINDS[name]
    odd = {"json": JSON, "json as text": JSON, "no json": NO_JSON, "no number": NO_NUMBERS, "digits": NUMBERS}
    for value in odd.get(name, NO_JSON + NO_NUMBERS + JSON if arrow == pa.string() else []):
        assert one_body(kind, value) == '{"m":' + write(value) + "}"


@pytest.mark.parametrize("kind", ["text", "number", "instant", "json_text"])
def test_no_text_adds_a_member(kind: str) -> None:
    hostile = [
        '","id":"x',
        '1,"id":2',
        '{},"id":{}',
        'null,"id":1',
        '"},{"',
        "\\",
        '\\"',
        "NaN",
        *NO_JSON,
        *NO_NUMBERS,
    ]
    for text in hostile:
        found = parsed(one_body(kind, text))
        assert found == [("m", text)] or (kind == "json_text" and found == [("m", parsed(text))])


def test_a_members_name_is_escaped() -> None:
    for name in ('"', '\\","id":"', "a\nb", "\x00", "😀", ""):
        assert json.loads(one_body("text", "v", name)) == {name: "v"}


@pytest.mark.parametrize("text", ["null", " null ", '{"a":null}'])
def test_a_null_of_json_stays_though_a_null_of_sql_is_left_out(text: str) -> None:
    assert one_body("json", text) == '{"m":' + text + "}"
    assert one_body("json_text", text) == '{"m":' + text + "}"


def test_json_that_is_too_deep_within_a_body_becomes_a_string() -> None:
    assert json.loads(one_body("json_text", "[" * 127 + "]" * 127))["m"] != "[" * 127 + "]" * 127
    assert json.loads(one_body("json_text", "[" * 128 + "]" * 128))["m"] == "[" * 128 + "]" * 128


def test_bytes_that_are_no_utf8_come_out_as_they_are() -> None:
    raw = pa.array([b"good", b'\xff"\xc3'], pa.binary()).view(pa.string())
    batch = pa.RecordBatch.from_arrays([raw, raw, raw], ["a", "b", "c"])
    layout = (Fetched("a", "text", "a"), Fetched("b", "json_text", "b"), Fetched("c", "number", "c"))
    found = bodies(batch, layout).view(pa.binary()).to_pylist()
    assert found[0] == b'{"a":"good","b":"good","c":"good"}'
    assert found[1] == b'{"a":"\xff\\"\xc3","b":"\xff\\"\xc3","c":"\xff\\"\xc3"}'


def test_what_lies_under_a_null_is_no_text() -> None:
    valid = pa.py_buffer(b"\x02")
    texts = pa.StringArray.from_buffers(
        2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b'"x'), valid
    )
    assert texts.to_pylist() == [None, "x"]
    batch = pa.RecordBatch.from_arrays([texts], ["c"])
    assert bodies(batch, (Fetched("m", "text", "c"),)).to_pylist() == ["{}", '{"m":"x"}']


@pytest.mark.parametrize("kernel", ["binary_join_element_wise", "replace_with_mask"])
def test_rows_too_large_for_one_array_are_an_error_of_the_source(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes")

    monkeypatch.setattr(f"pyarrow.compute.{kernel}", refuse)
    batch = pa.RecordBatch.from_pydict({"c": pa.array(["a", 'b"'])})
    with pytest.raises(SourceError, match="2 rows have more than 2 GiB"):
        bodies(batch, (Fetched("m", "text", "c"),))
