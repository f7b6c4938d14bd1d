"""Checks whether this machine and this config can run a pipeline, for `ordertrail doctor`, with what to do."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module, metadata
from itertools import islice
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from ordertrail.begin.doctor_alerts import channel_findings
from ordertrail.config import Config, load_config
from ordertrail.durable import fsync_folder
from ordertrail.errors import ConfigError, OrdertrailError, SourceError, StorageError
from ordertrail.look.space import LOW_SPACE_BYTES, NO_SPACE_BYTES, free_bytes, nearest
from ordertrail.markers import read_marker, refuse_lost_tables, refuse_other_archive
from ordertrail.sources.directory import source_of
from ordertrail.sources.writers import is_local, is_written

Health = Literal["ok", "warn", "fail"]

MAX_CLOCK_SKEW_S = 2.0
"""How far the clock of a folder's file system may be from ours; files without a date are ordered by it."""

NETWORK_SETTLE_S = 10.0
"""How long a file should rest where the system cannot tell whether somebody writes to it, in seconds."""

MAX_FOLDERS = 100
"""How many folders that a vendor's glob matches are tried."""

_CORNER_HINT = "its files wait until the user that runs ordertrail may read, write and rename there; others load"
_PYTHON = (3, 11)
_LIBRARIES = {"duckdb": (2, 0), "deltalake": (1, 6, 6), "pyarrow": (20,)}
_NETWORK_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"}


class Finding(Struct, frozen=True):
    """The result of one check.

    Attributes:
        name: What was checked.
        health: `ok`; `warn`: it works, but not as it should; `fail`: passes will fail.
        detail: What was found.
        hint: What to do, empty when it is ok.
    """

    name: str
    health: Health
    detail: str
    hint: str = ""


class DoctorReport(Struct, frozen=True):
    """All findings, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(finding.health != "fail" for finding in self.findings)


def examine(config_file: Path) -> DoctorReport:
    """Check the environment, the config and the folders. Leaves nothing behind.

    Args:
        config_file: The pipeline's config file; a broken one is a finding.
    """
    findings = [_python(), *_libraries(), _zones()]
    try:
        config = load_config(config_file)
    except ConfigError as error:
        return DoctorReport((*findings, Finding("config", "fail", error.message, error.hint)))
    findings.append(_rules(config))
    findings += _vendor_files(config)
    told = (Finding(name, "ok" if well else "warn", *rest) for name, well, *rest in channel_findings(config))
    return DoctorReport((*findings, *_folders(config), *_tables(config), _agreement(config), *told))


# --- the environment ---------------------------------------------------------------------------------------------


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info >= _PYTHON:
        return Finding("python", "ok", f"{found} on {platform.system()} {platform.machine()}")
    return Finding("python", "fail", f"{found} is too old", "use Python 3.11 or newer")


def _libraries() -> Iterator[Finding]:
    for name, least in _LIBRARIES.items():
        wanted = ".".join(map(str, least))
        try:
            import_module(name)
            version = metadata.version(name)
        except (ImportError, metadata.PackageNotFoundError) as error:
            yield Finding(name, "fail", f"cannot be imported: {error}", "install ordertrail again")
            continue
        if _numbers(version) >= least:
            yield Finding(name, "ok", version)
        else:
            yield Finding(name, "fail", f"{version} is too old", f"install {name} {wanted} or newer")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())


def _zones() -> Finding:
    local = datetime.now().astimezone()
    detail = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, here {local:%H:%M} {local.tzname()}"
    try:
        ZoneInfo("America/Chicago")
    except (ZoneInfoNotFoundError, OSError):
        return Finding("clock", "fail", f"{detail}; the time zone data is missing", "install the package tzdata")
    if local.year < 2026:
        return Finding("clock", "fail", f"{detail}: the clock is wrong", "set it; audit columns are taken from it")
    return Finding("clock", "ok", detail)


def _rules(config: Config) -> Finding:
    """Whether DuckDB understands the whole config; a pass tries only the patterns, not the complete rules."""
    found = Finding("config", "ok", f"pipeline {config.name}, {_vendors(config)}")
    try:
        from ordertrail.parse.compiled import refuse_rules, refuse_unreadable
        from ordertrail.parse.database import connected
    except ImportError:
        return found
    try:
        with (
            tempfile.TemporaryDirectory(prefix="ordertrail-doctor-") as spill,
            connected(config.threads, config.memory_limit_mb, Path(spill)) as con,
        ):
            refuse_unreadable(config, con)
            refuse_rules(config, con)
    except ConfigError as error:
        return Finding("config", "fail", error.message, error.hint)
    return found


def _vendor_files(config: Config) -> Iterator[Finding]:
    """Whether the vendors' settings fit the files that came."""
    try:
        from ordertrail.begin.doctor_vendors import vendor_notes
    except ImportError:
        return
    notes = vendor_notes(config)
    for note in notes:
        hint = "nothing to do if it is meant; else correct its glob, file_date, aliases, status_map or expect_…"
        yield Finding("vendors", "warn", note, hint)
    if not notes:
        yield Finding("vendors", "ok", "their globs part the files, and the dates of names fit")


