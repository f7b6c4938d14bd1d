"""The table formats and tools of `bench.field` that have an environment of their own; this module runs in it.

Each makes a table from Parquet files, brings a batch into it by the key in the way its own documentation shows, reads
it whole, and writes its rows to one Parquet file to compare with. A batch is typed in memory before the clock of
`merge` starts, but for floe, which reads the CSV itself. Only the standard library, and `bench.peers`,
is imported before one is chosen.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.peers import COLUMN_TYPES, merge_sql

if TYPE_CHECKING:
    import pyarrow as pa

Figures = dict[str, object]
KEY = "tracking_num"
ORDER = "last_update_timestamp"
DATES = ("pck_recieved_date", "package_deliver_date")
COLUMNS = tuple(COLUMN_TYPES)


class Peer(Protocol):
    """One way to bring a batch into a table; `table` is the table's folder."""

    def merge(self, table: Path, csv: Path) -> Figures:
        """Update the rows of the batch's keys and insert the others; `load_s`, the seconds of the change alone."""


class Keeper(Peer, Protocol):
    """A peer that keeps the table in a format of its own."""

    def make(self, table: Path, files: Sequence[Path]) -> None:
        """Fill an empty folder with a table from Parquet files with `COLUMNS`."""

    def batches(self, table: Path) -> Iterable[pa.RecordBatch]:
        """All rows, by the peer's own reader."""


class Lance:
    """Lance's `merge_insert`, with a BTREE index on the key."""

    def make(self, table: Path, files: Sequence[Path]) -> None:
        """See `Keeper.make`."""
        import lance

        made = lance.write_dataset(_stream(files), table / "orders.lance", schema=schema())
        made.create_scalar_index(KEY, "BTREE")

    def merge(self, table: Path, csv: Path) -> Figures:
        """See `Peer.merge`."""
        import lance

        rows = typed(csv)
        began = time.perf_counter()
        merge = lance.dataset(table / "orders.lance").merge_insert(KEY)
        merge.when_matched_update_all().when_not_matched_insert_all().execute(rows)
        return {"load_s": time.perf_counter() - began}

    def batches(self, table: Path) -> Iterable[pa.RecordBatch]:
        """See `Keeper.batches`."""
        import lance

        return iter(lance.dataset(table / "orders.lance").scanner(columns=list(COLUMNS)).to_reader())


class Paimon:
    """PyPaimon: a table with a primary key, the newest row by `sequence.field`; merged when it is read."""

    def make(self, table: Path, files: Sequence[Path]) -> None:
        """See `Keeper.make`."""
        from pypaimon import Schema

        key_given = schema().set(1, schema().field(KEY).with_nullable(False))
        options = {"bucket": "4", "sequence.field": ORDER}
        catalog = self._catalog(table)
        catalog.create_database("orders", True)
        made = Schema.from_pyarrow_schema(key_given, primary_keys=[KEY], options=options)
        catalog.create_table("orders.target", made, True)
        self._write(table, _stream(files))

    def merge(self, table: Path, csv: Path) -> Figures:
        """See `Peer.merge`."""
        rows = typed(csv)
        began = time.perf_counter()
        self._write(table, rows.to_batches())
        return {"load_s": time.perf_counter() - began}

    def batches(self, table: Path) -> Iterable[pa.RecordBatch]:
        """See `Keeper.batches`."""
        builder = self._catalog(table).get_table("orders.target").new_read_builder()
        for split in builder.new_scan().plan().splits():  # a split at a time: together they are the whole table
            yield from builder.new_read().to_arrow([split]).to_batches()

    def _write(self, table: Path, batches: Iterable[pa.RecordBatch]) -> None:
        import pyarrow as pa

        key_given = schema().set(1, schema().field(KEY).with_nullable(False))
        builder = self._catalog(table).get_table("orders.target").new_batch_write_builder()
        write, commit = builder.new_write(), builder.new_commit()
        for batch in batches:
            write.write_arrow(pa.Table.from_batches([batch]).cast(key_given))
        commit.commit(write.prepare_commit())
        write.close()
        commit.close()

    def _catalog(self, table: Path) -> Any:  # noqa: ANN401 - of the environment
        from pypaimon import CatalogFactory

        return CatalogFactory.create({"warehouse": str(table)})


class DuckLake:
    """DuckLake's `MERGE`, its catalog in a DuckDB file."""

    def make(self, table: Path, files: Sequence[Path]) -> None:
        """See `Keeper.make`."""
        listed = ", ".join(f"'{file}'" for file in files)
        self._connect(table).execute(
            f"CREATE TABLE lake.orders AS SELECT {', '.join(COLUMNS)} FROM read_parquet([{listed}])"
        )

    def merge(self, table: Path, csv: Path) -> Figures:
        """See `Peer.merge`."""
        con = self._connect(table)
        con.register("batch", typed(csv))
        con.execute("CREATE TEMP TABLE typed AS FROM batch")
        began = time.perf_counter()
        con.execute(merge_sql("lake.orders", "typed")).fetchall()
        return {"load_s": time.perf_counter() - began}

    def batches(self, table: Path) -> Iterable[pa.RecordBatch]:
        """See `Keeper.batches`."""
        return iter(self._connect(table).sql("FROM lake.orders").fetch_arrow_reader(1 << 17))

    def _connect(self, table: Path) -> Any:  # noqa: ANN401 - of the environment
        from importlib.resources import files

        import duckdb

        folder = files("duckdb_extension_ducklake") / "extensions" / f"v{duckdb.__version__}"
        con = duckdb.connect()
        con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        con.execute(f"LOAD '{folder / 'ducklake.duckdb_extension'}'")
        con.execute(f"ATTACH 'ducklake:{table / 'orders.ducklake'}' AS lake (DATA_PATH '{table / 'data'}')")
        return con


