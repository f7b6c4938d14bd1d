"""Finds the target's rows of the staged keys: through the key index, or by a scan.

The result, `target_before`, is the same either way. The index (`keyindex.index`) is a cache and is trusted only as far
as it can be: an entry counts if its data file is live and its row is not in that file's deletion vector, and live files
that no run covers are read and indexed first. If that fails (no space, a damaged run), the scan answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing, suppress

import duckdb
import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from ordertrail.arrow import numbers
from ordertrail.config import Config
from ordertrail.delta.actions import AddFile
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import ROW_BITS, scan_sql
from ordertrail.delta.vectors import rows_in
from ordertrail.engines.local.relations import (
    DOUBLED,
    STANDING,
    TARGET_BEFORE,
    FoundRows,
    Relation,
    StagedBatch,
)
from ordertrail.engines.local.session import Session
from ordertrail.keyindex.index import ENTRY, Covered, Found, KeyIndex
from ordertrail.rules.outcomes import several
from ordertrail.rules.placing import LOWEST, content_sql, contract_key_sql, order_sql
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import target_columns

COVER_ROWS = 20_000_000
"""Data files are indexed together up to this many rows; it bounds how much one sort spills to disk."""

COVER_BATCH_ROWS = 1 << 17
"""How many rows go from DuckDB into a run of the index in one step."""

_PLACED = ("_delivery_id", "_file_row", "_inserted_at", "_revision")
_ORDER = {"rk": "coalesce(o.rk, -2)", "fr": f"coalesce(o.fr, {LOWEST})", "delivery_id": "o.delivery_id", "bn": "o.bn"}
_NO_ORDER = {
    "rk": "-2",
    "fr": f"CAST({LOWEST} AS BIGINT)",
    "delivery_id": "CAST(NULL AS VARCHAR)",
    "bn": "CAST(NULL AS BIGINT)",
}
"""What `target_before` says of rows that tie with none: what the rest of the order would be does not matter."""
_LOWER = (1 << 64) - 1
_ROW_MASK = (1 << ROW_BITS) - 1


def is_indexed(config: Config, target: Snapshot) -> bool:
    """Whether passes find the target's rows through the key index: not where whole files are copied for a changed row.

    Args:
        config: Of the pipeline.
        target: Any version of the table.
    """
    return target.takes_vectors or config.appends


def open_index(config: Config, target: Snapshot) -> KeyIndex:
    """The key index of a target; does not read it yet.

    Args:
        config: Its warehouse holds the index, below `.ordertrail-index`.
        target: Any version of the table.
    """
    contract = config.contract
    depends = [
        target.metadata.table_id,
        [(column.name, column.type) for column in contract.columns],
        contract.key,
        contract.order_by,
        duckdb.__version__,  # whose hashes the index holds
    ]
    fingerprint = hashlib.sha256(json.dumps(depends).encode()).hexdigest()
    folder = config.warehouse / ".ordertrail-index" / f"{config.catalog}.{config.schema}.{config.tables.target}"
    return KeyIndex(folder, fingerprint)


def find_by_scan(session: Session, target: Snapshot, staged: StagedBatch) -> FoundRows:
    """Find the target's rows by reading the key and order columns of the whole target.

    Args:
        session: The pass.
        target: Any version.
        staged: The keys to look for.
    """
    contract = session.config.contract
    key = contract_key_sql(contract)
    scan = scan_sql(session.con, target, target_columns(contract))
    session.run(
        f"CREATE OR REPLACE TEMP TABLE scanned_rows AS SELECT {session.key_hash_sql(key)} AS k, _pos AS pos, "
        f"{order_sql(contract)}, {content_sql(contract)} AS ch, _revision AS rv, _batch AS bn, "
        f"epoch_us(_inserted_at) AS ins FROM {scan} WHERE {key} IN (SELECT key FROM {staged.keys})"
    )
    before = TARGET_BEFORE.make(session.run, "FROM scanned_rows")
    return FoundRows(before, DOUBLED.make(session.run, several("scanned_rows")), tied=True)


def find_rows(session: Session, target: Snapshot, staged: StagedBatch) -> FoundRows:
    """Find the target's rows, through the key index if there is one.

    Args:
        session: The pass.
        target: The target without this batch.
        staged: The keys to look for.
    """
    found = None if session.index is None else _find_by_index(session, session.index, target, staged)
    return find_by_scan(session, target, staged) if found is None else found


def find_standing(
    session: Session, target: Snapshot, staged: StagedBatch, wanted: str, gone: Sequence[str]
) -> Relation:
    """Create `standing`: keys and contents of the target's rows that count, of the staged keys.

    Which delivery a row is from the data files tell. They are read only where some do not count, and then only the rows
    that equal a wanted one. A row that somebody else wrote counts.

    Args:
        session: The pass.
        target: The target without this batch.
        staged: The keys to look for.
        wanted: A relation with the rows to look for, `k` and `ch`; which others `standing` has does not matter.
        gone: Ids of the deliveries whose rows do not count.
    """
    run = session.run
    if session.index is None or not _look_up(session, session.index, target, _distinct(staged)):
        key = contract_key_sql(session.config.contract)
        counts = f" AND coalesce(_delivery_id, '') NOT IN ({', '.join(map(quoted, gone))})" if gone else ""
        columns = target_columns(session.config.contract)
        return STANDING.make(
            run,
            f"SELECT {session.key_hash_sql(key)} AS k, {content_sql(session.config.contract)} AS ch "
            f"FROM {scan_sql(session.con, target, columns)} WHERE {key} IN (SELECT key FROM {staged.keys}){counts}",
        )
    if gone:
        run(
            "CREATE OR REPLACE TEMP TABLE equal_rows AS "
            f"SELECT f.pos FROM found_rows f SEMI JOIN {wanted} s ON f.k = s.k AND f.ch = s.ch"
        )
    return STANDING.make(run, f"SELECT k, ch FROM found_rows{_counting_sql(session, target, 'equal_rows', gone)}")


def _counting_sql(session: Session, target: Snapshot, rows: str, gone: Sequence[str]) -> str:
    """SQL that leaves rows of some deliveries out of `found_rows`, as far as they are in a relation, `rows`."""
    if not gone:
        return ""
    files = ", ".join(map(str, _files_of(session, rows))) or "-1"
    scan = scan_sql(session.con, target, target_columns(session.config.contract))
    return (
        f" WHERE pos NOT IN (SELECT _pos FROM {scan} WHERE (_pos >> {ROW_BITS}) IN ({files}) "
        f"AND _pos IN (SELECT pos FROM {rows}) AND _delivery_id IN ({', '.join(map(quoted, gone))}))"
    )


def entries_sql(session: Session, target: Snapshot, once: str, gone: Sequence[str]) -> str | None:
    """SQL of `k` and `ev` of the target's rows that count, from the key index; None when the index lacks some.

    Args:
        session: The pass.
        target: Any version.
        once: SQL of the keys to look for, `k`, each once.
        gone: Ids of the deliveries whose rows do not count.
    """
    if session.index is None or not _look_up(session, session.index, target, once):
        return None
    return f"SELECT k, ev FROM found_rows{_counting_sql(session, target, 'found_rows', gone)}"


def cover(session: Session, target: Snapshot, files: Sequence[AddFile]) -> None:
    """Index data files of the target, all their rows, whether a vector marks them or not.

    A failure of the disk, or a log with a wrong row count of a file, leaves them uncovered: a scan answers. A row
    without a key, of a foreign writer, is indexed under a hash that no key has.

    Args:
        session: The pass; without an index nothing is done.
        target: Locates the files, which need not be live in it.
        files: Complete and durable data files.
    """
    if session.index is None:
        return
    chunk: list[AddFile] = []
    rows = 0
    with suppress(OSError, ValueError):
        for file in files:
            size = file.rows or 0
            if chunk and rows + size > COVER_ROWS:
                _cover_chunk(session, session.index, target, chunk)
                chunk, rows = [], 0
            chunk.append(file)
            rows += size
        if chunk:
            _cover_chunk(session, session.index, target, chunk)


def cover_distinct(session: Session, target: Snapshot, files: Sequence[AddFile]) -> bool | None:
    """Index data files with rows of this batch alone, as they were staged, unless a key is there twice.

    Args:
        session: The pass.
        target: Locates the files.
        files: Complete and durable data files.

    Returns:
        Whether all keys differ, and the files are indexed; None when that was not to be found out: there is no index,
        the disk is full, or there are more rows than are sorted at once.
    """
    if session.index is None or sum(file.rows or 0 for file in files) > COVER_ROWS:
        return None
    try:
        _write_run(session, session.index, target, files, _entries_sql(session, target, files, "_row_hash"), once=True)
    except RepeatedKeyError:
        return False
    except (OSError, ValueError):
        return None
    return True


def _cover_chunk(session: Session, index: KeyIndex, target: Snapshot, files: Sequence[AddFile]) -> None:
    entries_sql = _entries_sql(session, target, files, content_sql(session.config.contract))
    _write_run(session, index, target, files, entries_sql)


def _entries_sql(session: Session, target: Snapshot, files: Sequence[AddFile], content: str) -> str:
    """SQL of the entries of all rows of some data files; `content` is SQL of a row's content hash."""
    contract = session.config.contract
    scan = scan_sql(session.con, _unmarked(target, files), target_columns(contract))
    return (
        f"SELECT coalesce({session.key_hash_sql(contract_key_sql(contract))}, 0) AS h, _pos, "
        f"coalesce(epoch_us({name_sql(contract.order_by)}), {LOWEST}) AS event_us, {content} AS content, "
        f"coalesce(epoch_us(_inserted_at), {LOWEST}) AS inserted_us, coalesce(_revision, {LOWEST}) AS revision "
        f"FROM {scan}"
    )


