"""Deletion vectors: our bytes are Delta's bytes, other readers agree, and a damaged one never brings a row back."""

from __future__ import annotations

import errno
import json
import os
import struct
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ordertrail.delta.actions import AddFile, Json
from ordertrail.delta.table import Table, scan_sql
from ordertrail.delta.vectors import FOLDER, deleted_rows, read_vector, vector_file, write_vectors
from ordertrail.errors import StorageError, TableError, UnsupportedTableError
from ordertrail.rules.tables import TableColumn
from tests.vectors import file_vector, inline_vector, roaring, z85

COLUMNS = (TableColumn("n", "bigint", ""),)
FEATURES: list[Json] = ["deletionVectors"]

# Of Delta's own tests: the rows 3, 4, 7, 11, 18, 29.
DELTAS_OWN: dict[str, Json] = {
    "storageType": "i",
    "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
    "sizeInBytes": 44,
    "cardinality": 6,
}


def numbers(*rows: int) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def ours(root: Path, *rows: int) -> dict[str, Json]:
    """One vector of ours."""
    (descriptor,) = write_vectors(root, [numbers(*rows)])
    return descriptor


def on_disk(root: Path, descriptor: Mapping[str, Json]) -> Path:
    path = vector_file(root, descriptor)
    assert path is not None
    return path


# -- bytes ----------------------------------------------------------------------------------------------------------


def test_the_bytes_are_those_of_an_encoder_by_hand(tmp_path: Path) -> None:
    sets: list[list[int]] = [[0], [3, 4, 7, 11, 18, 29], [5, 65536, 70000, 1 << 33, (1 << 33) + 9]]
    descriptors = write_vectors(tmp_path, [numbers(*rows) for rows in sets])
    (path,) = (tmp_path / FOLDER).iterdir()
    number = uuid.UUID(path.stem.removeprefix("deletion_vector_"))
    assert path.name == f"deletion_vector_{number}.bin"
    content = b"\x01"
    for rows, descriptor in zip(sets, descriptors, strict=True):
        payload = roaring(rows)
        assert descriptor == {
            "storageType": "u",
            "pathOrInlineDv": "_dv" + z85(number.bytes),
            "offset": len(content),
            "sizeInBytes": len(payload),
            "cardinality": len(rows),
        }
        assert on_disk(tmp_path, descriptor) == path
        content += struct.pack(">I", len(payload)) + payload + struct.pack(">I", zlib.crc32(payload))
    assert path.read_bytes() == content


@pytest.mark.parametrize("prefix", ["", "ab", "_dv", "a/b"])
def test_vectors_written_by_hand_are_read(tmp_path: Path, prefix: str) -> None:
    rows = [0, 9, 65535, 65536, (1 << 40) + 1]
    (tmp_path / "a").mkdir()
    descriptor = file_vector(tmp_path, rows, prefix)
    assert on_disk(tmp_path, descriptor).parent == tmp_path / prefix
    assert read_vector(tmp_path, descriptor).tolist() == rows
    assert read_vector(tmp_path, inline_vector(rows)).tolist() == rows
    assert vector_file(tmp_path, inline_vector(rows)) is None


def test_a_vector_of_deltas_own_tests(tmp_path: Path) -> None:
    found = read_vector(tmp_path, DELTAS_OWN)
    assert found.tolist() == [3, 4, 7, 11, 18, 29]
    assert found.dtype == np.int64


def test_no_vectors_make_no_file(tmp_path: Path) -> None:
    assert write_vectors(tmp_path, []) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [numbers(), numbers(3, -1)])
