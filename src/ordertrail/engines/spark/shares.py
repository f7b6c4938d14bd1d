"""Compares the keys of parsed files with the target, in Spark, before the files are staged; see `local.shares`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ordertrail.engines.base import StageRequest
from ordertrail.engines.spark.measured import key_column
from ordertrail.engines.spark.session import kept
from ordertrail.engines.spark.tables import ticked
from ordertrail.engines.spark.work import SparkPass
from ordertrail.model import Contract, Reject, State
from ordertrail.rules.placing import LOWEST
from ordertrail.rules.planning import places_of, wrong_shares
from ordertrail.rules.shares import KeyCounts, counts_sql

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def compared(contract: Contract) -> frozenset[str]:
    """The names of the stage's columns that are compared."""
    return frozenset({*contract.key, contract.order_by, "_delivery_no"})


def over_shares(run: SparkPass, request: StageRequest, parts: Sequence[DataFrame]) -> dict[int, Reject]:
    """Why files are held because of the shares of their keys, by number.

    Args:
        run: The pass; the target is read as it is now.
        request: What to stage.
        parts: The good rows of its files, with the columns `compared`, in any order; at least one.
    """
    from pyspark.sql import functions as f

    contract, places = run.config.contract, places_of(request.fresh)
    numbers, orders = pa.array(list(places), pa.int32()), pa.array(list(places.values()), pa.int32())
    files = f.broadcast(run.spark.createDataFrame(pa.table({"_delivery_no": numbers, "place": orders})))
    key, event = key_column(contract).alias("k"), f.unix_micros(f.col(ticked(contract.order_by))).alias("ev")
    rows = parts[0]
    for part in parts[1:]:
        rows = rows.unionByName(part)
    found = rows.select(key, event, "_delivery_no").join(files, "_delivery_no")
    file_keys = kept(found.groupBy("k", "place").agg(f.max("ev").alias("ev")))
    target = _counting(run, run.tables.target.rows()).select(key, event)
    known = target.join(file_keys.select("k").distinct(), "k", "left_semi").groupBy("k").agg(f.max("ev").alias("ev"))
    known_times = kept(known.withColumn("ev", f.coalesce("ev", f.lit(LOWEST))))
    relations = {"file_keys": f"SELECT * FROM {run.view(file_keys)}"}
    relations["known_times"] = f"SELECT * FROM {run.view(known_times)}"

    def count(without: Collection[int]) -> Iterator[KeyCounts]:
        for row in run.run_rule(counts_sql(without), relations).collect():
            yield KeyCounts(*(int(value) for value in row))

    return wrong_shares(request.fresh, count)


def _counting(run: SparkPass, rows: DataFrame) -> DataFrame:
    """Rows of the target without those of deliveries that were taken back, which it keeps in mode `append`."""
    from pyspark.sql import functions as f

    if not run.config.appends:
        return rows
    known = run.deliveries()
    taken = pa.array([str(State.UNDONE), str(State.REPLAYED)])
    gone = known.filter(pc.is_in(known["state"], taken))["delivery_id"].to_pylist()
    return rows.where(~f.coalesce(f.col("_delivery_id").isin(gone), f.lit(False))) if gone else rows
