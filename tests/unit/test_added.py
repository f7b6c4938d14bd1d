"""Which headers become columns of the tables, under which names, and what stays in `_rescued`."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ordertrail.model import Column, Contract, Vendor
from ordertrail.rules.added import Newcomers, lacking_too, newcomers, with_added
from ordertrail.rules.contract_hash import contract_hash, contract_hashes
from ordertrail.rules.headers import cleaned, map_header, meaning
from ordertrail.rules.schema import DeclaredColumn, DeclaredTable, terms_in, terms_of
from ordertrail.rules.tables import history_columns, target_columns

COLUMNS = (
    Column("tracking_num", "string", required=True),
    Column("at", "timestamp", required=True),
    Column("state", "string", was=("phase",)),
)
CONTRACT = Contract(COLUMNS, ("tracking_num",), "at", None, (), "add")
ACME = Vendor("acme", aliases=(("tracking_num", ("waybill",)),))
BLUE = Vendor("blue")
KNOWN = ("tracking_num", "at", "state")


def bring(*headers: tuple[str, ...], contract: Contract = CONTRACT, taken: tuple[str, ...] = ()) -> Newcomers:
    """What files of blue bring whose headers have these names beside the contract's, to tables with more columns."""
    there = tuple(DeclaredColumn(name, "string", nullable=True) for name in (*KNOWN, "_batch", *taken))
    tables = [DeclaredTable("orders_target", there, target_columns(contract))]
    layouts = [(BLUE, map_header((*KNOWN, *names), contract, BLUE)) for names in headers]
    return newcomers(layouts, contract, (ACME, BLUE), tables)


def refused(found: Newcomers) -> dict[str, str]:
    return {header: one.why for one in found.refused for header in one.headers}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Weight", "weight"),
        ("Weight (kg)", "weight_kg"),
        ("  net--Weight / KG. ", "net_weight_kg"),
        ("Größe", "grosse"),
        ("Élan n°2", "elan_n_2"),
        ("2nd try", "c_2nd_try"),
        ("ＡＢＣ", "abc"),
        ("İstanbul", "istanbul"),
        ("price™", "pricetm"),
        ("状態", ""),
        ("--", ""),
    ],
)
def test_a_header_is_cleaned_to_lower_snake_case(header: str, name: str) -> None:
    assert cleaned(header) == name
    assert not name or (name.isidentifier() and name.isascii())


def test_new_columns_are_text_in_the_order_in_which_they_come() -> None:
    found = bring(("Weight (kg)", "colour"), ("COLOUR", "weight-KG", "Zone"))
    assert found.columns == (
        Column("weight_kg", "string", added="Weight (kg)"),
        Column("colour", "string", added="colour"),
        Column("zone", "string", added="Zone"),
    )
    assert not found.refused


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("_batch", "begins with _"),
        ("_Row Hash", "begins with _"),
        ("状態", "no ASCII letter"),
        ("file_index", "readers of Parquet files use"),
        ("file-row-number", "readers of Parquet files use"),
        ("State!", "a column of the contract, or an alias"),
        ("phase.", "a column of the contract, or an alias"),
        ("Way-bill", "a column of the contract, or an alias"),
        ("Their Column", "that is not the contract's"),
        ("x" * 121, "more than 120 characters"),
    ],
)
def test_what_cannot_be_a_column_stays_in_rescued(header: str, why: str) -> None:
    found = bring((header, "good"), taken=("THEIR_column",))
    assert found.names == ("good",)
    assert why in refused(found)[header]
    assert repr(header[:60])[:-1] in found.notes[0]
    assert found.notes[0].startswith("blue: not added to the tables, and kept in _rescued: ")


def test_an_alias_of_anybody_is_no_new_column() -> None:
    """What acme calls its key would be read as the key in acme's files and as something else in blue's."""
    assert "an alias" in refused(bring(("waybill",)))["waybill"]


def test_of_two_headers_for_one_name_neither_is_taken() -> None:
    """A vendor who changed their places would change the values (P5)."""
    found = bring(("Weight!", "weight?", "ok"))
    assert found.names == ("ok",)
    assert set(refused(found).values()) == {"another column of the file has the same name"}
    assert bring(("Weight", "weight", "WEIGHT")).names == ()
    exact = bring(("weight?", "Weight", "weight!"))
    assert exact.names == ("weight",), "the very name comes before what only cleans to it"
    assert set(refused(exact)) == {"weight?", "weight!"}
    # What is decided for new columns holds for them afterwards.
    wider = replace(CONTRACT, columns=(*COLUMNS, *exact.columns))
    places = {name: place for place, name in enumerate((*KNOWN, "weight?", "Weight", "weight!"))}
    assert map_header(tuple(places), wider, BLUE).cells == (0, 1, 2, places["Weight"])
    assert map_header((*KNOWN, "Weight!", "weight?"), wider, BLUE).absent == ("weight",)
    assert map_header((*KNOWN, "Weight", "weight"), wider, BLUE).absent == ("weight",)
    assert map_header((*KNOWN, "Weight!"), wider, BLUE).cells[3] == 3


