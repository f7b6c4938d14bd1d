"""`ordertrail health` on real pipelines with real faults: each is found, is told everywhere alike, and is mended."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from deltalake import DeltaTable

from ordertrail.look.heartbeat import SILENT_S
from ordertrail.look.open_items import FAILED_PASSES
from tests.commands import Call, call_in
from tests.harness import NOON_NS

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
GOOD = HEADER + "0001,1Z1,2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n"
HALF = HEADER + "".join(
    f"{n},1Z{n},2024-{month}-20,,PICKED_UP,x,2024-11-20 10:00:00\n" for n in range(10) for month in ("11", "13")
)
"""Half of its rows are rejected: more than `max_reject_share` allows."""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    return call_in(tmp_path, monkeypatch)


def drop(name: str, text: str) -> None:
    file = Path("data/source", name)
    file.write_text(text)
    os.utime(file, ns=(NOON_NS, NOON_NS))


def items_of(call: Call, *words: str) -> list[dict[str, Any]]:
    """The items of `health`: as text, JSON and exit code say, and as `status` says too."""
    result, text = call("health", "--json", *words), call("health", *words)
    assert result.stderr == text.stderr == ""
    found = json.loads(result.stdout)
    assert found["healthy"] is (found["items"] == [])
    assert result.exit_code == text.exit_code == (0 if found["healthy"] else 3)
    if not words:
        status = call("status")
        assert json.loads(call("status", "--json").stdout)["open_items"] == found["items"]
        assert ("Needs a person" in status.output) is not found["healthy"]
        assert all(one["next"] in text.output and one["next"] in status.output for one in found["items"])
    items: list[dict[str, Any]] = found["items"]
    return items


def only(call: Call, kind: str, *words: str) -> dict[str, Any]:
    (item,) = items_of(call, *words)
    assert item["kind"] == kind
    return item


def typed(call: Call, item: dict[str, Any]) -> Result:
    """The command that an item names, as somebody types it."""
    program, *words = shlex.split(item["next"])
    assert program == "ordertrail"
    return call(*words)


def test_a_vendor_whose_file_has_many_more_rejects_than_usual(call: Call) -> None:
    for number in range(10):
        drop(f"{number}.csv", HEADER + f"{number},1Z00{number},2024-11-20,,PICKED_UP,x,2024-11-20 10:00:00\n")
    assert call("run").exit_code == 0
    assert items_of(call) == []
    bad = "".join(f"{n},1Z1{n:02d},2024-13-20,,PICKED_UP,x,2024-11-20 10:00:00\n" for n in range(25))
    good = "".join(f"{n},1Z2{n:03d},2024-11-20,,PICKED_UP,x,2024-11-20 10:00:00\n" for n in range(375))
    drop("late.csv", HEADER + bad + good)
    assert call("run").exit_code == 0
    (item,) = items_of(call)
    assert (item["kind"], item["key"], item["rows"]) == ("rejects", "rejects:default", 25)
    assert "25 of 400 rows of late.csv of default are rejected (6.2%), usually none" in item["text"]
    assert call(*shlex.split(item["next"])[1:]).stdout.count("late.csv") == 25
    drop("next.csv", HEADER + "1,1Z300,2024-11-20,,PICKED_UP,x,2024-11-20 10:00:00\n")
    assert call("run").exit_code == 0
    assert items_of(call) == []


def test_a_healthy_pipeline_is_one_line(call: Call) -> None:
    assert items_of(call) == [], "before the first pass"
    drop("a.csv", GOOD)
    assert call("run").exit_code == 0
    assert items_of(call) == []
    assert call("health").output == "orders: healthy, nothing needs a person\n"


def beat(beat_at: datetime, failures: int = 0) -> None:
    """The heartbeat that a service would have left."""
    error = {"code": "E_STORAGE", "message": "the disk is full"} if failures else None
    body = {"pid": 1, "beat_at": beat_at.isoformat(), "last_error": error, "failures": failures, "failing_since": None}
    file = Path("data/warehouse/.ordertrail-orders.heartbeat")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(body))


def test_the_health_of_a_container_is_whether_the_service_lives_and_its_passes_succeed(call: Call) -> None:
    def live() -> list[str]:
        result = call("health", "--live", "--json")
        items = json.loads(result.stdout)["items"]
        assert result.exit_code == (3 if items else 0)
        return [one["kind"] for one in items]

    assert live() == ["stalled"], "no service began"
    drop("bad.csv", HALF)
    assert call("run").exit_code == 3
    beat(datetime.now(UTC))
    assert live() == [], "a quarantined file needs a person, and no restart"
    assert [one["kind"] for one in items_of(call)] == ["quarantined"]
    beat(datetime.now(UTC), failures=FAILED_PASSES - 1)
    assert live() == []
    beat(datetime.now(UTC), failures=FAILED_PASSES)
    assert live() == ["failing"]
    beat(datetime.now(UTC) - timedelta(seconds=SILENT_S + 1))
    assert live() == ["stalled"]
    # Damaged tables are what a pass tells: this reads none.
    beat(datetime.now(UTC))
    shutil.rmtree("data/warehouse/incremental_load")
    assert live() == []


def test_a_quarantined_delivery_is_healed_when_its_bytes_are_loaded(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop("a.csv", HALF)
    assert call("run").exit_code == 3
    item = only(call, "quarantined")
    assert item["key"].startswith("delivery:000001-00000-")
    assert item["severity"] == "warning"
    assert item["since"].endswith("Z")
    assert "a.csv of default is quarantined: " in item["text"]
    shown = typed(call, item)
    assert (shown.exit_code, shown.output.count("a.csv")) == (0, 10)
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_MAX_REJECT_SHARE", "0.6")
    drop("again.csv", HALF)
    assert call("run").exit_code == 0
    assert items_of(call) == []
    status = json.loads(call("status", "--json").stdout)
    assert status["deliveries"] == {"loaded": 1, "quarantined": 1}
    assert status["quarantined_recent"] == []


def test_a_corrected_file_has_other_bytes_and_heals_nothing(call: Call) -> None:
    drop("a.csv", HALF)
    call("run")
    drop("a.csv", HALF.replace("2024-13-20", "2024-12-20"))
    assert call("run").exit_code == 0
    item = only(call, "quarantined")
    assert item["key"].startswith("delivery:000001-")
    delivery = item["key"].removeprefix("delivery:")
    assert call("dismiss", delivery, "--why", "a corrected file came").exit_code == 0
    assert items_of(call) == []


def test_a_held_delivery(call: Call) -> None:
    drop("order_tracking_2099_01_01.csv", GOOD)
    assert call("run").exit_code == 3
    item = only(call, "held")
    assert "order_tracking_2099_01_01.csv" in item["text"]
    assert typed(call, item).exit_code == 0
    assert only(call, "held") == item, "it was only planned"
    plan = item["next"].removeprefix("ordertrail ")
    assert call(*shlex.split(plan.removesuffix("--plan")), "--yes").exit_code == 0
    assert items_of(call) == []


def test_a_file_that_no_vendor_takes_waits(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    drop("notes for you.txt", "hello")
    call("run")
    assert items_of(call) == [], "it has not waited for two hours"
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_WAITING_WARN_H", "0.0000001")
    item = only(call, "waiting")
    assert item["key"] == "waiting:notes for you.txt"
    assert "no vendor takes it" in item["text"]
    assert "no vendor takes it" in typed(call, item).output
    Path("data/source/notes for you.txt").unlink()
    assert items_of(call) == []


def test_a_complete_file_waits_when_nobody_runs_a_pass(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    drop("a.csv", GOOD)
    assert items_of(call) == []
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_WAITING_WARN_H", "0.0000001")
    assert only(call, "waiting")["text"].endswith("waits for the next pass")
    assert typed(call, only(call, "waiting")).exit_code == 0
    assert items_of(call) == []


def test_a_claim_that_no_batch_owns_is_told_at_once(call: Call) -> None:
    drop(".ordertrail-000009-00000-0123abcd.claim", "x")
    assert items_of(call) == [], "it may be one of a pass that is at work"
    call("run")
    assert "no batch owns" in only(call, "waiting")["text"]


def test_a_source_that_cannot_be_read(call: Call) -> None:
    call("run")
    shutil.rmtree("data/source")
    item = only(call, "failing")
    assert (item["key"], item["severity"]) == ("pipeline:source", "critical")
    assert typed(call, item).exit_code == 3


def test_a_service_that_was_killed_is_stalled_until_one_runs_again(call: Call) -> None:
    call("run")
    assert only(call, "stalled", "--service")["text"] == "no service runs: there is no heartbeat"
    assert items_of(call) == [], "none is expected"
    beat = Path("data/warehouse/.ordertrail-orders.heartbeat")
    beat.write_text('{"pid": 7, "beat_at": "2026-01-01T00:00:00+00:00", "last_error": null}')
    item = only(call, "stalled")
    assert (item["since"], item["next"]) == ("2026-01-01T00:00:00Z", "ordertrail watch")


def test_debt_above_its_limit_is_paid_by_the_command_that_is_named(call: Call) -> None:
    config = Path("ordertrail.toml")
    text = config.read_text()
    config.write_text(text.replace("max_small_files = 8", "max_small_files = 2").replace("# max_sm", "max_sm"))
    assert config.read_text() != text
    for number in range(5):
        drop(f"{number}.csv", GOOD.replace("1Z1", f"1Z{number}"))
        assert call("run").exit_code == 0
    item = only(call, "debt")
    assert "orders_target" in item["text"]
    assert typed(call, item).exit_code == 0
    assert items_of(call) == []


def test_a_disk_that_is_nearly_full(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call("run")
    for free_bytes, severity in ((10**8, "warning"), (10**6, "critical")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free_bytes: SimpleNamespace(free=free))
        item = only(call, "disk")
        assert (item["key"], item["severity"]) == ("disk:warehouse", severity)
    monkeypatch.undo()


def test_a_target_that_somebody_restored_is_not_the_fold_until_it_is_rebuilt(call: Call) -> None:
    for number in range(3):
        drop(f"{number}.csv", GOOD.replace("1Z1", f"1Z{number}"))
        call("run")
    DeltaTable("data/warehouse/incremental_load/default/orders_target").restore(1)
    item = only(call, "not_fold")
    assert "foreign RESTORE" in item["text"]
    assert item["severity"] == "critical"
    assert typed(call, item).exit_code == 3, "verify finds it too"
    drop("3.csv", GOOD.replace("1Z1", "1Z3"))
    assert call("run").exit_code == 3
    assert only(call, "not_fold") == item, "a later batch does not heal it"
    assert call("rebuild").exit_code == 0
    assert items_of(call) == []


def test_tables_that_cannot_be_read_are_an_error_and_not_healthy(call: Call) -> None:
    drop("a.csv", GOOD)
    call("run")
    shutil.rmtree("data/warehouse/incremental_load/default/orders_history")
    result = call("health", "--json")
    assert result.exit_code == 1
    assert "orders_history" in json.loads(result.stdout)["error"]["message"]


def test_it_answers_without_duckdb_and_without_what_else_takes_long_to_import(call: Call) -> None:
    drop("a.csv", HALF)
    call("run")
    words = [sys.executable, "-X", "importtime", "-m", "ordertrail", "health"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("quarantined")) == (3, 2)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pyarrow.parquet" in imported
    assert imported.isdisjoint({"duckdb", "deltalake", "pyarrow.compute"})


def test_a_config_elsewhere_is_named_in_every_command(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    drop("a.csv", HALF)
    call("run")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    result = call("health", "--json", "--config", "../ordertrail.toml")
    (item,) = json.loads(result.stdout)["items"]
    assert typed(call, item).exit_code == 0
