"""When each stream was last heard of: the symptom by which a stopped one is known.

    <spool>/.streams/<stream>.json   {"stream": …, "listening_since": …, "last_delivery_at": … or null}

Written by receivers every few seconds, read by `status`, `doctor` and metrics; nothing else
depends on it. Several receivers of one spool may write: the newest delivery counts.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from archiver import clock
from archiver.errors import SourceError
from archiver.streams import NAME

STREAMS: Final = ".streams"
TOLERATED_US: Final = 60_000_000

_LARGEST_BYTES: Final = 65_536


class Activity(NamedTuple):
    """Of one stream; times in microseconds since 1970.

    `listening_since`: since when somebody listens for it; of a stream that was never heard,
    since when first. `last_delivery_at`: None before the first one.
    """

    stream: str
    listening_since: int
    last_delivery_at: int | None

    def silent_seconds(self, now_us: int) -> float:
        """How long nothing came: since the last delivery, or since somebody listens."""
        since = self.listening_since if self.last_delivery_at is None else self.last_delivery_at
        return max(now_us - since, 0) / 1_000_000

    def is_ahead(self, now_us: int) -> bool:
        """Whether the last delivery lies in the future: the clock was set back; no silence shows."""
        return self.last_delivery_at is not None and self.last_delivery_at > now_us + TOLERATED_US


def record(spool: Path, activity: Activity, *, now_us: int | None = None) -> None:
    """Remember what a receiver heard; a later delivery that another one noted stays.

    A time in the future is not believed: it was noted before the clock was set back, and
    would hide any silence for as long. Not synced: after a loss of power an older time may
    stand there.

    Raises:
        OSError: It could not be written.
    """
    latest = (clock.now_us() if now_us is None else now_us) + TOLERATED_US
    folder = spool / STREAMS
    folder.mkdir(exist_ok=True)
    path = folder / f"{activity.stream}.json"
    known = [one for one in (activity, _read(path)) if one is not None]
    heard = [one.last_delivery_at for one in known if one.last_delivery_at is not None]
    since = activity.listening_since
    if not heard:
        since = min(one.listening_since for one in known)
    last = max((one for one in heard if one <= latest), default=None)
    if last is None:
        last = activity.last_delivery_at
    tree = {
        "stream": activity.stream,
        "listening_since": clock.to_text(since),
        "last_delivery_at": None if last is None else clock.to_text(last),
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


def newest(spools: Iterable[Path]) -> dict[str, Activity]:
    """Return what is known of each stream in any of these spools: its newest delivery anywhere.

    Raises:
        SourceError: A folder cannot be read.
    """
    found: dict[str, Activity] = {}
    for spool in spools:
        for one in activities(spool):
            found[one.stream] = _merged(one, found.get(one.stream, one))
    return found


def _merged(one: Activity, other: Activity) -> Activity:
    times = [each.last_delivery_at for each in (one, other) if each.last_delivery_at is not None]
    since = min(one.listening_since, other.listening_since)
    return Activity(one.stream, since, max(times, default=None))


def _read(path: Path) -> Activity | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # whatever lies there
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            tree: Any = json.loads(file.read(_LARGEST_BYTES))
        last = tree["last_delivery_at"]
        # Any other name is a stranger's: it could forge lines where it is shown.
        if NAME.fullmatch(tree["stream"]) is None or f"{tree['stream']}.json" != path.name:
            return None
        return Activity(
            tree["stream"],
            clock.from_text(tree["listening_since"]),
            None if last is None else clock.from_text(last),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
