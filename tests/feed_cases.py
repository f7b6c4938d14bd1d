"""The corpus `tests/feeds`: small files as vendors send them, each with the config that reads it and what comes out.

A case is a folder:

- one file, `feed.csv` or under another name, as a vendor sends it;
- `vendor.toml`: the lines of its `[[vendors]]`, but for `name` and `files`, and below them, where the case needs other
  columns than the order feed's, `[contract]`;
- `expected.json`: `kind` (for the docs, a few words), `about` (what is odd about the file, and what is made of it),
  `state`, `rows` (by record number, the columns that are not NULL, as text), `rejects` (`file_row`, `file_line`,
  `column`, `rule`), and `says` (texts that the reason, the rejects or the notes of the pass must contain). With `next`,
  the lines of config that the message says to write, the case is `loaded`. `draft` is what `init --from` makes of the
  file: `refused` (what is said), or what comes out with the drafted config, where it is something else (`state`,
  `rows`, `rejects`), after `edits` (pairs of texts, at most one), without the columns that it `lacks`, or
  `by_hand`: what only a person can write, the draft says; without any
  `draft` the drafted config reads the file as that of the case does.

`python -m tests.feed_cases NAME...` runs cases and prints what comes out in the form of `expected.json`: look at it
before you keep it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from ordertrail import Pipeline
from ordertrail.arrow import arrow_schema
from ordertrail.begin.draft import draft_config
from ordertrail.config import Config, parse_config
from ordertrail.engines.spark.workers import ParseTask
from ordertrail.look.plan import PlannedFile, PlanReport, plan_files
from ordertrail.look.standing import Status
from ordertrail.look.status import status_of
from ordertrail.model import Batch, Contract, FoundFile, RunReport, State
from ordertrail.rules.contract_hash import contract_hashes
from ordertrail.rules.manifests import from_json
from ordertrail.rules.planning import candidate_of
from ordertrail.rules.tables import stage_columns
from ordertrail.sources.names import identity_of
from tests.harness import NOON_NS, House

FEEDS = Path(__file__).parent / "feeds"
_NOT_FEEDS = {"vendor.toml", "expected.json"}
_CONTRACT = "[contract"

Rows = dict[str, dict[str, str]]
Rejects = list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class FeedCase:
    """One folder of the corpus."""

    name: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return FEEDS / self.name

    @property
    def feed(self) -> Path:
        """The file that the vendor sends."""
        (found,) = (path for path in self.folder.iterdir() if path.name not in _NOT_FEEDS)
        return found

    @property
    def vendor_toml(self) -> str:
        """The lines of its `[[vendors]]`."""
        return self._toml[0]

    @property
    def mended_toml(self) -> str:
        """The lines of its `[[vendors]]` once somebody did what the message says."""
        lines: list[str] = self.expected["next"]
        written = {line.partition(" = ")[0] for line in lines}
        return "\n".join(
            [one for one in self.vendor_toml.splitlines() if one.partition(" = ")[0] not in written] + lines
        )

    @property
    def contract_toml(self) -> str:
        """The lines of its contract; "" for the order feed's."""
        return self._toml[1]

    @property
    def _toml(self) -> tuple[str, str]:
        head, mark, rest = (self.folder / "vendor.toml").read_text(encoding="utf-8").partition(_CONTRACT)
        return head.strip(), mark + rest

    @property
    def expected(self) -> dict[str, Any]:
        """`expected.json`; a draft of which nothing is said is right as it is."""
        found: dict[str, Any] = json.loads((self.folder / "expected.json").read_text(encoding="utf-8"))
        return {"draft": {}} | found


def feed_cases() -> list[FeedCase]:
    """All cases, by name."""
    return [FeedCase(path.name) for path in sorted(FEEDS.iterdir()) if path.is_dir()]


def config_of(cases: Sequence[FeedCase], root: Path, *, mended: bool = False) -> Config:
    """One pipeline for cases with the same contract: each is a vendor with a folder of its own.

    Args:
        cases: With one contract.
        root: Holds the pipeline.
        mended: Whether to do what the messages of the cases say.
    """
    lines = {case.name: case.mended_toml if mended else case.vendor_toml for case in cases}
    vendors = [f'[[vendors]]\nname = "{name}"\nfiles = "{name}/*"\n{text}\n' for name, text in lines.items()]
    head = '[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nsettle_s = 0\nthreads = 1\n'
    return parse_config("\n".join([head, cases[0].contract_toml, *vendors]), base=root, environ={})


