"""Every command on a real pipeline, in this process: what it prints, its JSON, its exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from ordertrail.begin.demo_feed import DEMO_SHOWCASE
from ordertrail.cli import cli
from ordertrail.model import ROW_OUTCOMES
from tests.commands import Call, call_in

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
GOOD = (
    HEADER
    + "0001,1Z1,2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n" * 1
    + (
        "0002,1Z2,2024-11-20,,PICKED_UP,2 Elm St,2024-11-20 11:00:00\n"
        "0003,1Z3,2024-11-20,,PICKED_UP,3 Elm St,2024-11-20 11:00:00\n"
        "0004,1Z4,2024-11-20,,PICKED_UP,4 Elm St,2024-11-20 11:00:00\n"
        "0005,1Z5,2024-02-30,,PICKED_UP,5 Elm St,2024-11-20 11:00:00\n"
    )
)
NEWER = HEADER + "0001,1Z1,2024-11-20,2024-11-21,DELIVERED,1 Elm St,2024-11-21 10:00:00\n"
BAD = "order_num,tracking_num\n1,2\n"
EVIL = "\x1b]0;owned\x07evil\n\u200b\U000e0041.csv"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    return call_in(tmp_path, monkeypatch, None)


@pytest.fixture
def pipeline(call: Call) -> Call:
    assert call("init").exit_code == 0
    return call


def drop(name: str, text: str) -> None:
    Path("data/source", name).write_text(text)


def document(result: Result) -> Any:
    assert result.stderr == ""
    return json.loads(result.stdout)


# --- init --------------------------------------------------------------------------------------------------------


def test_init_writes_a_config_that_runs_and_replaces_none(call: Call) -> None:
    found = document(call("init", "--json"))
    assert Path(found["source"]).is_dir()
    assert found["key"] == ["tracking_num"]
    Path("ordertrail.toml").write_text("mine")
    again = call("init")
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert Path("ordertrail.toml").read_text() == "mine"
    assert call("init", "--force").exit_code == 0
    assert call("run").exit_code == 0


def test_init_drafts_from_a_sample(call: Call) -> None:
    Path("sample.txt").write_text("waybill|updated_at|kg\n007|2024-11-20 10:00:00|1.5\n")
    text = call("init", "--from", "sample.txt").output
    assert "tracking_num" in text
    assert "kg" in text
    drop("a.txt", Path("sample.txt").read_text())
    assert document(call("run", "--json"))["rows"]["inserted"] == 1
    assert document(call("track", "007", "--json"))["current"]["kg"] == 1.5


def test_init_leaves_nothing_when_the_sample_is_none(call: Call) -> None:
    assert call("init", "--from", "nothing.csv").exit_code == 2
    assert list(Path.cwd().iterdir()) == []


def test_init_anew_lets_a_pipeline_begin_again(pipeline: Call) -> None:
    drop("order_tracking_2024_11_20.csv", GOOD)
    assert pipeline("run").exit_code == 0
    Path("data/warehouse").rename("away")
    refused = pipeline("run")
    assert refused.exit_code == 1
    assert "the tables of pipeline orders are not in" in refused.stderr
    assert "`ordertrail init --anew`" in refused.stderr
    assert not Path("data/warehouse").exists()
    assert pipeline("init", "--anew", "--force").exit_code == 2
    assert "may begin again" in pipeline("init", "--anew").output
    assert document(pipeline("init", "--anew", "--json"))["anew"] is True
    drop("order_tracking_2024_11_21.csv", GOOD)
    assert document(pipeline("run", "--json"))["batch"] == 1


# --- a pass ------------------------------------------------------------------------------------------------------


def test_run_document_has_the_promised_shape(pipeline: Call) -> None:
    drop("order_tracking_2024_11_20.csv", GOOD)
    Path("data/source/readme.md").write_text("x")
    result = pipeline("run", "--json")
    assert result.exit_code == 0
    found = document(result)
    assert list(found) == [
        "pipeline", "engine", "batch", "recovered", "rows", "deliveries", "skipped", "warnings", "seconds", "notes",
        "added_columns",
    ]  # fmt: skip
    assert list(found["rows"]) == ["parsed", *ROW_OUTCOMES]
    assert found["rows"] | {"parsed": 5, "inserted": 4, "rejected": 1} == found["rows"]
    (delivery,) = found["deliveries"]
    assert list(delivery) == [
        "delivery_id", "vendor", "file_name", "sha256", "size_bytes", "state", "reason", "archived_to", "rows",
    ]  # fmt: skip
    assert (delivery["state"], delivery["reason"]) == ("loaded", None)
    (skipped,) = found["skipped"]
    assert datetime.fromisoformat(skipped.pop("since")) <= datetime.now(UTC)
    assert skipped == {"file_name": "readme.md", "reason": "no vendor takes it"}
    assert set(found["seconds"]) == {"discover", "stage", "load", "archive", "total"}


def test_nothing_waiting_is_done(pipeline: Call) -> None:
    assert document(pipeline("run", "--json"))["batch"] is None
    assert "nothing was waiting" in pipeline("run").output
    assert "nothing was staged" in pipeline("load").output


def test_stage_and_load_are_a_run(pipeline: Call) -> None:
    drop("a.csv", GOOD)
    staged = document(pipeline("stage", "--json"))
    assert (staged["batch"], staged["rows"]["inserted"]) == (1, 0)
    assert document(pipeline("status", "--json"))["staged_batch_unfinished"] is True
    assert document(pipeline("load", "--json"))["rows"]["inserted"] == 4
    assert not Path("data/source/a.csv").exists()


def test_a_quarantined_delivery_is_exit_code_3(pipeline: Call) -> None:
    drop("a.csv", BAD)
    result = pipeline("run")
    assert result.exit_code == 3
    assert "quarantined" in result.output
    assert "no column" in result.output
    status = pipeline("status")
    assert status.exit_code == 0
    assert "Needs a person" in status.output


def test_another_pass_is_exit_code_4(pipeline: Call) -> None:
    drop("a.csv", GOOD)
    pipeline("run")
    # The second is what a release before held.
    for table in ("orders_target", "orders_stage"):
        with FileLock(f"data/warehouse/.ordertrail-incremental_load.default.{table}.lock"):
            result = pipeline("run", "--json")
        assert result.exit_code == 4
        assert document(result)["error"]["code"] == "E_PASS"


def test_plan_says_what_a_pass_would_do_and_writes_nothing(pipeline: Call) -> None:
    drop("a.csv", GOOD)
    before = sorted(Path.cwd().rglob("*"))
    found = document(pipeline("plan", "data/source/a.csv", "--json"))
    assert sorted(Path.cwd().rglob("*")) == before
    assert (found["batch"], found["rows"]["inserted"], found["rows"]["rejected"]) == (1, 4, 1)
    assert found["files"][0]["rejects"][0]["value"] == "2024-02-30"
    text = pipeline("plan", "data/source/a.csv").output
    assert "4 inserted, 1 rejected" in text
    assert "2024-02-30" in text
    Path("bad.csv").write_text(BAD)
    assert pipeline("plan", "bad.csv").exit_code == 3
    assert pipeline("plan", "none.csv").exit_code == 2


# --- looking -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `init` and two passes leave. Only to copy."""
    folder = tmp_path_factory.mktemp("loaded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ORDERTRAIL_PIPELINE_SETTLE_S", "0")
        assert CliRunner().invoke(cli, ["init"]).exit_code == 0
        for name, text in (("order_tracking_2024_11_20.csv", GOOD), ("order_tracking_2024_11_21.csv", NEWER)):
            drop(name, text)
            assert CliRunner().invoke(cli, ["run"]).exit_code == 0
    return folder