def _vendors(config: Config) -> str:
    names = ", ".join(vendor.name for vendor in config.vendors[:3])
    more = f" and {len(config.vendors) - 3} more" if len(config.vendors) > 3 else ""
    return f"{len(config.vendors)} vendor{'s' if len(config.vendors) > 1 else ''}: {names}{more}"


def _tables(config: Config) -> Iterator[Finding]:
    """Whether the five tables exist and are complete, as far as their logs tell."""
    from ordertrail.engines.local.whole import log_warnings, look
    from ordertrail.rules.tables import APP_ID

    name = "tables"
    if not config.in_folders:
        return
    try:
        found = look(config)
    except OrdertrailError as error:
        yield Finding(name, "fail", error.message, error.hint)
        return
    if not found:
        yield Finding(name, "ok", "there are none yet: the first pass makes them")
        return
    deliveries = found["deliveries"]
    app_id = deliveries.metadata.properties.get(APP_ID, "")
    warnings = log_warnings(found, app_id)
    for warning in warnings:
        yield Finding(name, "warn", warning, "ordertrail verify says all that is wrong, and what cures it")
    if not warnings:
        yield Finding(name, "ok", f"all five, up to batch {deliveries.last_txn(app_id)}")


def _agreement(config: Config) -> Finding:
    """Whether the tables hold the contract, or a pass can bring them up to it."""
    from ordertrail.engines.embedded.feed import feed_notes
    from ordertrail.engines.local.schema import agreement_of
    from ordertrail.engines.local.session import tables_of

    name = "contract"
    if not config.in_folders:
        return Finding(name, "ok", "the tables are the catalog's: a pass compares them with the contract")
    try:
        added = agreement_of(config)
    except OrdertrailError as error:
        return Finding(name, "fail", error.message, error.hint)
    if added is None:
        return Finding(name, "ok", "there are no tables yet")
    if added:
        return Finding(name, "ok", f"{'; '.join(one.text for one in added)}: {added[0].hint}")
    for note in feed_notes(config, tables_of(config).target.newest()):
        return Finding(name, "warn", note, "ordertrail migrate says what it takes")
    return Finding(name, "ok", "the tables hold it")


# --- the folders -------------------------------------------------------------------------------------------------


def _folders(config: Config) -> Iterator[Finding]:
    yield _folder("source", config.source, made_by_a_pass=False)
    yield _folder("archive", config.archive, made_by_a_pass=True)
    yield _folder("warehouse", config.warehouse, made_by_a_pass=True)
    source, archive, warehouse = (nearest(path) for path in (config.source, config.archive, config.warehouse))
    yield _same_file_system(source, archive)
    yield _hard_links(warehouse)
    yield _locks(warehouse)
    yield _belonging(config)
    yield _events(config.source)
    yield _writers(config)
    yield from _corners(config)
    yield _space("archive", archive)
    yield _space("warehouse", warehouse)
    yield _file_clock(source)


