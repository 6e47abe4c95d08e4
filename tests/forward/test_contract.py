"""What holds for every kind of destination, over real HTTP, whatever goes wrong."""

from __future__ import annotations

import json
import logging
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from archiver.forward.base import UnsendableError
from archiver.forward.deadletters import DeadLetters
from archiver.forward.intakes import client_of
from archiver.forward.sending import DestinationError
from archiver.http import NotTrustedError
from tests.forward.contract import (
    CASES,
    PASSWORD,
    TOKEN,
    Case,
    Given,
    outgoing,
    some,
    splunk,
)
from tests.services.certificates import self_signed
from tests.services.standin import Fault, Reply

HOSTILE = [
    "two\nlines\r\nand \t more",
    "</script><script>alert(1)</script>",
    "nul \0 escape \x1b[31m del \x7f",
    "separators \u2028 \u2029 \x85",
    "\U0001f600 \u202e \ufeff \ufffe",
    '"}{"index":{}}\n{"a": [1, 2',
    "%{[data][id]} ${jndi:ldap://x} {{7*7}}",
    "\ud800 alone",
    "\\u0000 \\ud800 no escapes",
]
_NO_BRACKETS = str.maketrans("[]", "()")


# One event a request and lines fail as arrays do: the answer is of all that was sent.
FAILING = [name for name in CASES if name not in ("http-single", "http-lines")]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = CASES[request.param]()
    return made


def test_events_arrive_in_order_and_once_batched_by_count(case: Case, tmp_path: Path) -> None:
    events = some(25)
    with case.standin.serving():
        sender = case.send(tmp_path, events, batch_events=10)
    case.check(events)
    assert case.standin.requests == (25 if case.is_single else 3)
    assert (sender.tally.taken, sender.tally.dead, sender.tally.retries) == (25, 0, 0)


def test_no_request_is_above_the_limit_of_bytes_and_nothing_is_lost_at_its_edge(
    case: Case, tmp_path: Path
) -> None:
    events = [outgoing(number, size=size) for number, size in enumerate(range(20, 80))]
    with case.standin.serving():
        for batch_bytes in range(2040, 2060, 5):
            limit = case.intake(batch_bytes=batch_bytes).limits.most_bytes
            case.standin.asked.clear()
            case.send(tmp_path, events, batch_bytes=batch_bytes)
            assert max(len(one.body) for one in case.standin.asked) <= (
                batch_bytes if limit < 4000 else limit
            )
            assert case.ids()[-60:] == [one.id for one in events]


def test_an_event_above_the_limit_of_bytes_of_a_request_goes_alone_or_to_the_dead_letters(
    case: Case, tmp_path: Path
) -> None:
    events = [outgoing(0), outgoing(1, size=3000), outgoing(2)]
    with case.standin.serving():
        sender = case.send(tmp_path, events, batch_bytes=2048)
    assert case.ids() in (["e0000", "e0001", "e0002"], ["e0000", "e0002"])
    assert sender.tally.taken + sender.tally.dead == 3


def test_no_request_has_more_events_than_the_api_takes(case: Case, tmp_path: Path) -> None:
    count = 2 if case.is_single else 1003
    events = some(count)
    with case.standin.serving():
        most = case.intake(batch_events=5000).limits.most_events
        case.send(tmp_path, events, batch_events=5000)
    case.check(events)
    assert case.standin.requests == -(-count // most)


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "gzip"])
def test_every_request_says_who_sends_and_hostile_texts_arrive_unaltered(
    case: Case, tmp_path: Path, is_compressed: bool
) -> None:
    # Brackets in names are a trouble of Logstash's own: see its tests.
    members: list[dict[str, Any]] = [
        {"actor_name": text, text.translate(_NO_BRACKETS): text} for text in HOSTILE
    ]
    events = [outgoing(number, **data) for number, data in enumerate(members)]
    with case.standin.serving():
        sender = case.send(tmp_path, events, gzip=is_compressed)
    assert sender.tally.taken == len(events)
    case.check(events)
    assert all(one.headers["user-agent"].startswith("archiver/") for one in case.standin.asked)
    assert {one.headers.get("content-encoding") for one in case.standin.asked} == (
        {"gzip"} if is_compressed else {None}
    )


