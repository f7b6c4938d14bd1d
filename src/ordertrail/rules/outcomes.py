"""The order rules of the design's section 6 as SQL, written once and run by every engine.

The SQL uses only fixed, unquoted names, integers, booleans and binary strings, `row_number`, `count`, `max`, and says
where NULLs go. It reads these relations, which an engine fills:

`staged`    one row a staged row: `k` key, never NULL, `dn` delivery number in the batch, `ch` content hash, and the
            order columns
`current`   the target's rows of the staged keys: `k`, `pos` a position unique in the target, `ch`, `rv` revision,
            `bn` batch, `ins` time of the first insertion, and the order columns; a key may stand there more than once
            after a foreign write
`recalled`  rows of history for the keys of `TIES`: `k` and the order columns
`repeated`  the keys that stand more than once in `staged`
`doubled`   the keys that stand more than once in `current`
`codes`     one row: the numbers of the outcomes, one column each, named after them

A target in mode `append` keeps every row, so there is nothing to order: `FIRSTS` and `APPENDED` read `staged_rows`,
which is `staged` without the order that its deliveries give, and `standing`.

The order columns are `ORDER` of `rules.placing`: the total order, in which no two rows are equal.
"""

from __future__ import annotations

from ordertrail.model import Outcome
from ordertrail.rules.placing import NEWEST_FIRST, ORDER, later

CODES = {outcome: number for number, outcome in enumerate(Outcome)}
"""The number of each outcome in the engines' working tables."""


def several(relation: str) -> str:
    """SQL of the keys that occur more than once in a relation: `repeated` and `doubled`."""
    return f"SELECT k FROM {relation} GROUP BY k HAVING count(*) > 1"


RANKED_ALONE = f"SELECT k, dn, ch, {', '.join(ORDER)}, 1 AS place, 1 AS repeat FROM staged"
"""`ranked` of a batch in which every key comes once."""

RANKED = f"""
{RANKED_ALONE}
WHERE k NOT IN (SELECT k FROM repeated)
UNION ALL
SELECT k, dn, ch, {", ".join(ORDER)},
  row_number() OVER (PARTITION BY k ORDER BY {NEWEST_FIRST}) AS place,
  row_number() OVER (PARTITION BY k, ch ORDER BY {NEWEST_FIRST}) AS repeat
FROM staged
WHERE k IN (SELECT k FROM repeated)
"""
"""`ranked`: every staged row with its place among the rows of its key, and among the equal ones; 1 is the newest. Most
keys occur once in a batch: only those in `repeated` are sorted."""

SUPERSEDED = f"""
SELECT fr, CASE WHEN repeat > 1 THEN '{Outcome.DUPLICATE}' ELSE '{Outcome.SUPERSEDED}' END AS outcome
FROM ranked
WHERE place > 1
"""
"""Of a single file that nothing was before: the rows that are not the newest of their key, each with its outcome."""

BEST_ALONE = f"SELECT k, pos, ch, rv, bn, ins, {', '.join(ORDER)}, 1 AS place, 1 AS copies FROM current"
"""`best` of a target in which no key occurs more than once."""

BEST = f"""
{BEST_ALONE}
WHERE k NOT IN (SELECT k FROM doubled)
UNION ALL
SELECT k, pos, ch, rv, bn, min(ins) OVER (PARTITION BY k) AS ins, {", ".join(ORDER)},
  row_number() OVER (PARTITION BY k ORDER BY {NEWEST_FIRST}, pos DESC NULLS LAST) AS place,
  count(*) OVER (PARTITION BY k) AS copies
FROM current
WHERE k IN (SELECT k FROM doubled)
"""
"""`best`: the target's rows with their place among the rows of their key, where 1 is the one that counts, and how often
the key occurs. Only the keys in `doubled` are sorted."""

TIES = """
SELECT DISTINCT s.k
FROM staged_rows s
JOIN target_before t ON s.k = t.k AND s.ev = t.ev AND s.ch <> t.ch
JOIN loaded l ON s.fk <= l.fk
"""
"""Keys with a staged row that ties with the target's on event time and differs, while a delivery with a file key not
lower was loaded before: only history can tell. (File 1 says X, file 2 Y, file 3 X again, at one time. After files 1 and
3 the target still names file 1, because the content was the same.) `staged_rows` and `target_before` are `staged` and
`current` without the places `tb`; `loaded` has one row with the highest file key, `fk`, of the deliveries loaded before
this batch."""

OUTCOMES_UNTIED = f"""
SELECT r.k, r.dn, r.fr, b.rv, b.pos, b.ins,
  CASE
    WHEN r.place > 1 AND r.repeat > 1 THEN c.duplicate
    WHEN r.place > 1 THEN c.superseded
    WHEN b.k IS NULL THEN c.inserted
    WHEN r.ch = b.ch THEN c.unchanged
    WHEN NOT {later("r", "b")} THEN c.stale
    ELSE c.updated
  END AS outcome
FROM ranked r CROSS JOIN codes c
LEFT JOIN (SELECT * FROM best WHERE place = 1) b ON r.k = b.k
"""
"""`outcomes` of a batch of which the history has nothing to say: `recalled` would be empty."""

