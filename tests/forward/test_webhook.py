"""Events on to any URL, in the vendor's own manner if it is told the secret."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from archiver.errors import ConfigError
from archiver.forward.base import UnsendableError, Verdict
from archiver.forward.deadletters import DeadLetters
from archiver.forward.intakes import client_of, intake_of
from archiver.forward.sending import Sender
from archiver.forward.settings import Destination, read_destinations
from archiver.signature import HEADER, Secrets
from tests.forward.contract import QUICK, AsDelivered, Given, outgoing
from tests.services.hook import HookStandIn
from tests.services.receiving import SECRET, SECRET_VARIABLE, SIGNER, ReceiverProcess, bodies_of
from tests.support import event

BROKEN = b'{"event_type": "event.created",\r\n "data": {"id": "e0", "text": "a\\nb"} }\n'
ENVIRONMENT = {"SECRET": SECRET, "TOKEN": "t0ken-of-the-tests", "SHORT": "too short"}


def destination(url: str, **members: Any) -> Destination:
    return read_destinations("here", {"hook": {"type": "http", "url": url, **members}}, Path("/"))["hook"]


def delivered(standin: HookStandIn, bodies: list[bytes], payload: bytes = b"", **members: Any) -> Verdict:
    where = destination(standin.url + "/in?key=1", **members)
    intake, client = intake_of(where, ENVIRONMENT), client_of(where)
    items = [intake.item(outgoing(0)._replace(body=body), payload or body) for body in bodies]
    try:
        return intake.deliver(client, items, threading.Event())
    finally:
        client.close()


def test_one_event_alone_is_the_bytes_that_were_delivered_to_the_url_as_it_is_written() -> None:
    standin = HookStandIn()
    with standin.serving():
        assert delivered(standin, [BROKEN], payload=b"{}") == Verdict()
    assert standin.asked[0].body == BROKEN
    assert (standin.asked[0].path, standin.asked[0].query) == ("/in", "key=1")
    assert HEADER.lower() not in standin.asked[0].headers


@pytest.mark.parametrize(
    "changed", [{"drop": ["data.text"]}, {"body": "ecs"}, {"hash": ["data.id"], "hash_key_env": "SECRET"}]
)
def test_what_is_changed_before_it_leaves_is_never_sent_as_delivered(changed: dict[str, Any]) -> None:
    standin = HookStandIn()
    with standin.serving():
        delivered(standin, [BROKEN], payload=b'{"less":1}', **changed)
    assert standin.bodies == [b'{"less":1}']


def test_lines_have_no_line_break_within_and_an_array_is_one() -> None:
    for batch, kind in (("lines", "application/x-ndjson"), ("array", "application/json")):
        standin = HookStandIn()
        with standin.serving():
            delivered(standin, [BROKEN, b'{"b":2}'], batch=batch)
        assert [json.loads(one) for one in standin.bodies] == [json.loads(BROKEN), {"b": 2}]
        assert standin.asked[0].headers["content-type"] == kind
        assert standin.requests == 1


def test_a_signature_is_of_what_is_sent() -> None:
    standin = HookStandIn(secrets=Secrets([SECRET.encode()]))
    with standin.serving():
        delivered(standin, [BROKEN], secret_env="SECRET")
        delivered(standin, [BROKEN], payload=b'{"less":1}', secret_env="SECRET", drop=["data"])
        verdict = delivered(standin, [BROKEN])
    assert standin.bodies == [BROKEN, b'{"less":1}']
    assert standin.asked[0].headers[HEADER.lower()] == SIGNER.sign(BROKEN)
    assert verdict.trouble is not None
    assert (verdict.trouble.kind, verdict.trouble.answer) == ("settings", "401")


def test_a_signature_goes_with_a_token_or_without() -> None:
    standin = HookStandIn(secrets=Secrets([SECRET.encode()]), token=ENVIRONMENT["TOKEN"])
    with standin.serving():
        assert delivered(standin, [BROKEN], secret_env="SECRET", token_env="TOKEN") == Verdict()
    assert standin.bodies == [BROKEN]


def test_an_event_above_64_mib_is_never_sent() -> None:
    for batch in ("single", "array", "lines"):
        intake = intake_of(destination("http://127.0.0.1:1", batch=batch))
        with pytest.raises(UnsendableError, match="67108864"):
            intake.item(outgoing(0)._replace(body=bytes((64 << 20) + 1)), bytes((64 << 20) + 1))


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"secret_env": "SHORT"}, "9 bytes"),
        ({"secret_env": "SECRET", "gzip": True}, "gzip"),
        ({"secret_env": "MISSING"}, "MISSING is not set"),
        ({"token_env": "MISSING"}, "MISSING is not set"),
        ({"token_file": "/nowhere/token"}, "cannot be read"),
        ({"user": "a:b", "password_env": "SECRET"}, "no colon"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_sent(
    members: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        intake_of(destination("http://127.0.0.1:1", **members), ENVIRONMENT)
    assert all(value not in f"{error.value}{error.value.hint}" for value in ENVIRONMENT.values())


@pytest.mark.parametrize("url", ["ftp://example.com", "example.com/in", "https://", "http://a:b@example.com"])
def test_a_url_that_nothing_can_be_posted_to_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="URL"):
        client_of(destination(url))


def test_a_receiver_of_ours_accepts_each_event_byte_for_byte(tmp_path: Path) -> None:
    bodies = [event(f"e{number}", name="\u2028\n\U0001f600") for number in range(5)] + [BROKEN]
    events = [outgoing(number)._replace(body=body) for number, body in enumerate(bodies)]
    with ReceiverProcess(tmp_path / "spool") as receiver:
        where = destination(f"{receiver.url}/webhook", secret_env=SECRET_VARIABLE)
        client, letters = client_of(where), DeadLetters(tmp_path / "deadletters")
        intake = intake_of(where, {SECRET_VARIABLE: SECRET})
        sender = Sender("hook", intake, client, AsDelivered(), letters, policy=QUICK)
        assert sender.send(Given(events))
        client.close()
        assert receiver.terminate() == 0
    assert sender.tally.taken == 6
    assert bodies_of(tmp_path / "spool") == bodies