class Iceberg:
    """pyiceberg's `upsert`, its catalog in SQLite."""

    def make(self, table: Path, files: Sequence[Path]) -> None:
        """See `Keeper.make`."""
        import pyarrow as pa

        catalog = self._catalog(table)
        catalog.create_namespace("orders")
        made = catalog.create_table("orders.target", schema=schema())
        for file in files:
            made.append(pa.Table.from_batches(_stream([file])))

    def merge(self, table: Path, csv: Path) -> Figures:
        """See `Peer.merge`."""
        rows = typed(csv)
        began = time.perf_counter()
        self._catalog(table).load_table("orders.target").upsert(rows, join_cols=[KEY])
        return {"load_s": time.perf_counter() - began}

    def batches(self, table: Path) -> Iterable[pa.RecordBatch]:
        """See `Keeper.batches`."""
        return iter(self._catalog(table).load_table("orders.target").scan().to_arrow_batch_reader())

    def _catalog(self, table: Path) -> Any:  # noqa: ANN401 - of the environment
        from pyiceberg.catalog.sql import SqlCatalog

        return SqlCatalog("bench", uri=f"sqlite:///{table / 'catalog.db'}", warehouse=f"file://{table}")


class Floe:
    """floe's `merge_scd1` into Delta: it reads and checks the CSV itself.

    The event time is text: floe 0.7.0 reads `2026-11-20 08:00:00` as NULL where the column is a `datetime`.
    """

    def merge(self, table: Path, csv: Path) -> Figures:
        """See `Peer.merge`."""
        import floe

        source = table / "in"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        shutil.copy2(csv, source / csv.name)
        config = table / "floe.yml"
        config.write_text(json.dumps(self._config(table)), encoding="utf-8")  # YAML reads JSON
        began = time.perf_counter()
        outcome = floe.run(str(config))
        took_s = time.perf_counter() - began
        told = outcome.summary["results"]
        if told["rejected_total"] or outcome.summary["run"]["exit_code"]:
            raise RuntimeError(f"floe rejected {told['rejected_total']} rows")
        return {"load_s": took_s}

    def _config(self, table: Path) -> Mapping[str, object]:
        types = dict.fromkeys(DATES, "date")
        columns = [{"name": name, "type": types.get(name, "string"), "nullable": name != KEY} for name in COLUMNS]
        entity = {
            "name": "orders",
            "source": {"format": "csv", "path": str(table / "in"), "options": {"header": True, "separator": ","}},
            "sink": {
                "write_mode": "merge_scd1",
                "accepted": {"format": "delta", "path": str(table / "orders")},
                "rejected": {"format": "csv", "path": str(table / "rejected")},
            },
            "policy": {"severity": "reject"},
            "schema": {"primary_key": [KEY], "columns": columns},
        }
        return {"version": "0.1", "report": {"path": str(table / "reports")}, "entities": [entity]}


KEEPERS: Mapping[str, Callable[[], Keeper]] = {
    "lance": Lance, "paimon": Paimon, "ducklake": DuckLake, "iceberg": Iceberg,
}  # fmt: skip
PEERS: Mapping[str, Callable[[], Peer]] = {**KEEPERS, "floe": Floe}


def schema() -> pa.Schema:
    """The columns as Arrow types."""
    import pyarrow as pa

    types = {**dict.fromkeys(DATES, pa.date32()), ORDER: pa.timestamp("us", "UTC")}
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])


def typed(csv: Path) -> pa.Table:
    """A batch, read and typed by Arrow."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv as arrow_csv

    types = {
        name: pa.timestamp("us") if name == ORDER else kind for name, kind in zip(COLUMNS, schema().types, strict=True)
    }
    options = arrow_csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
    rows = arrow_csv.read_csv(csv, convert_options=options)
    return rows.set_column(rows.schema.get_field_index(ORDER), ORDER, pc.assume_timezone(rows[ORDER], "UTC")).cast(
        schema()
    )


def _dump(batches: Iterable[pa.RecordBatch], file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, schema()) as writer:
        for batch in batches:
            writer.write_table(pa.Table.from_batches([batch]).select(list(COLUMNS)).cast(schema()))


def _stream(files: Sequence[Path]) -> Iterable[pa.RecordBatch]:
    """The rows of Parquet files, as `schema` says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(1 << 17, columns=list(COLUMNS)):
            yield from pa.Table.from_batches([batch]).cast(schema()).to_batches()


def main() -> None:
    """Run `VERB NAME TABLE [ARGUMENT…]` and print one JSON object; the verbs are those of `Peer`, and `dump`."""
    verb, name, table = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    arguments = [Path(word) for word in sys.argv[4:]]
    found: Figures = {}
    if verb == "merge":
        found = PEERS[name]().merge(table, arguments[0])
    elif verb == "make":
        KEEPERS[name]().make(table, arguments)
    elif verb == "read":
        began = time.perf_counter()
        rows = sum(batch.num_rows for batch in KEEPERS[name]().batches(table))
        found = {"rows": rows, "read_s": time.perf_counter() - began}
    else:
        _dump(KEEPERS[name]().batches(table), arguments[0])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
