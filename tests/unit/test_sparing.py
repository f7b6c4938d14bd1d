"""Memory of the pages' process that goes back to the system."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pytest

from ordertrail.web.sparing import give_back_code


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