def cover_staged(session: Session, staged: StagedBatch, target: Snapshot, file: AddFile) -> None:
    """Index the data file to which a batch's new rows were just written, as they were staged.

    The content of the entries is already in the staged rows; the file tells the position of each row. A failure leaves
    the file uncovered, as in `cover`.

    Args:
        session: The pass.
        staged: The batch.
        target: Locates the file.
        file: A complete and durable data file.
    """
    if session.index is None:
        return
    columns = [c for c in target_columns(session.config.contract) if c.name in _PLACED]
    scan = scan_sql(session.con, _unmarked(target, [file]), columns)
    query = (
        "SELECT s.k AS h, _pos, s.ev AS event_us, s.ch AS content, epoch_us(_inserted_at) AS inserted_us, "
        f"_revision AS revision FROM {scan} JOIN {staged.deliveries} d ON _delivery_id = d.delivery_id "
        f"JOIN {staged.rows} s ON s.dn = d.dn AND s.fr = _file_row"
    )
    with suppress(OSError, ValueError):
        _write_run(session, session.index, target, [file], query)


def _unmarked(target: Snapshot, files: Sequence[AddFile]) -> Snapshot:
    """A snapshot of some data files alone, with all their rows."""
    return replace(target, files={file.path: replace(file, deletion_vector=None) for file in files})


