"""The benchmark of forwarding, at a size that takes seconds: it must run, and find a wrong count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archiver.generate import generate
from tests.bench import bench_forward, taker
from tests.bench.many_files import Plan

EVENTS = 300


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    generate(events=EVENTS, out=folder / f"{EVENTS}-segments-0")
    return folder


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process: a process for each would take seconds."""
    monkeypatch.setenv(bench_forward._TOKEN_VARIABLE, "0" * 32)
    monkeypatch.setattr(bench_forward, "_in_a_process", bench_forward.step)


def test_each_kind_and_form_is_measured_beside_the_peer(cache: Path) -> None:
    source, work = cache / f"{EVENTS}-segments-0", cache / "run"
    valid = EVENTS - json.loads((source / ".manifest.json").read_text())["invalid"]

    found = {kind: bench_forward.live(source, work, kind) for kind in bench_forward.KINDS}
    packed = bench_forward.live(source, work, "splunk", body="ocsf", gzip=True)
    peer = bench_forward.peer(source)
    line = bench_forward.row("splunk", [found["splunk"]], peer.per_core, bar=10**9)

    assert {sent.events for sent in [*found.values(), packed]} == {valid}
    assert peer.events == EVENTS
    assert packed.wire_bytes < found["splunk"].wire_bytes
    assert line.count("|") == 8
    assert "**" in line


def test_the_vendors_own_form_is_measured_by_itself(cache: Path) -> None:
    source = bench_forward.webhooks(cache, cache / f"{EVENTS}-segments-0")
    wanted = json.loads((source / ".manifest.json").read_text())["deliveries"]
    assert EVENTS / 2 < wanted < EVENTS
    assert bench_forward.live(source, cache / "run", "http").events == wanted


def test_a_wrong_count_ends_the_benchmark(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(name: str, configuration: Path) -> dict[str, Any]:
        return bench_forward.step(name, configuration) | {"taken": 1}

    monkeypatch.setattr(bench_forward, "_in_a_process", lost)

    with pytest.raises(SystemExit, match="the counts are wrong"):
        bench_forward.live(cache / f"{EVENTS}-segments-0", cache / "run", "http")


def test_a_replay_is_measured(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_forward.replays(cache, cache / "run", 200)

    *_, line = capsys.readouterr().out.strip().splitlines()
    assert line.startswith(f"| {Plan(200, 2).events:,} in 2 files |")


def test_the_tenths_are_those_of_the_events() -> None:
    even = [(count, count / 50.0) for count in range(0, 1_001, 30)] + [(1_000, 20.0)]
    slower = [(500, 10.0), (1_000, 30.0)]

    assert bench_forward.tenths(even, 1_000) == pytest.approx((50, 50))
    assert bench_forward.tenths(slower, 1_000) == pytest.approx((50, 25))


def test_the_stand_in_counts_what_each_kind_sends() -> None:
    bodies = {
        "splunk": b'{"event":1}\n{"event":2}\n',
        "elastic": b'{"create":{}}\n{}\n{"create":{}}\n{}\n',
        "datadog": b'[{"ddsource":"a"},{"ddsource":"b"}]',
        "logstash": b'[{},"\\ud800"]',
        "http": b"{}\n{}\n",
    }

    assert {kind: taker.KINDS[kind][0](body) for kind, body in bodies.items()} == dict.fromkeys(bodies, 2)
    assert len(json.loads(taker.KINDS["elastic"][2](2))["items"]) == 2
