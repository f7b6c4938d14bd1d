"""The rejects that are still open: what they say is not in the tables, and nobody has decided that it need not be.

A rejected row is closed when a later batch accepted a row with its key and its event time: the vendor has sent it
again, corrected. To know both, the raw records are read once more by the row kernel, with a contract of the key and
the event time alone. A record in which one of these is bad stays open until its file is read again (`replay`) or taken
out of the account (`undo`). The reject of a whole file is open as long as its delivery is set aside.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.errors import OrdertrailError
from ordertrail.look.archived_header import archived_header
from ordertrail.look.rows import Row, Rows, rows_of
from ordertrail.model import SET_ASIDE, Contract, State, Vendor
from ordertrail.parse.database import connected
from ordertrail.parse.kernel import Kernel, KernelFile
from ordertrail.parse.reader import DeliveryReader
from ordertrail.rules.dialects import dialect_of
from ordertrail.rules.headers import told_by_config
from ordertrail.rules.sql import name_sql, quoted

_NEVER_FUTURE = (1 << 62, "")
_NO_ROW = "?"
"""Stands for a record that cannot be read again: it has no event time."""

_MEMORY_MB = 256
_ASKED_AT_ONCE = 1000


Read = Callable[[str], pa.Table]
"""The rows of a query over the tables."""


def open_rejects(config: Config, rejects: Rows, read: Read) -> Rows:
    """Those of some rejects that are open.

    Args:
        config: Of the pipeline, with the contract that the tables carry.
        rejects: As the table has them, whole.
        read: Asks the tables.
    """
    rows = rejects.dicts()
    deliveries = _deliveries(config, {str(row["delivery_id"]) for row in rows}, read)
    kept = {place for place, row in enumerate(rows) if _counts(row, deliveries.get(str(row["delivery_id"])))}
    by_delivery: dict[str, list[int]] = {}
    for place in sorted(kept):
        if rows[place]["file_row"] is not None:
            by_delivery.setdefault(str(rows[place]["delivery_id"]), []).append(place)
    said: dict[int, tuple[str, ...]] = {}
    for one, places in by_delivery.items():
        found = _said(config, deliveries[one], [rows[place] for place in places])
        said |= {places[at]: key_and_time for at, key_and_time in found.items()}
    accepted = _accepted(config, set(said.values()), read)
    for place, key_and_time in said.items():
        if accepted.get(key_and_time, 0) > int(str(rows[place]["batch"])):
            kept.discard(place)
    return replace(rejects, rows=tuple(row for place, row in enumerate(rejects.rows) if place in kept))


def _deliveries(config: Config, ids: Collection[str], read: Read) -> dict[str, Row]:
    """What the ledger says of some deliveries, by id."""
    if not ids:
        return {}
    listed = ", ".join(map(quoted, sorted(ids)))
    found = read(
        f"SELECT delivery_id, vendor, state, archived_to FROM {name_sql(config.tables.deliveries)} "
        f"WHERE delivery_id IN ({listed})"
    )
    return {str(row["delivery_id"]): row for row in rows_of(found).dicts()}


def _counts(reject: Row, delivery: Row | None) -> bool:
    """Whether a reject is of a delivery that nobody has decided about."""
    if delivery is None:
        return True
    state = State(str(delivery["state"]))
    return state in SET_ASIDE or (state is State.LOADED and reject["file_row"] is not None)


def _said(config: Config, delivery: Row, rejects: Sequence[Row]) -> dict[int, tuple[str, ...]]:
    """The parts of the key and the event time of rejected rows, as text, by their place.

    Rows whose key or event time is bad are left out, and all where the archived file cannot be read any more, or where
    the record does not say the key or the event time, since the vendor's profile or the file's name does.
    """
    vendor = next((one for one in config.vendors if one.name == delivery["vendor"]), None)
    wanted = {*config.contract.key, config.contract.order_by}
    if vendor is None or delivery["archived_to"] is None or wanted & set(told_by_config(vendor)):
        return {}
    header = _header(config, vendor, str(delivery["archived_to"]))
    if not header:
        return {}
    text = _text(vendor, rejects)
    plain = replace(
        vendor, encoding="utf-8", compression="none", skip_lines=0, trailer=None,
        short_rows="fill", continuation_lines=False, manifest=None, final_newline=False,
        combine=tuple(one for one in vendor.combine if one[0] in wanted),
        constants=(), from_name=None, header=False, columns=header,
    )  # fmt: skip
    columns = tuple(one for one in config.contract.columns if one.name in wanted)
    contract = replace(config.contract, columns=columns, status=None, status_rank=(), unknown_columns="rescue")
    limit_us, dated = _NEVER_FUTURE
    files = pa.table({"d": pa.array([0], pa.int32()), "limit_us": pa.array([limit_us], pa.int64()), "dated": [dated]})
    try:
        layout = DeliveryReader(io.BytesIO(text), plain, contract).layout()
        if layout is None:
            return {}
        with tempfile.TemporaryDirectory() as folder, connected(1, _MEMORY_MB, Path(folder)) as con:
            path, failed = Path(folder) / "rows.parquet", dict[int, OrdertrailError]()
            file = KernelFile(0, lambda: io.BytesIO(text), failed)
            counts = Kernel(con, contract, plain, layout).write_rows([file], path, (), files)
            if failed or not counts[0].good:
                return {}
            cells = con.execute(
                f"SELECT _file_row - 1, {_as_text(config.contract)} FROM read_parquet({quoted(str(path))})"
            )
            return {int(place): tuple(parts) for place, *parts in cells.fetchall()}
    except (OrdertrailError, duckdb.Error):
        return {}


def _header(config: Config, vendor: Vendor, archived_to: str) -> tuple[str, ...]:
    """The names of the cells of an archived file; none when it cannot be read any more."""
    if not vendor.header:
        return vendor.columns
    try:
        return archived_header(config, vendor, archived_to)
    except (OSError, OrdertrailError):
        return ()


def _text(vendor: Vendor, rejects: Sequence[Row]) -> bytes:
    """The raw records: as many records as there are rejects."""
    dialect = dialect_of(vendor.delimiter, vendor.quote, vendor.escape, vendor.widths)
    lines = []
    for one in rejects:
        raw = str(one["raw"] or "")
        # What is no record of its own, such as a quote that is never closed, would swallow the next ones.
        whole = dialect.cells(raw) is not None and ("\n" not in raw or raw.count(vendor.quote or "\0") % 2 == 0)
        lines.append(raw if whole and raw.strip() else _NO_ROW)
    return ("\n".join(lines) + "\n").encode()


def _as_text(contract: Contract) -> str:
    """SQL of the parts of a key and of an event time, so that they can be compared as texts."""
    keys = [f"CAST({name_sql(name)} AS VARCHAR)" for name in contract.key]
    return ", ".join([*keys, f"CAST(epoch_us({name_sql(contract.order_by)}) AS VARCHAR)"])


def _accepted(config: Config, wanted: Collection[tuple[str, ...]], read: Read) -> dict[tuple[str, ...], int]:
    """The last batch that accepted a row with a key and an event time, of those that are wanted."""
    contract = config.contract
    found: dict[tuple[str, ...], int] = {}
    first = sorted({parts[0] for parts in wanted})
    for start in range(0, len(first), _ASKED_AT_ONCE):
        listed = ", ".join(map(quoted, first[start : start + _ASKED_AT_ONCE]))
        rows = read(
            f"SELECT {_as_text(contract)}, max(_batch) FROM {name_sql(config.tables.history)} "
            f"WHERE CAST({name_sql(contract.key[0])} AS VARCHAR) IN ({listed}) GROUP BY ALL"
        )
        found |= {tuple(map(str, parts)): int(str(batch)) for *parts, batch in rows_of(rows).rows}
    return {parts: batch for parts, batch in found.items() if parts in wanted}
