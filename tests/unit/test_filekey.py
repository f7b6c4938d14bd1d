from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ordertrail.model import State, Vendor
from ordertrail.rules.filekey import archive_path, clean_name, dated, file_date, file_key, fitted, take, too_far_ahead


@pytest.mark.parametrize(
    ("pattern", "path", "taken"),
    [
        ("*.csv", "a.csv", True),
        ("*.csv", "acme/a.csv", False),
        ("*.csv", "A.CSV", False),
        ("*.csv", "two\nlines.csv", True),
        ("*.csv", "raw\udcff.csv", True),
        ("*.csv", "a.csv\n", False),
        ("acme/*.csv", "acme/a.csv", True),
        ("acme/*.csv", "acme/b/a.csv", False),
        ("acme/*.csv", "xacme/a.csv", False),
        ("a?.csv", "ab.csv", True),
        ("a?b.csv", "a/b.csv", False),
        ("**/*.csv", "a.csv", True),
        ("**/*.csv", "a/b/c.csv", True),
        ("acme/**", "acme/b/c.csv", True),
        ("acme/**", "acme", False),
        ("**/in/**/*.csv", "x/in/a.csv", True),
        ("**/in/**/*.csv", "xin/a.csv", False),
        ("**/**/*.csv", "a.csv", True),
        ("*a*.csv", "xay.csv", True),
        ("*a*.csv", "x/ay.csv", False),
        ("x**/y.csv", "x/y.csv", True),
        ("x**/y.csv", "xa/y.csv", True),
        ("x**/y.csv", "xabc/b/y.csv", True),
        ("x**/y.csv", "xy.csv", False),
        ("x**/y.csv", "a/y.csv", False),
        ("[ab]*.csv", "b1.csv", True),
        ("[ab]*.csv", "c1.csv", False),
        ("[!ab]*.csv", "c1.csv", True),
        ("[!ab]*.csv", "a1.csv", False),
        ("x[!a]y", "x/y", False),
        ("x[./]y", "x/y", False),
        ("x[+-9]y", "x/y", False),
        ("[0-9].csv", "5.csv", True),
        ("[9-0].csv", "5.csv", False),
        ("[]x].csv", "].csv", True),
        ("[a-].csv", "-.csv", True),
        ("[^a].csv", "^.csv", True),
        ("[^a].csv", "b.csv", False),
        ("a[.csv", "a[.csv", True),
        ("a[].csv", "a[].csv", True),
        ("a+(b).csv", "a+(b).csv", True),
        ("a.csv", "abcsv", False),
    ],
)
def test_a_glob_stops_at_folders(pattern: str, path: str, taken: bool) -> None:
    vendor = Vendor("acme", pattern)
    assert take(path, [vendor]) == (vendor if taken else None)


def test_no_name_makes_a_glob_slow() -> None:
    """A regular expression with these stars would still be at it tomorrow."""
    name = "a" * 250
    for pattern in ("*a*a*a*a*a*a*a*a*a*a*b", "**a**a**a**a**a**a**a**a**b", "**/*a*a*a*a*a*a*a*/**/x*y*z"):
        assert take(name, [Vendor("acme", pattern)]) is None
    assert take(name + "b", [Vendor("acme", "*a*a*a*a*a*a*a*a*a*a*b")]) is not None
    assert take(f"{name}/{name}/{name}.csv", [Vendor("acme", "**/*a*a*a*a*.csv")]) is not None


pieces = st.lists(st.sampled_from(["*", "**", "**/", "?", "a", "b", "/", ".", "[ab]", "[!a]", "[", ".csv"]), max_size=6)
paths = st.lists(st.sampled_from(["a", "b", "/", ".", "c", ".csv", "[", "a/"]), max_size=7).map("".join)


@example("[[ab]", "a")
@example("[*[!a]", "!")
@given(pieces.map("".join), paths)
def test_a_glob_takes_what_its_regular_expression_takes(pattern: str, path: str) -> None:
    regex, at = "", 0
    while at < len(pattern):
        if folders := re.compile(r"(?:\*\*/)+").match(pattern, at):
            regex += "(?:[^/]+/)*" if at == 0 or pattern[at - 1] == "/" else ".*/"
            at = folders.end()
        elif stars := re.compile(r"\*+").match(pattern, at):
            regex, at = regex + ("[^/]*" if len(stars[0]) == 1 else ".*"), stars.end()
        elif one := re.compile(r"\[(!?)([^\]]+)\]").match(pattern, at):  # "[" before "[ab]" begins the set
            regex, at = regex + f"(?!/)[{'^' if one[1] else ''}{re.escape(one[2])}]", one.end()
        elif pattern[at] == "?":
            regex, at = regex + "[^/]", at + 1
        else:
            regex, at = regex + re.escape(pattern[at]), at + 1
    assert (take(path, [Vendor("acme", pattern)]) is not None) == bool(re.fullmatch(regex, path, re.DOTALL))


