"""What a batch costs a target that keeps every row, beside one that keeps the latest: `append` and `upsert` in turns.

`python -m bench.append [--rows 10000000] [--batch 100000] [--rounds 7]`. Both targets are built from one history, one
row a shipment. A round is one batch, half of it updates of random shipments, into each of the two; who comes first
changes from round to round. Before the first round each has had one batch that is on no clock. `whole_s` is the
process from start to end, `load_s` its load step: look up, weigh, write, commit, history, rejects and the done mark.
The `_to_upsert` are medians of the ratios within a round. In the end the view of the latest state must hold the rows of
the target that was upserted, and the target that was appended to all rows.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench import tables, turns
from bench.report import timed_command
from ordertrail import load_config

MODES = ("upsert", "append")


def measure(work: Path, rows: int, batch_rows: int, rounds: int) -> dict[str, object]:
    """Build the targets, and measure.

    Args:
        work: For all files.
        rows: Of the targets.
        batch_rows: Of a batch.
        rounds: How often each mode gets one.

    Raises:
        RuntimeError: A process failed, or the rows are not those that they must be.
    """
    tables.build(work / "base", {"ordertrail"}, rows, ascending=False)
    for mode in MODES:
        tables.copy(work / "base" / "ordertrail", work / mode)
    _switch(work / "append")
    updates, found = turns.turns(work, MODES, rows, batch_rows, rounds)
    _check(work, rows + (rounds + 1) * batch_rows)
    return {"rows": rows, "batch_rows": batch_rows, "updates": updates, "modes": turns.figures(found, "upsert")}


def _switch(table: Path) -> None:
    """Make the target anew in the mode `append`."""
    config = table / "ordertrail.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[pipeline]\n", '[pipeline]\nmode = "append"\n', 1), encoding="utf-8")
    settings = load_config(config)
    shutil.rmtree(settings.table_path(settings.tables.target))
    timed_command(turns.ordertrail("rebuild", config))


def _check(work: Path, rows: int) -> None:
    """Compare the latest state of the two, and count the rows that were appended."""
    names = "tracking_num, status, address, last_update_timestamp"
    said = {}
    for mode, table in (("upsert", "orders_target"), ("append", "orders_current")):
        sql = f"SELECT count(*) AS n, sum(hash({names})) AS h FROM {table}"
        words = turns.ordertrail("query", work / mode / "ordertrail.toml", sql, "--timeout", "600")
        said[mode] = json.loads(timed_command(words).output)["rows"]
    if said["upsert"] != said["append"]:
        raise RuntimeError(f"the latest states are not the same: {said}")
    config = work / "append" / "ordertrail.toml"
    counted = timed_command(turns.ordertrail("query", config, "SELECT count(*) AS n FROM orders_target")).output
    if json.loads(counted)["rows"] != [{"n": rows}]:
        raise RuntimeError(f"the target has not {rows} rows: {counted}")


if __name__ == "__main__":
    turns.main("append", __doc__, measure)
