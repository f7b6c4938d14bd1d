"""Checkpoints of both specifications, and what they and the commits still say of files that are gone."""

from __future__ import annotations

import json
import re
import urllib.parse
import uuid
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from ordertrail.delta.actions import WITH_VECTORS, AddFile, Json, Metadata, ProtocolVersions, Txn, schema_string
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot, read_snapshot, read_tombstones
from ordertrail.errors import TableError
from tests.vectors import inline_vector

METADATA = Metadata("id", schema_string([("n", "long", True)]), (), {}, 1)
START: list[dict[str, Json]] = [{"commitInfo": {}}, WITH_VECTORS.action(), METADATA.action()]


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


def split_checkpoint(log: DeltaLog, version: int, parts: int) -> None:
    """Cut a checkpoint of one file into one of several, as Spark writes large ones."""
    path = log.folder / f"{version:020d}.checkpoint.parquet"
    whole = pq.read_table(path)
    path.unlink()
    for part in range(parts):
        rows = whole.take(list(range(part, whole.num_rows, parts)))
        pq.write_table(rows, log.folder / f"{version:020d}.checkpoint.{part + 1:010d}.{parts:010d}.parquet")


UUIDS = [str(uuid.UUID(int=n)) for n in (1, 2)]


def v2_name(version: int, uuid: str = UUIDS[0], suffix: str = "json") -> str:
    return f"{version:020d}.checkpoint.{uuid}.{suffix}"


