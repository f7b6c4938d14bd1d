"""The tables as of an earlier batch are those that a reader saw then."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ordertrail.errors import OrdertrailError, QueryError, UsageError
from ordertrail.keep.rebuild import rebuild
from ordertrail.look.status import Reader
from ordertrail.rules.tables import target_columns
from tests.depth import share
from tests.harness import House, bag, copied, open_house, without_fsync

HEADER = "tracking_num,status,address,at\n"
CONTRACT = """
[contract]
key = "tracking_num"
order_by = "at"
[[contract.columns]]
name = "tracking_num"
type = "string"
[[contract.columns]]
name = "status"
type = "string"
[[contract.columns]]
name = "address"
type = "string"
[[contract.columns]]
name = "at"
type = "timestamp"
[[vendors]]
name = "full"
files = "full/*.csv"
[[vendors]]
name = "sparse"
files = "sparse/*.csv"
absent = ["address"]
"""


def then(reader: Reader, table: str, as_of: int | datetime) -> list[dict[str, object]]:
    return reader.query(f"SELECT * FROM orders_{table}", as_of=as_of).dicts()  # type: ignore[return-value]


def check_all_batches(house: House, versions: dict[int, int]) -> None:
    """Compare each batch with the target's own version of then, whole and key by key."""
    names = [column.name for column in target_columns(house.config.contract)]
    deliveries = house.rows("deliveries")
    with Reader(house.config) as reader:
        for batch, version in versions.items():
            wanted = [{name: row[name] for name in names} for row in house.rows("target", version)]
            assert bag(then(reader, "target", batch)) == bag(wanted), f"batch {batch}"
            clock = max(row["staged_at"] for row in deliveries if row["batch"] == batch)
            assert bag(then(reader, "target", clock)) == bag(wanted)
            assert {row["batch"] for row in then(reader, "deliveries", batch)} == set(range(1, batch + 1))
            for key in sorted({str(row["tracking_num"]) for row in wanted}):
                found = reader.track(key, as_of=batch)
                assert [found.current] == [row for row in wanted if row["tracking_num"] == key]
                assert len(found.history) == sum(
                    row["tracking_num"] == key and row["_loaded_at"] <= clock for row in house.rows("history")
                )


ROWS = st.tuples(
    st.sampled_from("AB"), st.sampled_from(["IN_TRANSIT", "DELIVERED"]), st.sampled_from(["x", "y", ""]),
    st.integers(1, 4),
)  # fmt: skip
FILES = st.tuples(st.booleans(), st.integers(1, 9), st.lists(ROWS, min_size=1, max_size=3))


