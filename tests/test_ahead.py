"""Reading ahead: in order, within bounds, and let go of at any moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from archiver.database.ahead import Ahead, interruptible


def _batch(number: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array([number] * 1_000, pa.int64())})


class Server:
    """Gives `count` batches, and waits for `cancel` behind them if it `hangs`."""

    def __init__(self, count: int, *, hangs: bool = False, fails: bool = False) -> None:
        self.count = count
        self.given = 0
        self.cancelled = threading.Event()
        self._hangs = hangs
        self._fails = fails

    def read(self) -> Iterator[pa.RecordBatch]:
        for number in range(self.count):
            self.given += 1
            yield _batch(number)
        if self._hangs:
            assert self.cancelled.wait(20), "nobody cancelled"
            raise OSError("cancelled")
        if self._fails:
            raise OSError("the connection is gone")

    def cancel(self) -> None:
        self.cancelled.set()


def _numbers(ahead: Ahead) -> list[int]:
    return [batch["n"][0].as_py() for batch in ahead]


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_all_batches_come_in_their_order() -> None:
    server = Server(50)
    ahead = Ahead(server.read, server.cancel, most_bytes=20_000)
    assert _numbers(ahead) == list(range(50))
    ahead.close()
    assert not server.cancelled.is_set()


def test_no_more_is_read_ahead_than_is_allowed() -> None:
    server = Server(50)
    ahead = Ahead(server.read, server.cancel, most_bytes=3 * _batch(0).nbytes)
    _until(lambda: server.given == 4)  # three lie here, the fourth waits for room
    time.sleep(0.1)
    assert server.given == 4
    next(ahead)
    _until(lambda: server.given == 5)
    ahead.close()
    assert server.given == 5


def test_an_error_comes_behind_the_batches_before_it() -> None:
    server = Server(3, fails=True)
    ahead = Ahead(server.read, server.cancel)
    assert [next(ahead)["n"][0].as_py() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the connection is gone"):
        next(ahead)
    ahead.close()


def test_a_reader_that_waits_for_the_server_is_cancelled_and_ends() -> None:
    server = Server(1, hangs=True)
    ahead = Ahead(server.read, server.cancel)
    next(ahead)
    ahead.close()
    assert server.cancelled.is_set()
    assert not any(one.name == "read-ahead" and one.is_alive() for one in threading.enumerate())


def test_a_cancel_that_came_too_early_is_repeated() -> None:
    cancels: list[float] = []
    late = threading.Event()

    def read() -> Iterator[pa.RecordBatch]:
        assert late.wait(20)
        yield _batch(0)

    def cancel() -> None:
        cancels.append(time.monotonic())
        if len(cancels) == 2:
            late.set()

    Ahead(read, cancel).close()
    assert len(cancels) >= 2


def test_an_answer_and_an_error_come_back_from_the_other_thread() -> None:
    assert interruptible(lambda: threading.current_thread().name) == "statement"

    def fails() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        interruptible(fails)
