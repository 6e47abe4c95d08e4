"""What was not delivered, kept in a segment, so that a second `send` can deliver exactly that."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from archiver import clock, durable, segment
from archiver.errors import ConfigError, SourceError
from archiver.segment import SegmentWriter
from archiver.sources.filing import shown


class NotDelivered:
    """A file that appears whole when it is sealed, and only if something was kept.

    Args:
        path: Ends in `.seg`; it must not be there yet.

    Raises:
        ConfigError: The name will not do, or the file is there. Nothing was written.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._writer: SegmentWriter | None = None
        self._folder: Path | None = None
        if not self._path.name.lower().endswith(segment.SUFFIX):
            raise ConfigError(f"{shown(self._path)}: its name must end in {segment.SUFFIX}")
        if os.path.lexists(self._path):
            hint = "deliver what is in it and remove it, or choose another name"
            raise ConfigError(f"{shown(self._path)}: is there already", hint=hint)
        if not self._path.absolute().parent.is_dir():
            raise ConfigError(f"{shown(self._path)}: its folder is not there")

    @property
    def kept(self) -> int:
        """Deliveries kept so far."""
        return self._writer.frames if self._writer else 0

    def keep(self, body: bytes) -> None:
        """Add a body; it is durable only after `seal`.

        Raises:
            SourceError: The disk refused it, or it is longer than 32 MiB.
        """
        if self._writer is None:
            try:
                # A folder of its own: the segment must not be seen by anybody before it has its name.
                parent = self._path.absolute().parent
                self._folder = Path(tempfile.mkdtemp(dir=parent, prefix=".not-delivered-"))
            except OSError as error:
                raise SourceError(f"{shown(self._path)}: cannot write it: {error.strerror}") from error
            self._writer = SegmentWriter(self._folder)
        self._writer.append(body, clock.now_us())

    def seal(self) -> Path | None:
        """Give the file its name, durably, and return it; None if nothing was kept.

        Raises:
            SourceError: The disk refused, or somebody took the name: what was kept is where the message says.
        """
        if self._writer is None or self._folder is None:
            return None
        sealed = self._writer.seal()
        try:
            os.link(sealed, self._path)
            durable.sync_folder(self._path.absolute().parent)
        except OSError as error:
            raise SourceError(
                f"{shown(self._path)}: cannot give it its name: {error.strerror}; it is {sealed}"
            ) from error
        self._remove_folder()
        return self._path

    def discard(self) -> None:
        """Give up what was kept."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None
            self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
