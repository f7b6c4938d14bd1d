"""Exports of ten carriers and shops: `vendor add`, at most two edits each, and the target is right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ordertrail import Pipeline
from ordertrail.begin.draft import draft_config
from ordertrail.begin.vendor_add import add_vendor
from ordertrail.cli import cli
from ordertrail.config import Config, load_config, template
from ordertrail.look.plan import plan_files
from ordertrail.rules.headers import folded
from tests.feed_cases import texts_of
from tests.harness import House, without_fsync

CARRIERS = Path(__file__).parents[1] / "carriers"
CASES: dict[str, dict[str, Any]] = json.loads((CARRIERS / "cases.json").read_text(encoding="utf-8"))


def edited(text: str, edits: Sequence[Sequence[str]]) -> str:
    """A drafted text after edits; every one of them is a line that the draft offers."""
    for before, after in edits:
        assert text.count(before) == 1, (before, text)
        text = text.replace(before, after)
    return text


def added_to(root: Path) -> Config:
    """A new pipeline with the ten vendors, each appended and then edited."""
    file = root / "ordertrail.toml"
    file.write_text(template(), encoding="utf-8")
    for name, case in CASES.items():
        before = file.read_text(encoding="utf-8")
        one = add_vendor(load_config(file), name, sample=CARRIERS / case["file"], files=f"{name}/*", encoding=None)
        after = file.read_text(encoding="utf-8")
        assert after == f"{before}\n{one.appended}"  # nothing that was there is changed
        file.write_text(before + "\n" + edited(one.appended, case["edits"]), encoding="utf-8")
    return load_config(file, environ={"ORDERTRAIL_PIPELINE_SETTLE_S": "0"})


def test_ten_exports_reach_the_target_after_two_edits_at_most(tmp_path: Path) -> None:
    assert len(CASES) == 10
    assert max(len(case["edits"]) for case in CASES.values()) <= 2
    with without_fsync():
        config = added_to(tmp_path)
        house = House(config)
        for name, case in CASES.items():
            house.drop(f"{name}/{case['file']}", (CARRIERS / case["file"]).read_bytes())
        plan = plan_files(config, [config.source / name / case["file"] for name, case in CASES.items()])
        report = Pipeline(config).run()
    assert (plan.rows.rejected, plan.rows.inserted) == (0, 30), plan
    assert (report.rows.rejected, report.rows.inserted) == (0, 30), report
    rows = house.rows("target")
    for name, case in CASES.items():
        mine = {row["tracking_num"]: row for row in rows if row["_vendor"] == name}
        found = {key: {**row, "_rescued": None} for key, row in mine.items()}
        numbered = {str(number): found[key] for number, key in enumerate(sorted(found), 1)}
        assert list(texts_of(numbered, config.contract.names).values()) == case["rows"], name


@pytest.mark.parametrize("name", CASES)
def test_init_finds_key_and_time_of_each(name: str) -> None:
    case = CASES[name]
    draft = draft_config(CARRIERS / case["file"])
    vendor = draft.vendor
    headers = {column: headers[0] for column, headers in vendor.aliases} | dict(vendor.combine)
    key, time = (headers.get(column, column) for column in (draft.contract.key[0], draft.contract.order_by))
    assert folded(str(key)) == folded(case["key"])
    assert list(time) == case["time"] if isinstance(case["time"], list) else folded(str(time)) == folded(case["time"])


def test_the_command_says_the_same_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ordertrail.toml").write_text(template(), encoding="utf-8")
    sample = str(CARRIERS / CASES["gls"]["file"])
    words = ["vendor", "add", "gls", "--from", sample, "--files", "gls/*", "--json"]
    found = json.loads(CliRunner().invoke(cli, words).stdout)
    assert found["columns"]["last_update_timestamp"] == ["Datum", "Uhrzeit"]
    assert found["columns"]["order_num"] == []
    assert found["appended"] in Path("ordertrail.toml").read_text(encoding="utf-8")
    again = CliRunner().invoke(cli, words)
    assert again.exit_code == 2
    assert "there is a vendor 'gls' already" in again.stdout