def test_a_vector_marks_rows_that_there_can_be(tmp_path: Path, rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one row or more"):
        write_vectors(tmp_path, [numbers(1), rows])
    assert list(tmp_path.iterdir()) == []


def test_the_order_and_repetitions_and_the_type_do_not_matter(tmp_path: Path) -> None:
    (descriptor,) = write_vectors(tmp_path, [np.array([9, 2, 9, 4], dtype=np.uint32)])
    assert descriptor["cardinality"] == 3
    assert read_vector(tmp_path, descriptor).tolist() == [2, 4, 9]


ROWS = st.one_of(
    st.sets(st.integers(0, 200_000), min_size=1, max_size=60),
    st.sets(st.integers(0, (1 << 40) - 1), min_size=1, max_size=20),
    st.builds(lambda start, size: set(range(start, start + size)), st.integers(0, 1 << 33), st.integers(1, 9_000)),
    st.builds(lambda start, step: set(range(start, start + 20_000, step)), st.integers(0, 1 << 17), st.integers(2, 4)),
)


@settings(max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, sets: list[set[int]]) -> None:
    root = tmp_path_factory.mktemp("vectors")
    descriptors = write_vectors(root, [numbers(*sorted(rows)) for rows in sets])
    assert len(list((root / FOLDER).iterdir())) == 1
    for rows, descriptor in zip(sets, descriptors, strict=True):
        assert read_vector(root, json.loads(json.dumps(descriptor))).tolist() == sorted(rows)


# -- damage ---------------------------------------------------------------------------------------------------------


def test_every_damaged_byte_of_a_vector_is_seen(tmp_path: Path) -> None:
    other, descriptor = write_vectors(tmp_path, [numbers(1), numbers(3, 4, 70_000)])
    path = on_disk(tmp_path, descriptor)
    sound = path.read_bytes()
    for at in [0, *range(int(str(descriptor["offset"])), len(sound))]:
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x41]) + sound[at + 1 :])
        with pytest.raises(TableError, match="damaged") as caught:
            read_vector(tmp_path, descriptor)
        assert path.name in caught.value.message
        assert caught.value.hint
    path.write_bytes(sound)
    assert read_vector(tmp_path, descriptor).tolist() == [3, 4, 70_000]
    assert read_vector(tmp_path, other).tolist() == [1]


def test_every_truncation_is_seen(tmp_path: Path) -> None:
    descriptor = ours(tmp_path, 3, 4, 70_000)
    path = on_disk(tmp_path, descriptor)
    sound = path.read_bytes()
    for size in range(len(sound)):
        path.write_bytes(sound[:size])
        with pytest.raises(TableError, match="damaged"):
            read_vector(tmp_path, descriptor)


@pytest.mark.parametrize(
    "change",
    [
        {"cardinality": 2}, {"cardinality": 4}, {"cardinality": None}, {"cardinality": "3"}, {"cardinality": -1},
        {"sizeInBytes": 9}, {"sizeInBytes": None}, {"sizeInBytes": 1 << 20}, {"sizeInBytes": 0}, {"sizeInBytes": "x"},
        {"offset": 0}, {"offset": None}, {"offset": 2}, {"offset": -1}, {"offset": "1"}, {"offset": 1 << 20},
        {"pathOrInlineDv": None}, {"pathOrInlineDv": ""}, {"pathOrInlineDv": "_dvtoo short"},
        {"pathOrInlineDv": "_dv" + '"' * 20}, {"pathOrInlineDv": "_dv" + "#" * 20},
    ],
)  # fmt: skip
def test_a_damaged_descriptor_is_seen(tmp_path: Path, change: dict[str, Json]) -> None:
    descriptor = {**ours(tmp_path, 3, 4, 70_000), **change}
    with pytest.raises(TableError, match="damaged"):
        read_vector(tmp_path, descriptor)


@pytest.mark.parametrize(
    "change",
    [
        {"cardinality": 5}, {"cardinality": 7}, {"sizeInBytes": 40}, {"sizeInBytes": 45}, {"sizeInBytes": 0},
        {"pathOrInlineDv": ""}, {"pathOrInlineDv": "^Bg9"}, {"pathOrInlineDv": '^Bg9"' * 11},
        {"pathOrInlineDv": "#####" * 11}, {"pathOrInlineDv": "^Bg9^" + "00000" * 10},
    ],
)  # fmt: skip
def test_a_damaged_vector_in_the_log_is_seen(tmp_path: Path, change: dict[str, Json]) -> None:
    with pytest.raises(TableError, match="damaged"):
        read_vector(tmp_path, {**DELTAS_OWN, **change})


@settings(max_examples=200)
@given(st.binary(max_size=80), st.integers(0, 10))
@example(b"", 0)
@example(b"\0" * 8, 0)
def test_a_vector_of_noise_is_no_vector_of_fewer_rows(tmp_path_factory: pytest.TempPathFactory, noise: bytes, cardinality: int) -> None:  # fmt: skip # noqa: E501
    """Behind the magic number nothing but the cardinality checks what the log itself holds."""
    data = struct.pack("<I", 1681511377) + noise
    text = z85(data + bytes(-len(data) % 4))
    descriptor: dict[str, Json] = {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data)}
    try:
        found = read_vector(Path("/t"), {**descriptor, "cardinality": cardinality})
    except TableError:
        return
    assert len(set(found.tolist())) == cardinality


