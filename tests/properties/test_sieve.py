"""The sieve may only acquit: what it acquits, the judge accepts.

Valid bodies are mutated, in their bytes and in their structure; the sieve sees all of
them, the judge (`jsonschema` on `json.loads`, built here from the schema files) those
that the sieve acquitted.
"""

# ruff: noqa: E501  # tables of odd values, and bodies in one piece, read better wide

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator

import archiver
from archiver import event, validate
from archiver.block import Shape
from archiver.validate import Rules, Validator
from tests.properties.event_bodies import INSTANTS, NAMES, NUMBERS, STRINGS, Digits, Pairs, block_of, write

CameAs = Shape | Literal["archived"]
USER_SCHEMA = {
    "title": "ours, but stricter",
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "properties": {
                "actor_name": {"type": ["string", "null"], "minLength": 1, "maxLength": 9},
                "resource": {"enum": ["document", "user"]},
                "version": {"type": ["integer", "null"]},
                "targets": {
                    "items": {"additionalProperties": False, "properties": {"type": True, "id": True}}
                },
            }
        }
    },
}


def judges(user: dict[str, Any] | None) -> dict[str, list[Draft202012Validator]]:
    folder = Path(archiver.__file__).parent / "schemas"
    texts = {form.schema: (folder / f"{form.schema}.json").read_text() for form in event.FORMS}
    checker = Draft202012Validator.FORMAT_CHECKER
    return {
        name: [
            Draft202012Validator(schema, format_checker=checker)
            for schema in (json.loads(text), *([user] if user and name.startswith("event") else []))
        ]
        for name, text in texts.items()
    }


def seeds(chance: random.Random) -> list[Any]:
    """Valid events of every form; small, so that a mutation is likely to matter."""
    digits = "".join(chance.choice("0123456789abcdef") for _ in range(64))
    moment = (
        f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}T10:15:{chance.randint(10, 59)}.125000Z"
    )
    flat = {"id": f"evt_{digits[:8]}", "actor_id": "user_2h", "actor_name": "Sarah", "action": "document.created",
            "resource": "document", "version": chance.choice([Digits("1"), None]), "created_at": moment,
            "targets": [{"type": "user", "id": "x"}], "event_hash": digits, "metadata": {"k": Digits("1.5"), "l": []}}  # fmt: skip
    nested = {"id": "evt_1", "actor": {"id": "user_2h", "name": None}, "action": "a", "occurred_at": moment,
              "resource": {"type": "document", "id": "x"}, "integrity": {"event_hash": digits},
              "metadata": {"a": "Łódź"}}  # fmt: skip
    row = {**flat, "workspace_id": "ws_1", "occurred_at": chance.choice([moment, None]), "data": {"id": "x"}}
    alert = {"event_type": "alert.triggered", "alert_id": "alt_1", "rule_name": "New country", "event": {"id": "x"},
             "workspace_id": "ws_1", "triggered_at": moment}  # fmt: skip
    envelope = {"workspace_id": "ws_1", "timestamp": moment}
    return [
        {"event_type": "event.created", "data": flat, **envelope},
        {"event_type": "event.created", "data": nested, **envelope},
        alert,
        row,
    ]


ODD = [None, True, False, [], {}, Pairs([("a", None), ("a", None)]), [None], {"type": Digits("1")},
       *map(Digits, NUMBERS), Digits("NaN"), Digits("-Infinity"), Digits("01"), Digits("1."), Digits("9" * 4400),
       Digits("true"), "a" * 64, "a" * 64 + "\n", "event.created", "alert.triggered", *INSTANTS, *STRINGS]  # fmt: skip


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container in `tree` with each of its keys."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict) or (isinstance(tree[key], list) and not isinstance(tree[key], Pairs)):
            yield from places(tree[key])


