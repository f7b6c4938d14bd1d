"""Which constraints of a table its rows are judged by; how they are judged is in `tests/spark/test_constraints.py`."""

from __future__ import annotations

import json

from ordertrail.engines.spark_constraints import Constraint, constraints_of
from tests.oracle import default_contract

PROPERTIES = {
    "delta.constraints.named": "status <> 'LOST'",
    "delta.constraints.both": "ADDRESS IS NULL OR `order_num` > '0'",
    "delta.appendOnly": "false",
}


def schema(**nullable: bool) -> str:
    fields = [{"name": name, "type": "string", "nullable": one, "metadata": {}} for name, one in nullable.items()]
    return json.dumps({"type": "struct", "fields": fields})


def test_checks_name_the_contract_columns_that_they_speak_of() -> None:
    assert constraints_of(default_contract(), PROPERTIES, schema()) == (
        Constraint("both", "(ADDRESS IS NULL OR `order_num` > '0')", ("order_num", "address")),
        Constraint("named", "(status <> 'LOST')", ("status",)),
    )


def test_a_column_that_is_never_null_is_one_unless_the_kernel_rejects_such_rows_anyway() -> None:
    declared = schema(tracking_num=False, address=False, status=True, their_own=False)
    assert constraints_of(default_contract(), {}, declared) == (
        Constraint("NOT NULL", "(`address` IS NOT NULL)", ("address",)),
    )
