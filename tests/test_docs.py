"""The documents name what the code has: columns, reasons, folders, verbs, exit codes, modules."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import click
import pytest

from archiver import archive, cli, columns, config, errors, layout, segment
from archiver.block import REASONS
from archiver.cli import common, main
from archiver.event import FORMS
from archiver.ledger import entry
from archiver.verify import report

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "archiver"


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """Return what stands under `heading` up to the next of its level or above."""
    text = text_of(name)
    level = heading.split(" ", maxsplit=1)[0]
    start = text.index(f"\n{heading}\n")
    following = re.search(rf"\n#{{1,{len(level)}}} ", text[start + len(heading) + 1 :])
    return text[start:][: following.start() + len(heading) + 1] if following else text[start:]


def codes_of_errors() -> set[int]:
    found = {errors.ArchiverError.exit_code}
    pending = [errors.ArchiverError]
    while pending:
        for kind in pending.pop().__subclasses__():
            found.add(kind.exit_code)
            pending.append(kind)
    return found


EXIT_CODES = sorted(codes_of_errors() | {0, 3, 130})


@pytest.mark.parametrize("dataset", sorted(columns.SCHEMAS))
def test_the_format_names_every_column(dataset: str) -> None:
    told = section("docs/format.md", "## 7. Columns")
    for name in columns.SCHEMAS[dataset].names:
        assert f"`{name}`" in told, name


@pytest.mark.parametrize("dataset", ["events", "alerts"])
def test_the_format_lists_the_members_columns_in_the_files_order(dataset: str) -> None:
    told = section("docs/format.md", f"### Of `{dataset}`")
    listed = re.findall(r"^\| `([a-z_]+)` \|", told, re.MULTILINE)
    assert listed == columns.SCHEMAS[dataset].names[: len(listed)]
    common_columns = re.findall(
        r"^\| `([a-z_]+)` \|", section("docs/format.md", "### Common columns"), re.MULTILINE
    )
    assert listed + common_columns == columns.SCHEMAS[dataset].names


def test_the_format_gives_every_columns_type() -> None:
    told = section("docs/format.md", "## 7. Columns")
    kinds = columns.EVENT_ENVELOPE | columns.EVENT_MEMBERS | columns.ALERT_MEMBERS
    words = {
        columns.TEXT: "string",
        columns.INTEGER: "int64",
        columns.INSTANT: "time",
        columns.JSON: "string, JSON",
    }
    for name, kind in kinds.items():
        row = re.search(rf"^\| `{name}` \| ([^|]+) \|", told, re.MULTILINE)
        assert row is not None, name
        assert row[1] == words[kind], name


def test_the_format_explains_every_reason_once() -> None:
    told = section("docs/format.md", "### Reasons")
    assert re.findall(r"^\| `([a-z0-9_]+)` \|", told, re.MULTILINE) == list(REASONS)


def test_the_format_names_every_folder_of_the_layout() -> None:
    told = section("docs/format.md", "## 1. Objects and keys")
    folders = [f"{dataset}/" for dataset in layout.DATASETS]
    folders += [
        layout.LEDGER,
        layout.LISTS,
        layout.CHECKPOINTS,
        layout.QUARANTINE,
        layout.INDEX,
        layout.PROBES,
    ]
    for folder in folders:
        assert f"`{folder}" in told, folder


def test_the_format_lists_every_member_of_a_commit() -> None:
    told = section("docs/format.md", "## 4. Commits")
    content = entry.Content(operation="init", batch="", attempt="", archive={})
    commit = entry.Commit(sequence=0, previous="", committed_us=0, oldest_readable=0, content=content)
    for member in json.loads(commit.encode()):
        assert re.search(rf"^\| `{member}` \|", told, re.MULTILINE), member
    for operation in entry.OPERATIONS:
        assert f"| `{operation}` |" in told, operation
    for counted in fields(entry.Counts):
        assert f"`{counted.name}`" in told, counted.name


def test_the_format_names_every_form_and_limit() -> None:
    told = text_of("docs/format.md")
    for form in FORMS:
        assert f"`{form.schema}`" in told
    assert f"{segment.LARGEST_BODY_BYTES:,}" in told
    assert f'"{segment.MAGIC.decode()}"' in told
    assert f"({archive.IDENTITY_WINDOW_DAYS} days)" in told
    assert f"1 to {layout.LONGEST_PARTITION_VALUE_BYTES} bytes" in told
    assert f"more than {entry.LONGEST_INLINE_LIST:,} new files" in told


@pytest.mark.parametrize("name", ["README.md", "docs/operations.md"])
def test_exit_codes_are_all_explained_and_no_others(name: str) -> None:
    told = section(name, "## Exit codes")
    listed = sorted(int(code) for code in re.findall(r"^\| ([0-9]+) \|", told, re.MULTILINE))
    assert listed == EXIT_CODES


def test_the_help_tells_every_exit_code() -> None:
    for code in EXIT_CODES:
        assert re.search(rf"(?:^|[\s·]){code} [a-z]", common.EXIT_CODES), code


def test_the_readme_lists_every_verb_with_what_its_help_says() -> None:
    told = section("README.md", "## Commands")
    listed = dict(re.findall(r"^\| `archiver ([a-z]+)` \| (.+) \|$", told, re.MULTILINE))
    assert listed == {name: what for name, (_, _, what) in main._VERBS.items()}


def test_every_verb_can_be_loaded_and_explains_itself() -> None:
    context = click.Context(main.cli)
    for name in main.cli.list_commands(context):
        command = main.cli.get_command(context, name)
        assert command is not None
        assert command.help, name


def test_the_readme_lists_every_setting() -> None:
    told = section("README.md", "## Configuration")
    for table, members in config._KEYS.items():
        assert f"[{table}" in told, table
        for member in members:
            assert re.search(rf"\b{member}\b", told), f"{table}.{member}"


def test_the_threat_model_and_operations_use_every_word_of_verify() -> None:
    for name in ("docs/threat-model.md", "docs/operations.md"):
        for word in report.WORDS:
            assert f"`{word}`" in text_of(name), (name, word)


def test_the_design_names_every_module_and_no_other() -> None:
    told = section("docs/design.md", "## Packages")
    listed = set(re.findall(r"^\| `([a-z0-9_/]+\.py)` \|", told, re.MULTILINE))
    there = {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")
    }
    assert listed == there


def documents() -> list[str]:
    return [
        "README.md",
        *sorted(str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md")),
    ]


def _anchor(heading: str) -> str:
    plain = re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower())
    return plain.replace(" ", "-")


@pytest.mark.parametrize("name", documents())
def test_links_between_documents_lead_somewhere(name: str) -> None:
    text = re.sub(r"```.*?```", "", text_of(name), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ .+$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(_anchor, headings), target


def test_decisions_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in (DOCS / "decisions").glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    for name in names:
        text = text_of(f"docs/decisions/{name}")
        for part in ("**Context.**", "**Decision.**", "**Rejected", "**Consequences.**"):
            assert part in text, (name, part)


def test_the_command_line_package_is_the_only_one_that_imports_click() -> None:
    assert cli.__file__ is not None
    for path in PACKAGE.rglob("*.py"):
        if "cli" not in path.relative_to(PACKAGE).parts:
            assert not re.search(r"^\s*(?:import|from) click\b", path.read_text(), re.MULTILINE), path


def test_nothing_says_to_install_by_a_name_that_may_be_another_program_s_on_an_index() -> None:
    told = [ROOT / "README.md", *DOCS.rglob("*.md"), *DOCS.rglob("*.html"), *PACKAGE.rglob("*.py")]
    told += (ROOT / "notebooks").glob("*.ipynb")
    by_name = re.compile(r"pip install [^`\n]*?(?<![\w./-])archiver\b(?!\.)")
    assert by_name.search("pip install 'archiver[notebook]'")
    assert [str(one) for one in told if by_name.search(one.read_text(encoding="utf-8"))] == []
