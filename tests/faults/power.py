"""What a loss of power may leave of a spool, given what was made durable before.

Durable are the first bytes of a file, as many as it had when an fsync of it began, and the
names that a folder had when an fsync of it began. Of all later bytes any part may be there,
or zeros or rubbish in their place; of all later changes of names each may have happened or not.
A segment's files are told apart by the random part of their names, which no other ever has.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from archiver.segment import MAGIC
from tests.faults.calls import Record

Loss = Literal["all", "cut", "zeros", "rubbish"]
LOSSES: Final[tuple[Loss, ...]] = ("all", "cut", "zeros", "rubbish")


def lose_power(spool: Path, records: Iterable[Record], place: Path, loss: Loss, draw: random.Random) -> int:
    """Write at `place` what may be left of a spool whose receiver was killed.

    Args:
        records: What was made durable while the receiver lived.
        loss: `all`: nothing stays but what is durable. Otherwise each name and the end of each
            file are drawn, and what follows that end is not there, zeros or rubbish.

    Returns:
        How many bytes and names are not what they were.
    """
    folders = [spool, *sorted(path for path in (spool / "consumers").glob("*") if path.is_dir())]
    sizes: dict[str, int] = {}
    names: dict[Path, dict[str, str]] = {folder: {} for folder in folders}
    for record in records:
        if record.kind == "F" and record.path.parent in names:
            sizes[_segment(record.path.name)] = int(record.told)
        elif record.kind == "D" and record.path in names:
            names[record.path] = _segments(record.told.split("/"))
    lost = 0
    written: dict[str, Path] = {}
    for folder in folders:
        there = place / folder.relative_to(spool)
        there.mkdir(parents=True)
        now = _segments(path.name for path in folder.iterdir())
        for one in sorted(now.keys() | names[folder].keys()):
            before = names[folder].get(one)
            name = before if loss == "all" or draw.random() < 0.5 else now.get(one)
            lost += name != now.get(one)
            if name is None:
                continue
            if one in written:
                (there / name).hardlink_to(written[one])
                continue
            # What was taken away had nothing in it: receivers take away nothing else.
            content = (folder / now[one]).read_bytes() if one in now else MAGIC
            left = _left(content, min(sizes.get(one, 0), len(content)), loss, draw)
            lost += left != content
            (there / name).write_bytes(left)
            written[one] = there / name
    for extra in (".streams", ".archive.json"):
        # Never synced, or of no use to a receiver: rubbish may stand there.
        if (spool / extra).is_dir():
            shutil.copytree(spool / extra, place / extra)
            for path in (place / extra).iterdir():
                path.write_bytes(draw.choice((b"", bytes(100), b'{"stream": "web', path.read_bytes())))
    return lost


def _left(content: bytes, durable: int, loss: Loss, draw: random.Random) -> bytes:
    end = durable if loss == "all" else draw.randint(durable, len(content))
    if loss == "zeros":
        return content[:end] + bytes(len(content) - end)
    if loss == "rubbish":
        return content[:end] + draw.randbytes(len(content) - end)
    return content[:end]


def _segment(name: str) -> str:
    return name.removeprefix(".").removesuffix(".live")


def _segments(names: Iterable[str]) -> dict[str, str]:
    return {_segment(name): name for name in names if _segment(name).endswith(".seg")}
