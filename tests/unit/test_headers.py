"""Columns are found by name, never by position (P5)."""

from __future__ import annotations

import pytest

from ordertrail.errors import QuarantineError
from ordertrail.model import Column, Contract, UnknownColumns, Vendor
from ordertrail.rules import headers
from ordertrail.rules.header_lines import header_rule
from ordertrail.rules.headers import MAX_NAME_CHARS, MAX_NAMES_CHARS, MAX_UNKNOWN_COLUMNS, folded, map_header


def contract(unknown_columns: UnknownColumns = "rescue") -> Contract:
    columns = (Column("order_num", "string"), Column("tracking_num", "string"), Column("at", "timestamp"))
    return Contract(columns, ("tracking_num",), "at", None, (), unknown_columns)


PLAIN = Vendor("acme")


@pytest.mark.parametrize(
    "name",
    [
        "tracking_num",
        "Tracking Num",
        "TRACKINGNUM",
        "tracking  num",
        "_tracking_num_",
        "trackıng_num".replace("ı", "i"),
    ],
)
def test_case_spaces_and_underscores_do_not_matter(name: str) -> None:
    assert folded(name) == "trackingnum"
    assert map_header(("at", "Order Num", name), contract(), PLAIN).cells == (1, 2, 0)


@pytest.mark.parametrize(
    "name", ["\ufefftracking_num", "tracking\u200b_num", "tracking\u00a0num", "\u2003Tracking num\u2028"]
)
def test_what_nobody_sees_does_not_matter(name: str) -> None:
    assert map_header(("at", "Order Num", name), contract(), PLAIN).cells == (1, 2, 0)
    vendor = Vendor("acme", aliases=(("tracking_num", ("Nu\u0308mmer",)),))
    assert map_header(("at", "order num", "N\u00dcMMER"), contract(), vendor).cells == (1, 2, 0)
    layout = map_header(("at", "order num", "tracking num", "z\u200b", "u\u0308"), contract(), PLAIN)
    assert layout.unknown == (("z", 3), ("\u00fc", 4))


@pytest.mark.parametrize("name", ["tracking-num", "tracking.num", "trackingnumber", "trackıng_num", "tracking_num2"])
def test_other_names_do_not_match(name: str) -> None:
    with pytest.raises(QuarantineError) as caught:
        map_header(("order_num", name, "at"), contract(), PLAIN)
    assert (caught.value.rule, caught.value.column) == ("missing_column", "tracking_num")
    assert repr(name) in caught.value.message
    assert "alias" in caught.value.hint


def test_aliases_stand_beside_the_name() -> None:
    vendor = Vendor("acme", aliases=(("tracking_num", ("Sendungs-Nr.", "parcel")), ("at", ("Zeit",))))
    for name in ("sendungs-nr.", "PARCEL", "Tracking Num"):
        assert map_header((name, "zeit", "order_num"), contract(), vendor).cells == (2, 0, 1)


@pytest.mark.parametrize("second", ["Tracking_Num", "parcel", "tracking_num"])
def test_two_columns_that_claim_one_are_a_quarantine(second: str) -> None:
    vendor = Vendor("acme", aliases=(("tracking_num", ("parcel",)),))
    with pytest.raises(QuarantineError, match="two columns of the file are tracking_num") as caught:
        map_header(("order_num", "tracking_num", "at", second), contract(), vendor)
    assert caught.value.rule == "header"
    assert repr(second) in caught.value.message


@pytest.mark.parametrize(("header", "may_be_absent"), [(("order_num", "at"), False), (("tracking_num", "at"), True)])
def test_a_hint_offers_absent_only_where_the_config_takes_it(header: tuple[str, ...], may_be_absent: bool) -> None:
    with pytest.raises(QuarantineError) as caught:
        map_header(header, contract(), PLAIN)
    assert ("absent" in caught.value.hint) == may_be_absent


def test_absent_columns_may_be_missing_but_count_when_they_come() -> None:
    vendor = Vendor("acme", absent=("order_num",))
    layout = map_header(("tracking_num", "at"), contract(), vendor)
    assert (layout.cells, layout.absent) == ((None, 0, 1), ("order_num",))
    layout = map_header(("tracking_num", "order_num", "at"), contract(), vendor)
    assert (layout.cells, layout.absent) == ((1, 0, 2), ())


def test_unknown_columns_are_kept_under_names_of_their_own() -> None:
    header = ("z", "tracking_num", "", "order_num", "z", "at", "Z", "")
    layout = map_header(header, contract(), PLAIN)
    assert layout.unknown == (("Z", 6), ("column 3", 2), ("column 8", 7), ("z", 0), ("z (2)", 4))
    assert layout.header == header


def test_strict_refuses_unknown_columns_but_not_empty_names() -> None:
    map_header(("tracking_num", "order_num", "at", ""), contract("strict"), PLAIN)
    with pytest.raises(QuarantineError, match="'note', 'x'") as caught:
        map_header(("tracking_num", "note", "order_num", "at", "x"), contract("strict"), PLAIN)
    assert caught.value.rule == "unknown_column"


