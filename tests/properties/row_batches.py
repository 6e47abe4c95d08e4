"""Batches of rows of every oddity, as a database might hand them on: mostly good, rarely not."""

# ruff: noqa: E501  # tables of odd values read better wide

from __future__ import annotations

import json
import random
from typing import Any

import pyarrow as pa

from archiver import columns
from archiver.block import RowBlock
from archiver.database.fetched import Fetched, Kind, Layout
from archiver.event import EARLIEST_US, LATEST_US
from tests.properties.event_bodies import INSTANTS, NAMES, NUMBERS, STRINGS

KNOWN = {"workspace_id": columns.TEXT, **columns.EVENT_MEMBERS}
REQUIRED = ("id", "workspace_id", "actor_id", "action", "created_at")
UNKNOWN = ["timestamp", "data", "actor", "x", "", "Łódź", 'q"\\', "\x00", "event_time", "body", "resource.id"]
TEXTS = [text for text in STRINGS if text.encode("utf-8", "replace").decode() == text]
HASHES = ["a" * 64, "A1" * 32, "0" * 64]
NO_HASHES = [
    "a" * 64 + "\n",
    "g" * 64,
    "a" * 63 + "\u0661",
    "a" * 63,
    "",
    "a" * 65,
    "\n" + "a" * 63,
    "é" * 32,
]
WORKSPACES = ["ws_1", "ws_2", "../x", "Łódź", "a=b/c", "w" * 200]
NO_WORKSPACES = ["", "w" * 201, "ł" * 34]
OBJECTS = [
    '{"a": 1}',
    "{}",
    '{"a": {"b": [1, 2.50, "}"]}, "c": null}',
    '{"Łódź": "\\u0001"}',
    '{"n": 1' + "0" * 200 + "}",
]
ODD_OBJECTS = [
    "null", '"null"', "[]", "7", '"{}"', "true", ' {"a": 1} ', "\n{}", " null ", "[{}]", '{"n": ' + "9" * 299 + "}",
    '{"n": ' + "9" * 300 + "}", '{"n": ' + "9" * 4300 + "}", '{"n": ' + "9" * 4301 + "}", '{"n": 1e400, "m": -0}',
    '{"n": "' + "9" * 5000 + '"}', '{"a": ' * 126 + "1" + "}" * 126, '{"a": ' * 127 + "1" + "}" * 127,
    '{"a": ' * 128 + "1" + "}" * 128, '{"a": "' + "[" * 300 + '"}', '{"a":' + "[" * 127 + "]" * 127 + "}", "9" * 290, "9" * 700,
]  # fmt: skip
TARGETS = [
    '[{"type": "user"}]',
    "[]",
    '[{"id": "x", "name": null, "type": "", "metadata": {"a": 1}}]',
    "null",
]
ODD_TARGETS = [
    '[{"id": "x"}]', '[{"type": 1}]', "{}", '"x"', "[null]", '[{"type": "a"}, 7]', '[{"type": "a", "metadata": []}]',
    '[{"type": "a", "metadata": {"n": 1e400}}]', '[{"type": "a", "id": 1.0}]', ' [{"type": "a"}]\n',
    '[{"type": "a", "more": ' + "9" * 400 + "}]", '[{"type": "a", "x": "\\ud800"}]', '[{"type": "a", "x": ' + "[" * 126 + "]" * 126 + "}]",
]  # fmt: skip
NO_JSON = [
    "",
    "x",
    '{"a":1,"a":2}',
    '[{"type":"a","type":"b"}]',
    "{'a': 1}",
    "NaN",
    '{"a": NaN}',
    '{}, "id": "x"',
    "\ufeff{}",
    "{",
    '{"a"',
    "01",
]
LOOSE_JSON = [
    '{"a": "x, y"}',
    '{"a":", "}',
    '{"a": "\\": "}',
    '{"a" : 1}',
    '{"a": 1,"a": 2}',
    '{"a": 1, "b": [1,2, 3]}',
    '{"a" :1}',
    '{"a":1.0}',
    '{"a":1E5}',
    '{"a":"\\u0061"}',
    '[{"type":"\\/"}]',
    '{"a":"\\ud800"}',
    '{"a":[1 ]}',
]
NO_NUMBERS = [
    "NaN",
    "-Infinity",
    "1.",
    "01",
    "",
    "1\n",
    "1" * 400,
    "1" * 5000,
    "1" * 299,
    "9" * 18,
    "9" * 19,
    "-" + "9" * 18,
]
MOMENTS = [0, 1_774_520_100_123_456, EARLIEST_US, LATEST_US, -1]


