"""Run the row kernel on text: one call, rows and rejects back as Python values."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ordertrail.errors import OrdertrailError
from ordertrail.model import Column, Contract, Vendor
from ordertrail.parse.kernel import Kernel, KernelFile
from ordertrail.parse.reader import DeliveryReader
from ordertrail.rules.cell_text import name_column
from ordertrail.rules.headers import map_header, named

FAR_FUTURE_US = 1 << 61


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the kernel made of one file.

    Attributes:
        rows: The good rows by record number.
        errors: Of the rejected ones, by record number.
        raw: Of the rejected ones, by record number.
        parsed: Rows counted by the first reading.
        good: Of these, good.
    """

    rows: dict[int, dict[str, Any]]
    errors: dict[int, list[dict[str, Any]]]
    raw: dict[int, str]
    parsed: int
    good: int


def contract_of(*columns: Column, status: str | None = None, status_rank: tuple[str, ...] = ()) -> Contract:
    """A contract with key `k`, event time `e` and these columns."""
    return Contract((Column("k", "string"), Column("e", "timestamp"), *columns), ("k",), "e", status, status_rank)


def parse(
    con: duckdb.DuckDBPyConnection,
    folder: Path,
    data: bytes,
    contract: Contract,
    vendor: Vendor | None = None,
    *,
    limit_us: int = FAR_FUTURE_US,
    file_name: str = "",
) -> Parsed:
    """Read a file with a header twice: rows, then rejects."""
    vendor = vendor or Vendor("acme")
    header = DeliveryReader(io.BytesIO(data), vendor, contract).header()
    assert header is not None
    kernel = Kernel(con, contract, vendor, map_header(header, contract, vendor))
    failed: dict[int, OrdertrailError] = {}
    files = [KernelFile(3, lambda: io.BytesIO(data), failed)]
    limits = pa.array([limit_us], pa.int64())
    heads = pa.table({"d": pa.array([3], pa.int32()), "limit_us": limits, "dated": ["that of the test"]})
    for name, text in named(file_name, vendor).items():
        heads = heads.append_column(name_column(contract.names.index(name)), pa.array([text]))
    rows_path, rejects_path = folder / "rows.parquet", folder / "rejects.parquet"
    rows_path.unlink(missing_ok=True)
    rejects_path.unlink(missing_ok=True)
    counts = kernel.write_rows(files, rows_path, [], heads)[3]
    again = kernel.write_rejects(files, rejects_path, heads)
    for error in failed.values():
        raise error
    assert again[3] == counts.parsed
    rows = {row["_file_row"]: row for row in _read(rows_path)}
    rejects = list(_read(rejects_path))
    assert all(row["d"] == 3 for row in rejects)
    errors = {row["_file_row"]: json.loads(row["_errors"]) for row in rejects}
    assert len(errors) == len(rejects)
    assert len(rows) == counts.good
    assert len(rejects) == counts.rejected
    return Parsed(rows, errors, {r["_file_row"]: r["_raw"] for r in rejects}, counts.parsed, counts.good)


def csv_of(header: Sequence[str], *rows: Sequence[str]) -> bytes:
    """Every cell quoted."""
    lines = (",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in (header, *rows))
    return "\n".join(lines).encode() + b"\n"


def _read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist() if path.exists() else []
    return rows
