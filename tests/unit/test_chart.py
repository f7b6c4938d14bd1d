"""Charts: stacked to scale, escaped, with words for who does not see them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from ordertrail.web.chart import HEIGHT, Bar, bars


def drawn(*found: Bar) -> ElementTree.Element:
    return ElementTree.fromstring(str(bars("What it shows", ("good", "bad"), found)))


def test_parts_stand_on_each_other_to_scale() -> None:
    chart = drawn(Bar("a", "first", (30, 10)), Bar("", "second", (0, 0)))
    rects = chart.findall(".//rect")
    assert [rect.get("class") for rect in rects] == ["s-good", "s-bad"]
    good, bad = ({name: float(rect.get(name, "")) for name in ("y", "height")} for rect in rects)
    assert good["height"] == 3 * bad["height"]
    assert abs(bad["y"] + bad["height"] - good["y"]) < 0.11
    assert good["y"] + good["height"] < HEIGHT


def test_the_scale_ends_just_above_the_highest_bar() -> None:
    def top(value: int) -> str:
        return drawn(Bar("", "", (value, 0))).findall("text")[-1].text or ""

    assert [top(value) for value in (0, 1, 2, 7, 61, 61_000, 3_000_000)] == ["2", "2", "2", "8", "80", "80k", "3M"]


def test_says_in_words_what_it_shows_and_escapes_them() -> None:
    chart = drawn(Bar("<b>", "a & <script>\u202e", (1, 2)))
    assert chart.get("role") == "img"
    assert chart.get("aria-label") == "What it shows"
    assert chart.findtext("g/title") == "a & <script>\\u202e"
    assert re.search("style=", ElementTree.tostring(chart, "unicode")) is None


def test_an_empty_chart_is_one() -> None:
    assert drawn().findall(".//rect") == []
