"""The operators' page: a row for each open item with a command that is there, and figures that were measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ordertrail.config import Maintenance
from ordertrail.deploy.docker import image_files
from ordertrail.deploy.systemd import BESIDE_LIMIT_MB
from ordertrail.look.open_items import KINDS
from tests.docs.test_docs import CALLS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "operate.md").read_text(encoding="utf-8")
NIGHT = PAGE.partition("## At 3 a.m.")[2]
ROWS = {cells[1].strip(" `"): cells for cells in (line.split("|") for line in NIGHT.splitlines()) if len(cells) == 6}


def bench(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_an_open_item_has_a_row_that_says_what_to_do_and_whom_to_wake(kind: str) -> None:
    assert kind in ROWS, f"docs/how-to/operate.md does not say what to do at 3 a.m. about {kind!r}"
    _, _, means, command, wake, _ = ROWS[kind]
    assert len(means.strip()) > 20
    assert len(wake.strip()) > 5
    assert re.search(r"`[^`]+`", command), "a first command"


def test_no_row_is_of_a_kind_that_is_gone() -> None:
    assert ROWS.keys() - {"kind", "---"} <= KINDS.keys()


def test_the_first_commands_are_there() -> None:
    for cells in ROWS.values():
        for words in re.findall(r"`ordertrail ([^`]+)`", cells[3]):
            assert words.split()[0] in CALLS, words


def cases() -> dict[int, dict[str, Any]]:
    return {case["rows"]: case["contenders"]["ordertrail"] for case in bench("upsert")["cases"]}


def test_the_sizes_are_those_that_were_measured() -> None:
    table = PAGE.partition("<!-- sizing -->")[2].partition("<!-- /sizing -->")[0]
    upsert, first, many, undo, watch = (
        cases(),
        bench("first_load"),
        bench("many_batches"),
        bench("undo"),
        bench("watch"),
    )
    wanted = [
        *(f"| {upsert[rows]['peak_mb']} MB | {upsert[rows]['whole_s']:.1f} s |" for rows in (10**6, 10**7, 10**8)),
        f"| {first['ordertrail_run']['peak_mb']} MB | {first['ordertrail_run']['median_wall_s']:.0f} s |",
        f"| {many['peak_mb']} MB | {many['over_time'][-1]['pass_s']['median']:.2f} s a batch |",
        f"| {undo['undo']['peak_mb']} MB | {undo['undo']['median_wall_s']:.1f} s |",
        "| {p50:.2f} s, p95 {p95:.2f} s |".format(**watch["closed_to_readable_s"]),
    ]
    assert [one for one in wanted if one not in table] == []
    last = many["over_time"][-1]
    rows = many["full_read"]["rows"]
    assert f"{last['orders_target']['live_bytes'] / rows:.0f} bytes a row of the target" in PAGE
    history = many["rows_before"] + many["batches"] * many["batch_rows"]
    assert f"{last['orders_history']['live_bytes'] / history:.0f} a row of the history" in PAGE


def test_the_memory_that_units_allow_is_more_than_was_ever_measured() -> None:
    """Every run had the default `memory_limit_mb`; `MemoryHigh` is a quarter of the margin below the limit."""
    limit_mb = 1024
    most_mb = max(bench("first_load")["ordertrail_run"]["peak_mb"], bench("many_batches")["peak_mb"])
    assert most_mb < limit_mb + BESIDE_LIMIT_MB * 3 // 4
    assert f"{(most_mb - limit_mb) / 1000:.1f} GB at most in these runs" in PAGE


def test_how_long_things_stay_is_what_the_settings_say() -> None:
    limits = Maintenance()
    retention = PAGE.partition("## Retention")[2].partition("## ")[0]
    assert f"{limits.retention_h:.0f} hours | `retention_h`" in retention
    assert f"{limits.log_retention_h / 24:.0f} days | `log_retention_h`" in retention
    assert f"{limits.consumer_keep_d:.0f} days | `consumer_keep_d`" in retention


def test_the_logs_of_the_compose_file_are_as_large_as_the_page_says() -> None:
    toml = '[pipeline]\nsource = "in"\narchive = "a"\nwarehouse = "w"\n'
    compose = image_files(toml)["compose.yaml"]
    assert "max-size: 10m" in compose
    assert 'max-file: "5"' in compose
    assert "the compose file keeps five files of 10 MB" in PAGE
