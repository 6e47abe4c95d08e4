"""A spool folder: is it of a kind that can be trusted with the only copy, and what lies in it?"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from archiver import durable
from archiver.archive import Archive
from archiver.errors import IntegrityError, SourceError
from archiver.runs import hold_against
from archiver.sources.claim import CLAIMS, LOCK
from archiver.sources.files import format_of
from archiver.sources.filing import writers_of
from archiver.sources.spool import REMEMBERED, SpoolSource
from archiver.store.health import Check

MOUNTS: Final = Path("/proc/self/mountinfo")

# Where locks, leases or renames are not what a local kernel makes of them.
_REMOTE: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "gfs2",
        "ocfs2",
        "beegfs",
        "davfs",
    }
    | {"ncpfs", "glusterfs", "gpfs", "vboxsf", "prl_fs", "virtiofs"}
)
_FUSE_LOCAL: Final = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.lxcfs", "fuse.ext4", "fuse.ntfs-3g"})
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_LEAST_BYTES: Final = 64 << 20
_COMFORTABLE_BYTES: Final = 1 << 30
_LEAST_INODES: Final = 1_000
_OCTAL: Final = re.compile(r"\\([0-7]{3})", re.ASCII)
_SHOWN: Final = 5


def check_spool(folder: Path, archive: Archive | None, *, mounts: Path = MOUNTS) -> Iterator[Check]:
    """Examine one spool.

    Args:
        archive: The archive that it is to be emptied into, if there is one.
        mounts: The kernel's table of mounts.
    """
    name = f"spool {folder}"
    if not folder.is_dir():
        yield Check(name, "failed", "there is no such folder", f"create it: mkdir -p {folder}")
        return
    checks = [
        _file_system(folder, mounts),
        _permissions(folder),
        _space(os.statvfs(folder)),
        *_contents(folder),
        _belongs(folder, archive),
    ]
    for check in checks:
        yield Check(f"{name}: {check.name}", check.status, check.found, check.fix)


def _file_system(folder: Path, mounts: Path) -> Check:
    kind = file_system_of(folder, mounts)
    if kind is None:
        return Check("file system", "skipped", f"{mounts} does not tell what it lies on")
    if kind in _REMOTE or (kind.startswith("fuse.") and kind not in _FUSE_LOCAL):
        fix = "put the spool on a local disk (ext4, xfs): over a network two runs could take one file"
        return Check("file system", "failed", f"{kind} is no local file system", fix)
    if kind in _IN_MEMORY:
        fix = "put the spool on a disk: what lies here is lost when the machine restarts"
        return Check("file system", "warning", f"{kind} lies in memory", fix)
    return Check("file system", "ok", f"{kind}, local")


def file_system_of(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the file system that `folder` lies on, by the kernel's table (see proc(5))."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    wanted, best, kind = folder.resolve(), -1, None
    for line in lines:
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 5:
            continue
        place = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4]))
        # Of several mounts on one place the last one is what is seen.
        if (place == wanted or place in wanted.parents) and len(place.parts) >= best:
            best, kind = len(place.parts), right.split(" ")[0]
    return kind


def _permissions(folder: Path) -> Check:
    """Do all that a run does to a spool, with files of our own."""
    first = folder / f"{durable.TEMPORARY_PREFIX}doctor-{secrets.token_hex(8)}"
    second, third = first.with_name(first.name + "-moved"), first.with_name(first.name + "-linked")
    step = "create a file"
    handle = -1
    try:
        handle = os.open(first, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        step = "write and fsync"
        os.write(handle, b"probe")
        os.fsync(handle)
        step = "lock a file (flock)"
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        step = "rename a file"
        first.rename(second)
        step = "make a hard link"
        os.link(second, third)
        step = "fsync the folder"
        durable.sync_folder(folder)
        os.close(handle)
        handle = os.open(second, os.O_RDONLY)
        lease = writers_of(handle)
        step = "delete files"
        second.unlink()
        third.unlink()
    except OSError as error:
        fix = "give the user that runs this the right to read, write and search the folder"
        return Check("permissions", "failed", f"cannot {step}: {error.strerror or error}", fix)
    finally:
        if handle >= 0:
            os.close(handle)
        for path in (first, second, third):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    if lease != "none":
        found = "the kernel does not say who writes a file (no leases): quiet time alone tells"
        return Check(
            "permissions", "warning", found, "let other programs rename finished files into the spool"
        )
    return Check("permissions", "ok", "create, fsync, lock, lease, rename, hard link, delete")


def _space(found: os.statvfs_result) -> Check:
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    told = f"{free / 2**20:,.0f} MiB of {total / 2**20:,.0f} MiB free"
    fix = "make room, or put the spool on a larger disk: a full one refuses deliveries"
    inodes = found.f_favail if found.f_files else None  # some file systems have no fixed number
    if inodes is not None:
        told += f", {inodes:,} inodes"
    if free < _LEAST_BYTES or (inodes is not None and inodes < _LEAST_INODES):
        return Check("space", "failed", told, fix)
    if free < _COMFORTABLE_BYTES:
        return Check("space", "warning", told, fix)
    return Check("space", "ok", told)


def _contents(folder: Path) -> Iterator[Check]:
    """Look at what lies in the spool: whose it is, what we cannot read, what dead runs left."""
    try:
        strangers, unknown, unreadable = _sorted_names(folder)
        live, dead = _claims(folder / CLAIMS)
    except OSError as error:
        fix = "give this user the right to read it"
        yield Check("contents", "failed", f"cannot be listed: {error.strerror}", fix)
        return
    if unreadable:
        fix = "let their writer make them readable (umask 027 and a common group)"
        yield Check("readable", "failed", _some(unreadable, "may not be read"), fix)
    if strangers:
        found = _some(strangers, "are another user's, so nobody says who writes them")
        fix = "no need to: they are taken after five quiet minutes; sooner if this user writes them"
        yield Check("owners", "warning", found, fix)
    else:
        yield Check("owners", "ok", "every file is ours, or we are root")
    if unknown:
        found = _some(unknown, "have a name of no known kind, and are never archived")
        fix = "move them away, or rename them: .seg, .json, .jsonl, .ndjson (these three also .gz or .zst)"
        yield Check("names", "warning", found, fix)
    else:
        yield Check("names", "ok", "every file's name is of a kind that we read")
    told = f"{dead} of dead runs, {live} of live ones"
    if dead:
        yield Check("claims", "warning", told, "run `archiver run`: it adopts them")
    else:
        yield Check("claims", "ok", told)


def _sorted_names(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Return the files that are another user's, those of unknown kind, and those that may not be read."""
    strangers, unknown, unreadable = [], [], []
    uid = os.geteuid()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                continue
            if format_of(entry.name) is None:
                unknown.append(entry.name)
            elif not os.access(entry.path, os.R_OK):
                unreadable.append(entry.name)
            elif uid not in (0, entry.stat(follow_symlinks=False).st_uid):
                strangers.append(entry.name)
    return strangers, unknown, unreadable


