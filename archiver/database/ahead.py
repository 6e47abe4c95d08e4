"""Asking a database in a thread of its own: for an answer, or for a stream, some megabytes ahead.

The server goes on working while what it sent is judged and written. And a driver that takes
Ctrl-C for itself, as ADBC's does in the main thread, cannot do so here: whoever waits for the
next batch can be interrupted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import pyarrow as pa

MOST_BYTES: Final = 32 << 20
_CANCEL_SECONDS: Final = 0.5
# The driver leaves SIGINT such that it does not end a wait without a limit.
_LOOK_SECONDS: Final = 0.2
T = TypeVar("T")


class Ahead:
    """Batches that a thread reads, in their order. An error of the reader is raised where it is met.

    Args:
        read: Yields batches; runs in the thread alone.
        cancel: Makes a reader that waits for the server give up; called from another thread.
        most_bytes: How much may lie here unread; at least one batch does.
    """

    def __init__(
        self,
        read: Callable[[], Iterator[pa.RecordBatch]],
        cancel: Callable[[], None],
        *,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._read = read
        self._cancel = cancel
        self._most_bytes = most_bytes
        self._changed = threading.Condition()
        self._waiting: deque[pa.RecordBatch] = deque()
        self._bytes = 0
        self._is_over = False
        self._is_closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        with self._changed:
            while not self._waiting and not self._is_over:
                self._changed.wait(_LOOK_SECONDS)
            if self._waiting:
                batch = self._waiting.popleft()
                self._bytes -= batch.nbytes
                self._changed.notify_all()
                return batch
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """Let the reader go, and wait for its end; what was not taken is dropped."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
            is_over = self._is_over
        # A statement that was not yet at the server when it was cancelled goes on: again, then.
        while not is_over:
            self._cancel()
            self._thread.join(_CANCEL_SECONDS)
            is_over = not self._thread.is_alive()
        self._thread.join()

    def _work(self) -> None:
        try:
            for batch in self._read():
                with self._changed:
                    while self._bytes >= self._most_bytes and not self._is_closed:
                        self._changed.wait()
                    if self._is_closed:
                        break
                    self._waiting.append(batch)
                    self._bytes += batch.nbytes
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001  # raised where the next batch is asked for
            self._error = error
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()


def interruptible(act: Callable[[], T], cancel: Callable[[], None] | None = None) -> T:
    """Return what `act` returns, in a thread of its own: Ctrl-C ends the waiting for it.

    Args:
        cancel: Makes `act` give up, which is then waited for; without, it is left alone.
    """
    done: list[T] = []
    failed: list[BaseException] = []
    is_over = threading.Event()

    def work() -> None:
        try:
            done.append(act())
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            failed.append(error)
        finally:
            is_over.set()

    threading.Thread(target=work, name="statement", daemon=True).start()
    try:
        while not is_over.wait(_LOOK_SECONDS):
            pass
    except BaseException:
        while cancel is not None and not is_over.is_set():
            cancel()
            is_over.wait(_CANCEL_SECONDS)
        raise
    if failed:
        raise failed[0]
    return done[0]
