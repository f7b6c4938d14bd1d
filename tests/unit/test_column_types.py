"""The one table of column types: what its members say is what Arrow, DuckDB, Delta and Spark have."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from ordertrail.arrow import arrow_type
from ordertrail.delta.actions import delta_type
from ordertrail.rules.cell_sql import sql_type
from ordertrail.rules.column_types import (
    COLUMN_TYPES,
    PLAIN_TYPES,
    ColumnType,
    bits_of,
    contract_type,
    decimal_of,
    plain_type,
)
from ordertrail.rules.others import carried_type


@pytest.mark.parametrize("kind", COLUMN_TYPES, ids=lambda kind: kind.name)
def test_every_dialect_means_the_same_type(kind: ColumnType) -> None:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        found = con.sql(f"SELECT CAST(NULL AS {kind.duckdb}) AS c").to_arrow_table().schema.field("c").type
    assert found == arrow_type(kind.name) == arrow_type(kind.delta)
    assert delta_type(kind.name) == delta_type(kind.delta) == kind.delta
    assert sql_type(kind.name) == carried_type(kind.delta) == kind.duckdb
    assert contract_type(kind.delta) == kind.name


@pytest.mark.parametrize("kind", [kind for kind in COLUMN_TYPES if kind.bits], ids=lambda kind: kind.name)
def test_the_width_of_a_number_is_that_of_arrow(kind: ColumnType) -> None:
    assert bits_of(kind.name) == bits_of(kind.delta) == arrow_type(kind.name).bit_width


@pytest.mark.parametrize("kind", COLUMN_TYPES, ids=lambda kind: kind.name)
def test_spark_has_the_class_and_calls_it_like_delta(kind: ColumnType) -> None:
    types = pytest.importorskip("pyspark.sql.types")
    assert getattr(types, kind.spark)().jsonValue() == kind.delta


def test_a_contract_has_seven_plain_types() -> None:
    assert PLAIN_TYPES == ("string", "bigint", "int", "double", "boolean", "date", "timestamp")


def test_a_decimal_is_no_plain_type() -> None:
    assert (plain_type("decimal(10,2)"), decimal_of("decimal(10,2)"), decimal_of("bigint")) == (None, (10, 2), None)
    assert arrow_type("decimal(10,2)") == pa.decimal128(10, 2)
    assert (contract_type("decimal(10,2)"), bits_of("decimal(10,2)")) == ("decimal(10,2)", 0)


def test_a_type_that_nobody_knows_has_no_arrow_type() -> None:
    with pytest.raises(KeyError):
        arrow_type("interval")
