"""The tables as they were after an earlier batch, from what they hold today.

History and deliveries are never shortened, so this works for all time: after VACUUM, a rebuild, or a restored table.
The target is folded again from the accepted rows of these batches. What others wrote into it is not in the history, and
not in the fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from ordertrail.errors import UsageError
from ordertrail.model import Contract, Outcome
from ordertrail.rules.accepted import known_sql, recorded_sql
from ordertrail.rules.audit import states_sql
from ordertrail.rules.placing import OLDEST_FIRST, PLACED, contract_key_sql, order_sql, placed_sql
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import target_columns

if TYPE_CHECKING:
    import pyarrow as pa

_HINT = "ordertrail deliveries shows the batches and their times"


class AsOf(Struct, frozen=True):
    """An earlier moment of the tables.

    Attributes:
        batch: The last batch that counts.
        at: The clock of that batch; aware UTC.
    """

    batch: int
    at: datetime


def moment(read: Callable[[str], pa.Table], deliveries: str, wanted: int | datetime) -> AsOf:
    """Find the batch that was the last one at a moment.

    Args:
        read: Runs SQL over the tables.
        deliveries: A relation with the rows of that table.
        wanted: A batch number, or an aware time: then the last batch whose clock (`staged_at`) is not later.

    Raises:
        UsageError: No batch was done by then, or there is no such batch, or the time has no zone.
    """
    if isinstance(wanted, datetime) and wanted.tzinfo is None:
        raise UsageError(f"the time {wanted} has no time zone", hint="give an aware time, such as one in UTC")
    sql = f"SELECT batch, max(staged_at) AS at FROM {deliveries} GROUP BY batch ORDER BY batch"
    rows = read(sql).to_pylist()
    batches = [AsOf(int(row["batch"]), row["at"].replace(tzinfo=UTC)) for row in rows if row["at"] is not None]
    if not batches:
        raise UsageError("no batch is done yet", hint="leave --as-of out, or run ordertrail run first")
    first, last = batches[0], batches[-1]
    if isinstance(wanted, datetime):
        known = [one for one in batches if one.at <= wanted]
        asked = f"{wanted.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    else:
        known = [one for one in batches if one.batch <= wanted]
        asked = f"batch {wanted}"
        if wanted > last.batch:
            raise UsageError(f"there is no {asked}: the last one that is done is batch {last.batch}", hint=_HINT)
    if not known:
        begins = f"batch {first.batch}, at {first.at:%Y-%m-%d %H:%M:%S} UTC"
        raise UsageError(f"{asked} is before the first batch: {begins}", hint=_HINT)
    return known[-1]


def place_sql(deliveries: str, uncounted: Sequence[str] = ()) -> str:
    """SQL of every delivery with what it gives to the order of its rows, see `rules.placing.PLACED`.

    Args:
        deliveries: A relation with the rows of that table.
        uncounted: Ids of deliveries that had been taken back by then; they get no place.
    """
    listed = ", ".join(map(quoted, uncounted)) or "''"
    return f"WITH known AS ({known_sql(deliveries)} WHERE delivery_id NOT IN ({listed})) {PLACED}"


class Then(Struct, frozen=True):
    """Makes SQL of the target's rows after a batch.

    Attributes:
        contract: Of the pipeline.
        batch: The last batch that counts.
        history: A relation with the columns of that table and `_pos`, unique.
        placed: A relation: what `place_sql` gives.
        absent: The contract's columns that some delivery lacks.
        appends: Whether the target keeps all rows: then this is the latest state of its keys.
    """

    contract: Contract
    batch: int
    history: str
    placed: str
    absent: Sequence[str]
    appends: bool = False

    def target_sql(self, where: str = "true") -> str:
        """SQL of the rows that the target had, in the order of its columns.

        The contract's columns and `_rescued` are the fold of the accepted rows. The audit columns are those of the row
        that last changed the target; where it keeps all rows, those of the newest row of the key, with the time of its
        first row and the number of its rows.

        Args:
            where: SQL that is true of the wanted rows of the history; all rows of a key or none.
        """
        past = f"(SELECT * FROM {self.history} WHERE {recorded_sql(self.batch)} AND ({where}))"
        joins = f"JOIN {past} m ON m._pos = b.m"
        if not self.appends:
            joins += f" LEFT JOIN {past} h ON h._pos = b.h"
        audit = states_sql("b.first_at", "m._loaded_at", "b.kept") if self.appends else {}
        carriers = dict.fromkeys((*self.contract.names, "_rescued"), "m")
        for i, name in enumerate(self.absent):
            carriers[name] = f"m_{i}"
            joins += f" LEFT JOIN {past} m_{i} ON m_{i}._pos = b.m_{i}"
        names = [column.name for column in target_columns(self.contract)]
        other = "m" if self.appends else "h"
        said = {name: audit.get(name, f"{carriers.get(name, other)}.{name_sql(name)}") for name in names}
        cells = ", ".join(f"{sql} AS {name_sql(name)}" for name, sql in said.items())
        return f"SELECT {cells} FROM ({self._bearers_sql(past)}) b {joins}"

    def _bearers_sql(self, past: str) -> str:
        """SQL of one row a key: `_pos` of its newest row, of the newest with each absent column, of its last change.

        Where the target keeps all rows, instead of the last: the time of its first row, and how many were appended.
        """
        changed = f"_outcome IN ({quoted(Outcome.INSERTED)}, {quoted(Outcome.UPDATED)})"
        narrow = (
            f"SELECT {contract_key_sql(self.contract)} AS k, {order_sql(self.contract)}, _pos AS pos, _batch AS bn, "
            f"_loaded_at AS loaded, {changed} AS changed FROM {past}"
        )
        rows = placed_sql(f"({narrow})", self.absent, self.placed)
        ordered = f"SELECT *, row_number() OVER (PARTITION BY k ORDER BY {OLDEST_FIRST}) AS ord FROM ({rows})"
        lacking = "".join(f", arg_max(pos, ord) FILTER (WHERE NOT lacks_{i}) AS m_{i}" for i in range(len(self.absent)))
        told = "arg_max(pos, bn) FILTER (WHERE changed) AS h"
        if self.appends:
            told = "min(loaded) AS first_at, greatest(count(*) FILTER (WHERE changed), 1) AS kept"
        return f"SELECT arg_max(pos, ord) AS m, {told}{lacking} FROM ({ordered}) GROUP BY k"
