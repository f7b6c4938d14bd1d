"""Whether data files match the table's schema; readers that trust the schema fail on files that do not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ordertrail.delta.snapshot import Snapshot
from ordertrail.rules.column_types import bits_of, decimal_of


def unfit_columns(snapshots: Iterable[Snapshot]) -> Iterator[str]:
    """Columns of data files that do not match what their table declares, one text each; skips lost and cut files.

    Every reader returns NULL for a column that a file lacks, so only NOT NULL columns may not be missing. Narrower
    numbers fit wider ones.

    Args:
        snapshots: Snapshots of the tables.

    Yields:
        The name of the table, the file, the column, and both types; or why a file cannot be read.
    """
    for snapshot in snapshots:
        declared = json.loads(snapshot.metadata.schema_string)["fields"]
        for file in snapshot.files.values():
            path = snapshot.path_of(file)
            if not path.is_file() or path.stat().st_size != file.size_bytes:
                continue
            try:
                found = {field.name: field.type for field in pq.read_schema(path)}
            except (OSError, pa.ArrowException) as error:
                yield f"{snapshot.root.name}: {path.name} cannot be read: {error}"
                continue
            for column in declared:
                if (unfit := _unfit(found.get(column["name"]), column)) is not None:
                    yield f"{snapshot.root.name}: {path.name} has the column {column['name']} {unfit}"


def _unfit(found: pa.DataType | None, column: dict[str, Any]) -> str | None:
    """How a file's column differs from the declared one; None when it does not."""
    kind = column["type"]
    if found is None:
        return None if column["nullable"] else "not at all, and it may not be NULL"
    return None if _fits(found, kind) else f"as {found}, not as {_shown(kind)}"


def _fits(found: pa.DataType, kind: Any) -> bool:  # noqa: ANN401 - JSON
    types = pa.types
    match kind:
        case "string":
            return bool(types.is_string(found) or types.is_large_string(found) or types.is_string_view(found))
        case "binary":
            return bool(types.is_binary(found) or types.is_large_binary(found) or types.is_binary_view(found))
        case "byte" | "short" | "integer" | "long":
            return bool(types.is_signed_integer(found)) and found.bit_width <= bits_of(kind)
        case "float" | "double":
            return bool(types.is_floating(found)) and found.bit_width <= bits_of(kind)
        case "boolean":
            return bool(types.is_boolean(found))
        case "date":
            return bool(types.is_date(found))
        case "timestamp":
            # Spark's own representation of a time, INT96, has nanoseconds and no zone.
            return bool(types.is_timestamp(found)) and (found.tz is not None or found.unit == "ns")
        case "timestamp_ntz":
            return bool(types.is_timestamp(found)) and found.tz is None
        case str():
            return decimal_of(kind) is None or (types.is_decimal(found) and decimal_of(kind) == _digits(found))
        case {"type": "struct"}:
            return bool(types.is_struct(found))
        case {"type": "array"}:
            return bool(types.is_list(found) or types.is_large_list(found))
        case {"type": "map"}:
            return bool(types.is_map(found))
        case _:
            return True


def _digits(found: Any) -> tuple[int, int]:  # noqa: ANN401 - Arrow's types are not told apart
    return found.precision, found.scale


def _shown(kind: Any) -> str:  # noqa: ANN401 - JSON
    return kind if isinstance(kind, str) else str(kind.get("type"))
