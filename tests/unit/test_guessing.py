"""Names and types that are guessed for columns that nobody declared."""

from __future__ import annotations

import tomllib

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordertrail.cli.drift_view import toml_shown
from ordertrail.config.template import toml_value
from ordertrail.rules.guessing import MAX_NAME_CHARS, column_name, type_of, unfit_sql


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_every_header_gives_a_name_that_a_contract_allows(header: str) -> None:
    name = column_name(header)
    assert name.isidentifier()
    assert not name.startswith("_")
    assert len(name) <= MAX_NAME_CHARS + 2


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_shown_toml_means_what_it_says(text: str) -> None:
    assert tomllib.loads(toml_shown(f"a = {toml_value([text])}")) == {"a": [text]}


@pytest.mark.parametrize(
    ("good", "bad", "kind"),
    [
        (["1", "-20", "0"], ["007", "x", "1.5", ""], "bigint"),
        (["1.5", "2", "-0.25"], ["1.", "1e5", "1234567890123456", "01.5"], "double"),
        (["2026-11-20", "2026-02-28"], ["2026-02-30", "20.11.2026"], "date"),
        (
            ["2026-11-20 08:00", "2026-11-20T08:00:00Z", "2026-11-20 08:00:00+02:00"],
            ["2026-11-20 25:00", "x"],
            "timestamp",
        ),
        (["24.12.2026", "31.01.2026"], ["2026-12-24", "31.02.2026"], "date"),
        (["yes", "1"], [], "string"),
    ],
)
def test_what_does_not_fit_is_the_same_in_sql(good: list[str], bad: list[str], kind: str) -> None:
    found, formats, _ = type_of(good)
    assert found == kind
    sql = unfit_sql("v", kind, formats)
    for values, unfit in ((good, False), (bad, True)):
        for value in values:
            assert duckdb.execute(f"SELECT {sql} FROM (SELECT ? AS v)", [value]).fetchone() == (unfit,), value


def test_a_type_may_leave_out_few_values() -> None:
    values = [*map(str, range(19)), "heavy"]
    assert type_of(values)[0] == "string"
    assert type_of(values, 0.9)[0] == "bigint"
    assert type_of([*values, "1.5"], 0.9)[0] == "double"
