"""Any contract and any profile: a file that is written so reads back to the typed values that it was written from."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.depth import share
from tests.kernels import parse
from tests.typed_files import NAME, typed_file

pytestmark = pytest.mark.property

CELLS = int(os.environ.get("CELLS", "25"))


@settings(max_examples=share(CELLS))
@given(st.integers(0, 2**32), st.integers(1, 25), st.sampled_from(("\n", "\r\n")), st.sampled_from(("", "gzip", "zip")))
def test_typed_cells_read_back_to_the_values_they_were_written_from(
    con: duckdb.DuckDBPyConnection, folder: Path, seed: int, count: int, line_end: str, packed: str
) -> None:
    file = typed_file(Random(seed), count)
    content = file.content(line_end=line_end, packed=packed)
    found = parse(con, folder, content, file.contract, file.vendor, file_name=NAME)
    assert not found.errors, (file.vendor, found.raw)
    names = file.contract.names
    assert [{name: row[name] for name in names} for row in found.rows.values()] == list(file.values)
