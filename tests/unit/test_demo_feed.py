"""The demo's files hold what the demo promises to show; the big feeds and their fast answer agree with the oracle."""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from bench.feed import FIRST_DAY, big_file, day_files, expected_target
from ordertrail.begin.demo_feed import DEMO_DAYS, DEMO_SHOWCASE, DemoFile, demo_config_text, demo_files
from ordertrail.model import Vendor
from tests.oracle import PlainFile, Verdict, default_contract, judge, judge_file, keyed

TODAY = date(2026, 11, 23)


def demo_vendors() -> tuple[Vendor, ...]:
    """The vendors of the demo's config, read here with nothing but `tomllib`."""
    vendors = []
    for section in tomllib.loads(demo_config_text())["vendors"]:
        for name in ("aliases", "formats"):
            section[name] = tuple((column, tuple(values)) for column, values in section.get(name, {}).items())
        section["status_map"] = tuple(section.get("status_map", {}).items())
        vendors.append(Vendor(**section))
    return tuple(vendors)


def _us(instant: datetime) -> int:
    return int(instant.timestamp()) * 10**6


def judge_demo(files: tuple[DemoFile, ...]) -> Verdict:
    return judge(files, vendors=demo_vendors())


def test_the_demo_is_the_same_for_the_same_day_and_seed_and_another_for_others() -> None:
    assert demo_files(TODAY) == demo_files(TODAY)
    assert demo_files(TODAY) != demo_files(TODAY, seed=8)
    assert demo_files(TODAY) != demo_files(TODAY + timedelta(days=1))


@pytest.mark.parametrize(
    ("today", "seed"),
    [
        (TODAY, 7),
        (TODAY, 1),
        (date(2026, 3, 10), 7),
        (date(2026, 11, 3), 7),
        (date(2027, 1, 1), 2),
        (date(2028, 3, 1), 3),
    ],
)
def test_each_file_of_the_demo_fares_as_meant(today: date, seed: int) -> None:
    files = demo_files(today, seed)
    verdict = judge_demo(files)
    states = Counter((f.vendor, f.state) for f in verdict.files)
    assert states == {
        ("acme", "loaded"): 6,
        ("acme", "empty"): 1,
        ("blue-freight", "loaded"): 3,
        ("zip", "loaded"): 2,
        ("zip", "quarantined"): 1,
    }
    assert next(f.reason for f in verdict.files if f.state == "quarantined") == "missing column"
    rules = Counter(rule for f in verdict.files if not f.repeatable for _, _, rule in f.rejects)
    assert rules == {
        "date": 1,
        "damaged": 1,
        "required": 1,
        "ragged": 1,
        "skipped by DST": 1,
        "timestamp": 1,
        "future": 1,
    }
    assert 300 <= sum(f.parsed for f in verdict.files) <= 600
    midnight_ns = int(datetime(today.year, today.month, today.day, tzinfo=UTC).timestamp()) * 10**9
    assert all(midnight_ns - (DEMO_DAYS + 1) * 86_400 * 10**9 < f.mtime_ns < midnight_ns for f in files)


def test_the_copy_under_another_name_has_the_same_bytes_and_comes_later() -> None:
    copies = [f for f in demo_files(TODAY) if "copy" in f.path]
    originals = [f for f in demo_files(TODAY) if f.content == copies[0].content and f not in copies]
    assert [f.path for f in originals] == ["acme/order_tracking_2026_11_20.csv"]
    assert copies[0].mtime_ns > originals[0].mtime_ns


def test_the_demo_holds_other_spellings_encodings_quoted_newlines_and_leading_zeros() -> None:
    by_path = {f.path: f.content for f in demo_files(TODAY)}
    assert by_path["acme/order_tracking_2026_11_20.csv"].startswith(b"Order Num,TrackingNo,pck_received_date,")
    assert b"Service Level" in by_path["acme/order_tracking_2026_11_21.csv"]
    german = by_path["blue-freight/sendungen_20261122.csv"]
    assert "Empfängeradresse;Letzte Änderung\r\n".encode("cp1252") in german
    with pytest.raises(UnicodeDecodeError):
        german.decode("utf-8")
    addresses = [row["address"] for row in judge_demo(demo_files(TODAY)).target.values()]
    assert any("\n" in str(a) for a in addresses)
    assert any("ß" in str(a) for a in addresses)
    assert any('"' in str(a) for a in addresses)
    keys = {str(key) for (key,) in judge_demo(demo_files(TODAY)).target}
    assert any(key.startswith("00340434") for key in keys)


