"""Replaying a log: compared with delta-rs on random histories, and refusing what we would read or write wrong."""

from __future__ import annotations

import json
import urllib.parse
import uuid
from collections.abc import Iterable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ordertrail.delta.actions import WITH_VECTORS, AddFile, Json, Metadata, ProtocolVersions, Txn, schema_string
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot, follow_snapshot, read_snapshot, read_tombstones
from ordertrail.delta.table import Change, Table, scan_sql
from ordertrail.delta.vectors import deleted_rows, write_vectors
from ordertrail.errors import TableError, UnsupportedTableError
from ordertrail.rules.tables import TableColumn

COLUMNS = (TableColumn("n", "bigint", ""), TableColumn("t", "string", ""))
SCHEMA = pa.schema([("n", pa.int64()), ("t", pa.string())])
SCHEMA_STRING = schema_string([("n", "long", True), ("t", "string", True)])
METADATA = Metadata("id", SCHEMA_STRING, (), {}, 1)
START: list[dict[str, Json]] = [{"commitInfo": {}}, ProtocolVersions(1, 2).action(), METADATA.action()]


@pytest.fixture
def log(tmp_path: Path) -> DeltaLog:
    log = DeltaLog(tmp_path / "t")
    log.folder.mkdir(parents=True)
    return log


def add(path: str, **more: Json) -> dict[str, Json]:
    body = AddFile(path, 1, 2, '{"numRecords":1}').add()["add"]
    assert isinstance(body, dict)
    return {"add": {**body, **more}}


def remove(path: str) -> dict[str, Json]:
    return AddFile(path, 1, 2).remove(3)


def commits(log: DeltaLog, *actions: Iterable[dict[str, Json]]) -> None:
    log.commit(0, START)
    for version, these in enumerate(actions, 1):
        log.commit(version, [{"commitInfo": {"id": version}}, *these])


# -- following ------------------------------------------------------------------------------------------------------


def test_a_followed_snapshot_is_what_a_replay_gives(log: DeltaLog) -> None:
    """Whichever version it began with; a snapshot that was given out before does not change."""
    txn = Txn("app", 1, 5).action()
    commits(log, [add("a"), add("b")], [remove("a"), add("c"), txn], [remove("b"), add("b", size=7)])
    known = [read_snapshot(log, version) for version in range(4)]
    for snapshot in known:
        assert follow_snapshot(log, snapshot) == known[-1]
    assert known == [read_snapshot(log, version) for version in range(4)]
    assert follow_snapshot(log, known[-1]) is known[-1]


