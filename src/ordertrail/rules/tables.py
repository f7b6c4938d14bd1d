"""The columns of all tables, in one place: the engines create them, and the reference documents them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ordertrail.model import Contract

APP_ID = "ordertrail.appId"
"""Table property with the pipeline's application id, the `appId` of all our `txn` actions."""

PIPELINE = "ordertrail.pipeline"
"""Table property with the pipeline's name, for people."""

MODE = "ordertrail.mode"
"""Table property of the target with its mode; a target without it was made for `upsert`."""

UPSERT, APPEND = "upsert", "append"

APPEND_ONLY = "delta.appendOnly"
"""Table property: no commit of any writer changes or removes rows (PROTOCOL.md of delta-io/delta, Append-only Tables).
Every writer since version 2 of the protocol knows it."""

OF_APPEND = {MODE: APPEND, APPEND_ONLY: "true"}
"""The properties of a target in mode `append`."""


def mode_of(properties: Mapping[str, str]) -> str:
    """The mode that a target was made for.

    Args:
        properties: Of the table.
    """
    return properties.get(MODE, UPSERT)


def owned_by(app_id: str, pipeline: str) -> dict[str, str]:
    """The table properties that say whose a table is.

    Args:
        app_id: The pipeline's application id.
        pipeline: Its name.
    """
    return {APP_ID: app_id, PIPELINE: pipeline}


class TableColumn(Struct, frozen=True):
    """A column of one of our tables.

    Attributes:
        name: As it stands in the table.
        type: A contract type.
        help: What it holds, one line.
        required: Never NULL.
    """

    name: str
    type: str
    help: str
    required: bool = False


AUDIT = (
    TableColumn("_vendor", "string", "who sent the row"),
    TableColumn("_delivery_id", "string", "the delivery it came in"),
    TableColumn("_file_name", "string", "the file's name"),
    TableColumn("_file_row", "bigint", "record number in the file, 1 = first after the header"),
    TableColumn("_batch", "bigint", "the batch that wrote this state of the row"),
    TableColumn("_inserted_at", "timestamp", "clock of the batch that first wrote the key"),
    TableColumn("_updated_at", "timestamp", "clock of the batch that wrote this state of the row"),
    TableColumn("_revision", "bigint", "1 when inserted, one more with every update"),
    TableColumn("_row_hash", "bigint", "hash of the (name, value) pairs of the columns that are not NULL"),
    TableColumn("_rescued", "string", "JSON of the file's columns that the contract does not know, and of marks"),
)

_HISTORY = (
    TableColumn("_outcome", "string", "inserted, updated, unchanged, stale, superseded or duplicate"),
    TableColumn("_loaded_at", "timestamp", "clock of the batch that accepted the row"),
)

_STAGE = (
    TableColumn("_kind", "string", "row, reject or delivery", required=True),
    TableColumn("_vendor", "string", "who sent it"),
    TableColumn("_delivery_id", "string", "the delivery it came in"),
    TableColumn("_file_name", "string", "the file's name"),
    TableColumn("_file_row", "bigint", "record number in the file; NULL for a delivery"),
    TableColumn("_raw", "string", "the raw record of a reject"),
    TableColumn("_errors", "string", "JSON list of {column, value, rule, reason} of a reject"),
    TableColumn("_manifest", "string", "JSON of all that was decided about a delivery"),
    TableColumn("_delivery_no", "int", "the delivery's place in the batch, 0 = first"),
    TableColumn("_file_line", "bigint", "of a reject, the line of the file that it begins in"),
    TableColumn("_rescued", "string", "as in the target"),
    TableColumn("_row_hash", "bigint", "as in the target"),
)

REJECTS = (
    TableColumn("vendor", "string", "who sent the row"),
    TableColumn("delivery_id", "string", "the delivery it came in", required=True),
    TableColumn("file_name", "string", "the file's name"),
    TableColumn("file_row", "bigint", "record number, 1 = first after the header; NULL for a whole file"),
    TableColumn("column", "string", "the contract column; NULL for a whole row or file"),
    TableColumn("value", "string", "the cell as it stands in the file"),
    TableColumn("rule", "string", "stable name of the rule that was broken"),
    TableColumn("reason", "string", "in plain words, with what to do"),
    TableColumn("raw", "string", "the raw record; NULL for a whole file"),
    TableColumn("batch", "bigint", "the batch the delivery came in", required=True),
    TableColumn("rejected_at", "timestamp", "clock of that batch"),
    TableColumn("file_line", "bigint", "line of the file that the record begins in, 1 = first; NULL for a whole file"),
)