def test_the_demo_holds_repeats_late_rows_cumulative_files_and_statuses_nobody_lists() -> None:
    files = demo_files(TODAY)
    rows = [r for f in files for r in judge_file(f, default_contract(), demo_vendors(), 0.2, 5)[1]]
    first_day = next(f for f in files if f.path.endswith("2026_11_19.csv"))
    assert max(Counter(first_day.content.splitlines()).values()) == 2
    blue = [
        list(csv.reader(io.StringIO(f.content.decode("cp1252")), delimiter=";")) for f in files if "sendungen" in f.path
    ]
    assert all(row in later for earlier, later in pairwise(blue) for row in earlier)
    late = [r for r in rows if b"late_scans" in r.order[4]]
    assert any(
        r.order[0] < other.order[0]
        for r in late
        for other in rows
        if other.values["tracking_num"] == r.values["tracking_num"]
    )
    assert any(r.order[2] == -1 for r in rows)


def test_the_showcase_has_a_rich_timeline_and_ends_delivered_at_the_right_address() -> None:
    files = demo_files(TODAY)
    row = judge_demo(files).target[(DEMO_SHOWCASE,)]
    assert (row["status"], row["address"]) == ("DELIVERED", "1450 Lakeshore Drive, Apt 7, Chicago, IL 60610")
    told = [
        (r.order[0], f.path, r.values["address"])
        for f in files
        for r in judge_file(f, default_contract(), demo_vendors(), 0.2, 5)[1]
        if r.values["tracking_num"] == DEMO_SHOWCASE
    ]
    assert {path.partition("/")[0] for _, path, _ in told} == {"acme", "zip"}
    assert len(told) >= 9
    exception = [r for r in told if r[0] == _us(datetime(2026, 11, 21, 18, 31, tzinfo=UTC))]
    assert [path for _, path, _ in exception] == [
        "acme/order_tracking_2026_11_21.csv",
        "acme/late_scans_2026_11_22.csv",
    ]
    assert len({address for _, _, address in exception}) == 2  # one time, corrected


def test_a_day_feed_is_the_same_again_and_its_fast_answer_is_the_oracles(tmp_path: Path) -> None:
    paths = day_files(tmp_path / "a", files=25, rows_per_file=80, seed=3)
    again = day_files(tmp_path / "b", files=25, rows_per_file=80, seed=3)
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]
    files = [PlainFile(p.name, p.read_bytes(), p.stat().st_mtime_ns) for p in paths]
    verdict = judge(files)
    assert [(f.state, f.parsed, f.rejected) for f in verdict.files] == [("loaded", 80, 0)] * 25
    assert keyed(expected_target(tmp_path / "a").to_pylist()) == verdict.target


def test_a_day_feed_holds_ties_late_rows_repeats_and_leading_zeros(tmp_path: Path) -> None:
    paths = day_files(tmp_path, files=25, rows_per_file=80, seed=3)
    rows = [
        (name, row)
        for name, text in ((p.name, p.read_text(encoding="utf-8")) for p in paths)
        for row in csv.DictReader(io.StringIO(text))
    ]
    contents = [tuple(row.values()) for _, row in rows]
    at_one_time = {(row["tracking_num"], row["last_update_timestamp"]) for _, row in rows}
    assert len(set(contents)) < len(contents)  # repeats
    assert len(at_one_time) < len(set(contents))  # ties with other content
    assert paths[0].name == f"order_tracking_{FIRST_DAY:%Y_%m_%d}.csv"
    assert any(row["last_update_timestamp"][:10].replace("-", "_") not in name for name, row in rows)  # late
    assert any(row["tracking_num"].startswith("00") for _, row in rows)
    assert 0.1 < len({row["tracking_num"] for _, row in rows}) / len(rows) < 0.3


def test_a_big_file_has_unique_keys_good_rows_and_about_120_bytes_a_row(tmp_path: Path) -> None:
    path = tmp_path / "order_tracking_2026_11_23.csv"
    big_file(path, 2000)
    (verdict,) = judge([PlainFile(path.name, path.read_bytes())]).files
    assert (verdict.state, verdict.parsed, verdict.rejected) == ("loaded", 2000, 0)
    assert len(judge([PlainFile(path.name, path.read_bytes())]).target) == 2000
    assert 115 <= path.stat().st_size / 2000 <= 125
    with pytest.raises(ValueError, match=re.escape("'orders.csv'")):
        big_file(tmp_path / "orders.csv", 1)
