"""The bundle's notebooks, run for real and in order on Spark: they leave the tables that `ordertrail run` leaves.

Names of three levels, the bundle's own config, the parameters of its production job, and the Volumes as folders:
`/Volumes/...` itself where this user may make it, else a folder of the test's own, given as the job's parameters.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from ordertrail.databricks.bundle import BundleOptions, bundle_files
from ordertrail.databricks.bundle_config import with_settings
from ordertrail.databricks.task import ATTENTION_TASK, LOAD_TASK, STAGE_TASK
from ordertrail.errors import AttentionError, ConfigError
from ordertrail.markers import MARKER
from ordertrail.mend.migration import migrate
from tests.bundle_check import resolved
from tests.bundle_rules import PRINCIPAL
from tests.feeds import FeedFile, cells, csv_bytes, write_files
from tests.harness import CLOCKS, NOON_NS, House, bag, open_house, without_fsync
from tests.notebooks import Dbutils, JobRun
from tests.oracle import Row
from tests.spark.engines import by_name, name_of
from tests.spark.session import CATALOG, Spark

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("elsewhere")]

SCHEMA = "default"
TABLES = ("stage", "target", "history", "rejects", "deliveries")
DAY = "2026-11-20 08:00:00", "2026-11-21 08:00:00", "2026-11-22 08:00:00"


def dated(day: int, *rows: Sequence[str], part: str = "") -> FeedFile:
    content = csv_bytes([tuple(row) for row in rows])
    return FeedFile(f"order_tracking_2026_11_{day}{part}.csv", content, NOON_NS + day)


FIRST = dated(21, cells("007", DAY[1]), cells("B", DAY[1]), cells("C", DAY[1], "PICKED_UP"))
BATCHES: tuple[tuple[FeedFile, ...], ...] = (
    (FIRST,),
    # A whole file that is broken beside one with a bad row: nothing of the first lands, all but that row of the second.
    # An older update that comes late, and the bytes of the first file again.
    (
        FeedFile("order_tracking_2026_11_22_bad.csv", b"order_num,tracking_num\n1,009\n", NOON_NS),
        dated(22, *(cells(key, DAY[2], "DELIVERED") for key in ("B", "D", "E", "F", "G")), cells("", DAY[2])),
        dated(20, cells("007", DAY[0], "DELIVERED", "late"), cells("H", DAY[0])),
        FeedFile("order_tracking_2026_11_21_copy.csv", FIRST.content, NOON_NS - 5_000_000),
    ),
    # The state that is there already; a correction of the same time in a later file; a key several times in one file.
    (
        dated(22, cells("B", DAY[2], "DELIVERED"), part="_again"),
        dated(23, cells("D", DAY[2], "DELIVERED", "corrected"), cells("007", DAY[1], "RETURNED"), cells("007", DAY[2])),
        FeedFile("order_tracking_2026_11_23_empty.csv", csv_bytes([]), NOON_NS),
    ),
    (),
)
NEEDS_A_PERSON = 1
"""The batch with the broken file."""

STAGED_TWICE = 2
"""The batch whose stage Databricks runs again: the load that comes after it has nothing to do."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """What Databricks would have: the bundle's files, the job, the Volume and a session."""

    spark: Spark
    notebooks: Path
    parameters: dict[str, str]

    def run(self, run: JobRun, task_key: str) -> dict[str, object]:
        notebook = self.notebooks / f"{task_key}.py"
        found: dict[str, object] = json.loads(run.run(task_key, notebook, self.spark.session) or "")
        return found

    def rows(self, house: House, table: str) -> list[Row]:
        return by_name(self.spark)(house, table)

    def files(self, kind: str) -> dict[str, bytes]:
        root = Path(self.parameters[kind])
        found = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != MARKER)
        return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Path]:
    """The folder of the schema's Volumes. What is made of `/Volumes` is taken away again."""
    wanted = Path("/Volumes") / CATALOG / SCHEMA
    missing = [folder for folder in (wanted, *wanted.parents) if not folder.exists()]
    try:
        # Somebody else's Volumes are left alone.
        wanted.mkdir(parents=True)
    except OSError:
        yield tmp_path / "Volumes" / CATALOG / SCHEMA
        return
    yield wanted
    shutil.rmtree(wanted)
    for folder in missing[1:]:
        folder.rmdir()


