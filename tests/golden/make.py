"""Builds the golden archives of one version of the format. A person runs this once per version.

    python -m tests.golden.make tests/golden/v2

What lies in `v1` is never built anew: it is what earlier programs wrote, and every later one
must read it as `expected.json` there says. The tests build the same archives into a temporary
folder, and hold what today's program writes against the same expectations.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archiver.archive import open_archive
from archiver.delta.publish import publish
from archiver.layout import CHECKPOINTS, DELTA_LOG, INDEX
from archiver.progress import Silent
from archiver.store.local import LocalStore
from tests.golden import independent_reader as reader
from tests.golden import story
from tests.golden.damages import LINES, NEED_A_HEAD, PARQUET, REFUSED
from tests.golden.forge import Forge, flip
from tests.support import new_archive

CACHES = (CHECKPOINTS, INDEX, DELTA_LOG)
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, place: Path) -> None:
    """Put a folder into a zip file whose bytes follow from its files."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            one = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            packed.writestr(one, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    place.write_bytes(sink.getvalue())


def unpack(place: Path, folder: Path) -> Path:
    """Put a packed archive into `folder`."""
    with zipfile.ZipFile(place) as packed:
        packed.extractall(folder)
    return folder


# --- intact ------------------------------------------------------------------------------------------


def build_intact(root: Path) -> Iterator[tuple[str, Path]]:
    """Build the archives in which nothing is wrong."""
    for name, form in (("parquet", "parquet"), ("jsonl-gz", "jsonl.gz"), ("jsonl-zst", "jsonl.zst")):
        story.tell(root / name, form)
        yield name, root / name
    new_archive(root / "empty")
    yield "empty", root / "empty"
    yield "caches", _cached(root)
    for name, spoil in (("caches-damaged", _spoil), ("caches-incomplete", _thin_out)):
        shutil.copytree(root / "caches", root / name)
        spoil(root / name)
        yield name, root / name
    story.tell_short(root / "unknown-members", "parquet")
    _add_column(Forge(root / "unknown-members"))
    _add_members(Forge(root / "unknown-members"))
    yield "unknown-members", root / "unknown-members"


def _cached(root: Path) -> Path:
    """The whole story with a checkpoint, an index and a Delta log that end some commits before the head."""
    folder = root / "caches"
    story.tell(folder, "parquet", remember=lambda: write_caches(LocalStore(folder)))
    return folder


def write_caches(store: LocalStore) -> None:
    """Write every kind of cache up to the head."""
    archive = open_archive(store)
    archive.ledger.write_checkpoint()
    archive.identities.update(Silent())
    publish(archive)


def caches_in(folder: Path) -> list[Path]:
    """Return the files of all caches."""
    return sorted(path for place in CACHES for path in (folder / place).rglob("*") if path.is_file())


def _spoil(folder: Path) -> None:
    for path in caches_in(folder):
        flip(path, path.stat().st_size // 2)


def _thin_out(folder: Path) -> None:
    for path in caches_in(folder)[::2]:
        path.unlink()


def _add_column(forge: Forge) -> None:
    """Give one file a column that this version does not know."""
    entry = forge.entries(9)[0]
    rows = forge.rows(entry)
    forge.replace(9, entry, rows.append_column("zz_of_a_later_version", [["x"] * rows.num_rows]))


def _add_members(forge: Forge) -> None:
    """Give every object of the ledger members that this version does not know, and objects to the caches."""
    more = {"zz_of_a_later_version": {"x": [1, None, "é"]}, "signature": "c2lnbmVk"}

    def add(tree: dict[str, Any]) -> None:
        tree.update(more)
        tree["counts"].update(skipped=7)
        tree["writer"].update(build="of tomorrow")
        for name in ("added", "lists", "quarantined", "moved", "inputs"):
            for one in tree[name]:
                one.update(more)
        for name in ("archive", "hold"):
            tree.get(name, {}).update(more)
        if tree["source"]:
            tree["source"].update(host="spool.example.com")

    for sequence in range(forge.head + 1):
        if forge.tree(sequence)["lists"]:
            forge.edit_list(sequence, lambda tree: [one.update(more) for one in tree["added"]])
        forge.edit(sequence, add)
    for key in (f"{CHECKPOINTS}v9/x", f"{INDEX}v9/x", f"{DELTA_LOG}x", "_probe/x"):
        path = forge.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"of a later version")


# --- what they hold, told by the independent reader -----------------------------------------------------


def expected_of(folder: Path) -> dict[str, Any]:
    """Tell an intact archive, and its readable snapshots."""
    head = reader.follow(folder)
    said = told(folder, head)
    said["as_of"] = {
        str(sequence): told(folder, reader.follow(folder, sequence))["ids"]
        for sequence in range(head.oldest_readable, head.head + 1)
    }
    return {"verdict": "intact", **said}


def told(folder: Path, state: reader.Snapshot) -> dict[str, Any]:
    """Tell one snapshot."""
    found = {dataset: list(reader.rows(folder, state, dataset)) for dataset in reader.DATASETS}
    return {
        "head": state.head,
        "head_digest": state.digest,
        "data_format": state.archive["data_format"],
        "oldest_readable": state.oldest_readable,
        "holds": sorted(state.holds),
        "totals": state.totals,
        "quarantine": {name: one["reason"] for name, one in reader.quarantine(folder, state)},
        "ids": {dataset: sorted(row.id for row in rows) for dataset, rows in found.items()},
        "bodies": {
            dataset: reader.digest_of_bodies(sorted(row.body for row in rows))
            for dataset, rows in found.items()
        },
    }


# --- damaged, and refused -------------------------------------------------------------------------------


def build_damaged(root: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Build the damaged archives, each with what is expected of it."""
    for form, damages in (("parquet", PARQUET), ("jsonl.zst", LINES)):
        base = root / f"base-{form}"
        story.tell_short(base, form)
        forge = Forge(base)
        head = f"{forge.head}:{forge.digest(forge.head)}"
        for name, do in damages.items():
            folder = Path(shutil.copytree(base, root / name))
            damaged = sorted(map(list, do(Forge(folder))))
            expect = [head] if name in NEED_A_HEAD else []
            yield name, folder, {"verdict": "damaged", "expect": expect, "damages": damaged}


def build_refused(root: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Build the archives of another version."""
    base = root / "base-jsonl.zst"
    for name, (do, code) in REFUSED.items():
        folder = Path(shutil.copytree(base, root / name))
        do(Forge(folder))
        yield name, folder, {"verdict": "refused", "exit_code": code}


def build(root: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Build every archive in `root`."""
    for name, folder in build_intact(root):
        yield name, folder, expected_of(folder)
    yield from build_damaged(root)
    yield from build_refused(root)


def main() -> None:
    place = Path(sys.argv[1])
    if place.exists():
        sys.exit(f"{place} is there already: golden archives are never built anew")
    place.mkdir()
    archives = {}
    with tempfile.TemporaryDirectory() as root:
        for name, folder, expected in build(Path(root)):
            pack(folder, place / f"{name}.zip")
            archives[name] = expected
    text = json.dumps({"format": 1, "archives": archives}, indent=1, sort_keys=True, ensure_ascii=False)
    (place / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
