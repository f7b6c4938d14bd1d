"""The rows that the target has after a batch, replayed from the history: for a rebuild, and to look back.

The fold is replayed batch by batch for every key, from the accepted rows alone. A batch changed a key when the fold up
to that batch differs in content from the fold before it. The row that made the last change *bears* the key's row in the
target. The number of changes is the revision, the clock of the first is the time of insertion, and the bearer gives the
other audit columns.

A correction makes rows count no longer, or again, so the keys that it touched are replayed in another way: the fold is
looked at after each batch through which one of their rows began to count or ended to. A key that no row counts for any
more leaves the target, and begins anew when one does again.

Only narrow rows (key, order, content hash, position) are sorted; the wide ones are read once more and come in the order
in which they stand. DuckDB spills, so memory is bounded by its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.local.fold import place_deliveries
from ordertrail.engines.local.relations import Relation
from ordertrail.engines.local.session import Session
from ordertrail.model import Correction
from ordertrail.rules.accepted import RECORDED, lacking_sql, recorded_sql
from ordertrail.rules.audit import states_sql
from ordertrail.rules.cells import row_hash_sql
from ordertrail.rules.corrections import Span, correction_from, spans
from ordertrail.rules.placing import OLDEST_FIRST, contract_key_sql, order_sql, placed_sql
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import DELIVERIES, TableColumn, history_columns, target_columns


class Bearers(Struct, frozen=True):
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
        joins = "JOIN clocks c ON c.batch = b.first JOIN clocks l ON l.batch = b.last"
        if self.absent:
            content = "m"
            joins += f" JOIN {past} m ON m._pos = b.m"
        carriers = dict.fromkeys((*contract.names, "_rescued"), content)
        for i, name in enumerate(self.absent):
            carriers[name] = f"m_{i}"
            joins += f" LEFT JOIN {past} m_{i} ON m_{i}._pos = b.m_{i}"
        # What a correction brought back has another clock than when it was first loaded.
        updated = "CASE WHEN h._batch = b.last THEN h._loaded_at ELSE l.clock END"
        audit = {"_batch": "b.last", **states_sql("c.clock", updated, "b.revision")}
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
    absent = tuple(str(name) for (name,) in session.run(lacking_sql(ledger, RECORDED)) if name in names)
    placed = place_deliveries(session, counts=RECORDED)
    clocks = f"SELECT batch, max(staged_at) AS clock FROM {ledger} GROUP BY batch"
    session.run(f"CREATE OR REPLACE TEMP TABLE clocks AS {clocks}")
    accepted = _accepted_sql(session, history, batch, absent, placed)
    made = corrections_in(session.run, ledger, batch)
    if made:
        make_spans(session.run, made, ledger)
        session.run(f"CREATE OR REPLACE TEMP TABLE narrow_rows AS {accepted}")
        session.run(
            "CREATE OR REPLACE TEMP TABLE corrected_keys AS SELECT DISTINCT k FROM narrow_rows "
            "WHERE delivery_id IN (SELECT delivery_id FROM spans) OR bn IN (FROM correction_batches)"
        )
        accepted = "FROM narrow_rows WHERE k NOT IN (FROM corrected_keys)"
    plain = _bearers_sql(accepted, absent)
    both = f"({plain}) UNION ALL BY NAME ({_corrected_sql(absent)})" if made else plain
    session.run(f"CREATE OR REPLACE TEMP TABLE bearers AS {both}")
    return Bearers(session, history, batch, absent)


RunSql = Callable[[str], list[tuple[object, ...]]]
"""Runs SQL and returns its rows."""


def corrections_in(run: RunSql, deliveries: str, batch: int) -> list[tuple[int, Correction]]:
    """All corrections, each with its batch, in the order of their batches.

    Args:
        run: Runs SQL.
        deliveries: A relation with rows of `orders_deliveries`.
        batch: Only corrections up to this one.
    """
    said = run(
        f"SELECT batch, correction FROM {deliveries} WHERE correction IS NOT NULL AND batch <= {batch} ORDER BY batch"
    )
    made = ((int(str(number)), correction_from(str(text))) for number, text in said)
    return [(number, one) for number, one in made if one is not None]


def spans_of(run: RunSql, deliveries: str, corrections: Sequence[tuple[int, Correction]]) -> list[Span]:
    """When the deliveries counted that corrections are about; all others count from their own batch on.

    Args:
        run: Runs SQL.
        deliveries: A relation with rows of `orders_deliveries`.
        corrections: As `corrections_in` gives them.
    """
    concerned = sorted({one for _, correction in corrections for one in correction.of})
    listed = ", ".join(map(quoted, concerned)) or "''"
    rows = run(f"SELECT delivery_id, batch FROM {deliveries} WHERE {RECORDED} AND delivery_id IN ({listed})")
    return spans({str(one): int(str(number)) for one, number in rows}, corrections)


def taken_back(run: RunSql, deliveries: str, batch: int) -> list[str]:
    """The deliveries that had been loaded and did not count any more after a batch.

    Args:
        run: Runs SQL.
        deliveries: A relation with rows of `orders_deliveries`.
        batch: Corrections after this one are passed over.
    """
    corrections = corrections_in(run, deliveries, batch)
    found = spans_of(run, deliveries, corrections)
    counting = {one.delivery_id for one in found if one.end is None}
    return sorted({one.delivery_id for one in found} - counting)


def make_spans(run: RunSql, made: Sequence[tuple[int, Correction]], ledger: str) -> None:
    """Make `spans`, one row a span, and `correction_batches`, their numbers.

    Args:
        run: Runs SQL.
        made: All corrections, as `corrections_in` gives them.
        ledger: A relation with rows of `orders_deliveries`.
    """
    found = spans_of(run, ledger, made)
    values = ", ".join(
        f"({quoted(one.delivery_id)}, {one.first}, {'NULL' if one.end is None else one.end})" for one in found
    )
    run(
        "CREATE OR REPLACE TEMP TABLE spans AS SELECT delivery_id, CAST(s AS BIGINT) AS since, CAST(e AS BIGINT) AS "
        f"ends FROM (VALUES {values or '(NULL, NULL, NULL)'}) v(delivery_id, s, e) WHERE delivery_id IS NOT NULL"
    )
    numbers = ", ".join(f"({number})" for number, _ in made)
    run(f"CREATE OR REPLACE TEMP TABLE correction_batches AS SELECT * FROM (VALUES {numbers}) v(batch)")


def _corrected_sql(absent: Sequence[str]) -> str:
    """SQL of `bearers` of the keys in `corrected_keys`."""
    states = "SELECT * FROM narrow_rows WHERE k IN (FROM corrected_keys)"
    # In a struct, because arg_max passes over NULLs: a cell may be nobody's any more.
    last = "".join(f", arg_max({{'at': {name}}}, b)['at'] AS {name}" for name in _carriers(absent))
    differs = differs_sql(absent)
    return (
        f"WITH states AS ({corrected_states_sql(states, absent)}), "
        f"changes AS (SELECT *, {differs} AS changed, sum(CASE WHEN here THEN 0 ELSE 1 END) OVER "
        "(PARTITION BY k ORDER BY b) AS life, arg_max(here, b) OVER (PARTITION BY k) AS stays, "
        "sum(CASE WHEN here THEN 0 ELSE 1 END) OVER (PARTITION BY k) AS lives FROM states) "
        f"SELECT arg_max(pos, b) AS pos, count(*) AS revision, min(b) AS first, max(b) AS last{last} "
        "FROM changes WHERE changed AND here AND stays AND life = lives GROUP BY k"
    )


def corrected_states_sql(rows: str, absent: Sequence[str]) -> str:
    """SQL of the states of keys that corrections touched: `k`, the batch `b`, `here`, `pos`, `m`; more as plain ones.

    There is a state for each batch through which rows of the key began to count or ended to; `here` says whether any
    counts. `pos` is the place of the row that made the change, if there was one; `m` that of the newest row.

    Args:
        rows: SQL of their rows, as of `_accepted_sql`; `spans` and `correction_batches` are there.
        absent: Contract columns that some delivery lacks.
    """
    made = {"s": "arg_max(ch, ord)", "m": "arg_max(pos, ord)"}
    for i in range(len(absent)):
        made[f"s_{i}"] = f"coalesce(arg_max(h_{i}, ord) FILTER (WHERE NOT lacks_{i}), 0)"
        made[f"m_{i}"] = f"arg_max(pos, ord) FILTER (WHERE NOT lacks_{i})"
    listed = "".join(f", {sql} AS {name}" for name, sql in made.items())
    return (
        f"WITH counted AS ({rows}), "
        "rows AS (SELECT n.*, coalesce(s.since, n.bn) AS since, s.ends, "
        f"row_number() OVER (PARTITION BY k ORDER BY {OLDEST_FIRST}) AS ord FROM counted n "
        "LEFT JOIN spans s USING (delivery_id)), "
        "events AS (SELECT DISTINCT k, unnest([since, ends]) AS b FROM rows), "
        "counting AS (SELECT e.k AS key, e.b, r.* FROM events e JOIN rows r ON e.k = r.k AND e.b >= r.since "
        "AND (r.ends IS NULL OR e.b < r.ends)), "
        "found AS (SELECT key AS k, b, true AS here, "
        # In a batch of files the newest of its own rows made the change; a correction brings back whatever is newest.
        "coalesce(arg_max(pos, ord) FILTER (WHERE bn = b AND b NOT IN (FROM correction_batches)), "
        f"arg_max(pos, ord)) AS pos{listed} FROM counting GROUP BY key, b) "
        "SELECT e.k, e.b, coalesce(f.here, false) AS here, f.* EXCLUDE (k, b, here) "
        "FROM events e LEFT JOIN found f ON e.k = f.k AND e.b = f.b WHERE e.b IS NOT NULL"
    )


def _bearers_sql(accepted: str, absent: Sequence[str]) -> str:
    """SQL of `bearers`: `pos` of the row that made the key's last change, its batch `last`, the `first`, `revision`.

    Where deliveries lack columns also `m`, the place of the newest row, and `m_<i>`, that of the newest row whose
    delivery carries the column.
    """
    last = "".join(f", arg_max({name}, b) AS {name}" for name in _carriers(absent))
    return (
        f"WITH through AS ({plain_states_sql(accepted, absent)}), "
        f"changes AS (SELECT *, {differs_sql(absent)} AS changed FROM through) "
        f"SELECT arg_max(pos, b) AS pos, count(*) AS revision, min(b) AS first, max(b) AS last{last} "
        "FROM changes WHERE changed GROUP BY k"
    )


def plain_states_sql(accepted: str, absent: Sequence[str]) -> str:
    """SQL of the states of keys that no correction touched: columns as of `corrected_states_sql`, always `here`.

    There is a state for each batch with rows of the key. `s` and `s_<i>` are the content of the key through a batch, as
    hashes: of all columns that no delivery lacks, and of each other one.

    Args:
        accepted: SQL of their rows, as of `_accepted_sql`.
        absent: Contract columns that some delivery lacks.
    """
    through = "OVER (PARTITION BY k ORDER BY bn, ord ROWS UNBOUNDED PRECEDING)"
    made = {"s": f"arg_max(ch, ord) {through}"}
    if absent:
        made["m"] = f"arg_max(pos, ord) {through}"
    for i in range(len(absent)):
        carried = f"FILTER (WHERE NOT lacks_{i}) {through}"
        # As long as nobody has sent the column its content is that of NULL, the hash of which is 0.
        made[f"s_{i}"] = f"coalesce(arg_max(h_{i}, ord) {carried}, 0)"
        made[f"m_{i}"] = f"arg_max(pos, ord) {carried}"
    listed = "".join(f", {sql} AS {name}" for name, sql in made.items())
    return (
        f"WITH narrow AS ({accepted}), "
        f"ordered AS (SELECT *, row_number() OVER (PARTITION BY k ORDER BY {OLDEST_FIRST}) AS ord FROM narrow), "
        "through AS (SELECT k, bn AS b, true AS here, pos, lead(bn) OVER (PARTITION BY k ORDER BY bn, ord) "
        f"IS DISTINCT FROM bn AS ends_batch{listed} FROM ordered) "
        "SELECT * EXCLUDE (ends_batch) FROM through WHERE ends_batch"
    )


def differs_sql(absent: Sequence[str]) -> str:
    """SQL that is true of the states, as of `corrected_states_sql`, that differ from the one before of their key."""
    told = ("here", "s", *(f"s_{i}" for i in range(len(absent))))
    return " OR ".join(f"{one} IS DISTINCT FROM lag({one}) OVER (PARTITION BY k ORDER BY b)" for one in told)


def _carriers(absent: Sequence[str]) -> tuple[str, ...]:
    """The columns of states with the places of the rows that cells come from, where deliveries lack columns."""
    return ("m", *(f"m_{i}" for i in range(len(absent)))) if absent else ()


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