def test_a_process_replays_no_entry_twice(log: DeltaLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does another `DeltaLog` of the table; a new checkpoint is read once."""
    commits(log, [add("a")], [add("b")])
    read = read_entries(monkeypatch)
    first = read_snapshot(log)
    assert read == [0, 1, 2]
    log.commit(3, [{"commitInfo": {}}, remove("a")])
    read.clear()
    assert set(read_snapshot(DeltaLog(log.root)).files) == {"b"}
    assert read == [3]
    assert set(first.files) == {"a", "b"}
    DeltaTable(log.root).create_checkpoint()
    log.commit(4, [{"commitInfo": {}}, add("c")])
    read.clear()
    for _ in range(2):
        assert set(read_snapshot(log).files) == {"b", "c"}
    assert read[-1] == 4
    assert read.count(4) == 1


def test_what_became_of_the_log_meanwhile_is_noticed(log: DeltaLog) -> None:
    commits(log, [add("a")], [add("b")])
    assert set(read_snapshot(log).files) == {"a", "b"}
    entry = log.folder / f"{1:020d}.json"
    good = entry.read_bytes()
    entry.write_bytes(good.replace(b'"a"', b'"z"'))
    assert set(read_snapshot(log).files) == {"z", "b"}
    entry.write_bytes(b"")
    with pytest.raises(TableError, match="no actions"):
        read_snapshot(log)
    entry.unlink()
    with pytest.raises(TableError, match="lacks version 1"):
        read_snapshot(log)
    entry.write_bytes(good)
    (log.folder / f"{2:020d}.json").unlink()
    assert set(read_snapshot(log).files) == {"a"}
    DeltaTable(log.root).create_checkpoint()
    (checkpoint,) = log.folder.glob("*.checkpoint.parquet")
    checkpoint.write_bytes(b"damaged")
    for _ in range(2):
        assert read_snapshot(log).passed_over == (checkpoint,)


def read_entries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The versions of the entries that are read from now on."""
    versions: list[int] = []
    before = DeltaLog.read

    def read(log: DeltaLog, version: int) -> list[dict[str, Json]]:
        versions.append(version)
        return before(log, version)

    monkeypatch.setattr(DeltaLog, "read", read)
    return versions


def test_following_a_log_that_was_cleaned_up_reads_it_anew(log: DeltaLog) -> None:
    commits(log, [add("a")], [add("b")], [add("c")])
    old = read_snapshot(log, 1)
    DeltaTable(log.root).create_checkpoint()
    for version in range(3):
        (log.folder / f"{version:020d}.json").unlink()
    assert set(follow_snapshot(log, old).files) == {"a", "b", "c"}


def test_following_a_table_that_was_dropped_and_made_again_reads_it_anew(log: DeltaLog) -> None:
    commits(log, [add("a")], [add("b")])
    old = read_snapshot(log)
    for path in log.folder.iterdir():
        path.unlink()
    with pytest.raises(TableError, match="no Delta table"):
        follow_snapshot(log, old)
    commits(log, [add("z")])
    assert set(follow_snapshot(log, old).files) == {"z"}


def test_following_meets_a_damaged_commit(log: DeltaLog) -> None:
    commits(log, [add("a")])
    old = read_snapshot(log)
    (log.folder / f"{2:020d}.json").write_text("{")
    with pytest.raises(TableError, match="damaged"):
        follow_snapshot(log, old)


# -- reconciliation -------------------------------------------------------------------------------------------------


def test_adds_removes_and_txns_in_order(log: DeltaLog) -> None:
    commits(
        log,
        [add("a"), add("b"), Txn("x", 1, 1).action()],
        [remove("a"), add("c"), Txn("y", 9, 1).action(), Txn("x", 2, 1).action()],
        [add("a"), remove("c")],
        [add("b", size=7), remove("b")],
    )
    snapshot = read_snapshot(log)
    assert snapshot.version == 4
    assert set(snapshot.files) == {"a", "b"}
    assert snapshot.files["b"].size_bytes == 7
    assert snapshot.txns == {"x": 2, "y": 9}
    assert set(read_snapshot(log, 1).files) == {"a", "b"}
    assert set(read_snapshot(log, 2).files) == {"b", "c"}
    assert read_snapshot(log, 0).files == {}


def test_the_newest_metadata_and_protocol_count_and_unknown_actions_do_not(log: DeltaLog) -> None:
    other = Metadata("id2", SCHEMA_STRING, (), {"k": "v"}, 2)
    commits(
        log,
        [other.action(), ProtocolVersions(2, 5).action()],
        [{"domainMetadata": {"domain": "d"}}, {"cdc": {"path": "p"}}, {"new": {}}],
    )
    snapshot = read_snapshot(log)
    assert (snapshot.metadata, snapshot.protocol) == (other, ProtocolVersions(2, 5))
    assert snapshot.files == {}


def test_tags_statistics_and_paths(log: DeltaLog) -> None:
    commits(log, [add("a%20b.parquet", tags={"k": "v"}, stats=None), add("x.parquet", tags=None)])
    snapshot = read_snapshot(log)
    assert snapshot.files["a%20b.parquet"].tags == {"k": "v"}
    assert snapshot.files["a%20b.parquet"].rows is None
    assert snapshot.paths == [log.root / "a b.parquet", log.root / "x.parquet"]
    assert not snapshot.has_deletion_vectors


@pytest.mark.parametrize(
    ("said", "files", "wrong"),
    [
        ({}, 3, None),
        ({"files": 3}, 3, None),
        ({"files": 3, "rows": 3}, 3, None),
        ({"files": 2, "rows": 3}, 3, "t has 3 data files, by its last commit 2"),
        ({"rows": 4}, 3, "t has 3 rows, by its last commit 4"),
        ({"rows": 499}, 500, "t has 500 rows, by its last commit 499"),
        ({"rows": 499}, 501, None),  # to sum them up would take too long
    ],
)
def test_a_table_is_held_against_the_note_of_our_last_commit(
    log: DeltaLog, said: dict[str, Json], files: int, wrong: str | None
) -> None:
    commits(log, [add(f"{n}.parquet") for n in range(files)])
    assert replace(read_snapshot(log), said=said).mismatch() == wrong


@pytest.mark.parametrize(("value", "takes"), [(None, True), ("true", True), ("false", False), ("FALSE", False)])
def test_rows_are_marked_only_where_protocol_and_property_allow_it(
    log: DeltaLog, value: str | None, takes: bool
) -> None:
    commits(log)
    properties = {} if value is None else {"delta.enableDeletionVectors": value}
    metadata = Metadata("id", SCHEMA_STRING, (), properties, 1)
    plain = replace(read_snapshot(log), metadata=metadata)
    assert replace(plain, protocol=WITH_VECTORS).takes_vectors == takes
    assert not plain.takes_vectors


@pytest.mark.parametrize("path", ["/elsewhere/a.parquet", "file:///elsewhere/a.parquet", "s3://bucket/a.parquet"])
def test_a_file_of_another_table_is_refused(log: DeltaLog, path: str) -> None:
    commits(log, [add(path)])
    with pytest.raises(UnsupportedTableError, match="outside its folder"):
        _ = read_snapshot(log).paths


# -- damage ---------------------------------------------------------------------------------------------------------


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no Delta table") as caught:
        read_snapshot(DeltaLog(tmp_path))
    assert caught.value.hint


def test_a_hole_in_the_log(log: DeltaLog) -> None:
    commits(log, [add("a")], [add("b")], [add("c")])
    (log.folder / f"{2:020d}.json").unlink()
    with pytest.raises(TableError, match="lacks version 2"):
        read_snapshot(log)
    assert set(read_snapshot(log, 1).files) == {"a"}
    log.commit(2, [add("b")])
    with pytest.raises(TableError, match="lacks version 4"):
        read_snapshot(log, 9)


@pytest.mark.parametrize(
    "data",
    [
        b"{", b"null\n", b"[1]\n", b'{"add":{}}\n', b'{"add":{"path":"a","size":"x","modificationTime":1}}\n',
        b'{"remove":{}}\n', b"7\n", b'{"add":5}\n',
        b'{"txn":{"appId":"a"}}\n', b'{"protocol":{}}\n', b'{"metaData":{}}\n', b"\xff\n",
    ],
)  # fmt: skip
def test_a_damaged_entry_is_a_table_error(log: DeltaLog, data: bytes) -> None:
    commits(log)
    (log.folder / f"{1:020d}.json").write_bytes(data)
    with pytest.raises(TableError, match="damaged"):
        read_snapshot(log)


@pytest.mark.parametrize("missing", [1, 2])
def test_a_log_without_schema_or_protocol(log: DeltaLog, missing: int) -> None:
    log.commit(0, [action for n, action in enumerate(START) if n != missing])
    with pytest.raises(TableError, match="no schema"):
        read_snapshot(log)


def test_a_damaged_checkpoint_is_passed_over_for_the_entries(log: DeltaLog) -> None:
    commits(log, [add("a")], [add("b")])
    path = log.folder / f"{1:020d}.checkpoint.parquet"
    path.write_bytes(b"PAR1 nonsense")
    found = read_snapshot(log)
    assert (set(found.files), found.passed_over) == ({"a", "b"}, (path,))
    log.commit(3, [{"commitInfo": {}}, add("c")])
    assert follow_snapshot(log, found).passed_over == (path,)
    path.unlink()
    assert read_snapshot(log).passed_over == ()


@pytest.mark.parametrize("damage", ["empty", "cut", "no schema"])
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(log: DeltaLog, damage: str) -> None:
    commits(log, [add("a")], [add("b")])
    DeltaTable(log.root, version=1).create_checkpoint()
    DeltaTable(log.root, version=2).create_checkpoint()
    (log.folder / f"{0:020d}.json").unlink()
    path = log.folder / f"{2:020d}.checkpoint.parquet"
    if damage == "no schema":
        rows = pq.read_table(path)
        pq.write_table(rows.filter(pa.array([not rows["add"][i].is_valid for i in range(rows.num_rows)]))[:0], path)
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-100])
    found = read_snapshot(log)
    assert (set(found.files), found.passed_over) == ({"a", "b"}, (path,))
    assert read_tombstones(log) == []


