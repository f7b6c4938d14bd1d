"""`changes`: what the lines and files say, what is refused, gaps, consumers by name, and following as batches come."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable
from msgspec.structs import replace

from ordertrail.cli import cli
from ordertrail.config import Maintenance
from ordertrail.engines.local import change_ends, change_lines, change_texts, changed
from ordertrail.engines.local.changes import Wanted as Batches
from ordertrail.engines.local.consumers import consumers_path
from ordertrail.keep.backup import backup
from ordertrail.keep.maintain import maintain
from ordertrail.keep.restore import restore
from ordertrail.look.consume import Request, consume
from ordertrail.look.status import Reader, open_items_of
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind
from tests.harness import House, open_house

TOML = """[pipeline]
source = "source"
archive = "archive"
warehouse = "warehouse"
settle_s = 0
threads = 1
"""
CONTRACT = """
[contract]
key = ["num", "account"]
order_by = "at"
columns = [
  { name = "num", type = "string" },
  { name = "at", type = "timestamp" },
  { name = "account", type = "bigint" },
  { name = "price", type = "decimal(20,2)" },
  { name = "weight", type = "double" },
  { name = "day", type = "date" },
  { name = "fragile", type = "boolean" },
  { name = "note", type = "string", trim = false },
]
"""
HEADER = "num,at,account,price,weight,day,fragile,note,extra\n"
FIRST = (
    HEADER
    + '007,2026-11-20 08:00:00.5,9007199254740993,5.10,0.1,2026-11-21,true,"a ""quoted"" note, with a\nline break",x\n'
    + "7,2026-11-20 08:00:00,1,,-1e300,,,,\n"
    + "Zoë,2026-11-20 09:00:00+01:00,10,0.00,,1900-01-15,false,\t\\ é\u2028,\n"
    + "Zoë,2026-11-20 09:00:00,9,1.00,2,,,same,\n"
)
SECOND = HEADER + "Zoë,2026-11-21 09:00:00,9,2.00,2,,,newer,\n7,2026-11-20 08:00:00,1,,-1e300,,,,\n"


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Three batches, of which the third takes the first file back."""
    (tmp_path / "ordertrail.toml").write_text(TOML + CONTRACT)
    made = open_house(tmp_path, CONTRACT)
    for number, content in enumerate((FIRST, SECOND)):
        made.drop(f"{number}_2026_11_2{number}.csv", content)
        made.run()
    of = (str(made.delivery("0_2026_11_20.csv")["delivery_id"]),)
    correct(made.pipeline(), Wanted(Correction(CorrectionKind.UNDO, of, "a test", "me")))
    return made


Call = Callable[..., Result]


@pytest.fixture
def call(house: House) -> Call:
    config = house.config.source.parent / "ordertrail.toml"
    return lambda *given: CliRunner().invoke(cli, ["changes", *map(str, given), "--config", str(config)])


def lines(found: Result) -> list[dict[str, Any]]:
    assert found.exit_code == 0, found.stderr
    return [json.loads(line) for line in found.stdout.split("\n") if line]


