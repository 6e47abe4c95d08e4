"""Elasticsearch: what an item looks like, what each answer means, and that a repeat changes nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from archiver import clock
from archiver.errors import ConfigError
from archiver.forward import elastic
from archiver.forward.base import Outgoing, UnsendableError, Verdict
from archiver.forward.elastic import ElasticIntake
from archiver.forward.settings import Destination
from archiver.http import Client
from archiver.secret import Secret
from tests.services.bulk import BulkStandIn, ItemError
from tests.services.standin import Fault, Reply

INDEX = "logs-audit-default"
MAPPING = ItemError(400, "document_parsing_exception", "[1:9] failed to parse field [a]\nPreview: 'x\x1b'")
BUSY = ItemError(429, "es_rejected_execution_exception", "rejected execution of coordinating operation")


def event(number: int = 0, **changed: Any) -> Outgoing:
    outgoing = Outgoing(
        b"{}", "events", f"e{number}", "ws_1", "event.created", "auth.login", 1_774_520_100_000_001, 0
    )
    return outgoing._replace(**changed)


def intake(
    token: str | None = None, password: str | None = None, *, index: str | None = None, **settings: Any
) -> ElasticIntake:
    settings.setdefault("url", "https://elastic.example.com:9200")
    options = {} if index is None else {"index": index}
    destination = Destination("siem", "elastic", options=options, **settings)
    secrets = [None if told is None else Secret(told) for told in (token, password)]
    return ElasticIntake(destination, *secrets)


def read(item: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    action, document, end = item.split(b"\n")
    assert end == b""
    return json.loads(action)["create"], json.loads(document)


def name_of(one: Outgoing) -> str:
    return str(read(intake().item(one, b"{}"))[0]["_id"])


@contextmanager
def connected(standin: BulkStandIn) -> Iterator[Client]:
    with standin.serving():
        client = Client(standin.url, timeout_seconds=5)
        try:
            yield client
        finally:
            client.close()


def posted(client: Client, made: ElasticIntake, events: Sequence[Outgoing]) -> Verdict:
    items = [made.item(one, b'{"data":{"id":"%b"}}' % one.id.encode()) for one in events]
    return made.deliver(client, items, threading.Event())


def delivered(
    standin: BulkStandIn, count: int = 3, *faults: Fault, made: ElasticIntake | None = None
) -> Verdict:
    standin.fault(*faults)
    with connected(standin) as client:
        return posted(client, made or intake(), [event(number) for number in range(count)])


# What an item looks like.


def test_what_was_delivered_stands_unaltered_beside_what_a_data_stream_needs() -> None:
    payload = '{"data": {"n": 1.10, "s": "\\ud800 \\u0000 </script> \u2028 é"}, "timestamp": "x"}'.encode()

    item = intake().item(event(7), payload)

    create, document = read(item)
    assert create == {"_index": INDEX, "_id": "events:ws_1:e7"}
    assert payload in item
    assert document.pop("immutable") == json.loads(payload)
    assert document == {
        "@timestamp": "2026-03-26T10:15:00.000001Z",
        "event": {"id": "e7", "kind": "event", "action": "auth.login"},
        "organization": {"id": "ws_1"},
    }


def test_an_ecs_document_is_sent_as_it_is_and_an_ocsf_one_below_ocsf() -> None:
    payload = b'{"@timestamp":"2026-03-26T10:15:00.000001Z"}'

    assert intake(form="ecs").item(event(), payload).split(b"\n")[1] == payload
    assert read(intake(form="ocsf").item(event(), payload))[1]["ocsf"] == json.loads(payload)


def test_an_alert_is_one_and_has_no_action() -> None:
    create, document = read(intake().item(event(dataset="alerts", action=""), b"{}"))

    assert create["_id"] == "alerts:ws_1:e0"
    assert document["event"] == {"id": "e0", "kind": "alert"}


@pytest.mark.parametrize(
    "at_us", [0, -1, 59_999_999, 60_000_000, -62_135_596_800_000_000, 253_402_300_799_999_999]
)
def test_each_instant_is_written_as_the_archive_writes_it(at_us: int) -> None:
    made = intake()
    for near in (at_us, max(at_us - 1, -62_135_596_800_000_000), at_us):
        document = read(made.item(event(at_us=near), b"{}"))[1]
        assert document["@timestamp"] == clock.to_text(near)


def test_no_two_identities_have_one_id() -> None:
    identities = [
        event(workspace="a", id="b:c"),
        event(workspace="a:b", id="c"),
        event(workspace="a%3Ab", id="c"),
        event(workspace="a", id="b:c", dataset="alerts"),
        event(workspace='a"', id="\\"),
        event(workspace="a", id="\ud800"),
        event(workspace="a", id="\udfff"),
        event(workspace="a", id="?"),
        event(workspace="\ud800", id="c"),
        event(workspace="\udfff", id="c"),
        *(event(workspace="a", id="x" * 600 + end) for end in "12"),
    ]

    names = [name_of(one) for one in identities]

    assert len(set(names)) == len(identities)
    assert [name_of(one) for one in identities] == names
    assert all(len(name.encode()) <= 512 for name in names)


@pytest.mark.parametrize("character", ["x", "é", "😀", '"'])
def test_an_id_is_hashed_from_513_bytes_on_and_not_before(character: str) -> None:
    size = len(character.encode())
    fits = "y" * ((512 - len("events:ws_1:")) % size) + character * ((512 - len("events:ws_1:")) // size)

    assert name_of(event(id=fits)) == f"events:ws_1:{fits}"
    hashed = hashlib.sha256(f"events:ws_1:{fits}y".encode()).hexdigest()
    assert name_of(event(id=fits + "y")) == f"sha256:{hashed}"


def test_an_event_above_the_limit_is_unsendable_and_its_size_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = intake(form="ecs")
    item = made.item(event(), b'{"a":"bc"}')
    monkeypatch.setattr(elastic, "MOST_EVENT_BYTES", len(item) - 1)

    with pytest.raises(UnsendableError, match=f"^{len(item)} bytes"):
        made.item(event(), b'{"a":"bc"}')
    assert made.item(event(), b'{"a":"b"}')


# The index.


def test_an_index_may_depend_on_the_event() -> None:
    made = intake(index="logs-{dataset}-{workspace}")

    assert read(made.item(event(), b"{}"))[0]["_index"] == "logs-events-ws_1"
    assert read(made.item(event(workspace="ws_2"), b"{}"))[0]["_index"] == "logs-events-ws_2"


@pytest.mark.parametrize(
    "workspace", ["WS_1", "a b", "a*", "<now/d>", "a,b", "../a", "a:b", "x" * 99 + "É", "a#"]
)
def test_a_workspace_that_makes_no_name_of_an_index_makes_its_events_unsendable(workspace: str) -> None:
    made = intake(index="logs-{workspace}")

    for _ in range(2):
        with pytest.raises(UnsendableError, match="no name of an index"):
            made.item(event(workspace=workspace), b"{}")
    assert made.item(event(), b"{}")


@pytest.mark.parametrize(
    "index",
    ["Logs", "-logs", "_logs", "+a", ".logs", "a/b", "a*", "é" * 128, "{workspace}", "a-{dataset}-B", "<a>"],
)
def test_an_index_that_elasticsearch_refuses_is_refused_when_it_is_configured(index: str) -> None:
    with pytest.raises(ConfigError, match=r"destinations\.siem\] index"):
        intake(index=index)


# Who sends, and to which path.


@pytest.mark.parametrize("key", ["id:api-key", base64.b64encode(b"id:api-key").decode()])
def test_an_api_key_is_taken_as_both_of_its_forms(key: str) -> None:
    standin = BulkStandIn(key=base64.b64encode(b"id:api-key").decode())

    assert delivered(standin, made=intake(key)) == Verdict()


def test_a_user_and_a_password_are_taken_as_well() -> None:
    standin = BulkStandIn(user="writer:p:w")

    assert delivered(standin, made=intake(None, "p:w", user="writer")) == Verdict()


def test_a_wrong_key_is_a_matter_of_settings_and_is_not_shown() -> None:
    made = intake("a-wrong-key")
    verdict = delivered(BulkStandIn(key="right"), made=made)

    assert list(verdict.again) == [0, 1, 2]
    assert verdict.trouble is not None
    assert (verdict.trouble.kind, verdict.trouble.answer) == ("settings", "401")
    assert "security_exception: unable to authenticate" in verdict.trouble.told
    assert "wrong-key" not in f"{verdict} {made!r}"


def test_compressed_unless_it_is_switched_off() -> None:
    standin = BulkStandIn()
    with connected(standin) as client:
        posted(client, intake(), [event(number) for number in range(100)])
        posted(client, intake(gzip=False), [event(number) for number in range(100)])

    packed, plain = standin.asked
    assert packed.body == plain.body
    assert packed.wire_bytes < plain.wire_bytes / 4
    assert plain.wire_bytes == len(plain.body)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://h", "/_bulk?filter_path="),
        ("http://h/elastic/", "/_bulk?filter_path="),
        ("http://h/_bulk", "?filter_path="),
        ("http://h/?pipeline=audit", "/_bulk"),
    ],
)
def test_the_urls_own_path_and_query_are_kept(url: str, path: str) -> None:
    sent = intake(url=url)._path

    assert sent.startswith(path)
    assert ("?" in sent) == ("?" in path)


# What each answer means.


def test_all_taken() -> None:
    standin = BulkStandIn()

    assert delivered(standin) == Verdict()
    assert standin.arrived == ["events:ws_1:e0", "events:ws_1:e1", "events:ws_1:e2"]


@pytest.mark.parametrize("fault", ["reset_after", "taken_but"])
def test_what_is_repeated_after_a_lost_answer_is_there_once(fault: Any) -> None:
    standin = BulkStandIn()
    standin.fault(Fault(fault, reply=Reply(503)))
    with connected(standin) as client:
        first = posted(client, intake(), [event(number) for number in range(3)])
        second = posted(client, intake(), [event(number) for number in range(4)])

    assert list(first.again) == [0, 1, 2]
    assert first.trouble is not None
    assert first.trouble.kind == "later"
    assert second == Verdict(already=3)
    assert [document["event"]["id"] for document in standin.documents()] == ["e0", "e1", "e2", "e3"]


def test_after_a_rollover_a_repeat_is_there_twice_as_the_documentation_says() -> None:
    standin = BulkStandIn()
    with connected(standin) as client:
        posted(client, intake(), [event()])
        standin.roll_over(INDEX)
        again = posted(client, intake(), [event()])

    assert again == Verdict()
    assert len(standin.documents()) == 2


def test_a_half_failed_request_tells_of_each_item_what_became_of_it() -> None:
    refusals = {
        "events:ws_1:e1": MAPPING,
        "events:ws_1:e2": BUSY,
        "events:ws_1:e4": ItemError(503, "unavailable_shards_exception", "primary shard is not active"),
        "events:ws_1:e5": ItemError(400, "strict_dynamic_mapping_exception", "x" * 5_000),
    }
    standin = BulkStandIn(refusals=refusals)
    with connected(standin) as client:
        posted(client, intake(), [event(3)])
        verdict = posted(client, intake(), [event(number) for number in range(7)])

    assert list(verdict.again) == [2, 4]
    assert verdict.already == 1
    assert verdict.trouble is not None
    assert verdict.trouble.kind == "later"
    assert str(verdict.trouble).startswith("429 es_rejected_execution_exception (rejected execution")
    assert set(verdict.refused) == {1, 5}
    assert verdict.refused[1] == (
        "400 document_parsing_exception: [1:9] failed to parse field [a] Preview: 'x '"
    )
    assert len(verdict.refused[5]) <= 400
    assert standin.arrived == [f"events:ws_1:e{number}" for number in (3, 0, 6)]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ItemError(404, "index_not_found_exception", "no such index [a]"), "settings"),
        (
            ItemError(403, "security_exception", "action [indices:data/write/bulk] is unauthorized"),
            "settings",
        ),
        (ItemError(400, "index_closed_exception", "closed"), "settings"),
        (ItemError(400, "illegal_argument_exception", "pipeline with id [p] does not exist"), "settings"),
        (ItemError(400, "illegal_argument_exception", "no write index is defined for alias [a]"), "settings"),
        (ItemError(400, "invalid_index_name_exception", "must be lowercase"), "settings"),
        (ItemError(403, "cluster_block_exception", "index [a] blocked by: read-only"), "later"),
        (ItemError(429, "cluster_block_exception", "disk usage exceeded flood-stage watermark"), "later"),
        (ItemError(409, "resource_already_exists_exception", "index [a] already exists"), "later"),
        (ItemError(500, "exception", "?"), "later"),
        (ItemError(400, "mapper_parsing_exception", "pipeline with id [p] is what the event says"), None),
        (ItemError(400, "illegal_argument_exception", "[x] holds: pipeline with id [p]"), None),
        (ItemError(400, "illegal_argument_exception", "Limit of total fields [1000] exceeded"), None),
        (ItemError(413, "too_large", "?"), None),
    ],
)
def test_what_an_items_error_means(error: ItemError, kind: str | None) -> None:
    verdict = delivered(BulkStandIn(refusals={"events:ws_1:e1": error}))

    assert set(verdict.refused) == (set() if kind else {1})
    assert list(verdict.again) == ([1] if kind else [])
    assert (verdict.trouble and verdict.trouble.kind) == kind


def test_what_caused_an_items_error_is_told_with_it() -> None:
    caused = {"type": "number_format_exception", "reason": 'For input string: "-"'}
    error = {"type": "document_parsing_exception", "reason": "failed to parse field [n]", "caused_by": caused}
    content = json.dumps({"items": [{"create": {"status": 400, "error": error}}]}).encode()

    verdict = delivered(BulkStandIn(), 1, Fault("reply", reply=Reply(200, content)))

    assert verdict.refused[0].endswith('failed to parse field [n] (For input string: "-")')


def test_what_somebody_must_mend_is_told_before_what_time_mends() -> None:
    missing = ItemError(404, "index_not_found_exception", "no such index")
    verdict = delivered(BulkStandIn(refusals={"events:ws_1:e0": BUSY, "events:ws_1:e1": missing}))

    assert list(verdict.again) == [0, 1]
    assert verdict.trouble is not None
    assert verdict.trouble.kind == "settings"
    assert "auto_create_index" in verdict.trouble.hint


def test_an_index_that_does_not_exist_refuses_nothing() -> None:
    verdict = delivered(BulkStandIn(creates=False))

    assert list(verdict.again) == [0, 1, 2]
    assert verdict.refused == {}


@pytest.mark.parametrize(
    "content",
    [
        b"<html>sign in</html>",
        b"",
        b"[]",
        b'{"errors":false}',
        b'{"items":[{"create":{"status":201}},{"create":{"status":201}}]}',
        b'{"items":[{"create":{"status":201}},{"create":{"status":201}},{"create":{}}]}',
        b'{"items":[{"create":{"status":201}},{"create":{"status":201}},{"create":{"status":true}}]}',
        b'{"items":[{"create":{"status":201}},{"create":{"status":201}},7]}',
        b'{"errors":false,"items":[{"create":{"status":201}},{"cre',
    ],
)
def test_an_answer_that_does_not_tell_of_each_item_is_none(content: bytes) -> None:
    verdict = delivered(BulkStandIn(), 3, Fault("taken_but", reply=Reply(200, content)))

    assert list(verdict.again) == [0, 1, 2]
    assert verdict.trouble is not None
    assert verdict.trouble.kind == "later"
    assert (verdict.refused, verdict.already) == ({}, 0)


def test_an_answer_that_ends_early_is_waited_for_and_not_asked_for_in_halves() -> None:
    verdict = delivered(BulkStandIn(), 3, Fault("cut", reply=Reply(200, b'{"errors":false,"items":[]}')))
    assert verdict.trouble is not None
    assert (verdict.trouble.kind, verdict.trouble.told) == ("later", "the answer ended early")


def test_an_answer_that_is_too_long_to_read_is_asked_for_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic, "_ANSWER_BYTES", 10)
    monkeypatch.setattr(elastic, "_ANSWER_BYTES_PER_ITEM", 10)

    for count, kind in ((3, "batch"), (1, "later")):
        verdict = delivered(BulkStandIn(), count)
        assert list(verdict.again) == list(range(count))
        assert verdict.trouble is not None
        assert verdict.trouble.kind == kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "batch"), (413, "batch"), (403, "settings"), (404, "settings"), (429, "later"), (502, "later")],
)
def test_what_an_answer_to_the_whole_request_means(status: int, kind: str) -> None:
    reply = Reply(status, b'{"error":{"type":"some_exception","reason":"why\\nso"}}', {"Retry-After": "7"})
    verdict = delivered(BulkStandIn(), 3, Fault("reply", reply=reply))

    assert list(verdict.again) == [0, 1, 2]
    assert verdict.trouble is not None
    assert (verdict.trouble.kind, verdict.trouble.told) == (kind, "some_exception: why so")
    assert verdict.trouble.retry_after == 7.0


def test_a_request_above_the_clusters_limit_is_divided() -> None:
    verdict = delivered(BulkStandIn(most_bytes=10))

    assert verdict.trouble is not None
    assert verdict.trouble.kind == "batch"
    assert "batch_bytes" in verdict.trouble.hint
