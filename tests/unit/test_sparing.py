"""Memory of the pages' process that goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from ordertrail.web.sparing import give_back_code, resident_bytes

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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped")
def test_what_was_written_into_a_mapping_is_never_given_back(tmp_path: Path) -> None:
    """As the loader does: a file is mapped, addresses are put in, and nobody may write from then on."""
    file = tmp_path / "library"
    file.write_bytes(b"x" * 2 * mmap.PAGESIZE)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped:
        first, second = (mapped[place : place + 3] for place in (0, mmap.PAGESIZE))
        mapped[:3] = b"put"
        libc = ctypes.CDLL(None)
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        for place, rights in ((0, mmap.PROT_READ), (mmap.PAGESIZE, mmap.PROT_READ)):
            at = ctypes.c_void_p(address + place)
            assert libc.mprotect(at, ctypes.c_size_t(mmap.PAGESIZE), rights) == 0
        for _ in range(2):
            give_back_code()
            assert mapped[:3] == b"put"
            assert (first, mapped[mmap.PAGESIZE : mmap.PAGESIZE + 3]) == (second, b"xxx")
        gc.collect()  # what holds the buffer


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much it is")
def test_the_resident_memory_is_that_of_the_system() -> None:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    told = int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) << 10
    assert told / 2 < resident_bytes() < told * 2


def test_the_server_collects_garbage_soon_and_has_arrow_hold_nothing(tmp_path: Path) -> None:
    config = tmp_path / "ordertrail.toml"
    config.write_text('[pipeline]\nname = "orders"\nsource = "in"\narchive = "archive"\nwarehouse = "tables"\n')
    words = [sys.executable, "-c", SERVER, str(config)]
    alive, pool = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert alive < 1_000
    assert pool == "system"