@dataclass(frozen=True, slots=True)
class Got:
    """What comes out of a case, in the form of `expected.json`."""

    state: str
    rows: Rows
    rejects: Rejects
    said: str

    def check(self, expected: dict[str, Any]) -> None:
        """Compare with `expected.json`."""
        assert self.state == expected["state"], self.said
        assert self.rows == expected["rows"]
        assert self.rejects == expected["rejects"]
        assert [text for text in expected["says"] if text not in self.said] == [], self.said


@dataclass(frozen=True, slots=True)
class Ran:
    """Cases of one contract, run in one pipeline, and some of them planned before.

    Attributes:
        names: The contract's columns.
        planned: By the names of their cases.
        plan: Of them.
        report: Of the pass.
        status: After it.
        deliveries: The rows of that table; then of the history and of the rejects.
    """

    names: tuple[str, ...]
    planned: dict[str, PlannedFile]
    plan: PlanReport
    report: RunReport
    status: Status
    deliveries: list[dict[str, Any]]
    history: list[dict[str, Any]]
    rejects: list[dict[str, Any]]

    def got(self, case: FeedCase) -> Got:
        """What the pass made of a case."""
        (delivery,) = (one for one in self.deliveries if one["vendor"] == case.name)
        mine = delivery["delivery_id"]
        rows = {str(row["_file_row"]): row for row in self.history if row["_delivery_id"] == mine}
        rejects = [row for row in self.rejects if row["delivery_id"] == mine]
        lines = (*self.report.notes, *self.report.warnings)
        said = [delivery["reason"] or "", *(row["reason"] for row in rejects)]
        said += [line for line in lines if line.startswith(f"{case.name}:")]
        return Got(delivery["state"], texts_of(rows, self.names), _places(rejects), "\n".join(said))


def run_cases(cases: Sequence[FeedCase], root: Path) -> Ran:
    """Plan some of the files of cases, then run them all in one pass.

    What a plan makes of a file is made by the code of a pass, so one case of each outcome is planned.
    """
    config = config_of(cases, root)
    house = House(config)
    for case in cases:
        house.drop(f"{case.name}/{case.feed.name}", case.feed.read_bytes())
    some = list({_outcome(case): case.name for case in cases}.values())
    plan = plan_files(config, [config.source / name / FeedCase(name).feed.name for name in some])
    planned = dict(zip(some, plan.files, strict=True))
    report = Pipeline(config).run()
    tables = [house.rows(name) for name in ("deliveries", "history", "rejects")]
    return Ran(config.contract.names, planned, plan, report, status_of(config), *tables)


def _outcome(case: FeedCase) -> tuple[object, ...]:
    """What distinguishes cases for a plan; a new one has nothing expected yet."""
    path = case.folder / "expected.json"
    expected = case.expected if path.exists() else {"state": "", "rejects": []}
    doubts = any("newlines_in_cells = false" in text for text in expected.get("says", ()))
    return (expected["state"], doubts, *sorted({(one["rule"], one["file_row"] is None) for one in expected["rejects"]}))


def run_in_worker(case: FeedCase, root: Path, *, mended: bool = False) -> Got:
    """What a Python worker of Spark makes of the bytes of a case.

    Args:
        case: The case.
        root: Holds its pipeline.
        mended: Whether to do what its message says.
    """
    return run_one(config_of([case], root, mended=mended), case, root)


def run_one(config: Config, case: FeedCase, root: Path) -> Got:
    """What a Python worker of Spark makes of the bytes of a case under a config with one vendor."""
    path = root / case.feed.name
    path.write_bytes(case.feed.read_bytes())
    os.utime(path, ns=(NOON_NS, NOON_NS))
    batch = Batch(1, "run", datetime(2026, 11, 23, tzinfo=UTC), ())
    (vendor,) = config.vendors
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    found = FoundFile(f"{case.name}/{path.name}", vendor.name, identity_of(path.stat()))
    candidate = candidate_of(found, vendor, (1, 0), sha256, contract_hashes(config.contract, vendor))
    schema = arrow_schema((column.name, column.type) for column in stage_columns(config.contract))
    task = ParseTask(batch, config.contract, config.limits, 512, {str(path): (candidate,)}, schema)
    given = pa.RecordBatch.from_pydict({"path": [str(path)], "content": pa.array([content], pa.binary())})
    rows = [row for part in task(iter([given])) for row in part.to_pylist()]
    (text,) = (row["_manifest"] for row in rows if row["_kind"] == "delivery")
    manifest, _, _ = from_json(text)
    good = {str(row["_file_row"]): row for row in rows if row["_kind"] == "row"}
    rejects = [
        {**error, "file_row": row["_file_row"], "file_line": row["_file_line"]}
        for row in rows
        if row["_kind"] == "reject"
        for error in json.loads(row["_errors"])
    ]
    said = "\n".join([manifest.reason or "", *(str(one["reason"]) for one in rejects)])
    kept = texts_of(good, config.contract.names) if manifest.state is State.LOADED else {}
    return Got(str(manifest.state), kept, _places(rejects), said)


