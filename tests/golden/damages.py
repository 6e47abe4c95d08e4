"""Every kind of damage that verify names, and every kind of archive that is refused.

Each is done to a copy of the short story.
"""

from __future__ import annotations

from collections.abc import Callable

from archiver.ledger.entry import Counts
from tests.golden import damaged_commits, damaged_objects  # noqa: F401 - they fill the tables
from tests.golden.forge import Forge
from tests.golden.kinds import LINES, PARQUET

__all__ = ["LINES", "NEED_A_HEAD", "PARQUET", "REFUSED"]

# Found only by who holds the archive against a head that was written down before.
NEED_A_HEAD = {"truncated", "forked"}


# --- not of this version -----------------------------------------------------------------------------------


def format_2(forge: Forge) -> None:
    forge.append(format=2)


def unknown_operation(forge: Forge) -> None:
    forge.append("split")


def unknown_data_format(forge: Forge) -> None:
    forge.edit(0, lambda tree: tree["archive"].update(data_format="orc"))


def unknown_partitioning(forge: Forge) -> None:
    forge.edit(0, lambda tree: tree["archive"].update(partitioning=["workspace", "hour"]))


def unknown_version_of_columns(forge: Forge) -> None:
    forge.edit(0, lambda tree: tree["archive"]["datasets"].update(events=2))


def unknown_dataset(forge: Forge) -> None:
    entry = forge.copy_as(forge.entries(8)[0], folder="sessions/workspace=ws_3/dt=2026-03-26")
    forge.append(added=[{**entry, "dataset": "sessions"}], counts=Counts(read=1, archived=1).to_json())


def unknown_suffix(forge: Forge) -> None:
    entry = forge.copy_as(forge.entries(8)[0])
    key = entry["key"].replace(".jsonl.zst", ".orc")
    (forge.root / entry["key"]).rename(forge.root / key)
    forge.append(added=[{**entry, "key": key}], counts=Counts(read=1, archived=1).to_json())


# What is refused, and with which exit code: 20 for a commit, 2 for an archive of another kind.
REFUSED: dict[str, tuple[Callable[[Forge], None], int]] = {
    "format-2": (format_2, 20),
    "unknown-operation": (unknown_operation, 20),
    "unknown-dataset": (unknown_dataset, 20),
    "unknown-suffix": (unknown_suffix, 20),
    "unknown-data-format": (unknown_data_format, 2),
    "unknown-partitioning": (unknown_partitioning, 2),
    "unknown-version-of-columns": (unknown_version_of_columns, 2),
}
