"""What a receiver tells of itself, read over HTTP from a real one by Prometheus' own parser."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from archiver import clock
from archiver.activity import Activity, record
from archiver.receiver.app import Receiver
from archiver.receiver.gauges import Gauges
from archiver.receiver.guard import Guard, Limits
from archiver.receiver.lookout import Lookout
from archiver.receiver.metrics import Metrics
from archiver.receiver.writer import SpoolWriter
from archiver.signature import HEADER
from archiver.sources.waiting import count_waiting
from tests.services.receiving import SIGNER, ReceiverProcess

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
Labels = dict[str, str]

CONFIGURATION = """
[streams.production]
secret_env = "ARCHIVER_WEBHOOK_SECRET"
silent_after_seconds = 3600

[streams.eu]
secret_env = "ARCHIVER_WEBHOOK_SECRET"
spool = "{eu}"
"""


class Page:
    """One page of metrics, parsed."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def values(self, name: str) -> list[tuple[Labels, float]]:
        return [(sample.labels, sample.value) for sample in self.samples if sample.name == name]

    def value(self, name: str, **labels: str) -> float:
        found = [value for told, value in self.values(name) if labels.items() <= told.items()]
        assert len(found) == 1, (name, labels, found)
        return found[0]


def ask(
    receiver: ReceiverProcess, path: str, method: str = "GET"
) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def page(receiver: ReceiverProcess) -> Page:
    status, headers, text = ask(receiver, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    return Page(text)


def deliver(receiver: ReceiverProcess, path: str, body: bytes, signature: str | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)
    try:
        connection.request("POST", path, body, {HEADER: signature or SIGNER.sign(body)})
        return connection.getresponse().status
    finally:
        connection.close()


def until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[ReceiverProcess]:
    """A receiver of two streams with a spool each; one spool has another consumer."""
    (tmp_path / "eu").mkdir()
    (tmp_path / "spool" / "consumers" / "siem").mkdir(parents=True)
    file = tmp_path / "archiver.toml"
    file.write_text(CONFIGURATION.format(eu=tmp_path / "eu"))
    words = ("--config", str(file), "--seal-seconds", "0.2")
    with ReceiverProcess(tmp_path / "spool", words=words) as receiver:
        yield receiver


def documented(heading: str) -> dict[str, tuple[str, list[str], str]]:
    """Return type, labels and meaning of each metric in one table of docs/metrics.md."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| ([a-z]+) \| ([^|]*) \| (.+) \|$", text, re.MULTILINE)
    return {name: (kind, re.findall("`([a-z]+)`", labels), told) for name, kind, labels, told in rows}


def test_the_document_lists_every_metric_of_a_receiver_and_no_other(configured: ReceiverProcess) -> None:
    assert deliver(configured, "/production", b"{}") == 204
    found = {}
    for family in until(lambda: page(configured)).families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        assert family.samples, name
        found[name] = (family.type, labels, family.documentation)
    told = {
        name: (kind, sorted(labels), text)
        for name, (kind, labels, text) in documented("The receiver").items()
    }
    assert told == found


def test_deliveries_are_counted_by_stream_and_outcome(configured: ReceiverProcess) -> None:
    assert [deliver(configured, "/production", body) for body in (b"{}", b"[1,2]")] == [204, 204]
    assert deliver(configured, "/production", b"{}", "sha256=" + "0" * 64) == 401
    assert deliver(configured, "/eu", b"not JSON") == 204
    assert deliver(configured, "/nowhere", b"{}") == 404
    found = page(configured)
    count = "archiver_deliveries_total"
    assert found.value(count, stream="production", outcome="stored") == 2
    assert found.value(count, stream="production", outcome="unauthorized") == 1
    assert found.value(count, stream="eu", outcome="stored") == 1
    assert found.value("archiver_delivery_bytes_total", stream="production") == 7
    assert found.value("archiver_refused_requests_total", status="404") == 1
    spool = str(configured.spool)
    assert found.value("archiver_deliveries_per_fsync_sum", spool=spool) == 2
    assert found.value("archiver_fsync_seconds_count", spool=spool) >= 1
    assert found.value("archiver_spool_failures_total", spool=spool) == 0
    assert found.value("archiver_spool_free_bytes", spool=spool) > 0
    assert found.value("archiver_connections") >= 1


def test_the_backlog_of_each_spool_and_consumer_is_counted(configured: ReceiverProcess) -> None:
    for number in range(3):
        assert deliver(configured, "/production", b"%d" % number) == 204
        until(lambda: not list(configured.spool.glob(".*.live")))
    for path in (configured.spool / "consumers" / "siem").iterdir():
        path.unlink()
        break
    spool, eu = str(configured.spool), str(configured.spool.parent / "eu")

    def counted() -> Page | None:
        found = page(configured)
        return found if found.value("archiver_consumer_backlog_files", consumer="siem") == 2 else None

    found = until(counted)
    assert found.value("archiver_backlog_files", spool=spool) == 3
    assert found.value("archiver_backlog_files", spool=eu) == 0
    assert found.value("archiver_backlog_oldest_seconds", spool=eu) == 0
    assert found.value("archiver_backlog_oldest_seconds", spool=spool) > 0
    sealed = [path.stat().st_size for path in configured.spool.glob("*.seg")]
    assert found.value("archiver_backlog_bytes", spool=spool) == sum(sealed)
    assert found.value("archiver_segments_sealed_total", spool=spool) == 3
    assert found.value("archiver_live_segments", spool=spool) == 0
    assert found.values("archiver_backlog_is_complete") == [({"spool": eu}, 1), ({"spool": spool}, 1)] or (
        found.values("archiver_backlog_is_complete") == [({"spool": spool}, 1), ({"spool": eu}, 1)]
    )


def test_a_restart_remembers_when_a_stream_was_last_heard(configured: ReceiverProcess) -> None:
    before = page(configured)
    last = "archiver_stream_last_delivery_timestamp_seconds"
    assert before.values(last) == []
    assert {labels["stream"] for labels, _ in before.values("archiver_stream_silent_seconds")} == {
        "production",
        "eu",
    }
    assert before.value("archiver_stream_silent_after_seconds") == 3600
    assert deliver(configured, "/production", b"{}") == 204
    heard = page(configured).value(last, stream="production")
    assert abs(heard - time.time()) < 60
    assert configured.terminate() == 0
    configured.start()
    again = page(configured)
    assert again.value(last, stream="production") == heard
    assert again.value("archiver_stream_silent_seconds", stream="production") > 0
    assert again.values("archiver_deliveries_created")  # it is a new process


def test_only_configured_names_become_labels(configured: ReceiverProcess) -> None:
    record(configured.spool, Activity("forged", clock.now_us(), clock.now_us()))
    for word in ("a", "b%22c", "../x", "production/y"):
        assert deliver(configured, f"/{word}", b"{}") == 404
        assert ask(configured, f"/{word}", "BREW")[0] in (400, 404)
    labels = [told for sample in page(configured).samples for told in sample.labels.items()]
    assert {value for name, value in labels if name == "stream"} == {"production", "eu"}
    assert {value for name, value in labels if name == "status"} == {"404", "405"}
    assert {value for name, value in labels if name == "spool"} == {
        str(configured.spool),
        str(configured.spool.parent / "eu"),
    }
    assert {value for name, value in labels if name == "consumer"} == {"siem"}


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_other_methods_than_get_tell_nothing(configured: ReceiverProcess, path: str) -> None:
    status, headers, content = ask(configured, path, "HEAD")
    assert (status, content) == (200, "")
    assert int(headers["content-length"]) > 0
    for method in ("POST", "PUT", "DELETE"):
        assert ask(configured, path, method)[0] == 405


def test_a_full_disk_is_alive_and_not_ready(tmp_path: Path) -> None:
    with ReceiverProcess(tmp_path / "spool", words=("--min-free-bytes", str(1 << 60))) as receiver:
        assert ask(receiver, "/healthz")[0] == 200
        status, _, content = ask(receiver, "/readyz")
        assert status == 503
        assert json.loads(content) == {
            "ready": False,
            "reasons": {str(receiver.spool): "the disk is nearly full"},
        }
        assert deliver(receiver, "/webhook", b"{}") == 503
        found = page(receiver)
        assert found.value("archiver_is_ready") == 0
        assert found.value("archiver_deliveries_total", outcome="unavailable") == 1


def test_a_spool_that_is_gone_is_not_ready_until_it_is_back(tmp_path: Path) -> None:
    with ReceiverProcess(tmp_path / "spool") as receiver:
        assert ask(receiver, "/readyz")[0] == 200
        receiver.spool.rename(tmp_path / "elsewhere")
        until(lambda: ask(receiver, "/readyz")[0] == 503)
        assert ask(receiver, "/healthz")[0] == 200
        assert page(receiver).value("archiver_is_ready") == 0
        (tmp_path / "elsewhere").rename(receiver.spool)
        until(lambda: ask(receiver, "/readyz")[0] == 200)
        assert deliver(receiver, "/webhook", b"{}") == 204


def test_who_is_stopping_is_not_ready(tmp_path: Path) -> None:
    with ReceiverProcess(tmp_path / "spool") as receiver:
        connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)

        def status() -> int:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            assert (answer.status == 200) or "shutting down" in answer.read().decode()
            answer.read()
            return answer.status

        assert status() == 200
        receiver.process.send_signal(signal.SIGTERM)
        # Who is connected is answered once more; the connection ends behind that answer.
        until(lambda: status() == 503)
        connection.close()
        assert receiver.process.wait(timeout=60) == 0


# --- in this process -------------------------------------------------------------------------------


async def asked(receiver: Receiver, path: str) -> tuple[int, bytes]:
    """Ask the application without a server: the test stands in for it."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
    }
    await receiver.observing_app()(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def writer_in(folder: Path, metrics: Metrics) -> SpoolWriter:
    folder.mkdir(exist_ok=True)
    return SpoolWriter(folder, ["eu"], metrics, seal_bytes=1 << 20, seal_seconds=5, min_free_bytes=0)


def test_a_writer_that_died_is_neither_alive_nor_ready(tmp_path: Path) -> None:
    async def run() -> tuple[tuple[int, bytes], tuple[int, bytes], int]:
        metrics = Metrics()
        writer = writer_in(tmp_path / "spool", metrics)
        receiver = Receiver({}, [writer], metrics)
        writer.start()
        before, _ = await asked(receiver, "/healthz")
        writer._queue.put([])  # what ends its thread
        await asyncio.to_thread(writer._thread.join)
        return await asked(receiver, "/healthz"), await asked(receiver, "/readyz"), before

    alive, ready, before = asyncio.run(run())
    assert before == 200
    assert alive == (500, b"a writer died\n")
    assert ready[0] == 503
    assert b"the writer died" in ready[1]


def test_who_is_stopping_says_so_in_its_metrics(tmp_path: Path) -> None:
    async def run(*, is_stopping: bool) -> float:
        metrics = Metrics()
        writer = writer_in(tmp_path / "spool", metrics)
        receiver = Receiver({}, [writer], metrics)
        writer.start()
        metrics.observe(Gauges({}, [writer], Guard(Limits()), receiver.lookout, lambda: is_stopping))
        _, content = await asked(receiver, "/metrics")
        await writer.stop()
        return Page(content.decode()).value("archiver_is_ready")

    assert asyncio.run(run(is_stopping=False)) == 1
    assert asyncio.run(run(is_stopping=True)) == 0


def test_a_disk_that_does_not_answer_holds_no_page_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = threading.Event()

    def hang(*_: object, **__: object) -> None:
        hung.wait(60)

    monkeypatch.setattr("archiver.receiver.lookout.count_waiting", hang)

    async def run() -> list[int]:
        metrics = Metrics()
        receiver = Receiver({}, [writer_in(tmp_path / "spool", metrics)], metrics)
        receiver.lookout = Lookout([tmp_path / "spool"], patience_seconds=0.05)
        found = [(await asked(receiver, "/metrics"))[0] for _ in range(3)]
        assert sum(thread.name == "lookout" for thread in threading.enumerate()) == 1
        return found

    try:
        assert asyncio.run(run()) == [200, 200, 200]
    finally:
        hung.set()


def test_many_who_ask_at_once_share_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []
    text = Metrics.text

    def counted(self: Metrics) -> bytes:
        written.append(time.monotonic())
        return text(self)

    monkeypatch.setattr(Metrics, "text", counted)

    async def run() -> None:
        metrics = Metrics()
        receiver = Receiver({}, [writer_in(tmp_path / "spool", metrics)], metrics)
        answers = await asyncio.gather(*(asked(receiver, "/metrics") for _ in range(200)))
        assert {status for status, _ in answers} == {200}
        assert len(written) <= 2
        began = time.monotonic()
        await asked(receiver, "/metrics")
        assert len(written) <= 3
        assert written[-1] >= began  # never older than the question

    asyncio.run(run())


def test_counting_looks_at_so_many_names_and_says_so(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}.jsonl").write_text("{}\n")
    whole = count_waiting(tmp_path)
    assert (whole.archive.files, whole.archive.bytes, whole.archive.is_complete) == (30, 90, True)
    some = count_waiting(tmp_path, most_names=10)
    assert (some.archive.files, some.archive.is_complete) == (10, False)


def test_claimed_files_wait_and_other_names_do_not(tmp_path: Path) -> None:
    claim = tmp_path / "claims" / "01"
    claim.mkdir(parents=True)
    for path in (claim / "000001-a.jsonl", claim / "lock", claim / "batch.json", tmp_path / "b.jsonl"):
        path.write_text("1234")
    (tmp_path / "notes.txt").write_text("not a delivery")
    (tmp_path / ".hidden.jsonl").write_text("")
    found = count_waiting(tmp_path)
    assert (found.archive.files, found.archive.bytes) == (2, 8)
    assert found.consumers == {}
