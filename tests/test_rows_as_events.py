"""Rows of a database through the archive: valid by rules of their own, one event with their deliveries."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import archiver
from archiver import quarantine
from archiver.archive import Archive
from archiver.block import Rejection
from archiver.compact import compact
from archiver.compare import canonical_tree, compare
from archiver.event import ROW_EVENT, form_of
from archiver.explain import explain
from archiver.export import export
from archiver.ledger.entry import ListedObject, digest_of
from archiver.pipeline import RunReport
from archiver.requeue import entries, requeue
from archiver.validate import Rules, Validator
from archiver.verify import content, verify
from tests.golden import independent_reader as reader
from tests.properties.event_bodies import block_of
from tests.support import archive_bodies, archive_rows, event, new_archive, row, rows_of
from tests.verifying import Chained, check, found

FORMATS = ("parquet", "jsonl.zst")
CREATED = "2026-03-26T10:14:59.000000Z"
NESTED = json.dumps(
    {
        "event_type": "event.created",
        "data": {"id": "a", "actor": {"id": "user_1", "name": "N"}, "action": "document.created"},
        "workspace_id": "ws_1",
        "timestamp": "2026-03-26T10:15:00Z",
    }
).encode()


@pytest.fixture(params=FORMATS)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    return new_archive(tmp_path / "a", format=request.param)


def columns_of(body: bytes) -> dict[str, Any]:
    validated = Validator(Rules("db")).validate(block_of([body], shape="row"))
    assert validated.rejections == []
    told: list[dict[str, Any]] = validated.tables["events"].to_pylist()
    return told[0]


def refused(body: bytes, rules: Rules | None = None) -> Rejection:
    (rejection,) = Validator(rules or Rules("db")).validate(block_of([body], shape="row")).rejections
    assert (rejection.body, rejection.shape) == (body, "row")
    return rejection


# --- the form -------------------------------------------------------------------------------------


def test_a_row_has_the_flat_columns_and_no_envelope() -> None:
    body = row("r1", version=3, timestamp="yesterday", metadata={"a": 1.50}, cost=1.5, data={"id": "x"})
    told = columns_of(body)
    assert (told["shape"], told["id"], told["workspace_id"], told["version"]) == ("row", "r1", "ws_1", 3)
    assert (told["event_type"], told["timestamp"]) == (None, None)
    assert told["metadata"] == '{"a":1.5}'
    assert json.loads(told["extra"]) == {"timestamp": "yesterday", "cost": 1.5, "data": {"id": "x"}}
    assert told["body"].encode() == body


@pytest.mark.parametrize(
    ("members", "placed"),
    [
        ({"occurred_at": "2026-01-01T00:00:00.000000Z"}, CREATED),
        ({"created_at": None, "occurred_at": "2026-01-01T00:00:00.000000Z"}, "2026-01-01T00:00:00.000000Z"),
        ({"created_at": None, "occurred_at": "2026-01-01t00:00:00z"}, "2026-01-01T00:00:00.000000Z"),
    ],
)
def test_a_row_is_placed_by_its_creation_else_by_its_occurrence(members: dict[str, Any], placed: str) -> None:
    assert columns_of(row("r", **members))["event_time"].strftime("%Y-%m-%dT%H:%M:%S.%fZ") == placed


@pytest.mark.parametrize(
    ("members", "reason", "detail"),
    [
        ({"created_at": None}, "invalid", "created_at: expected string, found null"),
        ({"created_at": "infinity"}, "invalid", 'created_at: expected a date-time, found "infinity"'),
        ({"created_at": "0000-01-01T00:00:00Z"}, "time_out_of_range", 'created_at: expected a date-time, found "0000-01-01T00:00:00Z"'),  # noqa: E501
        ({"created_at": "0001-01-01T00:00:00+01:00"}, "time_out_of_range", "created_at: outside the years 1 to 9999 UTC"),  # noqa: E501
        ({"event_type": None}, "invalid", "event_type: nothing is allowed here, found null"),
        ({"event_type": "event.created"}, "invalid", 'event_type: nothing is allowed here, found "event.created"'),  # noqa: E501
        ({"event_type": "alert.triggered"}, "invalid", 'event_type: nothing is allowed here, found "alert.triggered"'),  # noqa: E501
        ({"metadata": "{}"}, "invalid", 'metadata: expected object or null, found "{}"'),
        ({"id": ""}, "invalid", 'id: minLength 1 does not hold for ""'),
        ({"actor_id": 7}, "invalid", "actor_id: expected string, found 7"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_row_is_told_with_its_identity(
    members: dict[str, Any], reason: str, detail: str
) -> None:
    rejection = refused(row("r", **members))
    assert (rejection.reason, rejection.detail) == (reason, detail)
    told = members.get("id", "r")
    assert (rejection.dataset, rejection.workspace_id, rejection.event_id) == ("events", "ws_1", told)


def test_a_row_without_a_time_is_refused_and_both_names_are_told() -> None:
    body = row("r").replace(b"created_at", b"made_at")
    assert refused(body).detail == "event: required, but missing: created_at or occurred_at"


def test_only_the_source_says_that_something_is_a_row() -> None:
    (delivered,) = Validator(Rules("s")).validate(block_of([row("r")])).rejections
    assert (delivered.reason, delivered.detail) == ("invalid", "event_type: expected a string, found none")
    assert (delivered.shape, delivered.dataset) == ("delivery", None)
    assert refused(event("e")).reason == "invalid"
    assert form_of({"id": "r"}) is None
    assert form_of({"id": "r"}, "row") is form_of({"id": "r"}, "archived") is ROW_EVENT
    assert form_of({"event_type": None}, "archived") is None


def test_what_is_read_back_is_a_row_if_it_tells_no_type() -> None:
    block = replace(block_of([row("r"), event("e"), NESTED, row("s", x=1)]), shape="archived")
    validated = Validator(Rules("s")).validate(block)
    assert validated.rejections == []
    shapes = {told["id"]: told["shape"] for told in validated.tables["events"].to_pylist()}
    assert shapes == {"r": "row", "e": "webhook", "a": "nested", "s": "row"}


def test_a_users_schema_of_events_is_for_whole_rows_too() -> None:
    rules = Rules("db", {"events": '{"required":["session_id"]}'})
    assert refused(row("r"), rules).detail == "event: required, but missing: session_id"
    validated = Validator(rules).validate(block_of([row("r", session_id="s")], shape="row"))
    assert validated.rejections == []


# --- compared with deliveries ---------------------------------------------------------------------


def trees(*bodies: tuple[bytes, str]) -> list[dict[str, Any]]:
    return [canonical_tree(body, shape) for body, shape in bodies]


@pytest.mark.parametrize(
    ("known", "new", "verdict"),
    [
        ((event("a"), "webhook"), (row("a"), "row"), "supplement"),
        ((event("a", created_at=CREATED), "webhook"), (row("a"), "row"), "duplicate"),
        ((event("a"), "webhook"), (row("a", action="other"), "row"), "conflict"),
        ((event("a"), "webhook"), (row("a", created_at=None), "row"), "duplicate"),
        ((row("a"), "row"), (event("a"), "webhook"), "duplicate"),
        ((row("a"), "row"), (event("a", ip_city="Ulm"), "webhook"), "supplement"),
        ((row("a"), "row"), (event("a", created_at="2026-03-26T11:14:59+01:00"), "webhook"), "duplicate"),
        ((row("a"), "row"), (event("a", created_at="2026-03-26T10:14:59.1Z"), "webhook"), "conflict"),
        ((NESTED, "nested"), (row("a", actor_name="N"), "row"), "supplement"),
        ((row("a", actor_name="N"), "row"), (NESTED, "nested"), "duplicate"),
        ((row("a", actor_name="M"), "row"), (NESTED, "nested"), "conflict"),
        ((row("a", cost=1), "row"), (event("a", cost=1.0), "webhook"), "duplicate"),
    ],
)
def test_a_row_and_a_delivery_are_one_event(
    known: tuple[bytes, str], new: tuple[bytes, str], verdict: str
) -> None:
    assert compare(*trees(known, new)) == verdict


def finely(digits: str) -> tuple[bytes, str]:
    return event("a", created_at=f"2026-03-26T10:14:59.{digits}Z"), "webhook"


@pytest.mark.parametrize(
    ("digits", "verdicts"),
    [
        ("000000789", ("duplicate", "supplement")),
        ("0000004999", ("duplicate", "supplement")),
        ("000001", ("conflict", "conflict")),
        ("000001789", ("conflict", "conflict")),
        ("9999995", ("conflict", "conflict")),  # of the second that follows
    ],
)
def test_digits_that_a_database_cannot_keep_contradict_no_row(digits: str, verdicts: tuple[str, str]) -> None:
    delivered, kept = trees(finely(digits), (row("a"), "row"))
    assert (compare(delivered, kept), compare(kept, delivered)) == verdicts
    cut, half = trees(finely("1234567"), finely("1234565"))
    for value, same in (("123456", (cut, half)), ("123457", (cut, half)), ("123458", ()), ("123455", ())):
        (told,) = trees((row("a", created_at=f"2026-03-26T10:14:59.{value}Z"), "row"))
        assert [one for one in (cut, half) if compare(one, told) == "duplicate"] == list(same)
    (exact,) = trees((row("a", created_at="2026-03-26T10:14:59.1234567Z"), "row"))
    assert compare(half, exact) == "conflict"


def test_the_finer_digits_of_a_delivery_are_kept_as_a_supplement_of_the_row(archive: Archive) -> None:
    archive_rows(archive, row("a"))
    assert done(archive_bodies(archive, finely("000000789")[0])) == (0, 1, 0, 0)
    assert done(archive_bodies(archive, finely("000000789")[0], finely("000000788")[0])) == (0, 0, 1, 1)
    assert done(archive_rows(archive, row("a"))) == (0, 0, 1, 0)
    assert verify(archive.store).damages == []


@pytest.mark.parametrize("name", ["event_type", "timestamp", "(data)", "(envelope)"])
def test_a_column_of_a_row_meets_no_member_of_an_envelope(name: str) -> None:
    (tree,) = trees((row("a", **{name: "x"}), "row"))
    assert tree["(data)"] == {name: "x"}
    assert tree["event_type"] == "event.created"
    assert "timestamp" not in tree
    delivered = event("a", created_at=CREATED, **{name: "x"})
    assert compare(tree, canonical_tree(delivered, "webhook")) == "duplicate"


def done(report: RunReport) -> tuple[int, int, int, int]:
    counts = report.counts
    return counts.archived, counts.supplements, counts.duplicates, counts.quarantined


def test_what_a_row_knows_more_than_its_delivery_becomes_a_supplement(archive: Archive) -> None:
    assert done(archive_bodies(archive, event("a"), event("b", created_at=CREATED), event("c"))) == (
        3,
        0,
        0,
        0,
    )
    told = archive_rows(archive, row("a"), row("b"), row("c", action="other"))
    assert done(told) == (0, 1, 1, 1)
    assert told.reasons == {"conflict": 1}
    (supplement,) = rows_of(archive, "supplements")
    assert (supplement["id"], supplement["shape"], supplement["dataset"]) == ("a", "row", "events")
    assert done(archive_rows(archive, row("a"), row("b"))) == (0, 0, 2, 0)
    (conflict,) = entries(archive)
    assert (conflict.rejection.shape, conflict.rejection.event_id) == ("row", "c")
    assert verify(archive.store).damages == []


def test_a_delivery_of_an_archived_row_adds_nothing(archive: Archive) -> None:
    assert done(archive_rows(archive, row("a", actor_name="N"), row("b"))) == (2, 0, 0, 0)
    assert done(archive_bodies(archive, NESTED, event("b"))) == (0, 0, 2, 0)
    assert verify(archive.store).damages == []


# --- quarantine -----------------------------------------------------------------------------------


def rejected(body: bytes, **told: Any) -> Rejection:
    return Rejection(0, "invalid", "d", body, 0, 0, 1_774_520_100_000_000, None, "events", "w", "r", **told)


def test_a_quarantine_file_says_row_of_rows_alone_and_an_older_one_is_of_deliveries() -> None:
    newer = quarantine.encode([rejected(b"{}", shape="row")], ["in"], "db")
    assert json.loads(gzip.decompress(newer))["shape"] == "row"
    listed = ListedObject("_quarantine/x", digest_of(newer), len(newer), 1)
    (entry,) = quarantine.decode(newer, listed, 1)
    assert entry.rejection == rejected(b"{}", shape="row")
    older = quarantine.encode([rejected(b"{}")], ["in"], "db")
    assert b"shape" not in gzip.decompress(older)
    (entry,) = quarantine.decode(older, listed, 1)
    assert entry.rejection.shape == "delivery"


def test_a_quarantined_row_is_judged_as_a_row_again(archive: Archive) -> None:
    strict = Rules("db", {"events": '{"required":["session_id"]}'})
    mixed = archive_rows(archive, row("a"), row("b", session_id="s"), row("c", actor_id=7), rules=strict)
    assert (done(mixed), mixed.reasons) == ((1, 0, 0, 2), {"invalid": 2})
    archive_bodies(archive, row("d"), event("e"))
    report = requeue(archive, lambda source: Rules(source=source), lambda entry: True)
    assert (report.counts.archived, report.stayed) == (1, {"invalid": 2})
    stayed = {entry.rejection.event_id: entry.rejection.shape for entry in entries(archive)}
    assert stayed == {"c": "row", None: "delivery"}  # what came as a delivery is not taken for a row
    assert {told["id"]: told["shape"] for told in rows_of(archive)} == {
        "a": "row",
        "b": "row",
        "e": "webhook",
    }
    assert verify(archive.store).damages == []


def test_rows_and_deliveries_of_one_source_are_requeued_each_as_what_it_was(archive: Archive) -> None:
    strict = Rules("db", {"events": '{"required":["session_id"]}'})
    archive_rows(archive, row("a"), row("b"), rules=strict)
    archive_rows(archive, row("x", actor_id=1), rules=strict)
    report = requeue(archive, lambda source: Rules(source=source), lambda entry: True, dry_run=True)
    assert (report.counts.archived, report.stayed) == (2, {"invalid": 1})


# --- read back ------------------------------------------------------------------------------------


def filled(archive: Archive) -> list[bytes]:
    """Archive rows among deliveries in four commits; return the bodies of `events`, sorted."""
    rows = [row("r0", cost=1), row("r1", created_at=None, occurred_at="2026-03-26T09:00:00.5Z")]
    events = [event("e0"), NESTED]
    archive_rows(archive, rows[0])
    archive_bodies(archive, events[0])
    archive_rows(archive, rows[1])
    archive_bodies(archive, events[1])
    archive_rows(archive, row("e0", ip_city="Ulm"))
    return sorted([*rows, *events])


def test_rows_are_read_back_verified_compacted_exported_and_explained(archive: Archive) -> None:
    bodies = filled(archive)
    before = {told["id"]: told for told in rows_of(archive)}
    assert compact(archive).commits
    assert verify(archive.store).damages == []
    after = {told["id"]: told for told in rows_of(archive)}
    for event_id, told in before.items():
        for name in ("shape", "event_type", "event_time", "extra", "body", "workspace_id"):
            assert after[event_id][name] == told[name], (event_id, name)
    assert {name: told["shape"] for name, told in after.items()} == {
        "r0": "row", "r1": "row", "e0": "webhook", "a": "nested",
    }  # fmt: skip
    assert sorted(line[:-1] for line in export(archive)) == bodies
    (place,) = explain(archive, "r1")
    assert (place.what, place.dataset, place.event_time) == (
        "archived",
        "events",
        "2026-03-26T09:00:00.500000Z",
    )
    folder = Path(archive.store.location)
    independent = list(reader.rows(folder, reader.follow(folder)))
    assert sorted(told.body for told in independent) == bodies
    assert {told.id for told in independent} == set(before)


def test_a_query_sees_rows_beside_deliveries_and_what_they_add(archive: Archive) -> None:
    filled(archive)
    opened = archiver.open(archive.store.location)
    asked = "SELECT id, shape, event_type, timestamp IS NULL AS bare, ip_city FROM events ORDER BY id"
    assert opened.sql(asked).arrow().to_pylist() == [
        {"id": "a", "shape": "nested", "event_type": "event.created", "bare": False, "ip_city": None},
        {"id": "e0", "shape": "webhook", "event_type": "event.created", "bare": False, "ip_city": "Ulm"},
        {"id": "r0", "shape": "row", "event_type": None, "bare": True, "ip_city": None},
        {"id": "r1", "shape": "row", "event_type": None, "bare": True, "ip_city": None},
    ]


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("id", "other", "the workspace and id of its body"),
        ("shape", "webhook", "the workspace and id of its body"),
        ("action", "other", "column action to be what the body says"),
        ("event_type", "event.created", "column event_type to be what the body says"),
    ],
)
def test_a_column_of_a_row_that_does_not_follow_from_its_body_is_found(
    name: str, value: str, what: str, tmp_path: Path
) -> None:
    archive_rows(new_archive(tmp_path / "a"), row("r0"), row("r1"))
    ledger = Chained(tmp_path / "a")
    assert check(tmp_path / "a").damages == []
    file = ledger.file()
    table = ledger.rows(file)
    told = table.to_pylist()
    told[1][name] = value
    ledger.replace_file(file, type(table).from_pylist(told, schema=table.schema))
    report = check(tmp_path / "a")
    assert found(report) == {("altered", file.key)}
    assert any(what in damage.expected for damage in report.damages)


def test_a_delivery_tells_no_identity_of_a_row() -> None:
    body = json.dumps(json.loads(event("e0")) | {"id": "e0"})
    assert content._identity_in(body, "events", "row") == (None, None)
    assert content._identity_in(body, "events", "webhook") == ("ws_1", "e0")
    assert content._identity_in(row("e0").decode(), "events", "row") == ("ws_1", "e0")
    assert content._identity_in(row("e0").decode(), "events", "webhook") == (None, None)


def test_a_body_of_a_delivery_that_is_called_a_row_is_found(tmp_path: Path) -> None:
    archive_bodies(new_archive(tmp_path / "a"), event("e0"))
    ledger = Chained(tmp_path / "a")
    table = ledger.rows(ledger.file())
    told = table.to_pylist()
    told[0]["shape"] = "row"
    ledger.replace_file(ledger.file(), type(table).from_pylist(told, schema=table.schema))
    assert found(check(tmp_path / "a")) == {("altered", ledger.file().key)}
