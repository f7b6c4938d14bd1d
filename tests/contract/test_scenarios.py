"""What hand-written pipelines get wrong, by name: arrival, order, commits, archive. Every engine must get it right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from ordertrail.keep.rebuild import Differences, rebuild
from ordertrail.look.verify import verify
from ordertrail.model import RowCounts, RunReport, State
from ordertrail.sources.names import Entry, FileOps
from tests.contract.conftest import MakeHouse
from tests.contract.spared import AGREE, BY_NAME, LOADED_APART, NOTEBOOKS, ON_DRIVER, RULES, RULES_BY_NAME
from tests.feeds import NO_ADDRESS, TIMES, FeedFile, cells, csv_bytes, dated
from tests.harness import NOON_NS, House
from tests.oracle import default_contract, judge, keyed

EARLY, LATE = TIMES[0], TIMES[3]  # 08:00 of the 20th and of the 21st
HOUR_NS = 3600 * 10**9


READ_LATER = pytest.mark.spared(
    "executors", covered_by="::test_a_file_that_grows_while_it_is_read_drops_out_of_the_batch"
)
"""Of a change before `stage.files`: executors read the files only after it, so that one moment is like the other."""


FOUND_HERE = pytest.mark.spared("spark", "executors", "named", covered_by="vectors")
"""Of scenarios about which files a pass takes and where they go then: pass and source do that, and no engine."""


def at(*names: str, do: Callable[[], object]) -> Callable[[str], None]:
    """A probe that does something the first time that one of these effects has happened."""
    waiting = list(names[:1]) if len(names) == 1 else list(names)

    def probe(name: str) -> None:
        if name in waiting:
            waiting.clear()
            do()

    return probe


def counts(report: RunReport) -> dict[str, int]:
    """The outcomes of a pass that are not 0, and how many rows were parsed."""
    return {name: count for name, count in asdict(report.rows).items() if count}


def skipped(report: RunReport) -> list[tuple[str, str]]:
    """The files that a pass left alone, and why."""
    return [(one.file_name, one.reason) for one in report.skipped]


def data_actions(house: House, table: str, version: int) -> list[str]:
    """The kinds of actions of one commit, but for `commitInfo`."""
    return [kind for action in house.actions(table, version) for kind in action if kind != "commitInfo"]


# --- arrival -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "effect",
    [
        *(pytest.param(effect, marks=FOUND_HERE) for effect in ("plan.decided", "stage.files", "stage.committed")),
        pytest.param("load.committed", marks=pytest.mark.spared("executors", "named", covered_by="spark")),
    ],
)
def test_a_file_that_lands_mid_run_belongs_to_the_next_batch(house: House, effect: str) -> None:
    """P1: the notebooks list the folder a second time to archive it, and move a file that they never read."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    late = csv_bytes([cells("B", EARLY)])
    first = house.run(at(effect, do=lambda: house.drop(dated(21), late)))
    assert [d.file_name for d in first.deliveries] == [dated(20)]
    assert (set(house.target()), house.left()) == ({("A",)}, [dated(21)])
    second = house.run()
    assert (second.batch, [d.file_name for d in second.deliveries]) == (2, [dated(21)])
    assert (set(house.target()), house.left()) == ({("A",), ("B",)}, [])
    assert late in house.archived().values()