class RepeatedKeyError(Exception):
    """A key is in the data files more than once."""


def _write_run(
    session: Session,
    index: KeyIndex,
    target: Snapshot,
    files: Sequence[AddFile],
    entries_sql: str,
    *,
    once: bool = False,
) -> None:
    """Write a run of some data files.

    Args:
        session: The pass.
        index: Gets the run.
        target: Locates the files.
        files: The data files.
        entries_sql: SQL of the entries, with `h` and `_pos`, in any order.
        once: Whether to give up when a key is there twice.

    Raises:
        RepeatedKeyError: It is; nothing was written.
    """
    covered = [Covered(file.path, file.size_bytes, physical_rows(target, file)) for file in files]
    query = (
        f"SELECT {_halves_sql('h')}, event_us, content, inserted_us, revision, _pos & {_ROW_MASK} AS row, "
        f"_pos >> {ROW_BITS} AS file FROM ({entries_sql})"
    )
    if not once and sum(file.rows for file in covered) <= COVER_BATCH_ROWS:
        # Sorted here: DuckDB would sort all columns with the hash.
        index.write(covered, _entries(session.con.sql(query).to_arrow_table()))
        return
    rows = session.con.sql(f"{query} ORDER BY h").to_arrow_reader(COVER_BATCH_ROWS)
    # Closed also where the writer fails: DuckDB runs no other query before.
    with closing(rows), index.writer(covered) as writer:
        for batch in rows:
            writer.append(_entries(batch))
            if once and writer.repeated:
                raise RepeatedKeyError


