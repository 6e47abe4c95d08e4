"""Settings: one frozen value, read from `archiver.toml` and checked at once.

Flags and `ARCHIVER_*` variables are laid over it by the command line. Secrets have no
place here: credentials come from the usual AWS chain.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from archiver import layout
from archiver.database.settings import Database, read_sources
from archiver.errors import ConfigError
from archiver.forward.settings import Destination, read_destinations
from archiver.spans import Span, parse_span
from archiver.store.options import S3Options
from archiver.streams import Receive, Stream, read_receive, read_streams

FILE_NAME: Final = "archiver.toml"
FOREVER: Final = "forever"
# The vendor's plans, and how many streams a workspace has there; None: as many as it likes.
PLANS: Final[dict[str, int | None]] = {"free": 1, "starter": 3, "pro": 10, "enterprise": None}


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is kept. The rule of a workspace comes before that of a dataset, and that before `keep`.

    Attributes:
        keep: For all that has no rule of its own; None is for ever.
        datasets, workspaces: Rules of their own; None is for ever.
    """

    keep: Span | None = None
    datasets: Mapping[str, Span | None] = field(default_factory=dict)
    workspaces: Mapping[str, Span | None] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return self.keep is None and not self.datasets and not self.workspaces

    def spans(self) -> list[Span]:
        """Return every span that some rule names."""
        every = (self.keep, *self.datasets.values(), *self.workspaces.values())
        return [span for span in every if span is not None]

    def span_for(self, dataset: str, workspace: str | None = None) -> Span | None:
        """Return how long a dataset is kept, of a workspace or where it has no rule; None is for ever.

        Supplements go with the events unless they have a rule of their own.
        """
        if workspace is not None and workspace in self.workspaces:
            return self.workspaces[workspace]
        if dataset == "supplements" and dataset not in self.datasets:
            dataset = "events"
        return self.datasets.get(dataset, self.keep)

    def with_span(
        self, span: Span, datasets: Collection[str] = (), workspaces: Collection[str] = ()
    ) -> Retention:
        """Return these rules with `span` laid over: for what is named, or else in place of `keep`.

        A configured rule that is more specific than what is named stays: who wants another for
        that workspace or dataset names it.
        """
        if workspaces:
            return replace(self, workspaces={**self.workspaces, **dict.fromkeys(workspaces, span)})
        if datasets:
            return replace(self, datasets={**self.datasets, **dict.fromkeys(datasets, span)})
        return replace(self, keep=span)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured.

    Attributes:
        archive: Location: a folder, or `s3://bucket/prefix`.
        store: How to talk to an S3-compatible store.
        data_format, compression_level: Of a new archive's data files.
        spools: Spool folders.
        settle_seconds: How long a foreign file must have been quiet.
        done: What becomes of an acknowledged file.
        schemas: Dataset -> the path of a JSON Schema that events must satisfy besides ours.
        streams: The configured senders, by name.
        receive: How their deliveries are received.
        sources: Databases whose rows are archived, by name.
        destinations: Where events go on to, by name.
        plan: The vendor's, which says how many streams a workspace may have; None: unknown.
        forward_state: The folder of the destinations' cursors and dead letters; None: see
            `forward_folder`.
        forward_metrics_file: Where `forward` leaves the destinations' metrics; None: each run's file
            has them.
        workers: Processes that judge a large batch; None for one a processor.
        metrics_file: Where each run leaves its metrics.
        ping_url_file, ping_failure_url_file: Files that hold a URL to ask after each run.
        retention: How long what is kept, for `retain`.
        publish_delta: Whether each run brings the Delta log for other engines up to date.
        queries: Folders of named queries, besides those that came with the program.
    """

    archive: str | None = None
    store: S3Options = field(default_factory=S3Options)
    data_format: str = "parquet"
    compression_level: int = 1
    spools: tuple[str, ...] = ()
    settle_seconds: float = 60.0
    done: Literal["delete", "keep"] = "delete"
    schemas: dict[str, str] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    receive: Receive = field(default_factory=Receive)
    sources: dict[str, Database] = field(default_factory=dict)
    destinations: dict[str, Destination] = field(default_factory=dict)
    plan: str | None = None
    forward_state: str | None = None
    forward_metrics_file: str | None = None
    workers: int | None = None
    metrics_file: str | None = None
    ping_url_file: str | None = None
    ping_failure_url_file: str | None = None
    retention: Retention = field(default_factory=Retention)
    publish_delta: bool = True
    queries: tuple[str, ...] = ()

    @property
    def spool_folders(self) -> tuple[str, ...]:
        """Every configured spool, once: `spools`, then those that only a stream names."""
        found: dict[str, str] = {}
        for folder in (*self.spools, *(stream.spool for stream in self.streams.values() if stream.spool)):
            found.setdefault(os.path.realpath(folder), folder)
        return tuple(found.values())

    @property
    def forward_folder(self) -> Path:
        """Where the destinations' cursors and dead letters are; by default in the first spool.

        Raises:
            ConfigError: There is neither a spool nor such a setting.
        """
        if self.forward_state is not None:
            return Path(self.forward_state)
        if not self.spool_folders:
            raise ConfigError(
                "no folder for the destinations' cursors is configured",
                hint='with no spool, name one: [forward] state = "/var/lib/archiver/forward"',
            )
        return Path(self.spool_folders[0]) / "forward"


_STORE_KEYS: Final = {
    "endpoint_url": str,
    "region": str,
    "addressing_style": str,
    "storage_class": str,
    "server_side_encryption": str,
    "kms_key_id": str,
    "object_lock": str,
    "object_lock_keep": str,
}
_KEYS: Final[dict[str, dict[str, type | tuple[type, ...]]]] = {
    "archive": {"location": str, "format": str, "compression_level": int, "tags": dict, **_STORE_KEYS},
    "spool": {"folders": list, "settle_seconds": (int, float), "done": str},
    "run": {"workers": int, "metrics_file": str, "ping_url_file": str, "ping_failure_url_file": str},
    "retention": {"keep": str, "datasets": dict, "workspaces": dict},
    "delta": {"publish": bool},
    "schemas": {"events": str, "alerts": str},
    "queries": {"folders": list},
    "forward": {"plan": str, "state": str, "metrics_file": str},
}
_READ_BY_THEMSELVES: Final = ("receive", "streams", "sources", "destinations")


def read_settings(path: Path) -> Settings:
    """Read and check a configuration file. Relative paths in it are relative to its folder.

    Raises:
        ConfigError: It is not there, is no TOML, or holds a key or value that means nothing.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: not found", hint="`archiver init` writes a commented one") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    for section, members in tree.items():
        _check_section(path, section, members)
    archive, spool = tree.get("archive", {}), tree.get("spool", {})
    options: dict[str, Any] = {key: archive[key] for key in _STORE_KEYS if key in archive}
    if "tags" in archive:
        options["tags"] = {str(key): str(value) for key, value in archive["tags"].items()}
    settings = Settings(
        archive=_resolved(archive.get("location"), path.parent),
        store=S3Options(**options),
        data_format=archive.get("format", "parquet"),
        compression_level=archive.get("compression_level", 1),
        spools=tuple(str(_resolved(str(folder), path.parent)) for folder in spool.get("folders", [])),
        settle_seconds=float(spool.get("settle_seconds", 60.0)),
        done=spool.get("done", "delete"),
        schemas={dataset: str(path.parent / schema) for dataset, schema in tree.get("schemas", {}).items()},
        streams=read_streams(str(path), tree.get("streams", {}), path.parent),
        sources=read_sources(str(path), tree.get("sources", {}), path.parent),
        destinations=read_destinations(str(path), tree.get("destinations", {}), path.parent),
        plan=tree.get("forward", {}).get("plan"),
        forward_state=_resolved(tree.get("forward", {}).get("state"), path.parent),
        forward_metrics_file=_resolved(tree.get("forward", {}).get("metrics_file"), path.parent),
        receive=read_receive(str(path), tree.get("receive", {}), path.parent),
        workers=tree.get("run", {}).get("workers"),
        **{
            name: str(path.parent / tree["run"][name])
            for name in ("metrics_file", "ping_url_file", "ping_failure_url_file")
            if name in tree.get("run", {})
        },
        retention=_retention(path, tree.get("retention", {})),
        publish_delta=tree.get("delta", {}).get("publish", True),
        queries=_query_folders(path, tree.get("queries", {}).get("folders", [])),
    )
    return check_settings(settings, str(path))