@FOUND_HERE
def test_a_file_replaced_after_it_was_read_is_the_next_delivery(house: House) -> None:
    """P6: what is archived as a delivery is what was loaded; other bytes under its name are never taken for it."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    house.run(at("deliveries.committed", do=lambda: house.drop(dated(20), csv_bytes([cells("B", EARLY)]))))
    assert (set(house.target()), house.left()) == ({("A",)}, [dated(20)])
    house.run()
    assert (set(house.target()), house.left()) == ({("A",), ("B",)}, [])


@FOUND_HERE
def test_a_half_written_file_waits(house: House) -> None:
    """P6: a file is read only once it is complete; until then it is skipped, and listed."""
    whole = csv_bytes([cells("A", EARLY), cells("B", EARLY)])
    house.config = replace(house.config, settle_s=3600.0)
    house.drop(dated(20), whole[: len(whole) - 30])
    report = house.run()
    assert (report.batch, skipped(report)) == (None, [(dated(20), "not settled")])
    house.drop(dated(20), whole)
    assert house.run().batch is None
    house.config = replace(house.config, settle_s=0.0)
    assert counts(house.run()) == {"parsed": 2, "inserted": 2}


@FOUND_HERE
def test_a_file_that_cannot_be_archived_waits_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is loaded and told, not staged again, and the tables say where it is once it is archived."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    house.drop(dated(21), csv_bytes([cells("B", EARLY)]))
    rename_new = FileOps.rename_new

    def refused(ops: FileOps, entry: Entry, target: Entry) -> None:
        if entry.name == dated(20):
            raise PermissionError(13, "Permission denied")
        rename_new(ops, entry, target)

    with monkeypatch.context() as locked:
        locked.setattr(FileOps, "rename_new", refused)
        first, second = house.run(), house.run()
    assert (first.needs_person, second.needs_person, second.batch) == (True, True, None)
    assert (set(house.target()), house.left()) == ({("A",), ("B",)}, [dated(20)])
    assert house.delivery(dated(20))["archived_to"] is None
    last = house.run()
    assert (last.warnings, house.left()) == ((), [])
    assert house.delivery(dated(20))["archived_to"] in house.archived()


@FOUND_HERE
def test_a_file_that_the_system_told_is_closed_does_not_wait(house: House) -> None:
    """The settle rule does not hold back a file whose close the service has seen."""
    house.config = replace(house.config, settle_s=3600.0)
    house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    assert counts(house.pipeline().run(frozenset({dated(20)}))) == {"parsed": 1, "inserted": 1}


@pytest.mark.spared("named", covered_by="spark")
@pytest.mark.parametrize("effect", [pytest.param("plan.decided", marks=READ_LATER), "stage.files"])
def test_a_file_that_grows_while_it_is_read_drops_out_of_the_batch(house: House, effect: str) -> None:
    """P6: either the pass sees the change and leaves the file, or what was read is loaded and the rest comes next."""
    house.drop("other.csv", csv_bytes([cells("B", EARLY)]))
    file = house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    grown = csv_bytes([cells("A", EARLY), cells("C", EARLY)])
    report = house.run(at(effect, do=lambda: file.write_bytes(grown)))
    assert [s.file_name for s in report.skipped] == [dated(20)]
    assert house.left() == [dated(20)]
    house.run()
    assert (set(house.target()), house.left()) == ({("A",), ("B",), ("C",)}, [])
    assert grown in house.archived().values()


@pytest.mark.spared(
    "executors",
    covered_by="::test_a_file_that_grows_while_it_is_read_drops_out_of_the_batch",
)
@pytest.mark.spared("named", covered_by="spark")
def test_a_file_that_vanishes_before_it_is_read_is_skipped(house: House) -> None:
    """A vendor that takes a file back does not stop the others."""
    house.drop("other.csv", csv_bytes([cells("B", EARLY)]))
    file = house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    report = house.run(at("plan.decided", do=file.unlink))
    assert skipped(report) == [(dated(20), "changed while it was read")]
    assert set(house.target()) == {("B",)}


@FOUND_HERE
def test_a_file_that_vanishes_before_it_is_archived_needs_a_person(house: House) -> None:
    """Its rows are loaded, the table says that there is no archived file, and nothing blocks the next pass."""
    file = house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    report = house.run(at("deliveries.committed", do=file.unlink))
    assert report.needs_person
    assert any("vanished" in warning for warning in report.warnings)
    assert (set(house.target()), house.delivery(dated(20))["archived_to"]) == ({("A",)}, None)
    again = house.run()
    assert (again.batch, again.needs_person) == (None, False)


@FOUND_HERE
def test_a_file_no_vendor_takes_is_left_alone_and_listed(make_house: MakeHouse) -> None:
    """A stray file is neither loaded by position nor moved away."""
    house = make_house('[[vendors]]\nname = "acme"\nfiles = "acme/*.csv"\n')
    house.drop("acme/a.csv", csv_bytes([cells("A", EARLY)]))
    house.drop("notes.txt", "hello")
    house.drop("blue/a.csv", csv_bytes([cells("B", EARLY)]))
    report = house.run()
    wanted = [("blue/a.csv", "no vendor takes it"), ("notes.txt", "no vendor takes it")]
    assert (skipped(report), set(house.target())) == (wanted, {("A",)})
    assert house.left() == ["blue/a.csv", "notes.txt"]


@pytest.mark.spared("spark", covered_by=ON_DRIVER)
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
@pytest.mark.parametrize("content", [b"", csv_bytes([]), b"\n\n"], ids=["zero bytes", "header only", "blank lines"])
def test_an_empty_file_is_recorded_and_archived(house: House, content: bytes) -> None:
    """No rows is an answer, not an error."""
    house.drop(dated(20), content)
    report = house.run()
    assert [(d.state, d.rows) for d in report.deliveries] == [(State.EMPTY, RowCounts())]
    assert not report.needs_person
    assert (house.left(), list(house.archived().values())) == ([], [content])


# --- stage, commits, archive ---------------------------------------------------------------------------------------


@pytest.mark.spared("executors", covered_by=LOADED_APART)
@pytest.mark.spared("named", covered_by=NOTEBOOKS)
def test_a_stage_that_was_not_loaded_is_not_overwritten(house: House) -> None:
    """P1: the stage notebook run twice in a row loses the first run's rows; here it finishes them first."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    assert (house.stage().batch, house.rows("target")) == (1, [])
    house.drop(dated(21), csv_bytes([cells("B", EARLY)]))
    report = house.stage()
    assert (report.recovered, report.batch) == (True, 2)
    assert set(house.target()) == {("A",)}
    assert house.load().batch == 2
    assert set(house.target()) == {("A",), ("B",)}
    assert house.load().batch is None


