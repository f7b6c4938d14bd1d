"""Actions as PROTOCOL.md has them."""

from __future__ import annotations

import json

import pytest

from ordertrail.delta.actions import AddFile, Metadata, ProtocolVersions, Txn, schema_string

VECTOR = {
    "storageType": "u",
    "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
    "offset": 4,
    "sizeInBytes": 40,
    "cardinality": 6,
}


def test_add() -> None:
    action = AddFile("a b%20.parquet", 12, 34, '{"numRecords":5}', None, {"k": "v"}).add()
    assert action == {
        "add": {
            "path": "a b%20.parquet", "partitionValues": {}, "size": 12, "modificationTime": 34, "dataChange": True,
            "stats": '{"numRecords":5}', "tags": {"k": "v"},
        }
    }  # fmt: skip


def test_a_remove_repeats_the_whole_identity_of_the_add() -> None:
    plain = AddFile("p%2520.parquet", 12, 34, None).remove(99)["remove"]
    assert isinstance(plain, dict)
    assert (plain["path"], plain["size"], plain["partitionValues"]) == ("p%2520.parquet", 12, {})
    assert (plain["deletionTimestamp"], plain["dataChange"], plain["extendedFileMetadata"]) == (99, True, True)
    assert "deletionVector" not in plain
    marked = AddFile("p.parquet", 12, 34, None, json.dumps(VECTOR)).remove(99)["remove"]
    assert isinstance(marked, dict)
    assert marked["deletionVector"] == VECTOR


@pytest.mark.parametrize(
    ("stats", "rows"), [(None, None), ("", None), ("{}", None), ('{"numRecords":0}', 0), ('{"numRecords":7}', 7)]
)
def test_rows_by_the_statistics(stats: str | None, rows: int | None) -> None:
    assert AddFile("p", 1, 2, stats).rows == rows


def test_txn_always_says_when() -> None:
    assert Txn("app", 3, 1234).action() == {"txn": {"appId": "app", "version": 3, "lastUpdated": 1234}}


def test_protocol_and_metadata() -> None:
    assert ProtocolVersions(1, 2).action() == {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}
    text = schema_string([("a", "string", False), ("b", "decimal(5,2)", True)])
    metadata = Metadata("id", text, (), {"x": "y"}, 5)
    assert metadata.columns == ("a", "b")
    assert [f["nullable"] for f in json.loads(text)["fields"]] == [False, True]
    body = metadata.action()["metaData"]
    assert isinstance(body, dict)
    assert body["format"] == {"provider": "parquet", "options": {}}
    assert (body["id"], body["configuration"], body["createdTime"], body["partitionColumns"]) == (
        "id",
        {"x": "y"},
        5,
        [],
    )
