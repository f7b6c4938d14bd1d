"""Mask passwords and tokens wherever a text is shown: in messages, logs and `repr`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from msgspec import Struct

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


_HOSTS_SHOWN = frozenset({"mailto", "mailtos", "json", "jsons", "form", "forms", "xml", "xmls", "http", "https"})
"""Schemes of addresses whose host is a host and not a token."""

_SHORT = 3


class SecretUrl(Struct, frozen=True):
    """An address that is a secret, or holds one: it is shown nowhere.

    Attributes:
        text: The address.
    """

    text: str

    def __repr__(self) -> str:
        """The scheme alone."""
        return f"SecretUrl({self.shown!r})"

    __str__ = __repr__

    @property
    def shown(self) -> str:
        """The address as people may see it: its scheme, and the mask."""
        scheme, found, _ = self.text.partition("://")
        return f"{scheme}://{MASK}" if found and scheme.isalnum() else MASK

    def hidden_in(self, text: str) -> str:
        """A text of others with every part of this address masked, but for a host that is no token."""
        for part in sorted(self._parts(), key=len, reverse=True):
            text = re.sub(re.escape(part), MASK, text, flags=re.IGNORECASE)
        return masked(text)

    def _parts(self) -> Iterable[str]:
        scheme, _, rest = self.text.partition("://")
        host = urlsplit(f"//{rest}").hostname if scheme.lower() in _HOSTS_SHOWN else None
        parts = {part for raw in re.split(r"[/:@?&=#;,\s]+", rest) for part in (raw, unquote(raw))}
        return {rest, unquote(rest), *(part for part in parts if len(part) > _SHORT and part.lower() != host)} - {""}