def _entries(rows: pa.Table | pa.RecordBatch) -> np.ndarray:
    """Rows with the columns of the index as entries, dtype `ENTRY`."""
    entries = np.empty(rows.num_rows, dtype=ENTRY)
    for name in ENTRY.names or ():
        entries[name] = rows.column(name).to_numpy(zero_copy_only=False)
    return entries


def physical_rows(target: Snapshot, file: AddFile) -> int:
    """The number of rows of a data file, including deleted ones; from its footer when the log does not say."""
    if file.rows is not None:
        return file.rows
    import pyarrow.parquet as pq

    return int(pq.read_metadata(target.path_of(file)).num_rows)


def uncovered(index: KeyIndex, target: Snapshot) -> list[AddFile]:
    """The live data files that no run of the index covers."""
    known = index.covered
    return [file for file in target.files.values() if known.get(file.path) != file.size_bytes]


def _halves_sql(name: str) -> str:
    return f"CAST({name} >> 64 AS UBIGINT) AS upper, CAST({name} & CAST({_LOWER} AS UHUGEINT) AS UBIGINT) AS lower"


def _find_by_index(session: Session, index: KeyIndex, target: Snapshot, staged: StagedBatch) -> FoundRows | None:
    """Like `find_rows`; None when the index does not cover the target."""
    return _read_ties(session, target, staged) if _look_up(session, index, target, _distinct(staged)) else None


def _distinct(staged: StagedBatch) -> str:
    """SQL of the staged keys, each once."""
    repeated = f"SELECT k FROM {staged.repeated}"
    return f"SELECT k FROM {staged.rows} WHERE k NOT IN ({repeated}) UNION ALL {repeated}"


def _look_up(session: Session, index: KeyIndex, target: Snapshot, once: str) -> bool:
    """Create `found_rows`: the entries of live rows of some keys, `k`, each once; False when the index lacks some."""
    missing = uncovered(index, target)
    if missing:
        cover(session, target, missing)
    keys = session.con.sql(f"SELECT {_halves_sql('k')} FROM ({once})").fetchnumpy()
    upper, lower = (np.asarray(keys[name], dtype=np.uint64) for name in ("upper", "lower"))
    found = index.find(upper, lower, target.files.keys())
    if uncovered(index, target):
        return False  # a run turned out to be damaged, or could not be written
    _register(session, upper, lower, found, target)
    return True


