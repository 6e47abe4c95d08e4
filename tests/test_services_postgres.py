"""The PostgreSQL of the tests: what other tests rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import adbc_driver_postgresql.dbapi as postgresql
import pytest
from adbc_driver_manager import Error

from tests.services.postgres import PASSWORD, Databases, PostgresDatabase, PostgresServer, as_user
from tests.services.process import ServiceError, wait_until

_KILLED = """
import time
from tests.services.postgres import PostgresServer
with PostgresServer.started() as server:
    print(server.folder.parent, server.admin_url, flush=True)
    time.sleep(600)
"""


def test_a_fresh_database_is_empty_and_of_the_owner(postgres: PostgresDatabase) -> None:
    assert postgres.query(
        "SELECT current_database(), count(*) FROM pg_tables WHERE schemaname = 'public'"
    ) == [(postgres.name, 0)]
    postgres.execute("CREATE TABLE one (id int8); INSERT INTO one VALUES (1), (2)")
    assert postgres.query("SELECT id FROM one WHERE id > $1", 1) == [(2,)]


def test_a_failed_statement_of_a_script_is_told(postgres: PostgresDatabase) -> None:
    with pytest.raises(ServiceError, match="nowhere"):
        postgres.execute("SELECT 1; SELECT * FROM nowhere; CREATE TABLE one (id int8)")
    assert postgres.query("SELECT to_regclass('one')::text") == [(None,)]


def test_a_session_holds_a_transaction_open_until_it_commits(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE one (id int8)")
    with postgres.session() as writer:
        writer.run("INSERT INTO one VALUES ($1)", 7)
        assert postgres.query("SELECT * FROM one") == []
        writer.commit()
        writer.run("INSERT INTO one VALUES ($1)", 8)
    assert postgres.query("SELECT * FROM one") == [(7,)]


def test_a_dropped_database_takes_what_is_open_in_it(postgres_server: Databases) -> None:
    database = PostgresDatabase(postgres_server, postgres_server.fresh_database())
    database.execute(
        "CREATE TABLE one (id int8); BEGIN; INSERT INTO one VALUES (1); PREPARE TRANSACTION 'it''s'"
    )
    with database.session() as left:
        left.run("INSERT INTO one VALUES (2)")
        postgres_server.drop_database(database.url)
        with pytest.raises(Error):
            left.run("SELECT 1")
    count = "SELECT count(*) FROM pg_database WHERE datname = $1"
    assert postgres_server.query(count, database.name) == [(0,)]


def test_a_role_has_the_rights_it_was_given_and_no_others(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE one (id int8)")
    with postgres.role() as url, pytest.raises(Error, match="permission denied"):
        postgres.server.query("SELECT * FROM one", url=url)
    with postgres.role("pg_read_all_data") as url:
        assert postgres.server.query("SELECT * FROM one", url=url) == []
    name = urlsplit(url).username
    assert postgres.query("SELECT count(*) FROM pg_roles WHERE rolname = $1", name) == [(0,)]


def test_settings_of_the_user_reach_no_test() -> None:
    held = {name for name in os.environ if name.startswith("PG")}
    assert held == {"PGPASSFILE", "PGSERVICEFILE"}
    assert not Path(os.environ["PGPASSFILE"]).exists()


def test_over_the_network_the_password_is_asked_for(own_postgres_server: PostgresServer) -> None:
    server = own_postgres_server
    assert server.password == PASSWORD
    with pytest.raises(Error, match="password authentication failed"):
        postgresql.connect(as_user(server.owner_url, "archiver_test", "another"))
    with closing(postgresql.connect(server.owner_url)):
        pass
    assert server.query("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", url=server.url()) == [
        (False,)
    ]


def test_a_server_stopped_at_once_and_started_again_has_what_was_committed(
    own_postgres_server: PostgresServer,
) -> None:
    server = own_postgres_server
    url = server.fresh_database()
    server.execute("CREATE TABLE one (id int8); INSERT INTO one VALUES (1)", url)
    server.stop(at_once=True)
    with pytest.raises(Error):
        server.query("SELECT 1", url=url)
    server.start()
    assert server.query("SELECT id FROM one", url=url) == [(1,)]
    server.restart()
    assert server.query("SELECT id FROM one", url=url) == [(1,)]


def test_a_standby_follows_and_promoted_it_has_another_timeline(own_postgres_server: PostgresServer) -> None:
    server = own_postgres_server
    database = PostgresDatabase(server, server.fresh_database())
    database.execute("CREATE TABLE one (id int8)")
    with server.standby() as replica:
        copy = replica.url(database.name)
        database.execute("INSERT INTO one VALUES (1)")
        server.wait_for(replica)
        assert replica.in_recovery()
        assert replica.query("SELECT id FROM one", url=copy) == [(1,)]
        replica.promote()
        replica.execute("INSERT INTO one VALUES (2)", copy)
        assert (server.timeline(), replica.timeline()) == (1, 2)
        assert replica.system_identifier() == server.system_identifier()
    assert database.query("SELECT id FROM one") == [(1,)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_killed_test_leaves_neither_server_nor_folder(own_postgres_server: PostgresServer) -> None:
    with subprocess.Popen([sys.executable, "-c", _KILLED], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        folder, url = child.stdout.readline().split()
        assert own_postgres_server.query("SELECT 1", url=url) == [(1,)]
        child.send_signal(signal.SIGKILL)
    wait_until("the folder is gone", lambda: not Path(folder).exists(), seconds=20)
    time.sleep(0.1)
    with pytest.raises(Error):
        postgresql.connect(url)
