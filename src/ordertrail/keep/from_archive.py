"""Rebuilds the history from the archive, for `ordertrail rebuild --history-from-archive`.

The archived files are the evidence, and the deliveries say which files they are. A file is read again only if its bytes
have the SHA-256 that was loaded. Nothing is written unless every row that the ledger counts can be recovered.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.local.session import Session, app_id_of
from ordertrail.errors import FileChangedError, TableError
from ordertrail.keep.history_again import amend_counts, keep_rows, standing, write_history, write_rejects
from ordertrail.keep.past import Past, batches_of, read_past
from ordertrail.keep.refold import sound
from ordertrail.keep.replay import ReadAgain, Replay, open_replay
from ordertrail.keep.stage_again import stage_again
from ordertrail.model import FileIdentity, SenderManifest, State, Vendor
from ordertrail.rules.contract_hash import contract_hashes
from ordertrail.rules.planning import Candidate, delivery_number
from ordertrail.rules.tables import DELIVERIES
from ordertrail.scratch import scratch_folder
from ordertrail.sources.names import identity_of
from ordertrail.sources.pairing import archived_manifest

SHOWN = 10
"""How many deliveries of one kind are named."""

_LEFT = ".ordertrail-rebuild-*"


class HistoryReport(Struct, frozen=True):
    """The result of rebuilding the history.

    Attributes:
        deliveries_read: Deliveries whose archived file was read again.
        deliveries_kept: Deliveries whose file cannot be read, of which the old history still had all rows.
        history_rows: Rows of the new history; in a dry run, those that it would have.
        rejects_rows: Rows of the new rejects; None in a dry run.
        notes: Further information for a person, one line each.
        warnings: What a person must look at, one line each.
    """

    deliveries_read: int
    deliveries_kept: int
    history_rows: int
    rejects_rows: int | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class _Bytes(Struct, frozen=True):
    """Where the bytes of a delivery are, or why they are missing; and why they may be read differently today."""

    path: Path | None
    problem: str = ""
    doubt: str = ""


def history_from_archive(session: Session, *, dry_run: bool, progress: Callable[[str], None]) -> HistoryReport:
    """Write history and rejects anew from the archived files, as undisturbed passes would have left them.

    Delivery ids, file rows and the place of deliveries in the order come from the ledger. Idempotent; killed at any
    instant, each table is the old one or the new one, and running it again goes on.

    Args:
        session: A session on the pipeline's own tables; this sets its `app_id`. The caller holds the pipeline's lock.
        dry_run: Whether to write nothing.
        progress: Called with a description of each step.

    Raises:
        TableError: The deliveries or a log are damaged, or rows of some deliveries cannot be recovered. Nothing was
            written.
        StorageError: The disk is full or fails.
    """
    config, tables = session.config, session.tables
    deliveries = sound(tables.deliveries, "deliveries")
    session.app_id = app_id_of(deliveries)
    done = deliveries.last_txn(session.app_id)
    bases = [standing(session, role, getattr(tables, role)) for role in ("history", "rejects")]
    progress("looking at the archived files")
    past = [one for one in read_past(session, deliveries) if one.batch <= done]
    found = _find(config, past, _same_bytes(session, deliveries))
    for left in config.warehouse.glob(_LEFT):
        shutil.rmtree(left, ignore_errors=True)  # left by killed rebuilds: only one runs at a time
    with scratch_folder(config.warehouse, "rebuild") as scratch:
        (scratch / "spill").mkdir(parents=True)
        with open_replay(config, session.app_id, scratch) as replay:
            read, kept, warnings = _chosen(replay, bases[0], past, found)
            _replay(replay, past, {one: _again(config, by_id, found[one]) for one, by_id in read.items()}, progress)
            counts = (len(read), len(kept))
            if dry_run:
                return HistoryReport(*counts, sum(one.accepted for one in past), None, (), tuple(warnings))
            progress("writing the history")
            rows = write_history(session, replay, bases[0], done)
            rejects, whole = write_rejects(session, replay, bases[1], done)
            notes = _notes(session, replay, past, done)
            unread = [one for one in past if one.counts.rejected and one.manifest.delivery_id not in replay.rejected]
            if unread and not whole:
                warnings.append(f"the rejects of {_listed([_name(one) for one in unread])} could not be recovered")
            return HistoryReport(*counts, rows, rejects, tuple(notes), tuple(warnings))


def _notes(session: Session, replay: Replay, past: Sequence[Past], done: int) -> list[str]:
    notes = []
    if amended := amend_counts(session, past, replay.counts):
        notes.append(
            f"the outcomes of {len(amended)} deliveries were led astray by foreign writes; history and deliveries now "
            "have those of undisturbed passes"
        )
    if (made := stage_again(session, done, records_follow=True)) is not None:
        notes.append(made)
    return notes


def _chosen(
    replay: Replay, history: Snapshot | None, past: Sequence[Past], found: Mapping[str, _Bytes]
) -> tuple[dict[str, Past], set[str], list[str]]:
    """The deliveries to read again, those to take from the old history, and warnings.

    Raises:
        TableError: The rows of some can be had from neither.
    """
    sure = {
        one.manifest.delivery_id: one for one in past if (at := found[one.manifest.delivery_id]).path and not at.doubt
    }
    wanted = [one for one in past if one.accepted and one.manifest.delivery_id not in sure]
    kept = keep_rows(replay, history, wanted) if history is not None and wanted else set()
    doubtful = [one for one in wanted if one.manifest.delivery_id not in kept]
    lost = [one for one in doubtful if found[one.manifest.delivery_id].path is None]
    if lost:
        reasons = [f"{_name(one)}: {found[one.manifest.delivery_id].problem}" for one in lost]
        raise TableError(
            f"the rows of {len(lost)} deliveries cannot be had: {_listed(reasons, '; ')}; nothing was written",
            hint="put these files back into the archive from a backup, under these names, then run this again; or "
            "restore the history from a backup",
        )
    warnings = [
        f"{_name(one)} was read again by today's rules: {found[one.manifest.delivery_id].doubt}" for one in doubtful
    ]
    return sure | {one.manifest.delivery_id: one for one in doubtful}, kept, warnings[:SHOWN]


def _replay(
    replay: Replay, past: Sequence[Past], files: Mapping[str, ReadAgain], progress: Callable[[str], None]
) -> None:
    batches = batches_of(past)
    for place, (batch, members) in enumerate(batches, 1):
        progress(f"loading batch {batch.number} again ({place} of {len(batches)})")
        replay.batch(batch, members, files)
        if replay.problems:
            named = {one.manifest.delivery_id: one for one in members}
            reasons = [f"{_name(named[one])}: {why}" for one, why in replay.problems.items()]
            raise TableError(
                f"archived files do not give the rows that were loaded: {_listed(reasons, '; ')}; nothing was written",
                hint="set the contract, and the profile of the vendor, to what they were when these files came, then "
                "run this again; or restore the history from a backup",
            )


# -- the archived files -----------------------------------------------------------------------------------------


def _same_bytes(session: Session, deliveries: Snapshot) -> Mapping[str, list[str]]:
    """Where files with each SHA-256 were archived, for all deliveries: the same bytes may have come twice."""
    rows = session.run(
        f"SELECT sha256, archived_to FROM {scan_sql(session.con, deliveries, DELIVERIES)} "
        "WHERE archived_to IS NOT NULL ORDER BY delivery_id"
    )
    found: dict[str, list[str]] = {}
    for digest, path in rows:
        found.setdefault(str(digest), []).append(str(path))
    return found


def _find(config: Config, past: Sequence[Past], places: Mapping[str, list[str]]) -> dict[str, _Bytes]:
    vendors = {vendor.name: vendor for vendor in config.vendors}
    return {one.manifest.delivery_id: _bytes_of(config, one, vendors, places) for one in past}


def _bytes_of(config: Config, one: Past, vendors: Mapping[str, Vendor], places: Mapping[str, list[str]]) -> _Bytes:
    manifest = one.manifest
    if not manifest.sha256:
        return _Bytes(None, "its rows were there before ordertrail and come from no file")
    vendor = vendors.get(manifest.vendor)
    if vendor is None:
        return _Bytes(None, f"the vendor {manifest.vendor} is no longer in the config")
    own = [] if one.archived_to is None else [one.archived_to]
    problems = []
    for place in dict.fromkeys((*own, *places.get(manifest.sha256, []))):
        problem = _problem(config.archive / place, manifest.identity.size_bytes, manifest.sha256)
        if problem is None:
            doubt = ""
            if manifest.contract_hash not in contract_hashes(config.contract, vendor):
                doubt = f"the contract, or the profile of {vendor.name}, was changed since it came"
            return _Bytes(config.archive / place, "", doubt)
        problems.append(f"{place} {problem}")
    return _Bytes(None, problems[0] if problems else "it vanished before it was archived")


def _problem(path: Path, size_bytes: int, sha256: str) -> str | None:
    """Why a file does not have these bytes; None when it does."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return "is no regular file"
        if status.st_size != size_bytes:
            return f"has {status.st_size} bytes, {size_bytes} were loaded"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
    return None if digest == sha256 else f"has SHA-256 {digest}, {sha256} was loaded"


