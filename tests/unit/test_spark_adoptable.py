"""What `adopt` refuses of a table that only Spark reads, from what Delta says of it; the rest is in `tests/spark`."""

from __future__ import annotations

from typing import Any

import pytest

from ordertrail.engines.spark.adoptable import _other_format, _unmergeable
from ordertrail.errors import UnsupportedTableError


def detail(**changes: Any) -> dict[str, Any]:
    return {"format": "delta", "properties": {}, "tableFeatures": ["appendOnly", "invariants"], **changes}


def test_what_merge_brings_up_to_date_is_taken() -> None:
    for properties in ({}, {"delta.appendOnly": "false"}, {"delta.constraints.a": "b > 0"}):
        assert list(_unmergeable("t", "`t`", detail(properties=properties))) == []
    assert list(_unmergeable("t", "`t`", detail(tableFeatures=None))) == []
    assert _other_format("t", "`t`", detail()) is None


@pytest.mark.parametrize(
    ("found", "said", "hint"),
    [
        (
            detail(properties={"delta.appendOnly": "true"}), "delta.appendOnly = true",
            "ALTER TABLE `t` UNSET TBLPROPERTIES ('delta.appendOnly')",
        ),
        (
            detail(properties={"delta.setTransactionRetentionDuration": "interval 1 day"}), "would be forgotten",
            "ALTER TABLE `t` UNSET TBLPROPERTIES ('delta.setTransactionRetentionDuration')",
        ),
        (detail(tableFeatures=["identityColumns"]), "identity columns", "AS SELECT * FROM `t`"),
    ],
)  # fmt: skip
def test_what_it_cannot_is_refused_with_what_to_do(found: dict[str, Any], said: str, hint: str) -> None:
    (refused,) = _unmergeable("t", "`t`", found)
    assert isinstance(refused, UnsupportedTableError)
    assert "was not touched" in refused.message
    assert said in refused.message
    assert hint in refused.hint


def test_all_that_it_cannot_is_told_at_once() -> None:
    append_only = detail(properties={"delta.appendOnly": "true"}, tableFeatures=["identityColumns"])
    assert len(list(_unmergeable("t", "`t`", append_only))) == 2


def test_a_table_of_another_format_is_to_be_converted() -> None:
    refused = _other_format("t", "`t`", detail(format="parquet"))
    assert refused is not None
    assert "of the format parquet, not delta" in refused.message
    assert refused.hint.endswith("CONVERT TO DELTA `t`")