def _folder(name: str, path: Path, *, made_by_a_pass: bool) -> Finding:
    there = nearest(path)
    if not there.is_dir():
        return Finding(name, "fail", f"{there} is not a folder", f"move it away, or set pipeline.{name}")
    if there != path and not made_by_a_pass:
        return Finding(name, "fail", f"{path} does not exist", f"make it, mkdir -p '{path}', or set pipeline.{name}")
    problem = _probe(there)
    if problem:
        hint = "give the user that runs ordertrail the right to read and write there"
        return Finding(name, "fail", f"{there} cannot be written to: {problem}", hint)
    return Finding(name, "ok", str(path) if there == path else f"{path}, made by the first pass")


def _probe(folder: Path) -> str | None:
    """Why a folder cannot be listed and written to; None when it can."""
    try:
        list(folder.iterdir())
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".ordertrail-doctor-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return None


def _same_file_system(source: Path, archive: Path) -> Finding:
    name = "archiving"
    if source.stat().st_dev == archive.stat().st_dev:
        return Finding(name, "ok", "source and archive share a file system: files are moved")
    hint = "fine, but slower and it needs room for a copy; put both on one file system if you can"
    return Finding(name, "warn", "source and archive are on two file systems: files are copied and verified", hint)


def _hard_links(warehouse: Path) -> Finding:
    name = "commits"
    try:
        with tempfile.TemporaryDirectory(dir=warehouse, prefix=".ordertrail-doctor-") as folder:
            first, second = Path(folder, "a"), Path(folder, "b")
            first.write_bytes(b"x")
            os.link(first, second)
            if not second.samefile(first):
                return Finding(name, "fail", "hard links are copies here", "put the warehouse on a local disk")
    except OSError as error:
        problem = f"no hard links in {warehouse}: {error.strerror}"
        return Finding(name, "fail", problem, "put the warehouse on a local disk such as ext4 or xfs")
    return Finding(name, "ok", "hard links work in the warehouse")


def _locks(warehouse: Path) -> Finding:
    """Whether the file system of the tables supports locks, against a second pass, and durable commits."""
    name = "locks"
    hint = "put the warehouse on a local disk such as ext4 or xfs, or mount the share with locks"
    try:
        with tempfile.NamedTemporaryFile(dir=warehouse, prefix=".ordertrail-doctor-") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with Path(file.name).open("rb") as second:
                try:
                    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass
                else:
                    return Finding(name, "fail", f"a lock in {warehouse} (flock) keeps nobody away", hint)
    except OSError as error:
        return Finding(name, "fail", f"no locks (flock) in {warehouse}: {error.strerror}", hint)
    try:
        fsync_folder(warehouse)
    except OSError as error:
        problem = f"a folder cannot be synced (fsync) in {warehouse}: {error.strerror}; no pass can commit there"
        return Finding(name, "fail", problem, "put the warehouse on a local disk such as ext4 or xfs")
    return Finding(name, "ok", "locks and the sync of folders work in the warehouse")


def _belonging(config: Config) -> Finding:
    """Whether tables, archive and source belong together, as far as that can be told without a pass."""
    name = "set"
    try:
        refuse_lost_tables(config)
        marker = read_marker(config.archive)
        if known := _known(config):
            refuse_other_archive(config, *known)
    except StorageError as error:
        return Finding(name, "fail", error.message, error.hint)
    except SourceError as error:
        if not config.source.is_dir():
            return Finding(name, "warn", "cannot be told without the source", "see source")
        return Finding(name, "fail", error.message, error.hint)
    if marker is None or not marker.owners:
        return Finding(name, "ok", "the first pass marks archive and source as this pipeline's")
    return Finding(name, "ok", f"the archive is that of pipeline {marker.shown}")


def _known(config: Config) -> tuple[str, int] | None:
    """The tables' application id and last batch; None when there are none, or `_tables` reports what is wrong."""
    from ordertrail.engines.local.whole import look
    from ordertrail.rules.tables import APP_ID

    try:
        found = look(config) if config.in_folders else None
    except OrdertrailError:
        return None
    if not found:
        return None
    app_id = found["deliveries"].metadata.properties.get(APP_ID, "")
    return app_id, found["deliveries"].last_txn(app_id)


