"""Whatever became of the index, the verdicts are those of looking through all rows."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from archiver import clock, columns, compare, layout
from archiver.archive import Archive, open_archive
from archiver.datafile import BodiesDigest, decode
from archiver.index import known, merge, part
from archiver.ledger import commit as protocol
from archiver.ledger.entry import Content, DataFile, digest_of
from archiver.store.base import Store
from tests.support import alert, archive_bodies, event, new_archive

DAY_US = 86_400_000_000
WINDOW_US = 31 * DAY_US
START_US = 1_767_225_600_000_000  # 2026-01-01


@dataclass
class _Base:
    at: int
    body: str
    told: dict[str, object]


@dataclass
class Model:
    """The rules of identity in the plainest way: every row is held against every row before it."""

    known: dict[tuple[str, str, str], list[_Base]] = field(default_factory=dict)

    def archive(self, bodies: list[bytes]) -> dict[str, int]:
        counts = dict.fromkeys(("archived", "supplements", "duplicates", "quarantined"), 0)
        for body in bodies:
            counts[self._one(body)] += 1
        return counts

    def _one(self, body: bytes) -> str:
        tree: dict[str, Any] = json.loads(body)
        is_alert = "alert_id" in tree
        name = tree["alert_id"] if is_alert else tree["data"]["id"]
        at = clock.from_text(tree["triggered_at"] if is_alert else tree["timestamp"])
        bases = self.known.setdefault((tree["workspace_id"], name, "alert" if is_alert else "event"), [])
        near = [base for base in bases if abs(base.at - at) <= WINDOW_US]
        text, told = body.decode(), compare.canonical_tree(body.decode(), "webhook")
        if not near:
            bases.append(_Base(at, text, told))
            return "archived"
        base = min(near, key=lambda one: (abs(one.at - at), one.at))
        match compare.compare(base.told, told):
            case "duplicate":
                return "duplicates"
            case "supplement":
                base.told = compare.merge(base.told, told)
                return "supplements"
        return "quarantined"


def batches(seed: int, *, count: int, size: int) -> list[list[bytes]]:
    """Return batches over five months and three workspaces in which many ids come again."""
    rng = random.Random(seed)
    seen: list[dict[str, Any]] = []

    def one() -> bytes:
        if seen and rng.random() < 0.5:
            told = dict(rng.choice(seen[-200:]))
            told["at"] += rng.choice([0, 0, 0, 15, -15, 30, 45, 75]) * DAY_US + rng.randrange(5_000_000)
            for member in rng.sample(["ip_country", "session_id", "ip_city"], rng.choice([0, 0, 1, 2])):
                told["more"] = told["more"] | {member: rng.choice(["x", "x", "x", "y"])}
        else:
            told = {
                "id": f"e{rng.randrange(10**6)}",
                "workspace": rng.choice(["w1", "w2", "ü/3"]),
                "at": START_US + rng.randrange(10) * 15 * DAY_US + rng.randrange(DAY_US // 2),
                "more": {},
                "alert": rng.random() < 0.1,
            }
        seen.append(told)
        when = clock.to_text(max(told["at"], START_US))
        if told["alert"]:
            reason = {"reason": "".join(told["more"].values())} if told["more"] else {}
            return alert(told["id"], workspace=told["workspace"], triggered_at=when, **reason)
        return event(told["id"], workspace=told["workspace"], timestamp=when, **told["more"])

    return [[one() for _ in range(size)] for _ in range(count)]


def compact_all(archive: Archive) -> None:
    """Commit for each partition one file with the rows of all its files."""
    head = archive.ledger.refresh()
    groups: dict[layout.Partition, list[DataFile]] = {}
    for file in head.files.select():
        groups.setdefault(file.partition, []).append(file)
    batch, attempt = secrets.token_hex(16), layout.new_attempt()
    added, removed = [], []
    for number, (place, files) in enumerate(groups.items()):
        names = columns.SCHEMAS[place.dataset].names
        table = pa.concat_tables(
            [decode(archive.store.get(one.key), one.key, place.dataset, names) for one in files]
        ).sort_by("event_time")
        content = archive.encoding.encode(table, place.dataset)
        key = files[0].key.rpartition("/")[0] + f"/{batch}-{attempt}-{number}.parquet"
        archive.store.put(key, content)
        digest = BodiesDigest()
        digest.take(table["body"])
        at = table["event_time"].cast(pa.int64()).to_numpy()
        added.append(
            DataFile(
                key, digest_of(content), len(content), len(at), int(at.min()), int(at.max()), digest.digest()
            )
        )
        removed += [one.key for one in files]
    content_ = Content(
        operation="compact", batch=batch, attempt=attempt, added=tuple(added), removed=tuple(removed)
    )
    outcome = protocol.commit(archive.ledger, content_, seen=head.sequence)
    assert isinstance(outcome, protocol.Committed)
    archive.store.delete(removed)  # as `collect` would, once no snapshot is kept that needs them


def index_keys(store: Store) -> list[str]:
    return [info.key for info in store.list(layout.INDEX)]


def flip(store: Store, key: str, rng: random.Random) -> None:
    content = bytearray(store.get(key))
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    store.put(key, bytes(content), mode="overwrite")


Mishap = Callable[[Archive, random.Random], None]


def _nothing(archive: Archive, rng: random.Random) -> None:
    pass


def _all_lost(archive: Archive, rng: random.Random) -> None:
    archive.store.delete(index_keys(archive.store))


def _one_lost(archive: Archive, rng: random.Random) -> None:
    if keys := index_keys(archive.store):
        archive.store.delete([rng.choice(keys)])


def _flipped(archive: Archive, rng: random.Random) -> None:
    for key in index_keys(archive.store):
        flip(archive.store, key, rng)


def _rebuilt(archive: Archive, rng: random.Random) -> None:
    archive.identities.update(anew=True)


def _compacted(archive: Archive, rng: random.Random) -> None:
    compact_all(archive)


def _collected(archive: Archive, rng: random.Random) -> None:
    from datetime import timedelta  # noqa: PLC0415

    from archiver.collect import collect  # noqa: PLC0415

    collect(archive, grace=timedelta(0), force=True)


MISHAPS: list[Mishap] = [_nothing, _all_lost, _one_lost, _flipped, _rebuilt, _compacted, _collected]


def _name(value: object) -> str:
    return getattr(value, "__name__", "").strip("_")


@pytest.fixture(autouse=True)
def nothing_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """These stories make thousands of small files, and no power fails in them."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, slices and parts so small that a few hundred ids make many of each."""
    monkeypatch.setattr(part, "BLOCK", 8)
    monkeypatch.setattr(part, "_SLICE_BLOCKS", 4)
    monkeypatch.setattr(part, "_BRIDGED_BLOCKS", 1)
    monkeypatch.setattr(merge, "LARGEST_PART", 200)
    monkeypatch.setattr(merge, "SLICE", 64)