@pytest.mark.spared("executors", covered_by=LOADED_APART)
@pytest.mark.spared("named", covered_by=NOTEBOOKS)
def test_stage_and_load_do_what_run_does(house: House) -> None:
    """The two notebooks of the job, one after the other, are one pass."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY), cells("A", LATE)]))
    staged = house.stage()
    assert (staged.rows.parsed, house.left()) == (2, [dated(20)])
    loaded = house.load()
    assert (counts(loaded), loaded.recovered) == ({"parsed": 2, "inserted": 1, "superseded": 1}, False)
    assert house.left() == []


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_no_version_of_the_target_shows_half_a_batch(house: House) -> None:
    """P4: delete-then-append shows readers a table without its rows; here every version has one row a key."""
    keys = [f"K{n}" for n in range(20)]
    house.drop(dated(20), csv_bytes([cells(key, EARLY, address="first") for key in keys]))
    house.run()
    house.drop(dated(21), csv_bytes([cells(key, LATE, address="second") for key in [*keys[5:], "NEW"]]))
    house.run()
    house.drop(dated(22), csv_bytes([cells(key, LATE, "DELIVERED", "third") for key in keys[:5]]))
    house.run()
    seen = [keyed(house.rows("target", version)) for version in range(house.version() + 1)]
    assert [len(rows) for rows in seen] == [0, 20, 21, 21]
    assert [{row["address"] for row in rows.values()} for rows in seen[1:3]] == [{"first"}, {"first", "second"}]
    assert sum(row["address"] == "second" for row in seen[2].values()) == 16


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_a_batch_is_one_commit_on_every_table(house: House) -> None:
    """P4: stage, target, history and rejects move by one version a batch, with `txn` n; deliveries by the mark too."""
    for number in (1, 2, 3):
        bad = cells("", EARLY)
        house.drop(dated(19 + number), csv_bytes([cells(k, EARLY, address=str(number)) for k in "ABCDEF"] + [bad]))
        house.run()
        for table in ("stage", "target", "history", "rejects", "deliveries"):
            commits = 2 if table == "deliveries" else 1  # the done mark, and the mark that the files are archived
            assert house.version(table) == number * commits
            for version in range(1 + (number - 1) * commits, 1 + number * commits):
                txns = [a["txn"]["version"] for a in house.actions(table, version) if "txn" in a]
                assert txns == [number]


@FOUND_HERE
def test_an_archive_name_that_is_taken_is_not_overwritten(house: House) -> None:
    """P6: a foreign file sits where the delivery was to go; both are there afterwards and the table says where."""
    content = csv_bytes([cells("A", EARLY)])
    house.drop(dated(20), content)
    house.stage()
    planned = next(json.loads(r["_manifest"])["archive_path"] for r in house.rows("stage") if r["_manifest"])  # type: ignore[arg-type]
    foreign = house.config.archive / planned
    foreign.parent.mkdir(parents=True)
    foreign.write_text("foreign")
    report = house.load()
    archived_to = report.deliveries[0].archived_to
    assert archived_to not in (None, planned)
    assert house.archived() == {planned: b"foreign", archived_to: content}
    assert house.delivery(dated(20))["archived_to"] == archived_to
    assert any("another file has the name" in warning for warning in report.warnings)


@pytest.mark.spared("spark", covered_by=ON_DRIVER)
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_files_of_one_name_are_all_kept(house: House) -> None:
    """P6: a vendor that sends `updates.csv` every day overwrites nothing in the archive."""
    sent = [csv_bytes([cells("A", EARLY, address=str(n))]) for n in range(3)]
    for n, content in enumerate(sent):
        house.drop("updates.csv", content, NOON_NS + n * HOUR_NS)
        house.run()
    assert sorted(house.archived().values()) == sorted(sent)
    assert {row["archived_to"] for row in house.rows("deliveries")} == set(house.archived())
    assert house.target()["A",]["address"] == "2"


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_nothing_waiting_writes_nothing(house: House) -> None:
    """A pass without files leaves every table at its version."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    house.run()
    tables = ("stage", "target", "history", "rejects", "deliveries")
    before = [house.version(table) for table in tables]
    report = house.run()
    assert (report.batch, report.deliveries, report.warnings) == (None, (), ())
    assert [house.version(table) for table in tables] == before


