"""One commit of the ledger: its parts, and its bytes.

A commit is canonical JSON (RFC 8785), so that its bytes and with them its digest follow
from its content. Counts and sizes stay below 2^53; times are text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args

import rfc8785

from archiver import __version__, clock, layout
from archiver.errors import IntegrityError
from archiver.ledger import shape

FORMAT: Final = 1
LONGEST_INLINE_LIST: Final = 1_000

Operation = Literal["init", "append", "requeue", "fence", "compact", "expire", "hold"]
OPERATIONS: Final[tuple[str, ...]] = get_args(Operation)
_LOOK: Final = "run `archiver verify`; if a newer version of archiver wrote it, use that one"
_NO_BODIES: Final = f"sha256:{hashlib.sha256(2 * hashlib.sha256().digest()).hexdigest()}"


def digest_of(content: bytes) -> str:
    """Return `sha256:<hex>` of `content`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows, all of one dataset, workspace and day.

    Attributes:
        key: In the archive.
        digest: Of the whole object.
        bytes: Of the whole object.
        rows: How many events it holds.
        min_us, max_us: Smallest and largest `event_time`, in microseconds since 1970.
        bodies: Digest of the rows' bodies in their order (`datafile.BodiesDigest`): what stays
            provable of them when another file has taken the rows over.
    """

    key: str
    digest: str
    bytes: int
    rows: int
    min_us: int
    max_us: int
    bodies: str = _NO_BODIES

    @property
    def partition(self) -> layout.Partition:
        found = layout.partition_of(self.key)
        if found is None:
            raise IntegrityError(f"{self.key}: expected the key of a data file")
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "dataset": self.partition.dataset,
            "key": self.key,
            "digest": self.digest,
            "bytes": self.bytes,
            "rows": self.rows,
            "min": clock.to_text(self.min_us),
            "max": clock.to_text(self.max_us),
            "bodies": self.bodies,
        }

    @staticmethod
    def from_json(tree: dict[str, Any]) -> DataFile:
        return DataFile(
            key=shape.data_key(tree),
            digest=shape.digest(tree, "digest"),
            bytes=shape.count(tree, "bytes"),
            rows=shape.count(tree, "rows"),
            min_us=clock.from_text(tree["min"]),
            max_us=clock.from_text(tree["max"]),
            bodies=shape.digest(tree, "bodies"),
        )


@dataclass(frozen=True, slots=True)
class ListedObject:
    """A quarantine file or a file list: an object with a known number of entries."""

    key: str
    digest: str
    bytes: int
    entries: int

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "digest": self.digest, "bytes": self.bytes, "entries": self.entries}

    @staticmethod
    def from_json(tree: dict[str, Any]) -> ListedObject:
        return ListedObject(
            key=shape.text(tree, "key"),
            digest=shape.digest(tree, "digest"),
            bytes=shape.count(tree, "bytes"),
            entries=shape.count(tree, "entries"),
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold as one commit sets or releases it: no row that it covers may expire.

    Attributes:
        name: Given by the operator; setting a name again replaces what it covered.
        workspace: Only this one; None is all.
        since_us, until_us: Rows at or after, and before; microseconds since 1970; None is open.
        reason: In the operator's words.
        released: Whether this commit ends it.
    """

    name: str
    workspace: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    reason: str = ""
    released: bool = False

    def covers(self, file: DataFile) -> bool:
        """Say whether a row of `file` may be one that this hold protects."""
        return (
            not self.released
            and (self.workspace is None or self.workspace == file.partition.workspace)
            and (self.since_us is None or file.max_us >= self.since_us)
            and (self.until_us is None or file.min_us < self.until_us)
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "workspace": self.workspace,
            "since": None if self.since_us is None else clock.to_text(self.since_us),
            "until": None if self.until_us is None else clock.to_text(self.until_us),
            "reason": self.reason,
            "released": self.released,
        }

    @staticmethod
    def from_json(tree: dict[str, Any]) -> Hold:
        return Hold(
            name=shape.text(tree, "name"),
            workspace=None if tree["workspace"] is None else shape.text(tree, "workspace"),
            since_us=None if tree["since"] is None else clock.from_text(tree["since"]),
            until_us=None if tree["until"] is None else clock.from_text(tree["until"]),
            reason=shape.text(tree, "reason"),
            released=shape.flag(tree, "released"),
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the elements that were read: `read` is the sum of the others."""

    read: int = 0
    archived: int = 0
    supplements: int = 0
    duplicates: int = 0
    quarantined: int = 0

    def adds_up(self) -> bool:
        return self.read == self.archived + self.supplements + self.duplicates + self.quarantined

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.read + other.read,
            self.archived + other.archived,
            self.supplements + other.supplements,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
        )

    def to_json(self) -> dict[str, int]:
        return {
            "read": self.read,
            "archived": self.archived,
            "supplements": self.supplements,
            "duplicates": self.duplicates,
            "quarantined": self.quarantined,
        }


COUNTED: Final = tuple(one.name for one in fields(Counts))


@dataclass(frozen=True, slots=True)
class Content:
    """What an attempt wants to commit: everything of a commit but its place in the chain.

    Attributes:
        operation: What kind of commit.
        batch, attempt: Whose it is; see docs/design.md.
        source: Configured name and, for a cursor source, the cursor before and after.
        inputs: Name, digest and size of each input of the batch.
        added: New data files, first those that are listed in `lists`, if any.
        lists: Objects that hold the entries of `added` where they are too many.
        removed: Keys of data files that are no longer live.
        quarantined: New quarantine files.
        moved: (commit, ordinal) of quarantined entries that a requeue took out.
        fenced: Attempts declared dead.
        counts: Of this commit.
        archive: Only in the first commit: what the archive is.
        hold: Only in a commit of the operation `hold`.
    """

    operation: Operation
    batch: str
    attempt: str
    source: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[dict[str, Any], ...] = ()
    added: tuple[DataFile, ...] = ()
    lists: tuple[ListedObject, ...] = ()
    removed: tuple[str, ...] = ()
    quarantined: tuple[ListedObject, ...] = ()
    moved: tuple[tuple[int, int], ...] = ()
    fenced: tuple[str, ...] = ()
    counts: Counts = Counts()
    archive: dict[str, Any] | None = None
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of the chain.

    Attributes:
        sequence: 0 for the first.
        previous: Digest of the previous commit's bytes; empty for the first.
        committed_us: Never before that of the previous commit.
        oldest_readable: The oldest sequence whose snapshot may still be asked for.
        content: What it says.
        digest: Of this commit's own bytes.
    """

    sequence: int
    previous: str
    committed_us: int
    oldest_readable: int
    content: Content
    digest: str = ""

    def encode(self) -> bytes:
        """Return the commit's bytes. Lists of files that lie beside it are named, not repeated."""
        said = self.content
        tree: dict[str, Any] = {
            "format": FORMAT,
            "sequence": self.sequence,
            "previous": self.previous,
            "committed_at": clock.to_text(self.committed_us),
            "operation": said.operation,
            "batch": said.batch,
            "attempt": said.attempt,
            "source": said.source,
            "inputs": list(said.inputs),
            "added": [] if said.lists else [file.to_json() for file in said.added],
            "lists": [file.to_json() for file in said.lists],
            "removed": list(said.removed),
            "quarantined": [file.to_json() for file in said.quarantined],
            "moved": [{"commit": commit, "ordinal": ordinal} for commit, ordinal in said.moved],
            "fenced": list(said.fenced),
            "counts": said.counts.to_json(),
            "oldest_readable": self.oldest_readable,
            "writer": {"name": "archiver", "version": __version__},
        }
        if said.archive is not None:
            tree["archive"] = said.archive
        if said.hold is not None:
            tree["hold"] = said.hold.to_json()
        return rfc8785.dumps(tree)


def decode(content: bytes, key: str) -> Commit:
    """Read a commit's bytes. Where its files stand in lists, `added` is empty until they are read.

    Raises:
        IntegrityError: It is no commit of a format that we know.
    """
    try:
        tree = shape.parse(content)
        # Before anything else: of another format, no other member means what it means here.
        if type(tree["format"]) is not int or tree["format"] != FORMAT:
            raise IntegrityError(
                f"{key}: expected format {FORMAT}, found {tree['format']!r:.20}",
                hint="a newer version of archiver wrote it; use that version or a later one",
            )
        if tree["operation"] not in OPERATIONS:
            raise IntegrityError(
                f"{key}: unknown operation {tree['operation']!r:.40}",
                hint="a newer version of archiver wrote it; use that version or a later one",
            )
        return _commit(tree, digest_of(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found = str(error) if isinstance(error, shape.ShapeError) else f"something else ({_why(error)})"
        raise IntegrityError(
            f"{key}: expected a commit, found {found}",
            hint=_LOOK,
        ) from error


def _why(error: Exception) -> str:
    return f"no member {error}" if isinstance(error, KeyError) else type(error).__name__


def _commit(tree: dict[str, Any], digest: str) -> Commit:
    sequence, counts = shape.count(tree, "sequence"), shape.record(tree, "counts")
    for member, place in (("archive", sequence == 0), ("hold", tree["operation"] == "hold")):
        if (member in tree) != place:
            raise shape.ShapeError(f"a member `{member}` where it must not be, or none where it must")
    if (tree["operation"] == "init") != (sequence == 0):
        raise shape.ShapeError("`init` at another place than the beginning, or another operation there")
    if tree["lists"] and tree["added"]:
        raise shape.ShapeError("both lists of files and files")
    previous = "" if sequence == 0 and tree["previous"] == "" else shape.digest(tree, "previous")
    return Commit(
        sequence=sequence,
        previous=previous,
        committed_us=clock.from_text(tree["committed_at"]),
        oldest_readable=shape.count(tree, "oldest_readable"),
        content=Content(
            operation=tree["operation"],
            batch=shape.batch(tree, "batch"),
            attempt=shape.attempt(tree, "attempt"),
            source=shape.source(tree),
            inputs=shape.inputs(tree),
            added=tuple(DataFile.from_json(file) for file in shape.array(tree, "added", dict)),
            lists=tuple(ListedObject.from_json(file) for file in shape.array(tree, "lists", dict)),
            removed=tuple(shape.array(tree, "removed", str)),
            quarantined=tuple(
                ListedObject.from_json(file) for file in shape.array(tree, "quarantined", dict)
            ),
            moved=tuple(
                (shape.count(one, "commit"), shape.count(one, "ordinal"))
                for one in shape.array(tree, "moved", dict)
            ),
            fenced=shape.attempts(tree, "fenced"),
            counts=Counts(*(shape.count(counts, name) for name in COUNTED)),
            archive=shape.record(tree, "archive") if "archive" in tree else None,
            hold=Hold.from_json(shape.record(tree, "hold")) if "hold" in tree else None,
        ),
        digest=digest,
    )


def encode_list(files: tuple[DataFile, ...]) -> bytes:
    """Return the bytes of a file list: canonical JSON, one object with one member, `added`."""
    return rfc8785.dumps({"added": [file.to_json() for file in files]})


def decode_list(content: bytes, listed: ListedObject) -> tuple[DataFile, ...]:
    """Read a file list and hold it against its entry in the commit.

    Raises:
        IntegrityError: It is not what the commit says.
    """
    found = digest_of(content)
    if found != listed.digest:
        raise IntegrityError(f"{listed.key}: expected {listed.digest}, found {found}", hint=_LOOK)
    try:
        said = shape.parse(content)
        files = tuple(DataFile.from_json(entry) for entry in shape.array(said, "added", dict))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"{listed.key}: expected a file list, found something else", hint=_LOOK
        ) from error
    if len(files) != listed.entries:
        raise IntegrityError(f"{listed.key}: expected {listed.entries} files, found {len(files)}", hint=_LOOK)
    return files
