"""Brings tables that only Spark reads up to date with this release and the contract, before a pass writes rows."""

from __future__ import annotations

from collections.abc import Mapping

from ordertrail.engines.local.schema import require_mode
from ordertrail.engines.spark.tables import SparkTable, TableState, ticked
from ordertrail.engines.spark.work import SparkPass
from ordertrail.rules.agreement import HasNulls, agree
from ordertrail.rules.schema import CONTRACT, DeclaredTable, declared_columns


def bring_up_to_date(run: SparkPass, known: Mapping[SparkTable, TableState]) -> list[SparkTable]:
    """See `local.schema.bring_up_to_date`.

    The history is the first, and its property comes before its columns, so that a column of the contract in the
    property is known to be ours, whenever a pass is killed.

    Args:
        run: The pass.
        known: The state of the existing tables.

    Returns:
        The tables that were altered.

    Raises:
        ConfigError: The contract was changed in a way that the tables cannot follow; nothing was written.
        TableError: Somebody changed a table; nothing was written.
    """
    history = run.tables.history
    require_same_mode(run, known)
    text = known[history].properties.get(CONTRACT) if history in known else None
    agreement = agree(declared_tables(known), text, run.config.contract, _looking_into(run, known), merged=True)
    altered = []
    for table in dict.fromkeys((history, *run.tables.all)):
        columns = [(one.column, str(one.after)) for one in agreement.added if one.table == table.name]
        properties = {CONTRACT: agreement.text} if table is history and agreement.text is not None else {}
        if table in known and (columns or properties):
            table.alter(columns, properties)
            run.probe("schema.committed")
            altered.append(table)
    return altered


def require_same_mode(run: SparkPass, known: Mapping[SparkTable, TableState]) -> None:
    """See `local.schema.require_mode`.

    Args:
        run: The pass.
        known: The state of the existing tables.

    Raises:
        ConfigError: The target was made for the other mode.
    """
    target = run.tables.target
    if target in known:
        away = f"drop the table {target.name} and load the archived files into new tables: that makes"
        require_mode(run.config, known[target].properties, away)


def declared_tables(known: Mapping[SparkTable, TableState]) -> list[DeclaredTable]:
    """The tables as their schemas declare them."""
    return [DeclaredTable(t.name, declared_columns(state.schema), t.columns) for t, state in known.items()]


def _looking_into(run: SparkPass, known: Mapping[SparkTable, TableState]) -> HasNulls:
    def has_nulls(name: str) -> bool:
        query = "SELECT 1 FROM {} WHERE {} IS NULL LIMIT 1"
        tables = [table for table in (run.tables.target, run.tables.history) if table in known]
        return any(run.spark.sql(query.format(table.sql_name, ticked(name))).collect() for table in tables)

    return has_nulls