def test_a_damaged_checkpoint_whose_entries_are_gone_is_a_table_error(log: DeltaLog) -> None:
    commits(log, [add("a")])
    path = log.folder / f"{1:020d}.checkpoint.parquet"
    path.write_bytes(b"PAR1 nonsense")
    (log.folder / f"{0:020d}.json").unlink()
    with pytest.raises(TableError, match=f"lacks version 0; the checkpoint {path} is damaged"):
        read_snapshot(log)


# -- checkpoints ----------------------------------------------------------------------------------------------------


def split_checkpoint(log: DeltaLog, version: int, parts: int) -> None:
    """Cut a checkpoint of one file into one of several, as Spark writes large ones."""
    path = log.folder / f"{version:020d}.checkpoint.parquet"
    whole = pq.read_table(path)
    path.unlink()
    for part in range(parts):
        rows = whole.take(list(range(part, whole.num_rows, parts)))
        pq.write_table(rows, log.folder / f"{version:020d}.checkpoint.{part + 1:010d}.{parts:010d}.parquet")


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_checkpoints_of_one_or_many_parts(log: DeltaLog, parts: int) -> None:
    commits(log, [add(f"f{n}", tags={"n": str(n)}) for n in range(5)], [remove("f0"), Txn("x", 4, 1).action()])
    before = read_snapshot(log)
    DeltaTable(log.root).create_checkpoint()
    if parts > 1:
        split_checkpoint(log, 2, parts)
    log.commit(3, [{"commitInfo": {}}, add("later"), remove("f1")])
    for version in range(3):
        (log.folder / f"{version:020d}.json").unlink()
    after = read_snapshot(log)
    assert set(after.files) == {"f2", "f3", "f4", "later"}
    assert after.files["f2"] == before.files["f2"]
    assert after.txns == {"x": 4}
    assert after.metadata.table_id == before.metadata.table_id
    assert set(read_snapshot(log, 2).files) == {"f1", "f2", "f3", "f4"}
    with pytest.raises(TableError, match="lacks version"):
        read_snapshot(log, 1)