def test_lines_of_json(call: Call, house: House) -> None:
    *found, last = lines(call())
    assert last == {"next_batch": 4}
    assert [(one["batch"], one["change"], one["key"]) for one in found] == [
        (1, "insert", {"num": "007", "account": 9007199254740993}),
        (1, "insert", {"num": "7", "account": 1}),
        (1, "insert", {"num": "Zoë", "account": 9}),
        (1, "insert", {"num": "Zoë", "account": 10}),
        (2, "update", {"num": "Zoë", "account": 9}),
        (3, "delete", {"num": "007", "account": 9007199254740993}),
        (3, "delete", {"num": "Zoë", "account": 10}),
    ]
    first, updated, gone = found[0], found[4], found[5]
    assert first["before"] is None
    assert first["after"] == {
        "num": "007",
        "at": "2026-11-20T08:00:00.5Z",
        "account": 9007199254740993,
        "price": "5.10",
        "weight": 0.1,
        "day": "2026-11-21",
        "fragile": True,
        "note": 'a "quoted" note, with a\nline break',
        "_rescued": '{"extra":"x"}',
    }
    assert found[1]["after"]["weight"] == -1e300
    assert found[3]["after"]["note"] == "\t\\ é\u2028"
    delivery = str(house.delivery("1_2026_11_21.csv")["delivery_id"])
    assert (updated["before"]["note"], updated["after"]["note"]) == ("same", "newer")
    assert [updated[name] for name in ("delivery_id", "file_name", "file_row", "outcome")] == [
        delivery,
        "1_2026_11_21.csv",
        1,
        "updated",
    ]
    assert gone["before"] == first["after"]
    assert gone["after"] is None
    ((correction,),) = [[row["delivery_id"] for row in house.rows("deliveries") if row["state"] == "correction"]]
    assert [gone[name] for name in ("delivery_id", "file_name", "file_row", "outcome")] == [
        correction,
        None,
        None,
        "removed",
    ]
    assert lines(call("--from-batch", 2, "--to-batch", 2)) == [updated, {"next_batch": 3}]
    assert lines(call("--from-batch", 4)) == [{"next_batch": 4}]
    assert [one["change"] for one in lines(call("--net"))[:-1]] == ["insert", "insert"]


def test_files(call: Call, tmp_path: Path) -> None:
    wanted = lines(call())[:-1]
    for ending in ("jsonl", "csv", "parquet"):
        out = tmp_path / f"out.{ending}"
        found = json.loads(call("-o", out, "--json").stdout)
        assert found == {
            "from_batch": 1,
            "next_batch": 4,
            "changes": 7,
            "path": str(out),
            "bytes": out.stat().st_size,
        }
        assert "is there already" in call("-o", out).stderr
        assert call("-o", out, "--force").exit_code == 0
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    flat = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").split("\n")[:-2]] == wanted
    assert list(rows[0]) == list(flat[0])
    assert list(flat[0])[:4] == ["_batch", "_change", "num", "account"]
    for row, typed, one in zip(rows, flat, wanted, strict=True):
        assert (row["_change"], typed["_change"]) == (one["change"], one["change"])
        assert row["account"] == str(typed["account"]) == str(one["key"]["account"])
        for when in ("before", "after"):
            note = None if one[when] is None else one[when]["note"]
            assert typed[f"{when}_note"] == note
            assert row[f"{when}_note"] == (note or "")
            assert row[f"{when}_at"] == ("" if one[when] is None else one[when]["at"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--follow", "--net"), "not with --net"),
        (("--format", "parquet"), "needs a file"),
        (("--json",), "needs a file"),
        (("--format", "csv", "-o", "x.parquet"), "ends with .csv"),
        (("-o", "x.txt"), "needs a file whose name ends with .jsonl"),
        (("--from-batch", 3, "--to-batch", 2), "is before --from-batch"),
        (("--consumer", "a/b"), "is no name of a consumer"),
        (("--drop", "nobody"), "there is no consumer 'nobody'"),
    ],
)
def test_what_is_refused(call: Call, given: tuple[object, ...], says: str) -> None:
    found = call(*given)
    assert found.exit_code == 2
    assert says in found.output


def test_a_gap_is_an_error_that_names_the_oldest_batch(call: Call, house: House) -> None:
    assert call("--from-batch", 5).exit_code == 3
    assert "there is no batch 4 yet: the last one that is done is batch 3" in call("--from-batch", 5).stderr
    DeltaTable(house.table_path("history")).delete("_batch = 1 AND num = '7'")
    found = call("--from-batch", 1)
    assert (found.exit_code, found.stdout) == (3, "")
    assert "lacks rows of batch 1; the oldest batch that can be read is 2" in found.stderr
    assert "E_FOREIGN" in found.stderr
    assert lines(call("--from-batch", 3))[-1] == {"next_batch": 4}
    DeltaTable(house.table_path("history")).delete()
    assert "none can be read" not in call("--from-batch", 1).stderr  # the last batch, a correction, has no rows
    assert "the oldest batch that can be read is 3" in call("--from-batch", 1).stderr


