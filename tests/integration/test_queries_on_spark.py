"""Each named query gives on a real Spark, over the archive's Delta log, the rows that it gives on DuckDB.

One Spark session answers everything. Left out are cases with supplements, which the Delta log
does not show, and questions to the quarantine, of which only the ledger tells what is still in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import archiver
from archiver.delta.publish import publish
from archiver.query import ddl
from archiver.query.catalog import Catalog
from archiver.query.dialect import translate
from tests.integration.other_engines import CASES as ALL
from tests.integration.other_engines import Together, comparable, name_of, rows_of, together
from tests.queries.case import archive_of, rubbish
from tests.queries.cases.failed_logins import CASES
from tests.support import archive_rows, row
from tests.test_dialect import HOSTILE, asks_for

pytestmark = pytest.mark.spark
SPARK = Path(__file__).resolve().parents[2] / ".venv/spark"
# Of a database; the second has columns that a delivery has elsewhere.
ROWS = (
    row("r0", ip_country="DE"),
    row("r1", created_at=None, occurred_at="2026-03-29T10:00:00.25Z", timestamp="?", data={"id": "x"}),
)
COLUMNS = "event_time, id, actor_id, action, ip_country, workspace_id, workspace, dt, body, shape"


class Questions:
    """What Spark is to be asked, all at once, and what it answered."""

    def __init__(self) -> None:
        self.asked: dict[str, dict[str, list[str]]] = {}
        self.answers: dict[str, list[Any]] = {}

    def add(self, name: str, setup: list[str], ask: list[str]) -> None:
        self.asked[name] = {"setup": setup, "ask": ask}

    def ask(self, folder: Path) -> None:
        python, jars = SPARK / "bin/python", SPARK / "ivy/jars"
        if not (python.exists() and jars.is_dir() and shutil.which("java")):
            reason = "no Spark; run `.ci/install-services spark`"
            if os.environ.get("ARCHIVER_REQUIRE_SPARK") == "1":
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
        file = folder / "asked.json"
        file.write_text(json.dumps(list(self.asked.values())))
        done = subprocess.run(
            [python, Path(__file__).with_name("spark_queries.py"), file, jars, folder],
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
            cwd=folder,
            env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(python), "TZ": "UTC"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        self.answers = dict(zip(self.asked, json.loads(done.stdout), strict=True))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Together:
    return together(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def spark(known: Together, tmp_path_factory: pytest.TempPathFactory) -> Questions:
    """Everything that is asked below, answered."""
    folder = tmp_path_factory.mktemp("spark")
    questions = Questions()
    # Read by its Delta log once, and kept: to plan that anew for each question takes most of the time.
    table = f"SELECT /*+ COALESCE(1) */ * FROM delta.`{known.place}/events`"
    questions.add("table", [f"CACHE TABLE everything AS {table}"], ["SELECT count(*) FROM everything"])
    for number, one in known.asked.items():
        there = len(one.mark) + 1
        view = (
            "CREATE OR REPLACE TEMPORARY VIEW events AS SELECT * EXCEPT (workspace_id, workspace), "
            f"substring(workspace_id, {there}) AS workspace_id, substring(workspace, {there}) AS workspace "
            f"FROM everything WHERE startswith(workspace, '{one.mark}')"
        )
        questions.add(str(number), [view], [translate(one.query, one.values, "spark")])
    questions.add("hostile", [], [translate(*asks_for(text), "spark") for text in HOSTILE])
    for name, form in (("delta", "parquet"), ("lines", "jsonl.gz")):
        deliveries = (*CASES[0].deliveries, rubbish(b"no json"))
        archive = archive_of(folder / f"it's 100%20 a {name}", deliveries, format=form)
        archive_rows(archive, *ROWS)
        if form == "parquet":
            publish(archive)
        target = ddl.target_of(archive, "spark", database=name)
        views = {
            query.name: text for query, text in ddl.views(target, Catalog()) if not text.startswith("--")
        }
        setup = [*ddl.tables(target), ddl.quarantine(target), *views.values()]
        ask = [
            f"SELECT {COLUMNS} FROM {name}.events ORDER BY event_time, id",
            f"SELECT * FROM {name}.failed_logins",
            f"SELECT ordinal, reason, body FROM {name}.quarantine_files",
            *(f"SELECT * FROM {name}.{one}" for one in views if form == "parquet"),
        ]
        questions.add(name, setup, ask)
    questions.ask(folder)
    return questions


@pytest.mark.parametrize("number", range(len(ALL)), ids=name_of)
def test_a_query_finds_on_spark_what_it_finds_on_duckdb(
    number: int, known: Together, spark: Questions
) -> None:
    if number not in known.asked:
        pytest.skip("it asks the quarantine or has supplements, of which only we tell, or half a character")
    (rows,) = spark.answers[str(number)]
    assert not isinstance(rows, str), rows
    assert known.asked[number].answer(rows) == known.asked[number].wanted


def test_spark_reads_the_rows_of_all_cases(known: Together, spark: Questions) -> None:
    wanted = known.reader.sql("SELECT count(*) AS n FROM events").arrow()["n"][0].as_py()
    assert spark.answers["table"] == [[[wanted]]]
    assert wanted > len(known.asked)


def test_a_hostile_text_is_a_text_on_spark(spark: Questions) -> None:
    assert spark.answers["hostile"] == [[[text]] for text in HOSTILE]


@pytest.mark.parametrize("name", ["delta", "lines"])
def test_the_table_and_the_views_that_ddl_makes_are_read_by_spark(
    name: str, spark: Questions, tmp_path: Path
) -> None:
    archive_rows(archive_of(tmp_path / "a", CASES[0].deliveries), *ROWS)
    ours = archiver.open(tmp_path / "a")
    events, failed, quarantined, *views = spark.answers[name]
    assert not isinstance(events, str), events
    wanted = ours.sql(f"SELECT {COLUMNS} FROM events ORDER BY event_time, id").arrow()
    assert comparable(events) == comparable(rows_of(wanted))
    assert len(events) > 9
    assert comparable(failed) == comparable(rows_of(ours.query("failed_logins").arrow()))
    assert quarantined == [[len(CASES[0].deliveries), "not_json", "no json"]]
    assert len(views) > 5 or name == "lines"
    assert [view for view in views if isinstance(view, str)] == []