def _register(session: Session, upper: np.ndarray, lower: np.ndarray, found: Found, target: Snapshot) -> None:
    """Create `found_rows` from the live entries."""
    places = {path: place for place, path in enumerate(target.files)}
    place_of = np.array([places[path] for path in found.files] or [0], dtype=np.int64)
    places_found = place_of[found.file]
    live = _live(session, target, places_found, found.row)
    columns = {"event_us": "ev", "content": "ch", "revision": "rv", "inserted_us": "inserted_us"}
    table = {short: numbers(getattr(found, name)[live]) for name, short in columns.items()}
    query = found.query[live]
    table |= {"upper": numbers(upper[query]), "lower": numbers(lower[query])}
    table["pos"] = numbers((places_found[live] << ROW_BITS) | found.row[live])
    session.con.register("found_arrow", pa.table(table))
    session.run(
        "CREATE OR REPLACE TEMP TABLE found_rows AS SELECT (CAST(upper AS UHUGEINT) << 64) | lower AS k, "
        "pos, ev, ch, rv, inserted_us FROM found_arrow"
    )
    session.con.unregister("found_arrow")


def _live(session: Session, target: Snapshot, places: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A mask of the rows that no deletion vector marks."""
    live = np.ones(len(rows), dtype=bool)
    for place, file in enumerate(target.files.values()):
        if file.deletion_vector is None:
            continue
        gone = rows_in(session.marked_rows(target, file))
        here = np.flatnonzero(places == place)
        live[here] = ~members(rows[here], gone)
    return live


def members(rows: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """A mask of the row numbers that are among ascending ones."""
    if not len(ascending):
        return np.zeros(len(rows), dtype=bool)
    order = np.argsort(rows)  # searching in ascending order is kind to the CPU cache
    ordered = rows[order]
    at = np.minimum(np.searchsorted(ascending, ordered), len(ascending) - 1)
    found = np.empty(len(rows), dtype=bool)
    found[order] = ascending[at] == ordered
    return found


def _files_of(session: Session, positions: str) -> list[int]:
    """The places of the data files with some rows, from a relation with their positions, `pos`."""
    return [int(str(place)) for (place,) in session.run(f"SELECT DISTINCT pos >> {ROW_BITS} FROM {positions}")]


def _read_ties(session: Session, target: Snapshot, staged: StagedBatch) -> FoundRows:
    """The rows of `found_rows` as `target_before`; reads rows that the rest of the order decides on.

    These are rows that tie with a staged one on event time and differ, and those of keys that occur more than once.
    """
    contract = session.config.contract
    doubled = DOUBLED.make(session.run, several("found_rows"))
    session.run(
        f"CREATE OR REPLACE TEMP TABLE tied_rows AS SELECT f.pos FROM found_rows f JOIN {staged.rows} s "
        "ON f.k = s.k AND f.ev = s.ev AND f.ch <> s.ch "
        f"UNION SELECT pos FROM found_rows WHERE k IN (SELECT k FROM {doubled})"
    )
    touched = _files_of(session, "tied_rows")
    rows, order = "found_rows f", _NO_ORDER
    if touched:
        scan = scan_sql(session.con, target, target_columns(contract))
        session.run(
            "CREATE OR REPLACE TEMP TABLE tied_order AS "
            f"SELECT _pos AS pos, rk, fr, delivery_id, bn FROM (SELECT _pos, {order_sql(contract)}, _batch AS bn "
            f"FROM {scan} WHERE (_pos >> {ROW_BITS}) IN ({', '.join(map(str, touched))}) "
            "AND _pos IN (SELECT pos FROM tied_rows))"
        )
        rows, order = "found_rows f LEFT JOIN tied_order o ON f.pos = o.pos", _ORDER
    before = TARGET_BEFORE.make(
        session.run,
        f"SELECT f.k, f.pos, f.ev, {order['rk']} AS rk, {order['fr']} AS fr, {order['delivery_id']} AS delivery_id, "
        f"f.ch, nullif(f.rv, {LOWEST}) AS rv, {order['bn']} AS bn, nullif(f.inserted_us, {LOWEST}) AS ins FROM {rows}",
    )
    return FoundRows(before, doubled, tied=bool(touched))