def test_a_limit_counts_all_that_were_ever_added() -> None:
    two = replace(CONTRACT, max_added_columns=2)
    found = bring(("a", "b", "c", "d", "e", "f", "g", "h"), contract=two)
    assert found.names == ("a", "b")
    (note,) = found.notes
    assert note.startswith("blue: not added to the tables, and kept in _rescued: 'c', 'd', 'e', 'f', 'g' and 1 more: ")
    assert note.endswith("max_added_columns = 2 is reached")
    full = replace(two, columns=(*COLUMNS, *found.columns))
    assert bring(("c", "B"), contract=full).names == ()
    assert set(refused(bring(("c", "B"), contract=full))) == {"c"}


def test_a_contract_has_only_so_many_columns_in_all() -> None:
    many = tuple(Column(f"k{i}", "string") for i in range(1196))
    full = replace(CONTRACT, columns=(*COLUMNS, *many))
    layout = map_header((*full.names, "a", "b"), full, BLUE)
    found = newcomers([(BLUE, layout)], full, (BLUE,), ())
    assert found.names == ("a",)
    assert refused(found) == {"b": "tables have at most 1200 columns of the contract"}


def test_three_hundred_columns_fill_the_limit_and_the_rest_is_told_in_a_line() -> None:
    found = bring(tuple(f"c{i}" for i in range(300)))
    assert len(found.columns) == 100
    assert len(found.notes) == 1
    assert found.notes[0].endswith("and 195 more: max_added_columns = 100 is reached")


def test_an_added_column_is_never_missing_and_goes_by_its_other_spellings() -> None:
    wider = replace(CONTRACT, columns=(*COLUMNS, Column("weight_kg", "string", added="Weight (kg)")))
    assert map_header(KNOWN, wider, BLUE).absent == ("weight_kg",)
    for header in ("Weight (kg)", "WEIGHT KG", "weightkg", "weight/kg"):
        assert map_header((*KNOWN, header), wider, BLUE).cells[3] == 3, header
        assert meaning(wider, BLUE)(header) == "weight_kg"
    assert meaning(wider, BLUE)("State!") is None, "only added columns go by what a header cleans to"
    # What the config says goes before.
    named = replace(BLUE, aliases=(("state", ("weight/kg",)),))
    assert map_header(("tracking_num", "at", "weight/kg"), wider, named).cells == (0, 1, 2, None)


def test_the_tables_tell_which_columns_were_added() -> None:
    wider = replace(CONTRACT, columns=(*COLUMNS, Column("weight", "string", added="Weight!")))
    text = terms_of(wider).text
    assert '"weight":{"added":"Weight!","required":false,"type":"string"}' in text
    assert "added" not in terms_of(CONTRACT).text, "tables without added columns say what they always said"
    assert terms_in(text) == terms_of(wider)
    assert with_added(CONTRACT, text) == wider
    assert with_added(wider, text) is wider
    assert with_added(wider, None) == CONTRACT


@pytest.mark.parametrize(
    "declared",
    [Column("weight", "decimal(8,2)"), Column("Weight", "string"), Column("mass", "string", was=("weight",))],
)
def test_what_the_config_declares_takes_the_column_over(declared: Column) -> None:
    wider = replace(CONTRACT, columns=(*COLUMNS, Column("weight", "string", added="Weight!")))
    config = replace(CONTRACT, columns=(*COLUMNS, declared))
    assert with_added(config, terms_of(wider).text) == config


def test_a_column_added_by_itself_changes_no_hash() -> None:
    """Else a file that comes again would count again for no other reason."""
    wider = replace(CONTRACT, columns=(*COLUMNS, Column("weight", "string", added="Weight!")))
    assert contract_hash(wider, BLUE) == contract_hash(CONTRACT, BLUE)
    old = replace(CONTRACT, unknown_columns="rescue", columns=tuple(replace(c, was=()) for c in COLUMNS))
    wide = replace(old, columns=(*old.columns, Column("weight", "string", added="Weight!")))
    assert len(contract_hashes(wide, BLUE)) == 2
    assert contract_hashes(wide, BLUE) == contract_hashes(old, BLUE)
    taken = replace(CONTRACT, columns=(*COLUMNS, Column("weight", "string")))
    assert contract_hash(taken, BLUE) != contract_hash(CONTRACT, BLUE)


def test_a_name_that_the_history_keeps_is_taken() -> None:
    there = tuple(DeclaredColumn(name, "string", nullable=True) for name in (*KNOWN, "dropped"))
    tables = [DeclaredTable("orders_history", there, history_columns(CONTRACT))]
    other = DeclaredTable("orders_deliveries", (DeclaredColumn("free", "string", nullable=True),), ())
    layout = map_header((*KNOWN, "Dropped", "free"), CONTRACT, BLUE)
    assert newcomers([(BLUE, layout)], CONTRACT, (BLUE,), [*tables, other]).names == ("free",)


def test_deliveries_learn_what_they_lack() -> None:
    assert lacking_too(None, ("a",)) == '["a"]'
    assert lacking_too('["b"]', ("a", "b")) == '["b", "a"]'
