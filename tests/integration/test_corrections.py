"""Corrections as a user meets them: what the commands say and refuse, and what is there afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from msgspec.structs import replace

from ordertrail.cli import cli
from ordertrail.errors import BalanceError, OrdertrailError, UsageError
from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import Differences, rebuild
from ordertrail.look.status import Reader, status_of
from ordertrail.look.verify import verify
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind, RunReport, State, Vendor
from ordertrail.rules import corrections as rules
from tests.feeds import cells, csv_bytes, dated
from tests.harness import House, bag, check_books, check_readers, open_house

FIRST, SECOND, THIRD = dated(20), dated(21), dated(22)
RENAMED = csv_bytes([cells("R", "2026-11-23 08:00:00", "IN_TRANSIT")]).replace(b"last_update_timestamp", b"Updated")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files: the first has A and B, the second A and C, the last one D and a row of A that comes too late."""
    folder = tmp_path_factory.mktemp("filled") / "house"
    made = open_house(folder)
    for name, rows in (
        (FIRST, [cells("A", "2026-11-20 08:00:00", "PICKED_UP"), cells("B", "2026-11-20 08:00:00")]),
        (SECOND, [cells("A", "2026-11-21 08:00:00", "IN_TRANSIT"), cells("C", "2026-11-21 08:00:00")]),
        (THIRD, [cells("D", "2026-11-22 08:00:00"), cells("A", "2026-11-20 09:00:00", "EXCEPTION")]),
    ):
        made.drop(name, csv_bytes(rows))
        made.run()
    return folder


@pytest.fixture
def house(filled: Path, tmp_path: Path) -> House:
    """A copy of that pipeline."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    return open_house(tmp_path)


def mend(house: House, kind: str, *ids: str, why: str = "a test", **more: Any) -> RunReport:
    correction = Correction(CorrectionKind(kind), ids, why, "ops")
    return correct(house.pipeline(), Wanted(correction, **more))


def of(house: House, name: str) -> str:
    return str(house.delivery(name)["delivery_id"])


def statuses(house: House) -> dict[str, object]:
    return {str(key[0]): row["status"] for key, row in house.target().items()}


def sound(house: House) -> None:
    proof = verify(house.config)
    assert proof.ok, [one for one in proof.checks if not one.ok]
    assert rebuild(house.config, dry_run=True).differences == Differences(0, 0, 0, 0)
    check_books(house)
    check_readers(house)


# -- what it does -----------------------------------------------------------------------------------------------------


def test_undo_and_redo(house: House) -> None:
    before = house.target()
    report = mend(house, "undo", of(house, SECOND))
    assert report.correction is not None
    assert (report.batch, report.deliveries, report.needs_person) == (4, (), False)
    assert (report.correction.touched, report.correction.restored, report.correction.removed) == (2, 1, 1)
    assert statuses(house) == {"A": "EXCEPTION", "B": "IN_TRANSIT", "D": "IN_TRANSIT"}
    row = next(row for row in house.rows("target") if row["tracking_num"] == "A")
    assert (row["_delivery_id"], row["_batch"], row["_revision"]) == (of(house, THIRD), 4, 3)
    sound(house)
    report = mend(house, "redo", of(house, SECOND))
    assert report.correction is not None
    assert report.correction.restored == 2
    assert house.target() == before
    assert house.delivery(SECOND)["state"] == "loaded"
    sound(house)


def test_several_are_one_batch_and_one_commit(house: House) -> None:
    version = house.version()
    mend(house, "undo", of(house, FIRST), of(house, SECOND), of(house, FIRST))
    assert house.version() == version + 1
    assert statuses(house) == {"A": "EXCEPTION", "D": "IN_TRANSIT"}
    sound(house)


def test_a_stale_row_of_old_counts_once_the_winner_is_gone(house: House) -> None:
    """The third file's row of A was stale when it came: the outcome stays on record, and the row speaks now."""
    assert house.outcomes()[THIRD, 2] == "stale"
    mend(house, "undo", of(house, SECOND))
    assert statuses(house)["A"] == "EXCEPTION"
    assert house.outcomes()[THIRD, 2] == "stale"


