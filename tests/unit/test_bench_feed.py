"""What the measurements stand on: batches that are what they are said to be, ratios, and a chart that can be read."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bench import chart, cold_batch, repeated_keys, tables, upsert
from bench.feed import batch_file, big_file, repeated_file

BASE_ROWS = 1000


def keys(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row["tracking_num"] for row in csv.DictReader(file)]


@pytest.fixture
def base_keys(tmp_path: Path) -> dict[bool, list[str]]:
    found = {}
    for ascending in (False, True):
        path = tmp_path / "order_tracking_2026_10_01.csv"
        big_file(path, BASE_ROWS, ascending=ascending)
        found[ascending] = keys(path)
    return found


@pytest.mark.parametrize("how", ["random", "clustered"])
@pytest.mark.parametrize("share", [0, 50, 100])
def test_batches_update_the_share_they_should_and_never_bring_a_new_key_twice(
    tmp_path: Path, base_keys: dict[bool, list[str]], how: str, share: int
) -> None:
    case = upsert.Case(BASE_ROWS, 200, share, how)
    known, brought = set(base_keys[case.ascending]), set[str]()
    for number in range(3):
        found = keys(case.write_batch(tmp_path, number))
        news = {key for key in found if key not in known}
        assert len(set(found)) == len(found) == 200
        assert len(news) == 200 - case.updates == 200 - 2 * share
        assert news.isdisjoint(brought)
        brought |= news


def test_clustered_updates_are_neighbours_and_random_ones_are_not(
    tmp_path: Path, base_keys: dict[bool, list[str]]
) -> None:
    places = {}
    for how in ("random", "clustered"):
        case = upsert.Case(BASE_ROWS, 100, 100, how)
        order = {key: place for place, key in enumerate(base_keys[case.ascending])}
        places[how] = [order[key] for key in keys(case.write_batch(tmp_path, 1))]
    assert base_keys[True] == sorted(base_keys[True])
    assert places["clustered"] == list(range(places["clustered"][0], places["clustered"][0] + 100))
    assert max(places["random"]) - min(places["random"]) > BASE_ROWS // 2


def test_parts_of_a_big_table_have_no_key_in_common(tmp_path: Path) -> None:
    first, second = tmp_path / "order_tracking_2026_10_01.csv", tmp_path / "order_tracking_2026_10_02.csv"
    big_file(first, 500)
    big_file(second, 500, first=500)
    assert len({*keys(first), *keys(second)}) == 1000


def test_a_batch_keeps_the_order_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / tables.batch_name(3)
    batch_file(path, np.array([7, 3, 5], dtype=np.int64), 1, ascending=True)
    assert [int(key[-2:]) for key in keys(path)] == [7, 3, 5]
    assert "2026-11-04" in path.read_text(encoding="utf-8")


def test_a_copy_of_a_table_can_be_written_to_without_the_original_noticing(tmp_path: Path) -> None:
    table = tmp_path / "table"
    (table / "_delta_log").mkdir(parents=True)
    (table / "_delta_log" / "00000000000000000000.json").write_text("{}", encoding="utf-8")
    (table / "part.parquet").write_bytes(b"x" * tables.LINKED_BYTES)
    (table / "orders.duckdb").write_bytes(b"x" * tables.LINKED_BYTES)
    tables.copy(table, tmp_path / "copy")
    copied = tmp_path / "copy"
    assert (copied / "part.parquet").samefile(table / "part.parquet")
    (copied / "orders.duckdb").write_bytes(b"y")
    (copied / "_delta_log" / "00000000000000000000.json").write_text("[]", encoding="utf-8")
    shutil.rmtree(copied)
    assert (table / "orders.duckdb").stat().st_size == tables.LINKED_BYTES
    assert (table / "_delta_log" / "00000000000000000000.json").read_text(encoding="utf-8") == "{}"
    assert (table / "part.parquet").exists()


def test_figures_are_medians_and_their_ratios_to_ordertrail() -> None:
    bout = upsert.Bout(upsert.Case(10_000_000, 100_000, 50, "random"), Path("nowhere"))
    ours = [{"whole_s": s, "load_s": s / 2, "pass_s": s * 0.8, "peak_mb": 100.0 + s} for s in (1.0, 9.0, 2.0)]
    bout.rounds["ordertrail"] = ours
    bout.rounds["delta_rs_merge"] = [{"whole_s": s, "load_s": s, "peak_mb": 1.0} for s in (10.0, 10.0, 90.0)]
    found = upsert.figures(bout)["contenders"]
    assert isinstance(found, dict)
    assert (found["ordertrail"]["whole_s"], found["ordertrail"]["peak_mb"]) == (2.0, 109)
    theirs = found["delta_rs_merge"]
    assert (theirs["whole_to_ordertrail"], theirs["load_to_ordertrail"]) == (5.0, 10.0)
    assert theirs["load_to_ordertrail_pass"] == 6.25


def test_the_chart_is_svg_with_a_bar_a_row_to_scale() -> None:
    rows = [("ordertrail", 0.5, True), ("A & B <merge>", 10.0, False)]
    root = ElementTree.fromstring(chart.svg("Title", "Foot", [("Whole", rows), ("Load", rows)]))
    bars = [bar for bar in root if bar.tag.endswith("rect")]
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths[1] == pytest.approx(20 * widths[0], rel=0.01)
    assert len(bars) == 4
    texts = [text.text for text in root if text.tag.endswith("text")]
    assert texts.count("A & B <merge>") == 2
    assert texts.count("10.0 s  20.0×") == 2


def test_sizes_are_read_with_their_units() -> None:
    assert upsert.sizes("1k,100k,10m,50") == [1000, 100_000, 10_000_000, 50]


def test_keys_repeat_as_often_as_said_and_never_at_one_time(tmp_path: Path) -> None:
    path = tmp_path / "order_tracking_2026_11_23.csv"
    repeated_file(path, 2000, 1280)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), len({row["tracking_num"] for row in rows})) == (2000, 1280)
    assert len({(row["tracking_num"], row["last_update_timestamp"]) for row in rows}) == 2000
    assert all("," in row["address"] for row in rows)
    assert keys(path) != sorted(keys(path))
    with pytest.raises(ValueError, match="cannot be made"):
        repeated_file(path, 10, 11)


def test_the_bench_of_repeated_keys_compares_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_keys, "NOT_RACY_S", 0.0)
    monkeypatch.setattr(repeated_keys, "CONFIG", f"{repeated_keys.CONFIG}settle_s = 0\n")
    found = repeated_keys.measure(tmp_path, 400, 256, rounds=1)
    assert {"ordertrail_run", "duckdb_history_and_newest", "duckdb_bare_copy"} <= set(found)
    monkeypatch.setattr(tables, "fingerprint", lambda kind, path: (256, len(kind)))
    with pytest.raises(RuntimeError, match="the newest rows are"):
        repeated_keys.Contest(tmp_path, 400, 256).compare()


@pytest.mark.slow
def test_the_bench_of_the_cold_batch_measures_both_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_batch, "NOT_RACY_S", 0.0)
    found = cold_batch.measure(tmp_path, 2000, 100, rounds=1)
    assert {"cold", "warm", "cold_delta_rs_to_ordertrail", "cold_to_warm"} <= set(found)


def test_figures_of_the_cold_batch_are_medians() -> None:
    def runs(*seconds: float) -> list[dict[str, object]]:
        return [{"whole_s": s, "load_s": s / 2, "peak_mb": 100.0} for s in seconds]

    cold = {"ordertrail": runs(4, 5, 90), "delta_rs_merge": runs(10, 10, 1)}
    warm = {"ordertrail": runs(1, 2, 2), "delta_rs_merge": runs(10, 10, 10)}
    found = cold_batch.figures({"cold": cold, "warm": warm})
    assert (found["cold_delta_rs_to_ordertrail"], found["warm_delta_rs_to_ordertrail"]) == (2.0, 5.0)
    assert found["cold_to_warm"] == 2.5
