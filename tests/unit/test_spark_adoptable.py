"""What `adopt` refuses of a table that only Spark reads, from what Delta says of it; the rest is in `tests/spark`."""

from __future__ import annotations

from typing import Any

import pytest

from ordertrail.engines.spark.adoptable import _require_delta, _require_mergeable
from ordertrail.errors import UnsupportedTableError, UsageError


def detail(**changes: Any) -> dict[str, Any]:
    return {"format": "delta", "properties": {}, "tableFeatures": ["appendOnly", "invariants"], **changes}


def test_what_merge_brings_up_to_date_is_taken() -> None:
    for properties in ({}, {"delta.appendOnly": "false"}, {"delta.constraints.a": "b > 0"}):
        _require_mergeable("t", "`t`", detail(properties=properties))
    _require_mergeable("t", "`t`", detail(tableFeatures=None))
    _require_delta("t", "`t`", detail())


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
    with pytest.raises(UnsupportedTableError, match="was not touched") as refused:
        _require_mergeable("t", "`t`", found)
    assert said in refused.value.message
    assert hint in refused.value.hint


def test_a_table_of_another_format_is_to_be_converted() -> None:
    with pytest.raises(UsageError, match="of the format parquet, not delta") as refused:
        _require_delta("t", "`t`", detail(format="parquet"))
    assert refused.value.hint.endswith("CONVERT TO DELTA `t`")