# --- order ---------------------------------------------------------------------------------------------------------


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_two_rows_of_a_key_in_a_batch(house: House) -> None:
    """A MERGE fails or takes any of them; here the newest wins, the loser is superseded, the equal one duplicate."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY), cells("A", LATE, "DELIVERED"), cells("A", LATE, "DELIVERED")]))
    assert counts(house.run()) == {"parsed": 3, "inserted": 1, "superseded": 1, "duplicate": 1}
    assert house.target()["A",]["status"] == "DELIVERED"
    name = dated(20)
    assert house.outcomes() == {(name, 1): "superseded", (name, 2): "duplicate", (name, 3): "inserted"}


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_the_first_run_dedupes_too(house: House) -> None:
    """P2: the notebook that creates the target writes what it finds: keys doubled in the first batch stay so."""
    house.drop(dated(21), csv_bytes([cells("A", LATE, "DELIVERED"), cells("B", EARLY)]))
    house.drop(dated(20), csv_bytes([cells("A", EARLY), cells("B", EARLY, address="old")]))
    assert counts(house.run()) == {"parsed": 4, "inserted": 2, "superseded": 2}
    target = house.target()
    assert (target["A",]["status"], target["B",]["address"]) == ("DELIVERED", "X")


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_the_newest_row_of_a_file_may_be_its_first(make_house: MakeHouse) -> None:
    """Of rows with one time the upper one wins then, in its batch and against rows that are loaded already."""
    house = make_house('[[vendors]]\nname = "acme"\nrows = "newest_first"\n')
    house.drop(dated(20), csv_bytes([cells("A", EARLY, address="new"), cells("A", EARLY, address="old")]))
    house.run()
    assert house.outcomes() == {(dated(20), 1): "inserted", (dated(20), 2): "superseded"}
    house.drop(dated(21), csv_bytes([cells("B", EARLY), cells("A", EARLY, address="newer"), cells("A", EARLY)]))
    house.run()
    assert house.target()["A",]["address"] == "newer"
    (delivery,) = (one for one in house.rows("deliveries") if one["file_name"] == dated(21))
    assert (delivery["newest_first"], delivery["rows_updated"], delivery["rows_superseded"]) == (True, 1, 1)


@pytest.mark.spared("spark", covered_by=ON_DRIVER)
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_late_older_update_does_not_overwrite(house: House) -> None:
    """P2: Monday's file comes on Tuesday, after Tuesday's."""
    house.drop(dated(21), csv_bytes([cells("A", LATE, "DELIVERED")]))
    house.run()
    house.drop(dated(20), csv_bytes([cells("A", EARLY, "IN_TRANSIT")]))
    assert counts(house.run()) == {"parsed": 1, "stale": 1}
    assert house.target()["A",]["status"] == "DELIVERED"
    assert data_actions(house, "target", 2) == ["txn"]


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
@pytest.mark.parametrize("later_first", [False, True])
def test_at_equal_times_the_higher_status_wins(house: House, later_first: bool) -> None:
    """P2: at one event time and file date the rank decides, not which was read last; NULL ranks below unknown ones."""
    statuses = ["", "LOST", "PICKED_UP", "DELIVERED"]
    for status in reversed(statuses) if later_first else statuses:
        house.drop(dated(20, f"_{status}"), csv_bytes([cells("A", EARLY, status)]))
        house.run()
    assert house.target()["A",]["status"] == "DELIVERED"


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_the_event_time_goes_before_the_status(house: House) -> None:
    """A parcel that went back is not delivered: rank decides ties only."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY, "DELIVERED"), cells("A", LATE, "IN_TRANSIT")]))
    house.run()
    assert house.target()["A",]["status"] == "IN_TRANSIT"


