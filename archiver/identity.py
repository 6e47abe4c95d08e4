"""New, duplicate, supplement or conflict? Decided against the archive, row by row.

Identity is (dataset, workspace, id) among rows whose event times lie within the identity
window. A cheap hash says which rows may be known (`archiver.index.known`); every hit is
confirmed on the archived row itself, so a hash that collides costs a read and never an event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from archiver import clock, compare
from archiver.block import Rejection
from archiver.columns import IDENTITY_COLUMN
from archiver.datafile import as_supplements
from archiver.errors import IntegrityError
from archiver.index.build import IndexReport
from archiver.index.known import Background, KnownIds
from archiver.index.reading import rows_of
from archiver.ledger.entry import Commit, DataFile
from archiver.ledger.ledger import Ledger
from archiver.progress import Progress

DAY_US: Final = 86_400_000_000
NEW, DUPLICATE, SUPPLEMENT, CONFLICT = 0, 1, 2, 3


@dataclass(slots=True)
class Decision:
    """What became of the rows of one dataset.

    Attributes:
        new: For each row whether it is to be archived in its own dataset.
        supplements: Rows to archive beside what they add to, with the columns of `supplements`.
        duplicates: How many told nothing new.
        conflicts: Rows that contradict an archived one.
    """

    new: np.ndarray
    supplements: pa.Table
    duplicates: int
    conflicts: list[Rejection]


@dataclass(slots=True)
class Twin:
    """A row that is archived, or will be with this attempt: what later rows are held against.

    Attributes:
        where: The key of its file, or words.
    """

    event_us: int
    shape: str
    body: str
    supplement: bool
    where: str
    base_us: int | None = None  # of a supplement: the event time of what it adds to, where that is known


@dataclass(slots=True)
class Known:
    """All that is known of one (workspace, id)."""

    twins: list[Twin] = field(default_factory=list)
    trees: dict[int, compare.Tree] = field(default_factory=dict)  # by the base's event time

    def base_of(self, event_us: int, window_us: int) -> Twin | None:
        """Return the nearest row, supplements apart, within the window; the earlier of two."""
        near = [
            twin for twin in self.twins if not twin.supplement and abs(twin.event_us - event_us) <= window_us
        ]
        return min(near, key=lambda twin: (abs(twin.event_us - event_us), twin.event_us), default=None)

    def tree(self, base: Twin, window_us: int) -> compare.Tree:
        """Return what is known: the base and everything that supplements it."""
        if base.event_us not in self.trees:
            tree = compare.canonical_tree(base.body, base.shape)
            for twin in self.supplements(base, window_us):
                tree = compare.merge(tree, compare.canonical_tree(twin.body, twin.shape))
            self.trees[base.event_us] = tree
        return self.trees[base.event_us]

    def supplements(self, base: Twin, window_us: int) -> list[Twin]:
        """Return what adds to `base`."""
        return [twin for twin in self.twins if twin.supplement and self._adds_to(twin, base, window_us)]

    def _adds_to(self, twin: Twin, base: Twin, window_us: int) -> bool:
        if twin.base_us is not None:
            return twin.base_us == base.event_us
        return self.base_of(twin.event_us, window_us) is base  # JSON lines do not keep it


class Identities:
    """Decides for one attempt after another. Files never change, so what it read of them stays valid.

    Attributes:
        window_us: How far the times of one identity lie apart at most.
    """

    def __init__(self, ledger: Ledger, *, window_days: int) -> None:
        self._ledger = ledger
        self._store = ledger.store
        self._vouched: set[str] = set()
        self.window_us = window_days * DAY_US
        self._known = KnownIds(ledger)

    def remember(self, file: DataFile, ids: pa.ChunkedArray) -> None:
        """Take note of the ids in a file that this process has just written."""
        self._known.remember(file, ids)

    def prepare(self, background: Background, progress: Progress | None = None) -> None:
        """Bring the index up to date if much is not in it; before an attempt writes anything."""
        self._known.prepare(background, progress)

    def update(
        self, progress: Progress | None = None, *, anew: bool = False, lazily: bool = False
    ) -> IndexReport:
        """Bring the index up to the head that was seen; see `KnownIds.update`."""
        return self._known.update(progress, anew=anew, lazily=lazily)

    def forecast(self, *, anew: bool = False) -> IndexReport:
        """Return what `update` would do; nothing is written."""
        return self._known.forecast(anew=anew)

    def holders(self, event_id: str, workspaces: Collection[str], background: Background) -> list[DataFile]:
        """Return the live files of these workspaces that may hold an id; see `KnownIds.holders`."""
        return self._known.holders((event_id,), workspaces, background)

    def decide(self, rows: pa.Table, dataset: str, background: Background) -> Decision:
        """Sort the rows of one dataset by what the archive knows of them.

        Args:
            rows: Columns of `VALIDATED_SCHEMAS[dataset]`, in any order; `ordinal` says in which
                they were read, and that decides between them.
            background: What is live in the snapshot, and what this attempt has written.

        Raises:
            FileVanishedError: An archived file had to be read and is not there any more.
        """
        frame = pl.DataFrame(
            {
                "workspace": pl.Series(rows["workspace_id"]),
                "id": pl.Series(rows[IDENTITY_COLUMN[dataset]]),
                "at": rows["event_time"].cast(pa.int64()).to_numpy(),
            }
        ).with_row_index("row")
        hits = self.hits(frame, background)
        again = frame.select(pl.struct("workspace", "id").hash()).to_series().is_duplicated().to_numpy()
        verdicts = np.zeros(rows.num_rows, dtype=np.uint8)
        bases = np.zeros(rows.num_rows, dtype=np.int64)
        suspects = again.copy()
        for touched in hits.values():
            suspects[touched] = True
        conflicts: list[Rejection] = []
        if suspects.any():
            archived = self._confirm(rows, dataset, hits, background, verdicts)
            unresolved = np.flatnonzero(suspects & (verdicts == NEW))
            unresolved = unresolved[np.argsort(rows["ordinal"].to_numpy()[unresolved], kind="stable")]
            conflicts = self._settle(rows, dataset, unresolved, archived, verdicts, bases)
        added = verdicts == SUPPLEMENT
        return Decision(
            new=verdicts == NEW,
            supplements=as_supplements(rows.filter(pa.array(added)), dataset, bases[added]),
            duplicates=int((verdicts == DUPLICATE).sum()),
            conflicts=conflicts,
        )

    def hits(self, frame: pl.DataFrame, background: Background) -> dict[str, np.ndarray]:
        """Return, by file, the rows that may be in it, or that something in it may supplement.

        Args:
            frame: Of each row `workspace`, `id` and `at` (microseconds since 1970).
        """
        # Twice the window: a supplement may lie that far from a row whose base it adds to.
        reach_us = 2 * self.window_us
        return self._known.hits(frame["workspace"], frame["id"], frame["at"].to_numpy(), reach_us, background)

    def _confirm(
        self,
        rows: pa.Table,
        dataset: str,
        hits: Mapping[str, np.ndarray],
        background: Background,
        verdicts: np.ndarray,
    ) -> dict[tuple[str, str], Known]:
        """Read the archived rows that were hit. The same bytes within the window are a duplicate at once.

        Returns the other archived rows, by workspace and id.
        """
        identity = IDENTITY_COLUMN[dataset]
        archived: dict[tuple[str, str], Known] = defaultdict(Known)
        files, confirming = background.find(hits), []
        for key in sorted(hits):
            file = files[key]
            holds = file.partition
            if holds.dataset not in (dataset, "supplements"):
                continue  # another dataset's row with the same id: another identity
            ours = rows.select([identity, "body", "event_time"]).filter(_mask(hits[key], rows.num_rows))
            theirs = rows_of(self._store, file, set(ours[identity].to_pylist()), dataset)
            if theirs.num_rows and not background.wrote(key):
                confirming.append(file)
            same = _same_body(ours, theirs, identity, self.window_us)
            verdicts[hits[key][same]] = DUPLICATE
            open_ids = set(ours[identity].filter(pa.array(~same)).to_pylist())
            for row in theirs.to_pylist():
                if row["id"] in open_ids:
                    archived[holds.workspace, row["id"]].twins.append(twin_of(row, file))
        self.vouch(confirming, background)
        return archived

    def vouch(self, files: Collection[DataFile], background: Background) -> None:
        """Return if commits name these files. A checkpoint, which anybody may have written, is not enough:
        an event that counts as a duplicate of a row that is not archived would be lost.

        Raises:
            IntegrityError: None names one of them.
        """
        wanted = {one.key: one for one in files if one.key not in self._vouched}
        if not wanted:
            return
        named_by: dict[int, list[DataFile]] = defaultdict(list)
        for entry in background.files.entries({one.partition for one in wanted.values()}):
            if entry.file.key in wanted:
                named_by[entry.added_by].append(wanted[entry.file.key])
        for sequence in sorted(named_by):
            commit = next(self._ledger.since(sequence - 1), None)
            told = {one.key: one.digest for one in commit.content.added} if commit is not None else {}
            for one in named_by[sequence]:
                if told.get(one.key) == one.digest:
                    del wanted[one.key]
                    self._vouched.add(one.key)
        if wanted:
            raise IntegrityError(
                f"{min(wanted)}: a checkpoint of the ledger says that it is live, but no commit named it",
                hint="it is not one of ours: run `archiver verify`, then `archiver checkpoint --rebuild`",
            )

    def _settle(
        self,
        rows: pa.Table,
        dataset: str,
        unresolved: np.ndarray,
        archived: dict[tuple[str, str], Known],
        verdicts: np.ndarray,
        bases: np.ndarray,
    ) -> list[Rejection]:
        """Decide the rows that bytes alone could not, in the order they were read."""
        identity = IDENTITY_COLUMN[dataset]
        known = archived
        conflicts = []
        for index in unresolved.tolist():
            row = rows.slice(index, 1)
            workspace, event_id = row["workspace_id"][0].as_py(), row[identity][0].as_py()
            shape, body = row["shape"][0].as_py(), row["body"][0].as_py()
            event_us = row["event_time"].cast(pa.int64())[0].as_py()
            here = known[workspace, event_id]
            base = here.base_of(event_us, self.window_us)
            if base is None:
                here.twins.append(Twin(event_us, shape, body, False, "this batch"))
                continue
            if body == base.body:
                verdicts[index] = DUPLICATE
                continue
            before = here.tree(base, self.window_us)
            tree = compare.canonical_tree(body, shape)
            match compare.compare(before, tree):
                case "duplicate":
                    verdicts[index] = DUPLICATE
                case "supplement":
                    verdicts[index] = SUPPLEMENT
                    bases[index] = base.event_us
                    here.twins.append(Twin(event_us, shape, body, True, "this batch", base.event_us))
                    here.trees[base.event_us] = compare.merge(before, tree)
                case "conflict":
                    verdicts[index] = CONFLICT
                    differs = "; ".join(compare.difference(before, tree))
                    conflicts.append(
                        _conflict(row, dataset, f"contradicts the event in {base.where}: {differs}")
                    )
        return conflicts

    def collides(self, commits: Collection[Commit], ours: Mapping[str, DataFile]) -> bool:
        """Say whether these commits added an id that our files add or supplement, too.

        A hash that collides makes us try once more, which is harmless.
        """
        workspaces = {file.partition.workspace for file in ours.values()}
        theirs = [
            file
            for commit in commits
            if commit.content.operation in ("append", "requeue")
            for file in commit.content.added
            if file.partition.workspace in workspaces
        ]
        return self._known.share(list(ours.values()), theirs)


def twin_of(row: Mapping[str, Any], file: DataFile) -> Twin:
    """Return a row of `file`, as `archiver.index.reading.rows_of` gives it."""
    base = row["base"]
    return Twin(
        clock.to_us(row["event_time"]),
        row["shape"],
        row["body"],
        file.partition.dataset == "supplements",
        file.key,
        None if base is None else clock.to_us(base),
    )


def _mask(numbers: np.ndarray, count: int) -> pa.Array:
    """Return a mask of `count` rows. Filtering by it copies what it takes, where `take` joins all chunks."""
    mask = np.zeros(count, dtype=bool)
    mask[numbers] = True
    return pa.array(mask)


def _same_body(ours: pa.Table, theirs: pa.Table, identity: str, window_us: int) -> np.ndarray:
    """Return for each of our rows whether an archived one has its id, its bytes, and a near time."""
    left = pl.DataFrame(
        {
            "id": pl.Series(ours[identity]),
            "body": pl.Series(ours["body"]),
            "at": ours["event_time"].cast(pa.int64()).to_numpy(),
        }
    ).with_row_index("row")
    right = pl.DataFrame(
        {
            "id": pl.Series(theirs["id"]),
            "body": pl.Series(theirs["body"]),
            "then": theirs["event_time"].cast(pa.int64()).to_numpy(),
        }
    )
    joined = left.join(right, on=["id", "body"], how="inner")
    rows = joined.filter((pl.col("at") - pl.col("then")).abs() <= window_us)["row"].unique().to_numpy()
    same = np.zeros(left.height, dtype=bool)
    same[rows] = True
    return same


def _conflict(row: pa.Table, dataset: str, detail: str) -> Rejection:
    source = row["source"][0].as_py()
    return Rejection(
        ordinal=row["ordinal"][0].as_py(),
        reason="conflict",
        detail=detail[:1_000],
        body=row["body"][0].as_py().encode(),
        input=row["_input"][0].as_py(),
        offset=row["_offset"][0].as_py(),
        received_at=row["received_at"].cast(pa.int64())[0].as_py(),
        stream=source.partition("/")[2] or None,
        dataset=dataset,
        workspace_id=row["workspace_id"][0].as_py(),
        event_id=row[IDENTITY_COLUMN[dataset]][0].as_py(),
        shape="row" if row["shape"][0].as_py() == "row" else "delivery",
    )
