"""What a number of a shipment or an order cannot look like: the damage of spreadsheets, and words for no number.

Identifiers are the key's text columns and those with `identifier = true`. Only a text with a character other than
letters, digits, `_` and `-`, or a short one, is looked at closely.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from ordertrail.rules.sql import quoted

PLAIN = r"[0-9A-Za-z_-]*"
"""Texts that no spreadsheet can have damaged; they need no look at their characters."""

# A spreadsheet prints one digit before the decimals; without decimals the sign must say that it is no serial number.
_POWER = r"[+-]?\d([.,]\d+)?[eE]\+\d+|[+-]?\d[.,]\d+[eE]\d+"
# Capitals of Latin, Greek and Cyrillic, in which spreadsheets speak; all of Unicode's take a millisecond to compile.
_ERROR = r"#(N/A|NV|[A-Z\x{C0}-\x{DE}\x{100}-\x{17F}\x{370}-\x{3AB}\x{400}-\x{42F}/0]+[!?])"
_DECIMALS = r"[+-]?\d+[.,]0+"
_PART = r"[A-Za-z]{0,4}\d[0-9A-Za-z]{7,}"
_SEVERAL = rf"{_PART}(?:[\s\x{{00A0}}]*[,;|&/\s\x{{00A0}}][\s\x{{00A0}}]*{_PART})+"
# Control and text direction, line separators, the replacement character; what has no width is gone by now.
_INVISIBLE = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\x{FFFD}]"
_WORDS = ("n/a", "n.a.", "nan", "none", "null", "nil", "tbd", "tba", "tbc", "<na>", "(null)", "\\n", "undefined")
_WORDS_ALONE = ("na", "unknown", "xxx", "xxxx", "_", "__", "___")
_SIGNS = r"-+|\.+|\?+|0+"
MAX_WORD_CHARS = 12
"""Longest text that is looked at as a word or zeros for no number."""

WORD_BEGINS, WORD_ENDS = "nNtTuUxX0_-", "aAcCdDeElLnNxX0_-"
"""What such texts begin and end with, where they have only letters, digits, `_` and `-`."""


class Shape(Struct, frozen=True):
    """A shape that no identifier has.

    Attributes:
        rule: As in `orders_rejects.rule`.
        reason: In plain words, with what to do.
        matches: SQL that is true for a text of the shape.
        short: Whether plain texts can have it, all of them short.
    """

    rule: str
    reason: str
    matches: str
    short: bool = False


def shapes(text: str, *, key: bool, alone: bool) -> tuple[Shape, ...]:
    """All shapes that an identifier must not have; the first that fits is the one that is told.

    Args:
        text: SQL of the identifier, `visible_sql`.
        key: Whether the column is of the key: then words for no number are no number either.
        alone: Whether it is the whole key; `0` may be a part of one.
    """
    return tuple(_shapes(text, key=key, alone=alone))


def _shapes(text: str, *, key: bool, alone: bool) -> Iterator[Shape]:
    lost = "a spreadsheet turned this identifier into a number; its digits are lost: export the column as text"
    yield Shape("spreadsheet", lost, f"regexp_full_match({text}, {quoted(_POWER)})")
    narrow = (
        "a spreadsheet shows ##### where a column is too narrow; the digits are lost: export it with a wider column"
    )
    yield Shape("spreadsheet", narrow, f"regexp_full_match({text}, '#{{2,}}')")
    error = "a formula of a spreadsheet failed here: have it corrected and sent again"
    yield Shape("spreadsheet", error, f"regexp_full_match({text}, {quoted(_ERROR)})")
    formula = "this is a formula of a spreadsheet, not its value: export the values"
    yield Shape("spreadsheet", formula, f"starts_with({text}, '=')")
    decimals = (
        "this identifier was read as a number with decimals; leading zeros and digits beyond 15 are lost: export the "
        "column as text"
    )
    yield Shape("spreadsheet", decimals, f"regexp_full_match({text}, {quoted(_DECIMALS)})")
    several = "there is more than one number in this cell: have a row sent for each"
    yield Shape("several", several, f"regexp_full_match({text}, {quoted(_SEVERAL)})")
    invisible = (
        "this identifier has an invisible character (control, text direction) or one that stands for a byte of another "
        "encoding: have it sent without it, or declare the encoding"
    )
    yield Shape("invisible", invisible, f"regexp_matches({text}, {quoted(_INVISIBLE)})")
    if key:
        nothing = "this stands for no number, and rows of many shipments may have it: have it sent, or left empty"
        yield Shape("placeholder", nothing, _placeholder(text, alone=alone), short=True)


def _placeholder(text: str, *, alone: bool) -> str:
    # A pattern, because DuckDB makes a join of a long list, for which it computes `lower` of all rows.
    words = quoted("|".join(map(re.escape, (*_WORDS, *_WORDS_ALONE) if alone else _WORDS)))
    # Nearly all keys are told by a length and two comparisons: a text of zeros sorts before other numbers.
    listed = f"(({text} < '0' OR {text} > '9') AND regexp_full_match(lower({text}), {words}))"
    if alone:
        listed += f" OR (({text} <= '{'0' * MAX_WORD_CHARS}' OR {text} < '@' AND {text} >= '?') "
        listed += f"AND regexp_full_match({text}, {quoted(_SIGNS)}))"
    return f"strlen({text}) <= {MAX_WORD_CHARS} AND ({listed})"


def shape_sql(text: str, odd: str, found: tuple[Shape, ...]) -> str:
    """SQL of the place in `found` of the first shape that a text has; NULL when it has none.

    Args:
        text: SQL of the identifier.
        odd: SQL that is true where any text of the Arrow batch may be other than `PLAIN`, or a short word or zeros.
        found: From `shapes`.
    """
    arms = {place: f"WHEN {shape.matches} THEN {place}" for place, shape in enumerate(found)}
    short = " ".join(arm for place, arm in arms.items() if found[place].short)
    close = " ".join(arm for place, arm in arms.items() if not found[place].short)
    # Each condition stands here once: what stands twice DuckDB computes for all rows, before any CASE.
    looked = f"CASE {short} WHEN regexp_full_match({text}, '{PLAIN}') THEN NULL {close} END"
    return f"CASE WHEN {odd} THEN CAST({looked} AS TINYINT) END"
