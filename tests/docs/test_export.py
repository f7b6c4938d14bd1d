"""What docs/how-to/export.md shows runs, line by line, in the folder of a pipeline."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ordertrail.cli import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "export.md"
HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
FILES = {
    "a_2026_11_20.csv": "001,1Z1,2026-11-20,,PICKED_UP,1 Elm St,2026-11-20 10:00:00\n"
    "002,1Z2,2026-11-20,,DELIVERED,2 Elm St,2026-11-20 10:00:00\n",
    "b_2026_11_21.csv": "001,1Z1,2026-11-20,2026-11-21,DELIVERED,1 Elm St,2026-11-21 10:00:00\n",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"))


def call(*words: str) -> str:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == 0, (words, result.output)
    return result.stdout


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_SETTLE_S", "0")
    call("init")
    for name, rows in FILES.items():
        Path("data/source", name).write_text(HEADER + rows)
        call("run")
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 5
    for line in lines:
        call(*shlex.split(line)[1:])
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [
        "before.csv", "delivered.csv", "orders.parquet", "ordertrail.toml", "rejects.xlsx"
    ]  # fmt: skip
    assert "1Z1,2026-11-20,,PICKED_UP" in Path("before.csv").read_text()
    assert pq.read_table("orders.parquet").num_rows == 2
    code = blocks("python")
    assert len(code) == 3
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, str(PAGE), "exec"), names)  # what the page shows
    assert "DELIVERED    2" in capsys.readouterr().out
