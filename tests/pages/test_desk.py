"""The pages of the operations desk: deliveries, shipments, rejects, vendors."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import ZipFile

import pytest
from markupsafe import escape

from ordertrail.config import Config
from ordertrail.look.status import Reader
from ordertrail.look.vendor_file import write_vendor_file
from ordertrail.mend.corrections import Wanted, correct
from ordertrail.model import Correction, CorrectionKind
from tests.harness import House, open_house, without_fsync
from tests.pages.conftest import HEADER, HOSTILE, Open, Site

pytestmark = pytest.mark.browserless


def deliveries_of(site: Site, query: str = "") -> list[dict[str, Any]]:
    return list(site.json(f"/deliveries.json{query}")["rows"])


def one_of(site: Site, name: str) -> dict[str, Any]:
    return next(row for row in deliveries_of(site) if row["file_name"] == name)


# -- deliveries -------------------------------------------------------------------------------------------------


def test_deliveries_are_newest_first_and_can_be_filtered(site: Site) -> None:
    rows = deliveries_of(site)
    ids = [row["delivery_id"] for row in rows]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 13
    assert {row["vendor"] for row in deliveries_of(site, "?vendor=acme")} == {"acme"}
    assert [row["file_name"] for row in deliveries_of(site, "?state=quarantined")] == ["export_new_system.txt"]
    assert {row["file_name"] for row in deliveries_of(site, "?name=EXPORT_")} >= {"export_a.txt", "export_b.txt"}
    assert all(row["rows_rejected"] for row in deliveries_of(site, "?rejects=1"))
    assert deliveries_of(site, "?since=2031-01-01") == []
    assert len(deliveries_of(site, "?since=2020-01-01&until=2040-01-01")) == 13
    assert "No such delivery" in site.get("/deliveries?vendor=nobody").text


@pytest.mark.parametrize("query", ["state=gone", "since=yesterday", "after=somewhere"])
def test_a_filter_that_does_not_fit_is_refused(site: Site, query: str) -> None:
    assert site.get(f"/deliveries.json?{query}", 400).json()["hint"]


def test_the_parts_of_a_list_are_the_list(tmp_path: Path, open_site: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    house = open_house(tmp_path)
    with without_fsync():
        for batch in range(3):
            for n in range(3):
                house.drop(f"{batch}{n}.csv", f"{HEADER}1,1Z{batch}{n},2024-11-20,,PICKED_UP,x,2024-11-20 10:00:00\n")
            house.run()
    monkeypatch.setattr("ordertrail.web.page.ROWS_ON_A_PAGE", 2)
    site = open_site(house.config)
    names, after = [], ""
    while True:
        found = site.json(f"/deliveries.json?after={after}")
        assert len(found["rows"]) <= 2
        names += [row["file_name"] for row in found["rows"]]
        if found["after"] is None:
            break
        before, after = after, found["after"]
        assert f"after={after}" in site.get("/deliveries" if len(names) == 2 else f"/deliveries?after={before}").text
    assert names == [f"{batch}{n}.csv" for batch in (2, 1, 0) for n in (2, 1, 0)]
    assert site.get("/deliveries.csv").text.count("\r\n") == 10


# -- a delivery ---------------------------------------------------------------------------------------------------


def test_a_delivery_says_what_became_of_its_rows_and_what_to_type(site: Site) -> None:
    row = deliveries_of(site, "?rejects=1&state=loaded")[0]
    found = site.json(f"/delivery.json?id={row['delivery_id']}")
    assert found["balanced"]
    assert sum(found["rows"].values()) == row["rows_parsed"]
    texts = [one["text"] for one in found["commands"]]
    assert any(text.startswith(f"ordertrail undo {row['delivery_id']}") for text in texts)
    page = site.get(f"/delivery?id={row['delivery_id']}").text
    assert all(str(escape(text)) in page for text in texts)
    assert found["first_rows"]
    for wrong in ("", "?id=nothing", "?id=../../etc/passwd"):
        assert site.get(f"/delivery.json{wrong}", 400).json()["hint"]


def test_the_next_command_of_a_quarantined_file_is_replay(site: Site) -> None:
    row = one_of(site, "export_new_system.txt")
    found = site.json(f"/delivery.json?id={row['delivery_id']}")
    assert found["commands"][0]["text"].startswith(f"ordertrail replay {row['delivery_id']}")
    assert found["delivery"]["reason"] == row["reason"]
    assert found["first_rows"] == []


def test_a_line_of_the_archived_file_is_shown_as_it_stands_there(demo: Config, site: Site) -> None:
    for reject in site.json("/rejects.json?period=all")["rows"]:
        if reject["file_line"] is None:
            continue
        query = f"id={reject['delivery_id']}&line={reject['file_line']}"
        lines = site.json(f"/delivery.json?{query}")["lines"]
        assert lines["trouble"] == ""
        assert lines["checked"]
        asked = next(one for one in lines["lines"] if one["number"] == reject["file_line"])
        assert reject["raw"].splitlines()[0].startswith(asked["text"][:60])
        assert 'class="asked"' in site.get(f"/delivery?{query}").text
    assert "sendungen" in "".join(path.name for path in demo.archive.rglob("*.csv"))


@pytest.mark.parametrize(
    ("place", "trouble"),
    [
        ("../secret.txt", "not below the archive"),
        ("/etc/passwd", "not below the archive"),
        ("link.csv", "not below the archive"),
        ("gone.csv", "cannot be read"),
        ("folder", "no regular file"),
        ("pipe", "no regular file"),
        (None, "not in the archive"),
    ],
)
def test_nothing_but_the_archived_file_is_ever_read(tmp_path: Path, place: str | None, trouble: str) -> None:
    from ordertrail.look.archived_lines import archived_lines

    house = open_house(tmp_path)
    (house.config.archive / "folder").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret\n")
    (house.config.archive / "link.csv").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(house.config.archive / "pipe")
    found = archived_lines(house.config, {"archived_to": place, "vendor": "default", "sha256": ""}, 1)
    assert found.lines == ()
    assert trouble in found.trouble


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", b""), ("utf-16-le", b"\xff\xfe"), ("cp1252", b"")])
def test_lines_are_counted_as_rejects_count_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, encoding: str, mark: bytes
) -> None:
    from ordertrail.look import archived_lines as module

    monkeypatch.setattr(module, "_CHUNK_BYTES", 8)
    house = open_house(tmp_path, f'[[vendors]]\nname = "v"\nfiles = "*.csv"\nencoding = "{encoding}"\n')
    house.config.archive.mkdir(parents=True, exist_ok=True)
    texts = ["hëader", "", "two é", "x" * 50, "last"]
    (house.config.archive / "a.csv").write_bytes(mark + (end.join(texts) + end).encode(encoding))
    row = {"archived_to": "a.csv", "vendor": "v", "sha256": ""}
    for number, text in enumerate(texts, 1):
        found = module.archived_lines(house.config, row, number, around=0)
        assert [(line.number, line.text) for line in found.lines] == [(number, text)]
    assert module.archived_lines(house.config, row, 9).trouble == "the file has 5 lines"


@pytest.mark.parametrize("kind", ["gz", "zip", "cut"])
def test_lines_of_packed_files_are_those_of_the_text(tmp_path: Path, kind: str) -> None:
    from ordertrail.look.archived_lines import archived_lines

    house = open_house(tmp_path)
    house.config.archive.mkdir(parents=True, exist_ok=True)
    text = b"".join(b"line %d, and more of it\n" % number for number in range(1, 9))
    path = house.config.archive / "a.csv"
    if kind == "zip":
        with ZipFile(path, "w") as packed:
            packed.writestr("one.csv", text[: len(text) // 2])
            packed.writestr("two.csv", text[len(text) // 2 :])
    else:
        packed_text = gzip.compress(text)
        path.write_bytes(packed_text[: len(packed_text) // 2] if kind == "cut" else packed_text)
    row = {"archived_to": "a.csv", "vendor": "default", "sha256": ""}
    if kind == "cut":
        assert "cut off" in archived_lines(house.config, row, 8).trouble
        return
    assert [line.text for line in archived_lines(house.config, row, 6, around=1).lines] == [
        f"line {number}, and more of it" for number in (5, 6, 7)
    ]


ODD = f"""Shipments of November