def mutate_structure(tree: Any, chance: random.Random) -> Any:
    for _ in range(chance.choice((0, 1, 1, 1, 2))):
        container, key = chance.choice(list(places(tree)))
        step = chance.randrange(6)
        if step == 0:
            del container[key]
        elif step == 1:
            container[key] = chance.choice(ODD)
        elif step == 2 and isinstance(container, dict):
            container[chance.choice(NAMES)] = chance.choice(ODD)
        elif step == 3 and isinstance(container, dict):
            container[chance.choice(NAMES)] = container.pop(key)
        elif step == 4:
            container[key] = chance.choice([[container[key]], {"id": container[key]}])
        elif isinstance(container[key], str) and not isinstance(container[key], Digits):
            text = container[key]
            at = chance.randint(0, len(text))
            container[key] = (
                text[:at]
                + chance.choice(["0", "9", "Z", "z", "\n", "\ud800", "-", ":", "."])
                + text[at + 1 :]
            )
    return tree


BYTES = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"e",
         b"0", b"-", b".", b"null", b"\\u0000", b"\\ud800", b"\\n", b"1e400", b"\xef\xbb\xbf", b"\x1f", b"\xe2\x80\xa8"]  # fmt: skip


def mutate_bytes(body: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 2))):
        at = chance.randrange(len(body))
        step = chance.randrange(4)
        if step == 0:
            body = body[:at] + body[at + 1 :]
        elif step == 1:
            body = body[:at] + chance.choice(BYTES) + body[at:]
        elif step == 2:
            body = body[:at] + chance.choice(BYTES) + body[at + 1 :]
        else:
            other = chance.randrange(len(body))
            body = body[:at] + body[min(at, other) : max(at, other)][:40] + body[at:]
        body = body or b"0"
    return body


# Names that `write` never repeats are repeated here: `{"id":…}` becomes `{"id":…,"id":…}`.
def repeat_member(body: bytes, chance: random.Random) -> bytes:
    ends = [at for at in range(len(body)) if body[at : at + 1] == b","]
    if not ends:
        return body
    at = chance.choice(ends)
    return body[:at] + b"," + body[body.rfind(b'"', 0, body.rfind(b":", 0, at) - 1) : at] + body[at:]


WRITTEN_AS = ("compact", "compact", "spaced", "ascii", "spaced-ascii", "wild")


def mutants(count: int, chance: random.Random) -> Iterator[bytes]:
    trees: list[str] = []
    bodies: list[bytes] = []
    for number in range(count):
        if number % 300 == 0:
            fresh = seeds(chance)
            trees = [write(tree, "compact", chance) for tree in fresh]
            bodies = [write(tree, style, chance).encode() for tree in fresh for style in WRITTEN_AS]
        if number % 3 == 0:
            body = mutate_bytes(chance.choice(bodies), chance)
        else:
            tree = json.loads(chance.choice(trees), parse_int=Digits, parse_float=Digits)
            style = chance.choice(WRITTEN_AS)
            body = write(mutate_structure(tree, chance), style, chance).encode()
            if number % 12 == 1:
                body = repeat_member(body, chance)
        if body.strip():
            yield body


class JudgeIsNotAsked(Validator):
    """A validator whose judge condemns everybody: what passes was acquitted by the sieve."""

    def _ask_judge(self, form: event.Form, tree: Any) -> None:
        raise validate.Refused("invalid", "not acquitted")


def no_two_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def no_constant(name: str) -> None:
    raise AssertionError(name)


SHAPES: tuple[CameAs, ...] = ("delivery", "row", "archived")


