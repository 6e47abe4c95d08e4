"""Sending: workers take deliveries one by one, and try each until it is acknowledged or given up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from archiver.progress import Progress, Silent
from archiver.send.inputs import Inputs
from archiver.send.options import SendOptions
from archiver.send.order import Posting, arranged
from archiver.send.post import Outcome, Target
from archiver.send.report import SendReport
from archiver.signature import Secrets

LONGEST_WAIT_SECONDS: Final = 30.0
_TELL_SECONDS: Final = 0.1
_LEAVE_SECONDS: Final = 1.0
_CAUGHT_UP_SECONDS: Final = 0.05

Told = Callable[[Posting], None]


def send(
    deliveries: Iterable[bytes],
    to: str,
    secrets: Secrets,
    options: SendOptions | None = None,
    progress: Progress | None = None,
    *,
    report: SendReport | None = None,
    on_acknowledged: Told | None = None,
    on_not_acknowledged: Told | None = None,
) -> SendReport:
    """Deliver each of `deliveries` to the URL `to`, signed, as the vendor would; at least once each.

    Any answer but 2xx, and none at all, is a failed attempt. It is tried again with growing
    waits, as long as the answer asks for (Retry-After) but at most 30 s, unless no other
    answer can be expected: after a redirection, which is not followed, and any 4xx but 408, 425
    and 429 the delivery is given up. After `stop_after` failed attempts in a row the stream
    stops, as the vendor's does: no attempt is begun any more, those under way are waited for.

    A delivery whose answer was lost is sent again, so the receiver may have it twice; that
    one of its repeats got through does not make up for an original that did not.

    Args:
        deliveries: Bodies; read as they are needed. `open_inputs` reads files.
        to: Of a receiver's stream, `http://` or `https://`.
        secrets: The first one signs.
        progress: Told the deliveries that are settled, as rows.
        report: Is filled as it goes on, and complete also when an error ends it.
        on_acknowledged: Called once for each original and repeat that was answered 2xx, before
            the next is begun on that connection; never from two threads at once.
        on_not_acknowledged: Called likewise for each original that was not: given up, under way
            when somebody interrupted, or not begun when the stream stopped; so together the two
            are told of every original. With it the input is read to its end in any case.

    Raises:
        ConfigError: The URL or the certificate will not do.
        SourceError: The deliveries could not be read any further.
        KeyboardInterrupt: As it came; what is under way is left, and counts as not acknowledged.
    """
    options = options or SendOptions()
    report = SendReport() if report is None else report
    report.dry_run = options.dry_run
    progress = progress or Silent()
    target = Target(
        to,
        connections=options.concurrency,
        timeout_seconds=options.timeout_seconds,
        ca_file=options.ca_file,
    )
    inputs = deliveries if isinstance(deliveries, Inputs) else None
    postings = arranged(deliveries, shuffle=options.shuffle, repeats=options.repeats, seed=options.seed)
    progress.start("sign" if options.dry_run else "send", inputs.total_bytes if inputs else None)
    began = time.perf_counter()
    try:
        if options.dry_run:
            _count(postings, secrets, report, progress)
        else:
            sender = _Sender(postings, target, secrets, options, report, on_acknowledged, on_not_acknowledged)
            sender.run(progress, began)
    finally:
        report.seconds = report.seconds or time.perf_counter() - began
        if inputs:
            report.unreadable = inputs.unreadable
            report.problems += inputs.problems
        target.close()
        progress.finish()
    return report


def _count(postings: Iterator[Posting], secrets: Secrets, report: SendReport, progress: Progress) -> None:
    for posting in postings:
        secrets.sign(posting.body)
        report.bytes += len(posting.body)
        if posting.is_repeat:
            report.repeats += 1
        else:
            report.deliveries += 1
            progress.advance(bytes_done=len(posting.body), rows=1)


class _Sender:
    """One sending. `_feed` guards the input; `_state` all that is counted."""

    def __init__(
        self,
        postings: Iterator[Posting],
        target: Target,
        secrets: Secrets,
        options: SendOptions,
        report: SendReport,
        on_acknowledged: Told | None,
        on_not_acknowledged: Told | None,
    ) -> None:
        self._postings = postings
        self._target = target
        self._secrets = secrets
        self._options = options
        self._report = report
        self._on_acknowledged = on_acknowledged
        self._on_not_acknowledged = on_not_acknowledged
        self._feed = threading.Lock()
        self._state = threading.Lock()
        self._stopping = threading.Event()
        self._under_way: dict[tuple[int, bool], Posting] = {}
        self._is_over = False
        self._input_is_broken = False
        self._failed_in_a_row = 0
        self._next_at = time.monotonic()
        self._settled_bytes = self._settled = 0
        self._error: BaseException | None = None
        self._jitter = random.Random()  # noqa: S311  (spreads retries, hides nothing)

    def run(self, progress: Progress, began: float) -> None:
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._options.concurrency)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                while worker.is_alive():
                    worker.join(_TELL_SECONDS)
                    self._tell(progress)
        except KeyboardInterrupt:
            self._report.interrupted = True
            self._stopping.set()
            deadline = time.monotonic() + _LEAVE_SECONDS
            for worker in workers:
                worker.join(max(deadline - time.monotonic(), 0))
            raise
        finally:
            self._tell(progress)
            self._report.seconds = time.perf_counter() - began
            self._leave()
        if self._error is not None:
            raise self._error

    def _tell(self, progress: Progress) -> None:
        with self._state:
            bytes_done, rows = self._settled_bytes, self._settled
            self._settled_bytes = self._settled = 0
        progress.advance(bytes_done=bytes_done, rows=rows)

    def _work(self) -> None:
        try:
            while (posting := self._take()) is not None:
                self._deliver(posting)
        except BaseException as error:  # noqa: BLE001  (the caller's thread raises it)
            self._error = self._error or error
            self._stopping.set()

    def _take(self) -> Posting | None:
        with self._feed:
            if self._stopping.is_set():
                return None
            posting = self._next()
            if posting is not None:
                with self._state:
                    self._under_way[posting.number, posting.is_repeat] = posting
                    if not posting.is_repeat:
                        self._report.deliveries += 1
                self._pace()
            return posting

    def _next(self) -> Posting | None:
        self._input_is_broken = True  # unless it comes back
        posting = next(self._postings, None)
        self._input_is_broken = False
        return posting

    def _pace(self) -> None:
        """Wait until the next attempt is due. No more is caught up with than sleep is inexact."""
        if self._options.rate is not None:
            now = time.monotonic()
            self._next_at = max(self._next_at, now - _CAUGHT_UP_SECONDS)
            self._stopping.wait(max(self._next_at - now, 0.0))
            self._next_at += 1 / self._options.rate

    def _deliver(self, posting: Posting) -> None:
        outcome: Outcome | None = None
        for attempt in range(self._options.retries + 1):
            if outcome is not None:
                self._stopping.wait(self._wait_seconds(outcome, attempt))
            if self._stopping.is_set():
                break
            outcome = self._target.post(posting.body, self._secrets)
            if self._note(posting, outcome, is_retry=attempt > 0) or not outcome.may_be_retried:
                break
        if outcome is None or not outcome.acknowledged:
            with self._state:
                self._give_up(posting)

    def _wait_seconds(self, outcome: Outcome, attempt: int) -> float:
        usual = self._options.backoff_seconds * 2.0 ** min(attempt - 1, 30) * self._jitter.uniform(0.5, 1.0)
        return float(min(max(usual, outcome.retry_after or 0.0), LONGEST_WAIT_SECONDS))

    def _note(self, posting: Posting, outcome: Outcome, *, is_retry: bool) -> bool:
        """Count an attempt, and say whether it was acknowledged."""
        with self._state:
            if self._is_over:
                return outcome.acknowledged
            report = self._report
            report.attempts += 1
            report.retries += is_retry
            report.answers[outcome.answer] += 1
            if outcome.acknowledged:
                self._failed_in_a_row = 0
                report.latencies.add(outcome.seconds)
                report.bytes += len(posting.body)
                self._settle(posting)
                if posting.is_repeat:
                    report.repeats_acknowledged += 1
                else:
                    report.acknowledged += 1
                if self._on_acknowledged:
                    self._on_acknowledged(posting)
            else:
                report.last_failure = outcome.described
                self._failed_in_a_row += 1
                if self._failed_in_a_row == self._options.stop_after:
                    self._stop(outcome)
            return outcome.acknowledged

    def _stop(self, outcome: Outcome) -> None:
        self._stopping.set()
        self._report.stopped = (
            f"{self._options.stop_after} failed in a row at {self._target.shown}; "
            f"the last: {outcome.described}"
        )

    def _give_up(self, posting: Posting) -> None:
        """Count what was not acknowledged. Needs `_state`."""
        if self._is_over:
            return
        self._settle(posting)
        if not posting.is_repeat:
            self._report.not_acknowledged += 1
            if self._on_not_acknowledged:
                self._on_not_acknowledged(posting)

    def _settle(self, posting: Posting) -> None:
        self._under_way.pop((posting.number, posting.is_repeat), None)
        if posting.is_repeat:
            self._report.repeats += 1
        else:
            self._settled += 1
            self._settled_bytes += len(posting.body)

    def _leave(self) -> None:
        """Account for what was under way and was not answered, and for what was not begun."""
        with self._state:
            for posting in list(self._under_way.values()):
                self._give_up(posting)
            self._is_over = True
        if not self._stopping.is_set():
            return
        wanted = self._on_not_acknowledged is not None or (
            self._options.counts_rest and not self._report.interrupted
        )
        self._report.rest_unread = True
        # A worker that waits for standard input holds the lock, perhaps for ever.
        if not wanted or not self._feed.acquire(timeout=_LEAVE_SECONDS):
            return
        if not self._input_is_broken:
            self._read_rest()
            self._report.rest_unread = False

    def _read_rest(self) -> None:
        for posting in self._postings:
            if not posting.is_repeat:
                self._report.deliveries += 1
                self._report.not_acknowledged += 1
                if self._on_not_acknowledged:
                    self._on_not_acknowledged(posting)