def test_far_too_many_columns_are_a_quarantine() -> None:
    extra = tuple(f"x{n}" for n in range(MAX_UNKNOWN_COLUMNS + 1))
    known = ("tracking_num", "order_num", "at")
    assert len(map_header(known + extra[1:], contract(), PLAIN).unknown) == MAX_UNKNOWN_COLUMNS
    with pytest.raises(QuarantineError, match="1001 columns") as caught:
        map_header(known + extra, contract(), PLAIN)
    assert caught.value.rule == "unknown_column"


def test_a_long_header_is_shown_in_part() -> None:
    with pytest.raises(QuarantineError) as caught:
        map_header(tuple(f"x{n}" for n in range(5000)), contract(), PLAIN)
    assert len(caught.value.message) < 600
    assert "and 4980 more" in caught.value.message


def test_the_first_missing_column_is_named_and_twenty_names_are_shown_whole() -> None:
    with pytest.raises(QuarantineError) as caught:
        map_header(tuple(f"x{n}" for n in range(20)), contract(), PLAIN)
    assert caught.value.column == "order_num"
    assert caught.value.message.endswith("'x18', 'x19'")


KNOWN = ("tracking_num", "order_num", "at")


def test_a_name_that_every_row_would_carry_along_may_not_be_long() -> None:
    """A name of 100,000 characters and 20,000 short rows made a table of 2 GB of a file of 1.3 MB."""
    assert map_header((*KNOWN, "n" * MAX_NAME_CHARS), contract(), PLAIN).unknown
    with pytest.raises(QuarantineError, match="the name of column 4 has 100,000 characters, more than 500") as caught:
        map_header((*KNOWN, "n" * 100_000), contract(), PLAIN)
    assert caught.value.rule == "header"
    assert len(str(caught.value)) < 400


def test_all_the_names_together_may_not_be_long() -> None:
    count = MAX_NAMES_CHARS // MAX_NAME_CHARS
    names = tuple(f"{n:0{MAX_NAME_CHARS}}" for n in range(count + 1))
    assert map_header((*KNOWN, *names[1:]), contract(), PLAIN).unknown
    with pytest.raises(QuarantineError, match="50,500 characters together, more than 50,000") as caught:
        map_header((*KNOWN, *names), contract(), PLAIN)
    assert caught.value.rule == "header"


@pytest.mark.parametrize("name", ["at", "n"])
def test_no_message_holds_the_whole_of_a_long_name(name: str) -> None:
    long = name + " " * 1_000_000
    with pytest.raises(QuarantineError) as caught:
        map_header(("at", "tracking_num", long, "x" * 1_000_000), contract(), PLAIN)
    assert len(str(caught.value)) < 600
    assert "characters in all" in caught.value.message


class Counting(dict[str, int]):
    """Counts how often somebody asks whether a name is there."""

    asked = 0

    def __contains__(self, name: object) -> bool:
        self.asked += 1
        return super().__contains__(name)


def test_a_name_that_comes_again_and_again_costs_no_search() -> None:
    """The n-th of n equal names was looked for among n numbers: 40,000 of them, 80 kB, took 100 s."""
    taken, counts = Counting(), dict[str, int]()
    for number, name in enumerate(["a"] * 500 + ["a (7)", "b", "a (2)"] * 500):
        taken[headers._free_name(name, taken, counts)] = number
    assert len(taken) == 2000
    assert list(taken)[:3] == ["a", "a (2)", "a (3)"]
    assert taken.asked <= 3 * len(taken)


def test_what_to_do_about_a_missing_column_is_what_the_config_takes() -> None:
    must = (Column("k", "string", required=True), Column("e", "timestamp", required=True))
    found = Contract((*must, Column("must", "int", required=True), Column("may", "int")), ("k",), "e", None, ())
    hints = {}
    for name in found.names:
        with pytest.raises(QuarantineError) as caught:
            map_header(tuple(one for one in found.names if one != name), found, PLAIN)
        hints[name] = str(caught.value.hint)
    assert "absent" not in hints["k"]
    assert "absent" not in hints["e"]
    assert "make the column optional and list it as absent" in hints["must"]
    assert "or list the column as absent" in hints["may"]


def test_a_header_names_parts_and_not_what_the_config_tells() -> None:
    made = Contract(
        (Column("carrier", "string"), Column("k", "string"), Column("at", "timestamp")),
        ("carrier", "k"),
        "at",
        None,
        (),
    )
    vendor = Vendor("acme", combine=(("at", ("Scan Date", "Scan Time")),), constants=(("carrier", "UPS"),))
    rule = header_rule(made, vendor)
    assert rule.fits(["K", "scan_date", "SCAN TIME"])
    assert not rule.fits(["K", "Scan Date"])
    assert not rule.fits(["K", "at"])
    assert rule.may_fit("x,y\nk,Scan Date,Scan Time\n")
    assert not rule.may_fit("x,y\nk,at\n")
