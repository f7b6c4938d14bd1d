"""`drift`: what it lists of two vendors, and that its lines take the columns in when they are pasted."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from deltalake.schema import Field, PrimitiveType

from tests.commands import Call, call_in
from tests.feeds import HEADER

VENDORS = """
[[vendors]]
name = "acme"
files = "acme*.csv"

[[vendors]]
name = "blue"
files = "blue*.csv"
absent = ["address"]
"""
NASTY = 'a "quoted" [red]\\name\t\u202e\x7f'


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    invoke = call_in(tmp_path, monkeypatch, VENDORS)
    return lambda *words, code=0: invoke(*words, code=code)


def drop(name: str, more: dict[str, Sequence[str]], *, without: str = "", first: int = 1) -> None:
    """A file with a row for each value of the further columns."""
    text = io.StringIO()
    out = csv.writer(text)
    out.writerow([*(column for column in HEADER if column != without), *more])
    for place, cells in enumerate(zip(*more.values(), strict=True), first):
        known = dict(zip(HEADER, (str(place), f"{name}{place}", "", "", "DELIVERED", "X", "2026-11-20 08:00:00")))  # noqa: B905
        known.pop(without, None)
        out.writerow([*known.values(), *cells])
    Path("data/source", name).write_text(text.getvalue(), encoding="utf-8")


def columns(call: Call, *words: str) -> dict[str, Any]:
    return {one["column"]: one for one in json.loads(call("drift", "--json", *words).stdout)["columns"]}


def paste(parts: Sequence[dict[str, Any]]) -> None:
    """Put the lines into the config as a user does: at the vendor, instead of lines for the same setting."""
    config = Path("ordertrail.toml")
    text = config.read_text(encoding="utf-8")
    for part in parts:
        if part["vendor"] is None:
            text = text.replace('\n[[vendors]]\nname = "acme"', f'\n{part["toml"]}\n\n[[vendors]]\nname = "acme"')
            continue
        head, name, block = text.partition(f'\nname = "{part["vendor"]}"\n')
        block, following, rest = block.partition("\n[[vendors]]")
        setting = part["toml"].split(" = ")[0]
        kept = [line for line in block.split("\n") if not line.startswith(f"{setting} = ")]
        text = head + name + part["toml"] + "\n" + "\n".join(kept) + following + rest
    config.write_text(text, encoding="utf-8")


def test_nothing_beyond_the_contract_is_one_line(call: Call) -> None:
    Path("data/source/acme1.csv").write_text(",".join(HEADER) + "\n1,k,,,DELIVERED,X,2026-11-20 08:00:00\n")
    call("run")
    assert call("drift").stdout == "No vendor sends anything beyond the contract.\n"
    assert json.loads(call("drift", "--json").stdout) == {"columns": [], "more": 0}


def test_two_vendors(call: Call) -> None:
    weights = [*map(str, range(1, 20)), "heavy"]
    drop("acme1.csv", {"Weight": weights, "Gift Wrap": ["yes", *[""] * 19]})
    drop("blue1.csv", {"WEIGHT": ["1.5", ""], "delivery address": ["A St", "B St"]}, without="address")
    call("run")
    found = columns(call)
    assert list(found) == ["WEIGHT", "delivery address", "Gift Wrap"]
    weight = found["WEIGHT"]
    assert (weight["vendors"], weight["guess"], weight["unfit"]) == (["acme", "blue"], "double", 1)
    assert weight["share"] == pytest.approx(21 / 22, abs=1e-6)
    assert weight["example"] == {"value": "heavy", "file_name": "acme1.csv", "file_row": 20}
    assert (weight["first_file"], weight["state"]) == ("acme1.csv", "rescued")
    assert found["Gift Wrap"]["share"] == 0.05
    assert found["Gift Wrap"]["paste"][-1] == {"vendor": "blue", "toml": 'absent = ["address", "gift_wrap"]'}
    assert found["delivery address"]["like"] == "address"
    assert list(columns(call, "--vendor", "blue")) == ["WEIGHT", "delivery address"]
    assert columns(call, "--vendor", "blue")["WEIGHT"] == weight
    assert json.loads(call("drift", "--json", "--limit", "1").stdout)["more"] == 2
    assert "does not fit double: 'heavy' in acme1.csv, row 20" in call("drift").stdout


def test_pasted_lines_take_the_columns_in(call: Call) -> None:
    drop("acme1.csv", {"Größe (cm)": ["10", "12"], "file_index": ["a", "b"], "m²": ["1.5", "2"]})
    drop("blue1.csv", {"delivery address": ["A St"], "day": ["24.12.2026"]}, without="address")
    call("run")
    before = columns(call)
    while todo := next((one["paste"] for one in columns(call).values() if one["paste"]), None):
        paste(todo)  # one after the other, as each replaces lines that the one before wrote
        call("doctor", "--json", code=0)
    drop("acme2.csv", {"Größe (cm)": ["14"], "file_index": ["c"], "m²": ["3"]}, first=3)
    drop("blue2.csv", {"delivery address": ["C St"], "day": ["25.12.2026"]}, without="address", first=3)
    call("run")
    sql = "SELECT address, größe_cm, file_index_2, m, CAST(day AS VARCHAR) AS day, _rescued FROM orders_target"
    rows = json.loads(call("query", "--json", f"{sql} WHERE order_num = '3' ORDER BY _vendor").stdout)["rows"]
    assert [list(row.values()) for row in rows] == [
        ["X", 14, "c", 3.0, None, None],
        ["C St", None, None, None, "2026-12-25", None],
    ]
    after = columns(call)
    assert after.keys() == before.keys()
    assert {one["note"] for one in after.values()} == {
        "the config takes it in by now: ordertrail migrate fills it from _rescued, but for what does not fit"
    }
    call("migrate", "--apply")
    assert columns(call) == {}


def test_names_that_the_tables_have_are_not_suggested(call: Call) -> None:
    """The history keeps one of a dropped column, somebody else added another one; the lines work nevertheless."""
    drop("acme1.csv", {"weight": ["1.5"]})
    call("run")
    config = Path("ordertrail.toml")
    text = config.read_text().replace('[[contract.columns]]\nname = "address"\ntype = "string"\n', "")
    config.write_text(text.replace('absent = ["address"]\n', ""))
    call("migrate", "--apply")
    table = DeltaTable("data/warehouse/incremental_load/default/orders_target")
    table.alter.add_columns([Field("Weight", PrimitiveType("string"), nullable=True)])
    drop("acme2.csv", {"weight": ["2.5"]}, first=2)
    call("run")
    found = dict(sorted(columns(call).items()))
    assert [one["paste"][0]["toml"].split('"')[1] for one in found.values()] == ["address_2", "weight_2"]
    assert {"vendor": "acme", "toml": 'aliases = { weight_2 = ["weight"] }'} in found["weight"]["paste"]
    while todo := next((one["paste"] for one in columns(call).values() if one["paste"]), None):
        paste(todo)
    call("run")
    call("migrate", "--apply")
    sql = "SELECT order_num, weight_2, address_2 FROM orders_target ORDER BY 1"
    rows = json.loads(call("query", "--json", sql).stdout)["rows"]
    assert [list(row.values()) for row in rows] == [["1", 1.5, None], ["2", 2.5, "X"]]


def test_a_column_that_is_not_in_every_file(call: Call) -> None:
    drop("acme1.csv", {"weight": ["1"], "note": ["x"]})
    drop("acme2.csv", {"note": ["y"]}, first=2)
    drop("blue1.csv", {"weight": ["3"], "note": ["z"]}, without="address")
    call("run")
    found = columns(call)
    assert found["weight"]["note"] == "1 of 2 files of acme have a value in it"
    assert found["weight"]["paste"][1:] == [{"vendor": "acme", "toml": 'absent = ["weight"]'}]
    assert (found["note"]["note"], len(found["note"]["paste"])) == ("", 1)
    paste(found["weight"]["paste"])
    drop("acme3.csv", {"note": ["y"]}, first=3)
    assert json.loads(call("run", "--json").stdout)["deliveries"][0]["state"] == "loaded"


def test_an_alias_is_suggested_only_where_the_values_fit(call: Call) -> None:
    """`status time` is usually the time of the last update; here it is a number of hours."""
    config = Path("ordertrail.toml")
    config.write_text(
        config.read_text().replace('absent = ["address"]', 'absent = ["address", "package_deliver_date"]')
    )
    drop("blue1.csv", {"delivery address": ["A St", "B St"], "deliver date": ["12", "13"]}, without="address")
    text = Path("data/source/blue1.csv").read_text().replace("package_deliver_date,", "").replace(",,,", ",,")
    Path("data/source/blue1.csv").write_text(text)
    call("run")
    found = columns(call)
    assert (found["delivery address"]["like"], found["deliver date"]["like"]) == ("address", None)
    assert (
        found["deliver date"]["note"] == "its name is like package_deliver_date, but its values do not fit that column"
    )
    assert 'type = "bigint"' in found["deliver date"]["paste"][0]["toml"]


def test_a_header_that_is_our_mark(call: Call) -> None:
    drop("acme1.csv", {"_ambiguous_time": ["yes"]})
    call("run")
    (found,) = columns(call).values()
    assert (found["column"], found["paste"][0]["toml"].split('"')[1]) == ("_ambiguous_time", "ambiguous_time")


def test_columns_of_an_undone_delivery_are_gone(call: Call) -> None:
    drop("acme1.csv", {"weight": ["1"]})
    drop("blue1.csv", {"colour": ["red"]})
    call("run")
    rows = json.loads(call("deliveries", "--json").stdout)["rows"]
    acme = next(one["delivery_id"] for one in rows if one["vendor"] == "acme")
    call("undo", acme, "--why", "a test", "--yes")
    assert list(columns(call)) == ["colour"]


def test_nasty_names_are_shown_safely_and_quoted_right(call: Call) -> None:
    drop("acme1.csv", {NASTY: ["\x1b]0;owned\x07[bold]"], "gift-wrap": ["1"], "Gift Wrap": ["2"], "": ["x"]})
    call("run")
    found = columns(call)
    names = [
        tomllib.loads(one["paste"][0]["toml"])["contract"]["columns"][0]["name"]
        for one in found.values()
        if one["paste"]
    ]
    assert sorted(names) == ["a_quoted_red_name", "gift_wrap", "gift_wrap_2"]
    assert found["column 11"]["note"] == "it has no header: ask the vendor for one"
    nasty = next(name for name in found if name.startswith("a "))
    text = call("drift").stdout
    assert not any(ord(char) < 32 and char != "\n" for char in text)
    assert not {"\u202e", "\x7f"} & set(text)
    line = next(line for line in text.splitlines() if line.startswith("aliases = ") and "a_quoted" in line)
    assert tomllib.loads(line) == {"aliases": {"a_quoted_red_name": [nasty]}}