@pytest.mark.spared("spark", covered_by=ON_DRIVER)
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_vendors_correction_with_the_same_time_wins(house: House) -> None:
    """P2: the same shipment at the same time, sent again in a later file with the right address."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY, "DELIVERED", "wrong")]))
    house.run()
    house.drop(dated(21), csv_bytes([cells("A", EARLY, "IN_TRANSIT", "right")]))
    assert counts(house.run()) == {"parsed": 1, "updated": 1}
    assert house.target()["A",]["address"] == "right"
    (row,) = house.rows("target")
    assert (row["_revision"], row["_batch"], row["_file_name"]) == (2, 2, dated(21))
    assert row["_inserted_at"] < row["_updated_at"]  # type: ignore[operator]


@pytest.mark.spared("spark", covered_by=ON_DRIVER)
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_the_same_bytes_under_a_later_name_are_no_duplicate(house: House) -> None:
    """P2: X, then Y, then X's bytes again in a later file, all of one time: the vendor went back to X."""
    x, y = (csv_bytes([cells("A", EARLY, address=address)]) for address in "XY")
    for day, content in ((20, x), (21, y), (22, x)):
        house.drop(dated(day), content)
        report = house.run()
        assert [d.state for d in report.deliveries] == [State.LOADED]
    assert house.target()["A",]["address"] == "X"
    house.drop(dated(20, "_copy"), x)
    report = house.run()
    assert [d.state for d in report.deliveries] == [State.DUPLICATE]
    assert counts(report) == {"parsed": 1, "duplicate": 1}
    assert dated(22) in str(report.deliveries[0].reason)


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_history_decides_when_the_target_still_bears_an_older_files_name(house: House) -> None:
    """P2, X/Y/X: files 1 and 3 say X, so the target bears file 1; then file 2 says Y, and must not win."""
    for day, address in ((20, "X"), (22, "X"), (21, "Y")):
        house.drop(dated(day), csv_bytes([cells("A", EARLY, address=address), cells(f"N{day}", EARLY)]))
        house.run()
    assert house.target()["A",]["address"] == "X"
    assert house.outcomes()[dated(21), 1] == "stale"


