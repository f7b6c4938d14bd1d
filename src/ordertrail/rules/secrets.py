"""Passwords and tokens, masked wherever a text is shown: in messages, logs and `repr`."""

from __future__ import annotations

import re

MASK = "***"
"""What stands for a secret."""

# As Spark's own `spark.redaction.regex` has it, and what Spark Connect, S3, Azure and JDBC call them.
_NAME = r"[\w.\-]*(?:secret|passw(?:or)?d|pwd|token|credential|(?:access|account|api|private)[._-]?key|sas)[\w.\-]*"
_NAMED = re.compile(rf"(?i)\b({_NAME})([\"']?\s*[=:]\s*[\"']?)([^\s;&\"',)}}\]]+)")
_USER = re.compile(r"(://[^/\s:@]*:)[^@\s]+@")


def masked(text: str) -> str:
    """A text with the values of what is named like a secret masked, and the password of an address.

    `sc://server:15002/;token=abc;user_id=me` becomes `sc://server:15002/;token=***;user_id=me`.
    """
    return _NAMED.sub(rf"\1\2{MASK}", _USER.sub(rf"\1{MASK}@", text))


def masked_value(name: str, value: str) -> str:
    """The value of a setting: a mask where its name says that it is a secret, else the value, masked within."""
    return MASK if re.fullmatch(rf"(?i){_NAME}", name) else masked(value)
