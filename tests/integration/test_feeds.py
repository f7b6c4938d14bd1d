"""Every case of `tests/feeds`: run, parsed as a worker of Spark does, drafted; one of each outcome is planned, too."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
from pathlib import Path

import pytest
from filelock import FileLock

from ordertrail.begin.draft import draft_config
from ordertrail.errors import UsageError
from ordertrail.look.standing import RECENT
from tests.feed_cases import FeedCase, Ran, draft_case, drafts_the_same, feed_cases, run_cases, run_in_worker
from tests.harness import without_fsync

CASES = feed_cases()
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """The cases by name; those with one contract ran in one pipeline. One worker runs them for all."""
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    kept = place / "feeds.pickle"
    with FileLock(place / "feeds.lock"):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(_run_all(tmp_path_factory)))
        found: dict[str, Ran] = pickle.loads(kept.read_bytes())
    return found


def _run_all(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    groups: dict[str, list[FeedCase]] = {}
    for case in CASES:
        groups.setdefault(case.contract_toml, []).append(case)
    found: dict[str, Ran] = {}
    with without_fsync():
        for cases in groups.values():
            run = run_cases(cases, tmp_path_factory.mktemp("feeds"))
            found |= {case.name: run for case in cases}
    return found


@each_case
def test_a_pass(case: FeedCase, ran: dict[str, Ran]) -> None:
    ran[case.name].got(case).check(case.expected)


def test_the_plan_says_the_same(ran: dict[str, Ran]) -> None:
    planned = {name: file for run in ran.values() for name, file in run.planned.items()}
    assert len(planned) > 20
    for name, file in planned.items():
        expected = FeedCase(name).expected
        shown = [one for one in file.rejects if one.file_row is not None]
        found = [(one.file_row, one.file_line, one.column, one.rule) for one in shown]
        wanted = [tuple(one.values()) for one in expected["rejects"] if one["file_row"] is not None]
        assert (name, file.state, sorted(found, key=repr)) == (name, expected["state"], sorted(wanted, key=repr))


@pytest.mark.series
@each_case
def test_a_worker_of_spark(case: FeedCase, tmp_path: Path) -> None:
    expected = case.expected
    got = run_in_worker(case, tmp_path)
    assert (got.state, got.rows, got.rejects) == (expected["state"], expected["rows"], expected["rejects"])


@pytest.mark.parametrize("case", [case for case in CASES if "next" in case.expected], ids=lambda case: case.name)
def test_what_a_message_says_to_write_works(case: FeedCase, ran: dict[str, Ran], tmp_path: Path) -> None:
    said = ran[case.name].got(case).said
    assert [line for line in case.expected["next"] if line.partition('["')[0].rstrip("[") not in said] == []
    assert run_in_worker(case, tmp_path, mended=True).state == "loaded"


def test_doubts_are_warnings_in_the_plan_and_in_the_status(ran: dict[str, Ran]) -> None:
    run = ran["stray-quotes"]
    (line,) = (one for one in run.report.warnings if one.startswith("stray-quotes: "))
    assert line in run.plan.notes
    assert run.report.needs_person
    doubtful = {one["vendor"]: one["doubts"] for one in run.deliveries if one["doubts"] is not None}
    assert [line.removeprefix("stray-quotes: feed.csv: ")] == json.loads(doubtful["stray-quotes"])
    assert set(run.status.doubts) <= set(run.report.warnings)
    assert len(run.status.doubts) == min(RECENT, len(doubtful))


def test_every_case_is_told_apart() -> None:
    kinds = [case.expected["kind"] for case in CASES]
    assert all(case.expected["about"].endswith(".") for case in CASES)
    assert len(kinds) == len(set(kinds)) >= 120


# --- drafts: `init --from` -------------------------------------------------------------------------------------------

REFUSED = [case for case in CASES if "refused" in case.expected["draft"]]


@pytest.mark.series
@pytest.mark.parametrize("case", [one for one in CASES if one not in REFUSED], ids=lambda case: case.name)
def test_a_draft_reads_the_file(case: FeedCase, tmp_path: Path) -> None:
    wanted = case.expected["draft"]
    assert len(wanted.get("edits", ())) <= 1
    if "by_hand" in wanted:
        assert wanted["by_hand"] in draft_config(case.feed).config_text
        return
    if not wanted and drafts_the_same(case, tmp_path):
        return  # the other tests say what comes out of the file
    draft_case(case, tmp_path).check(case)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_nobody_could_read_is_no_draft(case: FeedCase) -> None:
    with pytest.raises(UsageError) as error:
        draft_config(case.feed)
    assert case.expected["draft"]["refused"] in str(error.value)


def test_a_damaged_file_is_a_draft_or_no_sample(tmp_path: Path) -> None:
    """Any bytes give a config that can be read back, or an error that says what they are."""
    chance = random.Random(19)
    bits = [b"\n", b",", b'"', b";", b"\r", b"|", b"\xff", b"'", b"\t", b"\x1f", b"0", b"2026-11-20", b"\\"]
    drafts = 0
    for case in CASES:
        data = bytearray(case.feed.read_bytes())
        for _ in range(chance.choice([1, 3, 12])):
            at, other = chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)
            new = chance.choice([b"", bytes(data[other : other + 40]), chance.choice(bits)])
            data[at : at + chance.choice([0, 0, 1, 20])] = new
        sample = tmp_path / "sample_CHI_22112026.csv"
        sample.write_bytes(data)
        with contextlib.suppress(UsageError):
            draft_config(sample)
            drafts += 1
    assert drafts > len(CASES) / 2


def test_nearly_all_drafts_are_right_or_need_one_edit() -> None:
    drafts = [case.expected["draft"] for case in CASES if case not in REFUSED]
    right = [one for one in drafts if "by_hand" not in one]  # what a file does not tell, no draft can
    assert len(right) >= len(drafts) * 28 / 30
    assert {case.expected["state"] for case in REFUSED} <= {"quarantined", "empty"}
