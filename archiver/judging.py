"""Blocks through the validator, in this process or in several, in the order they were read.

Judging is most of the work and holds the interpreter's lock, so a large batch is judged
in worker processes; a small one is judged here, since starting workers takes longer. Rows of a
database are judged by the column, which lets the lock go: threads of this process do for them.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from archiver.block import Block, Rejection, RowBlock
from archiver.errors import ArchiverError
from archiver.partition import Arranged, arrange
from archiver.validate import Rules, Validator

SMALL_BATCH_BYTES: Final = 8 << 20
_IN_FLIGHT_PER_WORKER: Final = 2

_validator: Validator | None = None


def _start_worker(rules: Rules) -> None:
    global _validator  # noqa: PLW0603 - one per worker process, built once
    _validator = Validator(rules)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent closes no queue that its workers read from: watch for its end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@dataclass(slots=True)
class Judged:
    """What became of a block.

    Attributes:
        tables: By dataset, the rows that passed.
        rejections: The others.
        input: Which input they came from.
        read: How many elements (and stretches) there were.
        input_bytes: How much of the input the block used up.
        judged: How many of them the sieve did not acquit.
    """

    tables: dict[str, Arranged]
    rejections: list[Rejection]
    input: int
    read: int
    input_bytes: int
    judged: int


def _judge_with(validator: Validator, block: Block | RowBlock) -> Judged:
    if isinstance(block, RowBlock):
        verdict = validator.validate_rows(block)
        read = block.rows.num_rows
    else:
        verdict = validator.validate(block)
        read = len(block.bodies) + len(block.rejections)
    return Judged(
        tables={dataset: arrange(rows) for dataset, rows in verdict.tables.items()},
        rejections=verdict.rejections,
        input=block.input,
        read=read,
        input_bytes=block.input_bytes,
        judged=verdict.judged,
    )


def _judge(block: Block | RowBlock) -> Judged:
    if _validator is None:
        raise RuntimeError("the worker was not started")
    return _judge_with(_validator, block)


def _can_spawn() -> bool:
    """Whether a new process could import the main module; not where it came from standard input."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return path is None or os.path.exists(path)  # noqa: PTH110 - it may be any text


class Judges:
    """Validators for one run; as a context manager, since they may be processes.

    Args:
        rules: What to judge by.
        workers: How many processes, or threads; 0 judges in this one.
    """

    def __init__(self, rules: Rules, *, workers: int) -> None:
        self._here = Validator(rules)  # also checks the rules before anything is read
        self._rules = rules
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Judges:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in (self._pool, self._threads):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def judge(self, blocks: Iterable[Block | RowBlock], *, total_bytes: int) -> Iterator[Judged]:
        """Yield what became of each block, in order; only a few are in memory at a time.

        Args:
            total_bytes: About how much there is; decides whether processes are worth it.
        """
        in_processes = self._workers > 0 and total_bytes >= SMALL_BATCH_BYTES and _can_spawn()
        waiting: deque[Future[Judged]] = deque()
        try:
            for block in blocks:
                waiting.append(self._begin(block, in_processes=in_processes))
                is_parallel = in_processes or isinstance(block, RowBlock)
                if len(waiting) >= (self._workers * _IN_FLIGHT_PER_WORKER if is_parallel else 0):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise ArchiverError(
                "a worker process died while it judged events (killed, or out of memory)",
                hint="nothing was committed; run again, perhaps with --workers 0",
            ) from error

    def _begin(self, block: Block | RowBlock, *, in_processes: bool) -> Future[Judged]:
        # With a user's schema no row can be proven: then rows hold the lock as deliveries do.
        if self._workers and isinstance(block, RowBlock) and "events" not in self._rules.schemas:
            self._threads = self._threads or ThreadPoolExecutor(self._workers, "judge")
            return self._threads.submit(_judge_with, self._here, block)
        if in_processes:
            self._pool = self._pool or self._processes()
            return self._pool.submit(_judge, block)
        done: Future[Judged] = Future()
        done.set_result(_judge_with(self._here, block))
        return done

    def _processes(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._rules,),
        )
