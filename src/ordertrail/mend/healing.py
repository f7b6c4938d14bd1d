"""Rows and files that the contract of the config accepts and an earlier one did not: named, and read again.

The files are read from the archive under the config, as `replay` reads them, but into a folder that is deleted
afterwards. A file is healed when it was quarantined and can be loaded now; or when it was loaded, some of its rejected
rows are accepted now, and no row that was accepted is rejected now: `migrate` keeps such a row, and `replay` would not.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.table import duckdb_errors, scan_sql
from ordertrail.engines.base import Ledger
from ordertrail.engines.embedded.stage import stage_batch
from ordertrail.engines.local.session import Session, app_id_of, tables_of
from ordertrail.engines.local.whole import cured, look, progress_of, read_whole
from ordertrail.look.dry_run import DryRun
from ordertrail.mend.archived import Bytes, archived_file
from ordertrail.mend.corrections import Asking, Wanted, correct
from ordertrail.model import Batch, Correction, CorrectionKind, Manifest, Probe, RunReport, State, no_probe
from ordertrail.parse.database import connected
from ordertrail.pipeline import Pipeline
from ordertrail.rules.corrections import Known
from ordertrail.rules.schema import CONTRACT, terms_of
from ordertrail.rules.tables import APP_ID, REJECTS, stage_columns

WHY = "the contract was changed: ordertrail migrate --replay"
"""Stays with the deliveries that are read again."""


class Heal(Struct, frozen=True):
    """A file of which the contract accepts more than was loaded.

    Attributes:
        delivery_id: The delivery.
        vendor: Who sent it.
        file_name: The file's name.
        state: Of the delivery: `quarantined` or `loaded`.
        rows: How many rows more are accepted.
        left: Why it is not read again; empty when it is.
    """

    delivery_id: str
    vendor: str
    file_name: str
    state: str
    rows: int
    left: str = ""


def heals_of(config: Config) -> tuple[Heal, ...]:
    """Find the files of which the contract accepts more than was loaded. Reads the archive; writes nothing there.

    Args:
        config: Of the pipeline; its tables may carry another contract.

    Returns:
        In the order of the deliveries. Files that are not in the archive, and those of vendors that the config no
        longer has, are not looked at.

    Raises:
        TableError: A table is damaged.
        StorageError: The disk is full or fails.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ordertrail-heal-") as folder,
        _opened(config, Path(folder)) as (run, session),
    ):
        rejected = _rejected(session)
        wanted = list(_candidates(config, run.past(), rejected))
        if not wanted:
            return ()
        number = run.ledger.highest + 1
        batch = Batch(number, uuid.uuid4().hex, datetime.now(UTC), ())
        asked = Wanted(Correction(CorrectionKind.REPLAY, tuple(one.delivery_id for one in wanted), WHY, ""))
        request = replace(Asking(config, asked, dry=True)(batch, run), correction=None, accept=list)
        if session.tables.history.newest().metadata.properties.get(CONTRACT) != terms_of(config.contract).text:
            request = request.judged({})  # the keys of a target that carries another contract cannot be compared
        manifests = {one.replaces: one for one in stage_batch(session, request).batch.manifests}
        rejected_now = _staged_rejects(session) if manifests else {}
        found = (_judged(one, manifests.get(one.delivery_id), rejected, rejected_now) for one in wanted)
        return tuple(heal for heal in found if heal is not None)


def heal(config: Config, heals: Iterable[Heal], by: str, probe: Probe = no_probe) -> RunReport | None:
    """Read files again, in one batch; the caller holds the lock of the pipeline.

    Args:
        config: Of the pipeline.
        heals: As found.
        by: Who decided.
        probe: Called after each effect.

    Returns:
        The report of the batch; None when there is nothing to read.

    Raises:
        OrdertrailError: As `mend.corrections.correct`.
    """
    ids = tuple(one.delivery_id for one in heals if not one.left)
    if not ids:
        return None
    wanted = Wanted(Correction(CorrectionKind.REPLAY, ids, WHY, by))
    return correct(Pipeline(config, probe=probe), wanted, locked=True)


# -- what is looked at ------------------------------------------------------------------------------------------------


def _candidates(config: Config, past: Sequence[Known], rejected: Mapping[str, set[int]]) -> Iterator[Known]:
    loaded = {(one.vendor, one.sha256) for one in past if one.state is State.LOADED}
    vendors = {vendor.name for vendor in config.vendors}
    for one in past:
        aside = one.state is State.QUARANTINED and (one.vendor, one.sha256) not in loaded
        partly = one.state is State.LOADED and one.delivery_id in rejected
        if (aside or partly) and one.vendor in vendors and isinstance(archived_file(config.archive, one), Bytes):
            yield one


def _judged(
    one: Known, now: Manifest | None, rejected: Mapping[str, set[int]], rejected_now: Mapping[str, set[int]]
) -> Heal | None:
    """What becomes of a file that was read again; None when the contract accepts no more of it than was loaded."""
    if now is None or now.state is not State.LOADED:
        return None
    told = (one.delivery_id, one.vendor, one.file_name, str(one.state))
    if one.state is State.QUARANTINED:
        return Heal(*told, now.rows_parsed - now.rows_rejected)
    before, after = rejected[one.delivery_id], rejected_now.get(now.delivery_id, set())
    healed, lost = before - after, after - before
    if not healed:
        return None
    left = f"rows that are loaded and would be rejected: {len(lost):,}" if lost else ""
    return Heal(*told, len(healed), left)


# -- tables -----------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(config: Config, scratch: Path) -> Iterator[tuple[DryRun, Session]]:
    """The pipeline's deliveries, and a stage of our own under the contract of the config."""
    (scratch / "spill").mkdir()
    real, own = tables_of(config), tables_of(config.embedded_in(scratch / "warehouse"))
    with (
        connected(config.threads, config.memory_limit_mb, scratch / "spill") as con,
        ThreadPoolExecutor(max_workers=2) as pool,
        cured(config),
        duckdb_errors("cannot read archived files again"),
    ):
        read_whole(config)
        app_id = app_id_of(real.deliveries.newest())
        stands = progress_of(look(config), app_id)
        own.stage.create({APP_ID: app_id})
        session = Session(config, con, pool, replace(real, stage=own.stage), app_id, no_probe)
        yield DryRun(session, Ledger(stands.staged, stands.done, stands.done, stands.highest)), session


def _rejected(session: Session) -> dict[str, set[int]]:
    """The rejected rows of each delivery."""
    rows = scan_sql(session.con, session.tables.rejects.newest(), REJECTS)
    return _numbers(session.run(f"SELECT delivery_id, file_row FROM {rows} WHERE file_row IS NOT NULL"))


def _staged_rejects(session: Session) -> dict[str, set[int]]:
    rows = scan_sql(session.con, session.tables.stage.newest(), stage_columns(session.config.contract))
    return _numbers(
        session.run(f"SELECT _delivery_id, _file_row FROM {rows} WHERE _kind = 'reject' AND _file_row IS NOT NULL")
    )


def _numbers(rows: Iterable[tuple[object, ...]]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for delivery_id, number in rows:
        found.setdefault(str(delivery_id), set()).add(int(str(number)))
    return found
