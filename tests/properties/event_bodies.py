"""Bodies for the properties: event trees of every oddity, and texts of them in every style."""

# ruff: noqa: E501  # tables of odd values, and bodies in one piece, read better wide

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from archiver.block import Block, Shape


class Digits(str):
    """A number as it is to be written."""


class Pairs(list[tuple[str, Any]]):
    """An object as its members in order, so that a name may stand twice."""


NUMBERS = [
    "0", "-0", "1", "-7", "1.0", "1e2", "1E+2", "-0.0", "0e99999999999999999999", "1.5", "100e-2", "1e-400",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "9007199254740993.0", "9223372036854775000.0", "1" * 30, "1e18", "1e19", "1e400",
    "-1e400", "1e999999999999999999999", "1e-99999999999999999999", "0.1", "12345678901234567890.5", "1e16",
    "1.00000000000000000000000000000000001",
]  # fmt: skip
INSTANTS = [
    "2026-03-26T10:15:00.000000Z", "2026-03-26T10:15:00Z", "2026-03-26T10:15:09.1Z", "2026-03-26t10:15:00z",
    "2026-03-26T10:15:00.1234569Z", "2026-03-26T10:15:00.999999999999999999999Z", "2026-03-26T10:15:00Z\n",
    "2026-03-26T10:15:00+05:30", "2026-03-26T00:15:00.5-23:59", "2024-02-29T23:59:59Z", "2023-02-29T23:59:59Z",
    "2016-12-31T23:59:60Z", "2026-06-31T00:00:00Z", "0000-01-01T00:00:00Z", "0000-12-31T23:59:59-01:00",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "0999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-01:00", "1969-12-31T23:59:59.9999999Z", "1900-02-29T00:00:00Z", "2026-03-26T24:00:00Z",
    "2026-03-26", "2026-03-26 10:15:00Z", "2026-03-26T10:15:00", "2026-03-26T10:15:00.Z", "٢٠٢٦-03-26T10:15:00Z",
    "2026-03-26T10:15:00Z\n\n", " 2026-03-26T10:15:00Z", "2026-00-10T00:00:00Z", "2026-01-00T00:00:00Z", "",
]  # fmt: skip
STRINGS = [
    "", "user_2hG9kLm", "Sarah Chen", "9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D", "Łódź", "\x00", "\x7f", "a\nb",
    "\ud800", "x\udfffy", "😀", "\u2028", 'quote " and \\ and /', "null", "GB\n", "{}", "e\u0301", '": ',
]  # fmt: skip
NAMES = [
    "body", "source", "event_time", "workspace_id", "timestamp", "extra", "ordinal", "shape", "data", "actor", "id",
    "resource", "integrity", "unknown", "actor_name", "event_hash", "resource_id", "Łódź", "\x00", "\udc00", "_input",
    "", "event_type", "(data)", "type", "name", "version", "created_at", "occurred_at",
]  # fmt: skip

