"""`archiver quarantine list / show / requeue`."""

from __future__ import annotations

import base64
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from archiver.block import REASONS
from archiver.cli.common import (
    EXIT_CODES,
    Context,
    archive_options,
    as_of_option,
    printable,
    write_options,
)
from archiver.cli.text import plural
from archiver.errors import ArchiverError, ConfigError

if TYPE_CHECKING:
    from archiver.archive import Archive
    from archiver.quarantine import QuarantineEntry


@click.group("quarantine", epilog=EXIT_CODES)
def quarantine_group() -> None:
    """See what was rejected and why, and send it through again after a repair."""


def _choices(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--workspace", envvar="ARCHIVER_WORKSPACE", show_envvar=True, help="Of this workspace only."
        ),
        click.option(
            "--commit", type=int, envvar="ARCHIVER_COMMIT", show_envvar=True, help="Of this commit only."
        ),
        click.option(
            "--reason",
            type=click.Choice(REASONS),
            envvar="ARCHIVER_REASON",
            show_envvar=True,
            metavar="REASON",
            help="For this reason only.",
        ),
    ):
        function = option(function)
    return function


def _chosen(
    reason: str | None, commit: int | None, workspace: str | None, names: tuple[str, ...] = ()
) -> Callable[[QuarantineEntry], bool]:
    wanted = set(names)
    return lambda one: (
        (reason is None or one.rejection.reason == reason)
        and (commit is None or one.commit == commit)
        and (workspace is None or one.rejection.workspace_id == workspace)
        and (not wanted or one.name in wanted)
    )


@quarantine_group.command("list", epilog=EXIT_CODES)
@archive_options
@as_of_option
@_choices
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    envvar="ARCHIVER_LIMIT",
    show_envvar=True,
    help="How many to show; the counts are of all.",
)
def list_command(
    context: Context, reason: str | None, commit: int | None, workspace: str | None, limit: int
) -> None:
    """List what is in quarantine: name, reason, whose it is, what is wrong."""
    from archiver.requeue import entries

    counts: Counter[str] = Counter()
    shown: list[dict[str, Any]] = []
    for entry in entries(context.open_archive(), _chosen(reason, commit, workspace)):
        counts[entry.rejection.reason] += 1
        if len(shown) < limit:
            shown.append(_document(entry, body=False))
    lines = [f"{plural(counts.total(), 'entry', 'entries')} in quarantine"]
    lines += [f"  {reason:<24}{count:>10,}" for reason, count in counts.most_common()]
    if shown:
        lines.append("")
    for told in shown:
        whose = " ".join(printable(part) for part in (told["workspace_id"], told["event_id"]) if part)
        lines.append(f"{told['name']:<14}{told['reason']:<22} {whose[:80]}".rstrip())
        lines.append(f"{'':<14}{printable(told['detail'])}")
        where = "a row of {}" if told["shape"] == "row" else f"in {{}}, at byte {told['offset']:,}"
        lines.append(f"{'':<14}{where.format(printable(told['input']))}")
    if counts.total() > len(shown):
        lines.append(f"… and {counts.total() - len(shown):,} more (--limit)")
    if shown:
        lines.append("\nlook at one: archiver quarantine show NAME")
    context.out(
        "\n".join(lines),
        {
            "message_type": "quarantine_list",
            "counts": dict(counts),
            "total": counts.total(),
            "entries": shown,
        },
    )


@quarantine_group.command("show", epilog=EXIT_CODES)
@archive_options
@as_of_option
@click.argument("name", metavar="NAME")
@click.option(
    "--body", is_flag=True, envvar="ARCHIVER_BODY", help="Print the bytes as they came, and nothing else."
)
def show_command(context: Context, name: str, body: bool) -> None:
    """Show one entry (its name is COMMIT:ORDINAL) with its bytes."""
    from archiver.requeue import entries

    found = next(entries(context.open_archive(), lambda one: one.name == name), None)
    if found is None:
        raise ArchiverError(
            f"{name}: not in quarantine", hint="names are COMMIT:ORDINAL; see quarantine list"
        )
    if body:
        sys.stdout.buffer.write(found.rejection.body)
        return
    told = _document(found, body=True)
    lines = [
        f"{key:<14}{printable(str(value))}"
        for key, value in told.items()
        if value is not None and key not in ("body", "body_base64", "message_type")
    ]
    text = found.rejection.body.decode(errors="backslashreplace")
    lines += ["", printable(text[:10_000]) + (" …" if len(text) > 10_000 else "")]
    context.out("\n".join(lines), {"message_type": "quarantine_entry", **told})


@quarantine_group.command("requeue", epilog=EXIT_CODES)
@archive_options
@write_options
@_choices
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--all", "everything", is_flag=True, envvar="ARCHIVER_ALL", help="Every entry that holds an element."
)
@click.option("--dry-run", is_flag=True, envvar="ARCHIVER_DRY_RUN", help="Only say what would pass now.")
def requeue_command(
    context: Context,
    names: tuple[str, ...],
    reason: str | None,
    commit: int | None,
    workspace: str | None,
    everything: bool,
    dry_run: bool,
) -> None:
    """Judge entries again, by today's schemas; those that pass move into the archive, once.

    Use it after a repair: a schema that was too strict, a version that knows more. What
    still fails stays where it is.
    """
    from archiver.requeue import requeue
    from archiver.runs import rules_of

    if not (names or reason or commit is not None or workspace or everything):
        raise ConfigError("nothing was chosen", hint="give names, --reason, --commit, --workspace or --all")
    archive = context.open_archive()
    _refuse_unknown(archive, names)
    report = requeue(
        archive,
        lambda source: rules_of(context.settings, source),
        _chosen(reason, commit, workspace, names),
        dry_run=dry_run,
    )
    would = "would be " if dry_run else ""
    counts = report.counts
    lines = [
        f"{plural(report.chosen, 'entry', 'entries')} judged again",
        f"{counts.read:,} {would}moved: archived {counts.archived:,}, supplements {counts.supplements:,}, "
        f"duplicates {counts.duplicates:,}",
    ]
    lines += [f"{count:,} stay: {reason}" for reason, count in sorted(report.stayed.items())]
    lines += [f"PROBLEM {printable(one)}" for one in report.problems]
    context.out("\n".join(lines), report.to_json())


def _refuse_unknown(archive: Archive, names: tuple[str, ...]) -> None:
    """Say so if a name is no entry, or one that can never be an event."""
    from archiver.requeue import NEVER, entries

    if not names:
        return
    found = {one.name: one.rejection.reason for one in entries(archive, lambda one: one.name in names)}
    for name in names:
        if name not in found:
            hint = "names are COMMIT:ORDINAL; see quarantine list"
            raise ArchiverError(f"{name}: not in quarantine", hint=hint)
        if found[name] in NEVER:
            raise ArchiverError(f"{name}: a stretch of bytes that holds no event ({found[name]})")


def _document(entry: QuarantineEntry, *, body: bool) -> dict[str, Any]:
    one = entry.rejection
    told: dict[str, Any] = {
        "name": entry.name,
        "reason": one.reason,
        "detail": one.detail,
        "dataset": one.dataset,
        "workspace_id": one.workspace_id,
        "event_id": one.event_id,
        "source": entry.source,
        "stream": one.stream,
        "input": entry.input_name,
        "offset": one.offset,
        "shape": one.shape,
        "bytes": len(one.body),
    }
    if body:
        try:
            told["body"] = one.body.decode()
        except UnicodeDecodeError:
            told["body_base64"] = base64.b64encode(one.body).decode()
    return told
