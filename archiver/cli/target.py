"""Where a command's result goes: stdout, or a file that appears when it is whole."""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from archiver import durable
from archiver.errors import ArchiverError, ConfigError
from archiver.store.base import Store


@contextlib.contextmanager
def open_target(output: str | None, store: Store, *, compress: bool = False) -> Iterator[BinaryIO]:
    """Open stdout, or `output` under a temporary name that becomes the file's at the end.

    If the block fails, what was at `output` is untouched.

    Args:
        output: None for stdout.
        store: Of the archive, in which no output may be put.
        compress: Whether a name in `.gz` or `.zst` means that.

    Raises:
        ConfigError: It cannot be written, or lies inside the archive.
    """
    if output is None:
        with _naming("stdout"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    path = Path(output)
    _refuse_inside(path, store)
    temporary = path.parent / f"{durable.TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        file = temporary.open("xb")
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error
    try:
        with _naming(output):
            with file:
                with _compressed(file, path.suffix if compress else "") as stream:
                    yield stream
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            durable.sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(target: str) -> Iterator[None]:
    """Name the target where writing fails: a full disk, say. Who closed a pipe knows that."""
    try:
        yield
    except (ArchiverError, BrokenPipeError):
        raise
    except OSError as error:
        if target == "stdout":  # what is left in its buffer would fail once more, at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ConfigError(f"{target}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _compressed(file: BinaryIO, suffix: str) -> Iterator[BinaryIO]:
    if suffix == ".gz":
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as stream:
            yield cast(BinaryIO, stream)
    elif suffix == ".zst":
        with zstandard.ZstdCompressor(3, write_checksum=True).stream_writer(file, closefd=False) as stream:
            yield cast(BinaryIO, stream)
    else:
        yield file


def _refuse_inside(path: Path, store: Store) -> None:
    root = store.local_path("x")
    if root is not None and path.resolve().is_relative_to(Path(root).parent.resolve()):
        raise ConfigError(f"{path}: lies inside the archive", hint="write the result somewhere else")
