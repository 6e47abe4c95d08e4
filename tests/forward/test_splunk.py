"""Splunk: what an item looks like, what each answer means, and the wait for a confirmation."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from archiver.errors import ConfigError
from archiver.forward.base import Outgoing, Trouble, UnsendableError, Verdict
from archiver.forward.settings import Destination
from archiver.forward.splunk import SplunkIntake
from archiver.http import Client
from archiver.secret import Secret
from tests.services.hec import ACK_PATH, HecStandIn, told
from tests.services.standin import Fault, Reply

TOKEN = Secret("11111111-2222-3333-4444-555555555555")
HEC_URL = "https://splunk.example.com:8088"


def event(number: int = 0, **changed: Any) -> Outgoing:
    outgoing = Outgoing(
        b"{}", "events", f"e{number}", "ws_1", "event.created", "auth.login", 1_774_520_100_000_001, 0
    )
    return outgoing._replace(**changed)


def intake(
    options: dict[str, Any] | None = None, *, confirm_seconds: float = 5.0, **settings: Any
) -> SplunkIntake:
    destination = Destination("siem", "splunk", url=HEC_URL, options=options or {}, **settings)
    return SplunkIntake(destination, TOKEN, confirm_seconds=confirm_seconds, first_pause_seconds=0.005)


def items_of(made: SplunkIntake, events: Sequence[Outgoing]) -> list[bytes]:
    return [made.item(one, b'{"data":{"id":"%b"}}' % one.id.encode()) for one in events]


@contextmanager
def connected(standin: HecStandIn) -> Iterator[Client]:
    with standin.serving():
        client = Client(standin.url, timeout_seconds=5)
        try:
            yield client
        finally:
            client.close()


def delivered(
    standin: HecStandIn, made: SplunkIntake, events: Sequence[Outgoing], stop: threading.Event | None = None
) -> Verdict:
    with connected(standin) as client:
        return made.deliver(client, items_of(made, events), stop or threading.Event())


def trouble_in(verdict: Verdict) -> Trouble:
    assert verdict.trouble is not None
    return verdict.trouble


# Items.


def test_an_item_has_the_members_of_the_event_format_and_the_payload_as_it_is() -> None:
    made = intake(
        {"index": "audit_{workspace}", "sourcetype": "{dataset}", "host": "h", "source": "{action}"}
    )
    payload = b'{"a":1.10,"text":"\\u0000</script>\\ud800"}'
    item = made.item(event(), payload)
    assert item.endswith(b',"event":' + payload + b"}\n")
    assert json.loads(item) == {
        "time": 1774520100.000001,
        "index": "audit_ws_1",
        "sourcetype": "events",
        "host": "h",
        "source": "auth.login",
        "fields": {"event_id": "e0", "workspace": "ws_1", "dataset": "events"},
        "event": json.loads(payload),
    }


def test_what_is_not_configured_is_left_to_the_token() -> None:
    assert json.loads(intake().item(event(), b"{}")).keys() == {"fields", "time", "event"}


@pytest.mark.parametrize(
    ("at_us", "written"),
    [
        (0, b"0.000000"),
        (1_774_520_100_000_001, b"1774520100.000001"),
        (253_402_300_799_999_999, b"253402300799.999999"),  # as a float it would be the year 10000
        (-1, b"-0.000001"),
        (-1_500_000, b"-1.500000"),
    ],
)
def test_a_time_is_written_to_the_microsecond_without_rounding(at_us: int, written: bytes) -> None:
    assert b'"time":' + written + b"," in intake().item(event(at_us=at_us), b"{}")


@pytest.mark.parametrize("hostile", ['"}\n{"x":"', "a\u2028b", "\x00", "\ud800", "é🙂", "\\"])
def test_ids_and_workspaces_are_data(hostile: str) -> None:
    item = intake({"index": "{workspace}"}).item(event(id=hostile, workspace=hostile), b"{}")
    read = json.loads(item)
    assert item.count(b"\n") == 1
    assert read["fields"] == {"event_id": hostile, "workspace": hostile, "dataset": "events"}
    assert read["index"].isprintable()


def test_events_that_differ_only_where_a_template_looks_are_told_apart() -> None:
    made = intake({"source": "{action_group}:{event_type}:{workspace}:{dataset}"})
    changes: list[dict[str, Any]] = [
        {"action": "doc.x"},
        {"event_type": "t"},
        {"workspace": "w"},
        {"dataset": "alerts"},
        {},
    ]
    found = {json.loads(made.item(event(**change), b"{}"))["source"] for change in changes}
    assert len(found) == len(changes)


def test_many_workspaces_take_no_more_memory_than_few() -> None:
    made = intake({"index": "{workspace}"})
    tracemalloc.start()
    try:
        for number in range(12_000):
            made.item(event(workspace=f"w{number}"), b"{}")
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()


def test_an_event_that_no_request_can_hold_is_unsendable_and_never_cut() -> None:
    made = intake(batch_bytes=1024)
    spare = 1024 - len(made.item(event(), b""))
    assert len(made.item(event(), b"x" * spare)) == 1024 == made.limits.most_bytes
    with pytest.raises(UnsendableError, match=r"1025 bytes.* the 1024 of a request"):
        made.item(event(), b"x" * (spare + 1))


def test_limits_are_splunk_clouds_unless_they_are_configured() -> None:
    assert intake().limits == (1_000, 1_000_000, 1_000_000)
    assert intake(batch_events=5, batch_bytes=5_000_000).limits == (5, 5_000_000, 5_000_000)
    assert intake().oldest_seconds is None


@pytest.mark.parametrize("url", [f"{HEC_URL}/services/collector/event", f"{HEC_URL}/?token=x"])
def test_a_url_that_names_the_endpoint_or_has_a_query_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"\[destinations\.siem\] url"):
        SplunkIntake(Destination("siem", "splunk", url=url), TOKEN)


def test_without_a_token_there_is_no_intake() -> None:
    with pytest.raises(ConfigError, match="has no token"):
        SplunkIntake(Destination("siem", "splunk", url=HEC_URL), None)


# Answers.


@pytest.mark.parametrize("gzip", [False, True])
def test_events_arrive_in_order_with_the_token_in_its_header(gzip: bool) -> None:
    standin = HecStandIn()
    events = [event(number) for number in range(50)]
    assert delivered(standin, intake(gzip=gzip), events) == Verdict()
    assert standin.ids() == [one.id for one in events]
    (asked,) = standin.asked
    assert asked.headers["authorization"] == f"Splunk {TOKEN.reveal()}"
    assert (asked.path, asked.query) == ("/services/collector/event", "")
    assert (asked.wire_bytes < len(asked.body)) is gzip
    assert "x-splunk-request-channel" not in asked.headers


def test_the_event_that_an_answer_names_is_refused_and_only_those_behind_it_go_again() -> None:
    standin = HecStandIn(refuses=("e2",))
    verdict = delivered(standin, intake(), [event(number) for number in range(5)])
    assert list(verdict.again) == [3, 4]
    assert verdict.refused == {2: "400 code 6 (Invalid data format)"}
    assert verdict.trouble is None
    assert standin.ids() == ["e0", "e1"]


@pytest.mark.parametrize(
    ("reply", "kind", "answer"),
    [
        (told(1), "settings", "403 code 1"),
        (told(2), "settings", "401 code 2"),
        (told(3), "settings", "401 code 3"),
        (told(4), "settings", "403 code 4"),
        (told(5), "batch", "400 code 5"),
        (told(6), "batch", "400 code 6"),
        (told(6, {"invalid-event-number": 3}), "batch", "400 code 6"),
        (told(6, {"invalid-event-number": -1}), "batch", "400 code 6"),
        (told(13, {"invalid-event-number": True}), "batch", "400 code 13"),
        (told(7, {"invalid-event-number": 1}), "settings", "400 code 7"),
        (told(8), "later", "500 code 8"),
        (told(9), "later", "503 code 9"),
        (told(10), "settings", "400 code 10"),
        (told(14), "settings", "400 code 14"),
        (Reply(429, b'{"text":"HEC queue is at capacity","code":26}'), "later", "429 code 26"),
        (Reply(503, b'{"text":"x","code":999}'), "later", "503 code 999"),
        (Reply(413, b"<html>"), "batch", "413"),
        (Reply(404, b'{"text":"not found","code":404}'), "settings", "404 code 404"),
        (Reply(302, b""), "settings", "302"),
        # No answer of a collector: nothing may be believed to be taken.
        (Reply(200, b"<html>Please log in</html>"), "settings", "200"),
        (Reply(200, b"{}"), "settings", "200"),
        (Reply(200, b"[0]"), "settings", "200"),
        (Reply(200, b'{"code":0}' + b" " * 70_000), "settings", "200"),
    ],
)
def test_what_an_answer_to_the_whole_request_means(reply: Reply, kind: str, answer: str) -> None:
    standin = HecStandIn()
    standin.fault(Fault("reply", reply))
    verdict = delivered(standin, intake(), [event(number) for number in range(3)])
    trouble = trouble_in(verdict)
    assert (trouble.kind, trouble.answer) == (kind, answer)
    assert list(verdict.again) == [0, 1, 2]
    assert not verdict.refused
    assert TOKEN.reveal() not in f"{trouble!r}{trouble}"


@pytest.mark.parametrize("code", [24, 25])
def test_a_warning_that_a_queue_fills_up_is_no_refusal(code: int) -> None:
    standin = HecStandIn()
    standin.fault(Fault("taken_but", Reply(200, b'{"text":"x","code":%d}' % code)))
    assert delivered(standin, intake(), [event()]) == Verdict()


def test_what_a_receiver_says_is_bounded_and_one_line() -> None:
    standin = HecStandIn()
    text = json.dumps({"code": 9, "text": "\u001b[31mbusy\u0007" + "y" * 500 + "\nsecond"})
    standin.fault(Fault("reply", Reply(503, text.encode(), {"Retry-After": "7"})))
    trouble = trouble_in(delivered(standin, intake(), [event()]))
    assert trouble.told.startswith("[31mbusyyyy")
    assert len(trouble.told) <= 120
    assert trouble.retry_after == 7.0


@pytest.mark.parametrize(("kind", "taken"), [("reset_before", 0), ("reset_after", 2)])
def test_without_an_answer_all_goes_again(kind: Any, taken: int) -> None:
    standin = HecStandIn()
    standin.fault(Fault(kind))
    verdict = delivered(standin, intake(), [event(0), event(1)])
    assert (trouble_in(verdict).kind, trouble_in(verdict).answer) == ("later", "reset")
    assert list(verdict.again) == [0, 1]
    assert len(standin.events) == taken


def test_an_answer_that_ends_early_is_no_matter_of_settings() -> None:
    standin = HecStandIn()
    standin.fault(Fault("cut", Reply(200, b'{"text":"Success","code":0}')))
    trouble = trouble_in(delivered(standin, intake(), [event()]))
    assert (trouble.kind, trouble.told) == ("later", "the answer ended early")


# An index that the token may not write to.


@pytest.mark.parametrize("index", [None, "lost"])
def test_one_index_for_all_that_is_incorrect_is_for_somebody_to_mend(index: str | None) -> None:
    standin = HecStandIn(indexes=frozenset({"audit"}))
    verdict = delivered(standin, intake({"index": index} if index else {}), [event(0), event(1)])
    assert trouble_in(verdict).kind == "settings"
    assert "may the token write to it" in trouble_in(verdict).hint
    assert list(verdict.again) == [0, 1]


@pytest.mark.parametrize("number_from", [0, 1])
@pytest.mark.parametrize("workspaces", ["bad", "abad", "babd", "ddb", "aadbbad", "ba", "b", "ab"])
def test_only_events_of_an_incorrect_index_are_refused(number_from: int, workspaces: str) -> None:
    # `b` has no index. Whatever the answer counts from, none but these may be refused, or lost.
    standin = HecStandIn(indexes=frozenset({"i_a", "i_d"}), index_number_from=number_from)
    made = intake({"index": "i_{workspace}"})
    events = [event(number, workspace=letter) for number, letter in enumerate(workspaces)]
    wrong = [number for number, letter in enumerate(workspaces) if letter == "b"]
    with connected(standin) as client:
        verdict = made.deliver(client, items_of(made, events), threading.Event())
        assert sorted(verdict.refused) == wrong
        assert "index i_b" in verdict.refused[wrong[0]]
        assert verdict.trouble is None
        assert list(verdict.again) == [at for at in range(len(events)) if at not in wrong]
        rest = [events[number] for number in verdict.again]
        if rest:
            assert made.deliver(client, items_of(made, rest), threading.Event()) == Verdict()
    assert set(standin.ids()) == {one.id for one in events if one.workspace != "b"}


def test_an_incorrect_index_without_a_number_is_looked_for_by_dividing() -> None:
    standin = HecStandIn()
    standin.fault(Fault("reply", told(7)))
    verdict = delivered(standin, intake({"index": "{workspace}"}), [event(0), event(1)])
    assert trouble_in(verdict).kind == "batch"
    assert list(verdict.again) == [0, 1]


def test_a_quote_or_backslash_in_an_index_does_not_confuse_two_of_them() -> None:
    made = intake({"index": "{workspace}"})
    standin = HecStandIn(indexes=frozenset({'a"c', "a\\"}))
    names = ['a"b', 'a"c', "a\\", "a"]
    verdict = delivered(standin, made, [event(at, workspace=name) for at, name in enumerate(names)])
    assert list(verdict.refused) == [0]
    assert list(verdict.again) == [1, 2, 3]


# Indexer acknowledgement.


def acks_asked(standin: HecStandIn) -> list[Any]:
    return [json.loads(asked.body)["acks"] for asked in standin.asked if asked.path == ACK_PATH]


def test_with_acknowledge_a_request_is_taken_when_it_is_indexed() -> None:
    standin = HecStandIn(acknowledges=True, asked_until_indexed=4)
    made = intake({"acknowledge": True})
    with connected(standin) as client:
        for number in range(2):
            assert made.deliver(client, items_of(made, [event(number)]), threading.Event()) == Verdict()
    assert standin.ids() == ["e0", "e1"]
    assert acks_asked(standin) == [[0]] * 5 + [[1]] * 4  # one of them before anything was sent
    (channel,) = standin.channels
    assert {asked.headers["x-splunk-request-channel"] for asked in standin.asked} == {channel}
    assert {asked.query for asked in standin.asked if asked.path == ACK_PATH} == {f"channel={channel}"}


def test_each_intake_has_its_own_channel() -> None:
    standin = HecStandIn(acknowledges=True)
    for number in range(2):
        delivered(standin, intake({"acknowledge": True}), [event(number)])
    assert len(standin.channels) == 2


def test_what_is_not_confirmed_in_time_goes_again() -> None:
    standin = HecStandIn(acknowledges=True, asked_until_indexed=10**6)
    verdict = delivered(standin, intake({"acknowledge": True}, confirm_seconds=0.1), [event(0), event(1)])
    assert (trouble_in(verdict).kind, trouble_in(verdict).answer) == ("later", "unconfirmed")
    assert "after 0.1 s: not indexed" in trouble_in(verdict).told
    assert list(verdict.again) == [0, 1]
    assert 3 < len(acks_asked(standin)) < 11  # the pauses grow


def test_whoever_stops_does_not_wait_for_a_confirmation() -> None:
    standin = HecStandIn(acknowledges=True, asked_until_indexed=10**6)
    stop = threading.Event()
    stop.set()
    began = time.monotonic()
    verdict = delivered(standin, intake({"acknowledge": True}, confirm_seconds=60), [event()], stop)
    assert time.monotonic() - began < 2
    assert (trouble_in(verdict).kind, list(verdict.again)) == ("later", [0])


@pytest.mark.parametrize("reply", [told(9), told(8), Reply(429), Reply(200, b'{"code":0}'), None])
def test_a_question_that_fails_is_asked_again(reply: Reply | None) -> None:
    standin = HecStandIn(acknowledges=True)
    made = intake({"acknowledge": True})
    with connected(standin) as client:
        made.deliver(client, items_of(made, [event(0)]), threading.Event())
        taken = Fault("taken_but", Reply(200, b'{"text":"Success","code":0,"ackId":1}'))
        standin.fault(taken, Fault("reply", reply) if reply else Fault("reset_before"))
        assert made.deliver(client, items_of(made, [event(1)]), threading.Event()) == Verdict()
    assert standin.ids() == ["e0", "e1"]


@pytest.mark.parametrize("reply", [told(4), told(11), Reply(404), Reply(200, b"<html>")])
def test_a_question_that_somebody_must_mend_ends_the_wait(reply: Reply) -> None:
    standin = HecStandIn(acknowledges=True)
    taken = Fault("taken_but", Reply(200, b'{"text":"Success","code":0,"ackId":0}'))
    standin.fault(Fault("reply", Reply(200, b'{"acks":{"0":false}}')), taken, Fault("reply", reply))
    verdict = delivered(standin, intake({"acknowledge": True}, confirm_seconds=60), [event()])
    assert (trouble_in(verdict).kind, list(verdict.again)) == ("settings", [0])


def test_a_confirmation_whose_answer_was_lost_is_not_given_twice_and_the_request_goes_again() -> None:
    standin = HecStandIn(acknowledges=True)
    nothing = Fault("reply", Reply(200, b'{"acks":{}}'))
    taken = Fault("taken_but", Reply(200, b'{"text":"Success","code":0,"ackId":0}'))
    standin.fault(nothing, taken, Fault("reset_after"))
    verdict = delivered(standin, intake({"acknowledge": True}, confirm_seconds=0.05), [event()])
    assert (trouble_in(verdict).answer, list(verdict.again)) == ("unconfirmed", [0])


def test_a_token_without_acknowledgement_is_found_out_before_anything_is_sent() -> None:
    standin = HecStandIn()
    made = intake({"acknowledge": True})
    with connected(standin) as client:
        verdict = made.deliver(client, items_of(made, [event()]), threading.Event())
        assert (trouble_in(verdict).kind, trouble_in(verdict).answer) == ("settings", "400 code 14")
        assert standin.events == []
        standin.acknowledges = True
        assert made.deliver(client, items_of(made, [event()]), threading.Event()) == Verdict()
    assert standin.ids() == ["e0"]


def test_a_token_that_asks_for_acknowledgement_says_what_to_configure() -> None:
    trouble = trouble_in(delivered(HecStandIn(acknowledges=True), intake(), [event()]))
    assert (trouble.kind, trouble.answer) == ("settings", "400 code 10")
    assert "acknowledge = true" in trouble.hint


@pytest.mark.parametrize(("asked_until_indexed", "again"), [(2, [2]), (10**6, [0, 2])])
def test_what_stands_before_a_refused_event_is_confirmed_too(
    asked_until_indexed: int, again: list[int]
) -> None:
    standin = HecStandIn(acknowledges=True, refuses=("e1",), asked_until_indexed=asked_until_indexed)
    made = intake({"acknowledge": True}, confirm_seconds=0.05)
    verdict = delivered(standin, made, [event(number) for number in range(3)])
    assert list(verdict.refused) == [1]
    assert list(verdict.again) == again
    assert (verdict.trouble is None) is (again == [2])


def test_what_stands_before_a_refused_event_goes_again_if_it_cannot_be_asked_after() -> None:
    standin = HecStandIn(acknowledges=True)
    refusal = b'{"text":"Error in handling indexed fields","code":15,"invalid-event-number":1}'
    with connected(standin) as client:
        made = intake({"acknowledge": True})
        items = items_of(made, [event(number) for number in range(3)])
        assert made.deliver(client, items, threading.Event()) == Verdict()
        standin.fault(Fault("reply", Reply(400, refusal)))
        verdict = made.deliver(client, items, threading.Event())
    assert (list(verdict.refused), list(verdict.again), verdict.trouble) == ([1], [0, 2], None)


def test_the_token_is_in_no_error_and_no_repr() -> None:
    standin = HecStandIn(token="another")
    made = intake()
    trouble = trouble_in(delivered(standin, made, [event()]))
    assert trouble.answer == "403 code 4"
    assert TOKEN.reveal() not in f"{trouble!r}{trouble}{made!r}{vars(made)!r}"
