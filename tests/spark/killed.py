"""A pass on Spark in a process of its own that is killed: `python -m tests.spark.killed FOLDER SECONDS`.

It ends with SIGKILL so many seconds after the MERGE began, or when the pass is through.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from ordertrail.config import SparkSettings
from tests.feeds import FEED_LIMITS, FEED_VENDORS
from tests.harness import open_house
from tests.spark.session import BRIEFLY, SETTINGS, start


def end() -> None:
    """No exit handler runs: Spark's JVM finds out that its driver is gone."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the pass."""
    folder, after_s = Path(sys.argv[1]), float(sys.argv[2])
    start(folder / "spark-warehouse", {**SETTINGS, **BRIEFLY})
    house = open_house(
        folder,
        engine="spark",
        vendors=FEED_VENDORS,
        **FEED_LIMITS,
        spark=SparkSettings(),
    )

    def probe(name: str) -> None:
        if name == "load.files":
            threading.Timer(after_s, end).start()

    house.run(probe)
    time.sleep(after_s)
    end()


if __name__ == "__main__":
    main()
