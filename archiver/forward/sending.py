"""From a reader to an intake: requests, and each of them until all of its events are settled.

An event is *settled* when the receiver said that it has it, or when it is a dead letter. The
cursor moves then, and never before.

    taken                  settled
    refused                a dead letter, with what the receiver said
    a part not taken       only that part is sent again; what a receiver that works fails at for
                           minutes is a dead letter
    `later`                the same again, after a wait that grows; as long as Retry-After asks
    `batch`                in two halves, until the event that is refused stands alone
    `settings`             no event's fault: nothing is a dead letter, somebody has to mend something
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from archiver import clock
from archiver.errors import ArchiverError
from archiver.forward.base import Intake, Limits, Portion, Reader, Trouble, Verdict
from archiver.forward.deadletters import DeadLetters, Letter
from archiver.forward.requests import Payloads, Request, Requests
from archiver.http import Client, NotTrustedError

LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
MOST_REFUSED_IN_A_ROW: Final = 1_000
LONGEST_HELD_SECONDS: Final = 5.0  # events in a request that does not get full
HOPELESS_SECONDS: Final = 600.0
LEAST_ATTEMPTS: Final = 4
_FAILED: Final = "500"
_REFUSED: Final = "refused by the receiver"


class DestinationError(ArchiverError):
    """A destination took nothing for too long, or refuses us. What was not taken waits.

    `wait_seconds`: For so long it asked to be left alone.
    """

    kind = "destination"

    def __init__(self, message: str, *, hint: str = "", wait_seconds: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """How a destination that fails is treated. All in seconds.

    Attributes:
        first_wait, longest_wait: Between two attempts; it doubles from one to the other.
        failures_until_open: After so many failures in a row the circuit is open: one event at a
            time is tried, every `longest_wait` or so, until one is taken.
        give_up_after: Of failures without anything taken; None is never. An answer that asks for a
            longer wait than what is left of it (Retry-After) ends it at once.
    """

    first_wait: float = 0.5
    longest_wait: float = 60.0
    failures_until_open: int = 5
    give_up_after: float | None = 60.0


@dataclass(slots=True)
class Tally:
    """What became of events, and what it took.

    Attributes:
        taken: The receiver has them; `already` of them it said to have had before.
        dead: Became dead letters.
        filtered: The destination does not want them.
        invalid: Are in quarantine, and so not forwarded.
        requests, retries, bytes: Requests, those that repeat something, and bytes of items taken.
        failures: Failed requests in a row.
        refused_in_a_row: Events that became dead letters since one was taken.
        failing_since_us: When the first of them was; None: the last request went well.
        is_open: Whether the circuit is open.
        trouble: The last trouble, in words; stays when it is over.
        trouble_us, taken_us: When that was; when an event was last taken.
        taken_event_us: The `event_time` of that event.
    """

    taken: int = 0
    already: int = 0
    dead: int = 0
    filtered: int = 0
    invalid: int = 0
    requests: int = 0
    retries: int = 0
    bytes: int = 0
    failures: int = 0
    refused_in_a_row: int = 0
    failing_since_us: int | None = None
    is_open: bool = False
    trouble: str | None = None
    trouble_us: int | None = None
    taken_us: int | None = None
    taken_event_us: int | None = None


class Sender:
    """Sends what a reader has to one intake. For one thread.

    Args:
        name: The destination's.
        limits: Of a request; see `fitted`.
        stop: Set by whoever wants it to end: it then ends after the request that is on its way.
        changed: Called when the tally changed.
    """

    def __init__(
        self,
        name: str,
        intake: Intake,
        client: Client,
        payloads: Payloads,
        dead_letters: DeadLetters,
        *,
        limits: Limits | None = None,
        policy: Policy | None = None,
        most_per_second: int | None = None,
        stop: threading.Event | None = None,
        tally: Tally | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.tally = tally if tally is not None else Tally()
        self._name = name
        self._intake = intake
        self._client = client
        self._payloads = payloads
        self._dead_letters = dead_letters
        self._limits = limits or intake.limits
        self._policy = policy or Policy()
        self._pause_per_event = 1.0 / most_per_second if most_per_second else 0.0
        self._stop = stop or threading.Event()
        self._changed = changed
        self._began_failing: float | None = None
        self._failures = 0
        self._free_at = 0.0

    def send(self, reader: Reader) -> bool:
        """Send all that `reader` has now; whether it came to the end, and was not stopped.

        Raises:
            DestinationError: Nothing was taken for `give_up_after`, or the receiver refuses us.
            ArchiverError: It could not be read, or dead letters could not be written.
        """
        portions = reader.read()
        try:
            return self._send(reader, iter(portions))
        finally:
            # Now, and not whenever what went wrong is forgotten: it holds a file open.
            if isinstance(portions, Generator):
                portions.close()

    def _send(self, reader: Reader, portions: Iterator[Portion]) -> bool:
        requests = Requests(self._intake, self._payloads, self._limits, self._most_together)
        while True:
            try:
                portion = next(portions, None)
            except ArchiverError:
                self._settle(reader, requests.filling)  # what stands before it is sent all the same
                raise
            if portion is None:
                return self._settle(reader, requests.filling)
            self.tally.filtered += portion.filtered
            self.tally.invalid += portion.invalid
            for full in requests.add(portion):
                if not self._settle(reader, full):
                    return False
            request = requests.filling
            if not request.items or time.monotonic() - request.began >= LONGEST_HELD_SECONDS:
                if not self._settle(reader, request):
                    return False
                requests.begin()
            if self._stop.is_set():
                return False

    def _most_together(self) -> int:
        """Return how many events are settled together: where each goes alone, two if one seems to fail.

        See `_tried`: without another one nothing would show that it is the event's fault.
        """
        most = self._limits.most_events
        return 2 if most == 1 and self.tally.is_open else most

    def _settle(self, reader: Reader, request: Request) -> bool:
        """Have each event of a request settled, and the cursor moved; false if it was stopped before.

        Where that comes to no end, the cursor moves behind the first of them that are.
        """
        is_over = False
        try:
            is_over = not request.items or self._deliver(request, range(len(request.items)))
        except DestinationError:
            self._pass(reader, request, is_over=False)
            raise
        self._pass(reader, request, is_over=is_over)
        return is_over

    def _pass(self, reader: Reader, request: Request, *, is_over: bool) -> None:
        """Keep the dead letters of what is settled, and move the cursor behind it."""
        left = (number for number in range(len(request.items)) if number not in request.settled)
        first = None if is_over else next(left, None)
        end = request.end if first is None else request.end_before(first)
        if end is None:
            return
        letters = [letter for place, letter in request.letters if first is None or place < first]
        if letters:
            self._dead_letters.add(letters)
            self.tally.dead += len(letters)
        reader.acknowledge(*end)
        self._changed()

    def _deliver(self, request: Request, numbers: Sequence[int]) -> bool:
        """Deliver some items of a request until each is taken or in `request.letters`."""
        attempts = 0
        trouble: Trouble | None = None
        while numbers:
            if self._stop.is_set():
                return False
            self._keep_pace(len(numbers))
            trying = self._tried(numbers, trouble, attempts)
            was_open = self.tally.is_open
            attempts += 1
            verdict = self._attempt([request.items[number] for number in trying], is_repeat=attempts > 1)
            left = [trying[place] for place in verdict.again]
            if len(trying) < len(numbers):
                settled = {*trying} - {*left}
                numbers = [number for number in numbers if number not in settled]
            else:
                numbers = left
            is_any_taken = self._note(request, trying, verdict, attempts)
            if verdict.refused and not is_any_taken:
                self._hold_against(next(iter(verdict.refused.values())))
            trouble = verdict.trouble
            request.has_failed_in_part |= was_open and len(trying) == 1 and not left
            if trouble is None or not left:
                continue
            if len(left) > 1 and _is_of_one(trouble, request):
                half = len(left) // 2
                if not (self._deliver(request, left[:half]) and self._deliver(request, left[half:])):
                    return False
                numbers = numbers[len(left) :]
            elif trouble.kind == "batch" or self._is_hopeless(trouble, request, attempts):
                for number in left:
                    self._refuse(request, number, str(trouble), attempts)
                self._hold_against(str(trouble))
                numbers = [number for number in numbers if number not in left]
            elif not self._wait_after(trouble):
                return False
        return True

    def _tried(self, numbers: Sequence[int], trouble: Trouble | None, attempts: int) -> Sequence[int]:
        """Return which items to try: of an open circuit, or where every event is refused, a single one.

        It is the first, but now and then the last: a receiver that fails (500) at one event fails at it
        for ever, and only another one shows that it works.
        """
        if self.tally.refused_in_a_row >= MOST_REFUSED_IN_A_ROW:
            return numbers[:1]
        if not self.tally.is_open:
            return numbers[: self._limits.most_events]
        if trouble is not None and trouble.answer == _FAILED and attempts % 3 == 2:
            return numbers[-1:]
        return numbers[:1]

    def _attempt(self, items: list[bytes], *, is_repeat: bool) -> Verdict:
        self.tally.requests += 1
        self.tally.retries += is_repeat
        try:
            return self._intake.deliver(self._client, items, self._stop)
        except NotTrustedError as error:
            trouble = Trouble("settings", "tls", error.message, error.hint)
            return Verdict(again=range(len(items)), trouble=trouble)

    def _note(self, request: Request, trying: Sequence[int], verdict: Verdict, attempts: int) -> bool:
        """Count what one attempt brought; whether anything was taken."""
        not_taken = {*verdict.again, *verdict.refused}
        taken = trying
        if not_taken:
            taken = [number for place, number in enumerate(trying) if place not in not_taken]
        now = clock.now_us()
        if taken:
            request.settled.update(taken)
            self.tally.taken += len(taken)
            self.tally.already += verdict.already
            is_all = len(taken) == len(request.items)
            self.tally.bytes += request.size if is_all else sum(len(request.items[one]) for one in taken)
            self.tally.taken_us = now
            self.tally.taken_event_us = request.events[taken[-1]].at_us
            self.tally.refused_in_a_row = 0
        for place, told in verdict.refused.items():
            self._refuse(request, trying[place], told, attempts)
        if taken or verdict.trouble is None or verdict.trouble.kind == "batch":
            self.tally.failures = self._failures = 0
            self.tally.failing_since_us = self._began_failing = None
            self.tally.is_open = False
        if verdict.trouble is not None:
            self.tally.trouble = str(verdict.trouble)
            self.tally.trouble_us = now
        self._changed()
        return bool(taken)

    def _refuse(self, request: Request, number: int, told: str, attempts: int) -> None:
        """Make a dead letter of one event."""
        letter = Letter(request.events[number], _REFUSED, told, attempts=attempts)
        request.letters.append((number, letter))
        request.settled.add(number)
        self.tally.refused_in_a_row += 1

    def _hold_against(self, told: str) -> None:
        """Say so where so many are refused in a row that it is hardly the events' fault.

        Raises:
            DestinationError: They are. Each call gets on by one event then, until one is taken.
        """
        if self.tally.refused_in_a_row < MOST_REFUSED_IN_A_ROW:
            return
        raise DestinationError(
            f"destination {self._name}: refuses every event: {told}",
            hint=f"{self.tally.refused_in_a_row} in a row are dead letters now; find out why, then"
            f" `archiver deadletters resend {self._name} --all`",
        )

    def _is_hopeless(self, trouble: Trouble, request: Request, attempts: int) -> bool:
        """Whether a receiver that works has failed at the same events for so long that it is theirs."""
        limit = self._policy.give_up_after
        tried_for = 0.0 if self._began_failing is None else time.monotonic() - self._began_failing
        return (
            (trouble.of_items or _is_of_one(trouble, request))
            and attempts >= LEAST_ATTEMPTS
            and tried_for >= (HOPELESS_SECONDS if limit is None else limit)
        )

    def _wait_after(self, trouble: Trouble) -> bool:
        """Wait until the next attempt; false if it was stopped.

        Raises:
            DestinationError: It has failed for too long, or needs somebody to mend it.
        """
        tally, policy = self.tally, self._policy
        now = time.monotonic()
        tally.failures += 1
        self._failures += 1
        if tally.failing_since_us is None:
            tally.failing_since_us = clock.now_us()
        if self._began_failing is None:
            self._began_failing = now
        if trouble.kind == "settings" or self._failures >= policy.failures_until_open:
            tally.is_open = True
        self._changed()
        asked = min(trouble.retry_after or 0.0, LONGEST_RETRY_AFTER_SECONDS)
        wait = min(policy.first_wait * 2 ** min(self._failures - 1, 30), policy.longest_wait)
        wait *= random.uniform(0.5, 1.0)  # noqa: S311 - several hosts shall not come at once
        if policy.give_up_after is not None:
            left = self._began_failing + policy.give_up_after - now
            if trouble.kind == "settings" or left <= 0 or asked > left:
                raise self._given_up(trouble, asked)
            wait = min(wait, left)
        elif trouble.kind == "settings":
            raise self._given_up(trouble, asked)
        return not self._stop.wait(max(wait, asked))

    def _given_up(self, trouble: Trouble, asked: float) -> DestinationError:
        told = f" ({trouble.told})" if trouble.told else ""
        wants = f", and asks to wait for {asked:.0f} s" if asked else ""
        return DestinationError(
            f"destination {self._name}: {self._client.shown}: {trouble.answer}{told}{wants}",
            hint=trouble.hint or "what was not taken waits, and is sent by the next run",
            wait_seconds=asked,
        )

    def _keep_pace(self, events: int) -> None:
        if self._pause_per_event:
            now = time.monotonic()
            if self._free_at > now:
                self._stop.wait(self._free_at - now)
            self._free_at = max(self._free_at, now) + events * self._pause_per_event


def fitted(limits: Limits, *, most_events: int | None, most_bytes: int | None) -> Limits:
    """Return limits as an operator wants them, within those of the API."""
    return Limits(
        min(most_events or limits.most_events, limits.most_events),
        min(most_bytes or limits.most_bytes, limits.most_bytes),
        limits.most_event_bytes,
    )


def _is_of_one(trouble: Trouble, request: Request) -> bool:
    """Whether one event of several may be why a request was not taken."""
    return trouble.kind == "batch" or (trouble.answer == _FAILED and request.has_failed_in_part)