def test_a_vector_that_marks_rows_the_file_does_not_have(tmp_path: Path) -> None:
    text = json.dumps(ours(tmp_path, 3, 9))
    file = AddFile("a.parquet", 1, 1, '{"numRecords":9}', text)
    with pytest.raises(TableError, match=r"a\.parquet is damaged: it marks row 9 of 9"):
        deleted_rows(tmp_path, file)
    for stats in ('{"numRecords":10}', None, "{}"):
        assert deleted_rows(tmp_path, msgspec.structs.replace(file, stats=stats)).tolist() == [3, 9]
    none = deleted_rows(tmp_path, msgspec.structs.replace(file, deletion_vector=None))
    assert (len(none), none.dtype) == (0, np.int64)


# -- places ---------------------------------------------------------------------------------------------------------


def test_a_missing_vector_is_a_table_error_that_names_the_cure(tmp_path: Path) -> None:
    descriptor = ours(tmp_path, 1)
    on_disk(tmp_path, descriptor).unlink()
    with pytest.raises(TableError, match=r"the deletion vector .*\.bin is not there") as caught:
        read_vector(tmp_path, descriptor)
    assert "ordertrail rebuild" in caught.value.hint


@pytest.mark.parametrize("uri", [str, lambda path: path.as_uri(), lambda path: f"file:{path}"])
def test_an_absolute_path_inside_the_table(tmp_path: Path, uri: Callable[[Path], str]) -> None:
    root = tmp_path / "a table"
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    descriptor = file_vector(root, [4, 5])
    path = on_disk(root, descriptor)
    absolute = {**descriptor, "storageType": "p", "pathOrInlineDv": uri(path).replace(" ", "%20")}
    for home in (root, tmp_path / "link"):
        assert on_disk(home, absolute) == home / path.name
        assert read_vector(home, absolute).tolist() == [4, 5]


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("p", "/elsewhere/v.bin"), ("p", "s3://bucket/v.bin"), ("p", "file:///elsewhere/v.bin"), ("p", "v.bin"),
        ("p", "file://host/elsewhere/v.bin"), ("p", "/tmp/%00"), ("p", "//["),
        ("u", "../other" + "0" * 20), ("u", "/etc" + "0" * 20), ("u", "a/../../b" + "0" * 20),
    ],
)  # fmt: skip
def test_a_vector_outside_the_table_is_refused(tmp_path: Path, kind: str, place: str) -> None:
    descriptor: dict[str, Json] = {"storageType": kind, "pathOrInlineDv": place, "sizeInBytes": 1, "cardinality": 1}
    with pytest.raises(UnsupportedTableError, match="outside its folder"):
        read_vector(tmp_path, descriptor)


@pytest.mark.parametrize("kind", ["x", None])
def test_an_unknown_way_to_store_a_vector_is_refused(tmp_path: Path, kind: Json) -> None:
    with pytest.raises(UnsupportedTableError, match="storage type"):
        read_vector(tmp_path, {**ours(tmp_path, 1), "storageType": kind})


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    ours(tmp_path, 1)
    before = sorted((tmp_path / FOLDER).iterdir())

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StorageError, match="No space left") as caught:
        ours(tmp_path, 2)
    assert "free some space" in caught.value.hint
    assert sorted((tmp_path / FOLDER).iterdir()) == before


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_bytes(b"")
    with pytest.raises(StorageError):
        ours(tmp_path, 1)


# -- in tables, by every reader -------------------------------------------------------------------------------------


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def new_table(root: Path, *sizes: int) -> Table:
    """A table with a data file of the numbers up to each size, one after the other."""
    table = Table(root, COLUMNS)
    table.create({})
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": FEATURES, "writerFeatures": FEATURES}
    actions: list[dict[str, Json]] = [{"commitInfo": {}}, {"protocol": protocol}]
    first = 0
    for size in sizes:
        path = root / f"from-{first}.parquet"
        pq.write_table(pa.table({"n": np.arange(first, first + size)}), path, row_group_size=50_000)
        actions.append(AddFile(path.name, path.stat().st_size, 1, json.dumps({"numRecords": size})).add())
        first += size
    table.log.commit(1, actions)
    return table


def mark(table: Table, vectors: Mapping[str, Mapping[str, Json]]) -> None:
    """Give live files these vectors, in one commit."""
    base = table.snapshot()
    actions: list[dict[str, Json]] = [{"commitInfo": {"id": base.version}}]
    for path, vector in vectors.items():
        body = base.files[path].add()["add"]
        assert isinstance(body, dict)
        actions += [base.files[path].remove(1), {"add": {**body, "deletionVector": dict(vector)}}]
    table.log.commit(base.version + 1, actions)


