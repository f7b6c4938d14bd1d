"""The rows that the target has after a batch, replayed from the history: for a rebuild, and to look back.

The fold is replayed batch by batch for every key, from the accepted rows alone. A batch changed a key when the fold up
to that batch differs in content from the fold before it. The row that made the last change *bears* the key's row in the
target. The number of changes is the revision, the clock of the first is the time of insertion, and the bearer gives the
other audit columns.

Only narrow rows (key, order, content hash, position) are sorted; the wide ones are read once more and come in the order
in which they stand. DuckDB spills, so memory is bounded by its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.local.fold import place_deliveries
from ordertrail.engines.local.relations import Relation
from ordertrail.engines.local.session import Session
from ordertrail.rules.accepted import lacking_sql, recorded_sql
from ordertrail.rules.audit import states_sql
from ordertrail.rules.cells import row_hash_sql
from ordertrail.rules.placing import OLDEST_FIRST, contract_key_sql, order_sql, placed_sql
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import DELIVERIES, TableColumn, history_columns, target_columns


@dataclass(frozen=True, slots=True)
class Bearers:
    """Relations `bearers` and `clocks` of the target after a batch, from `find_bearers`.

    Attributes:
        session: Whose database has them.
        history: The history that they were found in.
        batch: The last batch that counts.
        absent: Contract columns that some delivery lacks.
    """

    session: Session
    history: Snapshot
    batch: int
    absent: tuple[str, ...]

    @property
    def rows(self) -> int:
        """The number of keys, which are the rows of the target."""
        return int(str(self.session.run("SELECT count(*) FROM bearers")[0][0]))

    def rows_sql(self, others: Sequence[TableColumn] = (), carried: Relation | None = None) -> str:
        """SQL of the target's rows, in the order of its columns.

        Args:
            others: Columns of others, which come last.
            carried: `CARRIED_KEYS`, with their values.
        """
        contract = self.session.config.contract
        past = _past(self.session, self.history)
        content = "h"
        joins = "JOIN clocks c ON c.batch = b.first"
        if self.absent:
            content = "m"
            joins += f" JOIN {past} m ON m._pos = b.m"
        carriers = dict.fromkeys((*contract.names, "_rescued"), content)
        for i, name in enumerate(self.absent):
            carriers[name] = f"m_{i}"
            joins += f" LEFT JOIN {past} m_{i} ON m_{i}._pos = b.m_{i}"
        audit = states_sql("c.clock", "h._loaded_at", "b.revision")
        cells = []
        for column in target_columns(contract):
            source = carriers.get(column.name, "h")
            cells.append(f"{audit.get(column.name, f'{source}.{name_sql(column.name)}')} AS {name_sql(column.name)}")
        if others:
            cells += [f"o.{name_sql(column.name)}" for column in others]
            past = f"(SELECT *, {contract_key_sql(contract)} AS _k FROM {past})"
            joins += f" LEFT JOIN {carried} o ON o._k = h._k"
        return f"SELECT {', '.join(cells)} FROM {past} h JOIN bearers b ON h._pos = b.pos {joins}"


def find_bearers(session: Session, history: Snapshot, deliveries: Snapshot, batch: int) -> Bearers:
    """Make `bearers`: for every key the places in the history of the rows that its target row is made of.

    Args:
        session: Its database gets the relations.
        history: With the accepted rows.
        deliveries: The ledger.
        batch: The last batch that counts; it is done.
    """
    ledger = scan_sql(session.con, deliveries, DELIVERIES)
    names = session.config.contract.names
    absent = tuple(str(name) for (name,) in session.run(lacking_sql(ledger)) if name in names)
    placed = place_deliveries(session)
    clocks = f"SELECT batch, max(staged_at) AS clock FROM {ledger} GROUP BY batch"
    session.run(f"CREATE OR REPLACE TEMP TABLE clocks AS {clocks}")
    accepted = _accepted_sql(session, history, batch, absent, placed)
    session.run(f"CREATE OR REPLACE TEMP TABLE bearers AS {_bearers_sql(accepted, absent)}")
    return Bearers(session, history, batch, absent)


def _bearers_sql(accepted: str, absent: Sequence[str]) -> str:
    """SQL of `bearers`: `pos` of the row that made the key's last change, `revision`, and `first` batch.

    Where deliveries lack columns also `m`, the place of the newest row, and `m_<i>`, that of the newest row whose
    delivery carries the column. `s` and `s_<i>` are the content of a key through a row, as hashes.
    """
    through = "OVER (PARTITION BY k ORDER BY bn, ord ROWS UNBOUNDED PRECEDING)"
    states = {"s": f"arg_max(ch, ord) {through}"}
    bearers = {"m": f"arg_max(pos, ord) {through}"} if absent else {}
    for i in range(len(absent)):
        carried = f"FILTER (WHERE NOT lacks_{i}) {through}"
        # As long as nobody has sent the column its content is that of NULL, the hash of which is 0.
        states[f"s_{i}"] = f"coalesce(arg_max(h_{i}, ord) {carried}, 0)"
        bearers[f"m_{i}"] = f"arg_max(pos, ord) {carried}"
    made = "".join(f", {sql} AS {name}" for name, sql in (states | bearers).items())
    differs = " OR ".join(f"{s} IS DISTINCT FROM lag({s}) OVER (PARTITION BY k ORDER BY bn)" for s in states)
    last = "".join(f", arg_max({name}, bn) AS {name}" for name in bearers)
    return (
        f"WITH narrow AS ({accepted}), "
        f"ordered AS (SELECT *, row_number() OVER (PARTITION BY k ORDER BY {OLDEST_FIRST}) AS ord "
        "FROM narrow), "
        "through AS (SELECT k, bn, pos, lead(bn) OVER (PARTITION BY k ORDER BY bn, ord) IS DISTINCT FROM bn AS "
        f"ends_batch{made} FROM ordered), "
        f"changes AS (SELECT *, {differs} AS changed FROM through WHERE ends_batch) "
        f"SELECT arg_max(pos, bn) AS pos, count(*) AS revision, min(bn) AS first{last} "
        "FROM changes WHERE changed GROUP BY k"
    )


def _accepted_sql(session: Session, history: Snapshot, batch: int, absent: Sequence[str], placed: Relation) -> str:
    """SQL of the accepted rows, narrow: key, order, batch, place in the history, hashes of the content."""
    contract = session.config.contract
    whole = {name: name_sql(name) for name in (*contract.names, "_rescued") if name not in absent}
    hashes = "".join(f", {row_hash_sql({n: name_sql(n)})} AS h_{i}" for i, n in enumerate(absent))
    rows = (
        f"SELECT {contract_key_sql(contract)} AS k, {order_sql(contract)}, _batch AS bn, _pos AS pos, "
        f"{row_hash_sql(whole)} AS ch{hashes} FROM {_past(session, history)} WHERE {recorded_sql(batch)}"
    )
    return placed_sql(f"({rows})", absent, str(placed))


def _past(session: Session, history: Snapshot) -> str:
    return scan_sql(session.con, history, history_columns(session.config.contract))
