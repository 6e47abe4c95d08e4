"""The table of damages, and how one is entered: by a function that is named after it."""

from __future__ import annotations

from collections.abc import Callable

from archiver import layout
from tests.golden.forge import Forge

Named = set[tuple[str, str]]
Damage = Callable[[Forge], Named]
PARQUET: dict[str, Damage] = {}
LINES: dict[str, Damage] = {}


def _of(table: dict[str, Damage]) -> Callable[[Damage], Damage]:
    def register(function: Damage) -> Damage:
        table[function.__name__.replace("_", "-")] = function
        return function

    return register


# Those that need columns are done to Parquet, the others to JSON lines, which are smaller.
parquet, lines = _of(PARQUET), _of(LINES)


def commit(sequence: int) -> str:
    """Return the key of a commit, to be named."""
    return layout.commit(sequence)
