"""Questions in SQL about one snapshot of the archive, asked by people who may write any SQL.

Every statement gets a fresh DuckDB of its own, in memory and locked: it can read the
snapshot's views and nothing else, and it can neither write nor go on for ever.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any, Final, TypeVar

import duckdb
import pyarrow as pa

from archiver.archive import Archive
from archiver.errors import ArchiverError, QueryError
from archiver.ledger.entry import DataFile
from archiver.query.escaping import shown
from archiver.query.narrowing import Narrow, wanted_by
from archiver.query.pinned import Pinned
from archiver.query.statement import checked
from archiver.query.views import Scans

_BATCH_ROWS: Final = 50_000
_PATIENCE_SECONDS: Final = 0.1
_SIZE: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]i?B|B)\s*", re.ASCII | re.IGNORECASE)
_UNITS: Final = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    unit: 1 << (10 * power) for power, unit in enumerate(("kib", "mib", "gib", "tib"), 1)
}
_CONFIG: Final[dict[str, Any]] = {
    "python_enable_replacements": False,  # else a name in SQL could be a variable of ours
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
}
_SETTINGS: Final = {"threads": len(os.sched_getaffinity(0)), "temp_directory": ""}
_LONGEST_MESSAGE: Final = 1_000
_NO_SIZE: Final = 1 << 62
_T = TypeVar("_T")


def size_in_bytes(text: str) -> int:
    """Read a size such as `512MB` or `1.5GiB`.

    Raises:
        QueryError: It is none.
    """
    found = _SIZE.fullmatch(text) if isinstance(text, str) else None
    size = float(found[1]) * _UNITS[found[2].lower()] if found else 0
    if not 1 <= size < _NO_SIZE:
        raise QueryError(f"{text!r:.40} is no size", hint="such as 512MB or 2GB")
    return int(size)


class _Spare:
    """A connection made ready beforehand: to make one takes as long as a narrow question."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: Future[duckdb.DuckDBPyConnection] | None = None

    def make(self) -> None:
        """Begin to make one, on a thread of its own, unless there is one."""
        with self._lock:
            if self._made is None:
                made: Future[duckdb.DuckDBPyConnection] = Future()
                with contextlib.suppress(RuntimeError):  # no more threads: it is made when it is needed
                    Thread(target=self._make, args=(made,)).start()
                    self._made = made

    @staticmethod
    def _make(made: Future[duckdb.DuckDBPyConnection]) -> None:
        try:
            made.set_result(_connect())
        except BaseException as error:  # noqa: BLE001 - whoever takes it tries again
            made.set_exception(error)

    def take(self) -> duckdb.DuckDBPyConnection:
        """Return one that nobody else has or will have."""
        with self._lock:
            made, self._made = self._made, None
        with contextlib.suppress(Exception):
            if made is not None:
                return made.result()
        return _connect()

    def before_fork(self) -> None:
        """Let go of it: without the threads that it began with, it answers nothing for ever."""
        self._lock.acquire()
        made, self._made = self._made, None
        with contextlib.suppress(Exception):
            if made is not None:
                made.result().close()

    def after_fork(self) -> None:
        """See `before_fork`; in both processes."""
        self._lock.release()


def _connect() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config=_CONFIG | _SETTINGS)


_SPARE: Final = _Spare()
os.register_at_fork(
    before=_SPARE.before_fork, after_in_parent=_SPARE.after_fork, after_in_child=_SPARE.after_fork
)


def prepare() -> None:
    """Begin with what a first statement will need, while the archive is still being opened."""
    _SPARE.make()


