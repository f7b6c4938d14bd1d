"""Which data files of the deliveries become one: few are read by each pass, and few rows are written again."""

from __future__ import annotations

import json

import pytest

from ordertrail.delta.actions import AddFile
from ordertrail.engines.embedded.record import MOST_FILES, merged_files


@pytest.mark.parametrize("rows_a_batch", [1, 7, 400])
def test_few_files_are_read_and_few_rows_are_written_again(rows_a_batch: int) -> None:
    files: dict[str, AddFile] = {}
    most = again = 0
    batches = 5_000
    for number in range(batches):
        merged = merged_files(files.values())
        rows = rows_a_batch + sum(file.rows or 0 for file in merged)
        again += rows - rows_a_batch
        files = {path: file for path, file in files.items() if file not in merged}
        files[str(number)] = AddFile(str(number), 1, 0, json.dumps({"numRecords": rows}), None, {})
        most = max(most, len(files))
    assert sum(file.rows or 0 for file in files.values()) == batches * rows_a_batch
    assert most <= 2 * MOST_FILES
    assert again < 60 * batches * rows_a_batch


def test_files_of_unknown_size_are_left_until_there_are_many() -> None:
    files = [AddFile(str(number), 1, 0, None, None, {}) for number in range(MOST_FILES)]
    assert merged_files(files[1:]) == []
    assert merged_files(files) == files