def test_a_checkpoint_that_lacks_a_part_does_not_count(log: DeltaLog) -> None:
    commits(log, [add("a")], [add("b")])
    DeltaTable(log.root).create_checkpoint()
    split_checkpoint(log, 2, 2)
    (log.folder / f"{2:020d}.checkpoint.{1:010d}.{2:010d}.parquet").unlink()
    assert set(read_snapshot(log).files) == {"a", "b"}
    (log.folder / f"{0:020d}.json").unlink()
    with pytest.raises(TableError, match="lacks version 0"):
        read_snapshot(log)


# -- what we do not write to ----------------------------------------------------------------------------------------


def snapshot_with(root: Path, protocol: ProtocolVersions, **metadata: object) -> Snapshot:
    parts = {"schema_string": SCHEMA_STRING, "partition_columns": (), "properties": {}, **metadata}
    return Snapshot(root, 0, {}, {}, Metadata("id", created_ms=1, **parts), protocol)  # type: ignore[arg-type]


# Every name in Delta's protocol and in its drafts, and one of the future: whether readers must know it, too, and
# whether we write to a table that lists it and does not use it.
FEATURES = [
    ("allowColumnDefaults", False, True), ("appendOnly", False, True), ("changeDataFeed", False, True),
    ("catalogManaged", True, False), ("catalogOwned-preview", True, False), ("checkConstraints", False, True),
    ("checkpointProtection", False, True), ("clustering", False, False), ("collations-preview", False, False),
    ("columnMapping", True, True), ("deletionVectors", True, True), ("domainMetadata", False, True),
    ("generatedColumns", False, True), ("icebergCompatV1", False, True), ("icebergCompatV2", False, True),
    ("icebergCompatV3", False, False), ("icebergWriterCompatV1", False, False), ("identityColumns", False, True),
    ("inCommitTimestamp", False, True), ("invariants", False, True), ("materializePartitionColumns", False, False),
    ("rowTracking", False, False), ("timestampNtz", True, True), ("typeWidening", True, True),
    ("typeWidening-preview", True, True), ("v2Checkpoint", True, True), ("vacuumProtocolCheck", True, True),
    ("variantType", True, True), ("variantType-preview", True, False), ("variantShredding", True, False),
    ("variantShredding-preview", True, False), ("somethingNew", True, False), ("somethingNew", False, False),
]  # fmt: skip