FAULTS = {
    "429, Retry-After": Fault("reply", Reply(429, b"", {"Retry-After": "0"}), times=2),
    "503": Fault("reply", Reply(503, b"busy"), times=2),
    "502 with a page": Fault("reply", Reply(502, b"<html>\n<b>Bad Gateway</b>"), times=2),
    "reset before": Fault("reset_before", times=2),
    "reset after": Fault("reset_after", times=2),
    "taken, but 503": Fault("taken_but", Reply(503), times=2),
    "cut": Fault("cut", Reply(200, b'{"items": []}'), times=2),
    "200, no JSON": Fault("taken_but", Reply(200, b"\x00\xff<html>")),
    "200, too long": Fault("taken_but", Reply(200, b"[" * 2_000_000)),
    "200, no object": Fault("taken_but", Reply(200, b'["errors"]')),
    "200, empty": Fault("taken_but", Reply(200, b"")),
    "redirection": Fault("reply", Reply(307, b"", {"Location": "http://127.0.0.1:9/"})),
    "404": Fault("reply", Reply(404, b"")),
}
_NOT_TAKEN = ("429, Retry-After", "503", "502 with a page", "reset before", "redirection", "404")


@pytest.mark.parametrize("case", FAILING, indirect=True)
@pytest.mark.parametrize("name", FAULTS)
def test_after_a_fault_each_event_is_there(case: Case, tmp_path: Path, name: str) -> None:
    events = some(12)
    fault = FAULTS[name]
    with case.standin.serving():
        case.standin.fault(Fault(fault.kind, fault.reply, fault.seconds, fault.times))
        sender = case.send(tmp_path, events, batch_events=5)
    case.check(events, repeats=name not in _NOT_TAKEN)
    assert sender.tally.dead == 0
    if name in _NOT_TAKEN:
        assert sender.tally.trouble is not None
        assert "\n" not in sender.tally.trouble


@pytest.mark.parametrize("name", ["none", "503", "reset after", "cut", "200, no JSON"])
def test_with_indexer_acknowledgement_too_each_event_is_there(tmp_path: Path, name: str) -> None:
    case, events = splunk(acknowledges=True), some(12)
    case.refusing(7)
    with case.standin.serving():
        if name in FAULTS:
            # The first request asks whether there is such a thing as acknowledgement.
            case.standin.fault(Fault("slow"), Fault(FAULTS[name].kind, FAULTS[name].reply))
        sender = case.send(tmp_path, events, batch_events=5)
    case.check([one for one in events if one.id != "e0007"], repeats=name != "none")
    assert sender.tally.dead == 1


def test_an_answer_that_does_not_say_that_it_was_taken_is_not_believed(case: Case, tmp_path: Path) -> None:
    if not case.tells:
        return  # a 2xx of these says it all
    events = some(5)
    with case.standin.serving():
        for body in (b"<html>a captive portal</html>", b"", b"{}", b"[]", b'{"errors": false}'):
            case.standin.fault(Fault("reply", Reply(200, body)))
        case.send(tmp_path, events)
    case.check(events)


def test_a_receiver_that_is_too_slow_is_asked_again(case: Case, tmp_path: Path) -> None:
    events = some(4)
    with case.standin.serving():
        case.standin.fault(Fault("slow", seconds=0.5))
        sender = case.send(tmp_path, events, timeout_seconds=0.1)
    case.check(events, repeats=True)
    assert sender.tally.trouble is not None
    assert sender.tally.trouble.startswith("timeout")


def test_a_receiver_that_asks_to_wait_is_heard(case: Case) -> None:
    intake, one = None, outgoing(0)
    with case.standin.serving():
        intake = case.intake()
        client = client_of(case.destination())
        case.standin.fault(Fault("reply", Reply(429, b"", {"Retry-After": "7"})))
        verdict = intake.deliver(client, [intake.item(one, one.body)], threading.Event())
        client.close()
    assert list(verdict.again) == [0]
    assert verdict.trouble is not None
    assert (verdict.trouble.kind, verdict.trouble.retry_after) == ("later", 7.0)


def test_a_refused_event_is_a_dead_letter_and_its_neighbours_arrive(case: Case, tmp_path: Path) -> None:
    events = some(20)
    case.refusing(13)
    with case.standin.serving():
        sender = case.send(tmp_path, events)
    case.check([one for one in events if one.id != "e0013"])
    assert sender.tally.dead == 1
    (letter,) = DeadLetters(tmp_path / "deadletters").letters()
    assert letter.event.body == events[13].body
    assert letter.answer