numbers = st.sampled_from(NUMBERS).map(Digits) | st.integers(-10, 2**70).map(lambda value: Digits(str(value)))
strings = st.sampled_from(STRINGS) | st.text(max_size=8)
names = st.sampled_from(NAMES) | st.text(max_size=4)
scalars = st.none() | st.booleans() | numbers | strings
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
instants = st.sampled_from(INSTANTS) | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
objects = st.dictionaries(names, values, max_size=3)
texts = st.none() | strings
good_instants = st.sampled_from([*INSTANTS[:10], "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])


def mostly(good: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    # Not the first or last of the range, which are drawn more often.
    return st.integers(0, 20).flatmap(lambda number: odd if number == 7 else good)


rare_instants = mostly(good_instants, instants)
identities = mostly(strings.filter(bool), strings)
versions = mostly(st.none() | st.sampled_from(NUMBERS[:9]).map(Digits), numbers)
hashes = mostly(
    st.sampled_from([None, "a" * 64, "A1" * 32]),
    st.sampled_from(["a" * 64 + "\n", "g" * 64, "a" * 63 + "\u0661", "a" * 63]),
)
targets = st.lists(
    st.fixed_dictionaries({"type": strings}, optional={"id": texts, "metadata": st.none() | objects}),
    max_size=2,
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Events of both shapes and alerts: most are valid but for one oddity or two."""
    workspace = draw(st.sampled_from(["ws_1", "ws_2", "../x", "Łódź", "0012"]) | identities)
    top = draw(objects)
    if draw(st.integers(0, 5)) == 0:
        alert = {"event_type": "alert.triggered", "alert_id": draw(identities), "workspace_id": workspace}
        alert |= {"triggered_at": draw(rare_instants)}
        alert |= draw(st.fixed_dictionaries({}, optional={"reason": texts, "event": st.none() | objects}))
        return _shuffled(draw, top | alert)
    optional = {
        "actor_type": texts, "action_category": texts, "targets": st.none() | targets, "metadata": st.none() | objects,
        "tenant_id": texts, "session_id": texts, "version": versions, "ip_address": texts,
        "ip_country": texts, "occurred_at": st.none() | rare_instants, "created_at": st.none() | good_instants,
    }  # fmt: skip
    inner = draw(objects) | {"id": draw(identities), "action": draw(strings)}
    inner |= draw(st.fixed_dictionaries({}, optional=optional))
    if draw(st.booleans()):
        inner.pop("actor_id", None)
        person = st.fixed_dictionaries(
            {"id": strings}, optional={"name": texts, "type": texts, "email": values}
        )
        inner["actor"] = draw(objects) | draw(person)
        thing = st.fixed_dictionaries(
            {}, optional={"id": texts, "name": texts, "type": texts, "owner": values}
        )
        inner["resource"] = draw(mostly(st.none() | thing, strings))
        proof = st.fixed_dictionaries(
            {}, optional={"event_hash": hashes, "previous_event_hash": hashes, "x": values}
        )
        inner["integrity"] = draw(st.none() | proof)
    else:
        inner["actor_id"] = draw(strings)
        flat = {"resource": texts, "resource_id": texts, "event_hash": hashes, "actor": objects}
        for name, good in (("actor_name", texts), *flat.items()):
            if name in inner and draw(st.integers(0, 9)):
                inner[name] = draw(good)
        inner |= draw(st.fixed_dictionaries({}, optional=flat))
    envelope = {"event_type": "event.created", "data": _shuffled(draw, inner), "workspace_id": workspace}
    return _shuffled(draw, top | envelope | {"timestamp": draw(rare_instants)})


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """Rows of a database, as their bodies: most are valid but for one oddity or two."""
    optional = {
        "actor_name": texts, "resource": texts, "resource_id": texts, "targets": st.none() | targets, "version": versions,
        "metadata": st.none() | objects, "event_hash": hashes, "previous_event_hash": hashes, "ip_address": texts,
        "timestamp": scalars, "data": values, "actor": objects, "occurred_at": st.none() | rare_instants,
    }  # fmt: skip
    row = draw(st.fixed_dictionaries({}, optional=optional)) | {"created_at": draw(rare_instants)}
    if draw(st.integers(0, 3)) == 0:
        row["created_at"] = None
        row["occurred_at"] = draw(mostly(good_instants, st.none() | instants))
    top = draw(objects)
    if draw(st.integers(0, 15)):
        top.pop("event_type", None)
    needed = {"id": draw(identities), "actor_id": draw(strings), "action": draw(strings)}
    workspace = draw(st.sampled_from(["ws_1", "../x", "Łódź"]) | identities)
    return _shuffled(draw, top | row | needed | {"workspace_id": workspace})


def _shuffled(draw: st.DrawFn, tree: dict[str, Any]) -> dict[str, Any]:
    return {name: tree[name] for name in draw(st.permutations(list(tree)))}


def write(tree: Any, style: str, chance: random.Random) -> str:
    """Write `tree` as JSON: `compact`, `spaced`, `ascii`, `spaced-ascii` or `wild`."""
    if tree is None or isinstance(tree, bool):
        return {None: "null", True: "true", False: "false"}[tree]
    if isinstance(tree, Digits):
        return str(tree)
    if isinstance(tree, int | float):
        return repr(tree)
    if isinstance(tree, str):
        return '"' + "".join(_character(each, style, chance) for each in tree) + '"'
    comma, colon = (", ", ": ") if style.startswith("spaced") else (",", ":")

    def space() -> str:
        return chance.choice(["", "", " ", "\n", "\t \r"]) if style == "wild" else ""

    if isinstance(tree, list) and not isinstance(tree, Pairs):
        inner = comma.join(space() + write(each, style, chance) + space() for each in tree)
        return "[" + (inner or space()) + "]"
    pairs = tree if isinstance(tree, Pairs) else tree.items()
    inner = comma.join(
        f"{space()}{write(name, style, chance)}{space()}{colon}{space()}{write(value, style, chance)}{space()}"
        for name, value in pairs
    )
    return "{" + (inner or space()) + "}"


_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def _character(character: str, style: str, chance: random.Random) -> str:
    if style == "wild" and chance.random() < 0.1:
        if character == "/":
            return "\\/"
        return _units(character, upper=chance.random() < 0.5)
    if character in _SHORT:
        return _SHORT[character]
    must = character < " " or "\ud800" <= character <= "\udfff"
    if must or (character > "~" and style in ("ascii", "spaced-ascii")):
        return _units(character, upper=False)
    return character


def _units(character: str, *, upper: bool) -> str:
    code = character.encode("utf-16-be", "surrogatepass").hex()
    code = code.upper() if upper else code
    return "".join("\\u" + code[start : start + 4] for start in range(0, len(code), 4))


STYLES = ("compact", "spaced", "ascii", "spaced-ascii", "wild")


def block_of(
    bodies: list[bytes], streams: list[str | None] | None = None, shape: Shape = "delivery"
) -> Block:
    count = len(bodies)
    return Block(
        input=3,
        bodies=bodies,
        ordinals=list(range(100, 100 + count)),
        offsets=[7 * number for number in range(count)],
        received_at=[1_774_520_100_000_000 + number for number in range(count)],
        streams=streams or [None] * count,
        shape=shape,
    )