class Batches:
    """Draws blocks of rows."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def mostly(self, good: list[Any], odd: list[Any], share: float = 0.04) -> Any:
        return self._chance.choice(odd if self._chance.random() < share else good)

    def block(self) -> RowBlock:
        """Return a block of a few rows, whose layout may have members of every kind."""
        chance = self._chance
        rows = chance.randint(0, 12)
        optional = [name for name in KNOWN if name not in REQUIRED and chance.random() < 0.4]
        members = [name for name in REQUIRED if chance.random() < 0.99] + optional
        members += chance.sample(UNKNOWN, chance.choice((0, 0, 1, 3)))
        if chance.random() < 0.02:
            members.append(chance.choice(["event_type", *members]))
        chance.shuffle(members)
        arrays: dict[str, pa.Array] = {"not asked for": pa.array(["x"] * rows, pa.string())}
        layout: list[Fetched] = []
        for number, member in enumerate(members):
            layout.append(self._add(arrays, member, f"c{number}", rows))
        batch = pa.RecordBatch.from_pydict(arrays)
        start = chance.choice((0, 0, 1)) if rows else 0
        return RowBlock(3, batch.slice(start), tuple(layout), 100, 1_774_520_100_000_000)

    def _add(self, arrays: dict[str, pa.Array], member: str, column: str, rows: int) -> Fetched:
        chance = self._chance
        kinds: dict[str | None, list[Kind]] = {
            columns.TEXT: ["text"], columns.INTEGER: ["number"], columns.INSTANT: ["instant"],
            columns.JSON: ["json", "json_text"], None: ["text", "number", "boolean", "instant", "json", "json_text"],
        }  # fmt: skip
        kind = self.mostly(kinds[KNOWN.get(member)], kinds[None], 0.02)
        missing = 0.005 if member in REQUIRED else chance.choice((0, 0.2, 1))
        arrow = pa.string()
        if kind == "number" and chance.random() < 0.6:
            arrow = chance.choice([pa.int16(), pa.int32(), pa.int64()])
        elif kind == "boolean":
            arrow = pa.bool_()
        elif kind == "instant" and chance.random() < 0.8:
            arrow = columns.TIME
        values = [
            None if chance.random() < missing else self._value(member, kind, arrow) for _ in range(rows)
        ]
        odd = None
        if arrow == columns.TIME:
            odd = f"odd {column}"
            odds = [self._odd(value) for value in values]
            values = [value if text is None else None for value, text in zip(values, odds, strict=True)]
            arrays[odd] = pa.array(odds, pa.string())
        arrays[column] = pa.array(values, arrow)
        return Fetched(member, kind, column, odd)

    def _odd(self, value: Any) -> str | None:
        if value is None or self._chance.random() > 0.03:
            return None
        return self._chance.choice(["infinity", "0044-03-15 00:00:00 BC", '"', "2026-03-26T10:15:00Z"])

    def _value(self, member: str, kind: str, arrow: pa.DataType) -> Any:
        if not pa.types.is_string(arrow):
            return self._typed(arrow)
        if kind in ("json", "json_text"):
            return self._json(member, kind)
        if kind == "number":
            return self.mostly(["1", "-7", "0", "-0", "9" * 18], NUMBERS + NO_NUMBERS, 0.2)
        if kind == "instant":
            return self.mostly(INSTANTS[:3], INSTANTS, 0.2)
        usual, unusual = {
            "event_hash": (HASHES, NO_HASHES),
            "previous_event_hash": (HASHES, NO_HASHES),
            "workspace_id": (WORKSPACES, NO_WORKSPACES),
        }.get(member, ([text for text in TEXTS if text], [*INSTANTS, "", *NAMES[:4]]))
        return self.mostly(usual, unusual)

    def _typed(self, arrow: pa.DataType) -> Any:
        chance = self._chance
        if arrow == columns.TIME:
            return chance.choice([*MOMENTS, chance.randint(EARLIEST_US, LATEST_US)])
        if pa.types.is_boolean(arrow):
            return chance.random() < 0.5
        edge = 2 ** (arrow.bit_width - 1)
        return chance.choice([0, 1, -1, edge - 1, -edge])

    def _json(self, member: str, kind: str) -> str:
        if kind == "json_text" and self._chance.random() < 0.3:
            text = self._chance.choice(OBJECTS)
            if self._chance.random() < 0.5:
                return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
            return str(self._chance.choice(NO_JSON + LOOSE_JSON))
        if member == "targets":
            return str(self.mostly(TARGETS, ODD_TARGETS + ODD_OBJECTS, 0.1))
        return str(self.mostly(OBJECTS, ODD_OBJECTS + ODD_TARGETS, 0.1))


def plain_block(rows: int, layout_of: Layout | None = None) -> RowBlock:
    """Return rows without anything odd in them."""
    members: dict[str, tuple[Kind, pa.Array]] = {
        "id": ("text", pa.array([f"evt_{row}" for row in range(rows)], pa.string())),
        "workspace_id": ("text", pa.array(["ws_1"] * rows, pa.string())),
        "actor_id": ("text", pa.array(["user_1"] * rows, pa.string())),
        "action": ("text", pa.array(["a.b"] * rows, pa.string())),
        "created_at": ("instant", pa.array([MOMENTS[1]] * rows, columns.TIME)),
        "metadata": ("json", pa.array(['{"a": 1}'] * rows, pa.string())),
        "plan": ("text", pa.array(["pro"] * rows, pa.string())),
    }
    layout = tuple(Fetched(member, kind, member) for member, (kind, _) in members.items())
    batch = pa.RecordBatch.from_pydict({member: array for member, (_, array) in members.items()})
    return RowBlock(3, batch, layout_of or layout, 100, 1_774_520_100_000_000)
