"""A PostgreSQL of one's own in a temporary folder, for tests.

    with PostgresServer.started() as server:
        url = server.fresh_database()          # empty, owned by `archiver_test`, with a password
        server.execute("CREATE TABLE …; …", url)
        with server.standby() as replica:
            replica.promote()                  # another timeline from here on

Needs the Debian package postgresql (any version from 13); its programs are looked for in PATH and
under /usr/lib/postgresql. As root it runs as `nobody`. Takes about a second to start. Nothing is
written through to the disk, so such a server survives a restart and no power cut.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import adbc_driver_postgresql.dbapi as postgresql
from adbc_driver_manager import Error

from tests.services import process

OWNER = "archiver_test"
# Long and like nothing else, so that a test finds it wherever it should not be.
PASSWORD = "7tQz-wrong-place-Lk93vXe"
INSTALLED = Path("/usr/lib/postgresql")

_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_permissions = 0700
fsync = off
full_page_writes = off
max_prepared_transactions = 20
max_connections = 60
max_wal_senders = 4
wal_keep_size = 64MB
shared_buffers = 64MB
password_encryption = scram-sha-256
timezone = UTC
log_timezone = UTC
"""
# Over the network only with the password; over the socket, which only we reach, as anybody.
_ACCESS = """\
local   all         all                     trust
local   replication all                     trust
host    all         all     127.0.0.1/32    scram-sha-256
"""


