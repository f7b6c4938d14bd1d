"""Opens the changes of some batches, or says why they cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.local import relations
from ordertrail.engines.local.changed import OpenChanges
from ordertrail.engines.local.held import held
from ordertrail.engines.local.whole import log_warnings, progress_of, read_whole, resets_of
from ordertrail.errors import ForeignChangeError
from ordertrail.parse.database import connected
from ordertrail.rules.accepted import ACCEPTED_ROWS, RECORDED, known_sql, lacking_sql
from ordertrail.rules.migration import effect_from
from ordertrail.rules.placing import PLACED
from ordertrail.rules.tables import APP_ID, DELIVERIES, history_columns
from ordertrail.scratch import scratch_folder, sweep_left

MEMORY_MB = 256
"""DuckDB's memory for changes, in MB, unless the config allows less; above it, it spills."""


class Wanted(Struct, frozen=True):
    """Which changes.

    Attributes:
        from_batch: The first batch; None means the oldest.
        to_batch: The last batch, inclusive, as far as it is done; None means the newest.
        net: One change a key over all these batches, instead of one for each batch.
    """

    from_batch: int | None = None
    to_batch: int | None = None
    net: bool = False


@contextmanager
def open_changes(
    config: Config,
    wanted: Wanted,
    spills: Path,
    found: Mapping[str, Snapshot] | None = None,
) -> Iterator[OpenChanges]:
    """Open the changes of some batches; nothing is read of the history yet but the numbers of its batches.

    Args:
        config: Of the pipeline, with the folders of its tables (`engines.choice.placed`).
        wanted: Which ones.
        spills: A folder for DuckDB's temporary files.
        found: The five tables by role; None reads the newest ones.

    Raises:
        ForeignChangeError: Batches are wanted that cannot be read: the history does not have them, or they are not
            there yet. Says the oldest one that can be.
        TableError: A table is damaged or missing, or a migration is not finished.
        StorageError: A data file cannot be read.
    """
    found = read_whole(config) if found is None else found
    holds = held(config, found)
    holds.require_finished()
    config = holds.config
    app_id = found["deliveries"].metadata.properties.get(APP_ID, "")
    stands = progress_of(found, app_id)
    notes = tuple(filter(None, (*_not_fold(found, app_id, stands.loaded), holds.differs)))
    sweep_left(spills, "changes")
    with ExitStack() as closing_:
        spill = closing_.enter_context(scratch_folder(spills, "changes"))
        con = closing_.enter_context(connected(config.threads, min(config.memory_limit_mb, MEMORY_MB), spill))
        opened = OpenChanges(config, con, found["history"], 0, stands.done, wanted.net, notes)
        with opened.errors():
            opened = _placed(opened, found["deliveries"], stands.done)
            first, last = _readable(opened, wanted, stands.done)
        yield replace(opened, first=first, last=last)


def _placed(opened: OpenChanges, deliveries: Snapshot, done: int) -> OpenChanges:
    """Make `ledger`, `placed` and `causes`."""
    run = opened.con.execute
    run(
        f"CREATE TEMP TABLE ledger AS FROM {scan_sql(opened.con, deliveries, DELIVERIES)} WHERE batch <= {done}"
    ).fetchall()
    relations.PLACED.make(
        lambda sql: run(sql).fetchall(), f"WITH known AS ({known_sql('ledger')} WHERE {RECORDED}) {PLACED}"
    )
    run(
        "CREATE TEMP TABLE causes AS SELECT batch, delivery_id, file_name FROM ledger WHERE correction IS NOT NULL"
    ).fetchall()
    lacking = run(lacking_sql("ledger", RECORDED)).fetchall()
    names = opened.contract.names
    absent = tuple(str(name) for (name,) in lacking if name in names)
    past = scan_sql(opened.con, opened.history, history_columns(opened.contract))
    told = run("SELECT batch, migrated FROM ledger WHERE state = 'migration' ORDER BY batch").fetchall()
    return replace(opened, absent=absent, past=past, migrations={batch: effect_from(text) for batch, text in told})


def _readable(opened: OpenChanges, wanted: Wanted, done: int) -> tuple[int, int]:
    """The first and the last batch to read.

    Raises:
        ForeignChangeError: The first cannot be read.
    """
    run = opened.con.execute
    ((oldest,),) = run("SELECT coalesce(min(batch), 1) FROM ledger").fetchall()
    first = min(oldest, 1) if wanted.from_batch is None else wanted.from_batch
    last = done if wanted.to_batch is None else min(wanted.to_batch, done)
    accepted = f"SELECT batch, sum({ACCEPTED_ROWS}) AS n FROM ledger WHERE {RECORDED} GROUP BY batch"
    there = f"SELECT coalesce(_batch, 0) AS batch, count(*) AS n FROM {opened.past} GROUP BY 1"
    ((lost,),) = run(
        f"SELECT max(a.batch) FROM ({accepted}) a LEFT JOIN ({there}) h ON a.batch = h.batch "
        "WHERE a.n > coalesce(h.n, 0)"
    ).fetchall()
    names = opened.config.tables
    lost, where = (oldest - 1, names.deliveries) if lost is None and oldest > 1 else (lost, names.history)
    oldest = min(oldest, 1) if lost is None else lost + 1
    if lost is not None and first <= lost:
        readable = f"the oldest batch that can be read is {oldest}" if lost < done else "none can be read"
        raise ForeignChangeError(
            f"the changes from batch {first} on cannot be read: {where} lacks rows of batch {lost}; {readable}",
            hint=f"restore {where}, or run ordertrail rebuild --history-from-archive; a consumer that must go on "
            f"without takes the whole target as of batch {lost}, then the changes from batch {lost + 1} on",
        )
    if first > done + 1:
        raise ForeignChangeError(
            f"there is no batch {first - 1} yet: the last one that is done is batch {done}, and the oldest that can be "
            f"read is batch {oldest}",
            hint="a consumer that has read further than the tables go has read other tables, or these before they were "
            "restored: let it begin anew",
        )
    keyed = max((batch for batch, effect in opened.migrations.items() if effect.key), default=-1)
    if first <= keyed <= last and first > min(oldest, 1):
        raise ForeignChangeError(
            f"batch {keyed} gave the tables another key, so that the changes from batch {first} on cannot be "
            f"applied to what was read before; the oldest batch that can be read is {keyed + 1}",
            hint="let the consumer begin anew, with an empty table of the new key: without --from-batch, or with "
            f"the target as of batch {keyed} and then --from-batch {keyed + 1}",
        )
    return first, max(last, first - 1)


def _not_fold(found: Mapping[str, Snapshot], app_id: str, loaded: int) -> Iterator[str]:
    """Why the target may be something else than what its changes add up to."""
    target = found["target"]
    with suppress(FileNotFoundError):  # an old entry was just cleaned up: then there is nothing new behind it
        yield from resets_of(target, DeltaLog(target.root), app_id, loaded)
    yield from log_warnings(found, app_id)
