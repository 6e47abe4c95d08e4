"""The bytes of a block in; Arrow batches of valid events, and rejections, out.

The verdict on a body is that of `archiver.judge` on what `json.loads` makes of it. Most
bodies never meet the judge, because they can be proven valid for less:

1. A flat webhook event is decoded by its types, see `archiver.typed`.
2. A known writer makes the body again out of its parsed tree, byte for byte (see
   `jsontext.writer_of`), the sieve acquits the tree, and bulk checks its instants and hashes.
3. A strict parse succeeds, all values are plain, and the sieve and the same checks acquit.
4. Everything else goes to the judge, who also gives the reason.

A proof may fail for any reason: that costs time and never changes a verdict.
"""

from __future__ import annotations

import gc
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from archiver import columns, layout
from archiver.block import Block, Rejection, RowBlock
from archiver.errors import ConfigError
from archiver.event import (
    DATASET_OF_EVENT_TYPE,
    EVENT,
    FORMS,
    Form,
    Proven,
    columns_of,
    columns_of_rows,
    constrained,
    flat_members,
    form_of,
    is_strict_instant,
    parse_instant,
    read_instants,
    row_of,
)
from archiver.jsontext import (
    DEEPEST,
    is_plain,
    writer_of,
)
from archiver.judge import (
    FormRules,
    check_schema,
    describe,
    excerpt,
    is_in_year_0,
    targets_schema,
)
from archiver.refusal import Refused, parse, rejection
from archiver.rows import RowProof, is_storable
from archiver.typed import Typed, TypedProof

__all__ = ["Rules", "Validated", "Validator", "check_schema"]

# Bodies whose trees are alive at once: more of them fall out of the processor's caches.
_SLICE: Final = 512
_TYPED_SLICE: Final = 1_024  # larger ones leave the processor's cache: measured
_HASHES: Final = ("event_hash", "previous_event_hash")
_is_hash: Final = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII).fullmatch


@dataclass(frozen=True)
class Rules:
    """What a block is judged by, beside our own schemas. Picklable.

    Attributes:
        source: Configured name of the source.
        schemas: A user's JSON Schema (its text) by dataset; applies to the whole body, of a row too.
        workspaces_of_stream: The only workspaces that a stream may send; others are unpinned.
    """

    source: str
    schemas: Mapping[str, str] = field(default_factory=dict)
    workspaces_of_stream: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Validated:
    """Every body of a block, as exactly one row or one rejection.

    Attributes:
        tables: By dataset, in any order (`ordinal` tells it); only datasets that have rows.
        rejections: In the order of ordinals, the reader's included.
        proven: How many bodies the sieve acquitted.
        judged: How many it did not.
    """

    tables: dict[str, pa.RecordBatch]
    rejections: list[Rejection]
    proven: int
    judged: int


