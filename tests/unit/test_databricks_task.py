"""The tasks of the Databricks job, run through their notebooks; the pipeline behind them is an embedded one.

What they do on Spark is in `tests/spark/test_notebooks.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace

from ordertrail.databricks import task
from ordertrail.databricks.bundle import BundleOptions, bundle_files
from ordertrail.errors import AttentionError, ConfigError, StorageError, TableError
from ordertrail.look import document
from ordertrail.look.incidents import incidents_of
from ordertrail.model import DeliveryReport, RowCounts, RunReport, State
from ordertrail.pipeline import Pipeline
from tests.feeds import cells, csv_bytes
from tests.harness import House, open_house, without_fsync
from tests.notebooks import Dbutils, JobRun

GOOD = csv_bytes([cells("007", "2026-11-20 08:00:00"), cells("B", "2026-11-20 08:00:00")])
BROKEN = b"order_num,tracking_num\n1,008\n"

COUNTS = {name: count for name, count in asdict(RowCounts(parsed=2, inserted=2)).items() if name != "removed"}


class Workspace:
    """The three notebooks and a pipeline that they work for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.house: House = open_house(folder / "house")
        self.folder = folder
        self.fail_at: str | None = None
        for path, text in bundle_files(BundleOptions("ordertrail")).items():
            if path.startswith("notebooks/"):
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_text(text)
        monkeypatch.setattr(task, "_pipeline", lambda spark, dbutils: Pipeline(self.house.config, probe=self.probe))

    def probe(self, name: str) -> None:
        if name == self.fail_at:
            raise StorageError("the Volume is away")

    def run(self, run: JobRun, task_key: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(run.run(task_key, self.folder / "notebooks" / f"{task_key}.py") or "")
        return found


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return Workspace(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def quick() -> object:
    with without_fsync():
        yield


def test_a_run_that_is_well_hands_on_its_counts_and_ends_with_its_report(workspace: Workspace) -> None:
    workspace.house.drop("order_tracking_2026_11_20.csv", GOOD)
    run = JobRun()
    staged, loaded = workspace.run(run, task.STAGE_TASK), workspace.run(run, task.LOAD_TASK)
    assert (staged["batch"], loaded["batch"]) == (1, 1)
    assert loaded["rows"] == COUNTS
    values = {key: value for (name, key), value in run.values.items() if name == task.LOAD_TASK}
    assert values == {
        "batch": 1,
        "recovered": False,
        **{f"rows_{name}": count for name, count in COUNTS.items()},
        "quarantined": [],
        "quarantined_count": 0,
        "warnings": [],
        "warnings_count": 0,
        "open_items": [],
        "open_items_count": 0,
        "finished": True,
    }
    assert workspace.run(run, task.ATTENTION_TASK) == {"attention": [], "open": []}


def test_nothing_waiting_is_well(workspace: Workspace) -> None:
    run = JobRun()
    assert workspace.run(run, task.STAGE_TASK)["batch"] is None
    assert workspace.run(run, task.LOAD_TASK)["batch"] is None
    assert run.values[task.LOAD_TASK, "batch"] == 0
    assert workspace.run(run, task.ATTENTION_TASK) == {"attention": [], "open": []}


def test_a_quarantined_delivery_fails_the_last_task_only_when_all_is_loaded(workspace: Workspace) -> None:
    workspace.house.drop("order_tracking_2026_11_20.csv", GOOD)
    workspace.house.drop("order_tracking_2026_11_21.csv", BROKEN)
    run = JobRun()
    workspace.run(run, task.STAGE_TASK)
    workspace.run(run, task.LOAD_TASK)
    assert len(workspace.house.target()) == 2
    assert workspace.house.left() == []
    with pytest.raises(AttentionError) as told:
        workspace.run(run, task.ATTENTION_TASK)
    bad = workspace.house.delivery("order_tracking_2026_11_21.csv")
    assert told.value.message.startswith("the batch is loaded and nothing is lost, but somebody must look:")
    listed, _, alert = told.value.message.partition("\n\n")
    assert listed.count(str(bad["delivery_id"])) == 1, "stage and load both tell of it"
    assert alert.startswith("orders: order_tracking_2026_11_21.csv of default is quarantined: ")
    assert f"type next  ordertrail rejects --delivery {bad['delivery_id']}" in alert
    (incident,) = incidents_of(workspace.house.config)
    assert (incident.key, incident.open) == (f"delivery:{bad['delivery_id']}", True)
    assert "order_tracking_2026_11_21.csv" in told.value.message
    assert str(bad["reason"]) in told.value.message
    assert told.value.exit_code == 3


def test_the_next_run_is_not_told_of_it_again(workspace: Workspace) -> None:
    workspace.house.drop("order_tracking_2026_11_21.csv", BROKEN)
    for run, fails in ((JobRun(), True), (JobRun(), False)):
        workspace.run(run, task.STAGE_TASK)
        workspace.run(run, task.LOAD_TASK)
        if fails:
            with pytest.raises(AttentionError):
                workspace.run(run, task.ATTENTION_TASK)
        else:
            found = workspace.run(run, task.ATTENTION_TASK)
            (line,) = found["open"]  # type: ignore[misc]
            assert found["attention"] == []
            assert "order_tracking_2026_11_21.csv of default is quarantined" in line


def test_a_new_item_is_told_with_those_that_are_open_since_earlier_runs(workspace: Workspace) -> None:
    for name, extra in (("order_tracking_2026_11_21.csv", b""), ("order_tracking_2026_11_22.csv", b"2,009\n")):
        workspace.house.drop(name, BROKEN + extra)
        run = JobRun()
        workspace.run(run, task.STAGE_TASK)
        workspace.run(run, task.LOAD_TASK)
    with pytest.raises(AttentionError) as told:
        workspace.run(run, task.ATTENTION_TASK)
    new, rest = told.value.message.split("\nopen since earlier runs:\n")
    earlier, _, alert = rest.partition("\n\n")
    assert alert.startswith("orders: order_tracking_2026_11_22.csv of default is quarantined: ")
    assert "order_tracking_2026_11_21.csv" not in alert
    assert "order_tracking_2026_11_22.csv" in new
    assert "order_tracking_2026_11_21.csv" not in new
    assert "order_tracking_2026_11_21.csv of default is quarantined" in earlier
    assert "order_tracking_2026_11_22.csv" not in earlier


def test_a_delivery_whose_bytes_are_loaded_by_the_same_run_needs_nobody(workspace: Workspace) -> None:
    """It was staged and quarantined; then the config was mended and the load's repair took the same bytes."""
    house = workspace.house
    half = csv_bytes([cells("007", "2026-11-20 08:00:00"), cells("B", "yesterday"), cells("C", "tomorrow")])
    house.turn(min_rejects=1)
    house.drop("order_tracking_2026_11_21.csv", half)
    run = JobRun()
    workspace.run(run, task.STAGE_TASK)
    workspace.run(run, task.LOAD_TASK)
    house.turn(max_reject_share=1.0)
    house.drop("order_tracking_2026_11_21.csv", half)
    house.run()
    workspace.run(run, task.LOAD_TASK)
    assert workspace.run(run, task.ATTENTION_TASK) == {"attention": [], "open": []}


def test_items_that_cannot_be_listed_are_a_warning_and_the_load_ends_well(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise TableError("the deliveries are damaged")

    monkeypatch.setattr(task, "open_items_of", damaged)
    workspace.house.drop("order_tracking_2026_11_20.csv", GOOD)
    run = JobRun()
    workspace.run(run, task.STAGE_TASK)
    assert workspace.run(run, task.LOAD_TASK)["batch"] == 1
    with pytest.raises(AttentionError, match="cannot be listed: the deliveries are damaged"):
        workspace.run(run, task.ATTENTION_TASK)


def test_attention_can_be_told_without_failing(workspace: Workspace) -> None:
    workspace.house.drop("order_tracking_2026_11_21.csv", BROKEN)
    run = JobRun({"fail_on_attention": "False"})
    workspace.run(run, task.STAGE_TASK)
    workspace.run(run, task.LOAD_TASK)
    (line,) = workspace.run(run, task.ATTENTION_TASK)["attention"]  # type: ignore[misc]
    assert "is quarantined" in line
    with pytest.raises(ConfigError, match="fail_on_attention = 'perhaps'"):
        workspace.run(JobRun({"fail_on_attention": "perhaps"}), task.ATTENTION_TASK)


def test_a_retried_load_finds_its_work_done_and_the_alert_is_not_lost(workspace: Workspace) -> None:
    """The first attempt fails right after the done mark, the second has nothing to report: stage has told it."""
    workspace.house.drop("order_tracking_2026_11_20.csv", GOOD)
    workspace.house.drop("order_tracking_2026_11_21.csv", BROKEN)
    run = JobRun()
    workspace.run(run, task.STAGE_TASK)
    workspace.fail_at = "deliveries.committed"
    with pytest.raises(StorageError):
        workspace.run(run, task.LOAD_TASK)
    workspace.fail_at = None
    assert workspace.run(run, task.LOAD_TASK)["deliveries"] == []
    assert workspace.house.left() == []
    with pytest.raises(AttentionError, match="order_tracking_2026_11_21"):
        workspace.run(run, task.ATTENTION_TASK)


@pytest.mark.parametrize("failed", [task.STAGE_TASK, task.LOAD_TASK])
def test_after_a_failure_the_last_task_fails_too(failed: str, workspace: Workspace) -> None:
    """A run is judged by its last task: if that ended well nobody would be alerted."""
    workspace.house.drop("order_tracking_2026_11_21.csv", BROKEN)
    run = JobRun()
    if failed == task.LOAD_TASK:
        workspace.run(run, task.STAGE_TASK)
    with pytest.raises(AttentionError) as told:
        workspace.run(run, task.ATTENTION_TASK)
    assert "the batch is not loaded yet" in told.value.message
    assert ("order_tracking_2026_11_21" in told.value.message) is (failed == task.LOAD_TASK)
    assert "no row is lost" in told.value.hint


def test_the_document_is_that_of_the_command_line(workspace: Workspace) -> None:
    workspace.house.drop("order_tracking_2026_11_20.csv", GOOD)
    workspace.house.drop("order_tracking_2026_11_21.csv", BROKEN)
    report = workspace.house.run()
    assert json.loads(task._document(report)) == json.loads(json.dumps(document.run_report(report)))


def test_more_than_a_task_value_holds_is_counted(workspace: Workspace) -> None:
    one = DeliveryReport("d", "acme", "ü" * 120, "0" * 64, 1, State.QUARANTINED, "x" * 9999, None, RowCounts())
    many = tuple(replace(one, delivery_id=f"{n:06}") for n in range(400))
    report = RunReport("orders", "spark", 1, False, RowCounts(), many, (), tuple(f"{n}{'w' * 999}" for n in range(400)))
    run = JobRun()
    for name in (task.STAGE_TASK, task.LOAD_TASK):
        task._hand_on(Dbutils(run, name), report)
    Dbutils(run, task.LOAD_TASK).jobs.taskValues.set("finished", True)
    assert run.values[task.LOAD_TASK, "quarantined_count"] == 400
    with pytest.raises(AttentionError) as told:
        workspace.run(run, task.ATTENTION_TASK)
    assert len(told.value.message.splitlines()) == 22
    assert len(told.value.message) < 20_000


def test_parameters_that_are_settings_override_the_config(tmp_path: Path) -> None:
    (tmp_path / "ordertrail.toml").write_text(bundle_files(BundleOptions("ordertrail"))["ordertrail.toml"])
    given = {
        "config": str(tmp_path / "ordertrail.toml"),
        "schema": "dev_me_default",
        "source": "/Volumes/a/b/c/source/",
    }
    config = task.config_of(Dbutils(JobRun(given), task.STAGE_TASK))
    assert (config.engine, config.catalog, config.schema) == ("spark", "incremental_load", "dev_me_default")
    assert config.source == Path("/Volumes/a/b/c/source")
    assert config.archive == Path("/Volumes/incremental_load/default/orders_archive")


class Granting:
    """A session that takes SQL, and fails when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.statements: list[str] = []
        self.error = error

    def sql(self, statement: str) -> None:
        self.statements.append(statement)
        if self.error is not None:
            raise self.error


def granted(tmp_path: Path, session: Granting, mode: str = "upsert", **given: str) -> str | None:
    text = bundle_files(BundleOptions("ordertrail"))["ordertrail.toml"]
    (tmp_path / "ordertrail.toml").write_text(text.replace('mode = "upsert"', f'mode = "{mode}"'))
    run = JobRun({"config": str(tmp_path / "ordertrail.toml"), **given})
    return task._grant(session, Dbutils(run, task.LOAD_TASK))  # type: ignore[arg-type]


def test_readers_are_let_read_the_target_and_no_other_table(tmp_path: Path) -> None:
    session = Granting()
    assert granted(tmp_path, session, readers="all `readers`", schema="parcels") is None
    assert session.statements == [
        "GRANT SELECT ON TABLE `incremental_load`.`parcels`.`orders_target` TO `all ``readers```"
    ]
    assert granted(tmp_path, session) is None
    assert len(session.statements) == 1, "in dev there are none"
    appending = Granting()
    assert granted(tmp_path, appending, mode="append", readers="all") is None
    assert [one.split("`")[5] for one in appending.statements] == ["orders_target", "orders_current"]


def test_readers_that_cannot_be_let_in_are_told_of_and_nothing_fails(tmp_path: Path) -> None:
    errors = pytest.importorskip("pyspark.errors")
    told = granted(tmp_path, Granting(errors.PySparkException("PRINCIPAL_DOES_NOT_EXIST")), readers="nobody")
    assert told is not None
    assert "PRINCIPAL_DOES_NOT_EXIST" in told
    assert told.endswith("GRANT SELECT ON TABLE `incremental_load`.`default`.`orders_target` TO `nobody`")