@pytest.fixture
def workspace(tmp_path: Path, spark: Spark, volumes: Path) -> Iterator[Workspace]:
    bundle = tmp_path / "bundle"
    for path, text in bundle_files(BundleOptions("ordertrail")).items():
        (bundle / path).parent.mkdir(parents=True, exist_ok=True)
        (bundle / path).write_text(text)
    config = bundle / "ordertrail.toml"
    # The lock of a run of these tests beside this one is not this one's.
    config.write_text(with_settings(config.read_text(), "pipeline", {"warehouse": str(tmp_path / "scratch")}))
    job = resolved((bundle / "databricks.yml").read_text(), "prod", PRINCIPAL)["resources"]["jobs"]["orders"]
    # Open-source Spark has no GRANT: what the task does with readers is in `tests/unit/test_databricks_task.py`.
    parameters = {one["name"]: one["default"] for one in job["parameters"]} | {"readers": ""}
    made = Workspace(spark, bundle / "notebooks", parameters)
    if volumes.parts[1] != "Volumes":
        parameters |= {kind: str(volumes / Path(parameters[kind]).name) for kind in ("source", "archive")}
    Path(parameters["source"]).mkdir(parents=True)
    house = open_house(tmp_path / "names")
    drop_tables(spark, house)
    with without_fsync():
        yield made
    drop_tables(spark, house)


def drop_tables(spark: Spark, house: House) -> None:
    for table in TABLES:
        spark.run(f"DROP TABLE IF EXISTS {name_of(house, table)}")