def test_the_first_vendor_that_matches_takes_the_file() -> None:
    first, second, third = Vendor("first", "a*.csv"), Vendor("second", "ab.csv"), Vendor("third", "*")
    assert take("ab.csv", [first, second, third]) == first
    assert take("ab.csv", [second, first, third]) == second
    assert take("zz.csv", [first, second, third]) == third
    assert take("zz.csv", []) is None


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("order_tracking_2026_11_23.csv", date(2026, 11, 23)),
        ("2026-11-23.csv", date(2026, 11, 23)),
        ("x20261123y.csv", date(2026, 11, 23)),
        ("orders_2026_11-23.csv", None),
        ("orders_120261123.csv", None),
        ("orders_202611231.csv", None),
        ("orders_20261123120000.csv", None),
        ("orders_2026_02_29.csv", None),
        ("orders_2028_02_29.csv", date(2028, 2, 29)),
        ("99999999_2026_13_01_2026-11-23.csv", date(2026, 11, 23)),
        ("2026_11_23_2026_11_24.csv", date(2026, 11, 23)),
        ("orders_00010203.csv", None),
        ("orders_1970_01_01.csv", date(1970, 1, 1)),
        ("orders_٢٠٢٦١١٢٣.csv", None),
        ("orders.csv", None),
    ],
)
def test_the_date_is_found_without_a_pattern(name: str, day: date | None) -> None:
    assert file_date(name, None) == day


@pytest.mark.parametrize(
    ("name", "pattern", "day"),
    [
        ("acme-23112026-final.csv", "%d%m%Y", date(2026, 11, 23)),
        ("acme-3.1.2026.csv", "%d.%m.%Y", date(2026, 1, 3)),
        ("acme_99231126_231126.csv", "%d%m%y", date(2026, 11, 23)),
        ("acme_20261123120000.csv", "%Y%m%d", date(2026, 11, 23)),
        ("acme_20261123120000.csv", "%Y%m%d%H%M%S", date(2026, 11, 23)),
        ("ordersNOV2026.csv", "%b%Y", date(2026, 11, 1)),
        ("orders 3 november 26.csv", "%d %B %y", date(2026, 11, 3)),
        ("orders-2026-327.csv", "%Y-%j", date(2026, 11, 23)),
        ("orders-2026W481.csv", "%GW%V%u", date(2026, 11, 23)),
        ("a.b+2026(11)23.csv", "+%Y(%m)%d", date(2026, 11, 23)),
        ("100%_2026.11.23.csv", "%%_%Y.%m.%d", date(2026, 11, 23)),
        ("32.01.2026_31.01.2026.csv", "%d.%m.%Y", date(2026, 1, 31)),
        ("orders_2026_11_23.csv", "%d.%m.%Y", None),
        ("orders_31.02.2026.csv", "%d.%m.%Y", None),
    ],
)
def test_a_pattern_is_searched_inside_the_name(name: str, pattern: str, day: date | None) -> None:
    assert file_date(name, pattern) == day


@pytest.mark.parametrize("pattern", ["%d%m", "%Y%Q", "%Y%", "orders", "%c %Y", "%%Y"])
def test_a_pattern_that_can_give_no_date_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="date pattern"):
        file_date("orders.csv", pattern)


def test_the_file_key_is_the_date_else_the_modification_time() -> None:
    vendor = Vendor("acme")
    midnight_ms = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp()) * 1000
    assert file_key("orders_2026_11_23.csv", vendor, 5) == midnight_ms
    assert file_key("orders.csv", vendor, 1_999_999_999) == 1999
    assert file_key("orders.csv", vendor, -1) == -1
    assert file_key("2026_11_23/orders.csv", vendor, 7_000_000) == 7
    assert file_key("orders_2026_11_23.csv", Vendor("acme", file_date="%d.%m.%Y"), 7_000_000) == 7
    assert file_key("orders_23.11.2026.csv", Vendor("acme", file_date="%d.%m.%Y"), 7) == midnight_ms


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("acme/orders 1.csv", "acme/orders 1.csv"),
        ("Bestellungen_ä_日本_🚚.csv", "Bestellungen_ä_日本_🚚.csv"),
        ("-rf 'x' \"y\".csv", "-rf 'x' \"y\".csv"),
        ("two\nlines\t\r", "two\\nlines\\t\\r"),
        ("\x1b[31m\x00\x7f", "\\x1b[31m\\x00\\x7f"),
        ("\x85\x9b", "\\u0085\\u009b"),
        ("\udc85\udcff", "\\x85\\xff"),
        ("\x80\udc80\udc7f", "\\u0080\\x80\\udc7f"),
        ("\u202egpj.\u2066x\u2069\u200f\u2028", "\\u202egpj.\\u2066x\\u2069\\u200f\\u2028"),
        ("a\\x1b", "a\\\\x1b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_clean_names(name: str, text: str) -> None:
    assert clean_name(name) == text


_ODD = st.sampled_from("\\xunrt0189abfcd\n\r\t\x1b\x7f\x85\x9f\udc85\udcff\ud800\u202e\u2066é🚚")


@given(st.text(st.one_of(_ODD, st.characters(exclude_categories=()))))
def test_a_clean_name_is_safe_and_reads_back(name: str) -> None:
    text = clean_name(name)
    text.encode()
    assert len(text.splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert _unescaped(text) == name  # so two names are never one text


def _unescaped(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        if short := {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}.get(match[1]):
            return short
        code = int(match[1][1:], 16)
        return chr(code + 0xDC00 if match[1][0] == "x" and code >= 0x80 else code)

    return re.sub(r"\\(\\|n|r|t|x[0-9a-f]{2}|u[0-9a-f]{4})", read, text)


WHEN = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)


def test_archive_paths() -> None:
    assert archive_path("d1", "acme/a b.csv", WHEN, State.LOADED) == "2026/11/23/d1-a b.csv"
    assert archive_path("d1", "a.csv", WHEN, State.QUARANTINED) == "quarantine/2026/11/23/d1-a.csv"
    assert archive_path("d1", "a.csv", WHEN, State.DUPLICATE) == "2026/11/23/d1-a.csv"
    assert archive_path("d1", "-a\\b'é.csv", WHEN, State.LOADED) == "2026/11/23/d1--a\\b'é.csv"
    assert archive_path("d1", "a\nb\udcff.csv", WHEN, State.LOADED) == "2026/11/23/d1-a\\nb\\xff.csv"


def test_the_archive_folder_is_the_day_in_utc() -> None:
    chicago = WHEN.astimezone(timezone(timedelta(hours=6)))
    assert chicago.day == 24
    assert archive_path("d1", "a.csv", chicago, State.LOADED) == "2026/11/23/d1-a.csv"


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=300))
def test_an_archived_name_always_fits(name: str) -> None:
    last = archive_path("d" * 40, name, WHEN, State.LOADED).rpartition("/")[2]
    assert len(last.encode()) <= 255
    assert last.startswith("d" * 40 + "-")


