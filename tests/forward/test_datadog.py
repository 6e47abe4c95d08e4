"""Datadog: what an item looks like, its limits, and what each answer means."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from archiver.errors import ConfigError
from archiver.forward.base import Outgoing, UnsendableError, Verdict
from archiver.forward.datadog import MOST_BYTES, SITES, DatadogIntake, url_of
from archiver.forward.settings import Destination
from archiver.http import Client
from archiver.secret import Secret
from tests.services.datadog import DatadogStandIn
from tests.services.standin import Fault, Reply

KEY = "0123456789abcdef0123456789abcdef"


def event(number: int = 0, **changed: Any) -> Outgoing:
    outgoing = Outgoing(
        b"{}", "events", f"e{number}", "ws_1", "event.created", "auth.login", 1_774_520_100_123_999, 0
    )
    return outgoing._replace(**changed)


def destination(options: dict[str, Any] | None = None, **settings: Any) -> Destination:
    told = {"site": "datadoghq.eu"} if options is None else options
    return Destination("siem", "datadog", options=told, **settings)


def intake(options: dict[str, Any] | None = None, *, key: str = KEY, **settings: Any) -> DatadogIntake:
    settings.setdefault("url", "https://logs.example.com")
    return DatadogIntake(destination(options, **settings), Secret(key))


def read(item: bytes) -> dict[str, Any]:
    assert item.endswith(b"},")
    log: dict[str, Any] = json.loads(item[:-1])
    return log


@contextmanager
def connected(standin: DatadogStandIn) -> Iterator[Client]:
    with standin.serving():
        client = Client(standin.url, timeout_seconds=5)
        try:
            yield client
        finally:
            client.close()


def posted(client: Client, made: DatadogIntake, payloads: list[bytes]) -> Verdict:
    items = [made.item(event(number), payload) for number, payload in enumerate(payloads)]
    return made.deliver(client, items, threading.Event())


def delivered(standin: DatadogStandIn, *faults: Fault, made: DatadogIntake | None = None) -> Verdict:
    standin.fault(*faults)
    with connected(standin) as client:
        return posted(client, made or intake(), [b'{"a":1}', b'{"a":2}', b'{"a":3}'])


def test_a_log_holds_the_payload_as_text_its_time_and_what_finds_it_again() -> None:
    payload = '{"n": 1.10, "s": "\\ud800 \\u0000 </script> \u2028 é \\" \x7f"}'.encode()

    log = read(intake({}).item(event(7), payload))

    assert log.pop("message").encode() == payload
    assert log == {
        "ddsource": "immutable",
        "service": "audit",
        "workspace_id": "ws_1",
        "event_id": "e7",
        "timestamp": 1_774_520_100_123,
    }


def test_what_is_configured_may_depend_on_the_event() -> None:
    options = {
        "service": "audit-{workspace}",
        "host": "{dataset}",
        "source": "{action_group}",
        "tags": ["env:prod", "team:security"],
    }
    made = intake(options)

    for workspace in ("ws_1", 'ws_"2'):
        log = read(made.item(event(workspace=workspace), b"{}"))
        assert log["service"] == f"audit-{workspace}"
        assert (log["hostname"], log["ddsource"], log["ddtags"]) == (
            "events",
            "auth",
            "env:prod,team:security",
        )


@pytest.mark.parametrize("tag", ["a,b", "a\nb", "x" * 201])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(ConfigError, match=r"destinations\.siem\] tags"):
        intake({"tags": [tag]})


def test_each_site_has_its_intake_and_an_unknown_one_is_refused_with_the_list() -> None:
    assert [url_of(destination({"site": site})) for site in SITES] == [
        f"https://http-intake.logs.{site}" for site in SITES
    ]
    with pytest.raises(ConfigError, match=r"us9\.example\.com.*us5\.datadoghq\.com"):
        intake({"site": "us9.example.com"}, url="")
    assert (
        url_of(destination({"site": "us9.example.com"}, url="https://h.example.com"))
        == "https://h.example.com"
    )


@pytest.mark.parametrize(("url", "path"), [("http://h/a", "/api/v2/logs"), ("http://h/api/v2/logs", "")])
def test_a_url_may_bring_the_path_with_it(url: str, path: str) -> None:
    assert intake(url=url)._path == path


def test_an_event_that_datadog_would_cut_is_unsendable_and_the_longest_that_fits_is_not_cut() -> None:
    made, standin = intake(), DatadogStandIn()
    room = 1_000_000 - (len(made.item(event(), b"")) - 1)
    # Two bytes of UTF-8 for each é, and two of JSON's for each quote.
    payload = b'"' + b"\xc3\xa9" * 1000 + b"x" * (room - 2004) + b'"'

    with connected(standin) as client:
        verdict = posted(client, made, [payload])
    with pytest.raises(UnsendableError, match=r"^1000001 bytes.* cuts at 1000000$"):
        made.item(event(), payload + b" ")

    assert verdict == Verdict()
    assert standin.cut == 0
    assert standin.logs[0]["message"].encode() == payload


def test_a_request_is_never_above_five_megabytes() -> None:
    made = intake(batch_events=5_000, batch_bytes=60_000_000)

    assert made.limits.most_events == 1_000
    item = made.item(event(), b"x" * 4_000)
    count = made.limits.most_bytes // len(item)
    standin = DatadogStandIn(keeps_requests=True)
    with connected(standin) as client:
        made.deliver(client, [item] * count, threading.Event())
    assert MOST_BYTES - len(item) < len(standin.asked[0].body) <= MOST_BYTES
    assert intake(batch_events=10, batch_bytes=2_000).limits == (10, 1_999, 1_000_000)


def test_events_arrive_in_order_compressed_with_the_key_in_its_header() -> None:
    standin = DatadogStandIn(key=KEY)
    with connected(standin) as client:
        verdict = posted(client, intake(), [b'{"a":%d}' % number for number in range(300)])
        posted(client, intake(gzip=False), [b'{"a":%d}' % number for number in range(300)])

    assert verdict == Verdict()
    assert [log["event_id"] for log in standin.logs[:300]] == [f"e{number}" for number in range(300)]
    packed, plain = standin.asked
    assert packed.headers["dd-api-key"] == KEY
    assert packed.body == plain.body
    assert packed.wire_bytes < plain.wire_bytes / 4


def test_a_wrong_key_is_a_matter_of_settings_and_is_not_shown() -> None:
    made = intake(key="a-wrong-key")
    verdict = delivered(DatadogStandIn(), made=made)

    assert list(verdict.again) == [0, 1, 2]
    assert verdict.trouble is not None
    assert (verdict.trouble.kind, verdict.trouble.answer) == ("settings", "403")
    assert verdict.trouble.told == "API key is invalid"
    assert "site" in verdict.trouble.hint
    assert "wrong-key" not in f"{verdict} {made!r}"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "batch"), (401, "settings"), (408, "later"), (413, "batch"), (429, "later"), (500, "later")],
)
def test_what_each_status_means(status: int, kind: str) -> None:
    verdict = delivered(DatadogStandIn(), Fault("reply", reply=Reply(status, b"", {"Retry-After": "7"})))

    assert list(verdict.again) == [0, 1, 2]
    assert verdict.trouble is not None
    assert (verdict.trouble.kind, verdict.trouble.retry_after) == (kind, 7.0)


@pytest.mark.parametrize(
    "body", [b"[]", b'{"errors":[]}', b'{"errors":[7]}', b'{"errors":[{}]}', b'{"errors":7}']
)
def test_an_error_of_another_form_is_told_as_it_came(body: bytes) -> None:
    verdict = delivered(DatadogStandIn(), Fault("reply", reply=Reply(503, body)))

    assert verdict.trouble is not None
    assert verdict.trouble.told == body.decode()


def test_what_is_repeated_after_a_lost_answer_is_there_twice_with_one_id() -> None:
    standin = DatadogStandIn()
    standin.fault(Fault("reset_after"))
    with connected(standin) as client:
        first = posted(client, intake(), [b"{}"])
        second = posted(client, intake(), [b"{}"])

    assert list(first.again) == [0]
    assert second == Verdict()
    assert [log["event_id"] for log in standin.logs] == ["e0", "e0"]


def test_a_time_is_kept_for_eighteen_hours() -> None:
    assert intake().oldest_seconds == 64_800
