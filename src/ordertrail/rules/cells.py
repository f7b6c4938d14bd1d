"""The contract as SQL: what the text of every column means, and what is wrong with it (P5: nothing is ever nulled).

The SQL is DuckDB's dialect, because the row kernel is DuckDB on every engine. It reads these columns:

- `d` INTEGER, `r` BIGINT: which file of the job, and the record number in it;
- `c0`, `c1` ...: the texts of the contract's columns, NULL for an empty cell; `c0_1` ... further cells of a column
  that is made of several; `named0` ... what the file's name says;
- `u0`, `u1` ...: the text of the file's other columns;
- `limit_us` BIGINT: later event times are in the future; `dated` VARCHAR: the date of the file that this limit is based
  on, used only to explain rejects;
- `f0`, `f1` ... BOOLEAN: whether any cell of that text column in the Arrow batch may have a blank at an end or, in an
  identifier, characters other than letters, digits, `_` and `-`;
- functions `to_utc_us(zone, local_us)` and `is_ambiguous(zone, local_us)` of `parse.zones`, and `cell_advice(wanted,
  text)` of `rules.advice`, which only the reasons of rejects call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import count

from msgspec import Struct

from ordertrail.model import Contract, Vendor
from ordertrail.rules.bounds import MAX_VALUE_CHARS, cut_sql
from ordertrail.rules.cell_sql import Cell, CellCheck
from ordertrail.rules.cell_text import MOST_STEPS
from ordertrail.rules.headers import Layout
from ordertrail.rules.sql import quoted

AMBIGUOUS = "_ambiguous_time"
"""Member of `_rescued` that lists the columns whose local time the clock showed twice."""


class RowSql(Struct, frozen=True):
    """The row rules of one contract, vendor and layout.

    Attributes:
        steps: Rounds of (name, SQL); each reads the columns of earlier rounds: `unknown` JSON of the file's other
            columns; `j0`, `t0`, `n0`, `y0` ... what texts say (`rules.cell_text`); `p0` ... parts of cells; `k0` ...
            shapes of damaged identifiers; `q0` ... dates and times in the usual notation; `s0` ... the trimmed texts of
            all others, and of numbers; `m0` ... numbers in the usual notation; `w0_0` ... wall clocks by patterns that
            have a zone; `l0` ... dates, and times by the wall clock; `o0` ... times by their own offset; `v0` ... typed
            values, and `rescued`.
        checks: All that can be wrong; they read the columns above.
        columns: (name, SQL) of the columns of a good row, in order.
    """

    steps: tuple[tuple[tuple[str, str], ...], ...]
    checks: tuple[CellCheck, ...]
    columns: tuple[tuple[str, str], ...]

    @property
    def good(self) -> str:
        """SQL that is true for a row with nothing wrong."""
        wrong = dict.fromkeys(check.any_of or check.wrong for check in self.checks)
        return " AND ".join(f"NOT ({one})" for one in wrong) or "true"

    @property
    def errors(self) -> str:
        """SQL of a JSON list of `{column, value, rule, reason}`, one for each error."""
        items = ", ".join(
            f"CASE WHEN {c.wrong} THEN {{'column': {quoted(c.column)}, 'value': {cut_sql(c.value, MAX_VALUE_CHARS)}, "
            f"'rule': {quoted(c.rule)}, 'reason': {c.reason_sql}}} END"
            for c in self.checks
        )
        return f"CAST(to_json(list_filter([{items}], lambda e: e IS NOT NULL)) AS VARCHAR)"


def row_sql(contract: Contract, vendor: Vendor, layout: Layout) -> RowSql:
    """Write the row rules for files of one layout."""
    cells = [Cell(i, column, contract, vendor) for i, column in enumerate(contract.columns)]
    present = [c for c in cells if layout.cells[c.index] is not None or c.column.name in layout.told]
    checks = [check for cell in present for check in cell.checks()]
    marks = [f"CASE WHEN {cell.ambiguous} THEN {quoted(cell.column.name)} END" for cell in present if cell.is_local]
    values = {column.name: f"v{i}" for i, column in enumerate(contract.columns)}
    columns = list(values.items())
    columns.append(("_rescued", "rescued"))
    columns.append(("_row_hash", row_hash_sql({**values, "_rescued": "rescued"})))
    parts = [part for cell in cells for part in cell.rounds()]
    steps = (
        # In a round of its own: in one projection with it, every `CASE` would hold buffers for hundreds of unknown
        # columns.
        (("unknown", _unknown(layout)),),
        *(tuple(cell.said.steps[n] for cell in cells if n < len(cell.said.steps)) for n in range(MOST_STEPS)),
        *(tuple((name, sql) for at, name, sql in parts if at == number) for number in range(4)),
        tuple(step for cell in cells for step in cell.first()),
        (*((f"v{cell.index}", cell.typed()) for cell in cells), ("rescued", _rescued(marks))),
    )
    return RowSql(steps, tuple(checks), tuple(columns))


def row_hash_sql(values: dict[str, str]) -> str:
    """SQL of `_row_hash`, a BIGINT over the set of (name, value) pairs that are not NULL.

    The hashes of the pairs are combined by exclusive or, so their order does not matter, and a column that is NULL or
    does not exist yet changes nothing. The hash is DuckDB's own: it is fast, and the same in DuckDB 1.2 to 2.0, which a
    test pins; the embedded engine never compares hashes of different passes.

    Args:
        values: SQL of each column's value, by its name.
    """
    # DuckDB combines the hashes of two values linearly: without the outer hash, two columns could swap their values
    # unnoticed.
    pairs = [
        f"CASE WHEN ({value}) IS NULL THEN 0 ELSE hash(hash({quoted(name)}, {value})) END"
        for name, value in sorted(values.items())
    ]
    return f"CAST({_xor(['CAST(0 AS UBIGINT)', *pairs])} >> 1 AS BIGINT)"


def _xor(terms: Sequence[str]) -> str:
    """The terms combined as a balanced tree: DuckDB refuses an expression nested a thousand levels deep."""
    if len(terms) == 1:
        return terms[0]
    middle = len(terms) // 2
    return f"xor({_xor(terms[:middle])}, {_xor(terms[middle:])})"


def rank_sql(contract: Contract, status: str) -> str:
    """SQL of the status rank: its place in the list, from 0; -1 when it is not listed, -2 when it is NULL."""
    arms = " ".join(f"WHEN {quoted(s)} THEN {i}" for i, s in enumerate(contract.status_rank))
    listed = f"CASE {status} {arms} ELSE -1 END" if arms else "-1"
    return f"CASE WHEN {status} IS NULL THEN -2 ELSE {listed} END"


def key_sql(contract: Contract, values: dict[str, str]) -> str:
    """SQL of the key as one text: the value itself; for a key of several columns, each value after its length."""
    texts = [f"CAST({values[name]} AS VARCHAR)" for name in contract.key]
    if len(texts) == 1:
        return texts[0]
    return " || ".join(f"CAST(length({t}) AS VARCHAR) || ':' || {t}" for t in texts)


def _unknown(layout: Layout) -> str:
    """SQL of a JSON object of the unknown columns that are not empty, NULL when all are."""
    if not layout.unknown:
        return "CAST(NULL AS VARCHAR)"
    names = {name for name, _ in layout.unknown}
    parts = ", ".join(f"{quoted(_free(name, names))}, u{i}" for i, (name, _) in enumerate(layout.unknown))
    # A merge patch (RFC 7396) drops the members that are null.
    return f"nullif(CAST(json_merge_patch('{{}}', json_object({parts})) AS VARCHAR), '{{}}')"


def _free(name: str, names: set[str]) -> str:
    """The name of a column of the file in `_rescued`, where one name is reserved for our mark."""
    if name != AMBIGUOUS:
        return name
    return next(free for n in count(2) if (free := f"{AMBIGUOUS} ({n})") not in names)


def header_of(name: str) -> str:
    """The header in the file of a name in `_rescued`: another one only where ours was in its way, see `_free`."""
    return AMBIGUOUS if re.fullmatch(rf"{AMBIGUOUS} \(\d+\)", name) else name


def _rescued(marks: list[str]) -> str:
    """SQL of `_rescued`: the unknown columns, and the names of the columns with an ambiguous local time."""
    if not marks:
        return "unknown"
    patch = f"json_object({quoted(AMBIGUOUS)}, list_filter([{', '.join(marks)}], lambda e: e IS NOT NULL))"
    marked = f"CAST(json_merge_patch(coalesce(unknown, '{{}}'), {patch}) AS VARCHAR)"
    return f"CASE WHEN coalesce({', '.join(marks)}) IS NULL THEN unknown ELSE {marked} END"


def reject_json(rule: str, reason: str) -> str:
    """The `_errors` of a row that is wrong as a whole."""
    return json.dumps([{"column": None, "value": None, "rule": rule, "reason": reason}], ensure_ascii=False)