def without_times(rows: Sequence[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


@pytest.mark.slow
def test_the_job_leaves_what_run_leaves(workspace: Workspace, tmp_path: Path) -> None:
    house = open_house(tmp_path / "embedded")
    for number, files in enumerate(BATCHES):
        write_files(Path(workspace.parameters["source"]), files)
        house.drop_all(files)
        expected = house.run()

        run = JobRun(workspace.parameters)
        staged = workspace.run(run, STAGE_TASK)
        assert staged["batch"] == expected.batch
        if number == STAGED_TWICE:
            again = workspace.run(run, STAGE_TASK)
            assert (again["batch"], again["recovered"]) == (expected.batch, True)
        loaded = workspace.run(run, LOAD_TASK)
        assert loaded["batch"] == (None if number == STAGED_TWICE else expected.batch)
        assert loaded["engine"] == "spark"
        assert {name: run.values[LOAD_TASK, f"rows_{name}"] for name in loaded["rows"]} == loaded["rows"]  # type: ignore[attr-defined]
        if number == NEEDS_A_PERSON:
            with pytest.raises(AttentionError, match=r"order_tracking_2026_11_22_bad\.csv .* is quarantined"):
                workspace.run(run, ATTENTION_TASK)
        else:
            assert workspace.run(run, ATTENTION_TASK)["attention"] == []

        found, wanted = (without_times(rows) for rows in (workspace.rows(house, "target"), house.rows("target")))
        assert bag(found) == bag(wanted), f"target after batch {number + 1}"
        assert workspace.files("archive") == house.archived()
        assert workspace.files("source") == {}
    for table in ("history", "rejects", "deliveries"):
        found, wanted = (without_times(rows) for rows in (workspace.rows(house, table), house.rows(table)))
        assert bag(found) == bag(wanted), table


def test_the_volume_is_the_same_folder_for_dbutils(workspace: Workspace) -> None:
    write_files(Path(workspace.parameters["source"]), BATCHES[0])
    listed = Dbutils(JobRun(), STAGE_TASK).fs.ls(workspace.parameters["source"])
    assert [one.name for one in listed] == [file.path for file in BATCHES[0]]


@pytest.mark.slow
def test_the_target_of_other_notebooks_is_adopted_and_the_job_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    house = open_house(tmp_path / "theirs")
    run, table = workspace.spark.run, name_of(house, "target")
    columns = ", ".join(f"{column.name} {column.type}" for column in house.config.contract.columns)
    run(f"CREATE TABLE {table} ({columns}) USING delta")
    night = "TIMESTAMP'2026-11-20 08:00:00+00:00'"
    run(f"INSERT INTO {table} VALUES ('1', 'B', NULL, NULL, 'PICKED_UP', 'old', {night})")
    run(f"INSERT INTO {table} VALUES ('1', 'Z', NULL, NULL, 'PICKED_UP', 'old', {night})")
    dry = workspace.run(JobRun(workspace.parameters), "orders_adopt")
    assert (dry["adopted"], dry["rows"], dry["problems"]) == (False, 2, [])
    assert {row["tracking_num"] for row in workspace.spark.select(f"SELECT * FROM {table}")} == {"B", "Z"}
    done = workspace.run(JobRun({**workspace.parameters, "apply": "true"}), "orders_adopt")
    assert (done["adopted"], done["rows"]) == (True, 2)
    write_files(Path(workspace.parameters["source"]), BATCHES[0])
    job = JobRun(workspace.parameters)
    workspace.run(job, STAGE_TASK)
    assert workspace.run(job, LOAD_TASK)["rows"]["updated"] == 1  # type: ignore[index]
    assert {row["tracking_num"] for row in workspace.rows(house, "target")} == {"007", "B", "C", "Z"}
    differing = {row["tracking_num"]: row["differs"] for row in workspace.spark.select(str(done["compare"]))}
    assert set(differing) == {"007", "B", "C"}
    assert differing["C"] == "only in the new table"


@pytest.mark.slow
def test_a_changed_contract_is_migrated_and_the_job_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    """A dry run writes nothing; then the tables are those of `ordertrail migrate`, and the next run loads."""
    house = open_house(tmp_path / "embedded")
    write_files(Path(workspace.parameters["source"]), BATCHES[0])
    house.drop_all(BATCHES[0])
    house.run()
    job = JobRun(workspace.parameters)
    for task in (STAGE_TASK, LOAD_TASK):
        workspace.run(job, task)
    config = workspace.notebooks.parent / "ordertrail.toml"
    lines = 'name = "pck_recieved_date"\ntype = "date"\n'
    assert lines in config.read_text()
    config.write_text(config.read_text().replace(lines, lines.replace('"date"', '"string"')))
    columns = tuple(
        replace(one, type="string") if one.name == "pck_recieved_date" else one for one in house.config.contract.columns
    )
    house.turn(contract=replace(house.config.contract, columns=columns))
    with pytest.raises(ConfigError, match="pck_recieved_date is string, but in the tables it is date"):
        workspace.run(JobRun(workspace.parameters), STAGE_TASK)

    dry = workspace.run(JobRun(workspace.parameters), "orders_migrate")
    assert (dry["applied"], dry["batch"], dry["problems"]) == (False, None, [])
    (step,) = dry["steps"]  # type: ignore[misc]
    assert (step["step"], step["column"], step["rows"]) == ("type", "pck_recieved_date", 3)  # type: ignore[call-overload]
    done = workspace.run(JobRun({**workspace.parameters, "apply": "true"}), "orders_migrate")
    assert (done["applied"], done["batch"]) == (True, 2)
    assert migrate(house.config, apply=True).batch == 2

    write_files(Path(workspace.parameters["source"]), [BATCHES[2][1]])
    house.drop_all([BATCHES[2][1]])
    house.run()
    job = JobRun(workspace.parameters)
    for task in (STAGE_TASK, LOAD_TASK):
        workspace.run(job, task)
    for table in ("target", "history", "deliveries"):
        found, wanted = (without_times(rows) for rows in (workspace.rows(house, table), house.rows(table)))
        assert bag(found) == bag(wanted), table
