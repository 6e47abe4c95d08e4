"""When each stream was last heard of: the symptom by which a stopped one is known.

    <spool>/.streams/<stream>.json   {"stream": …, "listening_since": …, "last_delivery_at": … or null}

Written by receivers every few seconds, read by `status` and `doctor`; nothing else depends
on it. Several receivers of one spool may write: the newest delivery counts.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any, Final, NamedTuple

from archiver import clock
from archiver.errors import SourceError

STREAMS: Final = ".streams"


class Activity(NamedTuple):
    """Of one stream; times in microseconds since 1970.

    `listening_since`: since when the receiver that wrote last was there. `last_delivery_at`:
    None before the first one.
    """

    stream: str
    listening_since: int
    last_delivery_at: int | None

    def silent_seconds(self, now_us: int) -> float:
        """How long nothing came: since the last delivery, or since somebody listens."""
        since = self.listening_since if self.last_delivery_at is None else self.last_delivery_at
        return max(now_us - since, 0) / 1_000_000


def record(spool: Path, activity: Activity) -> None:
    """Remember what a receiver heard; a later delivery that another one noted stays.

    Not synced: after a loss of power an older time may stand there.

    Raises:
        OSError: It could not be written.
    """
    folder = spool / STREAMS
    folder.mkdir(exist_ok=True)
    path = folder / f"{activity.stream}.json"
    before = _read(path)
    times = [one for one in (activity.last_delivery_at, before and before.last_delivery_at) if one]
    tree = {
        "stream": activity.stream,
        "listening_since": clock.to_text(activity.listening_since),
        "last_delivery_at": clock.to_text(max(times)) if times else None,
    }
    temporary = folder / f".{secrets.token_hex(8)}"
    try:
        temporary.write_text(json.dumps(tree) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def activities(spool: Path) -> list[Activity]:
    """Return what is known of the streams of a spool, by name.

    Raises:
        SourceError: The folder cannot be read. A file that is damaged counts as not there.
    """
    try:
        names = sorted(path.name for path in (spool / STREAMS).iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SourceError(f"{spool / STREAMS}: cannot be read: {error.strerror}") from error
    found = (_read(spool / STREAMS / name) for name in names if name.endswith(".json") and name[0] != ".")
    return [one for one in found if one is not None]


def _read(path: Path) -> Activity | None:
    try:
        tree: Any = json.loads(path.read_bytes()[:65_536])
        last = tree["last_delivery_at"]
        return Activity(
            str(tree["stream"]),
            clock.from_text(tree["listening_since"]),
            None if last is None else clock.from_text(last),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
