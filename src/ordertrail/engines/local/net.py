"""The net difference of two sets of rows of the target: which keys changed.

Rows are compared as they stand in the table, by hashes of the content and of the audit columns. Values of others are
not compared: every writer of ours carries them from the row that goes to the row that comes.
"""

from __future__ import annotations

from ordertrail.engines.local.session import Session
from ordertrail.model import Contract
from ordertrail.rules.cells import row_hash_sql
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import target_columns

CHANGED_KEYS = "changed_keys"
"""The DuckDB table that `find_changed_keys` makes."""


def key_sql(contract: Contract) -> str:
    """SQL of a row's key as text, never NULL, by which rows are compared."""
    return f"coalesce({contract_key_sql(contract)}, '')"


def compared_sql(contract: Contract) -> str:
    """SQL of what is compared of a row of the target: `k` its key, and hashes `c` of its content, `a` of what is ours.

    Args:
        contract: Of the target.
    """
    content = {name: name_sql(name) for name in (*contract.names, "_rescued")}
    audit = {one.name: name_sql(one.name) for one in target_columns(contract) if one.name not in content}
    return f"{key_sql(contract)} AS k, {row_hash_sql(content)} AS c, {row_hash_sql(audit)} AS a"


def find_changed_keys(session: Session, before: str, after: str) -> int:
    """Make `changed_keys`: the keys, `k`, whose rows are not the same before and after.

    Args:
        session: The pass; its config has the contract of both.
        before: A relation with the rows before.
        after: One with the rows after.

    Returns:
        How many keys these are.
    """
    shown = compared_sql(session.config.contract)
    both = f"SELECT {shown}, 1 AS n FROM {before} UNION ALL SELECT {shown}, -1 AS n FROM {after}"
    same = f"SELECT k, sum(n) AS n FROM ({both}) GROUP BY k, c, a"
    session.run(f"CREATE OR REPLACE TEMP TABLE {CHANGED_KEYS} AS SELECT DISTINCT k FROM ({same}) WHERE n <> 0")
    return int(str(session.run(f"SELECT count(*) FROM {CHANGED_KEYS}")[0][0]))
