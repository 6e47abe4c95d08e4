"""Damage to data files, quarantine files and file lists, and to what is in them.

Each function does one kind, named after it, and returns what verify must name.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from archiver import layout
from archiver.ledger.entry import Counts
from tests.golden.forge import Forge, flip, later, with_row
from tests.golden.kinds import Named, commit, lines, parquet


@parquet
def missing_data_file(forge: Forge) -> Named:
    key = forge.entries(9)[0]["key"]
    (forge.root / key).unlink()
    return {("missing", key)}


@lines
def missing_file_of_an_older_snapshot(forge: Forge) -> Named:
    key = forge.entries(2)[0]["key"]  # compacted, but oldest_readable lies before that
    (forge.root / key).unlink()
    return {("missing", key)}


@lines
def missing_quarantine_file(forge: Forge) -> Named:
    key = forge.tree(1)["quarantined"][0]["key"]
    (forge.root / key).unlink()
    return {("missing", key)}


@lines
def missing_list(forge: Forge) -> Named:
    key = forge.tree(1)["lists"][0]["key"]
    (forge.root / key).unlink()
    return {("missing", key)}


@parquet
def missing_row(forge: Forge) -> Named:
    entry = forge.entries(9)[0]
    forge.replace(9, entry, forge.rows(entry).slice(0, 1), max=entry["min"])
    return {("missing", entry["key"])}


@lines
def missing_quarantine_entry(forge: Forge) -> Named:
    forge.rewrite_quarantine(1, lambda told: told[1:])
    return {("missing", forge.tree(1)["quarantined"][0]["key"])}


@parquet
def missing_event_of_a_supplement(forge: Forge) -> Named:
    entry = forge.entries(2, "supplements")[0]
    rows = with_row(forge.rows(entry), 0, id="nobody", body=('"two"', '"nobody"'))
    forge.replace(2, entry, rows)
    return {("missing", entry["key"])}


@lines
def altered_data_file(forge: Forge) -> Named:
    key = forge.entries(9)[0]["key"]
    flip(forge.root / key)
    return {("altered", key)}


@lines
def cut_data_file(forge: Forge) -> Named:
    path = forge.root / (key := forge.entries(9)[0]["key"])
    path.write_bytes(path.read_bytes()[:-1])
    return {("altered", key)}


@lines
def altered_quarantine_file(forge: Forge) -> Named:
    key = forge.tree(1)["quarantined"][0]["key"]
    flip(forge.root / key)
    return {("altered", key)}


@lines
def quarantine_out_of_order(forge: Forge) -> Named:
    forge.rewrite_quarantine(1, lambda told: told[::-1])
    return {("altered", forge.tree(1)["quarantined"][0]["key"])}


@lines
def altered_list(forge: Forge) -> Named:
    key = forge.tree(1)["lists"][0]["key"]
    flip(forge.root / key)
    return {("altered", key)}


@parquet
def altered_body(forge: Forge) -> Named:
    """Body and columns agree and digest and size are recorded anew; the digest of the bodies is not."""
    entry = forge.entries(9)[0]
    rows = with_row(forge.rows(entry), 0, actor_id="user_9", body=("user_1", "user_9"))
    bodies = entry["bodies"]
    forge.replace(9, entry, rows)
    forge.edit(9, lambda tree: tree["added"][0].update(bodies=bodies))
    return {("altered", entry["key"])}


@parquet
def altered_column(forge: Forge) -> Named:
    entry = forge.entries(9)[0]
    forge.replace(9, entry, with_row(forge.rows(entry), 1, actor_id="another"))
    return {("altered", entry["key"])}


@parquet
def missing_column(forge: Forge) -> Named:
    entry = forge.entries(9)[0]
    rows = forge.rows(entry)
    forge.replace(9, entry, rows.drop_columns(["user_agent"]))
    return {("altered", entry["key"])}


@parquet
def wrong_partition(forge: Forge) -> Named:
    entry = forge.entries(9)[0]
    rows = with_row(forge.rows(entry), 0, workspace_id="ws_9", body=('"ws_1"', '"ws_9"'))
    forge.replace(9, entry, rows)
    return {("altered", entry["key"])}


@lines
def file_of_rubbish(forge: Forge) -> Named:
    entry = forge.entries(9)[0]
    (forge.root / entry["key"]).write_bytes(b"no data file")
    forge.record(9, entry, b"no data file")
    return {("altered", entry["key"])}


@parquet
def altered_body_in_compaction(forge: Forge) -> Named:
    """The forger recorded the compacted file anew; the entries of the files before it still tell."""
    entry = forge.entries(5)[0]
    rows = with_row(forge.rows(entry), 1, actor_id="user_9", body=("user_1", "user_9"))
    forge.replace(5, entry, rows)
    return {("altered", entry["key"])}


@parquet
def dropped_row_in_compaction(forge: Forge) -> Named:
    """Another row stands twice, under another id, so that the numbers still fit."""
    entry = forge.entries(5)[0]
    rows = forge.rows(entry)
    rows = pa.concat_tables([rows.slice(0, 3), rows.slice(4, 1), rows.slice(4)])
    forge.replace(5, entry, with_row(rows, 4, id="five-again", body=('"five"', '"five-again"')))
    return {("altered", entry["key"])}


@parquet
def altered_origin_in_compaction(forge: Forge) -> Named:
    entry = forge.entries(5)[0]
    rows = forge.rows(entry)
    origins = rows["origin"].to_pylist()
    forge.replace(5, entry, with_row(rows, 0, origin=origins[2]))
    return {("altered", entry["key"])}


@lines
def inserted_data_file(forge: Forge) -> Named:
    key = forge.entries(9)[0]["key"].replace("-0.jsonl", "-7.jsonl")
    (forge.root / key).write_bytes((forge.root / forge.entries(9)[0]["key"]).read_bytes())
    return {("inserted", key)}


@parquet
def inserted_row(forge: Forge) -> Named:
    entry = forge.entries(9)[0]
    rows = forge.rows(entry)
    rows = with_row(pa.concat_tables([rows, rows.slice(1)]), 2, id="eight", body=('"seven"', '"eight"'))
    forge.replace(9, entry, rows)
    return {("inserted", entry["key"])}


@lines
def inserted_quarantine_entry(forge: Forge) -> Named:
    forge.rewrite_quarantine(1, lambda told: [*told, told[-1].replace(b'"ordinal":', b'"ordinal":9')])
    return {("inserted", forge.tree(1)["quarantined"][0]["key"])}


@lines
def foreign_object(forge: Forge) -> Named:
    (forge.root / "notes.txt").write_bytes(b"hello")
    (forge.root / "_ledger" / "10.json").write_bytes(b"{}")
    return {("foreign", "notes.txt"), ("foreign", "_ledger/10.json")}


@lines
def altered_time_bounds(forge: Forge) -> Named:
    entry = forge.entries(9)[0]
    forge.edit(9, lambda tree: tree["added"][0].update(max=later(entry["max"])))
    return {("miscounted", entry["key"])}


@lines
def duplicated_event(forge: Forge) -> Named:
    entry = forge.copy_as(forge.entries(8)[0])
    forge.append(added=[entry], counts=Counts(read=1, archived=1).to_json())
    return {("duplicated", entry["key"])}


@lines
def ordinal_twice(forge: Forge) -> Named:
    listed = forge.tree(3)["quarantined"][0]
    key = layout.quarantine_file(forge.tree(3)["batch"], forge.tree(3)["attempt"], 1)
    (forge.root / key).write_bytes((forge.root / listed["key"]).read_bytes())

    def again(tree: dict[str, Any]) -> None:
        tree["quarantined"].append({**listed, "key": key})
        tree["counts"]["quarantined"] += listed["entries"]
        tree["counts"]["read"] += listed["entries"]

    forge.edit(3, again)
    return {("duplicated", commit(3))}
