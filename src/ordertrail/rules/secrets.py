"""Mask passwords and tokens wherever a text is shown: in messages, logs and `repr`."""

from __future__ import annotations

import re

MASK = "***"
"""The text shown instead of a secret."""

# Spark's own `spark.redaction.regex`, and the names that Spark Connect, S3, Azure and JDBC use.
_NAME = r"[\w.\-]*(?:secret|passw(?:or)?d|pwd|token|credential|(?:access|account|api|private)[._-]?key|sas)[\w.\-]*"
_NAMED = re.compile(rf"(?i)\b({_NAME})([\"']?\s*[=:]\s*[\"']?)([^\s;&\"',)}}\]]+)")
_USER = re.compile(r"(://[^/\s:@]*:)[^@\s]+@")


def masked(text: str) -> str:
    """A text in which the values of names that look like secrets, and passwords in addresses, are masked.

    `sc://server:15002/;token=abc;user_id=me` becomes `sc://server:15002/;token=***;user_id=me`.
    """
    return _NAMED.sub(rf"\1\2{MASK}", _USER.sub(rf"\1{MASK}@", text))


def masked_value(name: str, value: str) -> str:
    """The value of a setting: the mask when its name says that it is a secret, else the text with secrets masked."""
    return MASK if re.fullmatch(rf"(?i){_NAME}", name) else masked(value)
