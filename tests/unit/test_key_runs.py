"""Run files of the key index: what is written is found, what is damaged is not believed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from ordertrail.keyindex import runs as key_runs
from ordertrail.keyindex import writer as key_writer
from ordertrail.keyindex.runs import ENTRY, WORDS, Covered, Refused, Run, open_run
from ordertrail.keyindex.writer import MergedRun, RunWriter, merge, prefix_bits, sorted_entries

SALT = bytes(range(16))
TOP = 2**64 - 1


def entries_of(hashes, rows=None, file=0):
    """Entries with the given (upper, lower), row numbers in that order unless told otherwise."""
    entries = np.zeros(len(hashes), ENTRY)
    entries["upper"] = np.array([upper for upper, _ in hashes], np.uint64)
    entries["lower"] = np.array([lower for _, lower in hashes], np.uint64)
    entries["row"] = np.arange(len(hashes)) if rows is None else rows
    entries["file"] = file
    entries["event_us"] = entries["row"].astype(np.int64) - 5
    return entries


def random_entries(rows, seed=0):
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, 2**64, (rows, 2), np.uint64)
    return entries_of([(int(upper), int(lower)) for upper, lower in pairs])


def write(folder: Path, entries, files=None) -> Path:
    paths: list[Path] = []
    files = [Covered("a", 1, len(entries))] if files is None else files
    with RunWriter(folder, "f", SALT, files, paths.append) as writer:
        writer.append(sorted_entries(entries))
    return paths[0]


def opened(path: Path) -> Run:
    run = open_run(path, "f", SALT)
    assert isinstance(run, Run)
    return run


def found(run: Run, hashes):
    """(query, row) of all matches; None for a damaged run."""
    ordered = sorted(hashes)
    upper = np.array([upper for upper, _ in ordered], np.uint64)
    lower = np.array([lower for _, lower in ordered], np.uint64)
    matches = run.lookup(upper, lower)
    if matches is None:
        return None
    query, entries = matches[0], matches[1].view(ENTRY).reshape(-1)
    return sorted((ordered[q], int(row)) for q, row in zip(query.tolist(), entries["row"].tolist(), strict=True))


def expected(entries, hashes):
    stored: dict[tuple[int, int], list[int]] = {}
    for entry in entries:
        stored.setdefault((int(entry["upper"]), int(entry["lower"])), []).append(int(entry["row"]))
    return sorted((asked, row) for asked in hashes for row in stored.get(asked, []))


@pytest.fixture(params=["checked whole", "by bucket"])
def reading(request, monkeypatch):
    """Both ways to read a run: small ones are checked whole, big ones bucket by bucket."""
    if request.param == "by bucket":
        monkeypatch.setattr(key_runs, "SMALL_BYTES", 0)
        monkeypatch.setattr(key_runs, "WINDOW_BYTES", 8 * 300)
    return request.param


def test_every_entry_is_found_and_nothing_else(tmp_path, reading):
    entries = random_entries(5000)
    run = opened(write(tmp_path, entries))
    assert run.footer.bits > 5
    present = [(int(e["upper"]), int(e["lower"])) for e in entries]
    absent = [(u, low ^ 1) for u, low in present[:500]] + [(u ^ 1, low) for u, low in present[:500]]
    assert found(run, present + absent) == expected(entries, present)
    upper = np.sort(entries["upper"])
    _, copies = run.lookup(upper, sorted_entries(entries)["lower"].copy())
    assert copies.tobytes() == sorted_entries(entries).tobytes()
    run.close()


def test_extreme_hashes(tmp_path, reading):
    hashes = [(0, 0), (0, TOP), (TOP, 0), (TOP, TOP), (TOP - 1, 5), (1, 5), (2**63, 2**63)]
    entries = entries_of(hashes * 2)
    run = opened(write(tmp_path, entries))
    asked = [*hashes, (1, 0), (TOP, 7), (2**63 - 1, 0)]
    assert found(run, asked) == expected(entries, asked)
    run.close()


@pytest.mark.parametrize("key", [(0, 0), (TOP, TOP), (12345 << 40, 7)])
def test_one_key_very_often(tmp_path, reading, key):
    entries = entries_of([key] * 3000 + [(int(u), 1) for u in random_entries(500)["upper"]])
    run = opened(write(tmp_path, entries))
    assert found(run, [key, (key[0], 3)]) == [(key, row) for row in range(3000)]
    assert len(found(run, [key, key])) == 6000
    assert run.check()
    run.close()


def test_same_upper_half_with_other_lower_halves(tmp_path, reading):
    entries = entries_of([(77, low) for low in range(200)])
    run = opened(write(tmp_path, entries))
    assert found(run, [(77, 5), (77, 300)]) == [((77, 5), 5)]
    run.close()


def test_an_empty_run_covers_its_empty_file(tmp_path, reading):
    run = opened(write(tmp_path, random_entries(0)))
    assert run.files == (Covered("a", 1, 0),)
    assert found(run, [(0, 0), (5, 5)]) == []
    assert run.check()
    run.close()


def test_no_queries(tmp_path, reading):
    run = opened(write(tmp_path, random_entries(100)))
    assert found(run, []) == []
    run.close()


def test_entries_come_in_parts_of_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(key_writer, "BLOCK_ENTRIES", 100)
    monkeypatch.setattr(key_runs, "BLOCK_ENTRIES", 100)
    entries = sorted_entries(random_entries(1037))
    paths: list[Path] = []
    with RunWriter(tmp_path, "f", SALT, [Covered("a", 1, 1037)], paths.append) as writer:
        for part in np.split(entries, [0, 1, 99, 100, 350, 1000]):
            writer.append(part)
    run = opened(paths[0])
    assert run.footer.blocks == 11
    assert run.check()
    assert run.copy(0, 1037).tobytes() == entries.tobytes()
    assert run.copy(990, 2000).tobytes() == entries[990:].tobytes()
    run.close()


def test_what_is_not_the_rows_of_the_files_is_refused(tmp_path):
    files = [Covered("a", 1, 2), Covered("b", 1, 1)]
    good = entries_of([(1, 1), (2, 2), (3, 3)], rows=[0, 1, 0])
    good["file"] = [0, 0, 1]
    bad = {"a row is missing": good[:2], "a row too many": np.concatenate([good, good[2:]])}
    for name, field, value in [("row", "row", [0, 0, 0]), ("range", "row", [0, 2, 0]), ("file", "file", [0, 0, 2])]:
        bad[name] = good.copy()
        bad[name][field] = value
    bad["no such type"] = np.zeros(3, np.int64)
    for name, entries in bad.items():
        with pytest.raises(ValueError, match="entr"):
            write_raw(tmp_path, files, [entries])
        assert list(tmp_path.iterdir()) == [], name
    write_raw(tmp_path, files, [good])
    assert len(list(tmp_path.iterdir())) == 1


def write_raw(folder, files, parts):
    with RunWriter(folder, "f", SALT, files, lambda path: None) as writer:
        for part in parts:
            writer.append(part)


@pytest.mark.parametrize(
    "hashes", [[(2, 0), (1, 0)], [(1, 1), (1, 0)], [(1, 0), (1, 1), (0, 5)]], ids=["upper", "lower", "end"]
)
def test_entries_out_of_order_are_refused(tmp_path, hashes):
    entries = entries_of(hashes)
    for parts in ([entries], np.split(entries, range(1, len(entries)))):
        with pytest.raises(ValueError, match="sorted"):
            write_raw(tmp_path, [Covered("a", 1, len(hashes))], parts)
    assert list(tmp_path.iterdir()) == []


def test_a_file_named_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="twice"):
        RunWriter(tmp_path, "f", SALT, [Covered("a", 1, 1), Covered("a", 1, 1)], lambda path: None)


def test_too_many_rows_for_one_run_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2\\^32"):
        RunWriter(tmp_path, "f", SALT, [Covered("a", 1, 2**32)], lambda path: None)


def test_an_error_of_the_caller_leaves_nothing(tmp_path):
    def parts():
        yield sorted_entries(random_entries(2))
        raise KeyError

    with pytest.raises(KeyError):
        write_raw(tmp_path, [Covered("a", 1, 5)], parts())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename", "folder"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, call):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    match call:
        case "rename":
            monkeypatch.setattr(Path, "rename", full)
        case "folder":
            monkeypatch.setattr(key_writer, "fsync_folder", full)
        case _:
            monkeypatch.setattr(os, call, full)
    done: list[Path] = []
    with (
        pytest.raises(OSError, match="No space"),
        RunWriter(tmp_path, "f", SALT, [Covered("a", 1, 9)], done.append) as w,
    ):
        w.append(sorted_entries(random_entries(9)))
    assert list(tmp_path.iterdir()) == []
    assert done == []


def test_short_writes_are_carried_on(tmp_path, monkeypatch):
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: whole(file, data[: max(1, len(data) // 3)], at))
    entries = random_entries(300)
    run = opened(write(tmp_path, entries))
    assert run.check()
    assert run.copy(0, 300).tobytes() == sorted_entries(entries).tobytes()
    run.close()


def test_torn_at_any_length_is_not_opened(tmp_path):
    path = write(tmp_path, random_entries(20))
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert open_run(path, "f", SALT) is Refused.DAMAGED
    path.write_bytes(data + b"\0")
    assert open_run(path, "f", SALT) is Refused.DAMAGED


def test_any_flipped_bit_is_seen_before_the_first_use(tmp_path):
    entries = random_entries(20)
    path = write(tmp_path, entries)
    data = path.read_bytes()
    asked = [(int(e["upper"]), int(e["lower"])) for e in entries]
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        run = open_run(path, "f", SALT)
        if isinstance(run, Run):
            assert found(run, asked) is None
            assert not run.check()
            run.close()


@pytest.mark.parametrize("change", [b"\1", b""], ids=["changed", "truncated"])
def test_a_file_that_changes_while_it_is_open_is_seen(tmp_path, reading, change):
    entries = random_entries(2000)
    path = write(tmp_path, entries)
    run = opened(path)
    asked = [(int(e["upper"]), int(e["lower"])) for e in entries]
    assert len(found(run, asked)) == 2000
    before = path.stat().st_mtime_ns
    if change:
        with path.open("r+b") as file:
            file.seek(70)
            file.write(change * 8)
    else:
        os.truncate(path, 4096)
    os.utime(path, ns=(before + 1, before + 1))
    assert found(run, asked) is None
    assert not run.check()
    run.close()


def test_a_touched_run_is_compared_and_used_on(tmp_path, reading):
    entries = random_entries(50)
    path = write(tmp_path, entries)
    run = opened(path)
    os.utime(path, (5, 5))
    asked = [(int(e["upper"]), int(e["lower"])) for e in entries]
    assert len(found(run, asked)) == 50
    run.close()


def test_zeroed_pages_of_a_big_run_never_pass_for_absent_keys(tmp_path, monkeypatch):
    """A run that is not checked whole: each zeroed part of hashes or directory is met as damage, or not met at all."""
    monkeypatch.setattr(key_runs, "SMALL_BYTES", 0)
    entries = random_entries(4000)
    asked = [(int(e["upper"]), int(e["lower"])) for e in entries]
    path = write(tmp_path, entries)
    data = path.read_bytes()
    footer = opened_footer(path)
    seen = 0
    for begin, end in [(len(key_runs.PREAMBLE), footer.rest_at), (footer.directory_at, footer.checksums_at)]:
        for at in range(begin, end, 512):
            damaged = bytearray(data)
            damaged[at : min(at + 512, end)] = bytes(min(at + 512, end) - at)
            path.write_bytes(damaged)
            run = opened(path)
            matches = found(run, asked)
            assert matches is None or len(matches) == 4000
            seen += matches is None
            run.close()
    assert seen > 50


@pytest.mark.parametrize("loses", ["first", "last"])
def test_a_place_of_the_directory_that_misses_an_entry_is_damage(tmp_path, monkeypatch, loses):
    monkeypatch.setattr(key_runs, "SMALL_BYTES", 0)
    path = write(tmp_path, random_entries(300))
    data = path.read_bytes()
    run = opened(path)
    footer, entries = run.footer, run.copy(0, 300)
    run.close()
    offsets = np.frombuffer(data, "<u4", (1 << footer.bits) + 1, footer.directory_at)
    for place in range(1 << footer.bits):
        begin, end = int(offsets[place]), int(offsets[place + 1])
        if begin == end or (begin == 0 and loses == "first") or (end == 300 and loses == "last"):
            continue
        changed = offsets.copy()
        if loses == "first":
            changed[place] += 1
        else:
            changed[place + 1] -= 1
        lost = entries[begin if loses == "first" else end - 1]
        at = footer.directory_at
        path.write_bytes(data[:at] + changed.tobytes() + data[at + changed.nbytes :])
        damaged = opened(path)
        assert found(damaged, [(int(lost["upper"]), int(lost["lower"]))]) is None
        damaged.close()


def opened_footer(path):
    run = opened(path)
    footer = run.footer
    run.close()
    return footer


def test_a_run_of_another_table_salt_or_version_is_foreign(tmp_path):
    path = write(tmp_path, random_entries(5))
    assert open_run(path, "g", SALT) is Refused.FOREIGN
    assert open_run(path, "f", bytes(16)) is Refused.FOREIGN
    data = bytearray(path.read_bytes())
    data[8] = 99
    path.write_bytes(data)
    assert open_run(path, "f", SALT) is Refused.FOREIGN


def test_a_run_that_has_gone_cannot_be_read(tmp_path):
    assert open_run(tmp_path / "gone.run", "f", SALT) is Refused.UNREADABLE
    assert open_run(tmp_path, "f", SALT) is Refused.UNREADABLE


def test_a_run_that_is_unlinked_stays_readable(tmp_path, reading):
    entries = random_entries(100)
    path = write(tmp_path, entries)
    run = opened(path)
    path.unlink()
    asked = [(int(e["upper"]), int(e["lower"])) for e in entries]
    assert len(found(run, asked)) == 100
    run.close()
    run.close()


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
def test_merging_keeps_every_entry_of_the_files_that_stay(tmp_path, monkeypatch, step):
    monkeypatch.setattr(key_writer, "STEP_ENTRIES", step)
    runs, kept = [], []
    for number, rows in enumerate([400, 1, 0, 90]):
        entries = random_entries(rows, seed=number)
        entries["upper"] >>= np.uint64(56)  # many equal halves
        entries["upper"][: rows // 3] = TOP
        entries["file"][::2] = 1
        entries["row"] = np.where(entries["file"] == 1, np.arange(rows) // 2, (np.arange(rows) - 1) // 2)
        odd = int((entries["file"] == 1).sum())
        files = [Covered(f"even-{number}", 1, rows - odd), Covered(f"odd-{number}", 1, odd)]
        runs.append(opened(write(tmp_path, entries, files)))
        stays = entries[entries["file"] == 1].copy()
        stays["file"] = number
        kept.append(stays)
    paths: list[Path] = []
    files = [Covered(f"odd-{number}", 1, len(entries)) for number, entries in enumerate(kept)]
    with RunWriter(tmp_path, "f", SALT, files, paths.append) as writer:
        merge([MergedRun(run, np.array([-1, number])) for number, run in enumerate(runs)], writer)
    merged = opened(paths[0])
    assert merged.check()
    got = merged.copy(0, merged.entries)
    assert sorted(entry.tobytes() for entry in got) == sorted(e.tobytes() for part in kept for e in part)
    for run in [*runs, merged]:
        run.close()


def test_sorting_goes_by_both_halves():
    rng = np.random.default_rng(3)
    for parts in (False, True):
        entries = entries_of([(int(u), int(low)) for u, low in rng.integers(0, 5, (500, 2), np.uint64)])
        ordered = sorted_entries(entries, parts=parts)
        pairs = [(int(e["upper"]), int(e["lower"])) for e in ordered]
        assert pairs == sorted(pairs)
        assert sorted(ordered["row"].tolist()) == list(range(500))


def test_the_directory_fits_the_run():
    assert [prefix_bits(n) for n in (0, 1, 12, 24, 100_000, 10**7, 10**8, 2**32)] == [0, 0, 0, 1, 13, 20, 23, 23]
    assert WORDS == 7