def test_a_later_file_is_weighed_against_what_counts(house: House) -> None:
    mend(house, "undo", of(house, SECOND))
    house.drop(
        dated(23), csv_bytes([cells("A", "2026-11-20 10:00:00", "DELIVERED"), cells("C", "2026-11-20 07:00:00")])
    )
    house.run()
    assert statuses(house) == {"A": "DELIVERED", "B": "IN_TRANSIT", "C": "IN_TRANSIT", "D": "IN_TRANSIT"}
    sound(house)


def test_what_equals_stays_and_an_undone_delivery_has_no_place_in_the_order(house: House) -> None:
    """E's row names the undone file, for its content stays; a file between the two must still win at the same time."""
    at = "2026-11-22 10:00:00"
    for day, address in ((21, "X"), (25, "X")):
        house.drop(f"e_{dated(day)}", csv_bytes([cells("E", at, address=address)]))
        house.run()
    gone = str(house.delivery(f"e_{dated(21)}")["delivery_id"])
    late = str(house.delivery(f"e_{dated(25)}")["delivery_id"])
    report = mend(house, "undo", late)
    assert report.correction is not None
    assert report.correction.kept == 1
    house.drop(f"e_{dated(23)}", csv_bytes([cells("E", at, address="Y")]))
    house.run()
    assert house.target()[("E",)]["address"] == "Y"
    mend(house, "redo", late)
    assert house.target()[("E",)]["address"] == "X"
    mend(house, "undo", gone, late)
    assert house.target()[("E",)]["address"] == "Y"
    sound(house)