@pytest.fixture
def loaded(call: Call, two_batches: Path) -> Call:
    shutil.copytree(two_batches, Path.cwd(), dirs_exist_ok=True)
    return call


def test_status_is_one_object(loaded: Call) -> None:
    found = document(loaded("status", "--json"))
    assert (found["last_batch"], found["target_rows"], found["deliveries"]) == (2, 4, {"loaded": 2})
    assert found["last_loaded_at"].endswith("Z")
    text = loaded("status").output
    assert "4 rows in" in text
    assert "2 loaded" in text


def test_deliveries_can_be_narrowed(loaded: Call) -> None:
    rows = document(loaded("deliveries", "--json"))["rows"]
    assert [row["rows_inserted"] for row in rows] == [0, 4]
    assert len(document(loaded("deliveries", "--limit", "1", "--json"))["rows"]) == 1
    assert document(loaded("deliveries", "--vendor", "nobody", "--json")) == {"rows": [], "cut": False}
    assert len(document(loaded("deliveries", "--since", "1h", "--state", "loaded", "--json"))["rows"]) == 2
    assert document(loaded("deliveries", "--since", "2199-01-01", "--json")) == {"rows": [], "cut": False}
    assert loaded("deliveries", "--state", "lost").exit_code == 2
    assert "No such deliveries" in loaded("deliveries", "--vendor", "nobody").output
    header, first, *_ = loaded("deliveries").output.splitlines()
    assert header.split()[0] == "file"
    assert "1 updated" in first


