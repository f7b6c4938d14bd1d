"""Compares the keys of parsed files with the target, before the files are staged: which are held by their shares.

Only files of vendors with `max_new_share` or `max_stale_share` cost anything. What is decided is in the manifests of
the batch, so it is decided once, whatever the target is when the batch is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.base import StageRequest
from ordertrail.engines.local.find import entries_sql
from ordertrail.engines.local.relations import FILE_KEYS, KNOWN_TIMES, Relation
from ordertrail.engines.local.session import Session
from ordertrail.model import Reject, State
from ordertrail.parse.job import ParsedBatch
from ordertrail.rules.accepted import TAKEN_BACK
from ordertrail.rules.placing import LOWEST, contract_key_sql
from ordertrail.rules.planning import places_of, wrong_shares
from ordertrail.rules.shares import KeyCounts, counts_sql
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import target_columns


def over_shares(session: Session, request: StageRequest, parsed: ParsedBatch) -> dict[int, Reject]:
    """Why files are held because of the shares of their keys, by number; nothing is read where no file is judged.

    Args:
        session: The pass; the target is read as it is now.
        request: What to stage.
        parsed: Its files, before anything of them is committed.
    """
    if not any(file.state is State.LOADED and file.candidate.shares is not None for file in parsed.files):
        return {}
    run, contract, target = session.run, session.config.contract, session.tables.target.snapshot()
    paths = ", ".join(quoted(str(path)) for path, _ in parsed.rows)
    places = places_of(request.fresh)
    numbers, orders = pa.array(list(places), pa.int32()), pa.array(list(places.values()), pa.int32())
    session.con.register("places_arrow", pa.table({"_dn": numbers, "_place": orders}))
    key = contract_key_sql(contract)
    FILE_KEYS.make(
        run,
        f"SELECT {session.key_hash_sql(key)} AS k, _place AS place, max(epoch_us({name_sql(contract.order_by)})) AS ev "
        f"FROM read_parquet([{paths}]) JOIN places_arrow ON _delivery_no = _dn GROUP BY ALL",
    )
    session.con.unregister("places_arrow")
    gone = run(f"SELECT delivery_id FROM {session.deliveries()} WHERE {TAKEN_BACK}") if session.config.appends else ()
    texts = f"SELECT {key} FROM read_parquet([{paths}])"
    _find_times(session, target, f"SELECT DISTINCT k FROM {FILE_KEYS}", texts, [str(one) for (one,) in gone])

    def count(without: Collection[int]) -> Iterator[KeyCounts]:
        for row in run(counts_sql(without)):
            yield KeyCounts(*(int(str(value)) for value in row))

    found = wrong_shares(request.fresh, count)
    for relation in (FILE_KEYS, KNOWN_TIMES):  # they may be large, and the load needs the memory
        relation.make_empty(run)
    return found


def _find_times(session: Session, target: Snapshot, once: str, texts: str, gone: Sequence[str]) -> Relation:
    """Create `known_times`: of each of some keys that the target has, the newest event time.

    Args:
        session: The pass.
        target: Any version.
        once: SQL of the keys, `k`, each once.
        texts: SQL of the same keys as text.
        gone: Ids of the deliveries whose rows do not count.
    """
    contract = session.config.contract
    if (entries := entries_sql(session, target, once, gone)) is not None:
        return KNOWN_TIMES.make(session.run, f"SELECT k, max(ev) AS ev FROM ({entries}) GROUP BY k")
    key = contract_key_sql(contract)
    counts = f" AND coalesce(_delivery_id, '') NOT IN ({', '.join(map(quoted, gone))})" if gone else ""
    return KNOWN_TIMES.make(
        session.run,
        f"SELECT {session.key_hash_sql(key)} AS k, max(coalesce(epoch_us({name_sql(contract.order_by)}), {LOWEST})) "
        f"AS ev FROM {scan_sql(session.con, target, target_columns(contract))} WHERE {key} IN ({texts}){counts} "
        "GROUP BY 1",
    )