def test_a_target_that_is_not_the_fold_is_said(call: Call, house: House) -> None:
    assert call().stderr == ""
    target = DeltaTable(house.table_path("target"))
    target.restore(1)
    found = call()
    assert len(lines(found)) == 8
    assert found.stderr.startswith("Note: ")
    assert "RESTORE" in found.stderr


def test_consumers(call: Call, house: House, tmp_path: Path) -> None:
    assert lines(call("--consumer", "one", "--to-batch", 1))[-1] == {"next_batch": 2}
    assert [one["batch"] for one in lines(call("--consumer", "one"))[:-1]] == [2, 3, 3]
    assert lines(call("--consumer", "one")) == [{"next_batch": 4}]
    assert lines(call("--consumer", "two", "--from-batch", 2, "--to-batch", 2))[-1] == {"next_batch": 3}
    out = tmp_path / "two.parquet"
    assert call("--consumer", "two", "-o", out).exit_code == 0
    assert pq.read_table(out).num_rows == 2
    house.drop("2_2026_11_22.csv", SECOND.replace("newer", "newest").replace("11-21", "11-22"))
    house.run()
    found = json.loads(call("--consumers", "--json").stdout)["consumers"]
    assert [(one["name"], one["next_batch"], one["behind_by"]) for one in found] == [("one", 4, 1), ("two", 4, 1)]
    assert "one" in call("--consumers").stdout
    assert "two" not in call("--drop", "two").stdout
    assert lines(call("--consumer", "two"))[0]["batch"] == 1
    damaged = consumers_path(house.config) / "one.json"
    damaged.write_text("{")
    assert "does not say where the consumer stands" in call("--consumer", "one").stderr


def test_a_restore_turns_no_consumer_back(call: Call, house: House, tmp_path: Path) -> None:
    """One that had read further than the restored tables go is told of the gap; one that is new here goes on."""
    call("--consumer", "one")
    call("--consumer", "two", "--to-batch", 2)
    backup(house.config, tmp_path / "kept")
    house.drop("2_2026_11_22.csv", SECOND.replace("newer", "newest").replace("11-21", "11-22"))
    house.run()
    house.drop("3_2026_11_23.csv", SECOND.replace("newer", "later").replace("11-21", "11-23"))
    house.run()
    assert lines(call("--consumer", "one"))[-1] == {"next_batch": 6}
    call("--drop", "two")
    restore(house.config, tmp_path / "kept", force=True)
    found = call("--consumer", "one")
    assert found.exit_code == 3
    assert "there is no batch 5 yet" in found.stderr
    assert lines(call("--consumer", "two"))[0]["batch"] == 3


def test_maintenance_waits_for_consumers_up_to_a_limit(call: Call, house: House) -> None:
    """What one has not read of the target stays, files and log; once it has, or is too late, all of it goes."""
    eager = Maintenance(max_small_files=1, retention_h=0, log_retention_h=0)
    house.turn(maintenance=eager)
    call("--consumer", "one", "--to-batch", 1)
    read = house.version()
    for number in range(2, 6):
        house.drop(
            f"{number}_2026_11_2{number}.csv", SECOND.replace("newer", f"{number}").replace("11-21", f"11-2{number}")
        )
        house.run()
    unread = {version: house.rows("target", version) for version in range(read - 2, house.version() + 1)}
    maintain(house.config)
    maintain(house.config)
    for version, rows in unread.items():
        assert house.rows("target", version) == rows
        assert house.actions("target", version)
    assert open_items_of(house.config) == ()
    house.turn(maintenance=replace(eager, consumer_keep_d=0))
    (item,) = open_items_of(house.config)
    assert (item.kind, item.key, item.severity) == ("consumer", "consumer:one", "warning")
    assert "has not read batch 2" in item.text
    assert item.next.startswith("ordertrail changes --consumers")
    house.turn(maintenance=eager)
    call("--consumer", "one")
    maintain(house.config)
    for version in range(read + 1, house.version()):
        with pytest.raises(pa.ArrowInvalid, match="not found"):
            house.rows("target", version)
    house.drop("6_2026_11_26.csv", SECOND.replace("newer", "6").replace("11-21", "11-26"))
    house.run()
    maintain(house.config)
    assert house.rows("target", house.version() - 1)
    house.turn(maintenance=replace(eager, consumer_keep_d=0))
    maintain(house.config)
    with pytest.raises(pa.ArrowInvalid, match="not found"):
        house.rows("target", house.version() - 1)