def _claims(folder: Path) -> tuple[int, int]:
    """Return how many claims live runs hold, and how many are of dead ones."""
    live = dead = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                continue
            if _is_held(Path(entry.path) / LOCK):
                live += 1
            else:
                dead += 1
    return live, dead


def _is_held(lock: Path) -> bool:
    """Whether a live run holds a claim. Takes the lock for a moment if nobody does."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return False
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _belongs(folder: Path, archive: Archive | None) -> Check:
    """Hold the archive that the spool remembers against the one that is configured."""
    try:
        said = SpoolSource(folder, name="spool").remembered_archive()
    except SourceError as error:
        fix = f"delete {folder / REMEMBERED} once you are sure of --archive"
        return Check("archive", "failed", error.message, fix)
    if said is None:
        return Check("archive", "ok", "it was never archived: the first run settles where to")
    known, location = str(said["archive_id"]), str(said.get("location"))
    if archive is None:
        fix = "correct --archive, or mount its disk"
        return Check(
            "archive", "failed", f"it belongs to archive {known} in {location}, which is not here", fix
        )
    if known != archive.id:
        found = f"it belongs to archive {known} in {location}, not to {archive.id}"
        fix = f"correct --archive; to move the spool for good, delete {folder / REMEMBERED} first"
        return Check("archive", "failed", found, fix)
    try:
        hold_against(archive, SpoolSource(folder, name="spool"))
    except IntegrityError as error:
        return Check("archive", "failed", error.message, error.hint)
    return Check("archive", "ok", f"it belongs to archive {known}, this one, and has seen no later head")


def _some(names: list[str], what: str) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{shown}{more} {what}"
