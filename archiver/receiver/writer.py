"""The thread that makes deliveries durable: all that wait go into one write and one fsync.

    event loop: store(), gather ──queue──> thread: append, fsync, seal ──call_soon_threadsafe──> waiters

While one fsync is under way the next deliveries gather, and are handed over all at once: the
more come the more share one, and the two threads meet twice for each fsync. A meeting takes
as long as three deliveries do, so a group is handed over when it has stopped growing, after
two milliseconds at most: `_hand_over` lets the event loop go round a few times and look.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from archiver import clock
from archiver.activity import Activity, record
from archiver.errors import ArchiverError, SourceError
from archiver.live import LiveSegment, recover
from archiver.receiver.metrics import Metrics
from archiver.segment import frame_head

MOST_WAITING_BYTES: Final = 192 << 20
PATIENCE_SECONDS: Final = 25.0
_QUIET_ROUNDS: Final = 4
_GATHERING_SECONDS: Final = 0.002
_TICK_SECONDS: Final = 1.0
_RECOVER_SECONDS: Final = 5.0
_RECOVERING_SECONDS: Final = 0.5
_TELL_AGAIN_SECONDS: Final = 10.0
_NOTE_SECONDS: Final = 5.0
_LEAST_INODES: Final = 1_000
_LAST_INSTANT_US: Final = 253_402_300_799_999_999

_HANGS: Final = "the disk does not answer"

_log = logging.getLogger("archiver.receiver")


class RefusedError(ArchiverError):
    """A delivery was not made durable, or nobody knows whether; the sender shall try again."""

    kind = "refused"


class _Delivery:
    """What was taken and is not durable yet; `since` is when, of the monotonic clock."""

    __slots__ = ("body", "received_at", "since", "stream", "waiter")

    def __init__(self, body: bytes | bytearray, stream: str, waiter: asyncio.Future[None]) -> None:
        self.body = body
        self.stream = stream
        self.waiter = waiter
        self.received_at = min(max(time.time_ns() // 1000, 0), _LAST_INSTANT_US)
        self.since = time.monotonic()


class SpoolWriter:
    """Writes one spool's live segments, in a thread of its own.

    Args:
        folder: The spool.
        streams: Those that come here, to note when each was last heard of.
        seal_bytes, seal_seconds: A segment is sealed when it is so large, or so old.
        min_free_bytes: With less room on the disk deliveries are refused.
    """

    def __init__(
        self,
        folder: Path,
        streams: list[str],
        metrics: Metrics,
        *,
        seal_bytes: int,
        seal_seconds: float,
        min_free_bytes: int,
    ) -> None:
        self.folder = folder
        self.streams = streams
        self.trouble: str | None = None
        self._metrics = metrics.of_spool(folder)
        self._seal_bytes = seal_bytes
        self._seal_seconds = seal_seconds
        self._min_free_bytes = min_free_bytes
        self._gathered: list[_Delivery] = []
        self._handed_over: list[_Delivery] = []  # what the thread is at work on; empty: it is not
        self._queue: queue.SimpleQueue[list[_Delivery]] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._segment: LiveSegment | None = None
        self._is_stopping = False
        self._ends_by: float | None = None
        self._is_full = False
        self._hangs = False
        self._failed_at: float | None = None
        self._told_at = 0.0
        self._missed: frozenset[str] = frozenset()
        self._started_us = clock.now_us()
        self._heard: dict[str, int] = {}
        self._noted: dict[str, int | None] = {}
        self._due = {"look": 0.0, "recover": 0.0, "note": 0.0}
        self._thread = threading.Thread(target=self._run, name=f"writer of {folder}", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    # In the event loop

    def start(self) -> None:
        """Seal what dead receivers left and begin. Called in the event loop.

        Raises:
            SourceError: The spool cannot be written to.
        """
        self._loop = asyncio.get_running_loop()
        self._recover()
        self._look()
        self._probe()
        if self.trouble is not None and not self._is_full:
            hint = "let this user read, write and delete there; see `archiver doctor --spool`"
            raise SourceError(f"{self.folder}: {self.trouble}", hint=hint)
        self._note()
        self._thread.start()

    async def store(self, body: bytes | bytearray, stream: str) -> None:
        """Return when the delivery is durable: its bytes and its file's name.

        Raises:
            RefusedError: It is not, or nobody knows.
        """
        if self._is_stopping:
            raise RefusedError("shutting down")
        if not self._thread.is_alive():
            raise RefusedError("an error in the receiver")
        if self._is_full:
            raise RefusedError("the disk is nearly full")
        if self._hangs:  # rather at once than after the sender's patience has ended
            raise RefusedError(_HANGS)
        if self._waiting_bytes + len(body) > MOST_WAITING_BYTES:
            raise RefusedError("too much is waiting for the disk")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting_bytes += len(body)
        self._gathered.append(_Delivery(body, stream, waiter))
        if len(self._gathered) == 1 and not self._handed_over:
            self._hand_over_soon()
        await waiter

    def _hand_over_soon(self) -> None:
        """Give what is gathered to the thread, which is not at work, when no more seems to come."""
        asyncio.get_running_loop().call_soon(self._hand_over, 0, 0, time.monotonic())

    def _hand_over(self, seen: int, rounds: int, since: float) -> None:
        """`seen` had gathered when the event loop began its last round; in the last `rounds` nothing came."""
        gathered = len(self._gathered)
        rounds = rounds + 1 if gathered == seen else 0
        if rounds < _QUIET_ROUNDS and time.monotonic() - since < _GATHERING_SECONDS:
            asyncio.get_running_loop().call_soon(self._hand_over, gathered, rounds, since)
            return
        self._handed_over, self._gathered = self._gathered, []
        self._queue.put(self._handed_over)

    def give_up_on_the_stuck(self) -> None:
        """Refuse what has waited too long: a disk that hangs. To be called every second or so."""
        late = time.monotonic() - PATIENCE_SECONDS
        stuck = [one for one in (*self._handed_over, *self._gathered) if one.since < late]
        self._hangs = bool(stuck)
        for delivery in stuck:
            if not delivery.waiter.done():
                # Its bytes may yet become durable: then the sender's next try is a duplicate.
                delivery.waiter.set_exception(RefusedError(_HANGS))

    @property
    def reason_not_ready(self) -> str | None:
        """Why deliveries would be refused at this moment; None: they would not."""
        if self._is_stopping:
            return "shutting down"
        if not self._thread.is_alive():
            return "the writer died"
        if self._hangs:
            return _HANGS
        return "the disk is nearly full" if self._is_full else self.trouble

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def last_heard_us(self, stream: str) -> int | None:
        """When a delivery of a stream was last stored by this receiver."""
        return self._heard.get(stream)

    @property
    def started_us(self) -> int:
        return self._started_us

    @property
    def waiting(self) -> int:
        """How many deliveries were taken and are not durable yet."""
        return len(self._handed_over) + len(self._gathered)

    @property
    def waiting_bytes(self) -> int:
        return self._waiting_bytes

    async def stop(self) -> None:
        """Store what was taken, seal, end the thread. A disk that hangs is not waited for without end."""
        self._is_stopping = True
        if self._ends_by is None:  # being told again gives no more time
            self._ends_by = time.monotonic() + PATIENCE_SECONDS
        end = self._ends_by
        while self.waiting and self._thread.is_alive() and time.monotonic() < end:
            await asyncio.sleep(0.005)
        self._queue.put([])
        while self._thread.is_alive() and time.monotonic() < end:
            await asyncio.sleep(0.005)
        if self._thread.is_alive():
            _log.error(
                "%s: the disk does not answer; what it has not stored was not acknowledged", self.folder
            )

    def _resolve(self, batch: list[_Delivery], error: RefusedError | None) -> None:
        self._hangs = False
        self._handed_over = []
        if self._gathered:
            self._hand_over_soon()
        for delivery in batch:
            self._waiting_bytes -= len(delivery.body)
            waiter = delivery.waiter
            if waiter.done():  # given up, or its connection is gone
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(RefusedError(error.message))

    # In the thread

    def _run(self) -> None:
        while True:
            try:
                batch = self._queue.get(timeout=self._seconds_to_wait())
            except queue.Empty:
                self._chores()
                continue
            if not batch:  # the end
                break
            self._store(batch)
            del batch  # or its bodies would stay in memory until the next one comes
            self._chores()
        self._seal()
        self._note()

    def _seconds_to_wait(self) -> float:
        if self._segment is None:
            return _TICK_SECONDS
        left = self._segment.opened_at + self._seal_seconds - time.monotonic()
        return min(max(left, 0.001), _TICK_SECONDS)

    def _store(self, batch: list[_Delivery]) -> None:
        error = self._trying(lambda: self._append(batch))
        if error is None:
            for delivery in batch:
                self._heard[delivery.stream] = delivery.received_at
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._resolve, batch, error)

    def _append(self, batch: list[_Delivery]) -> None:
        if self._segment is None:
            self._segment = LiveSegment(self.folder)
        pieces: list[bytes | bytearray] = []
        for delivery in batch:
            pieces.append(frame_head(delivery.body, delivery.received_at, delivery.stream))
            pieces.append(delivery.body)
        self._segment.append(pieces, len(batch))
        started = time.perf_counter()
        self._segment.sync()
        self._metrics.synced(time.perf_counter() - started, len(batch))

    def _trying(self, work: Callable[[], None]) -> RefusedError | None:
        """Do something with the live segment; after an error it is sealed as it is, and not used again."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  (whatever it is, the waiters must hear of it)
            told = _told(error)
            # All are counted. A line for each would fill what may be the same disk.
            if self.trouble is None or time.monotonic() - self._told_at > _TELL_AGAIN_SECONDS:
                _log.error("deliveries refused: %s", told)
                self._told_at = time.monotonic()
            self._metrics.failed()
            self.trouble = told
            self._failed_at = time.monotonic()
            self._seal()
            return RefusedError("the spool cannot be written to")
        if self.trouble is not None:
            _log.warning("the spool can be written to again")
        self.trouble = self._failed_at = None
        return None

    def _seal(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return
        try:
            if segment.seal() is not None:
                self._metrics.sealed()
                self._tell_missed(segment.missed)
        except Exception as error:  # noqa: BLE001  (nor may it keep the waiters from their answer)
            _log.error("%s; if it is still there it is sealed later", _told(error))

    def _tell_missed(self, missed: tuple[str, ...]) -> None:
        """Count each, and tell what is new: this happens at every seal until somebody mends it."""
        self._metrics.missed(len(missed))
        for one in sorted(frozenset(missed) - self._missed):
            _log.error("%s: this consumer misses segments; see `archiver doctor --spool`", one)
        self._missed = frozenset(missed)

    def _chores(self) -> None:
        """Do what is due. Whatever fails there must not end the thread: then all would be refused."""
        try:
            self._do_what_is_due()
        except Exception as error:  # noqa: BLE001
            _log.error("%s: looking after the spool failed: %s", self.folder, _told(error))

    def _do_what_is_due(self) -> None:
        segment = self._segment
        if segment is not None and (
            segment.bytes >= self._seal_bytes or time.monotonic() - segment.opened_at >= self._seal_seconds
        ):
            self._seal()
        if self._is_due("look", _TICK_SECONDS):
            self._look()
            if self._failed_at is not None and time.monotonic() - self._failed_at > _TICK_SECONDS:
                self._probe()
        if self._is_due("recover", _RECOVER_SECONDS):
            self._recover()
        if self._is_due("note", _NOTE_SECONDS):
            self._note()

    def _is_due(self, what: str, every_seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + every_seconds
        return True

    def _look(self) -> None:
        """Is there room?"""
        try:
            found = os.statvfs(self.folder)
        except OSError as error:
            self.trouble = f"{self.folder}: {error.strerror}"
            self._failed_at = self._failed_at or time.monotonic()
            return
        free = found.f_bavail * found.f_frsize
        self._metrics.free(free)
        was_full = self._is_full
        # Some file systems have no fixed number of inodes, and tell none.
        few_inodes = bool(found.f_files) and found.f_favail < _LEAST_INODES and self._min_free_bytes > 0
        self._is_full = free < self._min_free_bytes or few_inodes
        if self._is_full != was_full:
            told = "nearly full: deliveries are refused" if self._is_full else "has room again"
            _log.error("%s: the disk is %s (%d MiB free)", self.folder, told, free >> 20)

    def _probe(self) -> None:
        """Write, sync and take away a segment: nobody may come to try, because we are not ready."""

        def work() -> None:
            if self._segment is None:
                probe = LiveSegment(self.folder)
                try:
                    probe.sync()
                finally:
                    probe.seal()

        self._trying(work)

    def _recover(self) -> None:
        """Seal what other receivers of this spool left when they died; if it is much, some of it.

        Deliveries wait meanwhile.
        """
        try:
            for found in recover(self.folder, seconds=_RECOVERING_SECONDS):
                self._tell_missed(found.missed)
                torn = f"; {found.torn_bytes} bytes are torn" if found.torn_bytes else ""
                _log.warning(
                    "%s: sealed for a receiver that died: %d deliveries%s",
                    found.path.name,
                    found.deliveries,
                    torn,
                )
        except SourceError as error:
            _log.error("%s", error.message)

    def _note(self) -> None:
        for stream in self.streams:
            heard = self._heard.get(stream)
            if stream in self._noted and self._noted[stream] == heard:
                continue
            try:
                record(self.folder, Activity(stream, self._started_us, heard))
                self._noted[stream] = heard
            except OSError as error:
                _log.warning("%s: cannot note when %s was heard: %s", self.folder, stream, error.strerror)


def _told(error: Exception) -> str:
    return error.message if isinstance(error, ArchiverError) else repr(error)
