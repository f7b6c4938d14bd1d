"""What the change data feed costs a batch: `off`, `pairs` and `images` in turns, each on its own copy of one target.

`python -m bench.change_feed [--rows 10000000] [--batch 100000] [--rounds 7]`. A round is one batch, half of it updates
of random shipments, into each of the three; who comes first changes from round to round. Before the first round each
has had one batch that is on no clock. `whole_s` is the process from start to end, `load_s` its load step: order, look
up, write, commit, history, rejects and the done mark. The `_to_off` are medians of the ratios within a round. In the
end the three tables must hold the same rows, and a reader must find as many images of the last batch as it has.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from bench import tables, turns
from bench.report import timed_command
from ordertrail import load_config

MODES = ("off", "pairs", "images")


def measure(work: Path, rows: int, batch_rows: int, rounds: int) -> dict[str, object]:
    """Build the target, and measure.

    Args:
        work: For all files.
        rows: Of the target.
        batch_rows: Of a batch.
        rounds: How often each mode gets one.

    Raises:
        RuntimeError: A process failed, the tables differ, or a feed has other changes than the batch.
    """
    tables.build(work / "base", {"ordertrail"}, rows, ascending=False)
    for mode in MODES:
        tables.copy(work / "base" / "ordertrail", work / mode)
        _switch(work / mode, mode)
    updates, found = turns.turns(work, MODES, rows, batch_rows, rounds)
    if len({tables.fingerprint("ordertrail", work / mode) for mode in MODES}) > 1:
        raise RuntimeError("the tables are not the same")
    _check(work / "images", updates, batch_rows - updates)
    return {"rows": rows, "batch_rows": batch_rows, "updates": updates, "modes": turns.figures(found, "off")}


def _switch(table: Path, mode: str) -> None:
    config = table / "ordertrail.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[pipeline]\n", f'[pipeline]\nchange_feed = "{mode}"\n', 1), encoding="utf-8")
    timed_command(turns.ordertrail("migrate", config, "--apply"))


def _check(table: Path, updates: int, news: int) -> None:
    """Read the changes of the last batch; of pairs delta-rs 1.6 cannot, in files of several row groups."""
    config = load_config(table / "ordertrail.toml")
    target = DeltaTable(config.table_path(config.tables.target))
    rows = pa.table(target.load_cdf(starting_version=target.version(), columns=["_change_type"]))
    found = Counter(rows["_change_type"].to_pylist())
    expected = {"insert": news, "update_preimage": updates, "update_postimage": updates}
    if found != expected:
        raise RuntimeError(f"readers find {dict(found)}, not {expected}")


if __name__ == "__main__":
    turns.main("change_feed", __doc__, measure)
