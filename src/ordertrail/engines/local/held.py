"""The contract that the tables carry, for commands that only look: they show the tables as they are.

Imports no DuckDB: `status` and `health` must answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.errors import TableError
from ordertrail.rules.losses import ROLES
from ordertrail.rules.migration import carried_contract
from ordertrail.rules.schema import CONTRACT, DeclaredTable, accepted_terms, declared_columns, differences
from ordertrail.rules.tables import APP_ID, APPEND, columns_by_role, mode_of


class Held(Struct, frozen=True):
    """What the tables hold.

    Attributes:
        config: With the contract that the tables carry, where a pass could not bring them up to that of the config, and
            with the mode that the target was made for.
        differs: What differs then, and what to do, on one line; empty when a pass would run.
        unfinished: Whether the history carries the contract already, and the target not yet: a migration was cut.
    """

    config: Config
    differs: str = ""
    unfinished: bool = False

    def require_finished(self) -> None:
        """Refuse to show rows of tables that do not carry the same contract.

        Raises:
            TableError: A migration was cut, or is at work now.
        """
        if self.unfinished:
            raise TableError("a migration to another contract is not finished", hint="ordertrail run finishes it")


def held(config: Config, tables: Mapping[str, Snapshot]) -> Held:
    """Compare the contract in the config with that which the tables carry. Reads nothing but the snapshots.

    Args:
        config: Of the pipeline.
        tables: All five, by role.

    Raises:
        TableError: A newer release wrote the contract of the tables.
    """
    mode = mode_of(tables["target"].metadata.properties)
    if mode != config.mode:
        under = held(replace(config, mode="append" if mode == APPEND else "upsert"), tables)
        said = f'the target was made for mode = "{mode}", and the config has mode = "{config.mode}"'
        return replace(under, differs=f"{said}; {under.differs}" if under.differs else said)
    names, columns = config.tables, columns_by_role(config.contract)
    there = [
        DeclaredTable(getattr(names, role), declared_columns(tables[role].metadata.schema_string), columns[role])
        for role in ROLES
    ]
    terms = accepted_terms(tables["history"].metadata.properties.get(CONTRACT), there, config.contract)
    # Whether a column that is required now has NULLs only its rows tell; it is read the same either way.
    found = differences(there, terms, config.contract)
    app_id = tables["history"].metadata.properties.get(APP_ID, "")
    # Only a migration writes to the history before the target; a batch that a rebuild overtook changes no column.
    ahead = tables["history"].last_txn(app_id) > tables["target"].last_txn(app_id)
    if ahead and any(one.table == names.target and one.kind in ("added", "replaced") for one in found):
        return Held(config, unfinished=True)
    kinds = [one for one in found if one.ours and one.kind != "required"]
    found = sorted((one for one in kinds if not one.by_itself), key=lambda one: one.migrates)
    if not found:
        return Held(config)
    others = len({(one.kind, one.column) for one in found}) - 1  # one may be of three tables
    more = f" and {others} more" if others else ""
    cure = "ordertrail migrate says what it takes" if found[0].migrates else found[0].hint
    text = f"the tables carry another contract than the config: {found[0].text}{more}; {cure}"
    contract = carried_contract(terms, config.contract)
    order = [column.name for column in there[ROLES.index("history")].columns]
    places = {name: place for place, name in enumerate(order)}
    columns_there = sorted(contract.columns, key=lambda column: places.get(column.name, len(places)))
    return Held(replace(config, contract=replace(contract, columns=tuple(columns_there))), text)
