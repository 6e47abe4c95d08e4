"""docs/database.md: its script, its roles and its sessions are what a reader would get."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archiver.config import read_settings
from archiver.database import settings
from archiver.database.settings import read_sources
from archiver.inspect_source import KEEPS, MISSES
from tests.services.postgres import PASSWORD, PostgresDatabase, as_user, programs
from tests.test_readme import ROOT, Shell, session, shell_environment, unchanging

__all__ = ["shell_environment"]  # a fixture: pytest finds it here by name

PAGE = (ROOT / "docs" / "database.md").read_text(encoding="utf-8")
# What differs from run to run, and from server to server.
CHANGING = (
    (r"PostgreSQL [0-9.]+(?: \([^)]*\))?, database \w+", "PostgreSQL, database app"),
    (r"created archive \S+ in", "created archive ID in"),
    (r"(up to|due, up to) [0-9]+", r"\1 N"),
    (r"at [0-9T:.-]+Z", "at TIME"),
    (r"days before [0-9-]+", "days before DAY"),
)


def blocks(language: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def alike(lines: list[str]) -> list[str]:
    found = []
    for one in lines:
        for pattern, name in CHANGING:
            one = re.sub(pattern, name, one)  # noqa: PLW2901
        found.append(unchanging(one))
    return found


def play(shell: Shell, block: str, hidden: str = "") -> None:
    """Run a session; what it shows must be what comes out."""
    steps = session(block)
    for place, step in enumerate(steps):
        code, output = shell.run(step.command)
        told = f"$ {step.command}\n{output}"
        code_is_shown = place + 1 < len(steps) and steps[place + 1].command == "echo $?"
        assert code == 0 or code_is_shown, told
        assert not hidden or hidden not in output
        assert alike(step.shown) == alike(output.splitlines()), told


@contextmanager
def roles(database: PostgresDatabase) -> Iterator[dict[str, str]]:
    """The page's roles, with the page's own statements, under names that no other test has."""
    suffix = secrets.token_hex(4)
    names = {name: f"{name}_{suffix}" for name in ("archiver_run", "archiver_purge")}
    statements = "".join(one for one in blocks("sql") if "CREATE ROLE" in one or "pg_read_all_stats" in one)
    for name, own in names.items():
        statements = re.sub(rf"\b{name}\b", own, statements)
        statements += f"ALTER ROLE {own} PASSWORD '{PASSWORD}';"
    database.execute(statements, superuser=True)
    try:
        yield {name: as_user(database.url, own, PASSWORD) for name, own in names.items()}
    finally:
        for own in names.values():
            database.execute(f"DROP OWNED BY {own}; DROP ROLE {own}", superuser=True)


def test_the_page_can_be_followed_from_nothing(
    tmp_path: Path, postgres: PostgresDatabase, shell_environment: dict[str, str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "database-example.sql").write_text((ROOT / "docs" / "database-example.sql").read_text())
    (here / "archiver.toml").write_text(blocks("toml")[0])
    found = programs()
    environment = shell_environment | {"DATABASE_URL": postgres.url}
    if found is not None:
        environment["PATH"] += f"{os.pathsep}{found}"
    load, rest = blocks("console")
    with Shell(here, environment) as shell:
        play(shell, load)
        # Its own transactions would hold rows back for a moment.
        postgres.execute("ALTER TABLE audit_events SET (autovacuum_enabled = off)")
        with roles(postgres) as urls:
            names = {one: url.split("//")[1].split(":")[0] for one, url in urls.items()}
            shell.run(f"export RUN_URL='{urls['archiver_run']}' PURGE_URL='{urls['archiver_purge']}'")
            for name, own in names.items():
                rest = rest.replace(f"role {name}", f"role {own}")
            play(shell, rest, hidden=PASSWORD)
    ((left,),) = postgres.query("SELECT count(*) FROM audit_events")
    assert left == 3


def test_the_examples_table_is_append_only(postgres: PostgresDatabase) -> None:
    postgres.execute((ROOT / "docs" / "database-example.sql").read_text())
    with pytest.raises(Exception, match="append-only"):
        postgres.query("DELETE FROM audit_events")
    with pytest.raises(Exception, match="append-only"):
        postgres.query("UPDATE audit_events SET action = 'x'")


def test_the_columns_of_the_page_can_be_added_to_a_table_with_rows(postgres: PostgresDatabase) -> None:
    postgres.execute(
        "CREATE TABLE audit_events (id text PRIMARY KEY); INSERT INTO audit_events VALUES ('old')"
    )
    (added,) = [one for one in blocks("sql") if "ADD COLUMN xid" in one]
    postgres.execute(added)
    postgres.execute("INSERT INTO audit_events VALUES ('new')")
    assert postgres.query("SELECT id, xid::text = '0' FROM audit_events ORDER BY xid") == [
        ("old", True),
        ("new", False),
    ]
    for shown in [one for one in blocks("sql") if "pg_stat_activity" in one]:
        postgres.execute(shown)


def test_the_page_explains_every_key_of_a_source_with_its_default() -> None:
    told = PAGE[PAGE.index("\n## Configuration\n") :]
    told = told[: told.index("\n## From columns")]
    rows = dict(re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", told, re.MULTILINE))
    named = {key for cell in rows for key in re.findall(r"`(\w+)`", cell)}
    assert named == set(settings._KEYS)
    plain = read_sources("x", {"a": {"type": "database", "url_env": "U", "table": "t"}}, Path())["a"]
    for cell, default in rows.items():
        key = cell.strip("`")
        if default.isdigit():
            assert getattr(plain, key) == int(default), key
    assert plain.max_row_bytes == 16 << 20
    assert not plain.purge
    assert plain.strategy == "auto"


def test_every_strategy_has_its_words_on_the_page_and_on_the_screen() -> None:
    for name in set(settings.STRATEGIES) - {"auto"}:
        assert f"`{name}`" in PAGE
        assert name in KEEPS
        assert "{position}" in MISSES[name]


def test_the_shown_configuration_is_one(tmp_path: Path) -> None:
    (tmp_path / "archiver.toml").write_text(blocks("toml")[0])
    source = read_settings(tmp_path / "archiver.toml").sources["app"]
    assert (source.table, source.purge) == ("public.audit_events", True)


def test_every_message_in_the_trouble_table_is_one_of_ours_or_the_servers() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "archiver").rglob("*.py"))
    said = re.sub(r"""["']\s*\n\s*f?["']""", "", source)  # texts that go on in the next line
    rows = re.findall(r"^\| ([^|]+) \|", PAGE[PAGE.index("\n## Trouble\n") :], re.MULTILINE)
    told = [
        fragment.strip()
        for row in rows
        for text in re.findall(r"`([^`]+)`", row)
        for fragment in re.split(r"…|\bN\b|pg_current_xact_id\(\)", text)
    ]
    of_the_server = {"Failed to connect", "password authentication failed", "permission denied for table"}
    of_the_server |= {"canceling statement due to statement timeout", "invalid byte sequence for encoding"}
    missing = [one for one in told if len(one) > 5 and one not in said and one not in of_the_server]
    assert not missing, missing
    assert len(told) > 20


def test_every_program_in_the_crontab_is_named_by_its_whole_path() -> None:
    lines = [one for one in PAGE.splitlines() if re.match(r"[0-9*/]+ [0-9*/]+ \* \* ", one)]
    assert len(lines) >= 3
    for line in lines:
        assert "/opt/archiver/bin/archiver " in line
        assert "%" not in line
