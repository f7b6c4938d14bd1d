"""`ordertrail maintain` on tables that real passes made: nobody sees a difference, and the debt is paid."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from deltalake import CommitProperties, DeltaTable

from ordertrail.cli import cli
from ordertrail.delta.debt import Compaction, compactions, debt_of
from ordertrail.delta.log import DeltaLog, LocalLogStore
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.delta.vacuum import Sweep
from ordertrail.engines.local.find import open_index, uncovered
from ordertrail.errors import CommitUnknownError, PassRunningError, StorageError, TableError
from ordertrail.keep.maintain import MaintenancePlan, Step, TidyIndex, maintain, plan_maintenance
from ordertrail.lock import maintenance_lock, pipeline_lock
from ordertrail.look.status import Reader
from ordertrail.look.verify import verify
from tests.depth import share
from tests.harness import House, bag, check_books, check_readers, open_house, without_fsync

TABLES = ("target", "history", "rejects", "deliveries")
HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
EAGER = "[maintenance]\nmax_small_files = 2\nmax_deleted_share = 0.2\nretention_h = 0\nlog_retention_h = 0\n"


def text(keys: Sequence[int], minute: int) -> str:
    return HEADER + "".join(
        f"O{key},{key + 1:05d},2026-11-19,,IN_TRANSIT,at {minute},2026-11-20 08:{minute:02d}:00\n" for key in keys
    )


def load(house: House, minute: int, keys: Sequence[int]) -> None:
    house.drop(f"part_{minute:02d}_2026_11_20.csv", text(keys, minute))
    assert house.run().batch is not None


def grown(root: Path, batches: int = 4, toml: str = EAGER) -> House:
    """Batches that each insert some keys and update some of every one before."""
    house = open_house(root, toml)
    for minute in range(batches):
        load(house, minute, [key for key in range(20 * (minute + 1)) if key % 3 == minute % 3 or key >= 20 * minute])
    return house


def contents(house: House) -> dict[str, Counter[Any]]:
    return {table: bag(house.rows(table)) for table in TABLES}


def same(house: House, before: dict[str, Counter[Any]]) -> None:
    """No reader sees a difference, and the books still balance."""
    assert contents(house) == before
    check_readers(house)
    check_books(house)
    report = verify(house.config)
    assert report.ok, [check for check in report.checks if not check.ok]


def kinds(steps: Sequence[Step]) -> set[str]:
    return {type(step).__name__ for step in steps}


@pytest.fixture(autouse=True)
def _fast() -> Any:
    with without_fsync():
        yield


# --- nobody sees a difference --------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", ["true", "false"])
def test_maintenance_changes_no_row(tmp_path: Path, vectors: str) -> None:
    house = grown(tmp_path, toml=f"deletion_vectors = {vectors}\n{EAGER}")
    before = contents(house)
    version = house.version()
    plan = plan_maintenance(house.config)
    assert {"Compaction", "Checkpoint"} <= kinds(plan.steps)
    report = maintain(house.config, plan)
    assert tuple(one.step for one in report.steps) == plan.steps
    assert all(one.done for one in report.steps), report
    same(house, before)
    assert not compactions(read_snapshot(DeltaLog(house.table_path("target"))), house.config.maintenance)
    assert house.version() == version + (vectors == "true")
    # What the compaction took out goes with the next maintenance; a pass in between works on what is there.
    load(house, 30, range(0, 80, 2))
    before = contents(house)
    maintain(house.config)
    same(house, before)


def test_a_compaction_is_one_commit_that_changes_no_data(tmp_path: Path) -> None:
    house = grown(tmp_path)
    live = read_snapshot(DeltaLog(house.table_path("target")))
    maintain(house.config)
    actions = house.actions("target", live.version + 1)
    assert actions[0]["commitInfo"]["operation"] == "OPTIMIZE"
    assert not any("txn" in action or "metaData" in action for action in actions)
    for action in actions[1:]:
        (body,) = action.values()
        assert body["dataChange"] is False
        if "remove" in action:
            vector = live.files[body["path"]].deletion_vector
            assert body.get("deletionVector") == (json.loads(vector) if vector else None)
    (added,) = [action["add"] for action in actions if "add" in action]
    stats = json.loads(added["stats"])
    assert stats["numRecords"] == len(house.rows("target"))
    assert {"minValues", "maxValues", "nullCount"} <= stats.keys()


def test_it_is_planned_before_it_is_done_and_a_dry_run_does_nothing(tmp_path: Path) -> None:
    house = grown(tmp_path)
    names = sorted(house.config.warehouse.rglob("*"))
    report = maintain(house.config, dry_run=True)
    assert report.dry_run
    assert not any(one.done for one in report.steps)
    assert sorted(house.config.warehouse.rglob("*")) == names
    assert tuple(one.step for one in report.steps) == plan_maintenance(house.config).steps


def test_little_debt_is_left_alone(tmp_path: Path) -> None:
    house = grown(tmp_path, batches=2, toml="")
    assert kinds(plan_maintenance(house.config).steps) <= {"TidyIndex"}


def test_the_new_file_has_the_live_rows_in_order(tmp_path: Path) -> None:
    """Positions in it are computed, so its order is a promise; several row groups and more than one thread."""
    house = open_house(tmp_path, threads=4)
    load(house, 0, range(300_000))
    load(house, 1, range(0, 300_000, 7))
    table = house.table_path("target")
    files = read_snapshot(DeltaLog(table)).files
    wanted: list[int] = []
    for file in files.values():
        keys = [int(key) for key in pq.read_table(table / file.path, columns=["tracking_num"])[0].to_pylist()]
        wanted += [key for key in keys if not (file.deletion_vector and key % 7 == 1)]
    step = Compaction("orders_target", tuple(files), 0, 0, 0, "for the test")
    maintain(house.config, MaintenancePlan((step,)))
    (new,) = read_snapshot(DeltaLog(table)).files.values()
    assert pq.read_metadata(table / new.path).num_row_groups > 1
    found = pq.read_table(table / new.path, columns=["tracking_num"])[0].to_pylist()
    assert np.array_equal(np.array(found).astype(int), np.array(wanted))


# --- beside passes -------------------------------------------------------------------------------------------------


def during(house: House, at: str, act: Callable[[], None]) -> list[str]:
    """Maintain, and do something at the first effect with this name; the notes of the compactions of the target."""
    acted: list[str] = []

    def probe(name: str) -> None:
        if name == at and not acted:
            acted.append(name)
            act()

    report = maintain(house.config, probe=probe)
    assert acted
    target = house.config.tables.target
    return [one.note for one in report.steps if isinstance(one.step, Compaction) and one.step.table == target]


@pytest.mark.parametrize("at", ["maintain.files", "maintain.indexed"])
def test_rows_that_a_pass_updates_meanwhile_are_marked_in_the_new_file(tmp_path: Path, at: str) -> None:
    house = grown(tmp_path)
    after: list[dict[str, Counter[Any]]] = []

    def act() -> None:
        load(house, 30, [*range(0, 60, 7), 500])
        after.append(contents(house))

    assert during(house, at, act) == [""]
    same(house, after[0])
    files = read_snapshot(DeltaLog(house.table_path("target"))).files.values()
    assert sum(1 for file in files if file.deletion_vector and file.path.startswith("c")) == 1
    load(house, 31, range(0, 80, 5))
    same(house, contents(house))


def test_a_batch_that_updates_every_row_meanwhile_leaves_nothing_to_add(tmp_path: Path) -> None:
    house = grown(tmp_path, batches=3)
    after: list[dict[str, Counter[Any]]] = []

    def act() -> None:
        load(house, 30, range(60))
        after.append(contents(house))

    # All old files are gone whole: the pass has taken them out itself.
    (note,) = during(house, "maintain.files", act)
    assert "rewrote these files" in note
    same(house, after[0])
    assert not list(house.table_path("target").glob("c-*.parquet"))


def test_it_gives_up_when_somebody_else_compacts(tmp_path: Path) -> None:
    house = grown(tmp_path)
    before = contents(house)

    def act() -> None:
        DeltaTable(house.table_path("target")).optimize.compact()

    with suppress(TableError):  # when delta-rs cannot write to the table, nothing changes
        during(house, "maintain.files", act)
    same(house, before)


def test_it_gives_up_when_deleted_rows_come_back(tmp_path: Path) -> None:
    house = grown(tmp_path)
    version = house.version()

    def act() -> None:
        DeltaTable(house.table_path("target")).restore(version - 2)

    (note,) = during(house, "maintain.files", act)
    assert note
    assert bag(house.rows("target")) == bag(house.rows("target", version - 2))


def test_a_foreign_commit_in_between_is_looked_at_and_kept(tmp_path: Path) -> None:
    house = grown(tmp_path)
    before = contents(house)
    table = house.table_path("target")

    class Store(LocalLogStore):
        taken = False

        def put_if_absent(self, path: Path, data: bytes) -> None:
            if b'"OPTIMIZE"' in data and path.parents[1] == table and not self.taken:
                self.taken = True
                properties = CommitProperties(custom_metadata={"who": "another writer"})
                theirs = {"delta.logRetentionDuration": "interval 60 days"}
                DeltaTable(table).alter.set_table_properties(theirs, commit_properties=properties)
            super().put_if_absent(path, data)

    store = Store()
    report = maintain(house.config, store=store)
    assert store.taken
    assert all(one.done for one in report.steps)
    same(house, before)
    assert "delta.logRetentionDuration" in DeltaTable(table).metadata().configuration


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    house = grown(tmp_path)
    before = contents(house)

    class Full(LocalLogStore):
        def put_if_absent(self, path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        maintain(house.config, store=Full())
    same(house, before)
    maintain(house.config)
    same(house, before)


def test_a_lost_reply_keeps_the_file_that_may_be_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = grown(tmp_path)
    before = contents(house)

    class Lost(LocalLogStore):
        def put_if_absent(self, path: Path, data: bytes) -> None:
            super().put_if_absent(path, data)
            raise OSError(5, "Input/output error")

    def unreadable(*_: object) -> bool:
        raise CommitUnknownError("the reply was lost")

    monkeypatch.setattr(DeltaLog, "_is_ours", unreadable)
    with pytest.raises(CommitUnknownError):
        maintain(house.config, store=Lost())
    monkeypatch.undo()
    with without_fsync():
        same(house, before)


# --- the index, the log, the files ---------------------------------------------------------------------------------


def test_the_index_covers_the_new_file_before_the_next_pass(tmp_path: Path) -> None:
    house = grown(tmp_path)
    maintain(house.config)
    target = read_snapshot(DeltaLog(house.table_path("target")))
    index = open_index(house.config, target)
    assert uncovered(index, target) == []
    index.close()


def test_readers_that_began_before_keep_working(tmp_path: Path) -> None:
    house = grown(tmp_path, toml=EAGER.replace("retention_h = 0\n", "", 1))
    version = house.version()
    before = bag(house.rows("target"))
    with Reader(house.config) as reader:
        maintain(house.config)
        maintain(house.config)
        assert reader.query("SELECT count(*) FROM orders_target").rows == ((len(house.rows("target")),),)
    assert bag(house.rows("target", version)) == before


@pytest.mark.slow
def test_files_and_log_stay_bounded(tmp_path: Path) -> None:
    house = open_house(tmp_path, EAGER)
    for minute in range(15 + share(15)):
        load(house, minute, range(minute, minute + 15))
        if minute % 3 == 0:
            maintain(house.config)
    before = contents(house)
    for _ in range(4):
        if kinds(plan_maintenance(house.config).steps) <= {"TidyIndex"}:
            break
        maintain(house.config)
    assert kinds(plan_maintenance(house.config).steps) <= {"TidyIndex"}, "it does not come to rest"
    for table in TABLES:
        folder = house.table_path(table)
        log = DeltaLog(folder)
        assert len(log.entries()[0]) <= 26, table
        live = read_snapshot(log).files
        assert len(live) <= 4, table
        assert len(list(folder.glob("*.parquet"))) <= len(live), table
    vectors = list((house.table_path("target") / "_dv").glob("*"))
    assert len(vectors) <= len(read_snapshot(DeltaLog(house.table_path("target"))).files)
    same(house, before)


def test_nothing_is_deleted_while_a_batch_is_unfinished(tmp_path: Path) -> None:
    """The pass that finishes it reads the target as the batch left it."""
    house = grown(tmp_path)
    maintain(house.config)

    class Killed(Exception):
        pass

    def kill(name: str) -> None:
        if name == "load.committed":
            raise Killed

    house.drop("late_2026_11_20.csv", text(range(0, 80, 2), 40))
    with pytest.raises(Killed):
        house.run(kill)
    report = maintain(house.config)
    sweeps = [one for one in report.steps if isinstance(one.step, Sweep)]
    assert sweeps
    assert not any(one.done for one in sweeps)
    assert all("not finished" in one.note for one in sweeps)
    assert house.run().recovered
    same(house, contents(house))


def test_a_table_with_a_foreign_feature_is_left_alone_and_named(tmp_path: Path) -> None:
    house = grown(tmp_path)
    DeltaTable(house.table_path("history")).alter.set_table_properties({"delta.appendOnly": "true"})
    report = maintain(house.config)
    assert any("orders_history" in warning for warning in report.warnings)
    assert not any(one.step.table == "orders_history" for one in report.steps)
    assert any(one.step.table == "orders_target" and one.done for one in report.steps)


# --- one at a time -------------------------------------------------------------------------------------------------


def test_a_second_maintenance_says_so(tmp_path: Path) -> None:
    house = grown(tmp_path, batches=1)
    with maintenance_lock(house.config), pytest.raises(PassRunningError, match="maintenance"):
        maintain(house.config)


def test_a_pass_runs_beside_maintenance_and_waits_while_it_holds_the_lock(tmp_path: Path) -> None:
    import threading

    house = grown(tmp_path, batches=1)
    waiting = threading.Event()

    def hold() -> None:
        with maintenance_lock(house.config), pipeline_lock(house.config):
            waiting.set()
            released.wait(0.3)

    released = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    waiting.wait()
    load(house, 20, range(5))
    thread.join()
    with pipeline_lock(house.config), pytest.raises(PassRunningError):
        house.run()


# --- the command ---------------------------------------------------------------------------------------------------


def call(house: House, *words: str) -> tuple[int, Any]:
    root = house.config.source.parent
    config = f'[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\n{EAGER}'
    (root / "ordertrail.toml").write_text(config)
    result = CliRunner().invoke(cli, [*words, "--config", str(root / "ordertrail.toml")])
    return result.exit_code, json.loads(result.stdout) if "--json" in words else result.stdout


def test_the_command_and_its_document(tmp_path: Path) -> None:
    house = grown(tmp_path)
    code, planned = call(house, "maintain", "--dry-run", "--json")
    assert code == 0
    assert planned["dry_run"] is True
    code, done = call(house, "maintain", "--json")
    assert code == 0
    assert done["pipeline"] == "orders"
    assert [{**one, "done": False, "seconds": 0.0} for one in done["steps"]] == planned["steps"]
    assert {"step", "table", "what", "done", "note", "seconds"} <= done["steps"][0].keys()
    code, said = call(house, "maintain", "--dry-run")
    assert code == 0
    assert "Nothing was done" in said


def test_the_command_says_when_there_is_nothing_to_do_and_when_there_is_no_table(tmp_path: Path) -> None:
    house = open_house(tmp_path)
    code, said = call(house, "maintain")
    assert code == 1
    load(house, 0, range(3))
    code, said = call(house, "maintain")
    assert code == 0
    assert "orders" in said


def test_status_shows_the_debt(tmp_path: Path) -> None:
    house = grown(tmp_path)
    _, found = call(house, "status", "--json")
    debt = found["debt"]
    target = read_snapshot(DeltaLog(house.table_path("target")))
    wanted = debt_of(target, house.config.maintenance)
    assert (debt["target_files"], debt["target_small_files"]) == (wanted.files, wanted.small_files)
    assert debt["target_deleted_rows"] == wanted.deleted_rows > 0
    assert debt["target_deleted_share"] == pytest.approx(wanted.deleted_share, abs=1e-4)
    assert debt["history_files"] == 4
    assert debt["log_entries"] > 20
    assert debt["due"] is True
    assert any("orders_target" in reason for reason in debt["reasons"])
    assert call(house, "maintain")[0] == 0
    assert call(house, "status", "--json")[1]["debt"]["due"] is False
    assert "debt" in call(house, "status")[1]


def test_the_index_is_tidied(tmp_path: Path) -> None:
    house = grown(tmp_path)
    assert TidyIndex("orders_target") in plan_maintenance(house.config).steps
