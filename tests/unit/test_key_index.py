"""The key index as a whole: coverage, several runs, upkeep, other processes."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from ordertrail.keyindex import index as key_index
from ordertrail.keyindex import writer as key_writer
from ordertrail.keyindex.index import ENTRY, Covered, KeyIndex


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def opens(folder):
    """Open the index; all are closed at the end."""
    indexes: list[KeyIndex] = []

    def open_index(fingerprint="f"):
        indexes.append(KeyIndex(folder, fingerprint))
        return indexes[-1]

    yield open_index
    for index in indexes:
        index.close()


def entries_of(keys, file=0):
    """One entry for each key (a small number); the row says where it stands in the list."""
    entries = np.zeros(len(keys), ENTRY)
    entries["upper"], entries["lower"] = hashes(keys)
    entries["row"] = np.arange(len(keys))
    entries["file"] = file
    entries["event_us"] = -np.arange(len(keys))
    entries["content"] = np.array(keys, np.int64) * 10
    entries["inserted_us"] = np.array(keys, np.int64) * 100
    entries["revision"] = 7
    return entries


def hashes(keys):
    upper = np.array(keys, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return upper, upper ^ np.uint64(0xFFFF)


def add(index, path, keys, size_bytes=1):
    index.write([Covered(path, size_bytes, len(keys))], entries_of(keys))


def find(index, keys, files=None):
    found = index.find(*hashes(keys), files)
    assert found.query.dtype == found.file.dtype == found.row.dtype == np.int64
    return sorted(
        (keys[query], found.files[file], row)
        for query, file, row in zip(found.query.tolist(), found.file.tolist(), found.row.tolist(), strict=True)
    )


def runs(folder):
    return sorted(folder.glob("*.run"))


def age(folder):
    """Make all files of the index old enough to be swept."""
    old_s = time.time() - 2 * key_index.YOUNG_S
    for path in folder.iterdir():
        os.utime(path, (old_s, old_s))


def test_all_places_of_a_key_are_found_with_what_is_known_of_them(opens):
    index = opens()
    add(index, "a", [1, 2, 3])
    add(index, "b", [3, 4, 3])
    found = index.find(*hashes([3, 9, 2]))
    rows = zip(found.query, [found.files[f] for f in found.file], found.row, found.event_us, found.content, strict=True)
    assert sorted(rows) == [(0, "a", 2, -2, 30), (0, "b", 0, 0, 30), (0, "b", 2, -2, 30), (2, "a", 1, -1, 20)]
    assert sorted(found.inserted_us.tolist()) == [200, 300, 300, 300]
    assert found.revision.tolist() == [7] * 4
    assert dict(index.covered) == {"a": 1, "b": 1}


def test_only_the_files_asked_for(opens):
    index = opens()
    add(index, "a", [1, 2])
    add(index, "b", [2])
    assert find(index, [1, 2], ["b", "unknown"]) == [(2, "b", 0)]
    assert find(index, [1, 2], []) == []
    assert find(index, []) == []


def test_a_new_index_covers_nothing(opens, folder):
    index = opens()
    assert dict(index.covered) == {}
    assert find(index, [1]) == []
    assert len(index.salt) == 16
    assert opens().salt == index.salt
    index.tidy([])
    assert index.check() == []


def test_what_was_written_is_seen_by_the_next_to_open(opens):
    add(opens(), "a", [5, 6])
    assert find(opens(), [6]) == [(6, "a", 1)]


def test_another_fingerprint_sees_nothing_and_sweeps_in_time(opens, folder):
    add(opens(), "a", [5])
    other = opens("g")
    assert dict(other.covered) == {}
    other.tidy([])
    assert len(runs(folder)) == 1
    age(folder)
    other.tidy([])
    assert runs(folder) == []
    assert (folder / "salt").exists()


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 28, None])
def test_a_lost_salt_means_an_empty_index(opens, folder, damage):
    first = opens()
    add(first, "a", [5])
    if damage is None:
        (folder / "salt").unlink()
    else:
        (folder / "salt").write_bytes(damage)
    second = opens()
    assert second.salt != first.salt
    assert dict(second.covered) == {}
    add(second, "b", [5])
    third = opens()
    assert third.salt == second.salt
    assert find(third, [5]) == [(5, "b", 0)]


def test_a_salt_that_cannot_be_read_is_left_alone(opens, folder, monkeypatch):
    add(opens(), "a", [5])
    read = Path.read_bytes
    with monkeypatch.context() as patch:

        def failing(path):
            if path.name == "salt":
                raise OSError(errno.EMFILE, "Too many open files")
            return read(path)

        patch.setattr(Path, "read_bytes", failing)
        assert dict(opens().covered) == {}
    assert find(opens(), [5]) == [(5, "a", 0)]


def test_a_folder_that_cannot_be_made_is_an_empty_index(tmp_path):
    (tmp_path / "index").write_text("a file")
    index = KeyIndex(tmp_path / "index", "f")
    assert dict(index.covered) == {}
    index.tidy([])
    with pytest.raises(OSError, match="index"):
        add(index, "a", [1])
    index.close()


def test_a_folder_deleted_while_open(opens, folder):
    index = opens()
    add(index, "a", [1])
    shutil.rmtree(folder)
    assert find(index, [1]) == [(1, "a", 0)]
    add(index, "b", [2])
    assert find(opens(), [1, 2]) == [(2, "b", 0)]
    index.tidy(["a", "b"])
    assert dict(index.covered) == {"b": 1}


def test_damage_is_less_coverage_after_the_find_that_meets_it(opens, folder):
    index = opens()
    add(index, "a", [1, 2])
    (path,) = runs(folder)
    add(index, "b", [1, 3])
    data = bytearray(path.read_bytes())
    data[70] ^= 4
    path.write_bytes(data)
    fresh = opens()
    assert fresh.covered.keys() == {"a", "b"}
    assert find(fresh, [1, 2, 3]) == [(1, "b", 0), (3, "b", 1)]
    assert fresh.covered.keys() == {"b"}
    fresh.tidy(["a", "b"])
    assert fresh.covered.keys() == {"b"}
    assert not path.exists()


def test_check_names_what_is_damaged(opens, folder):
    index = opens()
    for path in "abc":
        add(index, path, [1, 2])
    torn, flipped, _ = runs(folder)
    os.truncate(torn, 100)
    data = bytearray(flipped.read_bytes())
    data[70] ^= 4
    flipped.write_bytes(data)
    fresh = opens()
    assert sorted(fresh.check()) == [f"{torn.name} is damaged", f"{flipped.name} is damaged"]
    assert len(fresh.covered) == 1
    age(folder)
    fresh.tidy(fresh.covered)
    assert fresh.check() == []
    assert opens().check() == []


def test_runs_that_disagree_about_a_file_are_both_not_believed(opens):
    index = opens()
    add(index, "a", [1, 2], size_bytes=10)
    index.write([Covered("a", 11, 1), Covered("b", 1, 1)], np.concatenate([entries_of([1]), entries_of([2], file=1)]))
    assert dict(index.covered) == {"b": 1}
    assert find(index, [1, 2]) == [(2, "b", 0)]


def test_a_file_in_two_runs_is_found_once(opens):
    first, second = opens(), opens()
    add(first, "a", [1, 2, 2])
    add(second, "a", [1, 2, 2])
    index = opens()
    assert find(index, [1, 2]) == [(1, "a", 0), (2, "a", 1), (2, "a", 2)]
    index.tidy(["a"])
    assert find(opens(), [1, 2]) == [(1, "a", 0), (2, "a", 1), (2, "a", 2)]


def test_small_runs_are_merged(opens, folder):
    index = opens()
    for number in range(20):
        add(index, f"f{number}", [number, 100])
        index.tidy(index.covered)
        assert len(runs(folder)) < key_index.TIER_RUNS
    for seen in (index, opens()):
        assert find(seen, [3, 100]) == sorted([(3, "f3", 0), *[(100, f"f{number}", 1) for number in range(20)]])
        assert len(seen.covered) == 20
        assert seen.check() == []


def test_big_merges_wait_until_everything_is_tidied(opens, folder, monkeypatch):
    monkeypatch.setattr(key_index, "HOT_ENTRIES", 15)
    index = opens()
    for number in range(8):
        add(index, f"f{number}", [number, 100])
    index.tidy(index.covered)
    assert len(runs(folder)) == 8
    index.tidy(index.covered, everything=True)
    assert len(runs(folder)) == 1
    assert len(find(index, [100])) == 8


def test_a_class_is_merged_with_its_like(opens, folder, monkeypatch):
    monkeypatch.setattr(key_index, "TIER_FIRST_ENTRIES", 2)
    monkeypatch.setattr(key_writer, "STEP_ENTRIES", 9)
    index = opens()
    add(index, "base", list(range(1000, 1200)))
    (base,) = runs(folder)
    for number in range(64):
        add(index, f"f{number}", [number])
        index.tidy(index.covered)
    assert base in runs(folder)
    assert len(runs(folder)) == 2
    index.tidy(index.covered, everything=True)
    assert find(index, [63, 1199]) == [(63, "f63", 0), (1199, "base", 199)]


def test_killed_between_the_steps_of_a_merge(opens, folder, tmp_path):
    index = opens()
    for number in range(8):
        add(index, f"f{number}", [number, 100])
    shutil.copytree(folder, tmp_path / "before")
    index.tidy(index.covered)
    merged = runs(folder)
    for path in runs(tmp_path / "before"):
        shutil.copy2(path, folder)
    both = opens()
    assert len(runs(folder)) == 9
    assert find(both, [100]) == [(100, f"f{number}", 1) for number in range(8)]
    both.tidy(both.covered)
    assert runs(folder) == merged, "the merge was done, it is not done again"
    assert find(both, [100]) == [(100, f"f{number}", 1) for number in range(8)]


def test_a_full_disk_during_a_merge_leaves_the_index_as_it_was(opens, folder, monkeypatch):
    index = opens()
    for number in range(8):
        add(index, f"f{number}", [number])
    before = sorted(folder.iterdir())

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            index.tidy(index.covered)
    assert sorted(folder.iterdir()) == before
    assert len(index.covered) == 8
    assert find(index, [5]) == [(5, "f5", 0)]


def test_damage_gets_no_new_checksum_by_a_merge(opens, folder):
    index = opens()
    for number in range(8):
        add(index, f"f{number}", [number, 50])
    (path, *_) = runs(folder)
    data = bytearray(path.read_bytes())
    data[64] ^= 1
    path.write_bytes(data)
    fresh = opens()
    fresh.tidy(fresh.covered)
    assert len(fresh.covered) == 7
    assert len(find(fresh, [50])) == 7
    assert len(runs(folder)) == 1


def test_dead_runs_go_but_not_young_ones(opens, folder):
    index = opens()
    add(index, "dead", [1])
    add(index, "alive", [2])
    index.tidy(["alive"])
    assert index.covered.keys() == {"dead", "alive"}
    age(folder)
    fresh = opens()
    fresh.tidy(["alive"])
    assert fresh.covered.keys() == {"alive"}
    assert len(runs(folder)) == 1


def test_entries_of_dead_files_go_when_everything_is_tidied(opens, folder):
    index = opens()
    both = np.concatenate([entries_of([1, 2]), entries_of([2, 3], file=1)])
    index.write([Covered("dead", 1, 2), Covered("alive", 1, 2)], both)
    age(folder)
    fresh = opens()
    fresh.tidy(["alive"])
    assert fresh.covered.keys() == {"dead", "alive"}
    fresh.tidy(["alive"], everything=True)
    assert fresh.covered.keys() == {"alive"}
    assert find(fresh, [1, 2, 3]) == [(2, "alive", 0), (3, "alive", 1)]
    assert fresh.check() == []


def test_left_overs_of_a_killed_writer_are_swept_in_time(opens, folder):
    index = opens()
    writer = index.writer([Covered("a", 1, 1)])
    writer.__enter__()  # and never ended
    os.close(writer._out)
    index.tidy([])
    (left_over,) = folder.glob(".*.tmp")
    age(folder)
    index.tidy([])
    assert not left_over.exists()
    assert dict(opens().covered) == {}


def test_another_process_tidies_meanwhile(opens, folder):
    ours, other = opens(), opens()
    for number in range(8):
        add(other, f"f{number}", [number])
    ours.tidy(other.covered)
    others = opens()
    other.tidy(other.covered)
    assert find(ours, [4]) == find(others, [4]) == [(4, "f4", 0)]
    others.tidy(other.covered)
    assert len(runs(folder)) == 1
    assert find(others, [4]) == [(4, "f4", 0)]


def test_a_run_that_goes_while_the_folder_is_listed(opens, folder, monkeypatch):
    add(opens(), "a", [1])
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([self / "gone.run", *runs(self)]))
    assert opens().covered.keys() == {"a"}


def test_a_closed_index_covers_nothing(opens):
    index = opens()
    add(index, "a", [1])
    index.close()
    assert dict(index.covered) == {}
    assert find(index, [1]) == []
