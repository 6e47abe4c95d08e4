"""Bodies as they are delivered, and that no form of one changes a value."""

from __future__ import annotations

import json
from decimal import Context, Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.errors import ConfigError
from archiver.forward.base import UnsendableError
from archiver.forward.exact import Digits, parse, write
from tests.forward.payloads import FLAT, drawn, forms, leaves, made, outgoing, payloads

NUMBERS = (
    "0", "-0", "1", "1.0", "1.10", "-1.5e-3", "1E5", "123456789012345678", "9223372036854775808",
    "18446744073709551616", "100000000000000000000000000001", "0.1", "0.12345678901234567",
    "0.123456789012345678901", "1e400", "1e-400", "1e99999999999999999999", "3.141592653589793238",
)  # fmt: skip


def exactly(text: bytes | str) -> Any:
    """Parse with numbers by their value, and half surrogate pairs as they are."""
    return json.loads(text, parse_float=_number, parse_int=_number)


def _number(text: str) -> Any:
    try:
        value = Decimal(text)
    except ArithmeticError:
        return ("odd", text.lower())
    return ("number", 0 if value.is_zero() else value.normalize(_WIDE).as_tuple())


_WIDE = Context(prec=10_000, Emax=10**17, Emin=-(10**17))


# --- as delivered ---------------------------------------------------------------------------------


def test_a_body_goes_as_it_came_byte_for_byte() -> None:
    for body in drawn(300):
        left = payloads().of(outgoing(body))
        assert left == body.replace(b"\n", b" ").replace(b"\r", b" ")


def test_line_breaks_between_tokens_become_spaces_and_those_in_texts_stay_escapes() -> None:
    tree = forms(FLAT | {"user_agent": "a\nb\r\u2028"})["flat"]
    body = json.dumps(tree, indent=1).replace("\n", "\r\n").encode()
    left = payloads().of(outgoing(body))
    assert len(left) == len(body)
    assert b"\n" not in left
    assert b"\r" not in left
    assert json.loads(left) == tree


def test_what_is_altered_is_one_line_and_every_other_value_stays() -> None:
    for body in drawn(300):
        left = payloads(drop=("nothing.of.this.name",)).of(outgoing(body))
        assert b"\n" not in left
        assert exactly(left) == exactly(body)


@pytest.mark.parametrize("number", NUMBERS)
def test_no_number_changes(number: str) -> None:
    for body in (f'{{"a":{number}}}', f'{{"a": [ {number} , "x"]}}', f'{{"a":\n{number}\n}}'):
        assert exactly(write(parse(body.encode()))) == exactly(body)


@given(
    whole=st.integers(0, 10**40),
    fraction=st.none() | st.text("0123456789", min_size=1, max_size=30),
    exponent=st.none() | st.integers(-400, 400),
    sign=st.sampled_from(["", "-"]),
    space=st.sampled_from(["", " ", "\n"]),
)
@settings(max_examples=300, deadline=None)
def test_any_number_is_exact(
    whole: int, fraction: str | None, exponent: int | None, sign: str, space: str
) -> None:
    text = f"{sign}{whole}" + ("" if fraction is None else f".{fraction}")
    text += "" if exponent is None else f"e{exponent}"
    body = f'{{"a":{space}{text},"b":[{text}]}}'
    assert exactly(write(parse(body.encode()))) == exactly(body)


def test_a_number_that_nothing_holds_keeps_its_digits() -> None:
    assert parse(b'{"a":1e400}') == {"a": Digits("1e400")}
    assert write(parse(b'{"a": 1.50000000000000000000001}')) == b'{"a":1.50000000000000000000001}'


@pytest.mark.parametrize("form", ["as_delivered", "ecs", "ocsf"])
def test_half_a_surrogate_pair_stays(form: str) -> None:
    tree = forms(FLAT | {"actor_name": "x\ud800", "metadata": {"\udfff": "\ud83d", "n": 10**30}})["flat"]
    event = outgoing(json.dumps(tree).encode())
    left = payloads(form, drop=("nothing",)).of(event)
    assert left.isascii() or left.decode()
    assert {"x\ud800", "\ud83d"} <= {one for one in leaves(json.loads(left)) if isinstance(one, str)}


def test_a_body_that_cannot_be_read_is_unsendable() -> None:
    event = outgoing(forms(FLAT)["flat"])._replace(body=b'{"event_type":')
    with pytest.raises(UnsendableError):
        payloads("ecs").of(event)
    with pytest.raises(UnsendableError):
        payloads(drop=("x",)).of(event._replace(body=b"[]" * 3))


# --- every form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["ecs", "ocsf"])
def test_the_original_text_is_the_body_and_nothing_is_lost(form: str) -> None:
    for body in drawn(300):
        document = made(form, body)
        assert (document["raw_data"] if form == "ocsf" else document["event"]["original"]) == body.decode()
        _holds_all(document, body)


@pytest.mark.parametrize("form", ["ecs", "ocsf"])
@pytest.mark.parametrize("name", forms(FLAT))
def test_every_member_is_mapped_or_kept_beside_the_original(form: str, name: str) -> None:
    odd = {
        "extra": {"deep": [1, {"x": "unheard"}]}, "targets": [5, "x"], "ip_address": "unknown, proxy",
        "ip_country": "New Zealand", "actor_type": "robot",
    }  # fmt: skip
    for flat in (FLAT, FLAT | odd, {**FLAT, "action": "x"}, {"id": "1", "actor_id": "", "action": "a.b"}):
        row = {"created_at": "2026-03-26T10:15:00.000000Z"} if name == "row" else {}
        _holds_all(made(form, forms(flat | row)[name]), json.dumps(forms(flat | row)[name]).encode())


def _holds_all(document: Any, body: bytes) -> None:
    """Every value of the body stands in the document, without the original text."""
    without = {name: one for name, one in document.items() if name != "raw_data"}
    if "event" in without and isinstance(without["event"], dict):
        without["event"] = {name: one for name, one in without["event"].items() if name != "original"}
    kept = [str(leaf) for leaf in leaves(without)]
    missing = [one for one in leaves(json.loads(body)) if str(one) not in kept]
    assert [one for one in missing if not _is_told_otherwise(one, document)] == []


def _is_told_otherwise(value: Any, document: dict[str, Any]) -> bool:
    """A known type of actor or entity by its caption, the event's time by a number."""
    text = str(value)
    return text.title() in {str(leaf) for leaf in leaves(document)} or text == document.get("@timestamp")


@pytest.mark.parametrize("form", ["ecs", "ocsf"])
def test_all_shapes_of_one_event_look_alike(form: str) -> None:
    shapes = forms(FLAT)
    flat, nested = (made(form, shapes[name]) for name in ("flat", "nested"))
    for one in (flat, nested):
        one.pop("raw_data", None)
        one.get("event", {}).pop("original", None)
    assert flat == nested
    row = made(form, shapes["row"])
    for name in ("user", "source", "actor", "src_endpoint", "entity", "class_uid"):
        assert row.get(name) == flat.get(name)


@pytest.mark.parametrize("form", ["ecs", "ocsf"])
def test_a_file_of_actions_that_is_missing_is_refused_when_it_is_loaded(form: str, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        payloads(form, ocsf_actions=str(tmp_path / "none.toml"))
