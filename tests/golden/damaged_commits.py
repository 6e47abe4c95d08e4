"""Damage to commits: to their bytes, their place in the chain, and what they say.

Each function does one kind, named after it, and returns what verify must name.
"""

from __future__ import annotations

import json
from typing import Any

from archiver.ledger.entry import Counts, digest_of
from tests.golden.forge import Forge, later
from tests.golden.kinds import Named, commit, lines


@lines
def missing_commit(forge: Forge) -> Named:
    forge.path(3).unlink()
    return {("missing", commit(3))}


@lines
def missing_first_commit(forge: Forge) -> Named:
    forge.path(0).unlink()
    return {("missing", commit(0))}


@lines
def moved_what_never_was(forge: Forge) -> Named:
    counts = Counts(read=1, duplicates=1).to_json()
    return {("missing", forge.append("requeue", moved=[{"commit": 1, "ordinal": 99}], counts=counts))}


@lines
def altered_commit(forge: Forge) -> Named:
    tree = forge.tree(2)
    tree["committed_at"] = later(tree["committed_at"])
    (forge.root / commit(2)).write_bytes(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode())
    return {("altered", commit(2))}


@lines
def altered_link(forge: Forge) -> Named:
    tree = forge.tree(4) | {"previous": digest_of(b"another")}
    (forge.root / commit(4)).write_bytes(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode())
    return {("altered", commit(4))}


@lines
def altered_form_of_a_commit(forge: Forge) -> Named:
    forge.write(3, json.dumps(forge.tree(3), indent=1, sort_keys=True).encode())
    return {("altered", commit(3))}


@lines
def member_twice_in_a_commit(forge: Forge) -> Named:
    forge.write(3, forge.path(3).read_bytes().replace(b'{"added":', b'{"added":[],"added":', 1))
    return {("altered", commit(3))}


@lines
def true_for_a_number(forge: Forge) -> Named:
    forge.edit(7, lambda tree: tree["counts"].update(read=False))
    return {("altered", commit(7))}


@lines
def number_below_nothing(forge: Forge) -> Named:
    forge.edit(7, lambda tree: tree["counts"].update(read=-1, duplicates=-1))
    return {("altered", commit(7))}


@lines
def number_beyond_limits(forge: Forge) -> Named:
    tree = json.dumps(forge.tree(7) | {"oldest_readable": 2**53}, sort_keys=True, separators=(",", ":"))
    forge.write(7, tree.encode())
    return {("altered", commit(7))}


@lines
def time_of_another_form(forge: Forge) -> Named:
    forge.change(7, committed_at=forge.tree(7)["committed_at"].replace("T", " "))
    return {("altered", commit(7))}


@lines
def cursor_jump(forge: Forge) -> Named:
    source = {"name": "table", "before": {"id": 5}, "after": {"id": 9}}
    return {("altered", forge.append(source=source))}


@lines
def oldest_readable_fell(forge: Forge) -> Named:
    forge.change(9, oldest_readable=2)
    return {("altered", forge.append(oldest_readable=1))}


@lines
def oldest_readable_of_the_future(forge: Forge) -> Named:
    forge.change(9, oldest_readable=10)
    return {("altered", commit(9))}


@lines
def time_went_back(forge: Forge) -> Named:
    forge.change(9, committed_at="2001-01-01T00:00:00.000000Z")
    return {("altered", commit(9))}


@lines
def begun_twice(forge: Forge) -> Named:
    return {("altered", forge.append("init", archive=forge.tree(0)["archive"]))}


@lines
def removed_what_is_not_live(forge: Forge) -> Named:
    return {("altered", forge.append("expire", removed=[forge.entries(1)[0]["key"]]))}


@lines
def removed_by_an_append(forge: Forge) -> Named:
    return {("altered", forge.append(removed=[forge.entries(9)[0]["key"]]))}


@lines
def added_by_a_fence(forge: Forge) -> Named:
    key = forge.append("fence", added=[forge.copy_as(forge.entries(8)[0])])
    return {("inserted", key), ("duplicated", forge.tree(10)["added"][0]["key"])}


@lines
def lists_and_files(forge: Forge) -> Named:
    forge.edit(1, lambda tree: tree["added"].append(forge.entries(1)[0]))
    return {("altered", commit(1))}


@lines
def another_attempts_name(forge: Forge) -> Named:
    entry = forge.copy_as(forge.entries(8)[0])
    counts = Counts(read=1, archived=1).to_json()
    key = forge.append(attempt="02" * 14, added=[entry], counts=counts)
    return {("altered", key)}


@lines
def expired_in_spite_of_a_hold(forge: Forge) -> Named:
    held = next(one["key"] for one in forge.entries(1) if "workspace=ws_2/" in one["key"])
    return {("altered", forge.append("expire", removed=[held]))}


@lines
def fenced_attempt_committed(forge: Forge) -> Named:
    return {("inserted", forge.append(attempt=forge.tree(7)["fenced"][0]))}


@lines
def truncated(forge: Forge) -> Named:
    forge.path(9).unlink()
    return {("truncated", commit(9))}


@lines
def forked(forge: Forge) -> Named:
    forge.change(8, inputs=[{"name": "forged", "digest": digest_of(b""), "bytes": 0}])
    return {("forked", commit(9))}


@lines
def miscounted(forge: Forge) -> Named:
    forge.edit(1, lambda tree: tree["counts"].update(read=tree["counts"]["read"] + 1))
    return {("miscounted", commit(1))}


@lines
def miscounted_rows(forge: Forge) -> Named:
    def shift(tree: dict[str, Any]) -> None:
        tree["counts"]["archived"] -= 1
        tree["counts"]["duplicates"] += 1

    forge.edit(9, shift)
    return {("miscounted", commit(9))}


@lines
def miscounted_compaction(forge: Forge) -> Named:
    """It took more away than what it put together."""
    held = next(one["key"] for one in forge.entries(1) if "workspace=ws_2/" in one["key"])
    forge.edit(5, lambda tree: tree["removed"].append(held))
    return {("miscounted", commit(5))}


@lines
def duplicated_batch(forge: Forge) -> Named:
    return {("duplicated", forge.append(batch=forge.tree(1)["batch"]))}


@lines
def duplicated_key(forge: Forge) -> Named:
    """One commit lists a file twice."""
    forge.edit_list(1, lambda tree: tree["added"].append(tree["added"][1]))
    rows = forge.entries(1)[1]["rows"]

    def more(tree: dict[str, Any]) -> None:
        tree["counts"]["archived"] += rows
        tree["counts"]["read"] += rows

    forge.edit(1, more)
    return {("duplicated", forge.entries(1)[1]["key"])}


@lines
def moved_twice(forge: Forge) -> Named:
    moved = forge.tree(4)["moved"]
    return {
        ("duplicated", forge.append("requeue", moved=moved, counts=Counts(read=1, duplicates=1).to_json()))
    }