@pytest.mark.parametrize(("feature", "of_readers", "supported"), FEATURES)
def test_a_feature_is_supported_or_refused_by_name(
    log: DeltaLog, feature: str, of_readers: bool, supported: bool
) -> None:
    protocol = ProtocolVersions(3, 7, (feature,) if of_readers else (), (feature,))
    log.commit(0, [{"commitInfo": {}}, protocol.action(), METADATA.action()])
    table = Table(log.root, COLUMNS)
    before = {path: path.read_bytes() for path in log.root.rglob("*") if path.is_file()}
    base = read_snapshot(log)
    change = Change(Txn("app", 1, 1), "LOAD", [AddFile("a.parquet", 1, 1)])
    if supported:
        assert table.commit(base, change) == 1
        return
    with pytest.raises(UnsupportedTableError, match=feature) as caught:
        table.commit(base, change)
    assert "not touched" in caught.value.message
    assert {path: path.read_bytes() for path in log.root.rglob("*") if path.is_file()} == before
    if of_readers:
        with pytest.raises(UnsupportedTableError, match=feature), duckdb.connect() as con:
            scan_sql(con, base, COLUMNS)
    else:
        base.require_readable()


@pytest.mark.parametrize(
    ("reader", "writer", "good"),
    [(1, 1, True), (1, 2, True), (1, 3, True), (2, 5, True), (1, 6, True), (3, 7, True), (4, 8, False)],
)
def test_protocol_versions(tmp_path: Path, reader: int, writer: int, good: bool) -> None:
    snapshot = snapshot_with(tmp_path, ProtocolVersions(reader, writer))
    if good:
        snapshot.require_writable()
    else:
        with pytest.raises(UnsupportedTableError):
            snapshot.require_writable()


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("delta.appendOnly", "true", False), ("delta.appendOnly", "TRUE", False), ("delta.appendOnly", "false", True),
        ("delta.enableChangeDataFeed", "true", True), ("delta.enableRowTracking", "true", False),
        ("delta.columnMapping.mode", "name", False),
        ("delta.columnMapping.mode", "id", False), ("delta.columnMapping.mode", "none", True),
        ("delta.constraints.positive", "n > 0", False),
        ("delta.setTransactionRetentionDuration", "interval 1 day", False),
        ("delta.enableDeletionVectors", "true", True),
        ("ordertrail.appId", "x", True), ("delta.checkpointInterval", "5", True),
    ],
)  # fmt: skip
def test_properties(tmp_path: Path, name: str, value: str, good: bool) -> None:
    snapshot = snapshot_with(tmp_path, ProtocolVersions(1, 2), properties={name: value})
    if good:
        snapshot.require_writable()
    else:
        with pytest.raises(
            UnsupportedTableError, match=name.rpartition(".")[2] if "Mapping" not in name else "column mapping"
        ):
            snapshot.require_writable()


ACTIVE: list[tuple[str, dict[str, str], dict[str, object]]] = [
    ("checkConstraints", {"delta.constraints.positive": "n > 0"}, {}),
    ("generatedColumns", {}, {"delta.generationExpression": "1"}),
    ("identityColumns", {}, {"delta.identity.start": 1}),
    ("allowColumnDefaults", {}, {"CURRENT_DEFAULT": "1"}),
    ("inCommitTimestamp", {"delta.enableInCommitTimestamps": "true"}, {}),
    ("icebergCompatV1", {"delta.enableIcebergCompatV1": "true"}, {}),
    ("icebergCompatV2", {"delta.enableIcebergCompatV2": "true"}, {}),
    ("columnMapping", {"delta.columnMapping.mode": "name"}, {}),
    ("typeWidening", {}, {"delta.typeChanges": [{"fromType": "integer", "toType": "long"}]}),
]


