"""What the tables of `ordertrail.toml` are made of: structs of msgspec, whose fields say what they mean."""

from __future__ import annotations

from msgspec import Meta, Struct


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of `ordertrail.toml`."""


def said(description: str, *examples: object) -> Meta:
    """What the documentation says of a setting, with a value to show where the default does not show much."""
    return Meta(description=description, examples=list(examples) or None)