def test_correct_puts_a_file_in_the_place_of_another(house: House, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed.csv"
    fixed.write_bytes(csv_bytes([cells("A", "2026-11-21 08:00:00", "DELIVERED"), cells("E", "2026-11-21 08:00:00")]))
    old = of(house, SECOND)
    report = mend(house, "correct", old, file=fixed)
    (new,) = report.deliveries
    assert (new.state, new.rows.updated, new.rows.inserted) == (State.LOADED, 1, 1)
    assert statuses(house) == {"A": "DELIVERED", "B": "IN_TRANSIT", "D": "IN_TRANSIT", "E": "IN_TRANSIT"}
    rows = {row["delivery_id"]: row for row in house.rows("deliveries")}
    assert (rows[old]["state"], rows[old]["replayed_by"]) == ("undone", new.delivery_id)
    assert (rows[new.delivery_id]["path"], rows[new.delivery_id]["file_key"]) == (
        rows[old]["path"],
        rows[old]["file_key"],
    )
    assert house.archived()[str(new.archived_to)] == fixed.read_bytes()
    assert fixed.exists()
    sound(house)


def test_replay_heals_what_was_quarantined_and_leaves_the_rest(house: House) -> None:
    house.drop("renamed_2026_11_23.csv", RENAMED)
    house.drop("broken_2026_11_23.csv", b"order_num,status\n1,X\n")
    house.run()
    vendor = Vendor("default", aliases=(("last_update_timestamp", ("Updated",)),))
    house.config = replace(house.config, vendors=(vendor,))
    assert len(status_of(house.config).open_items) == 2
    report = correct(house.pipeline(), Wanted(Correction(CorrectionKind.REPLAY, (), "", "ops"), all_quarantined=True))
    assert [one.state for one in report.deliveries] == [State.LOADED]
    assert report.needs_person
    assert any("broken_2026_11_23.csv" in text and "still quarantined" in text for text in report.warnings)
    assert statuses(house)["R"] == "IN_TRANSIT"
    assert [item.key for item in status_of(house.config).open_items] == [
        f"delivery:{of(house, 'broken_2026_11_23.csv')}"
    ]
    mend(house, "dismiss", of(house, "broken_2026_11_23.csv"))
    assert status_of(house.config).open_items == ()
    sound(house)


def test_the_same_bytes_again_are_held_and_released_or_refused(house: House) -> None:
    content = house.archived()[str(house.delivery(SECOND)["archived_to"])]
    mend(house, "undo", of(house, SECOND), why="wrong file")
    for name in (f"again_{SECOND}", f"once_more_{SECOND}"):
        house.drop(name, content)
        report = house.run()
        (one,) = report.deliveries
        assert one.state is State.HELD
        assert "undone by ops: wrong file" in str(one.reason)
    assert "C" not in statuses(house)
    first, second = (str(house.delivery(name)["delivery_id"]) for name in (f"again_{SECOND}", f"once_more_{SECOND}"))
    mend(house, "refuse", second)
    mend(house, "release", first)
    assert statuses(house)["C"] == "IN_TRANSIT"
    rows = {row["delivery_id"]: row["state"] for row in house.rows("deliveries")}
    assert (rows[first], rows[second]) == ("replayed", "refused")
    house.drop(f"last_{SECOND}", content)
    assert house.run().deliveries[0].state is State.LOADED
    sound(house)


def test_track_and_earlier_batches_know_it(house: House) -> None:
    gone = of(house, SECOND)
    mend(house, "undo", gone, why="wrong file")
    with Reader(house.config) as reader:
        found = reader.track("A")
        told = {row["_delivery_id"]: row["_taken_back"] for row in found.history}
        assert str(told[gone]).startswith("undone 20")
        assert str(told[gone]).endswith("by ops: wrong file")
        assert [one for one in told.values() if one is None] != []
        then = reader.track("A", as_of=3)
        assert then.current is not None
        assert then.current["status"] == "IN_TRANSIT"
        now = reader.track("A", as_of=4)
        assert now.current is not None
        assert now.current["status"] == "EXCEPTION"
        assert len(reader.query("SELECT * FROM orders_target", as_of=4)) == 3


@pytest.mark.parametrize("spoilt", ["FROM touched t", "LEFT JOIN winners w ON t.k = w.k"], ids=["lost", "twice"])
def test_what_does_not_add_up_is_not_committed(house: House, monkeypatch: pytest.MonkeyPatch, spoilt: str) -> None:
    """P3: touched = restored + kept + removed, or nothing happens to the target."""
    wrong = {
        "FROM touched t": "FROM (SELECT * FROM touched LIMIT 1) t",
        "LEFT JOIN winners w ON t.k = w.k": "LEFT JOIN (FROM winners UNION ALL FROM winners) w ON t.k = w.k",
    }
    monkeypatch.setattr(rules, "FATES", rules.FATES.replace(spoilt, wrong[spoilt]))
    before = house.version()
    with pytest.raises(BalanceError):
        mend(house, "undo", of(house, SECOND))
    assert house.version() == before
    monkeypatch.undo()
    house.run()
    assert statuses(house) == {"A": "EXCEPTION", "B": "IN_TRANSIT", "D": "IN_TRANSIT"}
    sound(house)


# -- among other things that happen -----------------------------------------------------------------------------------


def test_after_maintenance_without_the_index_and_with_old_files_gone(house: House) -> None:
    expected = dict(statuses(house))
    expected["A"] = "EXCEPTION"
    del expected["C"]
    house.config = replace(
        house.config, maintenance=replace(house.config.maintenance, max_small_files=1, retention_h=0)
    )
    maintain(house.config)
    for left in (house.config.warehouse / ".ordertrail-index").rglob("*"):
        if left.is_file():
            left.unlink()
    mend(house, "undo", of(house, SECOND))
    assert statuses(house) == expected
    sound(house)


def test_what_others_wrote_gives_way_where_a_correction_touches(house: House) -> None:
    table = DeltaTable(house.table_path("target"))
    table.update(updates={"address": "'foreign'"}, predicate="tracking_num IN ('A', 'B')")
    report = mend(house, "undo", of(house, SECOND))
    assert report.correction is not None
    assert house.target()[("A",)]["address"] == "X"
    assert house.target()[("B",)]["address"] == "foreign"
    house.foreign = True
    check_readers(house)


def test_a_key_that_stands_twice_is_once_or_not_at_all_afterwards(house: House) -> None:
    table = DeltaTable(house.table_path("target"))
    doubled = pa.table(QueryBuilder().register("t", table).execute("SELECT * FROM t"))
    write_deltalake(table, doubled, mode="append")
    mend(house, "undo", of(house, SECOND))
    found = [row["tracking_num"] for row in house.rows("target")]
    assert found.count("A") == 1
    assert found.count("C") == 0


def test_a_target_that_was_restored_is_put_right_for_the_keys_touched(house: House) -> None:
    DeltaTable(house.table_path("target")).restore(house.version() - 1)
    mend(house, "undo", of(house, SECOND))
    assert statuses(house)["A"] == "EXCEPTION"


@pytest.mark.parametrize("vectors", [True, False], ids=["vectors", "copies"])
def test_with_and_without_deletion_vectors(tmp_path: Path, vectors: bool) -> None:
    house = open_house(tmp_path, f"deletion_vectors = {str(vectors).lower()}\n")
    for day in (20, 21):
        house.drop(dated(day), csv_bytes([cells(key, f"2026-11-{day} 08:00:00") for key in "ABC"[: 22 - day + 1]]))
        house.run()
    mend(house, "undo", of(house, dated(20)))
    assert set(statuses(house)) == {"A", "B"}
    mend(house, "undo", of(house, dated(21)))
    assert statuses(house) == {}
    mend(house, "redo", of(house, dated(20)))
    assert set(statuses(house)) == {"A", "B", "C"}
    sound(house)


# -- what is refused, and nothing done --------------------------------------------------------------------------------


def refused(house: House, kind: str, *ids: str, **more: Any) -> UsageError:
    before = {table: bag(house.rows(table)) for table in ("target", "history", "deliveries")}, house.archived()
    with pytest.raises(UsageError) as caught:
        mend(house, kind, *ids, **more)
    assert (
        {table: bag(house.rows(table)) for table in ("target", "history", "deliveries")},
        house.archived(),
    ) == before
    assert caught.value.hint
    return caught.value


def test_an_unknown_delivery_names_the_nearest(house: House) -> None:
    known = of(house, SECOND)
    error = refused(house, "undo", known[:-1] + "x")
    assert known in error.hint


def test_one_that_is_undone_already_says_by_whom_and_how_to_go_on(house: House) -> None:
    mend(house, "undo", of(house, SECOND), why="wrong file")
    error = refused(house, "undo", of(house, SECOND))
    assert "undone by ops: wrong file" in error.message
    assert f"ordertrail redo {of(house, SECOND)}" in error.hint


def test_a_correction_of_a_correction_names_the_opposite(house: House) -> None:
    mend(house, "undo", of(house, SECOND))
    own = next(str(row["delivery_id"]) for row in house.rows("deliveries") if row["state"] == "correction")
    error = refused(house, "undo", own)
    assert f"ordertrail redo {of(house, SECOND)}" in error.hint


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_of_several_replays_all_are_judged_first(house: House, damage: str) -> None:
    path = house.config.archive / str(house.delivery(SECOND)["archived_to"])
    path.chmod(0o644)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\n")
    error = refused(house, "replay", *(of(house, name) for name in (FIRST, SECOND, THIRD)))
    assert "of 1 of 3 deliveries" in error.message
    assert of(house, SECOND) in error.message
    if damage == "changed":
        assert str(house.delivery(SECOND)["sha256"]) in error.message


def test_a_replay_that_would_lose_rows_is_not_made(house: House) -> None:
    house.config = replace(house.config, vendors=(Vendor("default", delimiter=";"),))
    error = refused(house, "replay", of(house, FIRST))
    assert "would be quarantined" in error.message


def test_a_replaced_delivery_comes_back_only_when_its_successor_is_gone(house: House) -> None:
    old = of(house, FIRST)
    (new,) = mend(house, "replay", old).deliveries
    error = refused(house, "redo", old)
    assert f"ordertrail undo {new.delivery_id}" in error.hint
    mend(house, "undo", new.delivery_id)
    mend(house, "redo", old)
    sound(house)


def test_a_file_for_correct_must_be_another_one_and_lie_elsewhere(house: House, tmp_path: Path) -> None:
    same = tmp_path / "same.csv"
    same.write_bytes(house.archived()[str(house.delivery(SECOND)["archived_to"])])
    assert "ordertrail replay" in refused(house, "correct", of(house, SECOND), file=same).hint
    inside = house.drop("fixed.csv", "x")
    assert "source folder" in refused(house, "correct", of(house, SECOND), file=inside).message
    inside.unlink()
    with pytest.raises(OrdertrailError, match="cannot read"):
        mend(house, "correct", of(house, SECOND), file=tmp_path / "none.csv")


def test_a_vendor_that_is_not_in_the_config_any_more(house: House) -> None:
    house.config = replace(house.config, vendors=(Vendor("other", "other/*.csv"),))
    assert "'default'" in refused(house, "replay", of(house, FIRST)).message


# -- the command line -------------------------------------------------------------------------------------------------

Call = Callable[..., Result]


@pytest.fixture
def call(house: House, monkeypatch: pytest.MonkeyPatch) -> Call:
    folder = house.config.source.parent
    (folder / "ordertrail.toml").write_text(
        '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n'
    )
    monkeypatch.chdir(folder)
    return lambda *words: CliRunner().invoke(cli, list(words))


def test_plan_says_the_same_and_writes_nothing(call: Call, house: House) -> None:
    before = {table: house.version(table) for table in ("stage", "target", "history", "deliveries")}
    one = of(house, SECOND)
    planned = call("undo", one, "--why", "wrong file", "--plan", "--json")
    assert planned.exit_code == 0, planned.output
    found = json.loads(planned.stdout)
    assert found["batch"] is None
    assert [(change["key"], change["change"]) for change in found["changes"]] == [
        ({"tracking_num": "A"}, "restored"),
        ({"tracking_num": "C"}, "removed"),
    ]
    assert found["changes"][0]["before"]["status"] == "IN_TRANSIT"
    assert found["changes"][0]["after"]["status"] == "EXCEPTION"
    assert {table: house.version(table) for table in before} == before
    shown = call("undo", one, "--why", "wrong file", "--plan")
    assert "1 restored, 0 kept, 1 removed" in shown.stdout
    assert "Nothing was written." in shown.stdout
    made = json.loads(call("undo", one, "--why", "wrong file", "--yes", "--json").stdout)
    assert made["correction"]["keys"] == found["correction"]["keys"]
    assert made["batch"] == 4


def test_a_run_that_finishes_a_correction_says_so(call: Call, house: House) -> None:
    def stop(name: str) -> None:
        if name == "stage.committed":
            raise KeyboardInterrupt

    correction = Correction(CorrectionKind.UNDO, (of(house, SECOND),), "wrong file", "ops")
    with pytest.raises(KeyboardInterrupt):
        correct(house.pipeline(stop), Wanted(correction))
    said = call("run").stdout
    assert "With it a correction was finished: undo of 1 delivery, 2 shipments touched: 1 restored" in said
    assert "C" not in statuses(house)


def test_without_a_terminal_it_needs_yes_and_why(call: Call, house: House) -> None:
    one = of(house, SECOND)
    asked = call("undo", one, "--why", "wrong file")
    assert asked.exit_code == 2
    assert "--yes" in asked.stderr
    assert call("undo", one, "--yes").exit_code == 2
    assert call("undo", one, "--why", "  ", "--yes").exit_code == 2
    assert call("replay", "--yes").exit_code == 2
    assert call("replay", one, "--all-quarantined", "--yes").exit_code == 2
    none = call("replay", "--all-quarantined", "--yes")
    assert none.exit_code == 2
    assert "no delivery is quarantined or held" in none.stderr
    assert house.delivery(SECOND)["state"] == "loaded"


def test_the_deliveries_say_what_was_decided(call: Call, house: House) -> None:
    one = of(house, SECOND)
    assert call("undo", one, "--why", "wrong file", "--by", "ops", "--yes").exit_code == 0
    listed = call("deliveries").stdout
    assert "undone (ops, " in listed
    assert "wrong file" in listed
    assert "None" not in listed
    assert "undone" in call("track", "A").stdout
    assert call("verify").exit_code == 0