@pytest.mark.spared("spark", covered_by=ON_DRIVER)
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_redelivered_file_is_a_duplicate(house: House) -> None:
    """P1: the same file again is recorded, archived beside the first, and changes nothing."""
    content = csv_bytes([cells("A", EARLY), cells("B", EARLY)])
    house.drop(dated(20), content)
    house.run()
    house.drop(dated(20), content)
    assert counts(house.run()) == {"parsed": 2, "duplicate": 2}
    assert data_actions(house, "target", 2) == ["txn"]
    assert list(house.archived().values()) == [content, content]


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_daily_cumulative_files_stay_cheap(house: House) -> None:
    """P8: rows that say what the target has are unchanged; the commit of a day without news holds no file."""
    rows = [cells(f"K{n}", EARLY) for n in range(50)]
    house.drop(dated(20), csv_bytes(rows))
    house.run()
    house.drop(dated(21), csv_bytes([*rows, cells("NEW", LATE)]))
    assert counts(house.run()) == {"parsed": 51, "unchanged": 50, "inserted": 1}
    assert data_actions(house, "target", 2) == ["txn", "add"]
    house.drop(dated(22), csv_bytes([cells("NEW", LATE), *rows]))
    assert counts(house.run()) == {"parsed": 51, "unchanged": 51}
    assert data_actions(house, "target", 3) == ["txn"]


@pytest.mark.spared("spark", covered_by=ON_DRIVER)
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_two_vendors_with_one_file_name_are_two_deliveries(make_house: MakeHouse) -> None:
    """A file is known by its vendor and its bytes, not by its name."""
    house = make_house("".join(f'[[vendors]]\nname = "{v}"\nfiles = "{v}/*.csv"\n' for v in ("acme", "blue")))
    same = csv_bytes([cells("A", EARLY)])
    files = [FeedFile(f"{vendor}/{dated(20)}", same, NOON_NS) for vendor in ("acme", "blue")]
    house.drop_all(files)
    report = house.run()
    assert [d.state for d in report.deliveries] == [State.LOADED, State.LOADED]
    assert house.target() == judge(files, None, house.config.vendors).target
    assert house.rows("target")[0]["_vendor"] == "blue"


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_a_column_that_a_vendor_never_sends_keeps_its_value(make_house: MakeHouse) -> None:
    """Section 6: a file without `address` is newer, but says nothing about it."""
    vendors = '[[vendors]]\nname = "blue"\nfiles = "b*.csv"\nabsent = ["address"]\n'
    house = make_house(vendors + '[[vendors]]\nname = "acme"\n')
    house.drop(dated(20), csv_bytes([cells("A", EARLY, address="Main St 1")]))
    house.run()
    house.drop(f"b{dated(21)}", csv_bytes([cells("A", LATE, "DELIVERED", "not sent")], NO_ADDRESS))
    assert counts(house.run()) == {"parsed": 1, "updated": 1}
    row = house.target()["A",]
    assert (row["status"], row["address"]) == ("DELIVERED", "Main St 1")
    house.drop(dated(20, "_b"), csv_bytes([cells("A", TIMES[1], address="Main St 2")]))
    house.run()
    row = house.target()["A",]
    assert (row["status"], row["address"]) == ("DELIVERED", "Main St 2")


