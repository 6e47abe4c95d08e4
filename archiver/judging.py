"""Blocks through the validator, in this process or in several, in the order they were read.

Judging is most of the work and holds the interpreter's lock, so a large batch is judged
in worker processes; a small one is judged here, since starting workers takes longer.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from archiver.block import Block, Rejection
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


def _judge_with(validator: Validator, block: Block) -> Judged:
    verdict = validator.validate(block)
    return Judged(
        tables={dataset: arrange(rows) for dataset, rows in verdict.tables.items()},
        rejections=verdict.rejections,
        input=block.input,
        read=len(block.bodies) + len(block.rejections),
        input_bytes=block.input_bytes,
        judged=verdict.judged,
    )


def _judge(block: Block) -> Judged:
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
        workers: How many processes; 0 judges in this one.
    """

    def __init__(self, rules: Rules, *, workers: int) -> None:
        self._here = Validator(rules)  # also checks the rules before anything is read
        self._rules = rules
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Judges:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def judge(self, blocks: Iterable[Block], *, total_bytes: int) -> Iterator[Judged]:
        """Yield what became of each block, in order; only a few are in memory at a time.

        Args:
            total_bytes: About how much there is; decides whether workers are worth it.
        """
        if self._workers == 0 or total_bytes < SMALL_BATCH_BYTES or not _can_spawn():
            for block in blocks:
                yield _judge_with(self._here, block)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(self._rules,),
            )
        waiting: deque[Future[Judged]] = deque()
        try:
            for block in blocks:
                waiting.append(self._pool.submit(_judge, block))
                if len(waiting) >= self._workers * _IN_FLIGHT_PER_WORKER:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise ArchiverError(
                "a worker process died while it judged events (killed, or out of memory)",
                hint="nothing was committed; run again, perhaps with --workers 0",
            ) from error
