"""Realistic deliveries for demos, tests and benchmarks, the same ones for the same seed.

A *delivery* is the body of one signed POST of the vendor's log streams (docs/format.md),
with the moment it was received and the stream that sent it. Most are events of a few busy
and many quiet workspaces, written the way different senders write JSON; some are alerts,
some come twice, some are invalid, and in the night of the middle day somebody breaks in
(`archiver.synthetic.story`). Every delivery says what it is, so that a test can hold the
archive against the truth.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date
from itertools import starmap
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple, TypedDict, Unpack

from archiver import durable
from archiver.errors import ConfigError, SourceError
from archiver.progress import Progress, Silent
from archiver.segment import SegmentWriter
from archiver.synthetic.deliveries import Fields, Kind, Mix, stream
from archiver.synthetic.invalid import FAULTS

Format = Literal["segments", "jsonl"]

SEGMENT_BYTES: Final = 16 * 1024 * 1024
JSONL_BYTES: Final = 64 * 1024 * 1024
MANIFEST: Final = ".manifest.json"
_STEP: Final = 8192  # deliveries between two reports of progress


class Options(TypedDict, total=False):
    """What `generate` takes beside `events`; explained there."""

    seed: int
    workspaces: int
    days: int
    invalid: float
    duplicates: float
    conflicts: float
    supplements: float
    alerts: float
    until: date


class Delivery(NamedTuple):
    """A delivery, and the truth about it.

    Attributes:
        body: The bytes as they come.
        received_at: Microseconds since 1970, UTC; never before that of the delivery before it.
        stream: The configured sender.
        kind: What must become of it: `event` and `alert` are archived; a `duplicate` repeats an
            earlier delivery, a `supplement` adds members to one; a `conflict` contradicts one
            and goes to quarantine, as does what is `invalid`.
        dataset, workspace_id, id: Its identity; None if it is invalid.
        fault: Which of `synthetic.invalid.FAULTS`, or None.
    """

    body: bytes
    received_at: int
    stream: str
    kind: Kind
    dataset: str | None
    workspace_id: str | None
    id: str | None
    fault: str | None


@dataclass(slots=True)
class Generated:
    """What was written.

    Attributes:
        deliveries: All of them: the sum of the next six.
        events, alerts: Valid, and the first of their identity.
        invalid_by_fault: Sums to `invalid`.
        files: In the order they were written.
        bytes: Of all bodies together, without frames and line ends.
    """

    deliveries: int = 0
    events: int = 0
    alerts: int = 0
    duplicates: int = 0
    supplements: int = 0
    conflicts: int = 0
    invalid: int = 0
    invalid_by_fault: dict[str, int] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """The same for `json.dumps`, paths as text."""
        return asdict(self) | {"files": [str(path) for path in self.files]}


@dataclass(slots=True)
class Expected:
    """What an archive that took all the deliveries, in their order, must hold.

    Attributes:
        archived: (dataset, workspace, id) -> body; datasets `events` and `alerts`.
        supplemented: Identities of which `supplements` has a row.
        duplicates: How many deliveries were repeats.
        quarantined: How many there are for each of `archiver.block.REASONS`.
    """

    archived: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    supplemented: set[tuple[str, str, str]] = field(default_factory=set)
    duplicates: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)


def deliveries(*, events: int, newlines: bool = True, **options: Unpack[Options]) -> Iterator[Delivery]:
    """Yield `events` deliveries in the order they are received.

    Args:
        newlines: Whether a body may hold line breaks, as pretty-printed JSON does.
        options: As for `generate`.
    """
    return starmap(Delivery, stream(Mix(events, **options), newlines=newlines))


def generate_bodies(
    *, events: int, newlines: bool = True, **options: Unpack[Options]
) -> Iterator[tuple[bytes, int, str]]:
    """Yield body, received_at and stream of the same deliveries, for whoever needs no truth."""
    return (found[:3] for found in stream(Mix(events, **options), newlines=newlines))


def expected(found: Iterable[Delivery]) -> Expected:
    """Say what must become of `found`, which holds originals before their repeats."""
    truth = Expected()
    for delivery in found:
        if delivery.kind == "duplicate":
            truth.duplicates += 1
        elif delivery.fault is not None:
            truth.quarantined[FAULTS[delivery.fault][0]] += 1
        elif delivery.kind == "conflict":
            truth.quarantined["conflict"] += 1
        else:
            identity = (delivery.dataset or "", delivery.workspace_id or "", delivery.id or "")
            if delivery.kind == "supplement":
                truth.supplemented.add(identity)
            else:
                truth.archived[identity] = delivery.body
    return truth


def generate(
    *,
    events: int,
    out: Path,
    as_: Format = "segments",
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Generated:
    """Write `events` deliveries into the folder `out`, which may be a spool in use.

    The same arguments give the same bodies in the same order, with the same received_at.
    The dot-file `.manifest.json` beside them tells the counts; a spool takes no notice of it.

    Args:
        events: Deliveries of all kinds together.
        out: Created when it is missing. Every file appears whole or not at all.
        as_: `segments` writes sealed segments of about 16 MiB, `jsonl` files of about 64 MiB
            with one body a line (then no body is pretty-printed).
        progress: Told the deliveries written, as rows.
        options: `seed`; `workspaces`, a few busy and many quiet ones; `days` of UTC that end with
            `until`, in which every row lies by its envelope's time; and the shares of the
            deliveries that are `invalid`, `duplicates`, `conflicts`, `supplements`, `alerts`.

    Raises:
        ConfigError: A number is out of its range, or `out` has files of these names.
        SourceError: A file cannot be written. What was finished before stays.
    """
    mix = Mix(events, **options)
    progress = progress or Silent()
    out = Path(out)
    writer = _Segments(out) if as_ == "segments" else _Lines(out, f"seed-{mix.seed}")
    kinds: Counter[Kind] = Counter()
    faults: Counter[str] = Counter()
    body_bytes = number = 0
    progress.start("generate", None)
    try:
        durable.make_folders(out)
        for number, found in enumerate(stream(mix, newlines=as_ == "segments"), 1):
            writer.append(found)
            body_bytes += len(found[0])
            if found[3] != "event":
                kinds[found[3]] += 1
                if found[7] is not None:
                    faults[found[7]] += 1
            if not number % _STEP:
                progress.advance(rows=_STEP)
        writer.close()
        progress.advance(rows=number % _STEP)
        done = Generated(
            deliveries=number,
            events=number - kinds.total(),
            alerts=kinds["alert"],
            duplicates=kinds["duplicate"],
            supplements=kinds["supplement"],
            conflicts=kinds["conflict"],
            invalid=kinds["invalid"],
            invalid_by_fault=dict(sorted(faults.items())),
            files=writer.files,
            bytes=body_bytes,
        )
        durable.replace(out / MANIFEST, json.dumps(done.as_json(), indent=2).encode())
    except OSError as error:
        raise SourceError(f"{out}: cannot write deliveries: {error.strerror or error}") from error
    finally:
        writer.discard()
        progress.finish()
    return done


class _Segments:
    """Sealed segments, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SegmentWriter | None = None
        self.files: list[Path] = []

    def append(self, found: Fields) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._folder)
        self._writer.append(found[0], found[1], found[2])
        if self._writer.bytes >= SEGMENT_BYTES:
            self.close()

    def close(self) -> None:
        """Seal what is open."""
        if self._writer is not None:
            self.files.append(self._writer.seal())
            self._writer = None

    def discard(self) -> None:
        """Give up what is not sealed."""
        if self._writer is not None:
            self._writer.discard()


class _Lines:
    """Files of JSON lines, `<name>-00000.jsonl` and so on, each under a dot-name until it is whole."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._file: BinaryIO | None = None
        self._bytes = 0
        self.files: list[Path] = []

    def _path(self) -> Path:
        return self._folder / f"{self._name}-{len(self.files):05d}.jsonl"

    def _open_path(self) -> Path:
        return self._folder / f".{self._path().name}.open"

    def append(self, found: Fields) -> None:
        if self._file is None:
            self._file = self._open_path().open("wb", buffering=1024 * 1024)
            self._bytes = 0
        self._bytes += self._file.write(found[0] + b"\n")
        if self._bytes >= JSONL_BYTES:
            self.close()

    def close(self) -> None:
        """Make the file durable and visible."""
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        path = self._path()
        try:
            os.link(self._open_path(), path)
        except FileExistsError:
            raise ConfigError(
                f"{path}: is there already", hint="Choose another --seed, or an empty folder."
            ) from None
        self.discard()
        durable.sync_folder(self._folder)
        self.files.append(path)

    def discard(self) -> None:
        """Give up what has no name yet."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._open_path().unlink(missing_ok=True)
