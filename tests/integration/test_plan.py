"""The dry run: it says what a real pass then does, and writes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ordertrail.errors import UsageError
from ordertrail.look.plan import MAX_REJECTS, PlanReport, plan_files
from ordertrail.markers import MARKER
from ordertrail.model import RowCounts, State, Vendor
from tests.depth import share
from tests.feeds import FEED_LIMITS, FEED_VENDORS, Batches, batchings, feeds
from tests.harness import NOON_NS, House, open_house, without_fsync

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
DAY_20 = "order_tracking_2026_11_20.csv"
DAY_21 = "order_tracking_2026_11_21.csv"
ACME, BLUE = Vendor("acme", "acme/*.csv"), Vendor("blue", "blue/**/*.txt", delimiter=";")


def line(key: str, status: str = "IN_TRANSIT", time: str = "2026-11-20 08:00:00", address: str = "X") -> str:
    return f"O{key},{key},2026-11-19,,{status},{address},{time}\n"


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every name below a folder, with what is in it and when it was changed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (path.lstat().st_mtime_ns, data)
    return found


def in_source(house: House) -> list[Path]:
    return sorted(path for path in house.config.source.rglob("*") if path.is_file() and path.name != MARKER)


def plan(house: House, *files: Path, vendor: str | None = None) -> PlanReport:
    """Plan, and see that not one byte or time of the whole pipeline changes."""
    root = house.config.source.parent
    before = tree(root)
    report = plan_files(house.config, files, vendor=vendor)
    assert tree(root) == before
    return report


def check_against_a_real_pass(house: House) -> PlanReport:
    """Plan all that waits, then run, and compare file by file."""
    files = in_source(house)
    report = plan(house, *files)
    run = house.run()
    assert [Path(file.path).name for file in report.files] == [path.name for path in files]
    planned = [str((Path(f.path).name, f.vendor, f.state, f.rows, f.reason)) for f in report.files if f.state]
    real = [str((d.file_name, d.vendor, d.state, d.rows, d.reason)) for d in run.deliveries]
    assert sorted(planned) == sorted(real)
    assert report.rows == run.rows
    if run.batch is not None:
        assert report.batch == run.batch
    return report


@pytest.fixture
def house(tmp_path: Path) -> House:
    """One batch of three keys is loaded."""
    house = open_house(tmp_path, "max_reject_share = 0.4\n")
    house.drop(DAY_20, HEADER + line("007") + line("B") + line("C"))
    house.run()
    return house


def test_every_outcome_as_the_real_pass_then_has_it(house: House) -> None:
    rows = [
        line("007", "DELIVERED", "2026-11-21 09:00:00"),
        line("007", "PICKED_UP", "2026-11-21 08:00:00"),
        line("B"),
        line("C", time="2026-11-19 08:00:00"),
        line("E"),
        line("E"),
        line("F", time="yesterday"),
    ]
    house.drop(DAY_21, HEADER + "".join(rows))
    house.drop("bad.csv", "what,is,this\n1,2,3\n")
    house.drop("empty.csv", HEADER)
    house.drop("order_tracking_2026_11_19.csv", HEADER + line("007") + line("B") + line("C"))
    report = check_against_a_real_pass(house)
    by_name = {Path(file.path).name: file for file in report.files}
    assert by_name[DAY_21].rows == RowCounts(7, 1, 1, 1, 1, 1, 1, 1)
    states = {name: file.state for name, file in by_name.items()}
    assert states == {
        DAY_21: State.LOADED,
        "bad.csv": State.QUARANTINED,
        "empty.csv": State.EMPTY,
        "order_tracking_2026_11_19.csv": State.DUPLICATE,
    }
    assert "loaded as" in str(by_name["order_tracking_2026_11_19.csv"].reason)
    (reject,) = by_name[DAY_21].rejects
    assert (reject.file_row, reject.column, reject.value) == (7, "last_update_timestamp", "yesterday")
    assert reject.rule
    assert "yesterday" in str(reject.raw)
    assert "has no column" in by_name["bad.csv"].rejects[0].reason
    assert report.notes == ()


def test_before_the_first_pass_nothing_is_made(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    house.drop(DAY_20, HEADER + line("007") + line("007", address="Y"))
    report = check_against_a_real_pass(house)
    assert report.batch == 1
    assert report.rows == RowCounts(2, inserted=1, superseded=1)


def test_a_plan_may_be_asked_for_again(house: House) -> None:
    house.drop(DAY_21, HEADER + line("007", time="2026-11-21 08:00:00"))
    assert plan(house, *in_source(house)) == plan(house, *in_source(house))


def test_a_tie_that_only_history_can_tell(house: House) -> None:
    """File 1 says X, file 2 Y, file 3 X again, all at one time; 1 and 3 came first."""
    house.drop("order_tracking_2026_11_22.csv", HEADER + line("007"))
    house.run()
    house.drop(DAY_21, HEADER + line("007", address="Y"))
    assert check_against_a_real_pass(house).rows == RowCounts(1, stale=1)


def test_a_vendor_that_lacks_a_column(tmp_path: Path) -> None:
    house = open_house(tmp_path, vendors=(Vendor("acme", "a*.csv"), Vendor("blue", "b*.csv", absent=("address",))))
    house.drop("a.csv", HEADER + line("007"))
    house.run()
    house.drop("b.csv", HEADER.replace("address,", "") + "O,007,2026-11-19,,DELIVERED,2026-11-20 09:00:00\n")
    assert check_against_a_real_pass(house).rows == RowCounts(1, updated=1)


def test_a_batch_that_is_staged_only_is_noted_and_left_alone(house: House) -> None:
    house.drop(DAY_21, HEADER + line("007", time="2026-11-21 08:00:00"))
    house.stage()
    house.drop("more.csv", HEADER + line("E"))
    report = plan(house, house.config.source / "more.csv")
    assert report.batch == 3
    assert "batch 2 is staged and not finished" in report.notes[0]
    assert house.load().rows == RowCounts(1, updated=1)


def test_only_the_first_rejects_are_shown(tmp_path: Path) -> None:
    house = open_house(tmp_path, "max_reject_share = 1.0\n")
    rows = [line(f"K{i}", time="never") for i in range(MAX_REJECTS + 5)]
    house.drop(DAY_20, HEADER + "".join(rows))
    (file,) = plan(house, *in_source(house)).files
    assert file.rows.rejected == MAX_REJECTS + 5
    assert [reject.file_row for reject in file.rejects] == list(range(1, MAX_REJECTS + 1))


@given(feeds().flatmap(batchings), st.integers(0, 5))
@settings(max_examples=share(12))
def test_any_feed_is_planned_as_it_then_goes(
    tmp_path_factory: pytest.TempPathFactory, batches: Batches, planned: int
) -> None:
    house = open_house(tmp_path_factory.mktemp("feed"), vendors=FEED_VENDORS, **FEED_LIMITS)
    with without_fsync():
        for number, files in enumerate(batches):
            house.drop_all(files)
            if number == planned % len(batches):
                check_against_a_real_pass(house)
                return
            house.run()


# -- whose a file is --------------------------------------------------------------------------------------------


def outside(house: House, path: str, content: str = HEADER + "O1,007,2026-11-19,,LOST,X,2026-11-21\n") -> Path:
    file = house.config.source.parent / "elsewhere" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    os.utime(file, ns=(NOON_NS, NOON_NS))
    return file


def test_a_file_elsewhere_is_judged_as_if_it_were_dropped(house: House) -> None:
    file = outside(house, DAY_21)
    (planned,) = plan(house, file).files
    house.drop(DAY_21, file.read_text())
    (real,) = house.run().deliveries
    assert (planned.path, planned.vendor) == (str(file), "default")
    assert (planned.state, planned.rows) == (real.state, real.rows)
    assert planned.rows == RowCounts(1, updated=1)


@pytest.mark.parametrize(
    ("path", "vendor"),
    [("acme/x.csv", "acme"), ("x.csv", "acme"), ("blue/a/b/x.txt", "blue"), ("x.txt", "blue"), ("acme/x.dat", None)],
)
def test_the_vendor_of_a_file_elsewhere(tmp_path: Path, path: str, vendor: str | None) -> None:
    house = open_house(tmp_path, vendors=(ACME, BLUE))
    content = (HEADER + line("007")).replace(",", ";" if vendor == "blue" else ",")
    (planned,) = plan(house, outside(house, path, content)).files
    assert planned.vendor == vendor
    assert planned.state == (None if vendor is None else State.LOADED)
    assert planned.reason == ("no vendor takes it" if vendor is None else None)


def test_a_name_that_two_vendors_take_needs_a_word(tmp_path: Path) -> None:
    house = open_house(tmp_path, vendors=(ACME, replace(ACME, name="other", files="other/*.csv")))
    file = outside(house, "x.csv")
    with pytest.raises(UsageError, match="acme, other") as caught:
        plan(house, file)
    assert caught.value.hint
    assert plan(house, file, vendor="other").files[0].vendor == "other"
    assert plan(house, outside(house, "other/x.csv")).files[0].vendor == "other"
    with pytest.raises(UsageError, match="nobody") as caught:
        plan(house, file, vendor="nobody")
    assert "acme, other" in caught.value.hint


def test_below_the_source_the_globs_decide(tmp_path: Path) -> None:
    house = open_house(tmp_path, vendors=(ACME, BLUE))
    house.drop("acme/x.csv", HEADER + line("007"))
    house.drop("x.csv", HEADER + line("007"))
    house.drop("acme/y.csv.part", HEADER)
    (house.config.source / "acme/z.csv").symlink_to("x.csv")
    by_name = {Path(file.path).name: file for file in plan(house, *house.config.source.rglob("*.*")).files}
    assert by_name["z.csv"].reason == "a symbolic link"
    assert "writer has not finished" in str(by_name["y.csv.part"].reason)
    assert {file.state for file in by_name.values()} == {State.LOADED, None}
    assert plan(house, house.config.source / "x.csv").files[0].reason == "no vendor takes it"


def test_files_that_cannot_be_read_are_usage_errors(house: House) -> None:
    folder = house.config.source.parent
    for path, says in ((folder / "none.csv", "No such file"), (folder, "not a regular file")):
        with pytest.raises(UsageError, match=says) as caught:
            plan(house, path)
        assert caught.value.hint


def test_a_file_given_twice_is_planned_once(house: House) -> None:
    file = outside(house, DAY_21)
    assert len(plan(house, file, file).files) == 1


def test_how_columns_were_found_and_what_rows_would_be(tmp_path: Path) -> None:
    vendor = Vendor(
        "green",
        aliases=(("tracking_num", ("Number",)),),
        combine=(("last_update_timestamp", ("Day", "Hour")),),
        constants=(("status", "DELIVERED"),),
        from_name="_(?P<address>[A-Z]{3})_",
        absent=("order_num", "pck_recieved_date", "package_deliver_date"),
    )
    house = open_house(tmp_path, vendors=[vendor])
    name = "scan_CHI_2026_11_20.csv"
    house.drop(name, 'Report,,\nNumber,Day,Hour\n,2026-11-20,07:00\n"007",2026-11-20,08:00\n008,2026-11-20,09:00\n')
    report = plan(house, *in_source(house))
    (file,) = report.files
    mapped = (
        "tracking_num <- 'Number'",
        "status <- the constant 'DELIVERED'",
        "address <- the name of the file",
        "last_update_timestamp <- 'Day' + 'Hour'",
    )
    assert file.mapped == mapped
    assert [(one.file_row, one.raw) for one in file.samples] == [
        (2, '"007",2026-11-20,08:00'),
        (3, "008,2026-11-20,09:00"),
    ]
    assert (file.samples[0].row["tracking_num"], file.samples[0].row["address"]) == ("007", "CHI")
    assert str(file.samples[0].row["last_update_timestamp"]).startswith("2026-11-20 08:00:00")
    assert f"green: {', '.join(mapped)}" in report.notes
    assert f"green: {', '.join(mapped)}" in house.run().notes


def test_a_header_that_names_everything_itself_says_nothing(house: House) -> None:
    house.drop(DAY_21, HEADER + line("007", "PICKED_UP"))
    (file,) = (one for one in plan(house, *in_source(house)).files if one.path.endswith(DAY_21))
    assert file.mapped == ()
    assert file.samples[0].raw == line("007", "PICKED_UP").strip()