@pytest.mark.spared("spark", covered_by=ON_DRIVER)
@pytest.mark.spared("executors", covered_by=AGREE)
@pytest.mark.spared("named", covered_by=BY_NAME)
def test_a_changed_contract_reads_the_same_file_again(house: House) -> None:
    """Section 6: a file is a duplicate only under the contract it was loaded with."""
    content = csv_bytes([cells("A", EARLY, "in transit")])
    house.drop(dated(20), content)
    house.run()
    vendors = tuple(replace(v, status_map=(("in transit", "IN_TRANSIT"),)) for v in house.config.vendors)
    house.config = replace(house.config, vendors=vendors)
    house.drop(dated(20, "_again"), content)
    assert counts(house.run()) == {"parsed": 1, "updated": 1}
    assert house.target()["A",]["status"] == "IN_TRANSIT"


@pytest.mark.spared("spark", "executors", covered_by=RULES)
@pytest.mark.spared("named", covered_by=RULES_BY_NAME)
def test_the_same_file_again_under_another_profile_corrects_itself(house: House) -> None:
    """The order is total: name, time, bytes and row are equal, so the later reading wins, and all agree on it."""
    content = csv_bytes([cells("A", EARLY, "here"), cells("B", EARLY, "here")])
    house.drop(dated(20), content)
    house.run()
    vendors = tuple(replace(v, status_map=(("here", "there"),)) for v in house.config.vendors)
    house.config = replace(house.config, vendors=vendors)
    house.drop(dated(20), content)
    assert counts(house.run()) == {"parsed": 2, "updated": 2}
    assert {row["status"] for row in house.target().values()} == {"there"}
    if house.config.in_folders:
        assert verify(house.config).ok
        assert rebuild(house.config, dry_run=True).differences == Differences(0, 0, 0, 0)


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_many_passes_keep_a_table_readable(house: House) -> None:
    """P9: past the first checkpoints every reader still reads every table, and the oracle agrees."""
    files = [
        FeedFile(dated(20, f"_{n:02}"), csv_bytes([cells(f"K{n % 3}", EARLY, address=str(n))]), NOON_NS)
        for n in range(12 if house.config.engine == "spark" else 22)
    ]
    for file in files:
        house.drop_all([file])
        house.run()
    assert list((house.table_path("target") / "_delta_log").glob("*.checkpoint.parquet"))
    assert house.target() == judge(files, default_contract()).target


@FOUND_HERE
def test_the_archive_can_lie_on_the_way_of_a_glob(tmp_path: Path, make_house: MakeHouse) -> None:
    """A vendor whose glob spans folders is given every file once, whatever folder it is in."""
    house = make_house('[[vendors]]\nname = "acme"\nfiles = "**/*.csv"\n')
    paths = ["a.csv", "x/a.csv", "x/y/a.csv"]
    for n, path in enumerate(paths):
        house.drop(path, csv_bytes([cells(f"K{n}", EARLY)]))
    report = house.run()
    assert [d.file_name for d in report.deliveries] == ["a.csv"] * 3
    assert (len(house.target()), house.left(), len(house.archived())) == (3, [], 3)


def commit_info(house: House, version: int) -> dict[str, Any]:
    """The commit info of a version of the target."""
    info: dict[str, Any] = next(a["commitInfo"] for a in house.actions("target", version) if "commitInfo" in a)
    return info


@pytest.mark.spared("executors", "named", covered_by="spark")
def test_a_commit_tells_people_which_batch_it_is(house: House) -> None:
    """The log is readable without us: operation, who wrote it, and the batch in `userMetadata`."""
    house.drop(dated(20), csv_bytes([cells("A", EARLY)]))
    house.run()
    info = commit_info(house, 1)
    writer = {"embedded": "ordertrail", "spark": "Apache-Spark"}[house.config.engine]
    assert info["engineInfo"].startswith(writer)
    assert json.loads(info["userMetadata"])["ordertrail"]["batch"] == 1