def test_a_long_name_keeps_its_extension() -> None:
    exact = archive_path("d1", "a" * 248 + ".csv", WHEN, State.LOADED).rpartition("/")[2]
    assert exact == "d1-" + "a" * 248 + ".csv"
    cut = archive_path("d1", "é" * 125 + ".csv", WHEN, State.LOADED).rpartition("/")[2]
    assert cut == "d1-" + "é" * 124 + ".csv"
    assert fitted("a", "." + "b" * 300) == "a." + "b" * 253
    longest = "." + "b" * 31
    assert fitted("a" * 300, longest) == "a" * 223 + longest
    assert fitted("a" * 300, longest + "b") == "a" * 255  # that is no extension any more


WRITTEN_NS = 1_795_651_200 * 1_000_000_000
"""2026-11-26 00:00 UTC."""


@pytest.mark.parametrize(
    ("name", "mtime_ns", "held"),
    [
        ("order_tracking_2026_11_23.csv", WRITTEN_NS, False),
        ("order_tracking_2027_11_27.csv", WRITTEN_NS, False),
        ("order_tracking_2027_11_28.csv", WRITTEN_NS, True),
        ("order_tracking_2062_11_23.csv", WRITTEN_NS, True),
        ("order_tracking_9999_12_31.csv", WRITTEN_NS, True),
        ("a/9999_12_31/order_tracking_2026_11_23.csv", WRITTEN_NS, False),
        ("order_tracking.csv", WRITTEN_NS, False),
        ("order_tracking_1970_01_01.csv", WRITTEN_NS, False),
        # 1970 and 1980 are no modification times: copying and unpacking leave them there.
        ("order_tracking_2026_11_23.csv", 0, False),
        ("order_tracking_2026_11_23.csv", 315_532_800 * 1_000_000_000, False),
        ("order_tracking_2026_11_23.csv", 946_684_800 * 1_000_000_000, True),
    ],
)
def test_a_day_far_beyond_the_time_a_file_was_written_holds_it(name: str, mtime_ns: int, held: bool) -> None:
    reason = too_far_ahead(name, Vendor("acme"), mtime_ns, 366)
    assert (reason is not None) == held
    if reason is not None:
        assert "max_file_ahead_d allows 366" in reason


def test_why_a_file_is_held_says_both_times() -> None:
    reason = too_far_ahead("order_tracking_2062_11_23.csv", Vendor("acme"), WRITTEN_NS, 31)
    assert reason == (
        "its name says 2062-11-23, 13,146 days after it was last modified, 2026-11-26 00:00 UTC; max_file_ahead_d "
        "allows 31: if the name is right, load it with ordertrail release; else copy it back with cp -p under the "
        "right one"
    )


def test_the_date_of_a_file_says_where_it_is_from() -> None:
    assert dated("x/a_2026_11_23.csv", Vendor("acme"), WRITTEN_NS) == "2026-11-23, which its name says"
    assert dated("a_23112026.csv", Vendor("acme", file_date="%d%m%Y"), 0) == "2026-11-23, which its name says"
    undated = dated("a.csv", Vendor("acme"), WRITTEN_NS)
    assert undated == "2026-11-26 00:00 UTC, when it was last modified, as its name has no date"
