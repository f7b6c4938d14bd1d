"""Small faults put into the SQL that stands in our strings, which tools for Python do not look into."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SQL = re.compile(
    r"\b(?:SELECT|FROM|WHERE|WHEN|THEN|JOIN|ORDER BY|GROUP BY|PARTITION BY|DESC|NULLS|AND|OR|NOT|IS NULL|UNION|OVER)\b"
    r"|\b(?:coalesce|max|min|epoch_us)\(|[}\w] (?:<|>|=|<=|>=|<>) [{\w]"
)
"""What tells SQL from other text."""

REPLACEMENTS: tuple[tuple[str, str], ...] = (
    (r" < ", " <= "),
    (r" <= ", " < "),
    (r" > ", " >= "),
    (r" >= ", " > "),
    (r" <> ", " = "),
    (r" = ", " <> "),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r"\bDESC\b", "ASC"),
    (r"\bASC\b", "DESC"),
    (r"\bNULLS FIRST\b", "NULLS LAST"),
    (r"\bNULLS LAST\b", "NULLS FIRST"),
    (r"\bAND\b", "OR"),
    (r"\bOR\b(?! REPLACE)", "AND"),
    (r"\bNOT IN\b", "IN"),
    (r"(?<!NOT )\bIN \(", "NOT IN ("),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bIS NOT DISTINCT FROM\b", "IS DISTINCT FROM"),
    (r"\bIS DISTINCT FROM\b", "IS NOT DISTINCT FROM"),
    (r"(?<!IS )\bNOT (?!IN\b|NULL\b|EXISTS \w)", ""),
    (r"\bDISTINCT (?!FROM\b|ON\b)", ""),
    (r"\bUNION ALL\b", "UNION"),
    (r"\bLEFT JOIN\b", "JOIN"),
    (r"\bANTI JOIN\b", "SEMI JOIN"),
    (r"\bSEMI JOIN\b", "ANTI JOIN"),
    (r"\bmin\(", "max("),
    (r"\bmax\(", "min("),
    (r"\bgreatest\(", "least("),
    (r"\bleast\(", "greatest("),
    (r"\bbool_and\(", "bool_or("),
    (r"\bbool_or\(", "bool_and("),
    (r"\bcoalesce\(", "nullif("),
    (r"\bsum\(", "max("),
    (r"\bcount\(\*\)(?! OVER)", "1"),
    (r"(?<!dense_)\brow_number\(\)", "rank()"),
    (r"\bdense_rank\(\)", "row_number()"),
    (r"\bWHERE ", "WHERE true OR "),
    (r"\bHAVING ", "HAVING true OR "),
    (r"\bELSE (?=[\w{])", "ELSE NULL AND "),
    (r"\n *WHEN [^\n]* THEN [^\n]*(?=\n)", ""),
    (r"(?<=[\w}]), [\w.]+(?: ASC| DESC)? NULLS (?:FIRST|LAST)", ""),
)
"""A pattern and what is put in its place."""

_COLUMN = r"[a-z_][\w.]*(?: ASC| DESC)?(?: NULLS (?:FIRST|LAST))?"
_LIST = re.compile(rf"\b(?:ORDER|PARTITION|GROUP) BY ({_COLUMN}(?:, {_COLUMN})*)(?= ORDER\b| ROWS\b|[)\n\"'])")
_NUMBER = re.compile(r"(?<![\w.{$])\d+(?![\w.}])")


@dataclass(frozen=True, slots=True)
class Edit:
    """A fault: what stands from `start` up to `end`, exclusive, becomes `text`."""

    start: int
    end: int
    text: str

    def apply(self, text: str) -> str:
        """The text with this fault."""
        return text[: self.start] + self.text + text[self.end :]


def edits(text: str) -> Iterator[Edit]:
    """All faults that a piece of SQL can get, one at a time."""
    for pattern, replacement in REPLACEMENTS:
        for match in re.finditer(pattern, text):
            yield Edit(match.start(), match.end(), replacement)
    for match in _LIST.finditer(text):
        yield from _shorter(match.start(1), match[1])
    for match in _NUMBER.finditer(text):
        yield Edit(match.start(), match.end(), str(int(match[0]) + 1))


def _shorter(start: int, columns: str) -> Iterator[Edit]:
    """The list of columns at `start` without each of them in turn."""
    names = columns.split(",")
    for left_out in range(len(names)):
        rest = [name for place, name in enumerate(names) if place != left_out]
        if rest:
            yield Edit(start, start + len(columns), ",".join(rest).lstrip())
