"""Replays past batches in a temporary folder, to find what undisturbed passes would have recorded.

The rows come from the archived files through the row kernel or, when a file is gone, from a history that still has
them. Everything else is the code of a pass on separate tables: stage, load, record. So outcomes, revisions and times
are as they would have been, whatever happened to the pipeline's own tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet as pq
from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.actions import AddFile
from ordertrail.delta.table import Change, Table, scan_sql
from ordertrail.engines.batch_rows import header_rows, reject_headers, reject_rows_sql
from ordertrail.engines.embedded.load import load_of
from ordertrail.engines.embedded.stage import staged_columns
from ordertrail.engines.local.accepted import ROWS_TAG
from ordertrail.engines.local.find import open_index
from ordertrail.engines.local.session import Session, tables_of
from ordertrail.keep.past import Past
from ordertrail.model import Batch, Limits, Manifest, RowCounts, State, no_probe
from ordertrail.parse.database import connect, release
from ordertrail.parse.job import ParsedBatch, ParsedFile, ParseJob
from ordertrail.rules.planning import Candidate, delivery_number
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import APP_ID


class ReadAgain(Struct, frozen=True):
    """An archived file that is parsed again.

    Attributes:
        candidate: What the row kernel needs to know about it.
        open_file: Opens it at its first byte; raises FileChangedError when it is gone.
        unchanged: Whether it is still the file whose SHA-256 was verified.
        absent: The contract columns that it lacked when it was loaded.
    """

    candidate: Candidate
    open_file: Callable[[], BinaryIO]
    unchanged: Callable[[], bool]
    absent: tuple[str, ...] = ()


class Replay(Struct):
    """The tables into which the batches are loaded again.

    Attributes:
        session: A session on these tables.
        counts: Rows by outcome, by delivery id, of the batches so far.
        rejected: Deliveries whose rejects were produced again: all that were read but those that were held for a reason
            that is not in the file, such as the number of rows of others.
        problems: By delivery id, why its rows differ from those in the ledger.
    """

    session: Session
    counts: dict[str, RowCounts] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)

    def batch(self, batch: Batch, past: Sequence[Past], files: Mapping[str, ReadAgain]) -> None:
        """Load the next batch; nothing is loaded when its rows differ from those in the ledger.

        Args:
            batch: The batch with the manifests of its deliveries.
            past: Its deliveries, in the same order.
            files: The archived files to read, by delivery id. Rows of other deliveries are in `kept_rows`.
        """
        session, table = self.session, self.session.tables.stage
        base = table.snapshot()
        # Files loaded then are loaded whatever `max_reject_share` is now, and quarantined ones are not.
        loaded = self._parsed(batch, _of(past, files, State.LOADED), 1.0)
        quarantined = self._parsed(batch, _of(past, files, State.QUARANTINED), 0.0)
        for path, _ in quarantined.rows:
            path.unlink()
        held = self._parsed(batch, _of(past, files, State.HELD), 1.0, as_it_came=True)
        for path in (*(path for path, _ in held.rows), *held.rejects):
            path.unlink()  # nothing of a held file is loaded, and it is rejected as a whole
        again = [file for file in held.files if file.state is State.HELD]
        parsed = {file.candidate.delivery_id: file for file in (*loaded.files, *quarantined.files, *again)}
        unheld = [one for one in past if one.manifest.state is not State.HELD]
        self._judge([one for one in unheld if one.manifest.delivery_id in files], parsed)
        if self.problems:
            return
        kept = self._kept(batch, [one for one in past if one.accepted and one.manifest.delivery_id not in files])
        # With two kinds of files, the files cannot be moved into the target as they are.
        add = [table.added(path, rows, {} if kept else {ROWS_TAG: str(rows)}) for path, rows in loaded.rows]
        add += kept
        if rejects := [*loaded.rejects, *quarantined.rejects]:
            add.append(self._rejects(batch, rejects))
        add.append(self._headers(batch, parsed))
        table.commit(base, Change(session.txn(batch), "STAGE", add, list(base.files.values()), anew=True))
        load = load_of(session, batch)
        counts = load.run()
        load.record(counts)
        self.counts.update(counts)
        self.rejected |= parsed.keys()

    def _parsed(
        self, batch: Batch, files: Sequence[ReadAgain], max_reject_share: float, *, as_it_came: bool = False
    ) -> ParsedBatch:
        """Parse files, each without the columns that the tables got from later ones (`rules.added`).

        Args:
            batch: Their batch.
            files: Which ones.
            max_reject_share: See `Limits`.
            as_it_came: Whether what holds a file that comes is judged again.
        """
        added = frozenset(one.name for one in self.session.config.contract.columns if one.added)
        groups: dict[frozenset[str], list[ReadAgain]] = {frozenset(): []}
        for file in files:
            groups.setdefault(added.intersection(file.absent), []).append(file)
        limits = Limits(max_reject_share, max_file_ahead_d=float("inf"), trailers=as_it_came)
        parts = [self._parsed_without(batch, some, limits, names) for names, some in groups.items()]
        return ParsedBatch(
            *(tuple(one for part in parts for one in getattr(part, name)) for name in ParsedBatch.__struct_fields__)
        )

    def _parsed_without(
        self, batch: Batch, files: Sequence[ReadAgain], limits: Limits, names: frozenset[str]
    ) -> ParsedBatch:
        session, table = self.session, self.session.tables.stage
        contract = session.config.contract
        contract = replace(contract, columns=tuple(one for one in contract.columns if one.name not in names))
        by_number = {file.candidate.number: file for file in files}
        job = ParseJob(
            session.database,
            contract,
            limits=limits,
            open_file=lambda candidate: by_number[candidate.number].open_file(),
            unchanged=lambda candidate: by_number[candidate.number].unchanged(),
            extra=staged_columns(batch),
            new_path=lambda kind: table.new_path(f"b{batch.number:06d}-{kind}"),
            pool=session.pool,
        )
        return job.run([file.candidate for file in files])

    def _judge(self, past: Sequence[Past], parsed: Mapping[str, ParsedFile]) -> None:
        """Whether the files yield what the ledger says."""
        for one in past:
            manifest, file = one.manifest, parsed.get(one.manifest.delivery_id)
            if file is None:
                self.problems[manifest.delivery_id] = "its archived file changed while it was read"
            elif manifest.state is State.LOADED and not _as_before(manifest, file):
                reason = f" ({file.reason})" if file.reason else ""
                self.problems[manifest.delivery_id] = (
                    f"by today's contract it is {file.state}{reason}: {file.parsed} rows, {file.rejected} rejected; by "
                    f"the ledger {manifest.rows_parsed} rows, {manifest.rows_rejected} rejected"
                )

    def _kept(self, batch: Batch, past: Sequence[Past]) -> list[AddFile]:
        """A stage file with the rows of these deliveries that the history still has."""
        if not past:
            return []
        session, table = self.session, self.session.tables.stage
        names = ", ".join(name_sql(name) for name in (*session.config.contract.names, "_rescued", "_row_hash"))
        numbers = " ".join(
            f"WHEN {quoted(one.manifest.delivery_id)} THEN {delivery_number(one.manifest.delivery_id)}" for one in past
        )
        ids = ", ".join(quoted(one.manifest.delivery_id) for one in past)
        path = table.new_path(f"b{batch.number:06d}-kept")
        rows = session.copy(
            f"SELECT 'row' AS _kind, _vendor, _delivery_id, _file_name, _file_row, {names}, "
            f"CAST(CASE _delivery_id {numbers} END AS INTEGER) AS _delivery_no FROM kept_rows "
            f"WHERE _delivery_id IN ({ids})",
            path,
        )
        return [table.added(path, rows)]

    def _rejects(self, batch: Batch, parts: Sequence[Path]) -> AddFile:
        session, table = self.session, self.session.tables.stage
        path = table.new_path(f"b{batch.number:06d}-rejects-all")
        session.con.register("reject_headers", reject_headers(batch))
        rows = session.copy(reject_rows_sql(parts), path)
        session.con.unregister("reject_headers")
        for part in parts:
            part.unlink()
        return table.added(path, rows)

    def _headers(self, batch: Batch, parsed: Mapping[str, ParsedFile]) -> AddFile:
        table = self.session.tables.stage
        path = table.new_path(f"b{batch.number:06d}-deliveries")
        rows = header_rows(batch, [parsed.get(manifest.delivery_id) for manifest in batch.files])
        pq.write_table(rows, path)
        return table.added(path, rows.num_rows)

    def rows_sql(self, table: Table) -> str:
        """SQL of the rows of a table of the session, in the order of its columns."""
        names = ", ".join(name_sql(column.name) for column in table.columns)
        return f"SELECT {names} FROM {scan_sql(self.session.con, table.snapshot(), table.columns)}"


def _of(past: Sequence[Past], files: Mapping[str, ReadAgain], state: State) -> list[ReadAgain]:
    wanted = (one.manifest.delivery_id for one in past if one.manifest.state is state)
    return [files[delivery_id] for delivery_id in wanted if delivery_id in files]


def _as_before(manifest: Manifest, file: ParsedFile) -> bool:
    """Whether a file yields the rows that it was loaded with.

    Lines that are no rows counted as rejected rows in the releases that did not skip them.
    """
    good = manifest.rows_parsed - manifest.rows_rejected
    lines = manifest.rows_parsed + manifest.lines_skipped
    same = (file.parsed - file.rejected, file.parsed + file.lines_skipped) == (good, lines)
    return file.state is State.LOADED and same


class _LooseStore:
    """Log entries of temporary tables: nothing is made durable."""

    def put_if_absent(self, path: Path, data: bytes) -> None:
        with path.open("xb") as file:
            file.write(data)


@contextmanager
def open_replay(config: Config, app_id: str, scratch: Path) -> Iterator[Replay]:
    """Empty tables into which past batches are loaded.

    Args:
        config: The pipeline's config. Below its folders only `scratch` is written.
        app_id: The pipeline's application id.
        scratch: An empty folder on the warehouse's disk; the caller deletes it.
    """
    own = config.embedded_in(scratch / "warehouse")
    tables = tables_of(own, _LooseStore())
    properties = {APP_ID: app_id}
    if config.vectors:
        tables.target.create(properties, vectors=True)
    for table in tables.all:
        table.create(properties)
    con = connect(config.threads, config.memory_limit_mb, scratch / "spill")
    indexed = config.vectors or config.appends
    index = open_index(own, tables.target.snapshot()) if indexed else None
    try:
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="ordertrail-cut") as pool:
            yield Replay(Session(own, con, pool, tables, app_id, no_probe, index))
    finally:
        if index is not None:
            index.close()
        release(con)
