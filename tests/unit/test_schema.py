"""Which differences there are between tables and a contract, and what is said about each."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from ordertrail.delta.actions import delta_type, schema_string
from ordertrail.errors import ConfigError, TableError
from ordertrail.model import Column, Contract
from ordertrail.rules.agreement import agree, refuse_taken
from ordertrail.rules.others import carried_type, type_text
from ordertrail.rules.schema import (
    MIGRATE,
    DeclaredColumn,
    DeclaredTable,
    accepted_terms,
    declared_columns,
    differences,
    terms_of,
)
from ordertrail.rules.tables import TableColumn, history_columns, stage_columns, target_columns
from tests.oracle import default_contract

OLD = replace(
    default_contract(),
    columns=(*default_contract().columns, Column("weight", "bigint"), Column("carrier", "string", required=True)),
)


def made(contract: Contract = OLD) -> list[DeclaredTable]:
    """Stage, target and history as a contract makes them."""
    found = []
    for name, columns_of in (("stage", stage_columns), ("target", target_columns), ("history", history_columns)):
        columns = columns_of(contract)
        schema = schema_string([(c.name, delta_type(c.type), not c.required) for c in columns])
        found.append(DeclaredTable(name, declared_columns(schema), columns))
    return found


def wanting(tables: list[DeclaredTable], contract: Contract) -> list[DeclaredTable]:
    """The same tables under another contract."""
    wanted = (stage_columns, target_columns, history_columns)
    return [replace(table, wanted=columns(contract)) for table, columns in zip(tables, wanted, strict=True)]


def with_column(table: DeclaredTable, name: str, kind: str, *, nullable: bool = True) -> DeclaredTable:
    """A table to which somebody gave a column, or another type to one of ours."""
    kept = tuple(column for column in table.columns if column.name != name)
    return replace(table, columns=(*kept, DeclaredColumn(name, kind, nullable)))


def turned(*columns: Column, **changes: object) -> Contract:
    """The old contract with some columns in the place of those of the same names, and others beside them."""
    new = {column.name: column for column in (*OLD.columns, *columns)}
    return replace(OLD, columns=tuple(new.values()), **changes)  # type: ignore[arg-type]


def without(name: str) -> Contract:
    return replace(OLD, columns=tuple(column for column in OLD.columns if column.name != name))


@pytest.mark.parametrize("text", [terms_of(OLD).text, None])
def test_tables_that_hold_the_contract_have_no_difference(text: str | None) -> None:
    assert differences(made(), accepted_terms(text, made(), OLD), OLD) == []


@pytest.mark.parametrize(
    "contract",
    [
        turned(Column("weight", "bigint", min="0", max="5")),
        turned(Column("order_num", "string", pattern="O.*", identifier=True)),
        turned(Column("carrier", "string")),  # not required any more
        replace(OLD, status_rank=("X",), unknown_columns="strict", max_future_s=1),
        replace(OLD, columns=tuple(reversed(OLD.columns))),
    ],
)
def test_how_rows_are_read_is_no_difference(contract: Contract) -> None:
    tables = wanting(made(), contract)
    assert differences(tables, accepted_terms(terms_of(OLD).text, tables, contract), contract) == []


def test_an_added_column_is_settled_by_itself_in_every_table_of_rows() -> None:
    contract = turned(Column("depot", "decimal(9,3)"))
    tables = wanting(made(), contract)
    found = differences(tables, terms_of(OLD), contract)
    assert [(one.kind, one.table, one.column, one.after, one.by_itself) for one in found] == [
        ("added", name, "depot", "decimal(9,3)", True) for name in ("stage", "target", "history")
    ]
    agreement = agree(tables, terms_of(OLD).text, contract, lambda _: True)
    assert agreement.added == tuple(found)
    assert agreement.text == terms_of(contract).text


REFUSED = {
    "type": (turned(Column("weight", "string")), "weight is string", "it is bigint", 'type = "bigint" back for weight'),
    "decimal": (turned(Column("weight", "decimal(9,3)")), "is decimal(9,3)", "in the tables it is bigint", "bigint"),
    "removed": (without("weight"), "no longer has the column weight", "bigint", 'name = "weight" and type = "bigint"'),
    "key": (turned(key=("order_num",)), 'key is ["order_num"]', '["tracking_num"]', 'key = ["tracking_num"] back'),
    "order_by": (
        turned(Column("sent_at", "timestamp", required=True), order_by="sent_at"),
        "orders by sent_at",
        "by last_update_timestamp",
        "put [contract] back",  # sent_at is new, too
    ),
    "required": (
        turned(Column("weight", "bigint", required=True)), "weight is required", "NULL", "remove required from weight"
    ),
    "added_required": (
        turned(Column("depot", "string", required=True)),
        "depot (string) that is required",
        "lack",
        "required from depot",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_any_other_change_of_the_contract_is_refused_with_what_to_do(case: str) -> None:
    contract, says, also, hint = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        agree(wanting(made(), contract), terms_of(OLD).text, contract, lambda _: True)
    assert says in caught.value.message
    assert also in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("case", ["type", "removed", "key", "order_by"])
def test_tables_of_a_release_without_the_property_tell_the_contract_that_they_hold(case: str) -> None:
    contract, says, *_ = REFUSED[case]
    with pytest.raises(ConfigError, match=says.replace("[", r"\[")):
        agree(wanting(made(), contract), None, contract, lambda _: True)


def test_a_column_may_become_required_where_no_row_is_null() -> None:
    contract = REFUSED["required"][0]
    agreement = agree(wanting(made(), contract), terms_of(OLD).text, contract, lambda _: False)
    assert (agreement.added, agreement.text) == ((), terms_of(contract).text)


def test_all_differences_are_told_at_once() -> None:
    contract = turned(Column("weight", "string"), Column("carrier", "bigint"))
    with pytest.raises(ConfigError) as caught:
        agree(wanting(made(), contract), terms_of(OLD).text, contract, lambda _: True)
    assert all(f"{said}, but in the tables" in str(caught.value) for said in ("weight is string", "carrier is bigint"))


def test_a_column_with_another_name_is_one_difference_with_one_cure() -> None:
    """Key, order and type go with the name."""
    renamed = {"tracking_num": "parcel", "last_update_timestamp": "seen", "weight": "mass"}
    columns = tuple(
        replace(one, name=renamed[one.name], was=(one.name,)) if one.name in renamed else one for one in OLD.columns
    )
    contract = replace(OLD, columns=columns, key=("parcel",), order_by="seen")
    found = differences(wanting(made(), contract), terms_of(OLD), contract)
    assert {(one.kind, one.before, one.column) for one in found} == {("renamed", *pair) for pair in renamed.items()}
    one = replace(
        OLD, columns=tuple(replace(c, name="mass", was=("weight",)) if c.name == "weight" else c for c in OLD.columns)
    )
    with pytest.raises(ConfigError) as caught:
        agree(wanting(made(), one), terms_of(OLD).text, one, lambda _: True)
    assert caught.value.message == "the contract calls the column weight mass now"
    assert caught.value.hint == f'{MIGRATE}; or put name = "weight" back in [contract]'


def test_many_differences_are_told_in_few_words() -> None:
    contract = turned(*(Column(one.name, "string") for one in OLD.columns if one.type != "string"), key=("order_num",))
    with pytest.raises(ConfigError) as caught:
        agree(wanting(made(), contract), terms_of(OLD).text, contract, lambda _: True)
    assert caught.value.message.endswith("and 2 more")
    assert caught.value.hint == f"{MIGRATE}; or put [contract] back as it was"


def test_what_a_migration_cannot_settle_comes_first() -> None:
    contract = turned(Column("weight", "string"), Column("depot", "string"))
    tables = wanting(made(), contract)
    tables[1] = with_column(tables[1], "depot", "string")
    with pytest.raises(ConfigError) as caught:
        agree(tables, terms_of(OLD).text, contract, lambda _: True)
    assert "weight" not in str(caught.value)
    assert caught.value.hint.startswith("give it another name")


@pytest.mark.parametrize("name", ["depot", "Depot"])
def test_a_name_that_the_history_keeps_is_called_that(name: str) -> None:
    contract = turned(Column("depot", "string"))
    tables = wanting(made(), contract)
    tables[2] = with_column(tables[2], name, "int")
    with pytest.raises(ConfigError, match=r"history still has one of that name \((Depot, )?int\), which was taken out"):
        agree(tables, terms_of(OLD).text, contract, lambda _: True)


def test_a_name_that_differs_in_case_is_the_same_name() -> None:
    contract = replace(
        OLD, columns=tuple(replace(one, name="Weight") if one.name == "weight" else one for one in OLD.columns)
    )
    for refuse in (
        lambda t: agree(t, terms_of(OLD).text, contract, lambda _: True),
        lambda t: refuse_taken(t, terms_of(OLD), contract),
    ):
        with pytest.raises(ConfigError, match="says Weight, but in the tables the column is weight") as caught:
            refuse(wanting(made(), contract))
        assert 'name = "weight" in [contract], and weight wherever the config says Weight' in caught.value.hint


def test_a_new_column_with_the_name_of_somebody_elses_is_refused() -> None:
    contract = turned(Column("depot", "string"))
    tables = wanting(made(), contract)
    tables[1] = with_column(tables[1], "depot", "string")
    with pytest.raises(ConfigError, match="somebody else added one of that name"):
        agree(tables, terms_of(OLD).text, contract, lambda _: True)


@pytest.mark.parametrize(("name", "kind"), [("weight", "string"), ("_batch", "int"), ("_row_hash", "string")])
def test_a_table_that_somebody_replaced_is_told_from_a_changed_contract(name: str, kind: str) -> None:
    tables = made()
    tables[1] = with_column(tables[1], name, kind)
    with pytest.raises(TableError, match=f"the table target has the column {name} as {kind}"):
        agree(tables, terms_of(OLD).text, OLD, lambda _: True)


@pytest.mark.parametrize(
    ("gone", "instead", "kind", "before"),
    [
        ("_batch", None, "replaced", "nothing"),
        ("tracking_num", None, "replaced", "nothing"),
        ("weight", None, "added", None),
        ("depot", None, "added", None),
        ("depot", "Depot", "replaced", "Depot"),
    ],
)
def test_a_column_that_is_gone_is_made_again_only_where_old_rows_may_be_null(
    gone: str, instead: str | None, kind: str, before: str | None
) -> None:
    """Names that differ only in case are one name in Delta: such a column cannot be added beside the other."""
    contract = turned(Column("depot", "string"))
    tables = wanting(made(contract), contract)
    kept = tuple(column for column in tables[2].columns if column.name != gone)
    tables[2] = replace(tables[2], columns=(*kept, DeclaredColumn(instead, "string", True)) if instead else kept)
    found = differences(tables, terms_of(contract), contract)
    assert [(one.kind, one.before) for one in found if one.column == gone] == [(kind, before)]


def test_a_pass_that_was_killed_after_the_history_goes_on_with_the_others() -> None:
    contract = turned(Column("depot", "string"))
    tables = [*wanting(made(), contract)[:2], made(contract)[2]]
    agreement = agree(tables, terms_of(contract).text, contract, lambda _: True)
    assert ([one.table for one in agreement.added], agreement.text) == (["stage", "target"], None)


def test_the_text_of_a_contract_is_canonical() -> None:
    swapped = replace(OLD, key=("tracking_num", "order_num"))
    body = json.loads(terms_of(swapped).text)
    assert (body["version"], body["key"]) == (1, ["order_num", "tracking_num"])
    assert terms_of(replace(swapped, key=("order_num", "tracking_num"))).text == terms_of(swapped).text


def test_types_are_told_in_the_words_of_a_contract() -> None:
    nested = {"type": "array", "elementType": "integer", "containsNull": True}
    fields = [
        {"name": "a", "type": "long", "nullable": False, "metadata": {}},
        {"name": "b", "type": "decimal(9, 3)", "nullable": True, "metadata": {}},
        {"name": "c", "type": nested, "nullable": True, "metadata": {}},
    ]
    found = declared_columns(json.dumps({"type": "struct", "fields": fields}))
    assert found[:2] == (DeclaredColumn("a", "bigint", False), DeclaredColumn("b", "decimal(9,3)", True))
    assert json.loads(found[2].type) == nested


def test_a_table_of_ours_gets_a_column_that_a_release_brings() -> None:
    table = DeclaredTable(
        "rejects",
        (DeclaredColumn("batch", "bigint", False),),
        (TableColumn("batch", "bigint", "", required=True), TableColumn("line", "bigint", "")),
    )
    found = differences([table], terms_of(OLD), OLD)
    assert [(one.kind, one.column) for one in found] == [("added", "line")]


def test_a_column_that_is_never_null_must_be_filled() -> None:
    tables = made()
    tables[1] = with_column(
        with_column(tables[1], "depot", "string", nullable=False), "address", "string", nullable=False
    )
    found = differences(tables, terms_of(OLD), OLD)
    assert {(one.kind, one.column) for one in found} == {("must_fill", "address"), ("unfilled", "depot")}
    assert all(one.table == "target" and not one.by_itself for one in found)
    required = turned(Column("address", "string", required=True))
    assert [one.kind for one in differences(tables, terms_of(required), required)] == ["unfilled"]


@pytest.mark.parametrize(
    ("kind", "sql"),
    [
        ("short", "SMALLINT"),
        ("timestamp_ntz", "TIMESTAMP"),
        ("decimal(38,10)", "DECIMAL(38,10)"),
        ({"type": "array", "elementType": "long", "containsNull": True}, "BIGINT[]"),
        ({"type": "map", "keyType": "string", "valueType": "date", "valueContainsNull": True}, "MAP(VARCHAR, DATE)"),
        ({"type": "struct", "fields": [{"name": 'a "b"', "type": "byte"}]}, 'STRUCT("a ""b""" TINYINT)'),
        ("variant", None),
        ("interval year", None),
        ({"type": "struct", "fields": []}, None),
        ({"type": "array", "elementType": "void", "containsNull": True}, None),
    ],
)
def test_types_of_others_are_known_in_duckdb_or_refused(kind: object, sql: str | None) -> None:
    text = type_text(kind)
    assert carried_type(text) == sql
    tables = made()
    tables[1] = with_column(tables[1], "theirs", text)
    tables[2] = with_column(tables[2], "theirs", text)  # nobody has to carry it there
    found = [(one.kind, one.table) for one in differences(tables, terms_of(OLD), OLD)]
    assert found == ([] if sql else [("uncarried", "target")])


def test_a_property_of_a_newer_release_is_refused_and_a_damaged_one_is_passed_over() -> None:
    newer = terms_of(OLD).text.replace('"version":1', '"version":2')
    with pytest.raises(TableError, match="of a newer release"):
        accepted_terms(newer, made(), OLD)
    for damaged in ("", "[]", "{}", '{"version":"x"}', '{"version":1,"columns":{"a":1},"key":[],"order_by":"b"}'):
        assert accepted_terms(damaged, made(), OLD) == accepted_terms(None, made(), OLD)


def test_by_name_a_pass_that_was_killed_after_the_property_adds_all_columns() -> None:
    contract = turned(Column("depot", "string"))
    agreement = agree(wanting(made(), contract), terms_of(contract).text, contract, lambda _: True)
    assert ([one.table for one in agreement.added], agreement.text) == (["stage", "target", "history"], None)
