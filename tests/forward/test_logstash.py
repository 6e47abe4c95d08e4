"""What Logstash's http input makes of requests, and what is refused there."""

from __future__ import annotations

import json
import threading
import time

import pytest

from archiver.errors import ConfigError
from archiver.forward.base import UnsendableError, Verdict
from archiver.forward.intakes import client_of
from archiver.forward.logstash import LogstashIntake
from archiver.forward.settings import Destination
from archiver.secret import Secret
from tests.forward.contract import outgoing, some
from tests.services.logstash import LogstashStandIn
from tests.services.standin import Fault, Reply


def delivered(standin: LogstashStandIn, bodies: list[bytes], stop: bool = False) -> Verdict:
    destination = Destination("siem", "logstash", url=standin.url)
    intake, client, stopped = (
        LogstashIntake(destination, None, None),
        client_of(destination),
        threading.Event(),
    )
    if stop:
        stopped.set()
    items = [intake.item(outgoing(0), body) for body in bodies]
    try:
        return intake.deliver(client, items, stopped)
    finally:
        client.close()


@pytest.mark.parametrize("code", [200, 201, 202, 204])
def test_each_configurable_code_says_that_it_was_taken(code: int) -> None:
    standin = LogstashStandIn(code=code)
    with standin.serving():
        assert delivered(standin, [b'{"a":1}', b'{"b":2}']) == Verdict()
    assert standin.events == [{"a": 1}, {"b": 2}]
    assert standin.asked[0].body == b'[{"a":1},{"b":2}]'


@pytest.mark.parametrize(
    "hostile",
    [
        b'{"a[b]": 1}',
        b'{"data": {"metadata": {"x]" : 1}}}',
        b'{"targets": [{"metadata": {"[0]": null}}]}',
        b'{"q\\"[": 1}',
        b'{"q[\\"": 1}',
        b'{"x": "\\"", "]\\\\\\"q" : 1}',
        b'{"\\u005B": 1}',
        b'{"\\u005d": 1}',
        b'{"@metadata": "text"}',
        b'{"\\u0040metadata": 3}',
    ],
)
def test_what_no_event_can_be_made_of_spoils_no_other_event(hostile: bytes) -> None:
    standin = LogstashStandIn()
    with standin.serving():
        assert delivered(standin, [b'{"n":0}', b'{"n":1}', hostile, b'{"n":3}']) == Verdict()
    assert [one.get("n") for one in standin.events] == [0, 1, None, 3]
    spoilt = standin.events[2]
    assert spoilt["tags"] == ["_jsonparsefailure"]
    assert json.loads(spoilt["message"]) == [json.loads(hostile)]


def test_brackets_that_stand_in_no_name_cost_no_request_of_their_own() -> None:
    bodies = [
        b'{"targets":[{"type":"a"},{"type":"b","ids":["x","y"]}],"z":[]}',
        b'{"a":"[b]","c":"]: [","d":[["e"],["f"]]}',
        b'{"a":"[\\"b\\":1]","c":["\\"]"]}',
        b'{"text":"caf\\u00e9 \\u0000"}',
    ]
    standin = LogstashStandIn()
    with standin.serving():
        delivered(standin, bodies)
    assert standin.requests == 1
    assert standin.events == [json.loads(body) for body in bodies]


@pytest.mark.parametrize("piece", [b"[", b'[\\"', b'\\"['])
def test_a_text_of_brackets_is_looked_through_in_no_time(piece: bytes) -> None:
    body = b'{"a":"' + piece * 700_000 + b'","b":1}'
    standin = LogstashStandIn()
    with standin.serving():
        began = time.process_time()
        delivered(standin, [body, body])
        assert time.process_time() - began < 2
    assert standin.requests == 1


def test_a_fault_between_parts_of_a_request_leaves_what_was_taken_taken() -> None:
    bodies = [b'{"n":0}', b'{"[":1}', b'{"n":2}', b'{"n":3}']
    standin = LogstashStandIn()
    with standin.serving():
        standin.fault(Fault("slow"), Fault("reply", Reply(413, b"")), Fault("reply", Reply(429, b"")))
        verdict = delivered(standin, bodies)
    assert standin.events == [{"n": 0}]
    assert verdict.refused.keys() == {1}
    assert list(verdict.again) == [2, 3]
    assert verdict.trouble is not None
    assert (verdict.trouble.kind, verdict.trouble.answer) == ("later", "429")


def test_what_stands_behind_a_part_that_failed_goes_again_too() -> None:
    standin = LogstashStandIn()
    with standin.serving():
        standin.fault(Fault("reply", Reply(503, b"")))
        verdict = delivered(standin, [b'{"n":0}', b'{"[":1}', b'{"n":2}'])
    assert (standin.events, list(verdict.again)) == ([], [0, 1, 2])


def test_whoever_stops_waits_for_no_more_than_one_of_the_parts() -> None:
    standin = LogstashStandIn()
    with standin.serving():
        verdict = delivered(standin, [b'{"[":0}', b'{"[":1}', b'{"n":2}'], stop=True)
    assert (standin.requests, list(verdict.again)) == (1, [1, 2])


def test_a_request_of_which_something_is_refused_is_to_be_divided() -> None:
    standin = LogstashStandIn(most_bytes=20)
    with standin.serving():
        verdict = delivered(standin, [b'{"n":"a long text"}', b'{"n":2}'])
    assert (list(verdict.again), verdict.refused) == ([0, 1], {})
    assert verdict.trouble is not None
    assert verdict.trouble.kind == "batch"


def test_a_users_name_with_a_colon_is_refused_without_the_password() -> None:
    destination = Destination("siem", "logstash", url="http://127.0.0.1:1", user="a:b")
    with pytest.raises(ConfigError, match="no colon") as error:
        LogstashIntake(destination, None, Secret("the password"))
    assert "the password" not in str(error.value)


def test_limits_are_lowered_by_the_configuration_and_never_raised_above_those_of_logstash() -> None:
    low = Destination("siem", "logstash", batch_events=10, batch_bytes=2048)
    high = Destination("siem", "logstash", batch_events=5000)
    assert LogstashIntake(low, None, None).limits[:2] == (10, 2047)
    assert LogstashIntake(high, None, None).limits.most_events == 1000
    intake = LogstashIntake(low, None, None)
    with pytest.raises(UnsendableError, match="104857600"):
        intake.item(some(1)[0], bytes(100 << 20))