@dataclass(slots=True)
class _Running:
    """One statement under way: DuckDB works on a thread of its own, so that it can be stopped."""

    connection: duckdb.DuckDBPyConnection
    scans: Scans
    timeout_seconds: float | None
    deadline: float | None = None
    watch: Callable[[], object] | None = None
    _under_way: Future[Any] | None = None
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "query"))

    def call(self, work: Callable[[], _T]) -> _T:
        """Do `work`. If this raises (time is up, Ctrl-C, `watch`), `close` must be called."""
        try:
            future = self._under_way = self._worker.submit(work)
        except RuntimeError as error:  # no more threads
            raise _query_error(error) from error
        if self._is_late(future):
            raise QueryError(
                f"no answer within {self.timeout_seconds:g} seconds",
                hint="ask for less, or allow it more time",
            )
        try:
            found: _T = future.result()
        except ArchiverError:
            raise
        except (
            duckdb.Error,
            pa.ArrowException,
            OSError,
            MemoryError,
            RuntimeError,
            ValueError,
            TypeError,
        ) as error:
            if self.scans.failures:
                raise self.scans.failures[0] from error
            raise _query_error(error) from error
        return found

    def _is_late(self, future: Future[_T]) -> bool:
        # In short waits: a signal that the system gives to another thread ends none of them.
        while True:
            done = wait([future], _PATIENCE_SECONDS).done
            if self.deadline is not None and time.monotonic() >= self.deadline:
                return True  # though this step may be done: others would follow, without end
            if done:
                return False
            if self.watch is not None:
                self.watch()

    def close(self, reader: pa.RecordBatchReader | None = None) -> None:
        """Stop what is under way and let go of everything; DuckDB must be gone before the process ends."""
        self._worker.shutdown(wait=False)
        while self._under_way is not None and not self._under_way.done():
            self.connection.interrupt()  # one that comes between two of its steps is not noticed
            wait([self._under_way], _PATIENCE_SECONDS)
        if reader is not None:
            reader.close()
        self.connection.close()