def _told(archive: Archive, bodies: list[bytes]) -> dict[str, int]:
    counts = archive_bodies(archive, *bodies).counts.to_json()
    assert counts.pop("read") == len(bodies)
    return counts


@pytest.mark.parametrize(("seed", "mishap"), list(enumerate(MISHAPS)), ids=_name)
def test_verdicts_are_those_of_looking_through_all_rows(
    tmp_path: Path, small_objects: None, seed: int, mishap: Mishap
) -> None:
    """Every batch is decided by a new process; before it, the index meets with the mishap."""
    rng = random.Random(seed)
    archive, model = new_archive(tmp_path / "a"), Model()
    for number, bodies in enumerate(batches(seed, count=6, size=50)):
        archive = open_archive(archive.store)
        if number:
            mishap(archive, rng)
            archive = open_archive(archive.store)
        assert _told(archive, bodies) == model.archive(bodies), number
        if number % 3 != 2:  # else the process died between its commit and the index
            archive.identities.update()


def test_any_mixture_of_mishaps_changes_no_verdict(tmp_path: Path, small_objects: None) -> None:
    rng = random.Random(7)
    archive, model = new_archive(tmp_path / "a"), Model()
    for number, bodies in enumerate(batches(7, count=14, size=25)):
        assert _told(archive, bodies) == model.archive(bodies), number
        if rng.random() < 0.6:
            archive.identities.update()
        if rng.random() < 0.5:
            archive = open_archive(archive.store)
        rng.choice(MISHAPS)(archive, rng)