def test_rejects_can_be_sent_back(loaded: Call) -> None:
    (reject,) = document(loaded("rejects", "--json"))["rows"]
    assert (reject["file_row"], reject["column"], reject["value"]) == (5, "pck_recieved_date", "2024-02-30")
    assert document(loaded("rejects", "--delivery", "none", "--json")) == {"rows": [], "cut": False}
    text = loaded("rejects", "--csv").stdout
    assert text.startswith("\ufeffvendor,")
    (row,) = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    assert row["raw"].startswith("0005,1Z5,2024-02-30")
    assert row["file_row"] == "5"
    assert loaded("rejects", "--csv", "--json").exit_code == 2
    assert "2024-02-30" in loaded("rejects").output


def test_track_shows_a_timeline(loaded: Call) -> None:
    found = document(loaded("track", " 1Z1 ", "--json"))
    assert found["tracking_num"] == "1Z1"
    assert found["current"]["status"] == "DELIVERED"
    assert [row["_outcome"] for row in found["history"]] == ["inserted", "updated"]
    text = loaded("track", "1Z1").output
    assert "revision 2, batch 2" in text
    assert text.splitlines()[-1].startswith("*")


def test_track_shows_rejected_rows_too(loaded: Call) -> None:
    drop("order_tracking_2024_11_22.csv", NEWER + 2 * "0001,1Z2,x,2024-11-21,DELIVERED,1 Elm St,yesterday\n")
    loaded("run")
    found = document(loaded("track", "1Z2", "--json"))
    assert [row["_outcome"] for row in found["history"]] == ["inserted"]
    assert {(row["file_row"], row["column"]) for row in found["rejected"]} >= {(2, "pck_recieved_date")}
    text = loaded("track", "1Z2").output
    assert text.index("inserted") < text.index("Rejected rows of it") < text.index("'yesterday'")
    only = loaded("track", "1Z5").output
    assert "No accepted row ever spoke of 1Z5" in only
    assert "'2024-02-30'" in only


def test_a_blank_number_is_wrong_usage(loaded: Call) -> None:
    result = loaded("track", " ")
    assert (result.exit_code, result.stderr.partition(":")[0]) == (2, "error E_USAGE")


def test_an_unknown_number_is_no_error(loaded: Call) -> None:
    nothing = {"tracking_num": "nobody", "current": None, "history": [], "rejected": []}
    nothing |= {"matches": [], "more": 0, "as_of": None}
    assert document(loaded("track", "nobody", "--json")) == nothing
    result = loaded("track", "nobody")
    assert result.exit_code == 0
    assert "nobody" in result.output


def test_query_keeps_types_and_order(loaded: Call) -> None:
    sql = "SELECT tracking_num, count(*) AS n, NULL AS nothing FROM orders_history GROUP BY 1 ORDER BY 1"
    assert document(loaded("query", sql, "--json"))["rows"][0] == {"tracking_num": "1Z1", "n": 2, "nothing": None}
    lines = loaded("query", sql).output.splitlines()
    assert lines[0].split() == ["tracking_num", "n", "nothing"]
    assert lines[1].split() == ["1Z1", "2", "NULL"]


