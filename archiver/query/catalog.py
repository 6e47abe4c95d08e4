"""The named queries: those that came with the program, and those in a user's own folders.

A folder holds one `*.sql` file a question; `archiver.query.header` tells how one is written.
A name in a later folder takes the place of the same one in an earlier. A file that is no query
is listed with its problem, and does not hold up the others.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from archiver.errors import ConfigError
from archiver.query.header import Column, Drawing, Kind, Parameter, Query, Value, nearest, parse

__all__ = [
    "TOPICS",
    "Catalog",
    "Column",
    "Drawing",
    "Entry",
    "Kind",
    "Parameter",
    "Query",
    "Value",
    "by_topic",
    "nearest",
    "queries_folder",
    "read_query",
    "text_of_file",
]

LARGEST_FILE_BYTES: Final = 262_144
TOPICS: Final = ("Who did what", "Overview", "Logins", "Suspicious behaviour", "The stream itself")

_INSTALLED: Final = Path(__file__).parent.parent / "queries"
_CHECKOUT: Final = Path(__file__).parent.parent.parent / "queries"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in one of the catalog's folders.

    Attributes:
        name: Of the file, without its suffix.
        query: What it says; None if it is no query.
        problem: Why it is none, or an empty text.
        replaces: The file of the same name whose place it takes.
        is_own: It lies in a user's folder; else it came with the program.
    """

    name: str
    path: Path
    query: Query | None
    problem: str
    replaces: Path | None
    is_own: bool

    @property
    def topic(self) -> str:
        """What it is listed under."""
        return (self.query.topic if self.query else "") or ("Your own" if self.is_own else "Others")


@dataclass(frozen=True, slots=True)
class Catalog:
    """The queries that came with the program, and those in a user's folders.

    Attributes:
        folders: Where to look, the program's own first.
    """

    folders: tuple[Path, ...] = field(default_factory=lambda: (queries_folder(),))

    @staticmethod
    def of(folders: Iterable[str | Path] = ()) -> Catalog:
        """Return the program's queries and those of `folders`.

        Raises:
            ConfigError: One is no folder.
        """
        found = {os.path.realpath(queries_folder()): queries_folder()}
        for folder in map(Path, folders):
            if not folder.is_dir():
                raise ConfigError(f"{folder}: no such folder", hint="name a folder of *.sql files")
            found.setdefault(os.path.realpath(folder), folder)
        return Catalog(tuple(found.values()))

    def names(self) -> list[str]:
        """Return the names of all queries, in order. No file is read.

        Raises:
            ConfigError: A folder cannot be read.
        """
        return sorted(name for name in self._paths() if _NAME.fullmatch(name))

    def __iter__(self) -> Iterator[Query]:
        """Yield every query, by name; what is none is left out."""
        return (entry.query for entry in self.entries() if entry.query is not None)

    def entries(self) -> list[Entry]:
        """Return every file, by name, with what it says or why it is no query.

        Raises:
            ConfigError: A folder cannot be read.
        """
        return [self._entry(name, paths) for name, paths in sorted(self._paths().items())]

    def entry(self, name: str) -> Entry:
        """Return the file that a name stands for.

        Raises:
            ConfigError: None is called that.
        """
        paths = self._paths()
        if name not in paths:
            close = nearest(name, (one for one in paths if _NAME.fullmatch(one)))
            hint = close if close.startswith("did") else "`archiver queries` lists all that there are"
            raise ConfigError(f"no query is called {name!r:.60}", hint=hint)
        return self._entry(name, paths[name])

    def get(self, name: str) -> Query:
        """Return a query.

        Raises:
            ConfigError: There is none of that name, or its file is no query.
        """
        entry = self.entry(name)
        return entry.query or read_query(entry.path)

    def _entry(self, name: str, paths: Sequence[Path]) -> Entry:
        query, problem = None, ""
        try:
            query = read_query(paths[-1])
        except ConfigError as error:
            problem = error.message.removeprefix(f"{paths[-1]}: ")
        replaces = paths[-2] if len(paths) > 1 else None
        return Entry(name, paths[-1], query, problem, replaces, paths[-1].parent != queries_folder())

    def _paths(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for folder in self.folders:
            try:
                inside = sorted(folder.iterdir())
            except OSError as error:
                raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from error
            for file in inside:
                if file.suffix == ".sql" and not file.name.startswith("."):
                    found.setdefault(file.stem, []).append(file)
        return found


def by_topic(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Return the files under their topics: the program's in a fixed order, then others, then the rest."""
    found: dict[str, list[Entry]] = {topic: [] for topic in TOPICS}
    for entry in sorted(entries, key=lambda one: (one.topic in ("Others", "Your own"), one.topic, one.name)):
        found.setdefault(entry.topic, []).append(entry)
    return {topic: inside for topic, inside in found.items() if inside}


def queries_folder() -> Path:
    """Return the folder of queries that came with the program: beside it, or in the checkout."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def read_query(path: Path) -> Query:
    """Read one file.

    Raises:
        ConfigError: It cannot be read, its name is none for a query, or its header is not one.
    """
    if not _NAME.fullmatch(path.stem):
        raise ConfigError(
            f"{path}: a query's file is called by lower-case letters, digits and _, first a letter, and .sql"
        )
    try:
        return parse(path, text_of_file(path))
    except ValueError as error:
        raise ConfigError(
            f"{path}: {error}", hint="`archiver queries show failed_logins --sql` prints one to copy"
        ) from None


def text_of_file(path: Path) -> str:
    """Return the text of a query's file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError(f"{path}: is no file")
        if about.st_size > LARGEST_FILE_BYTES:
            raise ConfigError(f"{path}: larger than {LARGEST_FILE_BYTES:,} bytes")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: {error}") from error
