"""Memory of the pages' process that goes back to the system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from ordertrail.web.sparing import give_back_code

SERVER = """
import json, os, sys, weakref
from pathlib import Path
from ordertrail import load_config, startup
from ordertrail.web.access import access
from ordertrail.web.serve import serve

class Held: pass

def listening(_):
    import pyarrow
    left = []
    for _ in range(5_000):  # as each template that was rendered
        cycle = [Held()]
        cycle.append(cycle)
        left.append(weakref.ref(cycle[0]))
    del cycle
    alive = sum(one() is not None for one in left)
    print(json.dumps([alive, pyarrow.default_memory_pool().backend_name]), flush=True)
    os._exit(0)

startup.collect_rarely()  # as `ordertrail.__main__` does
serve(load_config(Path(sys.argv[1])), access("127.0.0.1"), 0, listening)
"""


def mapped_kib() -> int:
    """Memory of this process that is of files: its code above all."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("RssFile")).split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped")
def test_code_is_given_back_and_mapped_again_where_it_is_needed() -> None:
    with duckdb.connect() as con:  # tests may leave the shared one with a result that nobody fetched
        assert con.sql("SELECT 1").fetchall() == [(1,)]
        before = mapped_kib()
        give_back_code()
        assert mapped_kib() < before
        assert con.sql("SELECT sum(x) FROM range(1000) t(x)").fetchall() == [(499500,)]


def test_the_server_collects_garbage_soon_and_has_arrow_hold_nothing(tmp_path: Path) -> None:
    config = tmp_path / "ordertrail.toml"
    config.write_text('[pipeline]\nname = "orders"\nsource = "in"\narchive = "archive"\nwarehouse = "tables"\n')
    words = [sys.executable, "-c", SERVER, str(config)]
    alive, pool = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert alive < 1_000
    assert pool == "system"
