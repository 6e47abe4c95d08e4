"""The thread that makes deliveries durable: whatever fails in it, whoever waits hears, and it goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from archiver.live import LiveSegment
from archiver.receiver import writer as module
from archiver.receiver.metrics import Metrics
from archiver.receiver.writer import RefusedError, SpoolWriter
from tests.services.receiving import bodies_of


def with_writer(folder: Path, use: Callable[[SpoolWriter], Coroutine[Any, Any, None]]) -> SpoolWriter:
    """Run a writer for as long as `use` does."""

    async def run() -> SpoolWriter:
        writer = SpoolWriter(
            folder, ["web"], Metrics(), seal_bytes=1 << 20, seal_seconds=0.05, min_free_bytes=0
        )
        writer.start()
        await use(writer)
        await writer.stop()
        return writer

    return asyncio.run(run())


async def stored(writer: SpoolWriter, body: bytes) -> bool:
    try:
        await asyncio.wait_for(writer.store(body, "web"), 10)
    except RefusedError:
        return False
    return True


def fails_now(*_: object, **__: object) -> None:
    raise MemoryError("there is none left")


@pytest.mark.parametrize("method", ["append", "sync"])
@pytest.mark.parametrize("seals", [True, False])
def test_an_error_that_nobody_foresaw_refuses_its_deliveries_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, seals: bool
) -> None:
    async def use(writer: SpoolWriter) -> None:
        assert await stored(writer, b"before")
        with monkeypatch.context() as failing:
            failing.setattr(LiveSegment, method, fails_now)
            if not seals:
                failing.setattr(LiveSegment, "seal", fails_now)
            assert not await stored(writer, b"refused")
            assert writer.reason_not_ready is not None
        assert await stored(writer, b"after")
        assert writer.reason_not_ready is None

    with_writer(tmp_path, use)
    assert b"after" in bodies_of(tmp_path)


def test_failures_that_follow_each_other_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(writer: SpoolWriter) -> None:
        with monkeypatch.context() as failing:
            failing.setattr(LiveSegment, "append", fails_now)
            for _ in range(20):
                assert not await stored(writer, b"refused")
        assert await stored(writer, b"after")

    with_writer(tmp_path, use)
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "deliveries refused" in text]) == 1
    assert len([text for text in told if "can be written to again" in text]) == 1


@pytest.mark.parametrize("chore", ["recover", "record"])
def test_a_chore_that_fails_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, chore: str
) -> None:
    monkeypatch.setattr(module, "_RECOVER_SECONDS", 0.01)
    monkeypatch.setattr(module, "_NOTE_SECONDS", 0.01)

    async def use(writer: SpoolWriter) -> None:
        with monkeypatch.context() as failing:
            failing.setattr(module, chore, fails_now)
            for body in (b"one", b"two"):
                assert await stored(writer, body)
                await asyncio.sleep(0.1)
            assert writer.is_alive
        assert await stored(writer, b"three")

    with_writer(tmp_path, use)
    assert bodies_of(tmp_path) == [b"one", b"two", b"three"]
    assert "looking after the spool failed" in caplog.text


def test_a_disk_that_hangs_is_waited_for_once_however_often_it_is_told_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)

    async def use(writer: SpoolWriter) -> None:
        monkeypatch.setattr(LiveSegment, "sync", lambda _: answers.wait(60))
        waiting = asyncio.create_task(stored(writer, b"hangs"))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await writer.stop()
        await writer.stop()
        assert time.monotonic() - began < 0.9
        writer.give_up_on_the_stuck()
        assert not await waiting
        answers.set()

    with_writer(tmp_path, use)