def test_one_process_reads_as_a_consumer(call: Call, house: House) -> None:
    with Following(house, "--consumer", "one") as process:
        while b"next_batch" not in (line := next_line_of(process)) or json.loads(line)["next_batch"] < 4:
            pass
        found = call("--consumer", "one")
        assert found.exit_code == 4
        assert "is reading the changes as one" in found.stderr


class Following:
    """`changes --follow` as a process."""

    def __init__(self, house: House, *given: str) -> None:
        config = house.config.source.parent / "ordertrail.toml"
        command = [sys.executable, "-m", "ordertrail", "changes", "--follow", *given, "--config", str(config)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def next_line_of(process: subprocess.Popen[bytes]) -> bytes:
    """The next line, within half a minute."""
    assert process.stdout is not None
    timer = threading.Timer(30, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    assert line, process.communicate()
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_following_ends_cleanly(house: House, number: int) -> None:
    with Following(house, "--from-batch", "3") as process:
        seen = [json.loads(next_line_of(process)) for _ in range(3)]
        assert [one.get("batch") for one in seen] == [3, 3, None]
        assert seen[-1] == {"next_batch": 4}
        house.drop("2_2026_11_22.csv", SECOND.replace("newer", "newest").replace("11-21", "11-22"))
        house.run()
        more = [json.loads(next_line_of(process)) for _ in range(2)]
        assert [one.get("batch") for one in more] == [4, None]
        assert more[-1] == {"next_batch": 5}
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, b"", b"")


def test_a_reader_that_goes_away_is_no_error(house: House) -> None:
    config = house.config.source.parent / "ordertrail.toml"
    read, write = os.pipe()
    command = [sys.executable, "-m", "ordertrail", "changes", "--consumer", "one", "--config", str(config)]
    os.close(read)
    with subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert not (consumers_path(house.config) / "one.json").exists()


DIES = """
import os, signal, sys
from ordertrail import load_config
from ordertrail.engines.local.changes import Wanted
from ordertrail.look.consume import Request, consume
def die(name):
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
consume(load_config(sys.argv[1]), Request(Wanted(), name="one"), sys.stdout.buffer, probe=die)
"""
"""Reads as a consumer, and is killed after an effect."""


@pytest.mark.parametrize("effect", ["changes.flushed", "changes.recorded"])
def test_a_kill_between_output_and_place_repeats_at_most_a_batch(call: Call, house: House, effect: str) -> None:
    """At least once towards a pipe: what was written and not recorded comes again, nothing is left out."""
    seen: list[int] = []
    config = house.config.source.parent / "ordertrail.toml"
    for _ in range(3):
        child = subprocess.run([sys.executable, "-c", DIES, str(config), effect], stdout=subprocess.PIPE, check=False)
        assert child.returncode in (0, -signal.SIGKILL)
        seen += [json.loads(line)["batch"] for line in child.stdout.splitlines() if b'"batch"' in line]
        place = consumers_path(house.config) / "one.json"
        at = json.loads(place.read_text())["next_batch"] if place.exists() else 1
        assert at == max(seen) + (effect == "changes.recorded")
    if effect == "changes.recorded":
        assert seen == [1, 1, 1, 1, 2, 3, 3]
    else:
        assert seen == [1, 1, 1, 1] * 3
    rest = [one["batch"] for one in lines(call("--consumer", "one"))[:-1]]
    assert rest == ([1] * 4 + [2, 3, 3] if effect == "changes.flushed" else [])


def test_many_changes_come_in_parts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows are read, sorted and made texts of at a time, the changes are the same; of corrections too."""
    first = (str(house.delivery("0_2026_11_20.csv")["delivery_id"]),)
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.REDO, first, "a test", "me")))

    def told() -> tuple[pa.Table, bytes, bytes, bytes]:
        asked = [Request(Batches(), form) for form in ("csv", "jsonl")] + [Request(Batches(net=True), "jsonl")]
        texts = []
        for one in asked:
            out = io.BytesIO()
            consume(house.config, one, out)
            texts.append(out.getvalue())
        return (house.pipeline().changes().to_arrow(), *texts)

    whole = told()
    monkeypatch.setattr(change_ends, "_GRAIN_BITS", 1)
    for module, name in (
        (change_ends, "_PART_ROWS"), (change_texts, "_FEW_ROWS"), (change_texts, "_FIRST_ROWS"),
        (change_texts, "_MOST_ROWS"), (change_lines, "_MOST_ROWS"), (changed, "_SORTED_ROWS"), (changed, "_MANY_ROWS"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 1)
    assert told() == whole


def test_in_mode_append_they_are_those_of_the_latest_state(tmp_path: Path) -> None:
    house = open_house(tmp_path, f'mode = "append"\n{CONTRACT}')
    for number, content in enumerate((FIRST, SECOND)):
        house.drop(f"{number}_2026_11_2{number}.csv", content)
        house.run()
    of = (str(house.delivery("1_2026_11_21.csv")["delivery_id"]),)
    correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, of, "a test", "me")))
    rows: dict[tuple[object, object], object] = {}
    for one in house.pipeline().changes().to_arrow().to_pylist():
        rows[one["num"], one["account"]] = one["after_note"]
    with Reader(house.config) as reader:
        current = reader.query("SELECT num, account, note FROM orders_current").rows
    assert rows == {(num, account): note for num, account, note in current}
    assert len(rows) == 4


@pytest.mark.parametrize("effect", ["load.committed", "deliveries.files"])
def test_a_batch_that_is_not_done_is_not_told(house: House, effect: str) -> None:
    """Target and history may have it already: until its done mark it is the next batch."""

    def die(name: str) -> None:
        if name == effect:
            raise ZeroDivisionError(name)

    before = house.pipeline().changes().to_arrow()
    house.drop("2_2026_11_22.csv", SECOND.replace("newer", "newest").replace("11-21", "11-22"))
    with pytest.raises(ZeroDivisionError):
        house.run(die)
    found = house.pipeline().changes()
    assert (found.next_batch, found.to_arrow()) == (4, before)
    assert house.run().recovered
    more = house.pipeline().changes(found.next_batch)
    assert more.next_batch == 5
    assert more.to_arrow().column("after_note").to_pylist() == ["newest"]


def test_a_kill_between_a_file_and_the_place_gives_the_file_again(call: Call, house: House, tmp_path: Path) -> None:
    script = DIES.replace("consume(load", "consume_file(load").replace("Request, consume\n", "Request, consume_file\n")
    script = script.replace("Request(Wanted(), name", 'Request(Wanted(), "parquet", name')
    out = tmp_path / "changes.parquet"
    script = script.replace("sys.stdout.buffer, probe", f"Path({str(out)!r}), force=False, probe")
    config = house.config.source.parent / "ordertrail.toml"
    for effect, there in (("changes.written", False), ("changes.moved", True)):
        words = [sys.executable, "-c", f"from pathlib import Path\n{script}", str(config), effect]
        assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
        assert out.exists() is there
        assert not (consumers_path(house.config) / "one.json").exists()
    assert pq.read_table(out).num_rows == 7
    assert call("--consumer", "one", "-o", out, "--force").exit_code == 0
    assert pq.read_table(out).num_rows == 7
    assert lines(call("--consumer", "one")) == [{"next_batch": 4}]
