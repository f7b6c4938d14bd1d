"""`python -m bench`: all measurements, one after the other, each against its peer in the same run."""

from __future__ import annotations

import subprocess
import sys

PARTS = (
    "bench.first_load",
    "bench.repeated_keys",
    "bench.upsert",
    "bench.field",
    "bench.changes",
    "bench.export",
    "bench.undo",
    "bench.migrate",
    "bench.cold_batch",
    "bench.change_feed",
    "bench.append",
    "bench.spark_engine",
    "bench.many_batches",
    "bench.day_files",
    "bench.watch",
    "bench.pages",
    "bench.nasty_files",
    "bench.start_up",
    "bench.long_run",
)

for part in PARTS:
    subprocess.run([sys.executable, "-m", part], check=True)