def nullable(kind: pa.DataType) -> pa.DataType:
    """A type without the members that must be there: in the rows of other actions they are not."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, nullable(field.type)) for field in kind])
    return kind


def write_v2(log: DeltaLog, version: int, name: str, sidecars: int, *, stated: int | None = None) -> None:
    """Turn the classic checkpoint of a version, by delta-rs, into one of the V2 specification."""
    classic = log.folder / f"{version:020d}.checkpoint.parquet"
    table = pq.read_table(classic)
    classic.unlink()
    table = table.select([n for n in table.column_names if n not in ("sidecar", "checkpointMetadata")])
    table = table.cast(pa.schema([(field.name, nullable(field.type)) for field in table.schema]))
    is_file = pc.or_(table.column("add").is_valid(), table.column("remove").is_valid())
    in_sidecars = is_file if sidecars else pa.array([False] * len(table))
    top, files = table.filter(pc.invert(in_sidecars)), table.filter(in_sidecars).select(["add", "remove"])
    actions: list[dict[str, object]] = [{"checkpointMetadata": {"version": version if stated is None else stated}}]
    folder = log.folder / "_sidecars"
    folder.mkdir(exist_ok=True)
    for part in range(sidecars):
        path = folder / f"{uuid.uuid4()} {part}.parquet"
        pq.write_table(files.take(list(range(part, len(files), sidecars))), path)
        size, modified = path.stat().st_size, 1
        found = {"path": urllib.parse.quote(path.name), "sizeInBytes": size, "modificationTime": modified}
        actions.append({"sidecar": found})
    rows = [{k: v for k, v in row.items() if v is not None} for row in top.to_pylist(maps_as_pydicts="strict")]
    if name.endswith(".json"):
        (log.folder / name).write_text("".join(json.dumps(row) + "\n" for row in [*actions, *rows]))
        return
    more = {
        key: pa.array([a.get(key) for a in actions])
        for key in ("checkpointMetadata", "sidecar")
        if any(key in a for a in actions)
    }
    pq.write_table(pa.concat_tables([pa.table(more), top], promote_options="default"), log.folder / name)


def cut(log: DeltaLog, below: int) -> None:
    for version in range(below):
        (log.folder / f"{version:020d}.json").unlink()


def history_with_vectors(log: DeltaLog) -> Snapshot:
    """Ten files, two of them with vectors, one removed, a txn: version 2 has a classic checkpoint."""
    vectors = {path: inline_vector(rows) for path, rows in (("f1", [3, 4]), ("f2", [0]))}
    log.commit(0, START)
    log.commit(1, [{"commitInfo": {}}, *(add(f"f{n}", tags={"n": str(n)}) for n in range(10))])
    marked = [action for path, vector in vectors.items() for action in (remove(path), add(path, deletionVector=vector))]
    log.commit(2, [{"commitInfo": {}}, remove("f0"), *marked, Txn("x", 4, 1).action()])
    DeltaTable(log.root).create_checkpoint()
    return read_snapshot(log)


@pytest.mark.parametrize("sidecars", [0, 1, 3])
@pytest.mark.parametrize(
    "name",
    [v2_name(2), v2_name(2, suffix="parquet"), f"{2:020d}.checkpoint.parquet"],
    ids=["json", "parquet", "classic"],
)
def test_a_v2_checkpoint(log: DeltaLog, name: str, sidecars: int) -> None:
    before = history_with_vectors(log)
    write_v2(log, 2, name, sidecars)
    cut(log, 3)
    after = read_snapshot(log)
    assert (after.files, after.txns, after.protocol) == (before.files, before.txns, before.protocol)
    assert after.metadata.table_id == before.metadata.table_id
    assert sum(file.deletion_vector is not None for file in after.files.values()) == 2
    log.commit(3, [{"commitInfo": {}}, add("later"), remove("f1")])
    assert set(read_snapshot(log).files) == {"later", *(f"f{n}" for n in range(2, 10))}


def test_delta_rs_reads_these_v2_checkpoints_as_we_do(log: DeltaLog) -> None:
    features = ("deletionVectors", "v2Checkpoint")
    log.commit(0, [{"commitInfo": {}}, ProtocolVersions(3, 7, features, features).action(), METADATA.action()])
    log.commit(1, [{"commitInfo": {}}, *(add(f"f{n}") for n in range(5))])
    log.commit(2, [{"commitInfo": {}}, remove("f0")])
    DeltaTable(log.root).create_checkpoint()
    write_v2(log, 2, v2_name(2), 2)
    (log.folder / "_last_checkpoint").unlink()
    cut(log, 3)
    ours = read_snapshot(log)
    ours.require_writable()
    theirs = DeltaTable(log.root).file_uris()
    assert sorted(Path(uri).name for uri in theirs) == sorted(ours.files) == ["f1", "f2", "f3", "f4"]


def test_of_several_checkpoints_of_a_version_any_whole_one_is_enough(log: DeltaLog) -> None:
    """A classic one, one that lacks a part, and two of V2; they go one by one."""
    before = history_with_vectors(log)
    classic = log.folder / f"{2:020d}.checkpoint.parquet"
    kept = classic.read_bytes()
    for number in UUIDS:
        classic.write_bytes(kept)
        write_v2(log, 2, v2_name(2, number), 1)
    classic.write_bytes(kept)
    split_checkpoint(log, 2, 3)
    parts = sorted(log.folder.glob("*.checkpoint.*.0000000003.parquet"))
    parts[1].unlink()
    classic.write_bytes(kept)
    cut(log, 3)
    for gone in (classic, parts[0], log.folder / v2_name(2, UUIDS[1]), parts[2]):
        assert read_snapshot(log).files == before.files
        gone.unlink()
    assert read_snapshot(log).files == before.files
    assert list(log.entries()[1]) == [2]
    (log.folder / v2_name(2)).unlink()
    with pytest.raises(TableError, match="no Delta table"):
        read_snapshot(log)


def test_a_whole_checkpoint_of_parts_beside_one_that_lacks_a_part(log: DeltaLog) -> None:
    before = history_with_vectors(log)
    kept = (log.folder / f"{2:020d}.checkpoint.parquet").read_bytes()
    split_checkpoint(log, 2, 2)
    (log.folder / f"{2:020d}.checkpoint.parquet").write_bytes(kept)
    split_checkpoint(log, 2, 3)
    next(log.folder.glob("*.0000000002.parquet")).unlink()
    cut(log, 3)
    assert read_snapshot(log).files == before.files


def test_a_v2_checkpoint_that_lacks_a_sidecar_is_damaged(log: DeltaLog) -> None:
    history_with_vectors(log)
    write_v2(log, 2, v2_name(2), 2)
    gone = sorted((log.folder / "_sidecars").iterdir())[0]
    gone.unlink()
    assert read_snapshot(log).passed_over == (log.folder / v2_name(2),)
    (log.folder / f"{0:020d}.json").unlink()
    with pytest.raises(TableError, match=re.escape(str(gone))):
        read_snapshot(log)


@pytest.mark.parametrize("sidecar", ["../secret.parquet", "/elsewhere/s.parquet", "s3://bucket/s.parquet", "%2e%2e/s"])
def test_a_sidecar_elsewhere_is_refused(log: DeltaLog, sidecar: str) -> None:
    history_with_vectors(log)
    write_v2(log, 2, v2_name(2), 0)
    path = log.folder / v2_name(2)
    path.write_text(path.read_text() + json.dumps({"sidecar": {"path": sidecar}}) + "\n")
    assert read_snapshot(log).passed_over == (path,)
    (log.folder / f"{0:020d}.json").unlink()
    with pytest.raises(TableError, match="outside"):
        read_snapshot(log)


def test_a_sidecar_by_its_whole_path(log: DeltaLog) -> None:
    before = history_with_vectors(log)
    write_v2(log, 2, v2_name(2), 1)
    path, (sidecar,) = log.folder / v2_name(2), (log.folder / "_sidecars").iterdir()
    path.write_text(path.read_text().replace(urllib.parse.quote(sidecar.name), sidecar.as_uri()))
    assert "file:///" in path.read_text()
    assert read_snapshot(log).files == before.files


@pytest.mark.parametrize("damage", ["no metadata", "another version", "half a line", "no JSON"])
def test_a_damaged_v2_checkpoint_is_a_table_error(log: DeltaLog, damage: str) -> None:
    history_with_vectors(log)
    write_v2(log, 2, v2_name(2), 1, stated=1 if damage == "another version" else None)
    path = log.folder / v2_name(2)
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "no metadata":
        lines = lines[1:]
    elif damage == "half a line":
        lines[-1] = lines[-1][:-5]
    elif damage == "no JSON":
        lines = [b"\xff\n", b"null\n"]
    path.write_bytes(b"".join(lines))
    assert read_snapshot(log).passed_over == (path,)
    (log.folder / f"{0:020d}.json").unlink()
    with pytest.raises(TableError, match=r"checkpoint|damaged") as caught:
        read_snapshot(log)
    assert caught.value.hint


# -- tombstones -----------------------------------------------------------------------------------------------------


def removed(path: str, at_ms: int | None, vector: dict[str, Json] | None = None) -> dict[str, Json]:
    body: dict[str, Json] = {"path": path, "dataChange": True}
    if at_ms is not None:
        body["deletionTimestamp"] = at_ms
    if vector is not None:
        body["deletionVector"] = vector
    return {"remove": body}


def test_tombstones_of_the_commits(log: DeltaLog) -> None:
    vector = inline_vector([1])
    commits(
        log,
        [add("a"), add("b"), add("c")],
        [removed("a", 5), removed("b", None)],
        [add("a")],
        [removed("a", 9), add("a", deletionVector=vector)],
        [removed("a", 12, vector)],
    )
    text = json.dumps(vector)
    assert read_tombstones(log) == [("a", None, 9), ("b", None, None), ("a", text, 12)]
    assert read_tombstones(log)[2].file == AddFile("a", 0, 0, None, text)


NOW_MS = 4_000_000_000_000  # a checkpoint forgets what was removed long before its own time


@pytest.mark.parametrize("sidecars", [None, 0, 2])
def test_tombstones_of_a_checkpoint_and_of_all_commits_that_are_there(log: DeltaLog, sidecars: int | None) -> None:
    vector = inline_vector([1])
    log.commit(0, START)
    log.commit(1, [{"commitInfo": {}}, add("a"), add("b"), add("c")])
    log.commit(2, [{"commitInfo": {}}, removed("a", NOW_MS), removed("b", NOW_MS), add("b", deletionVector=vector)])
    log.commit(3, [{"commitInfo": {}}, removed("old", 7), removed("b", NOW_MS + 1, vector)])
    DeltaTable(log.root).create_checkpoint()
    if sidecars is not None:
        write_v2(log, 3, v2_name(3), sidecars)
    cut(log, 3)
    log.commit(4, [{"commitInfo": {}}, removed("c", 8)])
    found = {
        (t.path, t.deletion_vector and json.loads(t.deletion_vector)["cardinality"], t.deleted_ms)
        for t in read_tombstones(log)
    }
    assert found == {("a", None, NOW_MS), ("b", None, NOW_MS), ("b", 1, NOW_MS + 1), ("old", None, 7), ("c", None, 8)}
    by_text = [t.deletion_vector for t in read_tombstones(log) if t.deletion_vector]
    assert len(by_text) == 1, "the same vector twice: once from the checkpoint, once from the commit"


def test_tombstones_of_a_damaged_log(log: DeltaLog) -> None:
    commits(log, [{"remove": {}}])
    with pytest.raises(TableError, match="damaged"):
        read_tombstones(log)
    assert read_tombstones(DeltaLog(log.root / "none")) == []