@pytest.mark.parametrize(("feature", "properties", "field"), ACTIVE)
def test_a_feature_is_judged_by_what_uses_it(
    tmp_path: Path, feature: str, properties: dict[str, str], field: dict[str, object]
) -> None:
    """Listed and used it is refused; listed only, as after the last CHECK was dropped, it is not."""
    of_readers = (feature,) if feature in ("columnMapping", "typeWidening") else ()
    protocol = ProtocolVersions(3, 7, of_readers, (feature,))
    snapshot_with(tmp_path, protocol).require_writable()
    schema = json.loads(SCHEMA_STRING)
    schema["fields"][0]["metadata"] = field
    used = snapshot_with(tmp_path, protocol, properties=properties, schema_string=json.dumps(schema))
    with pytest.raises(UnsupportedTableError):
        used.require_writable()
    # Old writer versions bring it along without a list.
    if feature in ("checkConstraints", "generatedColumns", "identityColumns"):
        old = ProtocolVersions(1, 6)
        snapshot_with(tmp_path, old).require_writable()
        with pytest.raises(UnsupportedTableError):
            snapshot_with(tmp_path, old, properties=properties, schema_string=json.dumps(schema)).require_writable()


def test_partitions_and_invariants_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedTableError, match="partitions by n"):
        snapshot_with(tmp_path, ProtocolVersions(1, 2), partition_columns=("n",)).require_writable()
    schema = json.loads(SCHEMA_STRING)
    schema["fields"][0]["metadata"] = {"delta.invariants": '{"expression":{"expression":"n > 3"}}'}
    with pytest.raises(UnsupportedTableError, match="invariants"):
        snapshot_with(tmp_path, ProtocolVersions(1, 2), schema_string=json.dumps(schema)).require_writable()


@pytest.mark.parametrize(
    ("reader", "writer", "features", "value", "on"),
    [
        (1, 2, (), "true", False), (1, 4, (), "true", True), (1, 4, (), "TRUE", True), (1, 4, (), "false", False),
        (1, 6, (), "true", True), (1, 7, (), "true", False), (1, 7, ("changeDataFeed",), "true", True),
        (3, 7, ("deletionVectors", "changeDataFeed"), "true", True), (1, 7, ("changeDataFeed",), None, False),
    ],
)  # fmt: skip
def test_when_the_change_data_feed_is_on(
    tmp_path: Path, reader: int, writer: int, features: tuple[str, ...], value: str | None, on: bool
) -> None:
    """PROTOCOL.md, "Writer Requirements for AddCDCFile": at version 7 the feature must be listed."""
    properties = {} if value is None else {"delta.enableChangeDataFeed": value}
    protocol = ProtocolVersions(reader, writer, (), features)
    assert snapshot_with(tmp_path, protocol, properties=properties).feeds_changes is on
    raised = protocol.with_change_feed()
    assert snapshot_with(tmp_path, raised, properties={"delta.enableChangeDataFeed": "true"}).feeds_changes
    assert raised.reader == reader
    assert set(features) <= set(raised.writer_features)
    assert raised.with_change_feed() == raised


def test_the_change_data_feed_that_delta_rs_switches_on_is_seen_in_its_log(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"n": [1]}), configuration={"delta.enableChangeDataFeed": "true"})
    snapshot = read_snapshot(DeltaLog(tmp_path / "t"))
    snapshot.require_writable()
    assert snapshot.feeds_changes


# -- random histories, ours and theirs ------------------------------------------------------------------------------

STEPS = (
    "ours adds", "ours replaces", "ours removes", "ours marks", "append", "delete", "optimize", "checkpoint",
    "overwrite", "restore", "cut",
)  # fmt: skip