@dataclass(frozen=True, slots=True)
class Drafted:
    """What `init --from` makes of a case, and what the config that it writes makes of the file.

    Attributes:
        config_text: The config that is written, after the edits that the case names.
        contract: The contract in it.
        got: What comes out of the file.
        notes: What `init` says.
    """

    config_text: str
    contract: Contract
    got: Got
    notes: tuple[str, ...]

    def check(self, case: FeedCase) -> None:
        """Compare with what the case expects: the columns that the draft and the case both have."""
        expected = case.expected | case.expected["draft"]
        assert self.got.state == expected["state"], self.got.said
        lacks = {*expected.get("lacks", ())}
        names = {name for row in expected["rows"].values() for name in row} - {"_rescued"} - lacks
        assert names <= {*self.contract.names}
        assert _only(self.got.rows, names) == _only(expected["rows"], names), self.got.said
        assert self.got.rejects == expected["rejects"], self.got.said


def _only(rows: Rows, names: set[str]) -> Rows:
    """Some columns of rows; numbers without the zeros at their end."""
    return {
        number: {name: re.sub(r"(?<=\d)\.0+$", "", text) for name, text in row.items() if name in names}
        for number, row in rows.items()
    }


def draft_case(case: FeedCase, root: Path) -> Drafted:
    """Draft a config from the file of a case, do the edits that the case names, and read the file with it."""
    draft = draft_config(case.feed)
    text = draft.config_text
    for before, after in case.expected["draft"].get("edits", ()):
        assert text.count(before) == 1, (before, text)
        text = text.replace(before, after)
    config = parse_config(text, base=root, environ={})
    return Drafted(text, config.contract, run_one(config, case, root), draft.notes)


def drafts_the_same(case: FeedCase, root: Path) -> bool:
    """Whether the draft is the config of the case, but for the vendor's name and glob, and the order of texts."""
    config, draft = config_of([case], root), draft_config(case.feed)
    (vendor,) = config.vendors
    drafted = replace(draft.vendor, name=vendor.name, files=vendor.files)
    return draft.contract == config.contract and drafted == vendor


def texts_of(rows: dict[str, dict[str, Any]], names: Iterable[str]) -> Rows:
    """The columns of rows that are not NULL, as text, in the order of the rows."""
    names = [*names, "_rescued"]
    return {
        number: {name: _text(rows[number][name]) for name in names if rows[number][name] is not None}
        for number in sorted(rows, key=int)
    }


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}" + (f".{value.microsecond:06d}" if value.microsecond else "")
    return str(value)


def _places(rejects: Iterable[dict[str, Any]]) -> Rejects:
    names = ("file_row", "file_line", "column", "rule")
    found = [{name: row[name] for name in names} for row in rejects]
    return sorted(found, key=lambda one: (one["file_row"] or 0, one["column"] or "", one["rule"]))


def main(names: Sequence[str]) -> None:
    """Print what comes out of cases."""
    for name in names:
        case = FeedCase(name)
        with tempfile.TemporaryDirectory() as folder:
            got = run_cases([case], Path(folder)).got(case)
        kept: dict[str, Any] = {"kind": "", "about": "", "says": []}
        if (case.folder / "expected.json").exists():
            kept = case.expected
        found = {"kind": kept["kind"], "about": kept["about"], "state": got.state, "rows": got.rows}
        found |= {"rejects": got.rejects, **{name: kept[name] for name in ("says", "next") if name in kept}}
        out = io.StringIO()
        json.dump(found, out, indent=1, ensure_ascii=False)
        print(out.getvalue(), got.said, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
