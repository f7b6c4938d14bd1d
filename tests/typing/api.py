"""The public API as a user would write it. Type-checked by `mypy --strict`, never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import duckdb
import polars as pl
import pyarrow as pa

import ordertrail
from ordertrail import (
    Changes,
    Config,
    ConfigError,
    DeliveryReport,
    OrdertrailError,
    Outcome,
    PassRunningError,
    Pipeline,
    RowCounts,
    RunReport,
    Skipped,
    SourceError,
    State,
    StorageError,
    TableError,
    TableRows,
    UsageError,
    load_config,
)

assert_type(ordertrail.__version__, str)


def one_pass(file: Path) -> int:
    """Load what waits; the exit code of a script around it."""
    try:
        config = load_config(file)
    except ConfigError as error:
        assert_type(error.hint, str)
        return error.exit_code
    assert_type(config, Config)
    assert_type(config.warehouse, Path)
    report = Pipeline(config).run()
    assert_type(report, RunReport)
    assert_type(report.batch, int | None)
    assert_type(report.rows, RowCounts)
    assert_type(report.rows.inserted, int)
    assert_type(report.seconds["total"], float)
    return 3 if report.needs_person else 0


def look(report: RunReport) -> list[str]:
    """What came, line by line."""
    assert_type(report.deliveries, tuple[DeliveryReport, ...])
    assert_type(report.skipped, tuple[Skipped, ...])
    lines = [f"{one.file_name}: {one.rows.parsed}" for one in report.deliveries if one.state is State.LOADED]
    lines += [f"{one.file_name}: {one.reason}" for one in report.skipped]
    return lines + [str(outcome) for outcome in Outcome]


def in_two_steps(config: Config) -> tuple[RunReport, RunReport]:
    """As the two tasks of a job do it."""
    pipeline = Pipeline(config)
    return pipeline.stage(), pipeline.load()


def read(config: Config) -> int:
    """The tables for programs; nothing is written."""
    pipeline = Pipeline(config)
    tables = (pipeline.target(), pipeline.history(), pipeline.deliveries(), pipeline.rejects())
    assert_type(tables, tuple[TableRows, TableRows, TableRows, TableRows])
    orders = pipeline.target()
    assert_type(orders.columns, tuple[str, ...])
    assert_type(orders.version, int)
    assert_type(orders.to_polars(), pl.DataFrame)
    assert_type(orders.scan(), duckdb.DuckDBPyRelation)
    changes = pipeline.changes(from_batch=12, net=True)
    assert_type(changes, Changes)
    assert_type(changes.next_batch, int)
    assert_type(list(changes.batches()), list[tuple[int, pa.Table]])
    assert_type(list(changes), list[pa.RecordBatch])
    return int(orders.to_arrow().num_rows) + len(orders.to_pandas())


def careful(config: Config) -> str:
    """Every error is an `OrdertrailError`, with a code and what to do."""
    try:
        Pipeline(config).run(complete=frozenset({"acme/orders.csv"}))
    except PassRunningError:
        return "another pass is running"
    except (SourceError, StorageError, TableError, UsageError) as error:
        return f"{error.code}: {error.message}"
    except OrdertrailError as error:
        assert_type(error.transient, bool)
        return "later" if error.transient else error.hint
    return "done"


def wrong_is_an_error(config: Config) -> None:
    """What a type checker must refuse; an unused `ignore` fails the check."""
    Pipeline("ordertrail.toml")  # type: ignore[arg-type]
    Pipeline(config).run().batch += 1  # type: ignore[misc, operator]
    load_config(42)  # type: ignore[arg-type]
