"""Write a golden stage: a pipeline with one batch done and the next one staged, as this release leaves it.

`python -m tests.golden_stage` writes it to `tests/golden/stages/<today>`, for `tests/integration/test_stages.py`. Do so
before a change of what is stored (manifest, stage, deliveries) and commit it with the change; never change an old one.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from ordertrail import Pipeline, load_config

STAGES = Path(__file__).parent / "golden" / "stages"
MTIME_NS = 1_795_435_200 * 10**9
"""Modification time of the files of a golden stage; git does not keep it."""

CONFIG = """[pipeline]
source = "source"
archive = "archive"
warehouse = "warehouse"
settle_s = 0
threads = 1
max_reject_share = 0.5

[[vendors]]
name = "acme"
files = "acme/*.csv"
timezone = "America/Chicago"
aliases = { tracking_num = ["TrackingNo"] }
status_map = { "On its way" = "IN_TRANSIT" }

[[vendors]]
name = "blue"
files = "blue/*.csv"
delimiter = ";"
"""
HEADER = "order_num,TrackingNo,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
BLUE_HEADER = HEADER.replace("TrackingNo", "tracking_num").replace(",", ";")
FIRST = {
    "acme/order_tracking_2026_11_21.csv": HEADER
    + "O1,00131,2026-11-20,,On its way,1 Elm St,2026-11-21 10:00:00\n"
    + "O2,00132,2026-11-20,,PICKED_UP,2 Elm St,2026-11-21 11:00:00\n",
    "blue/order_tracking_2026_11_21.csv": BLUE_HEADER + "O3;00133;2026-11-20;;PICKED_UP;3 Oak St;2026-11-21 11:00:00\n",
}
SECOND = {
    "acme/order_tracking_2026_11_21.csv": FIRST["acme/order_tracking_2026_11_21.csv"],
    "acme/order_tracking_2026_11_22.csv": HEADER
    + "O1,00131,2026-11-20,2026-11-22,DELIVERED,1 Elm St,2026-11-22 10:00:00\n"
    + "O4,00134,2026-11-21,,PICKED_UP,Straße 4,2026-11-22 09:30:00\n"
    + "O5,00135,2026-11-2x,,PICKED_UP,5 Elm St,2026-11-22 09:30:00\n",
    "blue/order_tracking_2026_11_22.csv": BLUE_HEADER,
    "blue/order_tracking_2026_11_23.csv": "nothing;of;ours\n1;2;3\n",
}
"""Files by path below the source; the second batch has a duplicate, one with a reject, an empty and a bad one."""


def write(root: Path) -> None:
    """Write the pipeline into a folder that is not there yet."""
    root.mkdir(parents=True)
    config = root / "ordertrail.toml"
    config.write_text(CONFIG)
    pipeline = Pipeline(load_config(config))
    _drop(root, FIRST)
    pipeline.run()
    _drop(root, SECOND)
    pipeline.stage()
    # The cache of keys and the lock are not stored values.
    shutil.rmtree(root / "warehouse" / ".ordertrail-index", ignore_errors=True)
    for lock in (root / "warehouse").glob("*.lock"):
        lock.unlink()


def _drop(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        file = root / "source" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, ns=(MTIME_NS, MTIME_NS))


if __name__ == "__main__":
    write(STAGES / f"{datetime.now(UTC):%Y-%m-%d}")
