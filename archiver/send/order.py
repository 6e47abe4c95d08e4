"""In which order deliveries leave, and which come twice: by chance, but the same for the same seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

WINDOW_DELIVERIES: Final = 10_000
WINDOW_BYTES: Final = 64 * 1024 * 1024
_SOON: Final = 50
_LATER: Final = 5_000


class Posting(NamedTuple):
    """One delivery to send. `number` is its place in the input, from 0; a repeat has that of its original."""

    number: int
    body: bytes
    is_repeat: bool


def arranged(
    bodies: Iterable[bytes], *, shuffle: bool = False, repeats: float = 0.0, seed: int = 0
) -> Iterator[Posting]:
    """Yield every body once, and a share of them once more behind that; holds at most two windows of them.

    Args:
        shuffle: Whether the order changes, within the window.
        repeats: The share that comes again: half of it within 50 deliveries, half within 5,000.
    """
    chance = random.Random(seed)  # noqa: S311  (an order, not a secret)
    postings = (Posting(number, body, False) for number, body in enumerate(bodies))
    originals = _shuffled(postings, chance) if shuffle else postings
    return _repeated(originals, repeats, chance) if repeats else originals


def _shuffled(postings: Iterator[Posting], chance: random.Random) -> Iterator[Posting]:
    window: list[Posting] = []
    size = 0
    for posting in postings:
        window.append(posting)
        size += len(posting.body)
        while len(window) >= WINDOW_DELIVERIES or size > WINDOW_BYTES:
            drawn = _drawn(window, chance)
            size -= len(drawn.body)
            yield drawn
    while window:
        yield _drawn(window, chance)


def _drawn(window: list[Posting], chance: random.Random) -> Posting:
    at = chance.randrange(len(window))
    window[at], window[-1] = window[-1], window[at]
    return window.pop()


def _repeated(originals: Iterator[Posting], share: float, chance: random.Random) -> Iterator[Posting]:
    waiting: list[tuple[int, Posting]] = []  # a heap, by the place behind which it is due
    size = 0
    for place, posting in enumerate(originals):
        yield posting
        if chance.random() < share:
            wait = chance.randint(1, _SOON if chance.random() < 0.5 else _LATER)
            heapq.heappush(waiting, (place + wait, posting._replace(is_repeat=True)))
            size += len(posting.body)
        while waiting and (waiting[0][0] <= place or size > WINDOW_BYTES):
            due = heapq.heappop(waiting)[1]
            size -= len(due.body)
            yield due
    while waiting:
        yield heapq.heappop(waiting)[1]