def test_an_event_above_the_limit_of_the_api_is_a_dead_letter_and_its_neighbours_arrive(
    case: Case, tmp_path: Path
) -> None:
    with case.standin.serving():
        intake = case.intake()
        above = bytes(intake.limits.most_event_bytes + 1)
        events = some(3)
        events[1] = events[1]._replace(body=above)
        with pytest.raises(UnsendableError, match="bytes"):
            intake.item(events[1], above)
        with case.sender(tmp_path) as sender:
            sender._dead_letters = _Counted()  # type: ignore[assignment]
            assert sender.send(Given(events))
    case.check([events[0], events[2]])
    assert sender.tally.dead == 1


class _Counted:
    """Takes letters without writing a hundred megabytes."""

    def add(self, letters: list[object]) -> list[object]:
        return letters


def test_a_wrong_token_stops_once_loses_nothing_and_is_told_without_it(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = some(10)
    reader = Given(events)
    caplog.set_level(logging.DEBUG)
    with case.standin.serving():
        case.standin.fault(Fault("reply", case.locked))
        with case.sender(tmp_path, batch_events=5) as sender:
            with pytest.raises(DestinationError) as error:
                sender.send(reader)
            assert (reader.done, sender.tally.taken) == (0, 0)
        with case.sender(tmp_path, batch_events=5) as repaired:
            assert repaired.send(reader)
    case.check(events)
    assert sender.tally.dead == 0
    assert str(case.locked.status) in str(error.value)
    shown = f"{error.value} {error.value.hint} {caplog.text} {vars(sender)} {case.destination()!r}"
    assert TOKEN not in shown
    assert PASSWORD not in shown


@pytest.mark.parametrize("status", [401, 422])
def test_a_receiver_that_repeats_what_it_was_sent_is_shown_without_secrets(
    case: Case, tmp_path: Path, status: int
) -> None:
    """And so the tally, from which the status file is written, and dead letters are without them."""
    events = some(1)
    with case.standin.serving():
        with case.sender(tmp_path) as sender:
            sender.send(Given(events))
        sent = case.standin.asked[0].headers
        told = " ".join(value for name, value in sent.items() if name in ("authorization", "dd-api-key"))
        assert told
        plain = f"{TOKEN} {PASSWORD} {told}"
        body = json.dumps({"text": plain, "code": 8, "error": {"type": plain, "reason": plain}}).encode()
        case.standin.fault(Fault("reply", Reply(status, body)))
        shown = ""
        with case.sender(tmp_path) as sender:
            try:
                sender.send(Given(events))
            except DestinationError as error:
                shown = f"{error} {error.hint}"
    shown += repr(sender.tally) + repr(list(DeadLetters(tmp_path / "deadletters").letters()))
    assert "(a secret)" in shown
    assert told.split()[-1] not in shown
    assert case.secret not in shown


def test_a_certificate_is_trusted_or_nothing_is_sent(case: Case, tmp_path: Path) -> None:
    events = some(5)
    certificate = self_signed(tmp_path)
    with case.standin.serving(certificate):
        client = client_of(case.destination())
        intake = case.intake()
        with pytest.raises(NotTrustedError, match="not trusted"):
            intake.deliver(client, [intake.item(events[0], events[0].body)], threading.Event())
        with (
            case.sender(tmp_path) as sender,
            pytest.raises(DestinationError, match="not trusted") as error,
        ):
            sender.send(Given(events))
        assert "ca_file" in error.value.hint
        assert case.standin.requests == 0
        case.send(tmp_path, events, ca_file=str(certificate.chain))
    case.check(events)


def test_whatever_goes_wrong_in_a_row_each_event_is_there_in_order(case: Case, tmp_path: Path) -> None:
    chance = random.Random(7)
    events = some(40 if case.is_single else 200)
    names = [chance.choice(list(FAULTS)) for _ in range(12)]
    with case.standin.serving():
        for name in names:
            case.standin.fault(Fault(FAULTS[name].kind, FAULTS[name].reply))
        sender = case.send(tmp_path, events, batch_events=9)
    case.check(events, repeats=True)
    assert sender.tally.dead == 0
    assert json.dumps(sender.tally.trouble).isprintable()