class Validator:
    """Judges blocks. Holds no state between them.

    Args:
        only: Columns that are wanted: of members, `event_time` and `ordinal`, by which whoever has the
            block finds the rest; None is all columns. The verdict is the same.

    Raises:
        ConfigError: A schema of the rules cannot be used, or is for no dataset.
    """

    def __init__(self, rules: Rules, *, only: Collection[str] | None = None) -> None:
        unknown = set(rules.schemas) - set(columns.VALIDATED_SCHEMAS)
        if unknown:
            raise ConfigError(f"schema for {sorted(unknown)}: expected events or alerts")
        users = {dataset: check_schema(text) for dataset, text in rules.schemas.items()}
        self._rules = rules
        self._only = only
        self._schemas = {
            dataset: schema if only is None else pa.schema([f for f in schema if f.name in only])
            for dataset, schema in columns.VALIDATED_SCHEMAS.items()
        }
        self._forms = {form: FormRules(form, users.get(form.dataset)) for form in FORMS}
        # It knows our own schema and no other.
        self._typed = None if "events" in users else TypedProof(targets_schema(), only)
        self._rows = RowProof(rules.source, targets_schema(), is_schema_ours="events" not in users)

    def validate(self, block: Block) -> Validated:
        """Judge every body of `block`; raises nothing for what a body holds."""
        # Millions of short-lived trees, none of them in a cycle: the collector would look
        # through them again and again, at up to the cost of everything else here.
        was_collecting = gc.isenabled()
        gc.disable()
        try:
            return self._validate(block)
        finally:
            if was_collecting:
                gc.enable()

    def validate_rows(self, block: RowBlock) -> Validated:
        """Judge every row of `block` as `validate` would judge its body."""
        found = self._rows.prove(block)
        verdict = self.validate(found.rest)
        if found.rows.num_rows:
            judged = verdict.tables.get("events")
            verdict.tables["events"] = pa.concat_batches([found.rows, *([judged] if judged else [])])
        verdict.proven += found.rows.num_rows
        return verdict

    def _validate(self, block: Block) -> Validated:
        rejections = list(block.rejections)
        batches: dict[str, list[pa.RecordBatch]] = defaultdict(list)
        acquitted = 0
        rest: list[int] = []
        left: Sequence[int] = range(len(block.bodies))
        if self._typed is not None and block.shape != "row":
            left = self._prove_typed(block, batches)
            acquitted = len(block.bodies) - len(left)
        for start in range(0, len(left), _SLICE):
            proven, unproven = self._prove(block, left[start : start + _SLICE])
            rest += unproven
            for group, instants in proven:
                if group.rows:
                    acquitted += len(group.rows)
                    built = columns_of(group, instants, self._only)
                    batches[group.form.dataset].append(self._batch(block, group.form, group.rows, built))

        judged: dict[Form, tuple[list[int], list[dict[str, Any]]]] = {form: ([], []) for form in FORMS}
        for number in rest:
            try:
                form, row, was_acquitted = self._judge(block, number)
            except Refused as refused:
                rejections.append(rejection(block, number, refused))
                continue
            acquitted += was_acquitted
            judged[form][0].append(number)
            judged[form][1].append(row)
        for form, (numbers, rows) in judged.items():
            if rows:
                built = columns_of_rows(form, rows)
                batches[form.dataset].append(self._batch(block, form, numbers, built))

        rejections.sort(key=lambda rejection: rejection.ordinal)
        tables = {dataset: pa.concat_batches(parts) for dataset, parts in batches.items()}
        return Validated(tables, rejections, acquitted, len(block.bodies) - acquitted)

    def _prove_typed(self, block: Block, batches: dict[str, list[pa.RecordBatch]]) -> list[int]:
        """Add what the quickest way proves to `batches`; return the numbers of the other bodies."""
        left: list[int] = []
        for start in range(0, len(block.bodies), _TYPED_SLICE):
            numbers = range(start, min(start + _TYPED_SLICE, len(block.bodies)))
            found = self._typed.prove(block.bodies, numbers) if self._typed else Typed(rest=[*numbers])
            left += found.rest
            keep = self.allowed(block, found.numbers, found.workspaces)
            if keep is not None:
                left += [found.numbers[row] for row in {*range(len(found.numbers))} - {*keep}]
                found = found.only(keep)
            if found.numbers:
                batches["events"].append(self._batch(block, EVENT, found.numbers, found.built))
        return sorted(left)

    def allowed(self, block: Block, numbers: list[int], workspaces: list[str]) -> list[int] | None:
        """Return which of these bodies' workspaces are storable, and their streams' own; None: all."""
        refused = {workspace for workspace in set(workspaces) if not is_storable(workspace)}
        if not refused and not self._rules.workspaces_of_stream:
            return None
        return [
            row
            for row, (number, workspace) in enumerate(zip(numbers, workspaces, strict=True))
            if workspace not in refused and not self._is_foreign(workspace, block.streams[number])
        ]

    def _prove(
        self, block: Block, numbers: Sequence[int]
    ) -> tuple[list[tuple[Proven, dict[str, pa.Array]]], list[int]]:
        """Sort out what the first way proves, with its instants; the rest by its numbers."""
        groups = {form: Proven(form, [], [], [], []) for form in FORMS}
        rest: list[int] = []
        storable: set[str] = set()
        for number in numbers:
            body = block.bodies[number]
            if body.count(b"{") + body.count(b"[") > DEEPEST:
                rest.append(number)
                continue
            try:
                tree = orjson.loads(body)
            except orjson.JSONDecodeError:
                rest.append(number)
                continue
            writer = writer_of(body, tree)
            form = form_of(tree, block.shape) if writer is not None and type(tree) is dict else None
            if writer is None or form is None or not self._forms[form].sieve.acquits(tree):
                rest.append(number)
                continue
            workspace = tree["workspace_id"]
            if workspace not in storable:
                if not is_storable(workspace):
                    rest.append(number)
                    continue
                storable.add(workspace)
            if self._rules.workspaces_of_stream and self._is_foreign(workspace, block.streams[number]):
                rest.append(number)
                continue
            group = groups[form]
            group.rows.append(number)
            group.trees.append(tree)
            group.flats.append(flat_members(form, tree))
            group.writers.append(writer)

        proven = []
        for group in groups.values():
            instants = {name: read_instants(group.values(name)) for name in group.form.instants}
            doubtful = {row for _, rows in instants.values() for row in rows} | _doubtful_members(group)
            kept = {name: read for name, (read, _) in instants.items()}
            if doubtful:
                rest.extend(group.rows[row] for row in doubtful)
                certain = pa.array([row for row in range(len(group.rows)) if row not in doubtful], pa.int64())
                kept = {name: read.take(certain) for name, read in kept.items()}
                group = group.without(doubtful)  # noqa: PLW2901
            proven.append((group, kept))
        return proven, rest

    def _judge(self, block: Block, number: int) -> tuple[Form, dict[str, Any], bool]:
        """Return form and columns of a valid body, and whether the sieve acquitted it.

        Raises:
            Refused: It is not valid, with the reason.
        """
        text, tree = parse(block.bodies[number])
        if type(tree) is not dict:
            raise Refused("invalid", f"event: expected an object, found {excerpt(tree)}")
        form = form_of(tree, block.shape)
        if form is None:
            event_type = tree.get("event_type")
            if not isinstance(event_type, str):
                found = excerpt(event_type) if "event_type" in tree else "none"
                raise Refused("invalid", f"event_type: expected a string, found {found}", tree)
            known = " or ".join(DATASET_OF_EVENT_TYPE)
            raise Refused(
                "unknown_event_type", f"event_type: expected {known}, found {excerpt(event_type)}", tree
            )
        acquitted = self._acquits(form, tree)
        if not acquitted:
            self._ask_judge(form, tree)
        workspace = tree["workspace_id"]
        try:
            layout.escape(workspace)
        except ValueError as error:
            raise Refused("workspace_not_storable", f"workspace_id: {error}", tree) from None
        stream = block.streams[number]
        if self._is_foreign(workspace, stream):
            raise Refused(
                "foreign_workspace",
                f"workspace_id: stream {stream!r} is not pinned to {excerpt(workspace)}",
                tree,
            )
        row = row_of(form, text)
        if row[form.identity] is None:
            raise Refused("identity_not_storable", f"{form.identity}: holds a lone surrogate", tree)
        for name in form.instants:
            instant = row[name]
            if instant and not instant.is_storable:
                raise Refused("time_out_of_range", f"{name}: outside the years 1 to 9999 UTC", tree)
        if not any(row[name] for name in form.event_times):
            raise Refused("time_out_of_range", f"{form.event_times[0]}: no instant that is known here", tree)
        return form, row, acquitted

    def _ask_judge(self, form: Form, tree: Any) -> None:
        try:
            error = self._forms[form].judge.error(tree)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # a judge may raise anything, and no event may stop a run
            raise Refused("unjudgeable", f"event: {type(error).__name__}: {error}", tree) from None
        if error is not None:
            raise Refused("time_out_of_range" if is_in_year_0(error) else "invalid", describe(error), tree)

    def _acquits(self, form: Form, tree: Any) -> bool:
        """The second way: the proofs of the first, on one strictly parsed tree."""
        rules = self._forms[form]
        asked = tree if rules.has_user_schema else constrained(tree, form.places)
        if not is_plain(asked) or not rules.sieve.acquits(asked):
            return False
        one = Proven(form, [0], [tree], [flat_members(form, tree)], [orjson.dumps])
        for name in form.instants:
            text = one.values(name)[0]
            if text is not None:
                # The judge forgives more than RFC 3339 says; that it must say itself.
                if not is_strict_instant(text) or text.startswith("0000"):
                    return False
                instant = parse_instant(text)
                if instant is None or not instant.is_storable:
                    return False
        return not any(_is_doubtful_hash(one.values(name)[0]) for name in _HASHES if name in form.kinds)

    def _sources(self, streams: list[str | None]) -> pa.Array:
        source = self._rules.source
        first = streams[0]
        if streams.count(first) == len(streams):  # nearly always
            return pa.repeat(pa.scalar(source if first is None else f"{source}/{first}"), len(streams))
        names = [source if stream is None else f"{source}/{stream}" for stream in streams]
        return pa.array(names, pa.string())

    def _is_foreign(self, workspace: str, stream: str | None) -> bool:
        pinned = None if stream is None else self._rules.workspaces_of_stream.get(stream)
        return pinned is not None and workspace not in pinned

    def _batch(
        self, block: Block, form: Form, numbers: list[int], built: dict[str, pa.Array]
    ) -> pa.RecordBatch:
        count = len(numbers)
        built["event_time"] = pc.coalesce(*(built[name] for name in form.event_times))
        built["ordinal"] = pa.array([block.ordinals[number] for number in numbers], pa.int64())
        if self._only is None:
            built["received_at"] = pa.array([block.received_at[number] for number in numbers], columns.TIME)
            # Whatever proved them, or parsed them, has found them to be UTF-8: no need to look again.
            bodies = pa.array([block.bodies[number] for number in numbers], pa.binary())
            built["body"] = bodies.view(pa.string())
            built["shape"] = pa.repeat(pa.scalar(form.shape), count)
            built["source"] = self._sources([block.streams[number] for number in numbers])
            built["_input"] = pa.repeat(pa.scalar(block.input, pa.int64()), count)
            built["_offset"] = pa.array([block.offsets[number] for number in numbers], pa.int64())
        schema = self._schemas[form.dataset]
        # A row has no envelope: its columns are null.
        arrays = [built[f.name] if f.name in built else pa.nulls(count, f.type) for f in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _is_doubtful_hash(value: str | None) -> bool:
    return value is not None and _is_hash(value) is None


def _doubtful_members(group: Proven) -> set[int]:
    """Rows whose hashes, or whose version, are not what the sieve and the columns need."""
    if group.form.dataset != "events":
        return set()
    doubtful: set[int] = set()
    for name in _HASHES:
        doubtful.update(row for row, value in enumerate(group.values(name)) if _is_doubtful_hash(value))
    for row, version in enumerate(group.values("version")):
        # `1.0` is an integer too, but its digits are told exactly only by the text.
        if version is not None and (type(version) is not int or not -(2**63) <= version < 2**63):
            doubtful.add(row)
    return doubtful
