"""The valid events of a block on their way: the archive's verdict, and as little more as can be.

`archiver.validate` makes all columns of an event. Here nobody looks at most of them, and making
them is what takes the time.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

import pyarrow as pa

from archiver.block import Block
from archiver.event import Form
from archiver.forward.base import Outgoing
from archiver.forward.events import COLUMNS, ROW_EVENT_TYPE, outgoing
from archiver.refusal import Refused
from archiver.validate import Rules, Validator

NEEDED: Final = frozenset({"ordinal"}.union(*COLUMNS.values())) - {"body", "received_at"}
_SLICE: Final = 1_024
_place: Final = attrgetter("place")


class Judged(Validator):
    """Finds the valid events of blocks. The verdict is `Validator`'s, whose proofs it uses.

    Raises:
        ConfigError: A schema of the rules cannot be used.
    """

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules, only=NEEDED)
        self._found: list[Outgoing] = []

    def events(self, block: Block, taken: int = 0) -> tuple[list[Outgoing], int]:
        """Return the valid events of a block behind the first `taken` elements, and how many are invalid."""
        self._found = []
        verdict = self.validate(block)
        found, self._found = self._found, []
        for dataset, rows in verdict.tables.items():
            if dataset in ("events", "alerts"):
                ordinals: list[int] = rows.column("ordinal").to_pylist()
                numbers = _numbers_of(block, ordinals)
                found += outgoing(
                    rows,
                    dataset,  # type: ignore[arg-type]
                    [ordinal + 1 for ordinal in ordinals],
                    [block.bodies[number] for number in numbers],
                    [block.received_at[number] for number in numbers],
                )
        found.sort(key=_place)
        if found and found[0].place <= taken:
            found = [event for event in found if event.place > taken]
        return found, sum(rejection.ordinal >= taken for rejection in verdict.rejections)

    def _prove_typed(self, block: Block, batches: dict[str, list[pa.RecordBatch]]) -> list[int]:  # noqa: ARG002
        """Keep what the quickest way proves as events at once; return the numbers of the other bodies."""
        left: list[int] = []
        if self._typed is None:
            return [*range(len(block.bodies))]
        bodies, received_at, ordinals = block.bodies, block.received_at, block.ordinals
        for start in range(0, len(bodies), _SLICE):
            found = self._typed.find(bodies, range(start, min(start + _SLICE, len(bodies))))
            left += found.rest
            keep = self.allowed(block, found.numbers, found.workspaces)
            if keep is not None:
                left += [found.numbers[row] for row in {*range(len(found.numbers))} - {*keep}]
                found = found.only(keep)
            count = len(found.numbers)
            self._found += map(
                Outgoing,
                [bodies[number] for number in found.numbers],
                ["events"] * count,
                found.ids,
                found.workspaces,
                [ROW_EVENT_TYPE] * count,
                found.actions,
                found.times_us,
                [received_at[number] for number in found.numbers],
                [ordinals[number] + 1 for number in found.numbers],
            )
        return sorted(left)

    def _ask_judge(self, form: Form, tree: Any) -> None:
        # Only whether: `run` keeps what is invalid, and says why.
        try:
            is_valid = self._forms[form].judge.allows(tree)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a judge may raise anything
            raise Refused("unjudgeable", type(error).__name__) from None
        if not is_valid:
            raise Refused("invalid", "")


def _numbers_of(block: Block, ordinals: list[int]) -> list[int]:
    """Return where in the block's lists the elements with these ordinals are."""
    first, last = block.ordinals[0], block.ordinals[-1]
    if last - first == len(block.ordinals) - 1:
        return [ordinal - first for ordinal in ordinals]
    number_of = {ordinal: number for number, ordinal in enumerate(block.ordinals)}
    return [number_of[ordinal] for ordinal in ordinals]
