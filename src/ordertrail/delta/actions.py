"""The actions of a Delta log that we read and write, as frozen values.

Source of the format: https://github.com/delta-io/delta/blob/master/PROTOCOL.md, section "Actions". Members that we
do not interpret are kept out, but an `add`'s identity (path verbatim, deletion vector, size, partition values) is
kept whole, because a `remove` must repeat it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.rules.change_feed import FEATURE
from ordertrail.rules.column_types import plain_type

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


@lru_cache(maxsize=1024)
def _rows_in(stats: str) -> int | None:
    """The rows by the statistics of a file: asked for several times in a pass, of every file."""
    count = json.loads(stats).get("numRecords")
    return None if count is None else int(count)


class AddFile(Struct, frozen=True):
    """A data file of a table.

    Attributes:
        path: As it stands in the log: relative to the table, URL-encoded.
        size_bytes: The file's size.
        modified_ms: Milliseconds since 1970.
        stats: The statistics as their JSON text, or None.
        deletion_vector: The descriptor as its JSON text, or None.
        tags: What the writer noted about the file.
    """

    path: str
    size_bytes: int
    modified_ms: int
    stats: str | None = None
    deletion_vector: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int | None:
        """The number of physical rows by the statistics; None when they do not say."""
        return _rows_in(self.stats) if self.stats else None

    def marked(self, vector: Mapping[str, Json], rows: int) -> AddFile:
        """This file with another deletion vector.

        Args:
            vector: Its descriptor; must mark at least the rows that the present one marks.
            rows: Physical rows of the file, which its statistics must give from now on.
        """
        stats = {**(json.loads(self.stats) if self.stats else {}), "numRecords": rows, "tightBounds": False}
        return replace(self, stats=json.dumps(stats), deletion_vector=json.dumps(dict(vector)))

    def add(self, *, data_change: bool = True) -> dict[str, Json]:
        """The `add` action.

        Args:
            data_change: False when the table already has these rows in other files.
        """
        body: dict[str, Json] = {
            "path": self.path,
            "partitionValues": {},
            "size": self.size_bytes,
            "modificationTime": self.modified_ms,
            "dataChange": data_change,
            "stats": self.stats,
        }
        if self.deletion_vector is not None:
            body["deletionVector"] = json.loads(self.deletion_vector)
        if self.tags:
            body["tags"] = dict(self.tags)
        return {"add": body}

    def cdc(self) -> dict[str, Json]:
        """The `cdc` action: this file holds changes of its version."""
        return {"cdc": {"path": self.path, "partitionValues": {}, "size": self.size_bytes, "dataChange": False}}

    def remove(self, deleted_ms: int, *, data_change: bool = True) -> dict[str, Json]:
        """The `remove` action that repeats this file's identity whole.

        Args:
            deleted_ms: When, in milliseconds since 1970.
            data_change: False when the table keeps the rows in other files.
        """
        body: dict[str, Json] = {
            "path": self.path,
            "deletionTimestamp": deleted_ms,
            "dataChange": data_change,
            "extendedFileMetadata": True,
            "partitionValues": {},
            "size": self.size_bytes,
        }
        if self.deletion_vector is not None:
            body["deletionVector"] = json.loads(self.deletion_vector)
        return {"remove": body}


class Txn(Struct, frozen=True):
    """An application's own version of a table.

    Attributes:
        app_id: The pipeline's id.
        version: The batch number.
        updated_ms: Milliseconds since 1970.
    """

    app_id: str
    version: int
    updated_ms: int

    def action(self) -> dict[str, Json]:
        """The `txn` action."""
        return {"txn": {"appId": self.app_id, "version": self.version, "lastUpdated": self.updated_ms}}


class Metadata(Struct, frozen=True):
    """A table's schema and properties.

    Attributes:
        table_id: The table's own id; another one means that the table was replaced.
        schema_string: The schema as its JSON text.
        partition_columns: Names.
        properties: The table's properties.
        created_ms: Milliseconds since 1970.
        name: The table's name in the metadata, or None.
        description: The table's description, or None.
    """

    table_id: str
    schema_string: str
    partition_columns: tuple[str, ...]
    properties: Mapping[str, str]
    created_ms: int | None
    name: str | None = None
    description: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(column["name"] for column in json.loads(self.schema_string)["fields"])

    def action(self) -> dict[str, Json]:
        """The `metaData` action."""
        body: dict[str, Json] = {
            "id": self.table_id,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": self.schema_string,
            "partitionColumns": list(self.partition_columns),
            "configuration": dict(self.properties),
            "createdTime": self.created_ms,
        }
        words = {"name": self.name, "description": self.description}
        body |= {member: said for member, said in words.items() if said is not None}
        return {"metaData": body}


class ProtocolVersions(Struct, frozen=True):
    """What readers and writers of the table must support."""

    reader: int
    writer: int
    reader_features: tuple[str, ...] = ()
    writer_features: tuple[str, ...] = ()

    def action(self) -> dict[str, Json]:
        """The `protocol` action."""
        body: dict[str, Json] = {"minReaderVersion": self.reader, "minWriterVersion": self.writer}
        if self.reader_features:
            body["readerFeatures"] = list(self.reader_features)
        if self.writer_features:
            body["writerFeatures"] = list(self.writer_features)
        return {"protocol": body}

    def with_change_feed(self) -> ProtocolVersions:
        """These versions with the change data feed. What an older writer version implies is listed then."""
        if self.writer in _FEED_IMPLIED or FEATURE in self.writer_features:
            return self
        implied = self.writer_features
        if self.writer < _FEATURES_LISTED:
            implied = ("appendOnly", "invariants", *(("checkConstraints",) if self.writer == 3 else ()))
        return replace(self, writer=_FEATURES_LISTED, writer_features=(*implied, FEATURE))

    @property
    def has_change_feed(self) -> bool:
        """Whether the property that switches the change data feed on counts."""
        return self.writer in _FEED_IMPLIED or FEATURE in self.writer_features


_FEED_IMPLIED = range(4, 7)
"""Writer versions that support the change data feed without listing it."""

_FEATURES_LISTED = 7
"""The writer version that lists its features."""

PLAIN = ProtocolVersions(1, 2)
"""What every reader and writer of Delta tables supports."""

VECTORS = "delta.enableDeletionVectors"
"""Table property: whether writers may mark rows in deletion vectors, where the protocol supports it."""

WITH_VECTORS = ProtocolVersions(3, 7, ("deletionVectors",), ("deletionVectors", "invariants"))
"""A table whose rows can be marked as deleted without rewriting their file.

Delta on Spark will not even read a table that has a column which is never NULL unless `invariants` is listed too.
"""


def delta_type(type_name: str) -> Json:
    """Delta's name of a contract type. A Delta type stays as it is, and so does a nested one, given as JSON."""
    if type_name.startswith("{"):
        nested: Json = json.loads(type_name)
        return nested
    kind = plain_type(type_name)
    return type_name.replace(" ", "") if kind is None else kind.delta


def schema_string(columns: Sequence[tuple[str, Json, bool]]) -> str:
    """The schema as Delta writes it.

    Args:
        columns: (name, Delta type such as `string`, `long`, `timestamp`, nullable).
    """
    fields = [{"name": n, "type": t, "nullable": nullable, "metadata": {}} for n, t, nullable in columns]
    return json.dumps({"type": "struct", "fields": fields})
