"""The story of docs/how-to/columns.md runs as it stands: a vendor adds a column, and it is filled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.test_tutorial import blocks, call, calls, plain

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "columns.md"
HEADING = "## A vendor adds a column"


def test_a_vendor_adds_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_SETTLE_S", "0")
    ids: dict[str, str] = {}
    call("ordertrail init", ids)
    text = PAGE.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    commands = 0
    for _, language, block in blocks(text):
        match language:
            case "text":
                Path("data/source/order_tracking_2026_11_22.csv").write_text(block)
            case "toml":
                with Path("ordertrail.toml").open("a") as config:
                    config.write(f"\n{block}")
            case "console":
                for command, shown in calls(block):
                    commands += 1
                    printed = call(command, ids)
                    assert plain(printed)[: len(plain(shown))] == plain(shown), (command, printed)
    assert commands == 4
