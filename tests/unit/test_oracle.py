"""The oracle against cases worked out by hand, one a rule; and the feeds: they do hold every trap."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ordertrail.model import Column, Contract, Vendor
from tests import feeds, oracle
from tests.feeds import FEED_LIMITS, FEED_VENDORS, FeedFile
from tests.oracle import PlainFile, Row, Value, judge

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp"
GOOD = "1,K,2026-11-19,,IN_TRANSIT,X,2026-11-20 08:00:00"
NOVEMBER_20_MS = 1_795_132_800_000


def file(*lines: str, path: str = "f_2026_11_20.csv", mtime_ns: int = 0, header: str = HEADER) -> PlainFile:
    return PlainFile(path, "\n".join([header, *lines, ""]).encode(), mtime_ns)


def line(address: str = "X", *, key: str = "K", time: str = "2026-11-20 08:00:00", status: str = "IN_TRANSIT") -> str:
    return f"1,{key},,,{status},{address},{time}"


def addresses(*files: PlainFile, vendors: Sequence[Vendor] = (Vendor("v", "**.csv"),)) -> dict[str, Value]:
    """Target address by key, the same in any order of the files."""
    target = judge(files, vendors=vendors).target
    assert judge(reversed(files), vendors=vendors).target == target
    return {str(key[0]): row["address"] for key, row in target.items()}


def only_row(*files: PlainFile, vendor: Vendor | None = None, contract: Contract | None = None) -> Row:
    target = judge(files, contract, (vendor or Vendor("v", "**.csv"),)).target
    assert len(target) == 1
    return next(iter(target.values()))


def rejects(*lines: str, vendor: Vendor | None = None, header: str = HEADER) -> list[tuple[int, str | None, str]]:
    (verdict,) = judge([file(*lines, header=header)], vendors=(vendor or Vendor("v"),), max_reject_share=1.0).files
    assert verdict.parsed == len(lines)
    return list(verdict.rejects)


def test_a_plain_row_is_typed_and_nothing_else() -> None:
    assert only_row(file('0012,007,2026-11-19,,IN_TRANSIT," Main St, 1\nMünchen ",2026-11-20 08:00:00')) == {
        "order_num": "0012",
        "tracking_num": "007",
        "pck_recieved_date": date(2026, 11, 19),
        "package_deliver_date": None,
        "status": "IN_TRANSIT",
        "address": " Main St, 1\nMünchen ",
        "last_update_timestamp": datetime(2026, 11, 20, 8, tzinfo=UTC),
    }


# The total order, component by component: each pair is equal in all components before the one it shows.


def test_order_1_the_later_event_wins_to_the_microsecond() -> None:
    new = file(line("new", time="2026-11-20 08:00:00.000001"), path="f_2026_11_20.csv")
    old = file(line("old", time="2026-11-20 08:00:00", status="RETURNED"), path="z_2026_11_25.csv", mtime_ns=9 * 10**18)
    assert addresses(new, old) == {"K": "new"}


def test_order_2_then_the_later_file_date() -> None:
    assert addresses(
        file(line("correction", status="LABEL_CREATED"), path="a_2026_11_21.csv"),
        file(line("first", status="DELIVERED"), path="b_2026_11_20.csv", mtime_ns=9 * 10**18),
    ) == {"K": "correction"}


def test_order_3_then_the_status_rank() -> None:
    assert addresses(
        file(line("high", status="DELIVERED"), path="a_2026_11_20.csv"),
        file(line("low", status="PICKED_UP"), path="b_2026_11_20.csv"),
    ) == {"K": "high"}


def test_order_3_an_unlisted_status_is_above_null_and_below_all_others() -> None:
    rows = [line("null", status=""), line("listed", status="ORDER_PLACED"), line("unlisted", status="LOST")]
    assert addresses(file(*rows)) == {"K": "listed"}
    assert addresses(file(rows[2], rows[0])) == {"K": "unlisted"}


def test_order_4_then_the_vendor_before_the_path() -> None:
    vendors = (Vendor("zulu", "a/*.csv"), Vendor("alpha", "b/*.csv"))
    pair = (file(line("zulu"), path="a/f_2026_11_20.csv"), file(line("alpha"), path="b/f_2026_11_20.csv"))
    assert addresses(*pair, vendors=vendors) == {"K": "zulu"}


def test_order_5_then_the_path_by_its_bytes() -> None:
    pair = (
        file(line("é"), path="é_2026_11_20.csv", mtime_ns=1),
        file(line("z"), path="z_2026_11_20.csv", mtime_ns=9 * 10**18),
    )
    assert addresses(*pair) == {"K": "é"}


def test_order_6_then_the_modification_time_in_whole_milliseconds() -> None:
    assert addresses(file(line("later"), mtime_ns=2_000_000), file(line("sooner"), mtime_ns=1_999_999)) == {
        "K": "later"
    }


def test_order_7_then_the_bytes_of_the_file() -> None:
    pair = (file(line("one"), mtime_ns=1_000_000), file(line("two"), mtime_ns=1_999_999))
    higher = max(judge(pair).files, key=lambda f: f.sha256)
    assert addresses(*pair) == {"K": ("one", "two")[judge(pair).files.index(higher)]}


def test_order_8_then_the_row() -> None:
    assert addresses(file(line("first"), line("second"))) == {"K": "second"}


def test_x_y_x_at_one_time_ends_in_x() -> None:
    days = [file(line(a), path=f"f_2026_11_{20 + n}.csv") for n, a in enumerate("XYX")]
    assert addresses(*days) == {"K": "X"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("order_tracking_2026_11_20.csv", NOVEMBER_20_MS),
        ("order-2026-11-20.csv", NOVEMBER_20_MS),
        ("20261120.csv", NOVEMBER_20_MS),
        ("order_2026_02_30.csv", 7),  # no such day
        ("order_2026_11-20.csv", 7),  # neither spelling
        ("order_120261120.csv", 7),  # a longer number
        ("2026_11_20/orders.csv", 7),  # a folder is not the name
    ],
)
def test_file_key_is_the_date_in_the_name_else_the_mtime_in_ms(name: str, key: int) -> None:
    (verdict,) = judge([file(path=name, mtime_ns=7_999_999)], vendors=(Vendor("v", "**"),)).files
    assert verdict.order[0] == key


def test_a_vendors_own_file_date() -> None:
    (verdict,) = judge([file(path="x20.11.26.csv", mtime_ns=1)], vendors=(Vendor("v", file_date="%d.%m.%y"),)).files
    assert verdict.order[0] == NOVEMBER_20_MS


# Rows


def test_more_than_48_hours_beyond_the_file_key_is_the_future() -> None:
    assert rejects(line(time="2026-11-22 00:00:00"), line(time="2026-11-22 00:00:00.000001")) == [
        (2, "last_update_timestamp", "future")
    ]


def test_no_key_or_a_blank_one_or_a_damaged_one_is_a_reject() -> None:
    assert rejects(line(key=""), line(key=" \t "), line(key="1.23E+11"), line(key='"1,23E+11"'), line(key="12E5")) == [
        (1, "tracking_num", "required"),
        (2, "tracking_num", "required"),
        (3, "tracking_num", "damaged"),
        (4, "tracking_num", "damaged"),
    ]


def test_keys_are_trimmed_and_nothing_else_is() -> None:
    row = only_row(file(line(" X ", key=" K\t", status=" IN_TRANSIT")))
    assert (row["tracking_num"], row["address"], row["status"]) == ("K", " X ", " IN_TRANSIT")


def test_no_usable_event_time_is_a_reject() -> None:
    assert rejects(line(time=""), line(time="soon")) == [
        (1, "last_update_timestamp", "required"),
        (2, "last_update_timestamp", "timestamp"),
    ]


def test_a_row_of_another_width_is_a_reject_and_counts() -> None:
    assert rejects("1,K", GOOD + ",more", GOOD) == [(1, None, "ragged"), (2, None, "ragged")]


def test_each_bad_cell_is_named_and_the_row_counts_once() -> None:
    (verdict,) = judge([file("1,K,2026-02-30,31.12.2026,,,2026-11-20 08:00:00")], max_reject_share=1.0).files
    assert [column for _, column, _ in verdict.rejects] == ["pck_recieved_date", "package_deliver_date"]
    assert (verdict.parsed, verdict.rejected) == (1, 1)


def test_blank_lines_and_lines_of_delimiters_do_not_count() -> None:
    (verdict,) = judge([file("", line(), "  ", ",,,,,,", "")], max_reject_share=1.0).files
    assert (verdict.parsed, verdict.rejected) == (1, 0)


@pytest.mark.parametrize(
    ("text", "zone", "utc"),
    [
        ("2026-07-01 08:00:00", "America/Chicago", datetime(2026, 7, 1, 13, tzinfo=UTC)),
        ("2026-11-01 01:30:00", "America/Chicago", datetime(2026, 11, 1, 6, 30, tzinfo=UTC)),  # twice: the earlier
        ("2026-03-08 02:30:00", "America/Chicago", None),  # never
        ("2026-03-08 03:00:00", "America/Chicago", datetime(2026, 3, 8, 8, tzinfo=UTC)),
        ("2026-03-08T02:30:00Z", "America/Chicago", datetime(2026, 3, 8, 2, 30, tzinfo=UTC)),
        ("2026-03-08T02:30:00+02:00", "America/Chicago", datetime(2026, 3, 8, 0, 30, tzinfo=UTC)),
        ("20.11.2026 08:00", "Europe/Berlin", datetime(2026, 11, 20, 7, tzinfo=UTC)),  # by the vendor's format
    ],
)
def test_local_times(text: str, zone: str, utc: datetime | None) -> None:
    vendor = Vendor("v", timezone=zone, formats=(("last_update_timestamp", ("%d.%m.%Y %H:%M",)),))
    if utc is None:
        assert rejects(line(time=text), vendor=vendor) == [(1, "last_update_timestamp", "skipped by DST")]
    else:
        assert only_row(file(line(time=text)), vendor=vendor)["last_update_timestamp"] == utc


def test_a_vendors_formats_are_in_place_of_the_contracts() -> None:
    day = Column("day", "date", formats=("%d/%m/%Y",))
    contract = Contract((Column("k", "string"), day, Column("t", "timestamp")), ("k",), "t", None, ())
    text = PlainFile("f_2026_11_20.csv", b"k,day,t\nA,05/04/2026,2026-11-20 08:00:00\n")
    assert only_row(text, contract=contract)["day"] == date(2026, 4, 5)
    vendor = Vendor("v", formats=(("day", ("%m/%d/%Y",)),))
    assert only_row(text, contract=contract, vendor=vendor)["day"] == date(2026, 5, 4)


def test_status_map_comes_before_the_rank() -> None:
    vendor = Vendor("v", status_map=(("Left at door", "DELIVERED"),))
    row = only_row(file(line("a", status="Left at door"), line("b", status="IN_TRANSIT")), vendor=vendor)
    assert (row["address"], row["status"]) == ("a", "DELIVERED")


def test_other_types_and_column_rules() -> None:
    contract = Contract(
        (
            Column("k", "bigint"),
            Column("n", "int", min="1", max="9"),
            Column("d", "decimal(5,2)"),
            Column("b", "boolean"),
            Column("c", "string", pattern="[A-Z]+", allowed=("AB", "CD")),
            Column("t", "timestamp"),
        ),
        ("k",),
        "t",
        None,
        (),
    )
    good = "7,9,-123.40,TRUE,AB"
    bad = (
        "7,10,1,true,AB",
        "7,1,1.234,true,AB",
        "7,1,1000,true,AB",
        "7,1,1,maybe,AB",
        "7,1,1,true,EF",
        "x,1,1,true,ab",
    )
    lines = [f"{text},2026-11-20 08:00:00" for text in (good, *bad)]
    verdict = judge([file(*lines, header="k,n,d,b,c,t")], contract, max_reject_share=1.0)
    assert verdict.target[(7,)] == {
        "k": 7,
        "n": 9,
        "d": Decimal("-123.40"),
        "b": True,
        "c": "AB",
        "t": datetime(2026, 11, 20, 8, tzinfo=UTC),
    }
    assert [r[:2] for r in verdict.files[0].rejects] == [
        (2, "n"),
        (3, "d"),
        (4, "d"),
        (5, "b"),
        (6, "c"),
        (7, "k"),
        (7, "c"),
    ]


# Files


def test_columns_go_by_name_without_case_spaces_and_underscores_and_by_alias() -> None:
    vendor = Vendor("v", aliases=(("tracking_num", ("Sendung Nr",)),))
    header = "LAST UPDATE_timestamp,sendung_nr,Order Num,packagedeliverdate,PCK_RECIEVED_DATE,Status,note,ADDRESS"
    row = only_row(file("2026-11-20 08:00:00,K,1,,2026-11-19,DELIVERED,new,X", header=header), vendor=vendor)
    assert (row["tracking_num"], row["pck_recieved_date"], row["address"]) == ("K", date(2026, 11, 19), "X")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n \n", HEADER.encode(), HEADER.encode() + b"\r\n\r\n"])
def test_a_file_without_rows_is_empty(content: bytes) -> None:
    (verdict,) = judge([PlainFile("f.csv", content)]).files
    assert (verdict.state, verdict.parsed, verdict.rejected) == ("empty", 0, 0)


@pytest.mark.parametrize(
    ("vendor", "header", "state", "reason"),
    [
        (Vendor("v"), HEADER, "loaded", ""),
        (Vendor("v"), HEADER.replace("address", "note"), "quarantined", "missing column"),
        (Vendor("v", absent=("address",)), HEADER.replace("address", "note"), "loaded", ""),
        (Vendor("v"), HEADER.replace("order_num", "Address"), "quarantined", "double column"),
        (Vendor("w", "other/*"), HEADER, "left", ""),
    ],
)
def test_what_becomes_of_a_file_by_its_header(vendor: Vendor, header: str, state: str, reason: str) -> None:
    (verdict,) = judge([file(line(), line(key="L"), header=header)], vendors=(vendor,)).files
    assert (verdict.state, verdict.reason) == (state, reason)
    assert verdict.rejected == (2 if state == "quarantined" else 0)


def test_an_unknown_column_matters_only_if_the_contract_is_strict() -> None:
    contract = oracle.default_contract()
    extra = file(GOOD + ",x", header=HEADER + ",note")
    assert judge([extra], contract).files[0].state == "loaded"
    assert judge([extra], replace(contract, unknown_columns="strict")).files[0].reason == "unknown column"


def test_a_reject_share_above_the_limit_takes_the_whole_file_and_one_at_it_does_not() -> None:
    rows = [line(key=str(n)) for n in range(20)]
    at_the_limit, above = judge([file(*rows, *["bad"] * 5), file(*rows, *["bad"] * 6)]).files
    assert (at_the_limit.state, at_the_limit.rejected) == ("loaded", 5)
    assert (above.state, above.reason, above.parsed, above.rejected) == ("quarantined", "reject share", 26, 26)
    assert not judge([file(*rows, *["bad"] * 6)]).target


def test_fewer_rejects_than_five_leave_a_file_alone_unless_no_row_is_good() -> None:
    few, all_bad = judge([file(line(), *["bad"] * 4), file(*["bad"] * 2)]).files
    assert (few.state, all_bad.state) == ("loaded", "quarantined")
    assert judge([file(line(), "bad")], max_reject_share=0.0).files[0].state == "quarantined"


def test_encodings() -> None:
    text = f"{HEADER}\n{line('Münch')}\n"
    assert only_row(PlainFile("f.csv", text.encode("utf-8-sig"), 10**19)) == only_row(
        PlainFile("f.csv", text.encode("utf-16"), 10**19)
    )
    assert judge([PlainFile("f.csv", text.encode("cp1252"))]).files[0].reason == "undecodable"
    cp1252 = PlainFile("f.csv", text.encode("cp1252"), 10**19)
    assert only_row(cp1252, vendor=Vendor("v", encoding="cp1252"))["address"] == "Münch"


def test_an_absent_column_leaves_what_other_files_say_in_any_order() -> None:
    vendors = (Vendor("v", "v/*"), Vendor("w", "w/*", absent=("address",)))
    short = HEADER.replace(",address", "")
    newest = file("2,K,,,DELIVERED,2026-11-21 08:00:00", path="w/f_2026_11_21.csv", header=short)
    carried = file("1,K,,,PICKED_UP,kept,2026-11-20 08:00:00", path="v/f_2026_11_20.csv")
    older = file("1,K,,,PICKED_UP,older,2026-11-19 08:00:00", path="v/f_2026_11_20_b.csv")
    assert addresses(newest, carried, older, vendors=vendors) == {"K": "kept"}
    assert addresses(newest, vendors=vendors) == {"K": None}
    assert judge([newest, carried], vendors=vendors).target[("K",)]["order_num"] == "2"


def test_a_file_is_repeatable_if_its_bytes_come_again_in_an_order_not_lower() -> None:
    first = file(GOOD, path="a/f_2026_11_20.csv")
    later, other_vendor = first._replace(path="a/f_2026_11_21.csv"), first._replace(path="b/f_2026_11_22.csv")
    vendors = (Vendor("a", "a/*"), Vendor("b", "b/*"))
    assert [f.repeatable for f in judge([later, first, other_vendor], vendors=vendors).files] == [False, True, False]
    assert [f.repeatable for f in judge([later, later], vendors=vendors).files] == [True, True]


def test_globs_stop_at_folders_and_the_first_vendor_has_the_file() -> None:
    vendors = (Vendor("flat", "a/*.csv"), Vendor("deep", "a/**.csv"))
    paths = ("a/x.csv", "a/b/x.csv", "x.csv")
    assert [f.vendor for f in judge([file(path=p) for p in paths], vendors=vendors).files] == ["flat", "deep", None]


def test_keyed_refuses_a_key_that_is_there_twice() -> None:
    row = only_row(file(GOOD))
    assert oracle.keyed([row | {"_batch": 1}]) == {("K",): row}
    with pytest.raises(AssertionError, match="twice"):
        oracle.keyed([row, row])


# The feeds


def judge_feed(files: Sequence[FeedFile]) -> oracle.Verdict:
    return judge(files, vendors=FEED_VENDORS, **FEED_LIMITS)


def loaded_rows(files: Sequence[FeedFile]) -> list[tuple[FeedFile, oracle.Accepted]]:
    contract = oracle.default_contract()
    return [(f, row) for f in files for row in oracle.judge_file(f, contract, FEED_VENDORS, *FEED_LIMITS.values())[1]]


def ties_with_other_content(files: Sequence[FeedFile]) -> bool:
    seen: dict[tuple[object, int], Row] = {}
    return any(
        seen.setdefault((row.values["tracking_num"], row.order[0]), row.values) != row.values
        for _, row in loaded_rows(files)
    )


def there_and_back(files: Sequence[FeedFile]) -> bool:
    per_key: dict[tuple[object, int], list[tuple[oracle.RowOrder, str]]] = {}
    for _, row in loaded_rows(files):
        per_key.setdefault((row.values["tracking_num"], row.order[0]), []).append((row.order, repr(row.values)))
    for rows in per_key.values():
        contents = [content for _, content in sorted(rows)]
        if any(a == c != b for a, b, c in zip(contents, contents[1:], contents[2:], strict=False)):
            return True
    return False


def same_bytes_under_a_later_name(files: Sequence[FeedFile]) -> bool:
    verdicts = judge_feed(files).files
    return any(
        a.sha256 == b.sha256 and a.state == b.state == "loaded" and a.vendor == b.vendor and a.order[0] < b.order[0]
        for a in verdicts
        for b in verdicts
    )


def status_goes_back(files: Sequence[FeedFile]) -> bool:
    rows = [(row.values["tracking_num"], row.order) for _, row in loaded_rows(files)]
    return any(k == l and a[0] < b[0] and a[2] > b[2] >= 0 for k, a in rows for l, b in rows)  # noqa: E741


def late_rows(files: Sequence[FeedFile]) -> bool:
    rows = [(row.values["tracking_num"], row.order) for _, row in loaded_rows(files)]
    return any(k == l and a[0] < b[0] and a[1] > b[1] for k, a in rows for l, b in rows)  # noqa: E741


def one_name_of_two_vendors(files: Sequence[FeedFile]) -> bool:
    return max(Counter(name for name in {f.path for f in files} for name in [name.rpartition("/")[2]]).values()) > 1


def one_path_twice(files: Sequence[FeedFile]) -> bool:
    return len({f.path for f in files}) < len(files)


def repeat_in_a_file(files: Sequence[FeedFile]) -> bool:
    rows = Counter((f, tuple(row.values.items())) for f, row in loaded_rows(files))
    return max(rows.values(), default=0) > 1


def dated_and_undated(files: Sequence[FeedFile]) -> bool:
    return len({f.order[0] == NOVEMBER_20_MS for f in judge_feed(files).files}) == 2 and any(
        oracle.date_in_name(f.path, None) is None for f in files
    )


def rejects_beside_rows(files: Sequence[FeedFile]) -> bool:
    return any(f.state == "loaded" and f.rejected for f in judge_feed(files).files)


def future_only_in_one_of_two_twins(files: Sequence[FeedFile]) -> bool:
    verdicts = [v for v in judge_feed(files).files if v.state == "loaded"]
    return any(a.sha256 == b.sha256 and a.rejected != b.rejected for a in verdicts for b in verdicts)


def state_is(state: str) -> Callable[[Sequence[FeedFile]], bool]:
    return lambda files: any(f.state == state for f in judge_feed(files).files)


@pytest.mark.parametrize(
    "trap",
    [
        ties_with_other_content,
        there_and_back,
        same_bytes_under_a_later_name,
        status_goes_back,
        late_rows,
        one_name_of_two_vendors,
        one_path_twice,
        repeat_in_a_file,
        dated_and_undated,
        rejects_beside_rows,
        future_only_in_one_of_two_twins,
        state_is("empty"),
        state_is("quarantined"),
    ],
)
def test_feeds_hold_the_trap_often_enough_for_a_short_run(trap: Callable[[Sequence[FeedFile]], bool]) -> None:
    quick = settings(max_examples=300, phases=[Phase.generate], database=None, derandomize=True, deadline=None)
    find(feeds.feeds(), trap, settings=quick, random=random.Random(1))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_batchings_hold_every_file_and_never_a_path_twice_in_a_batch(data: st.DataObject) -> None:
    files = data.draw(feeds.feeds(absent=True))
    batches = data.draw(feeds.batchings(files))
    assert 1 <= len(files) <= feeds.MAX_FILES
    assert len(set(files)) == len(files)
    assert {f for batch in batches for f in batch} == set(files)
    assert all(batch and len({f.path for f in batch}) == len(batch) for batch in batches)
    arrived = [f for batch in batches for f in batch]
    assert judge_feed(arrived).target == judge_feed(files).target