@pytest.mark.parametrize(
    "sql", ["selec", "SELECT nope FROM orders_target", "DELETE FROM orders_target", "", "SELECT 1; SELECT 2"]
)
def test_wrong_sql_is_wrong_usage(loaded: Call, sql: str) -> None:
    result = loaded("query", sql)
    assert result.exit_code == 2
    assert "error E_QUERY" in result.stderr
    assert "Traceback" not in result.stderr


def test_verify_says_ok_or_what_is_wrong(loaded: Call) -> None:
    good = loaded("verify", "--json")
    assert good.exit_code == 0
    assert document(good)["ok"] is True
    data = max(Path("data/warehouse/incremental_load/default/orders_history").glob("*.parquet"))
    data.unlink()
    bad = loaded("verify", "--json")
    assert bad.exit_code == 3
    found = document(bad)
    assert found["ok"] is False
    assert all(one["hint"] for one in found["checks"] if not one["ok"])
    assert "WRONG" in loaded("verify").output


# --- what users break --------------------------------------------------------------------------------------------


def broken(name: str) -> None:
    match name:
        case "no config":
            Path("ordertrail.toml").unlink()
        case "bad toml":
            Path("ordertrail.toml").write_text("[pipeline\n")
        case "no source":
            shutil.rmtree("data/source")
        case "warehouse is a file":
            Path("data/warehouse").rename("gone")
            Path("data/warehouse").write_text("")
        case "corrupt log":
            for log in Path("data/warehouse").rglob("orders_target/_delta_log/*.json"):
                log.write_text("{not json")
        case "binary log":
            for log in Path("data/warehouse").rglob("orders_history/_delta_log/*.json"):
                log.write_bytes(b"\xff\xfe\x00")
        case "log of lists":
            for log in Path("data/warehouse").rglob("orders_target/_delta_log/*.json"):
                log.write_text('[1]\n{"add": {}}\n')
        case "corrupt checkpoint":
            for log in Path("data/warehouse").rglob("orders_target/_delta_log/*2.json"):
                log.with_name(f"{log.stem}.checkpoint.parquet").write_bytes(b"PAR1 no PAR1")
        case "log is not ours":
            for log in Path("data/warehouse").rglob("orders_deliveries/_delta_log/*.json"):
                log.write_text("")
        case "config is a folder":
            Path("ordertrail.toml").unlink()
            Path("ordertrail.toml").mkdir()


@pytest.mark.parametrize("command", ["run", "status", "verify", "deliveries"])
@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("no config", {2}),
        ("config is a folder", {2}),
        ("bad toml", {2}),
        ("no source", {0, 1}),
        ("warehouse is a file", {1}),
        ("corrupt log", {1, 3}),
        ("binary log", {1, 3}),
        ("log of lists", {1, 3}),
        ("corrupt checkpoint", {0, 3}),
        ("log is not ours", {1, 3}),
    ],
)
def test_no_traceback_for_what_users_can_cause(loaded: Call, command: str, fault: str, codes: set[int]) -> None:
    broken(fault)
    result = loaded(command)
    assert result.exit_code in codes
    assert "E_BUG" not in result.stderr
    assert "Traceback" not in result.output
    if result.exit_code not in (0, 3):
        first, second = result.stderr.splitlines()
        assert first.startswith("error E_")
        assert second.startswith("  what to do: ")
    assert isinstance(json.loads(loaded(command, "--json").stdout), dict)


def test_reading_before_the_first_pass_says_so(pipeline: Call) -> None:
    for words in (["deliveries"], ["rejects"], ["track", "1"], ["query", "SELECT 1"], ["verify"]):
        result = pipeline(*words)
        assert result.exit_code == 1, words
        assert "error E_TABLE" in result.stderr
        assert "ordertrail run" in result.stderr


def test_status_before_the_first_pass_says_what_waits(pipeline: Call) -> None:
    drop("a.csv", GOOD)
    before = sorted(Path.cwd().rglob("*"))
    found = document(result := pipeline("status", "--json"))
    assert result.exit_code == 0
    assert (found["last_batch"], found["target_version"], found["target_rows"]) == (None, None, 0)
    assert [one["file_name"] for one in found["waiting"]] == ["a.csv"]
    text = pipeline("status").output
    assert "Nothing was loaded yet" in text
    assert "a.csv" in text
    assert sorted(Path.cwd().rglob("*")) == before