class History:
    """One table, written by us and by delta-rs in turn."""

    def __init__(self, root: Path) -> None:
        self.table = Table(root, COLUMNS)
        self.table.create({}, vectors=True)
        self.next = 0

    def rows(self, count: int = 3) -> pa.Table:
        self.next += count
        return pa.table({"n": list(range(self.next - count, self.next)), "t": ["x"] * count}, schema=SCHEMA)

    def ours(self, *, removing: int, adding: bool) -> None:
        base = self.table.snapshot()
        added = []
        if adding:
            path = self.table.root / f"ours-{uuid.uuid4().hex}.parquet"
            pq.write_table(self.rows(), path)
            added = [self.table.added(path, 3)]
        gone = list(base.files.values())[:removing]
        self.table.commit(base, Change(Txn("ours", base.version, 1), "LOAD", added, gone))

    def ours_marks(self) -> None:
        """One more row of every file in a vector, in one commit; a file whose rows are all gone goes."""
        base = self.table.snapshot()
        marked: list[tuple[AddFile, np.ndarray, int]] = []
        for file in base.files.values():
            gone = deleted_rows(base.root, file)
            rows = pq.read_metadata(base.path_of(file)).num_rows
            more = np.setdiff1d(np.arange(rows), gone)[: 1 if rows > 1 else 0]
            if len(gone) + len(more) < rows:
                marked.append((file, np.union1d(gone, more), rows))
        vectors = write_vectors(base.root, [rows for _, rows, _ in marked if len(rows)])
        pairs = zip((m for m in marked if len(m[1])), vectors, strict=True)
        added = [file.marked(vector, rows) for (file, _, rows), vector in pairs]
        gone_files = [
            file for file in base.files.values() if file.path not in {f.path for f, r, _ in marked if not len(r)}
        ]
        self.table.commit(base, Change(Txn("ours", base.version, 1), "LOAD", added, gone_files))

    def restore(self) -> None:
        """Two versions back, or as far as the log goes."""
        commits, _ = self.table.log.entries()
        if commits[0] < commits[-1]:
            DeltaTable(self.table.root).restore(max(commits[0], commits[-1] - 2))

    def step(self, name: str) -> None:
        root = self.table.root
        match name:
            case "ours adds":
                self.ours(removing=0, adding=True)
            case "ours replaces":
                self.ours(removing=99, adding=True)
            case "ours removes":
                self.ours(removing=1, adding=False)
            case "ours marks":
                self.ours_marks()
            case "restore":
                self.restore()
            case "append":
                txn = CommitProperties(app_transactions=[Transaction("theirs", self.next)])
                write_deltalake(root, self.rows(), mode="append", commit_properties=txn)
            case "overwrite":
                write_deltalake(root, self.rows(), mode="overwrite")
            case "delete":
                DeltaTable(root).delete(f"n % 3 = 0 AND n < {self.next - 2}")
            case "optimize":
                DeltaTable(root).optimize.compact()
            case "checkpoint":
                DeltaTable(root).create_checkpoint()
            case "cut":
                _, checkpoints = self.table.log.entries()
                for version in range(max(checkpoints, default=0)):
                    (self.table.log.folder / f"{version:020d}.json").unlink(missing_ok=True)


@settings(max_examples=25)
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=8))
def test_the_same_files_and_rows_as_delta_rs_sees(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    history = History(tmp_path_factory.mktemp("history") / "t")
    with duckdb.connect() as con:
        for step in steps:
            history.step(step)
            snapshot, theirs = history.table.snapshot(), DeltaTable(history.table.root)
            assert snapshot.version == theirs.version()
            assert {path.name for path in snapshot.paths} == {
                urllib.parse.unquote(uri).rpartition("/")[2] for uri in theirs.file_uris()
            }
            for app in ("ours", "theirs"):
                assert snapshot.txns.get(app) == theirs.transaction_version(app)
            found = con.execute(f"SELECT n FROM {scan_sql(con, snapshot, COLUMNS)} ORDER BY n").fetchall()
            rows = pa.table(QueryBuilder().register("t", theirs).execute("SELECT n FROM t"))
            assert [n for (n,) in found] == sorted(rows.column("n").to_pylist())