def left(table: Table, con: duckdb.DuckDBPyConnection) -> list[int]:
    """The numbers that all readers see."""
    found = [
        n for (n,) in con.execute(f"SELECT n FROM {scan_sql(con, table.snapshot(), COLUMNS)} ORDER BY n").fetchall()
    ]
    theirs = pa.table(QueryBuilder().register("t", DeltaTable(table.root)).execute("SELECT n FROM t"))
    assert sorted(theirs.column("n").to_pylist()) == found
    assert sorted(polars.scan_delta(str(table.root)).collect()["n"].to_list()) == found
    return found


def marked_by_delta_rs(table: Table) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for batch in DeltaTable(table.root).deletion_vectors():
        rows = pa.record_batch(batch)
        for uri, keep in zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True):
            found[Path(uri).name] = [row for row, kept in enumerate(keep) if not kept]
    return found


def test_three_vectors_one_after_the_other_on_one_file(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    table = new_table(tmp_path / "t", 10, 10)
    sets: Sequence[Sequence[int]] = ([2], [2, 5, 6], [2, 3, 5, 6, 9])
    for rows in sets:
        mark(table, {"from-0.parquet": ours(table.root, *rows)})
        assert left(table, con) == [n for n in range(20) if n not in rows]
        assert marked_by_delta_rs(table) == {"from-0.parquet": list(rows)}
        assert deleted_rows(table.root, table.snapshot().files["from-0.parquet"]).tolist() == list(rows)
    DeltaTable(table.root).create_checkpoint()
    for version in range(4):
        (table.log.folder / f"{version:020d}.json").unlink()
    assert left(table, con) == [n for n in range(20) if n not in sets[-1]]


def test_many_rows_of_several_files_in_one_vector_file(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    """All three kinds of Roaring container: scattered few, scattered many, and runs."""
    table = new_table(tmp_path / "t", 200_000, 150_000, 70_000)
    chance = np.random.default_rng(7)
    few, many = (
        np.sort(chance.choice(size, count, replace=False)) for size, count in ((200_000, 300), (150_000, 70_000))
    )
    run = np.arange(10_000, 69_000)
    few_at, many_at, run_at = write_vectors(table.root, [few, many, run])
    mark(table, {"from-0.parquet": few_at, "from-200000.parquet": many_at, "from-350000.parquet": run_at})
    gone = {*few.tolist(), *(many + 200_000).tolist(), *(run + 350_000).tolist()}
    assert left(table, con) == [n for n in range(420_000) if n not in gone]


def test_one_connection_scans_the_same_and_other_snapshots_again(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    """Two tables of one name and one version, and a part of a snapshot, whose positions are others."""
    here, there = new_table(tmp_path / "a" / "t", 4, 4), new_table(tmp_path / "b" / "t", 4, 4)
    mark(here, {"from-0.parquet": ours(here.root, 0), "from-4.parquet": ours(here.root, 1)})
    mark(there, {"from-4.parquet": ours(there.root, 3)})
    whole = here.snapshot()
    part = msgspec.structs.replace(whole, files={"from-4.parquet": whole.files["from-4.parquet"]})
    snapshots = {"whole": whole, "other": there.snapshot(), "part": part, "again": whole}
    scans = {name: scan_sql(con, snapshot, COLUMNS) for name, snapshot in snapshots.items()}
    expected = {"whole": [1, 2, 3, 4, 6, 7], "other": [0, 1, 2, 3, 4, 5, 6], "part": [4, 6, 7]}
    expected["again"] = expected["whole"]
    for name, scan in scans.items():
        assert [n for (n,) in con.execute(f"SELECT n FROM {scan} ORDER BY n").fetchall()] == expected[name], name
    both = f"SELECT count(*) FROM {scans['whole']} JOIN {scans['again']} USING (n) JOIN {scans['part']} USING (n)"
    assert con.execute(both).fetchall() == [(3,)]


def test_a_scan_of_a_damaged_vector_fails(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    table = new_table(tmp_path / "t", 10)
    vector = ours(table.root, 1, 2)
    mark(table, {"from-0.parquet": vector})
    path = on_disk(table.root, vector)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TableError, match="does not have"):
        scan_sql(con, table.snapshot(), COLUMNS)
