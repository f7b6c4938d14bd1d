"""Which tables we read and write, judged by the features that are active in a table, not by those it merely lists.

A feature stays listed in the protocol when nothing uses it any more: a dropped CHECK constraint, a change feed that was
switched off, the features that an old writer version implies. Some matter as soon as they are listed (row tracking:
every commit must then assign row ids). Source: PROTOCOL.md of delta-io/delta, "Valid Feature Names".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ordertrail.delta.actions import Metadata, ProtocolVersions
from ordertrail.errors import UnsupportedTableError
from ordertrail.rules.tables import APPEND, APPEND_ONLY, mode_of

PROTECTED_BEFORE = "delta.requireCheckpointProtectionBeforeVersion"
"""Table property: writers that do not verify checkpoints must not clean up log entries below this version."""

_READABLE = frozenset({"deletionVectors", "timestampNtz", "v2Checkpoint", "variantType", "vacuumProtocolCheck"})
_WRITABLE = _READABLE | {"appendOnly", "changeDataFeed", "invariants", "domainMetadata", "checkpointProtection"}

_Active = Callable[[Mapping[str, str], str], bool]


def _switch(name: str) -> _Active:
    return lambda properties, _: properties.get(name, "").lower() == "true"


def _in_schema(word: str) -> _Active:
    return lambda _, schema: word in schema


def _mapped(properties: Mapping[str, str], _: str) -> bool:
    return properties.get("delta.columnMapping.mode", "none") != "none"


def _constrained(properties: Mapping[str, str], _: str) -> bool:
    return any(name.startswith("delta.constraints.") for name in properties)


_JUDGED: Mapping[str, _Active] = {
    "columnMapping": _mapped,
    "typeWidening": _in_schema('"delta.typeChanges"'),
    "typeWidening-preview": _in_schema('"delta.typeChanges"'),
    "checkConstraints": _constrained,
    "generatedColumns": _in_schema('"delta.generationExpression"'),
    "identityColumns": _in_schema('"delta.identity.'),
    "allowColumnDefaults": _in_schema('"CURRENT_DEFAULT"'),
    "inCommitTimestamp": _switch("delta.enableInCommitTimestamps"),
    "icebergCompatV1": _switch("delta.enableIcebergCompatV1"),
    "icebergCompatV2": _switch("delta.enableIcebergCompatV2"),
}
"""Features that matter only while something in the table uses them, and the test for that."""

_REFUSED_PROPERTIES = {
    "delta.enableRowTracking": "true",
    "delta.columnMapping.mode": "name",
}
_REFUSED_IN_SCHEMA = {
    '"delta.invariants"': "column invariants",
    '"delta.generationExpression"': "generated columns",
    '"delta.identity.': "identity columns",
    '"CURRENT_DEFAULT"': "column defaults",
}


def require_readable(name: str, metadata: Metadata, protocol: ProtocolVersions) -> None:
    """Refuse a table that we would misread.

    Args:
        name: The table's name.
        metadata: Its schema and properties.
        protocol: What it requires of readers and writers.

    Raises:
        UnsupportedTableError: Naming the feature.
    """
    if protocol.reader > 3 or _mapped(metadata.properties, ""):
        raise _refusal(name, f"reader version {protocol.reader} or column mapping")
    for feature in protocol.reader_features:
        if feature not in _READABLE and _matters(feature, metadata):
            raise _refusal(name, feature)


def require_writable(name: str, metadata: Metadata, protocol: ProtocolVersions) -> None:
    """Refuse a table that we would damage.

    Args:
        name: The table's name.
        metadata: Its schema and properties.
        protocol: What it requires of readers and writers.

    Raises:
        UnsupportedTableError: Naming the feature or the property; the table was not touched.
    """
    require_readable(name, metadata, protocol)
    for feature in protocol.writer_features:
        if feature not in _WRITABLE and _matters(feature, metadata):
            raise _refusal(name, feature)
    if append_only(metadata) and mode_of(metadata.properties) != APPEND:
        raise _refusal(name, f"{APPEND_ONLY} = true")
    for key, value in metadata.properties.items():
        if _REFUSED_PROPERTIES.get(key) == value.lower() or key.startswith("delta.constraints."):
            raise _refusal(name, f"{key} = {value}")
        if key == "delta.setTransactionRetentionDuration":
            raise _refusal(name, f"{key}, which would forget which batches were loaded")
    if metadata.partition_columns:
        raise _refusal(name, f"partitions by {', '.join(metadata.partition_columns)}")
    for mark, what in _REFUSED_IN_SCHEMA.items():
        if mark in metadata.schema_string:
            raise _refusal(name, what)
    # Last, because a property that requires a higher version says more than the version. The checks above cover what
    # versions up to 6 imply.
    if protocol.writer > 7:
        raise _refusal(name, f"writer version {protocol.writer}")


def append_only(metadata: Metadata) -> bool:
    """Whether no commit may change or remove rows of a table."""
    return metadata.properties.get(APPEND_ONLY, "").lower() == "true"


def _matters(feature: str, metadata: Metadata) -> bool:
    active = _JUDGED.get(feature)
    return active is None or active(metadata.properties, metadata.schema_string)


def _refusal(name: str, feature: str) -> UnsupportedTableError:
    return UnsupportedTableError(
        f"the table {name} has {feature}, which ordertrail does not write to; it was not touched",
        hint="remove the feature from the table, or load into another one",
    )