def programs() -> Path | None:
    """The folder of PostgreSQL's server programs, the newest if there are several; None without them."""
    versions = [one for one in INSTALLED.glob("*/bin") if (one / "initdb").exists()]
    if versions:
        return max(versions, key=lambda one: float(one.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@contextmanager
def without_settings_of_the_user() -> Iterator[None]:
    """Take out of the environment what libpq would read; put it back at the end."""
    before = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    for name in before:
        del os.environ[name]
    # libpq says on stderr that /dev/null is no plain file; a file that is not there it passes over.
    os.environ["PGPASSFILE"] = os.environ["PGSERVICEFILE"] = "/nonexistent/pg"
    yield
    for name in ("PGPASSFILE", "PGSERVICEFILE"):
        os.environ.pop(name, None)
    os.environ.update(before)


def at_database(url: str, database: str) -> str:
    """The same server, user and options, another database."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{database}" + (f"?{parts.query}" if parts.query else "")


def as_user(url: str, user: str, password: str) -> str:
    """The same server, database and options, another user."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    options = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{quote(user)}:{quote(password, safe='')}@{place}{parts.path}{options}"


@contextmanager
def session(url: str, *, autocommit: bool = False) -> Iterator[Session]:
    """A connection of one's own, in a transaction unless `autocommit`; rolled back at the end."""
    connection = postgresql.connect(url, autocommit=autocommit)
    try:
        yield Session(connection)
    finally:
        # The server may be gone, or have ended this session: closing then says so.
        with suppress(Error):
            connection.close()


@dataclass(frozen=True, slots=True)
class Session:
    """A session at the database. Statements that return nothing give an empty list."""

    connection: Any

    def run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement; `values` are bound to $1, $2 …"""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()


@dataclass(frozen=True, slots=True)
class Databases:
    """A server that tests may make databases and roles in.

    Attributes:
        admin_url: Of a superuser, at a database that stays.
        owner_url: Of the role that owns the fresh databases.
    """

    admin_url: str
    owner_url: str

    @property
    def password(self) -> str:
        """The owner's, as the URL means it."""
        return unquote(urlsplit(self.owner_url).password or "")

    def url(self, database: str = "postgres", *, superuser: bool = False) -> str:
        """Where a database is, for its owner or for the superuser."""
        return at_database(self.admin_url if superuser else self.owner_url, database)

    def query(self, sql: str, *values: Any, url: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement with bound `values`, as the superuser unless `url` names another."""
        with session(url or self.admin_url, autocommit=True) as one:
            return one.run(sql, *values)

    def execute(self, script: str, url: str | None = None) -> None:
        """Run statements divided by `;`, each in a transaction of its own, as psql does.

        Raises:
            ServiceError: One of them failed; those behind it were not run.
        """
        found = programs()
        psql = str(found / "psql") if found and (found / "psql").exists() else "psql"
        done = subprocess.run(
            [psql, "-X", "-q", "-o", os.devnull, "-v", "ON_ERROR_STOP=1", "-d", url or self.admin_url],
            input=script,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise process.ServiceError(f"psql ended with {done.returncode}: {done.stderr[-2000:]}")

    def fresh_database(self) -> str:
        """The owner's URL of a new, empty database (UTF-8, locale C)."""
        name = f"archiver_test_{secrets.token_hex(6)}"
        owner = unquote(urlsplit(self.owner_url).username or "")
        role = f' OWNER "{owner}"' if owner else ""
        self.query(f"CREATE DATABASE {name}{role} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database that `fresh_database` made, with its sessions and prepared transactions.

        An open transaction in any database holds back the snapshots of all.
        """
        name = urlsplit(url).path[1:]
        as_admin = self.url(name, superuser=True)
        prepared = self.query("SELECT gid FROM pg_prepared_xacts WHERE database = $1::text", name)
        for (gid,) in prepared:
            written = gid.replace("'", "''")
            self.query(f"ROLLBACK PREPARED '{written}'", url=as_admin)
        self.query(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """An empty database of a test's own. Statements run as its owner, who is no superuser.

    The owner is a member of `pg_read_all_stats` on a server that we started. On one that
    ARCHIVER_TEST_POSTGRES_URL names, owner and superuser are the same role.
    """

    server: Databases
    url: str

    @property
    def name(self) -> str:
        return urlsplit(self.url).path[1:]

    @property
    def superuser_url(self) -> str:
        return self.server.url(self.name, superuser=True)

    def execute(self, script: str, *, superuser: bool = False) -> None:
        """Run statements divided by `;`, each in a transaction of its own."""
        self.server.execute(script, self.superuser_url if superuser else self.url)

    def query(self, sql: str, *values: Any, superuser: bool = False) -> list[tuple[Any, ...]]:
        """Run one statement with bound `values` ($1, $2 …) and return its rows."""
        return self.server.query(sql, *values, url=self.superuser_url if superuser else self.url)

    @contextmanager
    def session(self, *, autocommit: bool = False, superuser: bool = False) -> Iterator[Session]:
        """A connection of one's own, in a transaction unless `autocommit`; rolled back at the end."""
        with session(self.superuser_url if superuser else self.url, autocommit=autocommit) as one:
            yield one

    @contextmanager
    def role(self, *members_of: str) -> Iterator[str]:
        """The URL of a new role without rights but those of `members_of`; gone at the end."""
        name = f"archiver_test_{secrets.token_hex(6)}"
        password = self.server.password or PASSWORD
        written = password.replace("'", "''")
        grants = "".join(f"GRANT {one} TO {name};" for one in members_of)
        self.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{written}';{grants}", superuser=True)
        try:
            yield as_user(self.url, name, password)
        finally:
            self.execute(f"DROP OWNED BY {name}; DROP ROLE {name}", superuser=True)


@dataclass(frozen=True, slots=True)
class PostgresServer(Databases):
    """A running server of our own, or a replica of one. See the module's words."""

    folder: Path
    port: int
    _running: list[subprocess.Popen[bytes]]

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[PostgresServer]:
        """Make a server in a folder of its own; stop it and remove the folder at the end.

        Where the tests are killed, the server ends with them and the folder goes too.

        Raises:
            ServiceError: It did not come up, or PostgreSQL is not installed.
        """
        folder = Path(tempfile.mkdtemp(prefix="archiver-postgres-"))
        with _removed(folder):
            if user := _user():
                shutil.chown(folder, user, "nogroup")
            _command(
                *("initdb", "-D", "main", "-U", "postgres", "-A", "trust"),
                *("-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
                folder=folder,
            )
            (folder / "main" / "pg_hba.conf").write_text(_ACCESS)
            with (folder / "main" / "postgresql.conf").open("a") as file:
                file.write(_CONFIGURATION)
            server = cls._at(folder / "main")
            try:
                server.start()
                server.query(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_stats")
                yield server
            finally:
                server.stop(at_once=True)

    @classmethod
    def _at(cls, folder: Path) -> PostgresServer:
        """The server of a data folder, not yet running; its socket lies beside that folder."""
        (port,) = process.free_ports(1)
        socket = quote(str(folder.parent), safe="")
        return cls(
            admin_url=f"postgresql://postgres@/postgres?host={socket}&port={port}",
            owner_url=f"postgresql://{OWNER}:{PASSWORD}@127.0.0.1:{port}/postgres",
            folder=folder,
            port=port,
            _running=[],
        )

    @property
    def log(self) -> str:
        """What the server has written so far."""
        return self._output.read_text(errors="replace")

    @property
    def _output(self) -> Path:
        return self.folder.with_suffix(".out")

    def start(self) -> None:
        """Start the server where it is stopped; when this returns, it answers.

        Raises:
            ServiceError: It ended, or did not answer within 30 seconds.
        """
        one = process.start(
            [
                *(_program("postgres"), "-D", str(self.folder)),
                *("-c", f"port={self.port}", "-c", f"unix_socket_directories={self.folder.parent}"),
            ],
            output=self._output,
            user=_user(),
            at_our_end="QUIT",  # killed outright it would leave a piece of shared memory behind
        )
        self._running.append(one)

        def answers() -> bool:
            if one.poll() is not None:
                raise process.ServiceError(f"postgres ended with {one.returncode}: {self.log[-2000:]}")
            with suppress(Error):
                return bool(self.query("SELECT 1"))
            return False

        process.wait_until("PostgreSQL answers", answers, seconds=30)

    def stop(self, *, at_once: bool = False) -> None:
        """Stop the server, with a last checkpoint or, `at_once`, as in a crash. It may be stopped already.

        Sessions are ended, and their transactions rolled back.
        """
        while self._running:
            one = self._running.pop()
            if one.poll() is None:
                one.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            try:
                one.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.stop([one])

    def restart(self) -> None:
        """Stop and start again, at the same port."""
        self.stop()
        self.start()

    @contextmanager
    def standby(self) -> Iterator[PostgresServer]:
        """A streaming replica of this server, in recovery and at its end of the log when this returns.

        Roles, databases and passwords are the same; the port is another.

        Raises:
            ServiceError: It did not come up.
        """
        folder = self.folder.with_name(f"standby-{secrets.token_hex(4)}")
        _command(
            *("pg_basebackup", "-d", at_database(self.admin_url, ""), "-D", folder.name),
            *("-R", "-X", "stream", "-c", "fast", "--no-sync"),
            folder=self.folder.parent,
        )
        replica = self._at(folder)
        try:
            replica.start()
            self.wait_for(replica)
            yield replica
        finally:
            replica.stop(at_once=True)

    def wait_for(self, replica: PostgresServer) -> None:
        """Wait until a replica has all that is committed here."""
        ((here,),) = self.query("SELECT pg_current_wal_flush_lsn()::text")

        def there() -> bool:
            ((done,),) = replica.query("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", here)
            return bool(done)

        process.wait_until("the replica has everything", there, seconds=30)

    def promote(self) -> None:
        """Make a replica a server that takes writes; its timeline is a new one."""
        self.query("SELECT pg_promote()")
        process.wait_until("the replica takes writes", lambda: not self.in_recovery(), seconds=30)

    def in_recovery(self) -> bool:
        ((recovering,),) = self.query("SELECT pg_is_in_recovery()")
        return bool(recovering)

    def timeline(self) -> int:
        """The timeline that a server which takes writes writes on."""
        ((name,),) = self.query("SELECT pg_walfile_name(pg_current_wal_lsn())")
        return int(name[:8], 16)

    def system_identifier(self) -> int:
        ((number,),) = self.query("SELECT system_identifier FROM pg_control_system()")
        return int(number)


def _user() -> str | None:
    """As whom PostgreSQL runs: it refuses root."""
    return "nobody" if os.geteuid() == 0 else None


def _program(name: str) -> str:
    found = programs()
    if found is None:
        raise process.ServiceError("no initdb in PATH or under /usr/lib/postgresql: run `make services`")
    return str(found / name)


def _command(name: str, *arguments: str, folder: Path) -> None:
    process.run([_program(name), *arguments], folder=folder, user=_user())


@contextmanager
def _removed(folder: Path) -> Iterator[None]:
    """Remove a folder at the end of the block, or when the tests are killed."""
    # Its input ends with us; a second look takes what a server still wrote while it stopped.
    last = 'cat; rm -rf -- "$0"; if [ -e "$0" ]; then sleep 2; rm -rf -- "$0"; fi'
    watcher = subprocess.Popen(
        ["sh", "-c", last, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the tests
    )
    try:
        yield
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        watcher.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)
