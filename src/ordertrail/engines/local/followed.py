"""The contract of a config with the columns that its tables got from files (`rules.added`).

Imports no DuckDB: `status` and `health` must answer at once.
"""

from __future__ import annotations

from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.errors import TableError
from ordertrail.rules.added import with_added
from ordertrail.rules.schema import CONTRACT, DeclaredTable, declared_columns, terms_by_stage
from ordertrail.rules.tables import stage_columns


def followed(config: Config) -> Config:
    """The config with the columns that its tables got from files. Reads only.

    Where the history is lost, the stage tells: it has the contract's columns and ours, and no others.

    Raises:
        TableError: A newer release wrote the history's property.
        StorageError: The disk fails.
    """
    names, contract = config.tables, config.contract
    history, stage = (DeltaLog(config.table_path(name)) for name in (names.history, names.stage))
    text: str | None = None
    try:
        lost = not history.exists()
        if not lost:
            text = read_snapshot(history).metadata.properties.get(CONTRACT)
    except TableError:
        lost = True
    if lost and contract.unknown_columns == "add" and stage.exists():
        columns = declared_columns(read_snapshot(stage).metadata.schema_string)
        text = terms_by_stage(DeclaredTable(names.stage, columns, stage_columns(contract))).text
    contract = with_added(contract, text)
    return config if contract is config.contract else replace(config, contract=contract)