{HEADER}1,1ZA,2024-11-20,,PICKED_UP,x,2024-11-20 10:00:00

2,1ZB,2024-11-20,,PICKED_UP,"one
two
three",2024-11-20 10:00:00
{HEADER}3,1ZC,2024-11-20,,PICKED_UP,x,no time
,,,,,,

4,1ZD,2024-11-20,,PICKED_UP,"a
b",2024-11-20 10:00:00
5,1ZE,2024-11-20,,PICKED_UP,x,2024-11-20 10:00:00
"""


@pytest.mark.parametrize("packed", [False, True])
def test_a_row_leads_to_the_line_that_it_begins_in(tmp_path: Path, open_site: Open, packed: bool) -> None:
    from ordertrail.look import archived_lines as module

    house = open_house(tmp_path, "max_reject_share = 1.0\n")
    content = ODD.encode()
    if packed:
        file = io.BytesIO()
        with ZipFile(file, "w") as parts:
            parts.writestr("one.csv", f"{HEADER}0,1ZZ,2024-11-20,,PICKED_UP,x,2024-11-20 10:00:00")
            parts.writestr("two.csv", content)
        content = file.getvalue()
    with without_fsync():
        house.drop("a_2024_11_20.csv", content)
        house.run()
    ledger, history = house.rows("deliveries")[0], house.rows("history")
    text = (f"{HEADER}0,1ZZ,2024-11-20,,PICKED_UP,x,2024-11-20 10:00:00\n" if packed else "") + ODD
    begins = {line.split(",")[1]: number for number, line in enumerate(text.splitlines(), 1) if ",1Z" in line}
    found = {str(row["tracking_num"]): module.line_of_row(house.config, ledger, row["_file_row"]) for row in history}
    assert found == {key: begins[key] for key in found}
    assert set(begins) - set(found) == {"1ZC"}
    (reject,) = house.rows("rejects")
    assert module.line_of_row(house.config, ledger, reject["file_row"]) == reject["file_line"] == begins["1ZC"]

    site = open_site(house.config)
    page = site.get("/shipment?number=1ZD").text
    (link,) = set(re.findall(r'href="(/delivery\?[^"]*row=[^"]*)#lines"', page))
    shown = site.get(unescape(link)).text
    assert re.search(r'class="asked".*?<code>([^<]*)', shown, re.DOTALL)[1] == "4,1ZD,2024-11-20,,PICKED_UP,&#34;a"  # type: ignore[index]
    assert f'name="line" value="{begins["1ZD"]}"' in shown
    assert f"&amp;row={history[0]['_file_row']}#lines" in shown, "its first rows lead there as well"
    gone = site.get(f"/delivery?id={ledger['delivery_id']}&row=99").text
    assert "the file has no row 99" in gone


def test_a_row_far_down_in_a_file_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ordertrail.look import archived_lines as module

    monkeypatch.setattr(module, "CUT_BYTES", 10)
    house = open_house(tmp_path)
    house.config.archive.mkdir(parents=True, exist_ok=True)
    (house.config.archive / "a.csv").write_text(HEADER + "1,1ZA,,,NEW,x,2024-11-20 10:00:00\n" * 5)
    row = {"archived_to": "a.csv", "vendor": "default", "sha256": ""}
    assert module.line_of_row(house.config, row, 5) == 6
    assert module.line_of_row(house.config, row, 6).trouble == "row 6 is more than 0 MB into the file"  # type: ignore[union-attr]
    assert "not in the archive" in module.line_of_row(house.config, {**row, "archived_to": None}, 1).trouble  # type: ignore[union-attr]


def test_what_a_correction_did_is_told_on_both_sides(tmp_path: Path, open_site: Open) -> None:
    house = open_house(tmp_path)
    with without_fsync():
        house.drop("a.csv", f"{HEADER}1,1Z1,2024-11-20,,PICKED_UP,x,2024-11-20 10:00:00\n")
        house.run()
        first = str(house.delivery("a.csv")["delivery_id"])
        correct(house.pipeline(), Wanted(Correction(CorrectionKind.REPLAY, (first,), "mended", "ops")))
        last = str(house.delivery("a.csv")["delivery_id"])
        correct(house.pipeline(), Wanted(Correction(CorrectionKind.UNDO, (last,), "<b>wrong</b> file", "ops")))
    site = open_site(house.config)
    found = site.json(f"/delivery.json?id={first}")
    assert found["replaced_by"]["delivery_id"] == last
    assert [one["correction"] for one in found["corrections"]] == ["replay"]
    found = site.json(f"/delivery.json?id={last}")
    assert [one["delivery_id"] for one in found["replaces"]] == [first]
    assert [one["correction"] for one in found["corrections"]] == ["undo"]
    page = site.get(f"/delivery?id={last}").text
    assert "&lt;b&gt;wrong&lt;/b&gt; file" in page
    track = site.get("/shipment?number=1Z1").text
    assert "it no longer counts" in track


def test_what_undo_would_change_is_worked_out_when_asked_for(site: Site) -> None:
    row = deliveries_of(site, "?state=loaded&vendor=acme")[-1]
    page = site.get(f"/delivery?id={row['delivery_id']}").text
    assert "Work out what would change" in page
    plan = site.json(f"/delivery.json?id={row['delivery_id']}&undo=1")["undo"]
    assert plan["batch"] is None
    assert plan["correction"]["keys"]["touched"] > 0


# -- a shipment ---------------------------------------------------------------------------------------------------


def test_a_shipment_is_found_by_its_last_digits_and_says_who_said_what(site: Site) -> None:
    row = deliveries_of(site, "?state=loaded&vendor=acme")[-1]
    key = site.json(f"/delivery.json?id={row['delivery_id']}")["first_rows"][0]["tracking_num"]
    found = site.json(f"/shipment.json?number={key[-6:]}")
    assert found["tracking_num"] == key
    assert found["matches"][0]["found_by"] == "end"
    assert [one["tracking_num"] for one in found["matches"]] == [key]
    exact = site.json(f"/shipment.json?number={key.lower()}")
    assert exact["current"] == found["current"]
    page = site.get(f"/shipment?number={key}").text
    assert page.count('<li class="') == len(found["history"])
    assert page.count('aria-current="true"') == 1
    newest = found["history"][-1]
    said = {one["column"]: one["by"] for one in found["why"]}
    assert said["status"]["_delivery_id"] == newest["_delivery_id"]
    then = site.json(f"/shipment.json?number={key}&as_of=batch {found['history'][0]['_batch']}")
    assert len(then["history"]) <= len(found["history"])
    assert "Show it as it is now" in site.get(f"/shipment?number={key}&as_of=batch 4").text


def test_a_value_that_a_sparse_file_does_not_carry_is_said_by_an_older_one(tmp_path: Path, open_site: Open) -> None:
    house = open_house(
        tmp_path,
        '[[vendors]]\nname = "full"\nfiles = "full*.csv"\n'
        '[[vendors]]\nname = "sparse"\nfiles = "sparse*.csv"\nabsent = ["address"]\n',
    )
    with without_fsync():
        house.drop("full_2024_11_20.csv", f"{HEADER}1,1Z1,2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n")
        house.run()
        house.drop(
            "sparse_2024_11_21.csv",
            HEADER.replace("address,", "") + "1,1Z1,2024-11-20,,DELIVERED,2024-11-21 10:00:00\n",
        )
        house.run()
    site = open_site(house.config)
    found = site.json("/shipment.json?number=1Z1")
    said = {one["column"]: (one["by"]["_file_name"], one["times"]) for one in found["why"]}
    assert said["address"] == ("full_2024_11_20.csv", 1)
    assert said["status"] == ("sparse_2024_11_21.csv", 1)
    assert said["order_num"] == ("sparse_2024_11_21.csv", 2)


@pytest.mark.parametrize("query", ["number=zzzzzz", "number=%00", "number=12&as_of=soon", "number=a/b/c"])
def test_what_is_not_there_is_said_kindly(site: Site, query: str) -> None:
    answer = site.client.get(f"/shipment?{query}")
    assert answer.status_code in (200, 400)
    assert "No shipment has this number" in answer.text or "is no time" in answer.text


# -- rejects --------------------------------------------------------------------------------------------------------


def test_rejects_are_counted_by_kind_and_listed(demo: Config, site: Site) -> None:
    found = site.json("/rejects.json?period=all")
    assert sum(one["rejects"] for one in found["kinds"]) == len(found["rows"]) > 5
    counts = [one["rejects"] for one in found["kinds"]]
    assert counts == sorted(counts, reverse=True)
    kind = found["kinds"][0]
    only = site.json(
        f"/rejects.json?period=all&rule={kind['rule']}&column={kind['column'] or '-'}&vendor={kind['vendor']}"
    )
    assert len(only["rows"]) == kind["rejects"]
    with Reader(demo) as reader:
        assert len(reader.rejects()) == len(found["rows"])
    assert "Nothing was rejected" in site.get("/rejects?vendor=nobody").text


def test_the_download_is_the_file_that_the_command_writes(demo: Config, site: Site) -> None:
    from ordertrail.cli.send_back import rejects_csv

    answer = site.get("/rejects.csv?period=all")
    assert answer.headers["content-disposition"] == 'attachment; filename="rejects.csv"'
    with Reader(demo) as reader:
        wanted = rejects_csv(reader.rejects(), terminal=False)
    told, expected = (list(csv.reader(io.StringIO(text))) for text in (answer.content.decode("utf-8-sig"), wanted[1:]))
    assert sorted(told) == sorted(expected)
    assert told[0] == expected[0]


def test_the_rows_of_a_delivery_are_sent_back_as_the_command_writes_them(
    demo: Config, site: Site, tmp_path: Path
) -> None:
    delivery = deliveries_of(site, "?rejects=1&state=loaded")[0]["delivery_id"]
    path = f"/rejects.csv?delivery={delivery}&form=vendor"
    assert path.partition("&")[0] in site.get(f"/rejects?delivery={delivery}").text
    with Reader(demo) as reader:
        write_vendor_file(reader, delivery, tmp_path / "wanted.csv")
    assert site.get(path).content == (tmp_path / "wanted.csv").read_bytes()
    site.get("/rejects.csv?form=vendor", status=400)


def test_rejects_go_on_by_a_key(tmp_path: Path, open_site: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    house = open_house(tmp_path, "max_reject_share = 1.0\n")
    with without_fsync():
        for name in "ab":
            bad = "".join(f"1,1Z{n},never,never,PICKED_UP,x,2024-11-20 10:00:00\n" for n in range(4))
            house.drop(f"{name}.csv", f"{HEADER}{bad}1,ok,,,PICKED_UP,x,2024-11-20 10:00:00\n")
            house.run()
    monkeypatch.setattr("ordertrail.web.page.ROWS_ON_A_PAGE", 3)
    site = open_site(house.config)
    seen, after = [], ""
    while after is not None:
        found = site.json(f"/rejects.json?after={after}")
        seen += [(row["file_name"], row["file_row"], row["column"]) for row in found["rows"]]
        after = found["after"]
    columns = ("package_deliver_date", "pck_recieved_date")
    assert seen == [(f"{name}.csv", n, column) for name in "ba" for n in range(1, 5) for column in columns]


# -- vendors --------------------------------------------------------------------------------------------------------


def test_vendors_say_what_came_of_each(site: Site) -> None:
    found = site.json("/vendors.json")["vendors"]
    assert [one["vendor"] for one in found] == ["acme", "blue-freight", "zip"]
    assert sum(one["files"] for one in found) == 13
    one = site.json("/vendor.json?name=acme")
    assert sum(sum(day["rows"].values()) for day in one["days"]) == found[0]["rows"]
    assert {row["column"] for row in one["columns"]} == {"Service Level"}
    assert all(row["ranked"] for row in one["statuses"])
    assert site.get("/vendors").text.count('class="strip"') == 3
    assert site.get("/vendor.json?name=nobody", 400).json()["hint"]


# -- all --------------------------------------------------------------------------------------------------------------


def test_nothing_of_an_enemy_is_markup(hostile: House, open_site: Open) -> None:
    site = open_site(hostile.config)
    ids = [row["delivery_id"] for row in deliveries_of(site)]
    paths = ["/deliveries", "/rejects?period=all", "/vendors", "/vendor?name=evil", "/shipment?number=1Z0"]
    paths += [f"/delivery?id={one}&line=3" for one in ids]
    paths += [f"/shipment?number={quote(cell[:60])}" for cell in HOSTILE]
    for path in paths:
        text = site.get(path).text
        for mark in ("<script>alert", "<img src=x", "\u202e", "\u2066", "\x1b", 'onmouseover="alert'):
            assert mark not in text, (path, mark)
    for path in ("/deliveries.csv", "/rejects.csv?period=all", "/shipment.csv?number=1Z0"):
        rows = csv.reader(io.StringIO(site.get(path).content.decode("utf-8-sig")))
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "@"))]