def check_settings(settings: Settings, where: str) -> Settings:
    """Return `settings` if their values mean something.

    Raises:
        ConfigError: One does not; names it.
    """
    if settings.done not in ("delete", "keep"):
        raise ConfigError(f"{where}: done is `delete` or `keep`, not {settings.done!r}")
    if settings.data_format not in ("parquet", "jsonl.gz", "jsonl.zst"):
        raise ConfigError(
            f"{where}: format is `parquet`, `jsonl.gz` or `jsonl.zst`, not {settings.data_format!r}"
        )
    if not 1 <= settings.compression_level <= 19:
        raise ConfigError(f"{where}: compression_level is 1 to 19, not {settings.compression_level}")
    if settings.data_format == "jsonl.gz" and settings.compression_level > 9:
        raise ConfigError(
            f"{where}: compression_level of jsonl.gz is 1 to 9, not {settings.compression_level}"
        )
    if settings.plan is not None and settings.plan not in PLANS:
        raise ConfigError(f"{where}: plan is one of {', '.join(PLANS)}, not {settings.plan!r:.40}")
    if settings.settle_seconds < 0:
        raise ConfigError(f"{where}: settle_seconds cannot be negative")
    if settings.workers is not None and not 0 <= settings.workers <= 64:
        raise ConfigError(f"{where}: workers is 0 to 64, not {settings.workers}")
    return settings


