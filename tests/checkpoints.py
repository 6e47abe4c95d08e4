"""Small row groups for checkpoints, and which parts of them are in a store."""

from __future__ import annotations

import pytest

from archiver import layout
from archiver.ledger import checkpoint_parts
from archiver.store.base import Store


@pytest.fixture(autouse=True)
def _small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows a group, so that small ledgers have many."""
    for kind, rows in (("files", 16), ("removals", 4), ("commits", 8)):
        monkeypatch.setitem(checkpoint_parts.GROUP_ROWS, kind, rows)  # type: ignore[misc]


def _parts(store: Store) -> list[str]:
    return [info.key for info in store.list(layout.CHECKPOINT_PARTS)]