OUTCOMES = f"""
{OUTCOMES_UNTIED.replace("ELSE c.updated", "WHEN h.k IS NOT NULL THEN c.stale ELSE c.updated")}
LEFT JOIN (
  SELECT DISTINCT x.k FROM recalled x JOIN ranked y ON x.k = y.k
  WHERE y.place = 1 AND x.ev = y.ev AND {later("x", "y")}
) h ON r.k = h.k
"""
"""`outcomes`: the outcome of every staged row: `k`, `dn`, `fr`, `outcome`, and `rv`, `pos` and `ins` of the target's
row before this batch."""

OUTCOMES_AGAIN = """
SELECT r.k, r.dn, r.fr, CASE WHEN b.bn = c.batch THEN b.rv - c.first_revision ELSE b.rv END AS rv, b.pos, b.ins,
  CASE
    WHEN r.place > 1 AND r.repeat > 1 THEN c.duplicate
    WHEN r.place > 1 THEN c.superseded
    WHEN b.bn = c.batch AND b.rv = c.first_revision THEN c.inserted
    WHEN b.bn = c.batch THEN c.updated
    WHEN r.ch = b.ch THEN c.unchanged
    ELSE c.stale
  END AS outcome
FROM ranked r CROSS JOIN codes c
LEFT JOIN (SELECT * FROM best WHERE place = 1) b ON r.k = b.k
"""
"""`outcomes` after the target's commit, as recovery sees it: a pure function of the stage and of the target at the
version that carries this batch's `txn`. `codes` also has `batch` and `first_revision`."""


OUTCOMES_FOLDED = """
SELECT o.k, o.dn, o.fr, o.rv, o.pos, o.ins,
  CASE
    WHEN o.outcome IN (c.duplicate, c.superseded, c.inserted) THEN o.outcome
    WHEN f.ch <> b.ch THEN c.updated
    WHEN o.outcome = c.updated THEN c.stale
    ELSE o.outcome
  END AS outcome
FROM weighed o CROSS JOIN codes c
LEFT JOIN (SELECT * FROM best WHERE place = 1) b ON o.k = b.k
LEFT JOIN folded_content f ON o.k = f.k
"""
"""`outcomes` where deliveries lack columns, so that a row's content may come from several of them: the newest staged
row of a key is updated when its fold differs from the target's row. `weighed` is what `OUTCOMES` gave, `folded_content`
has the hash `ch` of the fold of each key `k`."""


FIRSTS_ALONE = "SELECT k, dn, ch, fr, 1 AS repeat FROM staged_rows"
"""`firsts` of a batch in which every key comes once."""

FIRSTS = f"""
{FIRSTS_ALONE}
WHERE k NOT IN (SELECT k FROM repeated)
UNION ALL
SELECT k, dn, ch, fr,
  row_number() OVER (PARTITION BY k, ch ORDER BY dn NULLS FIRST, fr NULLS FIRST) AS repeat
FROM staged_rows
WHERE k IN (SELECT k FROM repeated)
"""
"""`firsts`: every staged row with its place among those of its key and content; 1 is the one that stands first."""

APPENDED = """
SELECT r.k, r.dn, r.fr, CASE WHEN r.repeat > 1 OR t.k IS NOT NULL THEN c.duplicate ELSE c.inserted END AS outcome
FROM firsts r CROSS JOIN codes c
LEFT JOIN (SELECT DISTINCT k, ch FROM standing) t ON r.k = t.k AND r.ch = t.ch
"""
"""`outcomes` in mode `append`: a row is a duplicate when an equal one stands before it in the batch, or in the target
as one that counts. `standing` has key `k` and content `ch` of the target's rows, without those of deliveries that were
taken back. Which rows the target has in the end does not depend on the order in which they come: equal rows differ in
nothing but where they are from."""

APPENDED_AGAIN = """
SELECT r.k, r.dn, r.fr, CASE WHEN w.dn IS NULL THEN c.duplicate ELSE c.inserted END AS outcome
FROM staged_rows r CROSS JOIN codes c
LEFT JOIN (SELECT DISTINCT dn, fr FROM written) w ON r.dn = w.dn AND r.fr = w.fr
"""
"""`outcomes` in mode `append` after the target's commit, as recovery sees it: `written` has `dn` and `fr` of the rows
that the batch's commit put into the target."""


def codes_sql(batch: int) -> str:
    """SQL of `codes` for the batch with this number."""
    codes = [f"{number} AS {outcome}" for outcome, number in CODES.items()]
    return f"SELECT {', '.join(codes)}, {batch} AS batch, 1 AS first_revision"


def fold_sql(columns: tuple[str, ...], absent: tuple[str, ...]) -> str:
    """SQL of the fold: one row a key, the maximum of all its accepted rows by the total order.

    A column that some vendor never sends comes from the newest row whose delivery carries it.

    Args:
        columns: Names of the columns to fold, as they stand in relation `accepted`, with `k` and the order columns.
        absent: Those of them that some delivery lacks; `accepted` then has a boolean `lacks_<place in absent>`.
    """
    places = [f"row_number() OVER (PARTITION BY k ORDER BY {NEWEST_FIRST}) AS place"]
    places += [
        f"row_number() OVER (PARTITION BY k, lacks_{i} ORDER BY {NEWEST_FIRST}) AS place_{i}"
        for i in range(len(absent))
    ]
    picked = []
    for column in columns:
        newest = "place = 1"
        if column in absent:
            i = absent.index(column)
            newest = f"NOT lacks_{i} AND place_{i} = 1"
        picked.append(f"max(CASE WHEN {newest} THEN {column} END) AS {column}")
    return f"SELECT k, {', '.join(picked)} FROM (SELECT *, {', '.join(places)} FROM accepted) GROUP BY k"