@pytest.mark.property
@pytest.mark.slow
@settings(max_examples=share(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(FILES, min_size=2, max_size=3))
def test_every_batch_of_random_feeds(tmp_path_factory: pytest.TempPathFactory, files: list[tuple]) -> None:
    house = open_house(tmp_path_factory.mktemp("then"), CONTRACT)
    versions = {}
    with without_fsync():
        for number, (sparse, day, rows) in enumerate(files, 1):
            lines = [
                f"{key},{status}{'' if sparse else ',' + address},2026-11-20 0{hour}:00:00\n"
                for key, status, address, hour in rows
            ]
            header = HEADER.replace("address,", "") if sparse else HEADER
            house.drop(f"{'sparse' if sparse else 'full'}/{number}_2026_11_2{day}.csv", header + "".join(lines))
            report = house.run()
            assert report.batch == number
            versions[number] = house.version()
        check_all_batches(house, versions)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Three batches of one key, the second of which has a reject of it. Only to copy."""
    house = open_house(tmp_path_factory.mktemp("house"), "max_reject_share = 1.0\n" + CONTRACT)
    for number, rows in enumerate(
        ("A,X,one,2026-11-20\n", "A,Y,two,2026-11-21\nA,Y,no,never\n", "B,Y,x,2026-11-21\n"), 1
    ):
        house.drop(f"full/{number}_2026_11_2{number}.csv", HEADER + rows)
        house.run()
    return house


@pytest.fixture
def house(made: House, tmp_path: Path) -> House:
    """That, to go on with."""
    return copied(made, tmp_path / "house")


def test_what_came_later_is_not_seen(house: House) -> None:
    with Reader(house.config) as reader:
        first, second = reader.track("A", as_of=1), reader.track("A", as_of=2)
        assert reader.track("B", as_of=2).current is None
        assert reader.track("B", as_of=3).current is not None
        assert len(reader.query("SELECT * FROM orders_rejects", as_of=1)) == 0
    assert first.as_of is not None
    assert (first.as_of.batch, first.current and first.current["address"]) == (1, "one")
    assert (len(first.history), len(first.rejected)) == (1, 0)
    assert (len(second.history), len(second.rejected)) == (2, 1)


def test_a_column_that_a_vendor_never_sends_comes_from_before(house: House) -> None:
    house.drop("sparse/4_2026_11_24.csv", "tracking_num,status,at\nA,Z,2026-11-24\n")
    house.run()
    with Reader(house.config) as reader:
        after = reader.query("SELECT status, address FROM orders_target WHERE tracking_num = 'A'", as_of=4)
        before = reader.track("A", as_of=3).current
    assert after.rows == (("Z", "two"),)
    assert before is not None
    assert (before["status"], before["address"]) == ("Y", "two")


def test_it_needs_no_old_versions(house: House) -> None:
    before = house.rows("target", 1)
    rebuild(house.config)
    shutil.rmtree(house.table_path("target"))
    rebuild(house.config)
    with Reader(house.config) as reader:
        assert bag(then(reader, "target", 1)) == bag(before)


def test_moments_that_there_are_not(house: House) -> None:
    clock = min(row["staged_at"] for row in house.rows("deliveries"))
    with Reader(house.config) as reader:
        for wanted, what in (
            (0, "before the first batch"),
            (4, "no batch 4"),
            (clock - timedelta(seconds=1), "before"),
        ):
            with pytest.raises(UsageError, match=what):
                reader.track("A", as_of=wanted)
            with pytest.raises(UsageError, match=what):
                reader.query("SELECT 1", as_of=wanted)
        with pytest.raises(UsageError, match="time zone"):
            reader.track("A", as_of=clock.replace(tzinfo=None))
        assert len(then(reader, "target", clock + timedelta(days=99))) == 2
        with pytest.raises(QueryError, match="only the batch that was staged last"):
            then(reader, "stage", 1)
        with pytest.raises(QueryError):
            reader.query("DROP VIEW orders_target", as_of=1)


# -- AT (BATCH => n) ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT address FROM orders_target AT (BATCH => 1)", [("one",)]),
        ('SELECT address FROM "Orders_Target" at(batch=>1) AS t', [("one",)]),
        ("SELECT t.address FROM default.orders_target AT (BATCH => 1) t WHERE t.tracking_num = 'A'", [("one",)]),
        (
            "SELECT orders_target.address FROM incremental_load.default.orders_target AT (BATCH => 1) WHERE true",
            [("one",)],
        ),
        (
            "SELECT a.address, b.address FROM orders_target AT (BATCH => 1) a, orders_target AT (BATCH => 2) b",
            [("one", "two")],
        ),
        ("SELECT count(*) FROM orders_target EXCEPT SELECT count(*) FROM orders_target AT (BATCH => 2)", [(2,)]),
        ("SELECT count(*) FROM orders_history AT (BATCH => 2), (FROM orders_rejects AT (BATCH => 2))", [(2,)]),
        ("SELECT count(*) FROM orders_deliveries AT (BATCH => 3) -- AT (BATCH => 9)", [(3,)]),
        ("SELECT 'orders_target AT (BATCH => 9)' AS é", [("orders_target AT (BATCH => 9)",)]),
    ],
)
def test_a_table_at_a_batch_in_a_statement(house: House, sql: str, rows: list[tuple[object, ...]]) -> None:
    with Reader(house.config) as reader:
        assert list(reader.query(sql).rows) == rows


def test_a_statement_as_of_a_batch_may_name_others(house: House) -> None:
    with Reader(house.config) as reader:
        found = reader.query(
            "SELECT (SELECT max(address) FROM orders_target), (SELECT address FROM orders_target AT (BATCH => 1)), "
            "(SELECT count(*) FROM orders_target AT (BATCH => 3))",
            as_of=2,
        )
    assert found.rows == (("two", "one", 2),)


@pytest.mark.parametrize(
    ("sql", "error", "what"),
    [
        ("FROM orders_target AT (BATCH => 0)", UsageError, "before the first batch"),
        ("FROM orders_target AT (BATCH => 9)", UsageError, "no batch 9"),
        ("FROM orders_stage AT (BATCH => 1)", QueryError, "only the batch that was staged last"),
        ("FROM orders_target AT (BATCH => x)", QueryError, "BATCH"),
        ("FROM orders_target AT (BATCH => 1", QueryError, "BATCH"),
        ("FROM other AT (BATCH => 1)", QueryError, "BATCH"),
        ("FROM orders_target AT (BATCH => -1)", QueryError, "BATCH"),
        ("FROM orders_target AT (BATCH => 1e2)", QueryError, "BATCH"),
        ("DROP VIEW orders_target AT (BATCH => 1)", QueryError, "syntax"),
        ("DELETE FROM orders_target AT (BATCH => 1)", QueryError, "DELETE"),
        ("FROM orders_target AT (BATCH => 1) \udc80", QueryError, "UTF-8"),
    ],
)
def test_what_is_no_batch_is_an_error(house: House, sql: str, error: type[Exception], what: str) -> None:
    with Reader(house.config) as reader:
        with pytest.raises(error, match=what):
            reader.query(sql)
        assert len(reader.query("FROM orders_target")) == 2


@pytest.mark.parametrize("lost", ["history", "deliveries"])
def test_a_damaged_table_is_named_with_its_cure(house: House, lost: str) -> None:
    next(house.table_path(lost).glob("*.parquet")).unlink()
    with Reader(house.config) as reader:
        for call in (
            lambda: reader.track("A", as_of=1),
            lambda: reader.query("FROM orders_target", as_of=1),
            lambda: reader.query("FROM orders_target AT (BATCH => 1)"),
        ):
            with pytest.raises(OrdertrailError, match=f"orders_{lost}") as caught:
                call()
            assert "backup" in caught.value.hint