def with_store(settings: Settings, **options: Any) -> Settings:
    """Return `settings` with those S3 options that are not None laid over."""
    given = {key: value for key, value in options.items() if value is not None}
    return replace(settings, store=replace(settings.store, **given)) if given else settings


def _check_section(path: Path, section: str, members: Any) -> None:
    if section not in _KEYS and section not in _READ_BY_THEMSELVES:
        known_sections = (*_KEYS, *_READ_BY_THEMSELVES)
        raise ConfigError(f"{path}: [{section}] means nothing here{_nearest(section, known_sections)}")
    if not isinstance(members, dict):
        raise ConfigError(f"{path}: {section} must be a table: [{section}]")
    if section in _READ_BY_THEMSELVES:
        return
    known = _KEYS[section]
    for key, value in members.items():
        if key not in known:
            raise ConfigError(f"{path}: [{section}] {key} means nothing{_nearest(key, known)}")
        if not isinstance(value, known[key]) or isinstance(value, bool) != (known[key] is bool):
            raise ConfigError(f"{path}: [{section}] {key} = {value!r:.60} is of the wrong type")


def _retention(path: Path, tree: dict[str, Any]) -> Retention:
    def span(where: str, told: Any) -> Span | None:
        if not isinstance(told, str):
            raise ConfigError(f"{path}: [retention] {where} = {told!r:.60} is of the wrong type")
        try:
            return None if told == FOREVER else parse_span(told)
        except ConfigError as error:
            raise ConfigError(f"{path}: [retention] {where}: {error.message}", hint=error.hint) from None

    rules = {
        table: {str(name): span(f"{table}.{name}", told) for name, told in tree.get(table, {}).items()}
        for table in ("datasets", "workspaces")
    }
    for dataset in rules["datasets"]:
        if dataset not in layout.DATASETS:
            raise ConfigError(f"{path}: [retention.datasets] {dataset}{_nearest(dataset, layout.DATASETS)}")
    return Retention(span("keep", tree.get("keep", FOREVER)), **rules)


