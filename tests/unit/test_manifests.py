"""A manifest survives as JSON whatever is in it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ordertrail.model import FileIdentity, Manifest, State
from ordertrail.rules.manifests import from_json, to_json

# Also bytes that are no UTF-8, as `os.fsdecode` gives them.
paths = st.binary(min_size=1, max_size=20).map(lambda b: os.fsdecode(b.replace(b"\0", b"x")))
texts = st.text(max_size=10)
numbers = st.integers(0, 2**63 - 1)
clocks = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001
manifests = st.builds(
    Manifest,
    delivery_id=texts,
    vendor=texts,
    path=paths,
    file_name=texts,
    identity=st.builds(FileIdentity, numbers, numbers, numbers, st.integers(-(2**63), 2**63 - 1), numbers),
    sha256=texts,
    file_key=st.integers(-(2**53), 2**53),
    contract_hash=texts,
    state=st.sampled_from(State),
    reason=st.none() | texts,
    archive_path=texts,
    absent=st.lists(texts, max_size=3).map(tuple),
    rows_parsed=numbers,
    rows_rejected=numbers,
    rows_duplicate=numbers,
    first_error=st.none() | texts,
    discovered_at=clocks,
)


@given(manifests, texts, clocks)
def test_there_and_back(manifest: Manifest, run_id: str, clock: datetime) -> None:
    text = to_json(manifest, run_id, clock)
    assert text.isascii()
    assert from_json(text) == (manifest, run_id, clock)
    assert to_json(*from_json(text)) == text


def test_the_text_is_json_with_times_that_have_a_zone() -> None:
    clock = datetime(2026, 11, 23, 1, 2, 3, 4, tzinfo=UTC)
    manifest = Manifest(
        "id", "v", "a\udcff.csv", "a\\xff.csv", FileIdentity(1, 2, 3, 4, 5), "sha", 6, "h", State.EMPTY, None, "x",
        ("a",), 0, 0, 0, None, clock
    )  # fmt: skip
    body = json.loads(to_json(manifest, "run", clock))
    assert body["clock"] == "2026-11-23T01:02:03.000004+00:00"
    assert body["path"] == "a\udcff.csv"
    assert body["state"] == "empty"
    assert from_json(json.dumps(body))[2] - clock == timedelta(0)