def _events(source: Path) -> Finding:
    name = "events"
    polling = "`ordertrail watch` looks at its interval instead"
    if sys.platform != "linux":
        return Finding(name, "warn", f"no inotify on {platform.system()}: {polling}", "nothing to do")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0:
        problem = f"inotify is not available ({os.strerror(ctypes.get_errno())}): {polling}"
        return Finding(name, "warn", problem, "raise fs.inotify.max_user_instances, see sysctl")
    os.close(descriptor)
    system = _file_system(source)
    if system in _NETWORK_SYSTEMS:
        problem = f"the source is on {system}, which does not tell of files others write: {polling}"
        return Finding(name, "warn", problem, "choose the interval of `ordertrail watch` to suit")
    return Finding(name, "ok", "inotify tells when a file is complete")


def _file_system(path: Path) -> str:
    """The type of the file system a path is on, from the longest mount point above it; empty when unknown."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    for line in mounts.splitlines():
        point, system = line.split(" ")[1:3]
        point = point.replace("\\040", " ")
        if path.resolve().is_relative_to(point) and len(point) >= len(best):
            best, kind = point, system
    return kind


def _writers(config: Config) -> Finding:
    """Whether the system tells who has a file open for writing; if not, only a rest shows that a file is complete."""
    name = "writers"
    try:
        with tempfile.NamedTemporaryFile(dir=nearest(config.source), prefix=".ordertrail-doctor-") as file:
            descriptor = os.open(file.name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                told = is_local(descriptor) and is_written(descriptor)
            finally:
                os.close(descriptor)
    except OSError:
        return Finding(name, "warn", "cannot be tried out", "see source")
    if told:
        return Finding(name, "ok", "the system tells of our own files who still writes to them")
    detail = f"nobody can tell who still writes to a file there: it is complete when it rests {config.settle_s:g} s"
    if config.settle_s >= NETWORK_SETTLE_S:
        return Finding(name, "ok", detail)
    return Finding(name, "warn", detail, f"set pipeline.settle_s = {NETWORK_SETTLE_S:g} or more")


def _corners(config: Config) -> Iterator[Finding]:
    """Vendors' folders and files that need a person; nothing when all is well."""
    if not config.source.is_dir():
        return
    found = {}
    for vendor in config.vendors:
        folder = vendor.files.rpartition("/")[0]
        below = islice(config.source.glob(folder), MAX_FOLDERS) if folder else ()
        for path in sorted(one for one in below if one.is_dir()):
            if (problem := _probe(path)) is not None:
                found[path] = Finding(f"vendor {vendor.name}", "fail", f"{path}: {problem}", _CORNER_HINT)
    yield from found.values()
    try:
        skipped = source_of(config).discover(datetime.now(UTC)).skipped
    except OrdertrailError:
        return
    for one in skipped[:MAX_FOLDERS]:
        if one.needs_person:
            yield Finding("waiting", "warn", f"{one.file_name}: {one.reason}", "see `ordertrail status`")


def _space(name: str, folder: Path) -> Finding:
    free = free_bytes(folder)
    detail = f"{free / 1e9:,.1f} GB free for the {name}"
    if free < NO_SPACE_BYTES:
        return Finding("space", "fail", detail, "free some space: a batch may not fit")
    if free < LOW_SPACE_BYTES:
        return Finding("space", "warn", detail, "free some space before it runs out")
    return Finding("space", "ok", detail)


def _file_clock(folder: Path) -> Finding:
    name = "file times"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".ordertrail-doctor-") as file:
            skew_s = os.fstat(file.fileno()).st_mtime - time.time()
    except OSError:
        return Finding(name, "warn", "cannot be compared with the clock", "see source")
    if abs(skew_s) > MAX_CLOCK_SKEW_S:
        problem = f"the source's file system is {skew_s:+.1f} s from this machine's clock"
        return Finding(name, "warn", problem, "set both clocks by NTP: the time of a file without a date orders it")
    return Finding(name, "ok", "the source's file system has this machine's time")