def _query_folders(path: Path, folders: list[Any]) -> tuple[str, ...]:
    for folder in folders:
        if not isinstance(folder, str):
            raise ConfigError(f"{path}: [queries] folders: {folder!r:.60} is of the wrong type")
    return tuple(str(path.parent / folder) for folder in folders)


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})"


def _resolved(location: str | None, folder: Path) -> str | None:
    """Return a relative path as seen from the file that names it; leave URLs alone."""
    if location is None or "://" in location:
        return location
    return str(folder / location)


TEMPLATE: Final = """\
# archiver's configuration. Every key may also be a flag (--archive) or a variable (ARCHIVER_ARCHIVE).
# Credentials are never written here: they come from the usual AWS chain
# (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, an instance's role).

[archive]
location = {location}
# endpoint_url = "https://…"         # for R2, MinIO, Ceph; leave out for AWS
# region = "eu-central-1"
# addressing_style = "path"          # auto, path or virtual
# storage_class = "STANDARD_IA"
# server_side_encryption = "aws:kms" # or AES256
# kms_key_id = "…"
# tags = {{ team = "compliance" }}
# object_lock = "compliance"         # or governance, off: lock each object once it is committed
# object_lock_keep = "400d"          # for so long, from the day of its commit

[spool]
folders = [{spools}]
# settle_seconds = 60                # foreign files must have been quiet for so long
# done = "delete"                    # or "keep": acknowledged files stay in <spool>/done/

# [run]
# workers = 2                        # processes that check a large batch; default: one a processor
# metrics_file = "/var/lib/node_exporter/textfile/archiver.prom"   # written by each run
# ping_url_file = "/etc/archiver/ping-url"   # a URL to ask after each run that went well
# ping_failure_url_file = "/etc/archiver/ping-failure-url"

# [retention]                        # what `archiver retain` lets expire; nothing does by itself
# keep = "400d"                      # or 2w, 13mo, 7y, forever
# datasets = {{ alerts = "2y" }}       # comes before keep
# workspaces = {{ ws_1a2b3c4d = "7y" }} # comes before datasets

# [delta]
# publish = false                    # no Delta log for other engines; `archiver publish delta` makes one

# [schemas]                          # a JSON Schema (2020-12) of your own, besides the built-in one
# events = "my-events.schema.json"

# [queries]                          # for `archiver query`, besides those that came with the program
# folders = ["my-queries"]           # *.sql files of your own

# [receive]                          # `archiver receive`: the spool's front door
# listen = "127.0.0.1:8080"
# seal_seconds = 5                   # a delivery is visible to `run` after so long

# [streams.production]               # one sender, at http(s)://…/production
# secret_env = ["ARCHIVER_SECRET_PRODUCTION"]   # or secret_file; several while you rotate
# workspaces = ["ws_1a2b3c4d"]       # it may speak only for these
# silent_after_seconds = 3600        # `doctor` is red when it was silent for so long

# [destinations.siem]                # events on to a SIEM: archiver forward, see docs/siem.md
# type = "splunk"                    # or datadog, elastic, logstash, http
# url = "https://hec.example.com:8088"
# token_env = "ARCHIVER_SIEM_TOKEN"  # or token_file
# actions = ["auth.*"]               # only these

# [forward]
# plan = "starter"                   # the vendor's: doctor counts the streams against it
# state = "/var/lib/archiver/forward"   # cursors and dead letters; default <first spool>/forward
# metrics_file = "/var/lib/node_exporter/textfile/archiver-forward.prom"   # else in [run] metrics_file

# [sources.app]                      # rows of the application's own database, see docs/database.md
# type = "database"
# url_env = "APP_DATABASE_URL"       # or url_file; the URL holds a password, so it is not written here
# table = "public.audit_events"      # or query = "SELECT …"
# columns = {{ metadata = "details" }} # event's member = "column", where the names differ
"""
