"""One day's deliveries of the same workspaces as all other days'.

    python -m tests.bench.days --day 2024-01-01 --number 0 --events 200000 --out SPOOL

`archiver generate` draws its workspaces anew from each seed. An archive that grows needs the
same senders every day with other events, so here only the events follow the seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from random import Random
from unittest.mock import patch

from archiver.generate import generate
from archiver.synthetic import deliveries as stream
from archiver.synthetic.cast import Workspace, draw_workspaces


@contextmanager
def same_workspaces() -> Iterator[None]:
    """As long as this lasts, every seed gives deliveries of the same workspaces."""

    def drawn(_: Random, count: int, *, actors: int) -> list[Workspace]:
        return draw_workspaces(Random(0), count, actors=actors)

    with patch.object(stream, "draw_workspaces", drawn):
        yield


def fill(spool: Path, day: date, number: int, events: int, workspaces: int = 50) -> None:
    """Put the deliveries of the day with this number into a spool."""
    with same_workspaces():
        generate(events=events, out=spool, seed=number, workspaces=workspaces, days=1, until=day)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--day", type=date.fromisoformat, required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--workspaces", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    fill(given.out, given.day, given.number, given.events, given.workspaces)


if __name__ == "__main__":
    main()
