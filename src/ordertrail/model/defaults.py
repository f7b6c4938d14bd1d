"""The defaults of a value's fields."""

from __future__ import annotations

from msgspec import Struct


def defaults_of(kind: type[Struct]) -> dict[str, object]:
    """The default of each field that has one, by name; for structs whose defaults are no lists, dicts or sets.

    `msgspec.structs.fields` tells the same and more, but resolves the types of all fields each time: 1 ms.
    """
    # Fields with a default are the last ones.
    return dict(zip(reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False))