class Answer:
    """What a statement found, read as it is asked for, once.

    Reading to the end closes it; so does leaving its `with` block.

    Attributes:
        schema: Names (made unique) and types of the columns.
    """

    def __init__(self, running: _Running, reader: pa.RecordBatchReader) -> None:
        self._running: _Running | None = running
        self._reader = reader
        names = _unique(reader.schema.names)
        self.schema = pa.schema(
            [part.with_name(name) for part, name in zip(reader.schema, names, strict=True)]
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield what is left, in batches of bounded size.

        Raises:
            QueryError: The statement failed, or its time is up.
        """
        running = self._running
        try:
            while running is not None and (batch := running.call(self._next)) is not None:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)
        finally:
            self.close()

    def _next(self) -> pa.RecordBatch | None:
        try:
            return self._reader.read_next_batch()
        except StopIteration:  # which a future does not carry
            return None

    def arrow(self) -> pa.Table:
        """Return what is left, as a table in memory."""
        return pa.Table.from_batches(self.batches(), self.schema)

    def close(self) -> None:
        """Stop the statement and let go of its memory. May be called again."""
        if self._running is not None:
            running, self._running = self._running, None
            running.close(self._reader)

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Session:
    """Asks statements about one snapshot. Safe to use from several threads.

    Attributes:
        sequence: Of the commit whose snapshot this is.
    """

    _pinned: Pinned
    _memory_bytes: int
    _timeout_seconds: float | None

    @property
    def sequence(self) -> int:
        return self._pinned.sequence

    def files(self, dataset: str, narrow: Narrow) -> tuple[DataFile, ...]:
        """Return the live files of a dataset that can hold rows of these workspaces and times."""
        return self._pinned.select(dataset, narrow)

    def sql(
        self,
        statement: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        watch: Callable[[], object] | None = None,
    ) -> Answer:
        """Ask one statement.

        Args:
            statement: One SELECT, EXPLAIN, DESCRIBE, SUMMARIZE or SHOW over the views `events`,
                `alerts`, `supplements`, `quarantine` and `commits`. Times are in UTC.
            parameters: Values for `?` or `$name`.
            watch: Called now and then while the statement is under way; what it raises stops it.

        Raises:
            QueryError: It is not allowed, it failed, or it took too long.
            IntegrityError, StoreError: Something in the archive could not be read.
        """
        text = checked(statement)
        files = self._pinned.files_for(wanted_by(text, parameters))
        scans = Scans(self._pinned, files)
        try:
            connection = _SPARE.take()
        except (duckdb.Error, MemoryError, RuntimeError, OSError) as error:
            raise _query_error(error) from error
        running = _Running(connection, scans, self._timeout_seconds)
        running.watch = watch
        if self._timeout_seconds is not None:
            running.deadline = time.monotonic() + self._timeout_seconds
        try:
            reader = running.call(lambda: self._start(running, text, parameters))
        except BaseException:
            running.close()
            raise
        return Answer(running, reader)

    def _start(
        self, running: _Running, text: str, parameters: Sequence[Any] | Mapping[str, Any] | None
    ) -> pa.RecordBatchReader:
        connection = running.connection
        for setting in (
            f"memory_limit='{self._memory_bytes}B'",
            "TimeZone='UTC'",
            "Calendar='gregorian'",
        ):
            connection.execute(f"SET {setting}")
        # It would hold up Ctrl-C, and write to stderr. In a notebook without ipywidgets DuckDB has none,
        # and refuses to be told so.
        if connection.execute("SELECT current_setting('enable_progress_bar')").fetchall() != [(False,)]:
            connection.execute("SET enable_progress_bar=false")
        # The list must be set while access is still open, and holds once it is closed.
        connection.execute("SET allowed_paths=$1", [running.scans.local_paths()])
        running.scans.make_views(connection)
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        relation = connection.sql(text, params=parameters)
        return relation.to_arrow_reader(_BATCH_ROWS)


def open_session(
    archive: Archive,
    *,
    memory_limit: str = "1GB",
    timeout_seconds: float | None = None,
    workspaces: Collection[str] | None = None,
    since_us: int | None = None,
    until_us: int | None = None,
) -> Session:
    """Open a session over the snapshot that the archive's ledger is at.

    A statement is looked at for what it asks of `workspace`, `dt`, `event_time` and `id`, so
    that only the files that can matter to it are made known to DuckDB. Which files hold an id
    the identity index says: it is a cache, and what it left out is not found by its id.

    Args:
        workspaces, since_us, until_us: Leave out files that hold no rows of these workspaces
            and times (at or after, and before; microseconds since 1970). Whole files: other
            rows of a file that stays can still be seen.
        memory_limit: What DuckDB may take for each statement; nothing is spilled to disk.
            It does not count the long strings that functions such as `repeat` build: where
            anybody may ask anything, wrap the asking in `limited_memory` as well.
        timeout_seconds: For each statement, its answer read to the end.

    Raises:
        QueryError: The memory limit is no size.
    """
    narrow = Narrow(None if workspaces is None else frozenset(workspaces), since_us, until_us)
    return Session(Pinned.of(archive, narrow), size_in_bytes(memory_limit), timeout_seconds)


@contextlib.contextmanager
def limited_memory(memory_limit: str) -> Iterator[None]:
    """Let this whole process take no more memory than it has now, and `memory_limit` thrice, and 1 GiB.

    The operating system refuses what is beyond, and DuckDB then says so. Linux only;
    elsewhere this does nothing.
    """
    import resource  # noqa: PLC0415 - not everywhere

    used = _private_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + 3 * size_in_bytes(memory_limit) + (1 << 30)
    unlimited = resource.RLIM_INFINITY
    if used == 0 or (soft != unlimited and soft < wanted) or (hard != unlimited and hard < wanted):
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _private_bytes() -> int:
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123 - no file of ours
            found = re.search(r"VmData:\s+([0-9]+) kB", status.read())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _unique(names: Sequence[str]) -> list[str]:
    taken: dict[str, None] = {}  # in order
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken[candidate] = None
    return list(taken)


def _query_error(error: Exception) -> QueryError:
    message = str(error).strip() or type(error).__name__
    message = re.split(r"\n+(?:Possible solutions|Detail: Python exception)", message)[0].rstrip()
    hint = ""
    if isinstance(error, MemoryError) or "Out of Memory" in message or "bad allocation" in message:
        hint = "ask for less at once, or allow more memory"
    elif "Permission Error" in message or "configuration has been locked" in message:
        hint = "a statement reads the archive's views and nothing else"
    elif "Catalog Error: Table" in message:
        hint = "the views are events, alerts, supplements, quarantine and commits"
    elif "No files found" in message or "Failed to open" in message or "Cannot open file" in message:
        hint = (
            "a file of the archive cannot be read. If it was compacted and collected meanwhile, open the "
            "archive anew; otherwise run `archiver verify`"
        )
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + " …"
    message = "\n".join(map(shown, message.split("\n")))  # it may quote a value
    return QueryError(message, hint=hint)