DELIVERIES = (
    TableColumn("delivery_id", "string", "unique in the pipeline", required=True),
    TableColumn("vendor", "string", "who sent it"),
    TableColumn("file_name", "string", "the file's name"),
    TableColumn("sha256", "string", "of the whole file, hexadecimal"),
    TableColumn("size_bytes", "bigint", "the file's size"),
    TableColumn("modified_at", "timestamp", "the file's modification time"),
    TableColumn("discovered_at", "timestamp", "when a pass first read it"),
    TableColumn("batch", "bigint", "the batch it came in", required=True),
    TableColumn("state", "string", "what became of it: loaded, quarantined, undone and so on", required=True),
    TableColumn("reason", "string", "why it is not loaded, in plain words"),
    TableColumn("rows_parsed", "bigint", "data rows in the file"),
    TableColumn("rows_inserted", "bigint", "of these, inserted"),
    TableColumn("rows_updated", "bigint", "of these, updated"),
    TableColumn("rows_unchanged", "bigint", "of these, with the content that the target has"),
    TableColumn("rows_stale", "bigint", "of these, older than what the target has"),
    TableColumn("rows_superseded", "bigint", "of these, lost to a newer row of the same batch"),
    TableColumn("rows_duplicate", "bigint", "of these, the same row again, or loaded before"),
    TableColumn("rows_rejected", "bigint", "of these, rejected"),
    TableColumn("first_error", "string", "the first reject, one line"),
    TableColumn("archived_to", "string", "where the file is, below the archive folder"),
    TableColumn("staged_at", "timestamp", "clock of the batch"),
    TableColumn("loaded_at", "timestamp", "clock of the batch; NULL unless loaded"),
    TableColumn("path", "string", "the file's path below the source folder, as clean text"),
    TableColumn("file_key", "bigint", "date in the name, else modification time; milliseconds since 1970"),
    TableColumn("contract_hash", "string", "of the contract and the vendor's profile"),
    TableColumn("absent", "string", "JSON list of the contract columns that the file does not carry"),
    TableColumn("rows_removed", "bigint", "of a correction, the keys that left the target; 0 of a file"),
    TableColumn("changed_at", "timestamp", "clock of the correction that gave it its state; NULL where none did"),
    TableColumn("changed_by", "string", "who decided on that correction"),
    TableColumn("changed_why", "string", "why, in their words"),
    TableColumn("replayed_by", "string", "the delivery that took its place"),
    TableColumn("correction", "string", "of a correction, JSON of its kind and of the deliveries that it is about"),
    TableColumn("migrated", "string", "of a migration, JSON of what it may have changed in the target"),
    TableColumn(
        "lines_skipped",
        "bigint",
        "lines that are no rows: titles, headers again, a trailer, continuation lines, delimiters alone",
    ),
    TableColumn("doubts", "string", "JSON list of what speaks against its rows although they meet the contract"),
    TableColumn("newest_first", "boolean", "whether the newest of its rows is the first one; NULL: no"),
)

INCIDENTS = (
    TableColumn("incident_id", "string", "unique in the pipeline", required=True),
    TableColumn(
        "key", "string", "of the cause, as `health` lists it; at most one incident with it is open", required=True
    ),
    TableColumn("kind", "string", "of the cause: quarantined, held, waiting, failing and so on", required=True),
    TableColumn("severity", "string", "warning or critical; the worst so far"),
    TableColumn("vendor", "string", "the vendor concerned; NULL for none, or all"),
    TableColumn("text", "string", "what was wrong when the row was written last, one line"),
    TableColumn("next", "string", "the command to type next"),
    TableColumn("rows_affected", "bigint", "rows that are not in the target because of it; NULL when not known"),
    TableColumn("shipments_affected", "bigint", "about how many shipments these rows are of; NULL when not known"),
    TableColumn("since", "timestamp", "since when the cause is there, if anything tells"),
    TableColumn("opened_at", "timestamp", "when it was first seen", required=True),
    TableColumn("seen_at", "timestamp", "when it was last seen, as of the last change of the table"),
    TableColumn("count", "bigint", "how often it came: 1, and 1 more each time it came back within an hour"),
    TableColumn("closed_at", "timestamp", "when it was seen to be gone; NULL while it is open"),
    TableColumn("acknowledged_at", "timestamp", "when somebody said that they know; there are no reminders then"),
    TableColumn("acknowledged_by", "string", "who"),
    TableColumn("acknowledged_why", "string", "what they said"),
    TableColumn("reminded", "bigint", "reminders since it came last"),
    TableColumn("remind_at", "timestamp", "when the next reminder is due; NULL for none"),
    TableColumn(
        "outbox", "string", "JSON: by channel name what was told and waits, attempts, next attempt, last error"
    ),
)


def contract_columns(contract: Contract) -> tuple[TableColumn, ...]:
    """The contract's columns, as all row tables have them."""
    return tuple(TableColumn(c.name, c.type, "as the contract says") for c in contract.columns)


def target_columns(contract: Contract) -> tuple[TableColumn, ...]:
    """The columns of the target."""
    must = {*contract.key, contract.order_by}
    columns = (TableColumn(c.name, c.type, c.help, c.name in must) for c in contract_columns(contract))
    return (*columns, *AUDIT)


def history_columns(contract: Contract) -> tuple[TableColumn, ...]:
    """The columns of the history."""
    return (*target_columns(contract), *_HISTORY)


def stage_columns(contract: Contract) -> tuple[TableColumn, ...]:
    """The columns of the stage."""
    return (*contract_columns(contract), *_STAGE)


def columns_by_role(contract: Contract) -> dict[str, tuple[TableColumn, ...]]:
    """The columns of all five tables by role, in the order in which a batch writes the tables."""
    return {
        "stage": stage_columns(contract),
        "target": target_columns(contract),
        "history": history_columns(contract),
        "rejects": REJECTS,
        "deliveries": DELIVERIES,
    }