def acquitted_wrongly(
    bodies: list[bytes],
    validator: Validator,
    rules: dict[str, list[Draft202012Validator]],
    came_as: CameAs = "delivery",
) -> tuple[int, list[bytes]]:
    """Return how many the sieve acquitted, and those of them that the judge rejects."""
    validated = validator.validate(replace(block_of(bodies), shape=came_as))
    wrong: list[bytes] = []
    acquitted = 0
    for batch in validated.tables.values():
        for body, shape, dataset in zip(
            batch.column("body").to_pylist(),
            batch.column("shape").to_pylist(),
            ["event" if "action" in batch.schema.names else "alert"] * batch.num_rows,
            strict=True,
        ):
            acquitted += 1
            try:
                tree = json.loads(body, object_pairs_hook=no_two_members, parse_constant=no_constant)
                accepted = all(rule.is_valid(tree) for rule in rules[f"{dataset}-{shape}.1"])
                assert (shape == "row") == (
                    came_as == "row" or (came_as == "archived" and "event_type" not in tree)
                )
                assert (shape == "nested") == (
                    dataset == "event"
                    and shape != "row"
                    and isinstance(tree["data"].get("actor"), dict)
                    and "actor_id" not in tree["data"]
                )
            except Exception:  # a judge without a verdict has not accepted
                accepted = False
            if not accepted:
                wrong.append(body.encode())
    assert acquitted == validated.proven
    return acquitted, wrong


def search(
    seed: int, user: dict[str, Any] | None, goes_on: Callable[[int], bool], at_once: int
) -> tuple[int, int]:
    """Mutate while `goes_on(mutated so far)`; returns how many were mutated, and acquitted."""
    chance = random.Random(seed)
    schemas = {} if user is None else {"events": json.dumps(user)}
    validator, rules = JudgeIsNotAsked(Rules("s", schemas)), judges(user)
    came_as = SHAPES[seed % 3]
    mutated = acquitted = 0
    while goes_on(mutated):
        bodies = list(mutants(at_once, chance))
        passed, wrong = acquitted_wrongly(bodies, validator, rules, came_as)
        assert not wrong, f"seed {seed}: the sieve acquitted what the judge rejects: {wrong[:3]}"
        mutated += at_once
        acquitted += passed
    return mutated, acquitted


@pytest.mark.parametrize("seed", range(8))
def test_the_sieve_acquits_nothing_that_the_judge_rejects(seed: int) -> None:
    user = USER_SCHEMA if seed % 4 == 3 else None
    mutated, acquitted = search(seed, user, lambda count: count < 25_000, 5_000)
    assert mutated == 25_000
    assert acquitted > mutated * 0.05  # or the search looked at nothing


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_the_sieve_acquits_nothing_that_the_judge_rejects_in_a_long_search(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = int(os.environ.get("SOAK_MUTATIONS", "10000000"))
    deadline = time.monotonic() + float(os.environ.get("SOAK_SECONDS", "7200"))
    seed = random.SystemRandom().randrange(2**32)
    mutated = acquitted = 0
    while mutated < wanted and time.monotonic() < deadline:
        start = mutated
        more, passed = search(
            seed,
            USER_SCHEMA if seed % 4 == 3 else None,
            lambda count, start=start: (
                count < 100_000 and start + count < wanted and time.monotonic() < deadline
            ),
            5_000,
        )
        mutated, acquitted, seed = mutated + more, acquitted + passed, seed + 1
    with capsys.disabled():
        print(f"\nsieve: {mutated:,} mutated bodies, {acquitted:,} acquitted, none wrongly")


def test_a_sieve_that_acquits_all_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.judge.Sieve.acquits", lambda sieve, tree: "workspace_id" in tree)
    chance = random.Random(1)
    validator = JudgeIsNotAsked(Rules("s"))
    found = []
    for body in mutants(300, chance):
        try:
            found += acquitted_wrongly([body], validator, judges(None))[1]
        except Exception:
            found.append(body)  # a row that cannot be made shows it too
    assert found


def test_all_that_the_sieve_leaves_out_of_our_schemas_is_proven_elsewhere() -> None:
    def left_out(schema: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
        for name, value in schema.items():
            if name in ("format", "pattern") and isinstance(value, str):
                assert value in ("date-time", "^[0-9A-Fa-f]{64}$")
                yield path[-1]
            elif isinstance(value, dict):
                yield from left_out(value, (*path, name))

    for form in event.FORMS:
        schema = json.loads((Path(archiver.__file__).parent / "schemas" / f"{form.schema}.json").read_text())
        proven = {*form.instants, *(validate._HASHES if form.dataset == "events" else ())}
        assert set(left_out(schema)) == proven