def test_doctor_looks_at_the_tables(loaded: Call) -> None:
    def tables() -> dict[str, str]:
        return next(one for one in document(loaded("doctor", "--json"))["checks"] if one["name"] == "tables")

    assert (tables()["health"], tables()["detail"]) == ("ok", "all five, up to batch 2")
    folder = Path("data/warehouse/incremental_load/default")
    entry = max(folder.glob("orders_target/_delta_log/*.json"))
    entry.rename("entry")
    assert tables()["health"] == "warn"
    assert "ordertrail rebuild" in tables()["detail"]
    Path("entry").rename(entry)
    (folder / "orders_history").rename("history")
    assert tables()["health"] == "fail"
    assert "orders_history" in tables()["detail"]


def test_doctor_looks_for_the_archive_of_the_tables(loaded: Call) -> None:
    def whole() -> dict[str, str]:
        return next(one for one in document(loaded("doctor", "--json"))["checks"] if one["name"] == "set")

    assert whole()["health"] == "ok"
    Path("data/archive").rename("elsewhere")
    for mount_point in (False, True):
        if mount_point:
            Path("data/archive").mkdir()
        assert whole()["health"] == "fail"
        assert "the archive of pipeline" in whole()["detail"]
        assert "is the disk mounted" in whole()["detail"]
    Path("data/archive").rmdir()
    Path("elsewhere").rename("data/archive")
    assert whole()["health"] == "ok"


def test_tables_that_are_gone_are_no_first_pass(loaded: Call) -> None:
    Path("data/warehouse").rename("elsewhere")
    for words in (["status"], ["deliveries"], ["track", "1Z1"], ["query", "SELECT 1"], ["verify"]):
        result = loaded(*words)
        assert result.exit_code == 1, words
        assert "is the disk mounted" in result.stderr, words
    assert not Path("data/warehouse").exists()


def test_a_name_with_escapes_stays_text(pipeline: Call) -> None:
    drop(EVIL, GOOD)
    drop("[red]x[bold].csv", NEWER)
    os.symlink("nowhere", "data/source/\x1b[2Jlink.csv")
    said = [pipeline(*w).output for w in (["run"], ["deliveries"], ["rejects"], ["status"], ["track", "1Z1"])]
    said.append(pipeline("query", "SELECT _file_name, '\x1b[31m' || chr(155) AS \"\x1b[1m\" FROM orders_target").output)
    said.append(pipeline("deliveries", "--json").output)
    assert all(not set(text) & {"\x1b", "\x07", "\x9b", "\u200b", "\U000e0041"} for text in said)
    assert "\\x1b]0;owned\\x07evil\\n\\u200b\\U000e0041.csv" in said[0]
    assert "[red]x[bold].csv" in said[1]


# --- demo --------------------------------------------------------------------------------------------------------


def test_demo_shows_what_came_and_runs_again(call: Call) -> None:
    first = document(call("demo", "--json"))
    assert len(first["passes"]) >= 4
    assert len(first["deliveries"]) == 13
    assert first["rejects"]
    assert first["track"]["tracking_num"] == DEMO_SHOWCASE
    assert first["track"]["current"]["status"] == "DELIVERED"
    Path("ordertrail-demo/mine.txt").write_text("keep")
    again = call("demo")
    assert again.exit_code == 0
    assert Path("ordertrail-demo/mine.txt").read_text() == "keep"
    for part in ("What came", "What was rejected, and why", "One shipment", "Try next", "quarantined"):
        assert part in again.output
    config = ["--config", "ordertrail-demo/ordertrail.toml"]
    assert document(call("deliveries", *config, "--json"))["rows"] != first["deliveries"]
    assert call("verify", *config).exit_code == 0


def test_demo_takes_nothing_that_is_not_its_own(call: Call) -> None:
    Path("mine").mkdir()
    Path("mine/data").mkdir()
    Path("mine/data/keep").write_text("x")
    for words in ([], ["--force"]):
        result = call("demo", "--dir", "mine", *words)
        assert result.exit_code == 2
        assert "--dir" in result.stderr
    assert [path.name for path in Path("mine").rglob("*")] == ["data", "keep"]
    Path("file").write_text("")
    assert call("demo", "--dir", "file").exit_code == 1