def _again(config: Config, one: Past, found: _Bytes) -> ReadAgain:
    manifest, path = one.manifest, found.path
    assert path is not None
    vendor = next(vendor for vendor in config.vendors if vendor.name == manifest.vendor)
    before = _seen(path)

    def open_file() -> BinaryIO:
        try:
            return path.open("rb")
        except OSError as error:
            raise FileChangedError(f"{path} vanished while it was read") from error

    candidate = Candidate(
        number=delivery_number(manifest.delivery_id),
        delivery_id=manifest.delivery_id,
        vendor=vendor,
        path=manifest.path,
        clean_path=manifest.path,
        identity=manifest.identity,
        digest=manifest.sha256,
        file_key=manifest.file_key,
        contract_hash=manifest.contract_hash,
        sender=_sender(config, one, vendor) if manifest.state is State.HELD else None,
    )
    return ReadAgain(candidate, open_file, lambda: before is not None and _seen(path) == before, manifest.absent)


def _sender(config: Config, one: Past, vendor: Vendor) -> SenderManifest | None:
    """The manifest beside a file that was held; what it says was wrong then. Without it the old rejects say so."""
    with suppress(OSError, ValueError):
        return archived_manifest(config.archive, one.archived_to or "", one.manifest.path, vendor)
    return None


def _seen(path: Path) -> FileIdentity | None:
    try:
        return identity_of(path.stat())
    except OSError:
        return None


def _name(one: Past) -> str:
    return f"{one.manifest.file_name} ({one.manifest.delivery_id})"


def _listed(texts: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return between.join(texts[:SHOWN]) + more
