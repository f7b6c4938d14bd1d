"""The order rules as SQL, on relations made by hand; and the text itself, which every engine must read alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordertrail.model import Outcome
from ordertrail.rules import corrections, outcomes
from ordertrail.rules.outcomes import (
    BEST,
    BEST_ALONE,
    CODES,
    OUTCOMES,
    OUTCOMES_AGAIN,
    RANKED,
    RANKED_ALONE,
    TIES,
    fold_sql,
    several,
)
from ordertrail.rules.placing import (
    OLDEST_FIRST,
    ORDER,
    PLACED,
    STAGED,
    later,
    placed_sql,
)
from ordertrail.rules.shares import counts_sql

Order = tuple[int, int, int, int, int]
STAGED_ROWS = ("k", "dn", "ch", *ORDER)
CURRENT = ("k", "pos", "ch", "rv", "bn", "ins", *ORDER)
RECALLED = ("k", *ORDER)
NAMES = {number: str(outcome) for outcome, number in CODES.items()}
BATCH = 9


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    con = duckdb.connect()
    yield con
    con.close()


def fill(con: duckdb.DuckDBPyConnection, name: str, columns: Iterable[str], rows: Iterable[tuple[object, ...]]) -> None:
    types = ", ".join(f"{column} {'VARCHAR' if column == 'k' else 'BIGINT'}" for column in columns)
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({types})").fetchall()
    names = [*columns]
    if "fp" in names:  # the record number, as in these files the newest row is the last one
        at = names.index("fp")
        rows = [row if len(row) == len(names) else (*row[: at + 1], *row[at:]) for row in rows]
    if plain := [*rows]:
        values = ", ".join(f"({', '.join('?' * len(row))})" for row in plain)
        con.execute(f"INSERT INTO {name} VALUES {values}", [value for row in plain for value in row]).fetchall()


def prepare(
    con: duckdb.DuckDBPyConnection,
    staged: Iterable[tuple[object, ...]],
    current: Iterable[tuple[object, ...]] = (),
    recalled: Iterable[tuple[object, ...]] = (),
    loaded: Iterable[int] = (),
) -> None:
    fill(con, "staged", STAGED_ROWS, staged)
    fill(con, "current", CURRENT, current)
    fill(con, "recalled", RECALLED, recalled)
    fill(con, "loaded", ("fk",), [(fk,) for fk in loaded])
    con.execute("CREATE OR REPLACE TEMP VIEW staged_rows AS FROM staged").fetchall()
    con.execute("CREATE OR REPLACE TEMP VIEW target_before AS FROM current").fetchall()
    con.execute(f"CREATE OR REPLACE TEMP TABLE repeated AS {several('staged')}").fetchall()
    con.execute(f"CREATE OR REPLACE TEMP TABLE doubled AS {several('current')}").fetchall()
    con.execute(f"CREATE OR REPLACE TEMP TABLE codes AS {outcomes.codes_sql(BATCH)}").fetchall()
    con.execute(f"CREATE OR REPLACE TEMP TABLE ranked AS {RANKED}").fetchall()
    con.execute(f"CREATE OR REPLACE TEMP TABLE best AS {BEST}").fetchall()


def judged(con: duckdb.DuckDBPyConnection, sql: str = OUTCOMES) -> dict[tuple[int, int], str]:
    """Outcome by (delivery number, file row)."""
    rows = con.execute(f"SELECT dn, fr, outcome FROM ({sql})").fetchall()
    assert len({(dn, fr) for dn, fr, _ in rows}) == len(rows)
    return {(dn, fr): NAMES[outcome] for dn, fr, outcome in rows}


def row(key: str, content: int, order: Order, delivery: int = 0) -> tuple[object, ...]:
    return (key, delivery, content, *order)


def target(key: str, content: int, order: Order, pos: int = 0, batch: int = 3, revision: int = 1) -> tuple[object, ...]:
    return (key, pos, content, revision, batch, 100 + pos, *order)


OLD, MIDDLE, NEW = (10, 1, 0, 1, 1), (20, 1, 0, 1, 1), (30, 1, 0, 1, 1)


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (None, "inserted"),
        (target("A", 1, OLD), "updated"),
        (target("A", 1, NEW), "stale"),
        (target("A", 7, OLD), "unchanged"),
        (target("A", 7, NEW), "unchanged"),
        (target("B", 7, NEW), "inserted"),
        *((target("A", 1, (*MIDDLE[:i], MIDDLE[i] - 1, *MIDDLE[i + 1 :])), "updated") for i in range(5)),  # type: ignore[arg-type]
        *((target("A", 1, (*MIDDLE[:i], MIDDLE[i] + 1, *MIDDLE[i + 1 :])), "stale") for i in range(5)),  # type: ignore[arg-type]
    ],
)
def test_one_row_against_the_target(
    con: duckdb.DuckDBPyConnection, current: tuple[object, ...] | None, expected: str
) -> None:
    prepare(con, [row("A", 7, MIDDLE)], [current] if current else [])
    assert judged(con) == {(0, 1): expected}


def test_several_rows_of_a_key_in_one_batch(con: duckdb.DuckDBPyConnection) -> None:
    staged = [
        row("A", 1, (10, 1, 0, 1, 1)), row("A", 2, (20, 1, 0, 1, 2)), row("A", 2, (15, 1, 0, 1, 3)),
        row("A", 1, (10, 1, 0, 1, 4)),
        row("A", 2, (20, 1, 0, 2, 5), 1), row("B", 2, (5, 1, 0, 1, 6)),
    ]  # fmt: skip
    prepare(con, staged)
    assert judged(con) == {
        (0, 1): "duplicate", (0, 2): "duplicate", (0, 3): "duplicate", (0, 4): "superseded", (1, 5): "inserted",
        (0, 6): "inserted",
    }  # fmt: skip
    prepare(con, staged, [target("A", 2, OLD)])
    assert judged(con)[1, 5] == "unchanged"


def test_a_key_that_stands_twice_in_the_target_counts_once(con: duckdb.DuckDBPyConnection) -> None:
    prepare(con, [row("A", 7, MIDDLE)], [target("A", 7, OLD, pos=1), target("A", 1, NEW, pos=2)])
    assert judged(con) == {(0, 1): "stale"}
    found = con.execute("SELECT pos, place, copies, ins FROM best ORDER BY pos").fetchall()
    assert found == [(1, 2, 2, 101), (2, 1, 2, 101)]  # inserted when the first of them was


def test_x_y_x_again_asks_history_only_where_it_must(con: duckdb.DuckDBPyConnection) -> None:
    tie, higher = (20, 3, 0, 3, 1), (20, 2, 0, 2, 1)
    base = target("A", 1, (20, 1, 0, 1, 1))
    staged = [row("A", 2, higher)]

    def ties() -> list[tuple[object, ...]]:
        return con.execute(TIES).fetchall()

    prepare(con, staged, [base], loaded=[3])
    assert ties() == [("A",)]
    assert judged(con) == {(0, 1): "updated"}
    prepare(con, staged, [base], recalled=[("A", *tie)], loaded=[3])
    assert judged(con) == {(0, 1): "stale"}
    newest = (20, 4, 0, 4, 1)
    prepare(con, staged, [base], recalled=[("A", *tie), ("A", *newest)], loaded=[3])
    assert judged(con) == {(0, 1): "stale"}  # once, however often history says so
    for recalled in (("A", *OLD), ("A", *higher), ("A", 30, 3, 0, 3, 1), ("B", *tie)):
        prepare(con, staged, [base], recalled=[recalled], loaded=[3])
        assert judged(con) == {(0, 1): "updated"}, recalled
    prepare(con, [*staged, row("A", 3, (20, 2, 0, 2, 2))], [base], loaded=[3])
    assert ties() == [("A",)]
    prepare(con, staged, [base], loaded=[2])  # its own file key is enough
    assert ties() == [("A",)]
    prepare(con, staged, [base], loaded=[1])  # nothing with a file key as high was loaded
    assert ties() == []
    prepare(con, staged, [target("A", 2, (20, 1, 0, 1, 1))], loaded=[3])  # same content
    assert ties() == []
    prepare(con, staged, [target("A", 1, OLD)], loaded=[3])  # no tie
    assert ties() == []


def test_outcomes_again_are_the_same_after_the_commit(con: duckdb.DuckDBPyConnection) -> None:
    staged = [
        row("new", 1, (20, 1, 0, 1, 1)), row("upd", 2, (20, 1, 0, 1, 2)), row("same", 3, (20, 1, 0, 1, 3)),
        row("late", 4, (20, 1, 0, 1, 4)),
        row("new", 9, (10, 1, 0, 1, 5)), row("upd", 2, (20, 1, 0, 0, 6), 1), row("tie", 5, (20, 2, 0, 2, 7)),
    ]  # fmt: skip
    kept = [
        target("same", 3, OLD, 1, 4, 2),
        target("late", 8, NEW, 2, 5, 1),
        target("late", 7, MIDDLE, 4, 5, 9),
        target("tie", 6, (20, 1, 0, 1, 1), 3, 6, 3),
    ]
    prepare(con, staged, [target("upd", 1, OLD, 0, 3, 7), *kept], recalled=[("tie", 20, 3, 0, 3, 1)], loaded=[3])
    before = judged(con)
    assert before == {
        (0, 1): "inserted", (0, 2): "updated", (0, 3): "unchanged", (0, 4): "stale", (0, 5): "superseded",
        (1, 6): "duplicate", (0, 7): "stale",
    }  # fmt: skip
    written = [target("new", 1, (20, 1, 0, 1, 1), 10, BATCH, 1), target("upd", 2, (20, 1, 0, 1, 2), 11, BATCH, 8)]
    prepare(con, staged, [*written, *kept])
    assert judged(con, OUTCOMES_AGAIN) == before
    revisions = con.execute(f"SELECT k, rv FROM ({OUTCOMES_AGAIN}) WHERE fr IN (2, 3, 4, 7) ORDER BY k").fetchall()
    assert revisions == [("late", 1), ("same", 2), ("tie", 3), ("upd", 7)]  # as they were before the batch


def test_what_is_appended(con: duckdb.DuckDBPyConnection) -> None:
    """The first of equal rows, unless the target has one that counts; what another key or content has is no matter."""
    staged = [
        row("A", 1, (10, 1, 0, 1, 2), 1), row("A", 1, (10, 1, 0, 1, 1), 1), row("A", 1, (9, 9, 0, 1, 7), 0),
        row("A", 2, OLD, 2), row("B", 1, OLD, 3), row("C", 5, OLD, 4),
    ]  # fmt: skip
    prepare(con, staged)
    fill(con, "standing", ("k", "ch"), [("A", 2), ("A", 2), ("C", 1), ("B", 5)])
    con.execute(f"CREATE OR REPLACE TEMP TABLE firsts AS {outcomes.FIRSTS}").fetchall()
    before = judged(con, outcomes.APPENDED)
    assert before == {
        (0, 7): "inserted", (1, 1): "duplicate", (1, 2): "duplicate", (2, 1): "duplicate", (3, 1): "inserted",
        (4, 1): "inserted",
    }  # fmt: skip
    fill(con, "written", ("dn", "fr"), [at for at, outcome in before.items() if outcome == "inserted"])
    assert judged(con, outcomes.APPENDED_AGAIN) == before
    prepare(con, [row(key, 1, OLD, n) for n, key in enumerate("AB")])
    con.execute(f"CREATE OR REPLACE TEMP TABLE firsts AS {outcomes.FIRSTS}").fetchall()
    alone = con.execute(f"SELECT * FROM ({outcomes.FIRSTS_ALONE}) ORDER BY ALL").fetchall()
    assert con.execute("SELECT * FROM firsts ORDER BY ALL").fetchall() == alone


def test_what_a_correction_appends(con: duckdb.DuckDBPyConnection) -> None:
    """The first of the equal rows that count, where the target has none that counts; and what that is for each key."""
    prepare(con, [])
    fill(con, "eligible", ("k", "ch", "hpos", "dn", "fr", "repeat"),
         [("A", 1, 7, -1, 4, 1), ("A", 1, None, 0, 1, 2), ("A", 2, None, 0, 2, 1), ("B", 1, 9, -2, 1, 1)])  # fmt: skip
    fill(con, "standing", ("k", "ch"), [("B", 1), ("A", 3)])
    fill(con, "touched", ("k",), [("A",), ("B",), ("C",)])
    fill(con, "new_rows", ("k", "dn", "fr"), [("A", 0, 1), ("A", 0, 2)])
    con.execute(f"CREATE OR REPLACE TEMP TABLE added AS {corrections.ADDED}").fetchall()
    assert judged(con, "FROM added") == {(-1, 4): "inserted", (0, 2): "inserted"}
    assert judged(con, corrections.NEW_ROWS_APPENDED) == {(0, 1): "duplicate", (0, 2): "inserted"}
    keys = con.execute(f"SELECT k, outcome FROM ({corrections.KEYS_ADDED}) ORDER BY k").fetchall()
    assert [(key, NAMES[outcome]) for key, outcome in keys] == [
        ("A", "inserted"), ("B", "unchanged"), ("C", "unchanged"),
    ]  # fmt: skip


FOLDED = ("k", "dn", "fr", "rv", "pos", "ins", "outcome")


def test_where_deliveries_lack_columns_the_fold_says_whether_the_target_changes(con: duckdb.DuckDBPyConnection) -> None:
    weighed = [
        ("new", 1, "inserted", "inserted"),
        ("new", 2, "superseded", "superseded"),
        ("other", 3, "updated", "updated"),
        ("other", 4, "superseded", "superseded"),
        ("other", 5, "duplicate", "duplicate"),
        ("late", 6, "stale", "updated"),  # it fills a column that newer files lack
        ("like", 7, "unchanged", "updated"),
        ("same", 8, "updated", "stale"),  # what it says was overtaken, column by column
        ("old", 9, "stale", "stale"),
        ("equal", 10, "unchanged", "unchanged"),
    ]
    there = ["other", "late", "like", "same", "old", "equal"]
    prepare(con, [], [target(key, 1, OLD, pos) for pos, key in enumerate(there)] + [target("same", 2, MIDDLE, 9)])
    numbers = {name: number for number, name in NAMES.items()}
    rows = [(key, 0, fr, 5, fr, 100 + fr, numbers[outcome]) for key, fr, outcome, _ in weighed]
    fill(con, "weighed", FOLDED, rows)
    content = {"new": 7, "other": 3, "late": 3, "like": 3, "same": 2, "old": 1, "equal": 1}
    fill(con, "folded_content", ("k", "ch"), content.items())
    assert judged(con, outcomes.OUTCOMES_FOLDED) == {(0, fr): outcome for _, fr, _, outcome in weighed}
    names = ", ".join(FOLDED[:-1])
    found = con.execute(f"SELECT {names} FROM ({outcomes.OUTCOMES_FOLDED}) ORDER BY fr").fetchall()
    assert found == [row[:-1] for row in rows]


orders = st.tuples(*(st.integers(-2, 2) for _ in ORDER))


@given(orders, orders)
def test_later_is_the_order_of_tuples(con: duckdb.DuckDBPyConnection, left: Order, right: Order) -> None:
    names = ", ".join(ORDER)
    values = [f"(SELECT * FROM (VALUES {side}) v({names})) {name}" for name, side in (("a", left), ("b", right))]
    sql = f"SELECT {later('a', 'b')} FROM {' CROSS JOIN '.join(values)}"
    assert con.execute(sql).fetchall() == [(left > right,)]


contents = st.tuples(st.sampled_from("AB"), st.integers(1, 2), orders)


@given(st.lists(contents, max_size=8, unique_by=lambda c: c[2]))
def test_ranked_agrees_with_a_plain_sort(con: duckdb.DuckDBPyConnection, rows: list[tuple[str, int, Order]]) -> None:
    prepare(con, [row(key, content, order, n) for n, (key, content, order) in enumerate(rows)])
    found = {
        dn: (place, repeat) for dn, place, repeat in con.execute("SELECT dn, place, repeat FROM ranked").fetchall()
    }
    for n, (key, content, order) in enumerate(rows):
        place = 1 + sum(k == key and o > order for k, _, o in rows)
        repeat = 1 + sum((k, c) == (key, content) and o > order for k, c, o in rows)
        assert found[n] == (place, repeat)


@given(st.lists(contents, max_size=8, unique_by=lambda c: c[0]))
def test_rows_that_are_alone_need_no_order(con: duckdb.DuckDBPyConnection, rows: list[tuple[str, int, Order]]) -> None:
    staged = [row(key, content, order, n) for n, (key, content, order) in enumerate(rows)]
    prepare(con, staged, [target(key, content, order, n) for n, (key, content, order) in enumerate(rows)])
    for relation, alone in (("ranked", RANKED_ALONE), ("best", BEST_ALONE)):
        ordered = con.execute(f"SELECT * FROM {relation} ORDER BY ALL").fetchall()
        assert con.execute(f"SELECT * FROM ({alone}) ORDER BY ALL").fetchall() == ordered
        assert len(ordered) == len(rows)


def test_several_gives_the_keys_that_stand_more_than_once(con: duckdb.DuckDBPyConnection) -> None:
    """Only these are sorted: a key too many would cost time, and change nothing else."""
    prepare(con, [row(key, 1, MIDDLE, n) for n, key in enumerate("ABACCC")])
    assert con.execute(f"{several('staged')} ORDER BY k").fetchall() == [("A",), ("C",)]


# -- the fold -------------------------------------------------------------------------------------------------------


def folded(
    con: duckdb.DuckDBPyConnection, rows: Iterable[tuple[object, ...]], absent: tuple[str, ...] = ()
) -> dict[str, tuple[object, ...]]:
    fill(con, "accepted", ("k", *ORDER, "x", "y", *(f"lacks_{i}" for i in range(len(absent)))), rows)
    for i in range(len(absent)):
        con.execute(f"ALTER TABLE accepted ALTER lacks_{i} TYPE BOOLEAN").fetchall()
    return {row[0]: row[1:] for row in con.execute(fold_sql(("x", "y"), absent)).fetchall()}


def test_the_fold_takes_the_newest_row_whole_with_its_nulls(con: duckdb.DuckDBPyConnection) -> None:
    rows = [("A", *OLD, 1, 2), ("A", *NEW, None, 3), ("A", *MIDDLE, 9, 9), ("B", *OLD, 5, None)]
    assert folded(con, rows) == {"A": (None, 3), "B": (5, None)}


def test_the_fold_takes_an_absent_column_from_the_newest_row_that_carries_it(con: duckdb.DuckDBPyConnection) -> None:
    rows = [("A", *OLD, 1, 2, 0), ("A", *NEW, 3, None, 1), ("A", *MIDDLE, 4, 6, 0), ("B", *OLD, 5, None, 1)]
    assert folded(con, rows, ("y",)) == {"A": (3, 6), "B": (5, None)}
    rows = [("A", *OLD, 1, 2, 0), ("A", *NEW, 3, None, 0)]
    assert folded(con, rows, ("y",)) == {"A": (3, None)}


carried = st.tuples(st.sampled_from("AB"), orders, *[st.none() | st.integers(1, 3)] * 2, st.booleans(), st.booleans())


@given(st.lists(carried, max_size=6, unique_by=lambda c: c[:2]))
def test_the_fold_agrees_with_picking_each_column_by_itself(
    con: duckdb.DuckDBPyConnection, rows: list[tuple[str, Order, int | None, int | None, bool, bool]]
) -> None:
    expected = {}
    for key in {row[0] for row in rows}:
        oldest_first = sorted((row for row in rows if row[0] == key), key=lambda row: row[1])
        expected[key] = tuple(
            next((row[2 + i] for row in reversed(oldest_first) if not row[4 + i]), None) for i in range(2)
        )
    plain = [(key, *order, x, y, int(no_x), int(no_y)) for key, order, x, y, no_x, no_y in rows]
    assert folded(con, plain, ("x", "y")) == expected


# -- the text -------------------------------------------------------------------------------------------------------

TEXTS = {
    "several": several("staged"), "RANKED": RANKED, "RANKED_ALONE": RANKED_ALONE, "BEST": BEST,
    "BEST_ALONE": BEST_ALONE, "TIES": TIES, "OUTCOMES": OUTCOMES, "OUTCOMES_AGAIN": OUTCOMES_AGAIN,
    "OUTCOMES_UNTIED": outcomes.OUTCOMES_UNTIED,
    "fold": fold_sql(("x", "y", "z"), ("y",)), "later": later("r", "b"),
    "PLACED": PLACED, "STAGED": STAGED, "placed": placed_sql("rows"), "oldest": f"(ORDER BY {OLDEST_FIRST})",
    "OUTCOMES_FOLDED": outcomes.OUTCOMES_FOLDED, "FIRSTS": outcomes.FIRSTS, "FIRSTS_ALONE": outcomes.FIRSTS_ALONE,
    "APPENDED": outcomes.APPENDED, "APPENDED_AGAIN": outcomes.APPENDED_AGAIN, "ADDED": corrections.ADDED,
    "KEYS_ADDED": corrections.KEYS_ADDED, "NEW_ROWS_APPENDED": corrections.NEW_ROWS_APPENDED,
    "shares": counts_sql({1}),
}  # fmt: skip
KEYWORDS = {
    "ALL", "AND", "AS", "BY", "CASE", "CROSS", "DESC", "DISTINCT", "ELSE", "END", "EXISTS", "FIRST", "FROM", "GROUP",
    "HAVING", "IN", "IS", "JOIN", "LAST", "LEFT", "NOT", "NULL", "NULLS", "ON", "OR", "ORDER", "OVER", "PARTITION",
    "BETWEEN", "PRECEDING", "ROWS", "SELECT", "THEN", "UNBOUNDED", "UNION", "WHEN", "WHERE",
}  # fmt: skip
FUNCTIONS = {"row_number", "dense_rank", "count", "max", "min"}
TOKEN = re.compile(r"\s+|[A-Za-z_][A-Za-z0-9_]*|\d+|<>|<=|>=|[(),.*=<>+]|-(?!-)")


def tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        assert match, f"not a token that all dialects read alike: {text[at : at + 20]!r}"
        found.append(match[0])
        at = match.end()
    return [token for token in found if not token.isspace()]


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_has_no_literals_quotes_casts_or_other_functions(name: str) -> None:
    found = tokens(TEXTS[name])
    for token, following in zip(found, [*found[1:], ""], strict=True):
        if token.isdigit():
            assert token == "1"  # a place, and EXISTS (SELECT 1)
        elif token.isidentifier() and token.upper() == token and len(token) > 1:
            assert token in KEYWORDS
        elif token.isidentifier() and following == "(":
            assert token in FUNCTIONS
        elif token.isidentifier():
            assert token == token.lower()


@pytest.mark.parametrize("name", TEXTS)
def test_every_order_by_says_where_nulls_go(name: str) -> None:
    text = TEXTS[name]
    for inside in re.findall(r"ORDER BY ([^)]*)\)", text):
        columns = inside.partition(" ROWS ")[0].split(",")
        assert all(part.strip().endswith(("DESC NULLS LAST", " NULLS FIRST")) for part in columns)


@pytest.mark.parametrize(
    "bad", ['SELECT "x"', "SELECT 'x'", "SELECT 1.5e3::INT", "SELECT a || b", "SELECT -- x", "SELECT `a`", "SELECT a;"]
)
def test_the_tokenizer_refuses_what_dialects_read_in_two_ways(bad: str) -> None:
    with pytest.raises(AssertionError):
        tokens(bad)


def test_every_outcome_has_its_own_number() -> None:
    assert set(CODES) == set(Outcome)
    assert len(set(CODES.values())) == len(Outcome)
    assert set(re.findall(r"c\.(\w+)", OUTCOMES)) <= {str(outcome) for outcome in Outcome}
    assert outcomes.ORDER == ("ev", "fk", "rk", "tb", "fp", "fr")
