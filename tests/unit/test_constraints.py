"""Which constraints of a table its rows are judged by; how they are judged is in `tests/spark/test_constraints.py`."""

from __future__ import annotations

from ordertrail.rules.constraints import Constraint, constraints_of
from tests.oracle import default_contract

PROPERTIES = {
    "delta.constraints.named": "status <> 'LOST'",
    "delta.constraints.both": "ADDRESS IS NULL OR `order_num` > '0'",
    "delta.appendOnly": "false",
}


def test_checks_name_the_contract_columns_that_they_speak_of() -> None:
    assert constraints_of(default_contract(), PROPERTIES) == (
        Constraint("both", "(ADDRESS IS NULL OR `order_num` > '0')", ("order_num", "address")),
        Constraint("named", "(status <> 'LOST')", ("status",)),
    )