@pytest.mark.parametrize("form", ["jsonl.gz", "jsonl.zst"])
def test_json_lines_are_indexed_from_their_bodies(tmp_path: Path, form: str) -> None:
    archive = new_archive(tmp_path / "a", format=form)
    first = [event(f"e{number}", timestamp=clock.to_text(START_US)) for number in range(40)]
    assert _told(archive, first)["archived"] == 40
    archive = open_archive(archive.store)
    archive.identities.update(anew=True)
    archive = open_archive(archive.store)
    again = [event(f"e{number}", timestamp=clock.to_text(START_US + DAY_US)) for number in range(50)]
    assert _told(archive, again) == {"archived": 10, "duplicates": 40, "supplements": 0, "quarantined": 0}


def test_without_the_index_an_archived_event_would_be_archived_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The equivalence above depends on the index: files that it tells of are not looked into."""
    archive = new_archive(tmp_path / "a")
    bodies = [event(f"e{number}") for number in range(20)]
    _told(archive, bodies)
    archive.identities.update()
    monkeypatch.setattr(known.KnownIds, "_ask_index", lambda *_: {})
    assert _told(open_archive(archive.store), bodies)["archived"] == 20


def test_an_index_of_later_commits_is_not_used_for_an_older_snapshot(tmp_path: Path) -> None:
    """It no longer tells of files that a later commit removed."""
    archive = new_archive(tmp_path / "a")
    bodies = [event(f"e{number}") for number in range(20)]
    _told(archive, bodies)
    archive.identities.update()
    slow = open_archive(archive.store)
    compact_all(archive)
    archive.identities.update(anew=True)
    background = known.Background(slow.ledger.snapshot)
    assert slow.identities._known._index is None
    slow.identities._known._open(background)
    index = slow.identities._known._index
    assert index is not None
    assert index.manifest.sequence == background.sequence


def test_an_index_of_another_chain_is_left_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here, there = new_archive(tmp_path / "a"), new_archive(tmp_path / "b")
    _told(here, [event("x")])
    _told(there, [event("y")])
    there.identities.update()
    for key in index_keys(there.store):
        here.store.put(key, there.store.get(key))
    here = open_archive(here.store)
    assert _told(here, [event("x"), event("y")])["archived"] == 1
    assert "another chain" in caplog.text


def test_damage_is_mended_by_the_next_update(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive = new_archive(tmp_path / "a")
    bodies = [event(f"e{number}") for number in range(20)]
    _told(archive, bodies)
    archive.identities.update()
    (damaged,) = archive.store.list(layout.INDEX_RUNS)
    flip(archive.store, damaged.key, random.Random(1))
    archive = open_archive(archive.store)
    assert _told(archive, bodies)["duplicates"] == 20
    assert "deciding without it" in caplog.text
    archive.identities.update()
    caplog.clear()
    archive = open_archive(archive.store)
    assert _told(archive, bodies)["duplicates"] == 20
    assert "deciding without it" not in caplog.text


def test_hashes_do_not_change_between_versions() -> None:
    """They stand in objects that other versions read."""
    import polars as pl  # noqa: PLC0415

    from archiver.index.hashing import hash_ids  # noqa: PLC0415

    ids = pl.Series(["", "a", "550e8400-e29b-41d4-a716-446655440000", "ü" * 200])
    expected = HASHES
    assert [f"{value:016x}" for value in hash_ids(ids, "ws_1").tolist()] == expected
    each = hash_ids(pl.concat([ids, ids]), pl.Series(["ws_1"] * 4 + ["ws_2"] * 4))
    assert [f"{value:016x}" for value in each[:4].tolist()] == expected
    assert len(np.unique(each)) == 8


HASHES = ["4bd6279a303b2fe2", "e01200a8dae725e6", "2106d1feaec3a5c3", "f8b994263f46ae2d"]
