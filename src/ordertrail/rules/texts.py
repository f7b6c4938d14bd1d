"""The text of a cell before its type counts: blanks around it, characters that nobody sees, a spreadsheet's decoration.

The same is said twice, for what has no DuckDB (headers, a key that somebody types) and as SQL for cells.
"""

from __future__ import annotations

import re
import unicodedata

from ordertrail.rules.sql import quoted

BLANKS = (
    "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What is trimmed off a cell. As a literal: DuckDB would bind each `chr()` of every cell anew for every file."""

UNSEEN = "\u00ad\u180e\u200b\u200c\u200d\u2060\ufeff"
"""Characters without width and meaning (soft hyphen, zero-width space and joiners, byte order mark)."""

_UNSEEN_SET = f"[{UNSEEN}]"
_DECORATION = r"(?s)^(?:=\s*\"([^\"]*)\"|'([^']*)'?)$"


def visible(text: str) -> str:
    """A header or an identifier as a person sees it: composed (NFC), without blanks around and what has no width."""
    if text.isascii():
        return text.strip(BLANKS)
    composed = unicodedata.normalize("NFC", re.sub(_UNSEEN_SET, "", text))
    return composed.strip(BLANKS)


def trimmed_sql(text: str, ends: str = "") -> str:
    """SQL of a text without the blanks around it, NULL when nothing is left; plain text is left as it is.

    Args:
        text: SQL of the text.
        ends: SQL of its last character, if there is a column of it.
    """
    # Every blank sorts below `!` or among what is no ASCII; comparing as text is nearly free.
    blank = " OR ".join(f"{end} < '!' OR {end} >= '\x7f'" for end in (text, ends or f"right({text}, 1)"))
    return f"(CASE WHEN {blank} THEN nullif(trim({text}, {quoted(BLANKS)}), '') ELSE {text} END)"


def visible_sql(text: str) -> str:
    """SQL of an identifier as `visible` has it, without a spreadsheet's decoration; NULL when nothing is left.

    `="00123"` and `'00123` protect digits from a spreadsheet and are no part of them.
    """
    seen = f"trim({text}, {quoted(BLANKS + UNSEEN)})"
    seen = f"nfc_normalize(regexp_replace({seen}, {quoted(_UNSEEN_SET)}, '', 'g'))"
    bare = f"regexp_replace({seen}, {quoted(_DECORATION)}, '\\1\\2')"
    return f"nullif(trim({bare}, {quoted(BLANKS)}), '')"
