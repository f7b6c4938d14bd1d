"""The checks of a target that keeps every row (mode `append`): it has each accepted row once, and no other.

Which deliveries count may change later, and no row is ever taken out. So a row of a delivery that was taken back is no
fault, and of rows that are equal several may count after a `redo`.
"""

from __future__ import annotations

from ordertrail.delta.features import append_only
from ordertrail.engines.local.bearers import corrections_in
from ordertrail.look.proof import Finding, Proof
from ordertrail.model import CorrectionKind
from ordertrail.rules.accepted import accepted_sql, recorded_sql
from ordertrail.rules.placing import content_sql, contract_key_sql
from ordertrail.rules.sql import quoted
from ordertrail.rules.tables import APPEND_ONLY

_SHOWN = "format('row {} of delivery {}, key {}', r, d, k)"


def rows_once(proof: Proof) -> Finding:
    """Check that no row stands twice in the target, and that nobody may change one."""
    _make_rows(proof)
    deliveries = proof.rows(proof.session.tables.deliveries)
    wrong, more = proof.texts(
        f"SELECT {_SHOWN} || format(': it stands {{}} times', n) FROM (SELECT d, r, min(k) AS k, count(*) AS n "
        "FROM standing_rows WHERE d IS NOT NULL GROUP BY d, r) WHERE n > 1"
    )
    if not wrong:
        again = [
            one
            for _, correction in corrections_in(proof.session.run, deliveries, proof.done)
            for one in correction.of
            if correction.kind is CorrectionKind.REDO
        ]
        apart = "".join(f" AND d <> {quoted(one)}" for one in dict.fromkeys(again))
        counting = f"d IN (SELECT delivery_id FROM {deliveries} WHERE state = 'loaded'){apart}"
        wrong, more = proof.texts(
            f"SELECT format('key {{}}: {{}} equal rows, of {{}}', k, n, a) FROM (SELECT k, count(*) AS n, "
            "string_agg(format('row {} of delivery {}', r, d), ' and ' ORDER BY d, r) AS a "
            f"FROM standing_rows WHERE {counting} GROUP BY k, c) WHERE n > 1"
        )
    hint = "no row can be taken out of the target; ordertrail query 'SELECT DISTINCT ...' passes over it"
    if not append_only(proof.target.metadata):
        wrong = [f"{APPEND_ONLY} is not set any more: others may change its rows", *wrong]
        hint = f"set it again: ALTER TABLE {proof.target.root.name} SET TBLPROPERTIES ('{APPEND_ONLY}' = 'true')"
    return Finding(f"{proof.number('SELECT count(*) FROM standing_rows')} rows", wrong, hint, more)


def rows_whole(proof: Proof) -> Finding:
    """Check that the target has every accepted row of deliveries that count, and that the history knows each of it."""
    _make_rows(proof)
    contract = proof.config.contract
    history, deliveries = proof.rows(proof.session.tables.history), proof.rows(proof.session.tables.deliveries)
    shown = f"{contract_key_sql(contract)} AS k, {content_sql(contract)} AS c, _delivery_id AS d, _file_row AS r"
    proof.session.run(
        "CREATE OR REPLACE TEMP TABLE said_rows AS "
        f"SELECT {shown}, {accepted_sql(proof.done, deliveries)} AS counts FROM {history} "
        f"WHERE {recorded_sql(proof.done)}"
    )
    gone = f"SELECT delivery_id FROM {deliveries} WHERE state IN ('undone', 'replayed')"
    missing = (
        f"SELECT {_SHOWN} || ': it is missing from the target' FROM (SELECT k, c, min({{'d': d, 'r': r}}) AS p, "
        "p['d'] AS d, p['r'] AS r FROM said_rows WHERE counts GROUP BY k, c) s ANTI JOIN (SELECT k, c "
        f"FROM standing_rows WHERE coalesce(d, '') NOT IN ({gone})) t ON s.k = t.k AND s.c = t.c"
    )
    extra = (
        "SELECT format('key {}: a row of the target is not in the history', coalesce(k, 'NULL')) "
        "FROM standing_rows t ANTI JOIN said_rows s ON t.d = s.d AND t.r = s.r AND t.c = s.c"
    )
    wrong, more = proof.texts(f"{missing} UNION ALL {extra}")
    count = proof.number("SELECT count(*) FROM (SELECT DISTINCT k, c FROM said_rows WHERE counts)")
    hint = "ordertrail rebuild appends what is missing; what somebody else wrote stays, because no row can be taken out"
    return Finding(f"{count} different rows in the history, each of them in the target", wrong, hint, more)


def _make_rows(proof: Proof) -> None:
    """Make `standing_rows`, the rows of the target: key `k`, content `c`, delivery `d` and its row `r`."""
    contract = proof.config.contract
    proof.session.run(
        f"CREATE OR REPLACE TEMP TABLE standing_rows AS SELECT {contract_key_sql(contract)} AS k, "
        f"{content_sql(contract)} AS c, _delivery_id AS d, _file_row AS r FROM {proof.target_rows()}"
    )
