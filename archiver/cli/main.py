"""`archiver`: one command a verb, each loaded when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

import click

from archiver import __version__
from archiver.cli.common import EXIT_CODES, fail, json_text
from archiver.errors import ArchiverError

_VERBS: Final = {
    "init": ("archiver.cli.init", "init_command", "Create an archive and write archiver.toml."),
    "receive": (
        "archiver.cli.receive",
        "receive_command",
        "Take signed deliveries into the spool, over HTTP.",
    ),
    "run": ("archiver.cli.run", "run_command", "Archive what spools and databases hold; for cron."),
    "sources": ("archiver.cli.sources", "sources_group", "The databases; try one before it is archived."),
    "reconcile": (
        "archiver.cli.reconcile",
        "reconcile_command",
        "Hold a database against the archive; archive what is missing.",
    ),
    "purge": ("archiver.cli.purge", "purge_command", "Delete rows of a database that are archived."),
    "forward": (
        "archiver.cli.forward",
        "forward_command",
        "Send events on to a SIEM, live or replayed.",
    ),
    "deadletters": (
        "archiver.cli.deadletters",
        "deadletters_group",
        "What a destination refused: list, show, send again.",
    ),
    "status": ("archiver.cli.status", "status_command", "Head, files, rows, spool backlog, quarantine."),
    "sql": ("archiver.cli.sql", "sql_command", "Ask the archive a question in SQL."),
    "query": ("archiver.cli.query", "query_group", "Ask a named query, such as failed_logins."),
    "queries": ("archiver.cli.query", "queries_group", "List the named queries; show one."),
    "ddl": ("archiver.cli.ddl", "ddl_command", "Print what makes it a table on Athena, Trino, Spark …"),
    "export": ("archiver.cli.export", "export_command", "Write the bodies as they came, one a line."),
    "explain": ("archiver.cli.explain", "explain_command", "Say where an event came from."),
    "quarantine": ("archiver.cli.quarantine", "quarantine_group", "List, show, requeue what was rejected."),
    "verify": ("archiver.cli.verify", "verify_command", "Prove that nothing is missing or altered."),
    "copy": ("archiver.cli.copy", "copy_command", "Copy the archive, each object held against the ledger."),
    "compact": ("archiver.cli.compact", "compact_command", "Make few large files of many small ones."),
    "retain": ("archiver.cli.retain", "retain_command", "Let expire what is older than a rule says."),
    "hold": ("archiver.cli.hold", "hold_group", "Legal holds: what one covers does not expire."),
    "index": ("archiver.cli.index", "index_group", "The identity index: its state; make it anew."),
    "collect": ("archiver.cli.collect", "collect_command", "Delete what no commit reaches."),
    "publish": (
        "archiver.cli.publish",
        "publish_group",
        "Bring a view for other engines up to date: the Delta log.",
    ),
    "upgrade": ("archiver.cli.upgrade", "upgrade_command", "Bring the archive to the newest format."),
    "checkpoint": ("archiver.cli.checkpoint", "checkpoint_command", "Fold the ledger: opening stays quick."),
    "doctor": ("archiver.cli.doctor", "doctor_command", "Check store, spool and machine; say how to mend."),
    "demo": ("archiver.cli.demo", "demo_command", "From nothing to a verified, queried archive."),
    "send": ("archiver.cli.send", "send_command", "Deliver to a receiver, signed, as the vendor would."),
    "generate": ("archiver.cli.generate", "generate_command", "Make deliveries for demos and tests."),
}


class _Verbs(click.Group):
    """Imports a verb's module only when the verb is used: `archiver --help` stays quick."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        module, attribute = _VERBS[name][:2]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, _, told) in _VERBS.items()])


@click.command(cls=_Verbs, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="archiver")
def cli() -> None:
    """Archive audit events once, prove that nothing was altered, and ask questions.

    \b
    Start here:
      archiver generate --events 1000 --out ./spool
      archiver run --spool ./spool --archive ./archive
      archiver sql "SELECT action, count(*) FROM events GROUP BY 1" --archive ./archive
      archiver query mass_deletion --archive ./archive      `archiver queries` lists more
      archiver verify --archive ./archive

    \b
    In production:
      archiver receive --spool DIR                  always: takes signed webhooks
      archiver run --spool DIR --archive s3://…     every few minutes, from cron
      archiver forward --follow                     always: sends events on to a SIEM

    Every option may be a variable (ARCHIVER_ARCHIVE) or stand in archiver.toml. Shell
    completion: eval "$(_ARCHIVER_COMPLETE=bash_source archiver)", likewise for zsh and fish.
    """


def main() -> None:
    """Run the command line and exit with the code that its help tells."""
    as_json = "--json" in sys.argv or os.environ.get("ARCHIVER_JSON", "").lower() in (
        "1",
        "true",
        "yes",
        "on",
    )
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except ArchiverError as error:
        sys.exit(fail(error, as_json=as_json))
    except click.ClickException as error:
        if as_json:
            _tell("usage", error.format_message(), code=2)
        error.show()
        sys.exit(2)
    except (click.exceptions.Abort, KeyboardInterrupt):
        if as_json:
            _tell("interrupted", "interrupted; nothing is lost", code=130)
        click.echo("interrupted; nothing is lost, run again", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _tell(kind: str, message: str, *, code: int) -> None:
    document = {"message_type": "exit_error", "kind": kind, "message": message, "hint": "", "code": code}
    click.echo(json_text(document))
