"""`archiver verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archiver.cli.common import EXIT_CODES, Context, archive_options, printable
from archiver.cli.text import bytes_text, plural

if TYPE_CHECKING:
    from archiver.verify import VerifyReport

_SHOWN = 50


@click.command("verify", epilog=EXIT_CODES)
@archive_options
@click.option(
    "--quick",
    is_flag=True,
    envvar="ARCHIVER_QUICK",
    show_envvar=True,
    help="Read the ledger and list the objects; read none of them.",
)
@click.option(
    "--expect",
    multiple=True,
    envvar="ARCHIVER_EXPECT",
    show_envvar=True,
    metavar="SEQUENCE:DIGEST",
    help="A head that was written down earlier; may be given several times.",
)
@click.pass_context
def verify_command(
    click_context: click.Context, context: Context, quick: bool, expect: tuple[str, ...]
) -> None:
    """Prove that nothing is missing, altered or inserted; name everything that is.

    Reads every byte of the archive and trusts no cache. Exit code 20 means damage: one line
    each, beginning with its word. Somebody who can rewrite the whole archive is found out
    by --expect alone: write down the head that is printed at the end, somewhere else.

    \b
      missing      named, but not there
      altered      its bytes or its place in the chain are not as recorded
      inserted     there, but accounted for nowhere
      truncated    the newest commits are gone (--expect)
      forked       the ledger was written anew (--expect)
      miscounted   numbers do not add up
      duplicated   an event, a batch or a key is there twice
      foreign      an object that is not of an archive
    """
    from archiver.verify import parse_expected, verify

    report = verify(
        context.open_store(),
        quick=quick,
        expect=[parse_expected(one) for text in expect for one in text.split()],
        progress=context.progress,
    )
    context.out(verify_text(report), report.to_json())
    if report.damage_count:
        click_context.exit(20)
    click_context.exit(1 if report.unreadable else 0)


def verify_text(report: VerifyReport) -> str:
    """Return what was checked, the verdict, and what to write down."""
    read = "present with the right size (not read)" if report.level == "quick" else "read"
    lines = [
        f"ledger    {plural(report.commits, 'commit')}, each link checked",
        f"objects   {plural(report.objects, 'object')}, {bytes_text(report.bytes)}, {read}",
        f"rows      {report.rows:,}" + (" by the ledger's word" if report.level == "quick" else " checked"),
        f"time      {report.seconds:.1f} s",
    ]
    lines += [f"note      {printable(note)}" for note in report.notes]
    lines += [f"unread    {printable(text)}" for text in report.unreadable[:_SHOWN]]
    lines += [printable(str(damage)) for damage in report.damages[:_SHOWN]]
    if report.damage_count > _SHOWN:
        lines.append(f"… and {report.damage_count - _SHOWN:,} more; --json lists up to 1,000")
    if report.damage_count:
        told = ", ".join(f"{word} {count:,}" for word, count in sorted(report.words.items()))
        lines.append(f"DAMAGED   {told}")
    elif report.unreadable:
        lines.append(f"UNKNOWN   {plural(len(report.unreadable), 'object')} could not be read")
    else:
        lines.append("INTACT    nothing is missing, altered or inserted; every event is there once")
        if report.level == "quick":
            lines[-1] = (
                "INTACT    as far as a quick check sees: the ledger, and every object's presence and size"
            )
    if report.head_digest and not report.damage_count:
        lines.append(f"to detect truncation later: archiver verify --expect {report.expectation}")
    return "\n".join(lines)
