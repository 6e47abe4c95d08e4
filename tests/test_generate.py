"""Generated deliveries: repeatable, as described, and judged as they say they are."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from archiver.block import REASONS
from archiver.cli.generate import generate_command
from archiver.errors import ConfigError
from archiver.generate import Delivery, deliveries, expected, generate, generate_bodies
from archiver.segment import BadStretch, read_frames
from archiver.synthetic.invalid import FAULTS
from archiver.synthetic.scenes import SLOTS, compile_text

EVERYTHING = {"invalid": 0.05, "duplicates": 0.05, "conflicts": 0.03, "supplements": 0.03, "alerts": 0.04}

# What every event has, as the vendor describes it; kept apart from the schemas under test.
TEXT = {"type": "string"}
MAYBE = {"type": ["string", "null"]}
EVENT = {
    "type": "object",
    "required": ["event_type", "data", "workspace_id", "timestamp"],
    "properties": {
        "event_type": {"const": "event.created"},
        "workspace_id": {"type": "string", "maxLength": 200},
        "timestamp": {"type": "string", "format": "date-time"},
        "data": {
            "type": "object",
            "required": ["id", "action"],
            "anyOf": [
                {"required": ["actor_id"]},
                {"properties": {"actor": {"required": ["id"]}}, "required": ["actor"]},
            ],
            "properties": {
                "id": TEXT,
                "actor_id": TEXT,
                "actor": {"properties": {"id": TEXT, "name": MAYBE}},
                "actor_name": MAYBE,
                "action": TEXT,
                "version": {"type": ["integer", "null"]},
                "metadata": {"type": ["object", "null"]},
                "targets": {"type": ["array", "null"], "items": {"type": "object", "required": ["type"]}},
                "ip_country": MAYBE,
                "occurred_at": {"type": "string", "format": "date-time"},
            },
        },
    },
}
CHECKER = jsonschema.Draft202012Validator(
    EVENT, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def sample(events: int = 6_000, **options: object) -> list[Delivery]:
    return list(deliveries(events=events, **(EVERYTHING | options)))  # type: ignore[arg-type]


def tree(delivery: Delivery) -> dict[str, object]:
    parsed = json.loads(delivery.body)
    assert isinstance(parsed, dict)
    return parsed


def unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("duplicate member")
    return dict(pairs)


def not_a_number(text: str) -> object:
    raise ValueError(text)


def nesting(body: bytes) -> int:
    deepest = depth = 0
    for char in body:
        depth += (char in b"[{") - (char in b"]}")
        deepest = max(deepest, depth)
    return deepest


def is_good(body: bytes) -> bool:
    """Judge slowly and independently: strict JSON, members once, the schema, storable identity."""
    try:
        parsed = json.loads(body.decode(), object_pairs_hook=unique_members, parse_constant=not_a_number)
        if nesting(body) > 128 or not CHECKER.is_valid(parsed):
            return False
        parsed["data"]["id"].encode()
        datetime.fromisoformat(parsed["timestamp"])
    except ValueError:
        return False
    return True


def test_the_same_seed_gives_the_same_deliveries_and_another_seed_others() -> None:
    assert sample(3_000, seed=4) == sample(3_000, seed=4)
    assert not {d.body for d in sample(3_000, seed=4)} & {
        d.body for d in sample(3_000, seed=5) if d.kind == "event"
    }


def test_bodies_are_those_of_the_deliveries() -> None:
    assert list(generate_bodies(events=500, seed=2)) == [d[:3] for d in deliveries(events=500, seed=2)]


@pytest.mark.parametrize("count", [0, 1, 7, 2_500])
def test_there_are_as_many_deliveries_as_asked_for(count: int) -> None:
    assert len(sample(count)) == count


def test_every_valid_event_satisfies_the_vendors_description() -> None:
    for delivery in sample():
        if delivery.kind not in ("alert", "invalid"):
            assert is_good(delivery.body), delivery


def test_every_invalid_delivery_is_rejected_and_all_faults_occur() -> None:
    spoiled = [d for d in sample(invalid=0.1) if d.kind == "invalid"]
    assert [d.fault for d in spoiled if is_good(d.body)] == []
    assert {d.fault for d in spoiled} == set(FAULTS)
    assert {reason for reason, _ in FAULTS.values()} <= set(REASONS)


def test_alerts_are_of_the_five_rules_and_have_their_members() -> None:
    alerts = [tree(d) for d in sample() if d.kind == "alert"]
    assert {a["rule_type"] for a in alerts} == {
        "new_country",
        "high_volume_destructive",
        "ingestion_spike",
        "repeated_action",
        "off_hours",
    }
    for alert in alerts:
        assert alert["event_type"] == "alert.triggered"
        assert {"alert_id", "rule_name", "reason", "event", "workspace_id", "triggered_at"} <= set(alert)


def test_an_identity_is_new_once_and_repeats_come_after_it() -> None:
    seen: dict[tuple[str | None, ...], Delivery] = {}
    repeated: Counter[str] = Counter()
    for delivery in sample():
        identity = (delivery.dataset, delivery.workspace_id, delivery.id)
        if delivery.kind in ("event", "alert"):
            assert identity not in seen
            seen[identity] = delivery
        elif delivery.kind != "invalid":
            assert identity in seen
            repeated[delivery.kind] += 1
    assert set(repeated) == {"duplicate", "conflict", "supplement"}


def test_repeats_differ_from_their_original_as_their_kind_says() -> None:
    originals: dict[str | None, dict[str, object]] = {}
    last_word: set[str | None] = set()
    ways: Counter[bool] = Counter()
    for delivery in sample():
        if delivery.kind in ("alert", "invalid"):
            continue
        found = tree(delivery)
        if delivery.kind == "event":
            originals[delivery.id] = found
            continue
        original = originals[delivery.id]
        assert delivery.id not in last_word  # after a supplement or a conflict nothing more comes
        one, other = original["data"], found["data"]
        assert isinstance(one, dict)
        assert isinstance(other, dict)
        if delivery.kind == "duplicate":
            assert one == other
            ways[found["timestamp"] == original["timestamp"]] += 1
        elif delivery.kind == "supplement":
            assert {name: other[name] for name in one} == one
            assert set(other) - set(one) == {"event_hash"}
        else:
            assert {name for name in one if one[name] != other[name]} == {"action"}
        if delivery.kind != "duplicate":
            last_word.add(delivery.id)
    assert len(ways) == 2  # as they were, and sent anew


def test_some_duplicates_come_on_another_day_and_none_beyond_the_identity_window() -> None:
    first: dict[str | None, datetime] = {}
    gaps = []
    for delivery in deliveries(events=20_000, days=90, duplicates=0.05):
        if delivery.kind == "event":
            first[delivery.id] = datetime.fromisoformat(str(tree(delivery)["timestamp"]))
        elif delivery.kind == "duplicate":
            at = datetime.fromtimestamp(delivery.received_at / 1e6, UTC)
            gaps.append((at - first[delivery.id]).total_seconds() / 86_400)
    assert 1 < max(gaps) < 26


def test_every_row_lies_within_the_days() -> None:
    found = [tree(d) for d in sample(days=3, until=date(2026, 2, 2)) if d.kind != "invalid"]
    days = {str(parsed.get("timestamp", parsed.get("triggered_at")))[:10] for parsed in found}
    assert days == {"2026-01-31", "2026-02-01", "2026-02-02"}


def test_deliveries_are_received_in_order_and_soon_after_they_were_sent() -> None:
    found = list(deliveries(events=60_000, days=1))
    assert all(one.received_at <= other.received_at for one, other in pairwise(found))
    for delivery in found:
        if delivery.kind == "event":
            sent = datetime.fromisoformat(str(tree(delivery)["timestamp"])).timestamp()
            assert 0 < delivery.received_at / 1e6 - sent < 2


def test_every_workspace_has_events_and_a_few_have_most() -> None:
    counts = Counter(d.workspace_id for d in deliveries(events=20_000) if d.kind == "event")
    assert len(counts) == 60
    assert sum(count for _, count in counts.most_common(6)) > 20_000 * 0.35


def test_bodies_are_as_different_as_those_of_many_senders() -> None:
    found = [d for d in sample(20_000) if d.kind == "event"]
    assert 470 < sum(len(d.body) for d in found) / len(found) < 560
    assert any(b'": "' in d.body and b"\n" not in d.body for d in found)  # default spacing
    assert any(b"\n" in d.body for d in found)
    assert any(b"\\ud83c" in d.body for d in found)  # an escaped surrogate
    assert any("🏔".encode() in d.body for d in found)
    assert any("ق".encode() in d.body for d in found)  # right to left
    trees = [tree(d) for d in found]
    members: dict[str, int] = defaultdict(int)
    for parsed in trees:
        data = parsed["data"]
        assert isinstance(data, dict)
        for name in data:
            members[name] += 1
    assert {"actor", "actor_id", "targets", "metadata", "device", "session_id", "occurred_at"} <= set(members)


def test_one_account_fails_to_log_in_succeeds_from_a_new_country_and_destroys() -> None:
    by_actor: dict[str, list[dict[str, object]]] = defaultdict(list)
    for delivery in deliveries(events=5_000):
        if delivery.kind == "event":
            data = tree(delivery)["data"]
            assert isinstance(data, dict)
            if data.get("ip_address") == "203.0.113.77" and data.get("user_agent") == "curl/8.6.0":
                by_actor[data["actor_id"]].append(data)
    told = max(by_actor.values(), key=len)
    actions = [str(step["action"]) for step in told]
    assert actions[:26] == ["auth.login_failed"] * 26
    assert actions[26:30] == ["auth.login", "role.granted", "api_key.created", "log_stream.updated"]
    assert Counter(actions[30:]) == {"document.exported": 38, "document.deleted": 57}
    assert len({step["ip_country"] for step in told}) == 1


def test_expected_adds_up_to_the_deliveries() -> None:
    found = sample()
    truth = expected(found)
    rows = len(truth.archived) + len(truth.supplemented)
    assert rows + truth.duplicates + truth.quarantined.total() == len(found)
    assert truth.quarantined["conflict"] == sum(d.kind == "conflict" for d in found)


def test_segments_hold_the_deliveries_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.generate.SEGMENT_BYTES", 300_000)
    done = generate(events=3_000, out=tmp_path / "spool", seed=9)
    read = []
    for path in done.files:
        with path.open("rb") as file:
            for frame in read_frames(file):
                assert not isinstance(frame, BadStretch)
                read.append((frame.body, frame.received_at, frame.stream))
    assert len(done.files) > 3
    assert sorted(done.files) == done.files
    assert read == list(generate_bodies(events=3_000, seed=9))


def test_lines_hold_one_delivery_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.generate.JSONL_BYTES", 300_000)
    done = generate(events=3_000, out=tmp_path, as_="jsonl", invalid=0.1)
    lines = [line for path in done.files for line in path.read_bytes().split(b"\n")[:-1]]
    assert lines == [body for body, _, _ in generate_bodies(events=3_000, invalid=0.1, newlines=False)]
    assert all(line.strip() for line in lines)
    assert [p.name for p in done.files[:2]] == ["seed-0-00000.jsonl", "seed-0-00001.jsonl"]


def test_the_manifest_tells_the_counts_and_they_add_up(tmp_path: Path) -> None:
    done = generate(events=4_000, out=tmp_path, **EVERYTHING)  # type: ignore[arg-type]
    told = json.loads((tmp_path / ".manifest.json").read_bytes())
    assert told == done.as_json()
    kinds = Counter(d.kind for d in sample(4_000))
    assert (done.events, done.alerts, done.duplicates) == (kinds["event"], kinds["alert"], kinds["duplicate"])
    parts = (done.events, done.alerts, done.duplicates, done.supplements, done.conflicts, done.invalid)
    assert sum(parts) == done.deliveries == 4_000
    assert sum(done.invalid_by_fault.values()) == done.invalid
    assert {p.name for p in tmp_path.iterdir()} == {".manifest.json", *(p.name for p in done.files)}


def test_lines_that_are_there_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "seed-0-00000.jsonl").write_bytes(b"mine\n")
    with pytest.raises(ConfigError, match="is there already"):
        generate(events=10, out=tmp_path, as_="jsonl")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("seed-0-00000.jsonl", b"mine\n")]


@pytest.mark.parametrize(
    "options",
    [{"workspaces": 0}, {"days": 0}, {"invalid": -0.1}, {"invalid": 0.6, "alerts": 0.6}, {"events": -1}],
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, float]
) -> None:
    with pytest.raises(ConfigError):
        generate(**({"events": 10} | options), out=tmp_path / "spool")  # type: ignore[arg-type]
    assert not (tmp_path / "spool").exists()


def test_slots_out_of_order_are_refused() -> None:
    assert compile_text('{"id":"@@id@@","p":"100 %","at":"@@last.19@@Z"}') == (
        b'{"id":"%s","p":"100 %%","at":"' + b"%.0s" * (len(SLOTS) - 2) + b'%.19sZ"}'
    )
    with pytest.raises(ValueError, match="before an earlier one"):
        compile_text('{"at":"@@last@@","id":"@@id@@"}')


def test_the_command_prints_one_document_or_a_summary_that_adds_up(tmp_path: Path) -> None:
    run = CliRunner().invoke(
        generate_command, ["--events", "300", "--out", str(tmp_path), "--json"], catch_exceptions=False
    )
    document = json.loads(run.stdout)
    assert (document["message_type"], document["deliveries"]) == ("generated", 300)
    run = CliRunner().invoke(
        generate_command,
        ["--out", str(tmp_path)],
        env={"ARCHIVER_GENERATE_EVENTS": "1000", "ARCHIVER_GENERATE_AS": "jsonl"},
        catch_exceptions=False,
    )
    counts = [
        int(line.split()[2 if line[0] in "=+" else 1].replace(",", "")) for line in run.stdout.splitlines()
    ]
    assert counts[0] == 1000 == sum(counts[1:])
    assert run.stderr == ""
