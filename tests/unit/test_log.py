"""Commits: done, not done, or unknown; never half an entry."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ordertrail.delta.actions import Json
from ordertrail.delta.log import DeltaLog, LocalLogStore, path_inside, remove_files, storage_error
from ordertrail.errors import CommitConflictError, CommitUnknownError, StorageError, TableError

ACTIONS: list[dict[str, Json]] = [
    {"commitInfo": {"txnId": "ours", "text": "é\n\u2028"}},
    {"txn": {"appId": "a", "version": 1}},
]
FOREIGN = b'{"commitInfo":{"txnId":"theirs"}}\n'


class FakeStore:
    """A store that does what it is told, then says what it is told."""

    def __init__(self, act: Callable[[Path, bytes], None], error: OSError | None = None) -> None:
        self.act, self.error = act, error

    def put_if_absent(self, path: Path, data: bytes) -> None:
        self.act(path, data)
        if self.error is not None:
            raise self.error


def nothing(path: Path, data: bytes) -> None:
    """Write nothing."""


def whole(path: Path, data: bytes) -> None:
    """Write what was asked for."""
    path.write_bytes(data)


def foreign(path: Path, data: bytes) -> None:
    """Somebody else was faster."""
    path.write_bytes(FOREIGN)


def unreadable(path: Path, data: bytes) -> None:
    """Something is there that cannot be read."""
    path.mkdir()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "table" / "_delta_log").mkdir(parents=True)
    return tmp_path / "table"


def entry(root: Path, version: int = 0) -> Path:
    return root / "_delta_log" / f"{version:020d}.json"


@pytest.mark.parametrize(
    ("act", "error", "expected"),
    [
        (whole, None, None),
        (whole, OSError(errno.EIO, "lost reply"), None),
        (whole, FileExistsError(), None),
        (foreign, FileExistsError(), CommitConflictError),
        (foreign, OSError(errno.EIO, "lost reply"), StorageError),
        (nothing, OSError(errno.ENOSPC, "full"), StorageError),
        (nothing, OSError(errno.EIO, "broken"), StorageError),
        (unreadable, OSError(errno.EIO, "lost reply"), CommitUnknownError),
        (unreadable, FileExistsError(), CommitUnknownError),
    ],
)
def test_three_outcomes(
    root: Path, act: Callable[[Path, bytes], None], error: OSError | None, expected: type[Exception] | None
) -> None:
    log = DeltaLog(root, FakeStore(act, error))
    if expected is None:
        log.commit(0, ACTIONS)
        assert log.read(0) == ACTIONS
    else:
        with pytest.raises(expected):
            log.commit(0, ACTIONS)


def test_a_real_second_commit_of_a_version_is_a_conflict_and_changes_nothing(root: Path) -> None:
    log = DeltaLog(root)
    log.commit(0, ACTIONS)
    before = entry(root).read_bytes()
    with pytest.raises(CommitConflictError) as caught:
        log.commit(0, [{"commitInfo": {"txnId": "other"}}])
    assert caught.value.transient
    assert entry(root).read_bytes() == before
    assert os.listdir(log.folder) == [entry(root).name]


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_failing_disk_leaves_no_half_entry(root: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError) as caught:
        DeltaLog(root).commit(0, ACTIONS)
    assert "free some space" in caught.value.hint
    assert os.listdir(root / "_delta_log") == []


def test_a_failure_behind_the_link_is_settled_by_reading_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, "the folder cannot be synced")

    monkeypatch.setattr(os, "fsync", fsync)
    log = DeltaLog(root)
    log.commit(0, ACTIONS)
    assert len(calls) == 2
    assert log.read(0) == ACTIONS


def test_put_if_absent_never_replaces(root: Path) -> None:
    store = LocalLogStore()
    store.put_if_absent(entry(root), b"1")
    with pytest.raises(FileExistsError):
        store.put_if_absent(entry(root), b"2")
    assert entry(root).read_bytes() == b"1"
    assert len(os.listdir(root / "_delta_log")) == 1


def test_an_entry_is_one_json_object_a_line(root: Path) -> None:
    DeltaLog(root).commit(7, ACTIONS)
    lines = entry(root, 7).read_bytes().split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == ACTIONS
    assert lines[-1] == b""


def test_entries_take_names_apart(root: Path) -> None:
    log = DeltaLog(root)
    assert not DeltaLog(root / "nowhere").exists()
    assert not log.exists()
    n = f"{20:020d}"
    parts = [f"{20:020d}.checkpoint.{p:010d}.0000000003.parquet" for p in (3, 1, 2)]
    incomplete = [f"{10:020d}.checkpoint.{p:010d}.0000000002.parquet" for p in (2,)]
    single = f"{5:020d}.checkpoint.parquet"
    others = [
        "_last_checkpoint",
        f".{n}.json.x.tmp",
        f"{n}.crc",
        f"{n}.json.bak",
        f"{n}.checkpoint.a-b.parquet",
        "1.json",
        f"{n}.compacted.json",
    ]
    for name in (f"{9:020d}.json", f"{10:020d}.json", *parts, *incomplete, single, *others):
        (log.folder / name).touch()
    commits, checkpoints = log.entries()
    assert commits == [9, 10]
    assert {v: [p.name for p in found] for v, found in checkpoints.items()} == {5: [single], 20: sorted(parts)}
    assert log.exists()


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b'{"a":1}\n{"b"', b"nonsense\n"])
def test_a_damaged_entry_is_a_table_error_that_names_it(root: Path, data: bytes) -> None:
    entry(root, 3).write_bytes(data)
    with pytest.raises(TableError, match=r"00000000000000000003\.json is damaged") as caught:
        DeltaLog(root).read(3)
    assert caught.value.hint


def test_backwards_gives_the_newest_first(root: Path) -> None:
    log = DeltaLog(root)
    for version in (0, 1, 2, 10):
        log.commit(version, [{"commitInfo": {"txnId": str(version)}}])
    assert [version for version, _ in log.backwards()] == [10, 2, 1, 0]
    with pytest.raises(FileNotFoundError):
        log.read(5)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_storage_errors_say_what_to_do(code: int) -> None:
    error = storage_error(OSError(code, os.strerror(code)), Path("t"))
    assert error.transient
    assert ("free some space" in error.hint) == (code in (errno.ENOSPC, errno.EDQUOT))


def test_a_table_of_which_only_a_checkpoint_is_left_is_there(root: Path) -> None:
    log = DeltaLog(root)
    log.folder.mkdir(parents=True, exist_ok=True)
    for entry in log.folder.iterdir():
        entry.unlink()
    assert not log.exists()
    (log.folder / f"{10:020d}.checkpoint.parquet").touch()
    assert log.exists()


def test_of_several_checkpoints_the_one_with_the_fewest_files_counts(root: Path) -> None:
    log = DeltaLog(root)
    log.folder.mkdir(parents=True, exist_ok=True)
    whole = log.folder / f"{10:020d}.checkpoint.parquet"
    parts = [log.folder / f"{10:020d}.checkpoint.{part:010d}.{2:010d}.parquet" for part in (1, 2)]
    for file in (whole, *parts):
        file.touch()
    assert log.entries()[1] == {10: [whole]}
    whole.unlink()
    assert log.entries()[1] == {10: parts}


def test_a_path_is_inside_only_below_the_tables_folder(root: Path) -> None:
    inside = root / "_delta_log" / "a b"
    assert path_inside(root, str(inside).replace(" ", "%20")) == inside
    assert path_inside(root, f"file://{inside}") == inside
    for outside in (str(root.parent / "other"), "s3://bucket/a", "relative", "file://host/a", "a%00"):
        assert path_inside(root, outside) is None


def test_the_first_file_that_goes_is_told_and_all_are_counted(tmp_path: Path) -> None:
    there = [tmp_path / name for name in "abc"]
    for file in there:
        file.touch()
    told: list[list[bool]] = []
    gone = remove_files([tmp_path / "gone before", *there], lambda: told.append([file.exists() for file in there]))
    assert (gone, told) == (3, [[False, True, True]])
