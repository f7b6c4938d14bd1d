"""Adds to tables that only Spark reads the columns that the files of a batch bring, before the batch is staged."""

from __future__ import annotations

from collections.abc import Sequence

from ordertrail.engines.base import StageRequest
from ordertrail.engines.local.brought import brought
from ordertrail.engines.spark.record import amend
from ordertrail.engines.spark.schema import bring_up_to_date, declared_tables
from ordertrail.engines.spark.tables import TableState
from ordertrail.engines.spark.work import SparkPass
from ordertrail.rules.accepted import RECORDED
from ordertrail.rules.added import Newcomers, lacking_too
from ordertrail.rules.schema import DeclaredTable


def widen(run: SparkPass, request: StageRequest) -> Newcomers:
    """See `embedded.widen.widen`."""
    states: list[TableState] = []

    def tables() -> list[DeclaredTable]:
        states.extend(table.state() for table in run.tables.all)
        return declared_tables(dict(zip(run.tables.all, states, strict=True)))

    found = brought(request, run.config, tables)
    if found.columns:
        _note_absent(run, found.names)
        run.follow(found.with_columns(run.config.contract))
        bring_up_to_date(run, dict(zip(run.tables.all, states, strict=True)))
    return found


def _note_absent(run: SparkPass, names: Sequence[str]) -> None:
    """Say of the deliveries that are there that they lack columns, in one commit."""
    rows = run.tables.deliveries.rows().where(RECORDED).select("delivery_id", "absent").collect()
    after = {row["delivery_id"]: text for row in rows if (text := lacking_too(row["absent"], names)) != row["absent"]}
    if not after:
        return
    amend(run, "absent", after)
    run.deliveries_changed()
    run.probe("absent.committed")
