"""`rejects --open`: a reject is closed by the corrected row, by a decision about its file, and by nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from ordertrail.cli import cli
from tests.harness import NOON_NS, without_fsync

CONFIG = """
[pipeline]
source = "data/source"
archive = "data/archive"
warehouse = "data/warehouse"
settle_s = 0
max_reject_share = 1
threads = 1

[[vendors]]
name = "acme"
files = "acme/*.csv"
delimiter = ";"
timezone = "America/Chicago"
formats = { last_update_timestamp = ["%m/%d/%Y %H:%M"] }
combine = { last_update_timestamp = ["Date", "Time"] }

[[vendors]]
name = "bare"
files = "bare/*.csv"
header = false
columns = ["tracking_num", "status", "last_update_timestamp", "pck_recieved_date"]
absent = ["order_num", "package_deliver_date", "address"]

[contract]
key = "tracking_num"
order_by = "last_update_timestamp"
status = "status"
columns = [
  { name = "order_num", type = "string" },
  { name = "tracking_num", type = "string" },
  { name = "pck_recieved_date", type = "date" },
  { name = "package_deliver_date", type = "date" },
  { name = "status", type = "string" },
  { name = "address", type = "string" },
  { name = "last_update_timestamp", type = "timestamp" },
]
"""
ACME = "order_num;tracking_num;pck_recieved_date;package_deliver_date;status;address;Date;Time\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ordertrail.toml").write_text(CONFIG)


def call(*words: str) -> str:
    with without_fsync():
        found = CliRunner().invoke(cli, list(words))
    assert found.exit_code in (0, 3), found.output
    return found.stdout


def load(**files: str) -> None:
    for name, text in files.items():
        path = Path("data/source", *name.split("__")).with_suffix(".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, ns=(NOON_NS, NOON_NS))
    call("run")


def open_rows(*words: str) -> set[tuple[str, int | None, str | None]]:
    found = json.loads(call("rejects", "--open", "--json", *words))
    return {(row["file_name"], row["file_row"], row["column"]) for row in found["rows"]}


def test_rejects_are_closed_by_what_corrects_them() -> None:
    load(
        acme__a=ACME
        + "1;K1;bad;bad;SENT;x;11/20/2026;08:15\n"  # two bad cells, one row
        + '2;K2;bad;;SENT;"a; b";11/20/2026;08:15\n'
        + "3;K3;2026-11-20;;SENT;x;20.11.2026;08:15\n"  # its time is bad: nobody knows which row corrects it
        + "4;K4;bad;;SENT;x\n"
        + "5;K5;2026-11-20;;SENT;x;11/20/2026;08:15\n",
        bare__b="B1,SENT,2026-11-20 08:00:00,bad\nB2,SENT,2026-11-20 08:00:00,bad\n",
    )
    first = {("a.csv", 1, "pck_recieved_date"), ("a.csv", 1, "package_deliver_date"), ("a.csv", 2, "pck_recieved_date")}
    rest = {("a.csv", 3, "last_update_timestamp"), ("a.csv", 4, None)}
    bare = {("b.csv", 1, "pck_recieved_date"), ("b.csv", 2, "pck_recieved_date")}
    assert open_rows() == first | rest | bare
    load(
        acme__c=ACME
        + "1;K1;2026-11-20;;SENT;x;11/20/2026;08:15\n"
        + "2;K2;2026-11-20;;SENT;x;11/20/2026;09:15\n"  # another time: it says something else
        + "3;K3;2026-11-20;;SENT;x;11/20/2026;08:15\n",
        bare__d="B2,SENT,2026-11-20 08:00:00,2026-11-20\n",
    )
    left = {("a.csv", 2, "pck_recieved_date"), *rest}
    assert open_rows() == {*left, ("b.csv", 1, "pck_recieved_date")}
    assert open_rows("--vendor", "acme") == left
    assert len(json.loads(call("rejects", "--open", "--json", "--limit", "1"))["rows"]) == 1
    deliveries = json.loads(call("deliveries", "--json"))["rows"]
    wrong = next(row["delivery_id"] for row in deliveries if row["file_name"] == "a.csv")
    call("undo", wrong, "--why", "sent again whole", "--yes")
    assert open_rows() == {("b.csv", 1, "pck_recieved_date")}


def test_what_is_said_of_a_whole_file_is_open_while_it_is_set_aside() -> None:
    load(acme__a="order_num;tracking_num\n1;K1\n")
    (reject,) = open_rows()
    assert reject[:2] == ("a.csv", None)
    one = json.loads(call("deliveries", "--json"))["rows"][0]["delivery_id"]
    call("dismiss", one, "--why", "not ours")
    assert open_rows() == set()
