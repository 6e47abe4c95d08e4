"""`archiver purge`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import click

from archiver.cli.common import (
    Context,
    archive_options,
    option_with_variable,
    printable,
    use_a_frugal_memory_pool,
)
from archiver.cli.text import bytes_text, plural
from archiver.errors import ConfigError

if TYPE_CHECKING:
    from archiver.purge import PurgeReport

_log = logging.getLogger("archiver.purge")

_CODES = """\
\b
Exit codes: 0 done · 1 failed · 2 usage or configuration · 3 done, but rows stayed that are
not archived, differ, or could not be deleted · 10 no archive there · 11 too much contention ·
20 stored bytes differ from the ledger · 130 interrupted
"""
_MOST_DAYS: Final = 40
_STAYED: Final = {
    "not_archived": "are not in the archive",
    "differs": "say something else than the archive, or more",
    "in_quarantine": "are no valid events: see archiver quarantine list",
    "changed_since": "were changed while this was at work",
    "locked": "are held by another transaction",
    "kept_by_database": "are kept by a trigger, a rule or a policy of the table",
    "too_new": "are too new",
}


@click.command("purge", epilog=_CODES)
@click.argument("name", metavar="NAME")
@archive_options
@option_with_variable(
    "--older-than",
    prefix="PURGE_",
    required=True,
    metavar="SPAN",
    help="Rows of days before today less this: 90d, 2w, 13mo, 7y.",
)
@option_with_variable("--dry-run", is_flag=True, help="Verify, and say what would go.")
@option_with_variable(
    "--limit",
    prefix="PURGE_",
    type=click.IntRange(min=1),
    metavar="ROWS",
    help="Delete no more than so many.",
)
@option_with_variable(
    "--batch-rows",
    prefix="PURGE_",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    metavar="ROWS",
    help="Delete so many in a transaction.",
)
@option_with_variable(
    "--without-excluded",
    prefix="PURGE_",
    is_flag=True,
    help="Columns that the settings exclude are in no archive; let them go with the rows.",
)
@click.pass_context
def purge_command(
    click_context: click.Context,
    /,
    context: Context,
    name: str,
    older_than: str,
    dry_run: bool,
    limit: int | None,
    batch_rows: int,
    without_excluded: bool,
) -> None:
    """Delete from the database NAME what is old and archived: upload before delete.

    A row is deleted only if every member of it is in the archived event or its supplements, and
    the files that hold those were read and held against the ledger by this very command. Rows that
    differ, are in quarantine or are not archived stay, and are told (exit code 3).

    Nothing is deleted unless purge = true stands under [sources.NAME]. It may be killed at any
    moment, and called again: it deletes in small transactions, and remembers nothing.
    """
    from archiver.purge import PurgeReport, purge
    from archiver.runs import rules_of
    from archiver.spans import parse_span

    sources = context.settings.sources
    if name not in sources:
        raise ConfigError(
            f"there is no [sources.{name:.80}]",
            hint=f"the configuration has: {', '.join(sources) or 'no database'}",
        )
    use_a_frugal_memory_pool()
    report = PurgeReport(name)
    try:
        purge(
            context.open_archive(),
            sources[name],
            parse_span(older_than),
            rules=rules_of(context.settings, name),
            dry_run=dry_run,
            limit=limit,
            batch_rows=batch_rows,
            without_excluded=without_excluded,
            progress=context.progress,
            report=report,
        )
    except BaseException:
        if report.rows and not dry_run:
            _log.error("%s deleted before this", plural(report.rows, "row"))
        raise
    context.out(printable(_text(report, is_allowed=sources[name].purge)), report.to_json())
    click_context.exit(3 if report.needs_somebody else 0)


def _text(report: PurgeReport, *, is_allowed: bool) -> str:
    would = "would be deleted" if report.dry_run else "deleted"
    days = sorted(report.deleted.items())
    lines = [f"{workspace:<24}{day}  {rows:>12,}" for (workspace, day), rows in days[:_MOST_DAYS]]
    if rest := days[_MOST_DAYS:]:
        lines.append(f"and {plural(len(rest), 'day')} more with {plural(sum(one for _, one in rest), 'row')}")
    told = f"{plural(report.rows, 'row')} of days before {report.before} {would}"
    if not report.dry_run:
        told += f" in {plural(report.transactions, 'transaction')}, {report.seconds:.1f} s"
    lines.append(told)
    if report.gone:
        lines.append(f"{plural(report.gone, 'row was', 'rows were')} deleted by others meanwhile")
    for reason, words in _STAYED.items():
        if rows := report.stayed.get(reason):
            lines.append(f"stay: {rows:,} {words}")
            lines += [
                f"  {one.workspace} {one.id} (key {', '.join(one.key)}) {one.detail}".rstrip()
                for one in report.examples.get(reason, ())
            ]
    if report.not_archived_columns:
        columns = ", ".join(report.not_archived_columns)
        lines.append(f"these columns are not archived and go with the rows: {columns}")
    lines.append(
        f"verified: {plural(report.verified_files, 'file')}, {bytes_text(report.verified_bytes)}, "
        f"head {report.head}"
    )
    if report.stopped:
        lines.append("stopped at the limit; there may be more")
    if report.dry_run and not is_allowed:
        lines.append(f"purge = true is not under [sources.{report.source}]: nothing can be deleted yet")
    return "\n".join(lines)
