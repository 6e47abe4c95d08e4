"""`archiver query` and `archiver queries`: options of a query's own, folders of one's own, help."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import pytest

from archiver.cli.query import DIALECTS, WITH_VARIABLES, ParameterOption, examples, query_group
from archiver.query import dialect
from archiver.query.catalog import Catalog
from archiver.query.header import OPTIONS
from archiver.query.reference import EXAMPLE
from tests.asking import HEAD, mine, place
from tests.calling import Archiver, archiver
from tests.support import archive_bodies, event, new_archive

__all__ = ["archiver", "mine", "place"]  # fixtures: pytest finds them here by name


def failures(done: Any) -> dict[str, int]:
    return {row["actor_id"]: row["failures"] for row in done.document["rows"]}


def test_a_query_is_asked_with_its_parameters_as_options(archiver: Archiver, place: Path) -> None:
    ask = ("query", "failed_logins", "--archive", place, "--json")
    assert failures(archiver(*ask)) == {"ann": 7}
    assert failures(archiver(*ask, "--at-least", 3)) == {"ann": 7, "bob": 3}
    assert failures(archiver(*ask, "--at-least=3", "--workspace", "ws_2")) == {"bob": 3}
    assert failures(archiver(*ask, "--at-least", 1, "--until", "2026-03-26")) == {}
    assert failures(archiver("query", "failed-logins", *ask[2:])) == {"ann": 7}


def test_the_document_names_the_query_and_what_it_was_asked_with(archiver: Archiver, place: Path) -> None:
    document = archiver("query", "failed_logins", "-a", place, "--json", "--since", "2026-03-01").document
    assert (document["message_type"], document["query"], document["sequence"]) == (
        "answer",
        "failed_logins",
        1,
    )
    assert document["parameters"]["since"] == "2026-03-01T00:00:00.000000Z"
    assert document["parameters"]["at_least"] == 5


def test_an_answer_names_its_commit_as_verify_expects_it(archiver: Archiver, place: Path) -> None:
    digests = archiver("sql", "SELECT sequence, digest FROM commits", "-a", place, "--json").document["rows"]
    for row in digests[:2]:
        ask = ("query", "failed_logins", "-a", place, "--as-of", row["sequence"])
        document = archiver(*ask, "--json").document
        assert (document["sequence"], document["digest"]) == (row["sequence"], row["digest"])
        proof = f"archiver verify --expect {row['sequence']}:{row['digest']}"
        assert proof in archiver(*ask, "--verbose").err
        assert proof not in archiver(*ask).err
        assert archiver("verify", "-a", place, "--expect", proof.rpartition(" ")[2]).code == 0


def test_no_row_is_no_output_as_json_lines_so_that_cron_mails_nothing(
    archiver: Archiver, place: Path
) -> None:
    done = archiver("query", "mass_deletion", "-a", place, "--since", "2d", "--format", "jsonl")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_options_of_a_query_before_its_name_are_refused_with_where_they_stand(archiver: Archiver) -> None:
    refused = archiver("query", "--since", "7d", "failed_logins")
    assert refused.code == 2
    assert "archiver query NAME --since" in refused.err.replace("\n", " ")


def test_a_query_in_the_place_of_a_command_is_told_how_to_be_shown(archiver: Archiver) -> None:
    refused = archiver("queries", "failed_logins")
    assert refused.code == 2
    assert "archiver queries show NAME" in refused.err


def test_since_until_and_workspace_have_the_variables_that_sql_has_and_others_none(
    archiver: Archiver, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ("query", "failed_logins", "--archive", place, "--json", "--at-least", 1)
    monkeypatch.setenv("ARCHIVER_WORKSPACE", "ws_2")
    assert failures(archiver(*ask)) == {"bob": 3}
    monkeypatch.setenv("ARCHIVER_UNTIL", "2026-03-26")
    assert failures(archiver(*ask)) == {}
    assert failures(archiver(*ask, "--until", "2026-03-27", "--workspace", "ws_1")) == {"ann": 7}
    monkeypatch.setenv("ARCHIVER_AT_LEAST", "1000")
    monkeypatch.setenv("ARCHIVER_ACTION", "nothing")
    assert failures(archiver(*ask[:-2], "--until", "2026-03-27", "--workspace", "ws_1")) == {"ann": 7}


def test_every_format_and_the_file_that_appears_when_it_is_whole(archiver: Archiver, place: Path) -> None:
    ask = ("query", "failed_logins", "--archive", place)
    rows = list(csv.DictReader(io.StringIO(archiver(*ask, "--format", "csv").out)))
    assert [row["failures"] for row in rows] == ["7"]
    assert json.loads(archiver(*ask, "--format", "jsonl").out)["actor_id"] == "ann"
    assert json.loads(archiver(*ask, "--format", "json").out)[0]["actor_id"] == "ann"
    assert archiver(*ask, "--format", "markdown").out.startswith("| workspace\\_id |")
    assert archiver(*ask, "--output", "x.parquet").code == 0
    assert pq.read_table("x.parquet")["failures"].to_pylist() == [7]


def test_as_of_asks_the_archive_as_it_was_then(archiver: Archiver, place: Path) -> None:
    ask = ("query", "failed_logins", "--archive", place, "--json", "--as-of")
    assert failures(archiver(*ask, 0)) == {}
    assert failures(archiver(*ask, 1)) == {"ann": 7}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--at-least", "many"), "at_least: 'many' is not a whole number"),
        (("--since", "soon"), "since: 'soon' is not a date"),
        (
            ("--since", "2026-03-02", "--until", "2026-03-01"),
            "since (2026-03-02) is after until (2026-03-01)",
        ),
        (("--atleast", "3"), "--at-least"),
        (("--at-least", "3", "--at-least", "4"), "--at-least stands there twice"),
        (("--dialect", "athena"), "--print"),
        (("--draw", "--format", "csv"), "--format"),
    ],
)
def test_what_cannot_be_asked_ends_with_2_and_says_why(
    archiver: Archiver, place: Path, words: tuple[str, ...], told: str
) -> None:
    done = archiver("query", "failed_logins", "--archive", place, *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_bad_value_is_told_with_what_the_parameter_means(archiver: Archiver, place: Path) -> None:
    assert "hint: at_least means: leave out who failed less often" in (
        archiver("query", "failed_logins", "-a", place, "--at-least", "many").err
    )


def test_sql_too_refuses_a_time_that_ends_before_it_begins(archiver: Archiver, place: Path) -> None:
    done = archiver("sql", "SELECT 1", "-a", place, "--since", "2026-03-02", "--until", "2026-03-01")
    assert (done.code, done.out) == (2, "")
    assert "--since is after --until" in done.err


@pytest.mark.parametrize("words", [("query", "faild_logins"), ("queries", "show", "faild_logins")])
def test_an_unknown_name_ends_with_2_and_the_nearest_is_proposed(
    archiver: Archiver, words: tuple[str, ...]
) -> None:
    done = archiver(*words)
    assert (done.code, done.out) == (2, "")
    assert "did you mean failed_logins?" in done.err
    assert archiver(*words, "--json").document["message_type"] == "exit_error"


def test_what_goes_wrong_in_duckdb_names_the_query(archiver: Archiver, place: Path, mine: Path) -> None:
    (mine / "wrong.sql").write_text(f"{HEAD}SELECT nothing FROM events")
    (mine / "late.sql").write_text(f"{HEAD}SELECT CAST(action AS INTEGER) AS n FROM events")
    for name in ("wrong", "late"):
        done = archiver("query", name, "--queries", mine, "--archive", place)
        assert done.code == 1
        assert f"{name}: " in done.err


# A user's own queries.


@pytest.mark.parametrize(
    "way", ["before", "after", "variable", "file", "file before", "file named by variable"]
)
def test_a_folder_of_ones_own_is_named_in_any_way(
    archiver: Archiver, place: Path, mine: Path, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "else" / "where").mkdir(parents=True)
    config = tmp_path / "else" / "where" / "my.toml"
    config.write_text(f'[queries]\nfolders = ["../../mine"]\n[archive]\nlocation = "{place}"\n')
    rest: tuple[Any, ...] = ("my_actions", "--archive", place)
    if "variable" in way:
        monkeypatch.setenv(
            *(("ARCHIVER_CONFIG", str(config)) if "file" in way else ("ARCHIVER_QUERIES", str(mine)))
        )
    option = {"before": ("--queries", mine), "file before": ("-c", config)}.get(way, ())
    behind = {"after": ("--queries", mine), "file": (f"--config={config}",)}.get(way, ())
    done = archiver("query", *option, *rest, "--json", *behind)
    assert done.code == 0, done.err
    assert done.document["rows"] == [{"action": "auth.login_failed", "events": 10}]
    shown = archiver("queries", *option, "show", "my_actions", *behind)
    assert (shown.code, "What is mine?" in shown.out) == (0, True)
    listed = archiver("queries", *option, *behind)
    assert "What is mine?" in listed.out


def test_several_folders_and_several_in_the_variable(
    archiver: Archiver, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "other.sql").write_text(f"{HEAD}SELECT 1 AS n")

    def names(*words: object) -> set[str]:
        return {one["name"] for one in archiver("queries", "--json", *words).document["queries"]}

    assert {"my_actions", "other"} <= names("--queries", mine, "--queries", tmp_path / "more")
    monkeypatch.setenv("ARCHIVER_QUERIES", f"{mine}:{tmp_path / 'more'}")
    assert {"my_actions", "other", "failed_logins"} <= names()
    assert names("--queries", tmp_path / "more") & {"my_actions", "other"} == {"other"}  # a flag beats it


def test_a_folder_that_is_not_there_ends_with_2(archiver: Archiver) -> None:
    for words in (("query", "failed_logins"), ("queries",), ("queries", "show", "failed_logins")):
        done = archiver(*words, "--queries", "nowhere")
        assert (done.code, done.out) == (2, "")
        assert "nowhere: no such folder" in done.err
    assert archiver("query", "--queries", "nowhere", "--help").code == 0


@pytest.mark.parametrize("text", ["folders = 'mine'", "folders = [7]", "folder = []"])
def test_folders_that_mean_nothing_end_with_2(archiver: Archiver, text: str) -> None:
    Path("archiver.toml").write_text(f"[queries]\n{text}\n")
    done = archiver("queries")
    assert done.code == 2
    assert "[queries]" in done.err


def test_a_broken_file_is_listed_with_its_problem_and_holds_up_nothing(
    archiver: Archiver, place: Path, mine: Path
) -> None:
    (mine / "broken.sql").write_text("-- title: \x1b[31mx\nSELECT 1")
    (mine / "failed_logins.sql").write_text(f"{HEAD}SELECT 42 AS n")
    (mine / "taken.sql").write_text(f"{HEAD}-- param format VARCHAR NULL which\nSELECT $format")
    listed = archiver("queries", "--queries", mine)
    assert listed.code == 0
    assert "cannot be asked" in listed.out
    assert "the header has no answers" in listed.out
    assert "--format is an option of `archiver query`" in listed.out
    assert "\x1b" not in listed.out
    assert f"(in place of {Catalog().entry('failed_logins').path})" in listed.out
    told = {one["name"]: one for one in archiver("queries", "--queries", mine, "--json").document["queries"]}
    assert told["failed_logins"]["replaces"].endswith("queries/failed_logins.sql")
    assert told["broken"]["problem"]
    assert told["my_actions"]["problem"] is None
    assert archiver("query", "my_actions", "--queries", mine, "-a", place).code == 0
    assert archiver("query", "failed_logins", "--queries", mine, "-a", place, "--json").document["rows"] == [
        {"n": 42}
    ]
    done = archiver("query", "broken", "--queries", mine, "-a", place)
    assert done.code == 2
    assert "broken.sql: the header has no answers" in done.err


def test_the_example_of_the_page_can_be_asked(archiver: Archiver, tmp_path: Path) -> None:
    (tmp_path / "ex").mkdir()
    (tmp_path / "ex" / "logins_without_second_factor.sql").write_text(EXAMPLE)
    archive_bodies(
        new_archive(tmp_path / "a"),
        *(event(f"l{n}", actor_id=f"u{n}", action="auth.login") for n in range(2)),
        event("m", actor_id="u1", action="auth.mfa_verified", timestamp="2026-03-26T10:19:59.999999Z"),
    )
    ask = ("query", "logins_without_second_factor", "--queries", tmp_path / "ex", "-a", tmp_path / "a")
    assert archiver(*ask, "--json").document["rows"] == [{"actor_id": "u0", "logins": 1}]


# Listing and showing.


def test_the_list_groups_what_each_query_answers(archiver: Archiver, mine: Path) -> None:
    out = archiver("queries", "--queries", mine).out
    assert (
        out.index("Logins:") < out.index("failed_logins") < out.index("My things:") < out.index("my_actions")
    )
    for query in Catalog():
        assert f"{query.name} " in out
        assert query.answers in out


def test_the_list_as_a_document(archiver: Archiver) -> None:
    document = archiver("queries", "--json").document
    assert document["message_type"] == "queries"
    one = next(one for one in document["queries"] if one["name"] == "failed_logins")
    assert one["parameters"][0] == {
        "name": "since",
        "type": "TIMESTAMP",
        "default": "1970-01-01",
        "least": None,
        "most": None,
        "meaning": "from this moment on",
    }
    assert one["draw"] == {"kind": "bars", "column": "failures", "by": None}
    assert "sql" not in one


def test_show_tells_all_and_sql_prints_the_file_alone(archiver: Archiver) -> None:
    query = Catalog().get("failed_logins")
    out = archiver("queries", "show", "failed_logins").out
    for part in (query.title, "--at-least NUMBER", "[default: 5; from 1]", "[BIGINT]", query.statement):
        assert part in out
    assert out.index("Parameters:") < out.index("Columns") < out.index("SELECT")
    text = archiver("queries", "show", "failed-logins", "--sql").out
    assert text.rstrip() == query.path.read_text().rstrip()
    document = archiver("queries", "show", "failed_logins", "--json").document
    assert (document["message_type"], document["sql"]) == ("query", query.statement)


@pytest.mark.parametrize("query", list(Catalog()), ids=lambda query: query.name)
def test_help_teaches_what_a_query_answers(archiver: Archiver, query: Any) -> None:
    done = archiver("query", query.name, "--help")
    assert done.code == 0
    flat = " ".join(done.out.split())
    assert f"{query.title}. {query.answers}" in flat
    assert f"When: {query.when}" in flat
    order = ["Parameters:", "Columns of the answer:", "Examples:", "Options of every query:", "Exit codes:"]
    places = [done.out.find(part) for part in order if part != "Columns of the answer:" or query.columns]
    assert places == sorted(places)
    assert -1 not in places
    for one in query.parameters:
        assert f"--{one.name.replace('_', '-')}" in done.out
        assert one.told.replace(" ", "") in "".join(done.out.split())
    assert "datetime" not in done.out
    assert "[default: 1970-01-01]" in flat or all(one.name != "since" for one in query.parameters)


def test_the_examples_of_the_help_are_commands(archiver: Archiver, place: Path) -> None:
    for line in examples(Catalog().get("failed_logins")):
        done = archiver(*line.split()[1:], "--archive", place)
        assert done.code == 0, (line, done.err)
    for query in Catalog():
        for line in examples(query):
            words = line.split()
            assert words[:3] == ["archiver", "query", query.name]
            _command(query.name).make_context(query.name, words[3:])


def test_a_boolean_is_a_pair_of_flags_and_times_are_as_a_user_writes_them(
    archiver: Archiver, mine: Path, place: Path
) -> None:
    ask = ("query", "my_actions", "--queries", mine)
    text = " ".join(archiver(*ask, "--help").out.split())
    assert "--only-new / --no-only-new only new ones [default: false]" in text
    assert "[default: 2026-01-01T12:00:00.000000Z]" in text
    for flag, value in (("--only-new", True), ("--no-only-new", False)):
        assert archiver(*ask, "-a", place, "--json", flag).document["parameters"]["only_new"] is value


def test_the_help_of_the_group_lists_queries_even_with_a_broken_configuration(archiver: Archiver) -> None:
    Path("archiver.toml").write_text("[queries\n")
    out = archiver("query", "--help").out
    assert "failed_logins" in out
    assert archiver("query", "failed_logins").code == 2


# Printing.


def test_print_needs_no_archive_and_prints_values_in_their_places(archiver: Archiver) -> None:
    done = archiver("query", "failed_logins", "--at-least", 77, "--workspace", "it's", "--print")
    assert done.code == 0, done.err
    assert "77" in done.out
    assert "'it''s'" in done.out
    document = archiver("query", "failed_logins", "--print", "--dialect", "trino", "--json").document
    assert (document["message_type"], document["dialect"]) == ("statement", "trino")
    done = archiver("query", "failed_logins", "--print", "--output", "x")
    assert (done.code, Path("x").exists()) == (2, False)


def test_the_dialects_are_those_that_can_be_printed() -> None:
    assert sorted(DIALECTS) == sorted(dialect.DIALECTS)


# Options.


def test_the_reserved_names_are_the_options_of_every_query() -> None:
    command = _command("failed_logins")
    ours = {
        name.removeprefix("--").replace("-", "_").removeprefix("no_")
        for option in command.params
        if isinstance(option, click.Option) and not isinstance(option, ParameterOption)
        for name in [*option.opts, *option.secondary_opts]
        if name.startswith("--")
    }
    assert ours | {"help", "version"} == OPTIONS


def test_only_since_until_and_workspace_have_variables() -> None:
    for query in Catalog():
        for option in _command(query.name).params:
            if isinstance(option, ParameterOption):
                expected = f"ARCHIVER_{option.parameter.name.upper()}"
                assert option.envvar == (expected if option.parameter.name in WITH_VARIABLES else None)


def _command(name: str) -> click.Command:
    command = query_group.get_command(click.Context(query_group), name)
    assert command is not None
    return command
