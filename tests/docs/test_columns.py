"""The stories of docs/how-to/columns.md run as they stand: a config or a file adds a column, and it is filled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_tutorial import blocks, call, calls, plain

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "columns.md"


def configure(text: str) -> None:
    """Put the lines of the page into the config: settings of `[contract]` in the place of what is there."""
    file = Path("ordertrail.toml")
    before = file.read_text()
    if text.startswith("[contract]\n"):
        name = text.splitlines()[1].partition(" = ")[0]
        after = re.sub(rf"(?m)^{name} = .*$", text.splitlines()[1], before)
        assert after != before
        file.write_text(after)
    else:
        file.write_text(f"{before}\n{text}")


@pytest.mark.parametrize(("heading", "count"), [("## A vendor adds a column", 4), ("## Let files add columns", 5)])
def test_a_vendor_adds_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heading: str, count: int) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_SETTLE_S", "0")
    ids: dict[str, str] = {}
    call("ordertrail init", ids)
    text = PAGE.read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    commands = 0
    for _, language, block in blocks(text):
        match language:
            case "text":
                Path("data/source/order_tracking_2026_11_22.csv").write_text(block)
            case "toml":
                configure(block)
            case "console":
                for command, shown in calls(block):
                    commands += 1
                    printed = call(command, ids)
                    assert plain(printed)[: len(plain(shown))] == plain(shown), (command, printed)
    assert commands == count
