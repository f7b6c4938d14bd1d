"""The view of every key's latest state, in a Spark catalog, beside a target that keeps every row.

It is the fold of the history in one text that reads history and deliveries alone: rows of deliveries that are not
recorded, or that were taken back, are not in it. A column comes from the newest row whose delivery carries it.
"""

from __future__ import annotations

import hashlib

from ordertrail.config import Config
from ordertrail.engines.spark.tables import sql_text, ticked
from ordertrail.engines.spark.work import SparkPass
from ordertrail.errors import TableError
from ordertrail.model import Contract
from ordertrail.rules.accepted import LOADED
from ordertrail.rules.placing import LOWEST
from ordertrail.rules.tables import target_columns

MADE_BY = "ordertrail.view"
"""Property of the view with the hash of its text."""


def keep_view(run: SparkPass) -> None:
    """Create the view, or replace it when the contract has changed. Idempotent.

    Args:
        run: The pass; its tables have names.

    Raises:
        TableError: Something else has the view's name.
    """
    name = view_name(run.config)
    deliveries = run.tables.deliveries.sql_name
    tells_order = "newest_first" in run.spark.table(deliveries).columns
    text = view_sql(run.config.contract, run.tables.history.sql_name, deliveries, tells_order=tells_order)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if run.spark.catalog.tableExists(name):
        found = {str(row["key"]): str(row["value"]) for row in run.spark.sql(f"SHOW TBLPROPERTIES {name}").collect()}
        if found.get(MADE_BY) == digest:
            return
        if MADE_BY not in found:
            raise TableError(
                f"{name} is there, and ordertrail did not make it",
                hint="give the view of the latest state another name: pipeline.current",
            )
    columns = ", ".join(ticked(column.name) for column in target_columns(run.config.contract))
    run.spark.sql(
        f"CREATE OR REPLACE VIEW {name} ({columns}) TBLPROPERTIES ({sql_text(MADE_BY)} = {sql_text(digest)}) AS {text}"
    )
    run.probe("current.made")


def view_name(config: Config) -> str:
    """The name of the view in SQL."""
    catalog = (config.catalog,) if config.spark.tables == "three-level" else ()
    parts = (*catalog, config.schema, config.current)
    return ".".join(map(ticked, parts))


def view_sql(contract: Contract, history: str, deliveries: str, *, tells_order: bool = True) -> str:
    """SQL of the view's rows, with the columns of the target, in its order.

    Args:
        contract: Of the pipeline.
        history: That table's name in SQL.
        deliveries: Likewise.
        tells_order: Whether the deliveries tell if the newest row of a file is its first one; a table that an older
            release made does not.
    """
    newest = "max_by(named_struct({cells}), o)"
    audit = {
        "_inserted_at": "min(_loaded_at)",
        "_updated_at": newest.format(cells="'v', _loaded_at") + ".v",
        "_revision": "greatest(count_if(_outcome = 'inserted'), 1)",
    }
    cells = []
    for column in target_columns(contract):
        quoted = ticked(column.name)
        cell = newest.format(cells=f"'v', {quoted}")
        if column.name in contract.key:
            cell = quoted
        elif column.name in contract.names:
            cell = f"{cell} FILTER (WHERE NOT array_contains(lacks, {sql_text(column.name)})).v"
        else:
            cell = audit.get(column.name, f"{cell}.v")
        cells.append(f"{cell} AS {quoted}")
    keys = ", ".join(map(ticked, contract.key))
    order = _order_sql(contract, tells_order)
    rows = (
        f"SELECT h.*, coalesce(from_json(d.absent, 'array<string>'), array()) AS lacks, {order} AS o "
        f"FROM {history} h JOIN {deliveries} d ON h._delivery_id = d.delivery_id WHERE d.{LOADED}"
    )
    return f"SELECT {', '.join(cells)} FROM ({rows}) GROUP BY {keys}"


def _order_sql(contract: Contract, tells_order: bool) -> str:
    """SQL of the total order as one value; NULL comes first in a struct."""
    rank = "-2"
    if contract.status is not None:
        status = f"h.{ticked(contract.status)}"
        ranks = " ".join(f"WHEN {status} = {sql_text(one)} THEN {n}" for n, one in enumerate(contract.status_rank))
        rank = f"CASE WHEN {status} IS NULL THEN -2 {ranks} ELSE -1 END"
    number = "CASE WHEN d.newest_first THEN -h._file_row ELSE h._file_row END" if tells_order else "h._file_row"
    return (
        f"struct(coalesce(unix_micros(h.{ticked(contract.order_by)}), {LOWEST}), d.file_key, {rank}, d.vendor, d.path, "
        f"unix_millis(d.modified_at), d.sha256, d.batch, coalesce({number}, {LOWEST}))"
    )
