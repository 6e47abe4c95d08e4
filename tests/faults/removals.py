"""The rules of the commit protocol, taken out of the real code one at a time.

A removal is a small change of the source text of a function: the function is compiled
anew with it and put in place through a MonkeyPatch, which undoes it afterwards. Text that
is no longer there, or there twice, is an error, so that a removal never removes nothing.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable
from functools import reduce
from importlib import import_module
from typing import Any, NamedTuple

import pytest

from tests.properties.commit_model.rules import Rule


class Change(NamedTuple):
    """A change of one function.

    Attributes:
        where: Module and qualified name, as in `archiver.sources.frozen:SpoolBatch.freeze`.
        texts: What is replaced by what; each must be there exactly once.
    """

    where: str
    texts: tuple[tuple[str, str], ...]


def _change(where: str, *texts: str) -> Change:
    return Change(where, tuple(zip(texts[::2], texts[1::2], strict=True)))


def apply(change: Change, patch: pytest.MonkeyPatch) -> None:
    """Put the changed function in place of the original one.

    Raises:
        AssertionError: A text is not in the function's source exactly once.
    """
    module_name, _, qualified = change.where.partition(":")
    module = import_module(module_name)
    *outer, name = qualified.split(".")
    owner: Any = reduce(getattr, outer, module)
    source = textwrap.dedent(inspect.getsource(inspect.getattr_static(owner, name)))
    for old, new in change.texts:
        assert source.count(old) == 1, f"{change.where}: {source.count(old)} times: {old}"
        source = source.replace(old, new)
    made: dict[str, Any] = {}
    flags = __future__.annotations.compiler_flag
    # Its globals are the module's own, so that it finds what else was changed there.
    exec(compile(source, f"{change.where} without a rule", "exec", flags=flags), vars(module), made)
    patch.setattr(owner, name, made[name])


_COMMIT = "archiver.ledger.commit:commit"
_MISFIT = "archiver.ledger.commit:_misfit"
_SLOT = "archiver.ledger.commit:put_in_slot"
_LOAD = "archiver.sources.frozen:SpoolBatch.load"
_ATTEMPT = "archiver.attempt:Attempt.__init__"
_BATCH = "archiver.pipeline:archive_batch"
_COLLECT = "archiver.collect:collect"
_ANY_NAME = (' and record["batch"] == batch.batch', "")

CHANGES: dict[Rule, tuple[Change, ...]] = {
    Rule.FREEZE_ID: (
        _change("archiver.sources.frozen:SpoolBatch.freeze", "secrets.token_hex(16)", '"0" * 32'),
    ),
    Rule.FREEZE_ID_KEPT: (_change(_LOAD, 'record["freeze_id"]', "secrets.token_hex(16)", *_ANY_NAME),),
    Rule.INPUTS_KEPT: (
        _change(
            _LOAD,
            'for each in record["inputs"])',
            'for each in record["inputs"] if (claim.folder / each["claimed"]).exists())',
            *_ANY_NAME,
        ),
    ),
    Rule.SEEN_READ_AGAIN: (
        _change(
            _ATTEMPT,
            "self.seen = archive.ledger.snapshot.sequence",
            "self.seen = vars(Attempt.__init__).setdefault(batch, archive.ledger.snapshot.sequence)",
            "Background(archive.ledger.snapshot)",
            "Background(archive.ledger.at(self.seen))",
        ),
    ),
    Rule.IDENTIFY_AGAINST_SEEN: (
        _change(_ATTEMPT, "Background(archive.ledger.snapshot)", "Background(archive.ledger.at(0))"),
    ),
    Rule.ATTEMPT_IN_NAMES: (
        _change("archiver.layout:data_file", "{batch}-{attempt}-{number}", "{batch}-{0:028d}-{number}"),
    ),
    Rule.ATTEMPT_IN_LIST_NAMES: (
        _change("archiver.layout:file_list", "{batch}-{attempt}-added", "{batch}-{0:028d}-added"),
    ),
    Rule.NO_NAME_TWICE: (_change(_ATTEMPT, "layout.new_attempt()", "batch[:28]"),),
    Rule.OUR_OBJECT_IS_SUCCESS: (
        _change("archiver.store.local:LocalStore.put", "if found != content:", "if True:"),
    ),
    Rule.READ_ON_412: (_change("archiver.store.local:LocalStore.put", "if found != content:", "if False:"),),
    Rule.RUNS_DELETE_NOTHING: (
        _change(
            _SLOT,
            "raise CommitStateUnknownError(",
            "store.delete([one.key for one in entry.content.added])\n    raise CommitStateUnknownError(",
        ),
    ),
    Rule.ACKNOWLEDGE_ONLY: (
        _change(_BATCH, "if batch.batch in archive.ledger.refresh().batches:", "if False:"),
        _change(_COMMIT, "if content.batch in head.batches:", "if False:"),
    ),
    Rule.STOP_WHEN_FENCED: (_change(_COMMIT, "if content.attempt in head.fenced:", "if False:"),),
    Rule.CURSOR_CHECK: (_change(_MISFIT, 'if source.get("after") is not None and', "if False and"),),
    Rule.REMOVED_IS_LIVE: (_change(_MISFIT, "if len(going) < len(content.removed):", "if False:"),),
    Rule.HOLD_CHECK: (_change(_MISFIT, 'if content.operation == "expire":', "if False:"),),
    Rule.REQUEUE_CHECK: (_change(_MISFIT, "if not head.moved.isdisjoint(content.moved):", "if False:"),),
    Rule.NEW_ATTEMPT_ON_IDENTITY: (
        _change(_COMMIT, "if behind_seen and collides(behind_seen):", "if False:"),
    ),
    Rule.SUPPLEMENT_IS_IDENTITY: (
        _change(
            "archiver.identity:Identities.collides",
            "if file.partition.workspace in workspaces",
            'if file.partition.workspace in workspaces and file.partition.dataset != "supplements"',
        ),
    ),
    Rule.AIM_BEHIND_VALIDATED: (
        _change(
            _COMMIT, "        entry = Commit(", "        head = ledger.refresh()\n        entry = Commit("
        ),
    ),
    Rule.CONDITIONAL_CREATE: (
        _change("archiver.store.local:LocalStore.put_once", "durable.create(path", "durable.replace(path"),
    ),
    Rule.OUR_COMMIT_IS_SUCCESS: (_change(_SLOT, "return found == content", "return False"),),
    Rule.VALIDATE_AFTER_OTHERS: (
        _change(_COMMIT, "if behind_seen and collides", "if _ == 0 and behind_seen and collides"),
    ),
    Rule.ABSENT_IS_UNKNOWN: (
        _change(
            _SLOT,
            "except ObjectNotFoundError:\n            pass",
            'except ObjectNotFoundError:\n            raise CommitConflictError("it is not there") from None',
        ),
    ),
    Rule.ACKNOWLEDGE_AFTER_COMMIT: (
        _change(
            _BATCH,
            "        match protocol.commit(",
            "        batch.acknowledge()\n        match protocol.commit(",
        ),
    ),
    Rule.SYNC_WHAT_WAS_FOUND: (
        _change("archiver.ledger.ledger:Ledger.refresh", "self.store.settle()", "None"),
        _change(_SLOT, "store.settle()", "None"),
    ),
    Rule.FENCE_UNKNOWN: (
        _change(
            _COLLECT,
            "fenced = _fence(archive, doomed, oldest if raises else 0, holds=dict(head.holds))",
            "fenced = []",
            "(doomed if dry_run else set())",
            "doomed",
        ),
    ),
    Rule.FENCE_DROPS_COMMITTED: (
        _change("archiver.collect:_fence", " if one not in head.attempts and one not in head.fenced", ""),
    ),
    Rule.DELETE_READS_HEAD_AGAIN: (
        _change(
            _COLLECT,
            "head = archive.ledger.refresh()\n        oldest",
            "head = archive.ledger.at(archive.ledger.refresh().sequence)\n        oldest",
            "head = archive.ledger.refresh()\n    dead = head.fenced",
            "dead = head.fenced | doomed",
        ),
    ),
    Rule.DELETE_SPARES_KEPT: (
        _change("archiver.collect:_Reach.of", "if self.superseded.get(key, -1) > self._oldest", "if False"),
    ),
    Rule.OLDEST_READABLE_FIRST: (
        _change(
            _COLLECT,
            "if not dry_run and (doomed or raises):",
            "if not dry_run and doomed:",
            "oldest if dry_run and raises else head.oldest_readable",
            "oldest",
        ),
    ),
    Rule.OLDEST_READABLE_RISES: (
        _change(_COMMIT, "max(head.oldest_readable, oldest_readable)", "oldest_readable"),
    ),
}

NOT_IN_THE_CODE: dict[Rule, str] = {
    Rule.BASE_KEPT: "step 3 looks into the folded state, which holds the batches since the first commit",
    Rule.CURSOR_AS_OF_BASE: "a batch of rows takes the cursor once, with `base`, and nobody adopts it",
    Rule.CURSOR_AT_THE_HEAD: "the moves after `base` are not kept apart: there is nothing else to look at",
}


def removal(rule: Rule) -> Callable[[pytest.MonkeyPatch], None]:
    """Return what takes `rule` out of the code."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        for change in CHANGES[rule]:
            apply(change, patch)

    return remove
