"""Sorted terms against plain Python: every span of texts, whatever the statistics say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ordertrail.errors import StorageError
from ordertrail.look.sorted_terms import SortedTerms

TERMS = sorted(["a", "a", "a", "a", "a", "ab", "b", "ba", "bb", "bb", "é", "ü", "ü", "zz", "\U0001f600"])
ROWS = [(term, place % 2, place) for place, term in enumerate(TERMS)]
TEXTS = sorted({"", "0", "aa", "c", "bb\0", "\U0010ffff", *TERMS, *(f"{term}\0" for term in TERMS)})


def written(path: Path, **options: object) -> SortedTerms:
    """The terms in row groups of two or three, so that equal ones are in several."""
    columns = dict(zip(("term", "file", "row"), map(list, zip(*ROWS, strict=True)), strict=True))
    pq.write_table(pa.table(columns), path, row_group_size=3, **options)
    return SortedTerms(path, pq.read_metadata(path))


@pytest.mark.parametrize("statistics", [True, False])
def test_every_span_is_found_whole(tmp_path: Path, statistics: bool) -> None:
    terms = written(tmp_path / "run", write_statistics=statistics)
    for place, first in enumerate(TEXTS):
        for end in TEXTS[place:]:
            assert list(terms.between((first, end))) == [row for row in ROWS if first <= row[0] < end], (first, end)


def test_least_terms_that_were_cut_short_are_believed_only_as_bounds(tmp_path: Path) -> None:
    terms = written(tmp_path / "run")
    terms._least = [text[:0] for text in terms._least]
    for first, end in pairwise(TEXTS):
        assert list(terms.between((first, end))) == [row for row in ROWS if first <= row[0] < end]


def test_a_file_that_is_gone_is_an_error_of_ours(tmp_path: Path) -> None:
    terms = written(tmp_path / "run")
    (tmp_path / "run").unlink()
    with pytest.raises(StorageError, match="may be deleted"):
        list(terms.between(("a", "b")))
