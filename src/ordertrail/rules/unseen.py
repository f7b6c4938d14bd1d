"""Characters that are invisible, or that control a terminal: every text for people shows them as escapes.

`A100`, and `A100` with a zero-width space in it, must not look alike. Stored values keep such characters.
`filekey.clean_name` escapes fewer of them, and that will never change: the total order compares its text of a path, and
a file that a vendor sends again must keep its place in the order.
"""

from __future__ import annotations

import re

CONTROLS = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"
"""Control characters and surrogates, for the inside of a `[...]`."""

SHAPELESS = (
    r"\xad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Zero-width characters, joiners, fillers, variation selectors, tags, and marks that end a line or change the text
direction: Unicode's Default_Ignorable_Code_Point, the line separators and the annotation marks; for the inside of a
`[...]`."""

_UNSEEN = re.compile(f"[{CONTROLS}{SHAPELESS}]")
_IN_JSON = re.compile(rf"[\x7f-\x9f\ud800-\udfff{SHAPELESS}]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def shown(text: str) -> str:
    r"""Text as one line that is safe on a terminal: invisible characters become escapes such as `\x1b` or `\u200b`."""
    return _UNSEEN.sub(_escape, text)


def shown_json(text: str) -> str:
    """A JSON document with the same content, in escapes. `json` itself has escaped the controls below U+0020."""
    # Such characters occur only inside strings.
    return _IN_JSON.sub(_json_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if short := _SHORT.get(match[0]):
        return short
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
