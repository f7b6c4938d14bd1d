"""A manifest survives as JSON whatever is in it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import NODEFAULT
from msgspec.structs import fields, replace

from ordertrail.errors import TableError
from ordertrail.model import Claims, Correction, CorrectionKind, FileIdentity, Manifest, SenderManifest, State
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
    rescued=st.lists(texts, max_size=3).map(tuple),
    unranked=st.lists(texts, max_size=3).map(tuple),
    route=texts,
)


@given(manifests, texts, clocks)
def test_there_and_back(manifest: Manifest, run_id: str, clock: datetime) -> None:
    text = to_json(manifest, run_id, clock)
    assert text.isascii()
    assert from_json(text) == (manifest, run_id, clock)
    assert to_json(*from_json(text)) == text


def test_no_member_comes_back_as_its_default() -> None:
    """One that is not written, or not read, would look right for as long as it is the default."""
    with_default = {one.name: one for one in fields(Manifest) if one.default is not NODEFAULT}
    manifest, run_id, clock = from_json(FIRST)
    correction = Correction(CorrectionKind.UNDO, ("000001-00000-aa",), "why", "by")
    sender = SenderManifest("a\udcff.done", FileIdentity(1, 2, 3, 4, 5), "sha", Claims(6, 7, "sha", "f"))
    other = {str: "other", bool: True, Correction | None: correction, SenderManifest | None: sender}
    changed = replace(manifest, **{name: other.get(one.type, (name,)) for name, one in with_default.items()})
    assert all(getattr(changed, name) != one.default for name, one in with_default.items())
    assert from_json(to_json(changed, run_id, clock))[0] == changed


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
    assert list(body) == sorted(body)
    assert from_json(json.dumps(body))[2] - clock == timedelta(0)


FIRST = (
    '{"absent": ["address"], "archive_path": "2026/11/28/x.csv", "clock": "2026-11-28T16:43:45.655811+00:00", '
    '"contract_hash": "h", "delivery_id": "000002-00003-aa", "discovered_at": "2026-11-28T16:43:45.655811+00:00", '
    '"file_key": 6, "file_name": "x.csv", "first_error": null, '
    '"identity": {"ctime_ns": 5, "device": 1, "inode": 2, "mtime_ns": 4, "size_bytes": 3}, "path": "acme/x.csv", '
    '"reason": null, "rows_duplicate": 0, "rows_parsed": 7, "rows_rejected": 1, "run_id": "run", "sha256": "s", '
    '"state": "loaded", "vendor": "acme"}'
)
"""As the first release wrote it."""

MEMBERS = frozenset(json.loads(FIRST)) - {"run_id", "clock"}


def test_what_the_first_release_wrote_is_read() -> None:
    manifest, run_id, clock = from_json(FIRST)
    assert (manifest.vendor, manifest.rows_parsed, manifest.absent, run_id) == ("acme", 7, ("address",), "run")
    assert (manifest.identity, manifest.state, manifest.discovered_at) == (
        FileIdentity(1, 2, 3, 4, 5), State.LOADED, clock,
    )  # fmt: skip


@pytest.mark.parametrize(("value", "first"), [(Manifest, MEMBERS), (FileIdentity, json.loads(FIRST)["identity"])])
def test_a_member_that_came_later_says_with_its_default_what_was_so_before(
    value: type[Manifest | FileIdentity], first: frozenset[str]
) -> None:
    for one in fields(value):
        later = one.name not in first
        assert later == (one.default is not NODEFAULT or one.default_factory is not NODEFAULT), one.name


def test_members_that_a_later_release_wrote_are_ignored() -> None:
    body = json.loads(FIRST)
    more = {**body, "new": {"a": [1]}, "identity": {**body["identity"], "links": 2}, "version": 1}
    assert from_json(json.dumps(more)) == from_json(FIRST)


def test_a_text_of_a_later_version_names_the_way_out() -> None:
    with pytest.raises(TableError, match="newer release") as caught:
        from_json(json.dumps({**json.loads(FIRST), "version": 2}))
    assert "install it again" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{}", FIRST[:-1], FIRST.replace('"loaded"', '"lost"'), FIRST.replace('"sha256"', '"sha"'),
        FIRST.replace('"identity"', '"identity": 1, "other"'), FIRST.replace("2026-11-28T", ""),
    ],
)  # fmt: skip
def test_a_damaged_text_is_an_error_of_the_table(text: str) -> None:
    with pytest.raises(TableError, match="cannot be read"):
        from_json(text)
