"""Stage on Spark: parses a batch's files on the driver or in executors, and overwrites the stage in one commit.

A small batch goes through the row kernel on the driver. Above `spark.driver_max_mb` the executors get the files' bytes
(`binaryFile`), one file a task, and their rows go into the stage without passing through the driver. A file is then
identified by its SHA-256: bytes other than those that were fingerprinted yield no rows, and the file drops out.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from ordertrail.engines.base import Staged, StageRequest
from ordertrail.engines.batch_rows import decided, manifests_of, staged_batch
from ordertrail.engines.load import overtaken
from ordertrail.engines.spark.causes import causes, first_line, translated
from ordertrail.engines.spark.constraints import with_rejects
from ordertrail.engines.spark.route import DRIVER
from ordertrail.engines.spark.shares import compared, over_shares
from ordertrail.engines.spark.tables import ticked
from ordertrail.engines.spark.weigh_driver import LookAhead
from ordertrail.engines.spark.work import SparkPass, StagedHere, arrow_schema_of, spark_schema
from ordertrail.engines.spark.workers import ParseTask, Scratch, plain_path
from ordertrail.errors import QuarantineError, TableError
from ordertrail.model import Batch, Reject, State
from ordertrail.parse.failures import failing
from ordertrail.parse.job import ParsedBatch, set_aside
from ordertrail.rules.planning import Candidate, rounds
from ordertrail.rules.secrets import masked

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MAX_TASK_BYTES = 1 << 30
"""The driver reads a larger file, in pieces: Spark passes a task its bytes as one value, of at most 2 GiB."""

_PLAIN = re.compile(r"[A-Za-z0-9 ._/+=@,-]+")
"""Paths without special meaning to Spark; the driver reads files whose paths have glob characters or a colon."""

_RAISED = re.compile(r"^[\w.]*(?:Error|Exception)\b.*$", re.MULTILINE)


def stage_batch(run: SparkPass, request: StageRequest) -> Staged:
    """See `Engine.stage`."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        return _stage(run, request, {})
    except (PySparkException, Py4JError) as error:
        if type(translated("", error)) is not TableError:  # not the fault of a file, or the commit may have happened
            raise
        held = _failing(run, request)
        if not held:
            raise
    return _stage(run, request, held)


def _stage(run: SparkPass, request: StageRequest, why_held: Mapping[int, QuarantineError]) -> Staged:
    """Stage the files on which the executors do not fail.

    Args:
        run: The pass.
        request: What to stage.
        why_held: Why the files of a group are held, by the number of the group's first file.
    """
    batch = request.batch
    groups, for_driver = _divided(run, request.fresh, request.route)
    left = [group for group in groups if request.unchanged(group[0])]
    for_tasks = [group for group in left if group[0].number not in why_held]
    held = [
        set_aside(candidate, State.HELD, why_held[group[0].number])
        for group in left
        if group[0].number in why_held
        for candidate in group
        if request.unchanged(candidate)
    ]
    config = run.config
    with Scratch(config.threads, config.memory_limit_mb) as scratch:
        parsed = scratch.parse(
            for_driver,
            config.contract,
            limits=request.limits or config.limits,
            open_file=request.open_file,
            unchanged=request.unchanged,
        )
        if verdicts := _over_shares(run, request, (scratch, parsed), for_tasks):
            return _stage(run, request.judged(verdicts), why_held)
        found, changed = decided(request, [*parsed.files, *held])
        files = tuple(request.accept(found))
        manifests = manifests_of(request, files)
        whole = Batch(batch.number, batch.run_id, batch.clock, manifests)
        schema = arrow_schema_of(run.tables.stage.columns)
        staged_rows = scratch.stage_rows(whole, replace(parsed, files=files), schema)
        rows = [pa.Table.from_batches([part]) for part in staged_rows]
    run.probe("stage.files")
    if request.route == DRIVER and request.correction is None and rows:
        run.ahead = LookAhead(run, batch.number, pa.concat_tables(rows))
    gone = [*parsed.changed, *changed]
    staged = _commit(run, whole, rows, for_tasks)
    if staged is None:
        return Staged(batch, (*gone, *(c for group in groups for c in group)))
    present = {manifest.delivery_id for manifest in staged.manifests}
    gone += [c for group in groups for c in group if c.delivery_id not in present]
    return Staged(staged if staged.manifests else batch, tuple(gone))


def read_staged(run: SparkPass) -> Batch:
    """See `Engine.staged`."""
    rows = (
        run.tables.stage.rows()
        .where("_kind = 'delivery'")
        .select("_manifest", "_delivery_no", "_delivery_id")
        .collect()
    )
    if not rows:
        # Every file changed while the executors read it: an empty batch, which is loaded like any other.
        return Batch(run.tables.stage.standing(run.app_id)[1], uuid.uuid4().hex, datetime.now(UTC), ())
    rows.sort(key=lambda row: int(row["_delivery_no"]))
    number = int(str(rows[0]["_delivery_id"]).partition("-")[0])
    return staged_batch(number, [str(row["_manifest"]) for row in rows])


# --- who parses what -----------------------------------------------------------------------------------------------


def _divided(
    run: SparkPass, candidates: Sequence[Candidate], route: str
) -> tuple[list[list[Candidate]], list[Candidate]]:
    """Groups of equal files for the executors, and the files for the driver."""
    if route == DRIVER:
        return [], list(candidates)
    for_tasks: list[list[Candidate]] = []
    for_driver: list[Candidate] = []
    for group in rounds(candidates):
        first = group[0]
        path = str(run.config.source / first.path)
        if first.identity.size_bytes <= MAX_TASK_BYTES and _PLAIN.fullmatch(path) and first.identity.size_bytes:
            for_tasks.append(group)
        else:
            for_driver += group
    return for_tasks, for_driver


def _by_tasks(run: SparkPass, batch: Batch, groups: Sequence[Sequence[Candidate]]) -> DataFrame:
    """Rows of the stage, which executors produce from the files."""
    paths = [str(run.config.source / group[0].path) for group in groups]
    # Wait for all fingerprints: a future cannot be sent to another process.
    known = [tuple(_settled(candidate) for candidate in group) for group in groups]
    task = ParseTask(
        batch=batch,
        contract=run.config.contract,
        limits=run.config.limits,
        memory_limit_mb=run.config.memory_limit_mb,
        groups={plain_path(path): group for path, group in zip(paths, known, strict=True)},
        schema=arrow_schema_of(run.tables.stage.columns),
    )
    files = run.spark.read.format("binaryFile").load(paths).select("path", "content")
    return files.mapInArrow(task, spark_schema(run.tables.stage.columns))


def _over_shares(
    run: SparkPass, request: StageRequest, parsed: tuple[Scratch, ParsedBatch], groups: Sequence[Sequence[Candidate]]
) -> dict[int, Reject]:
    """Why files are held because of the shares of their keys; the executors parse theirs for it once more.

    Args:
        run: The pass.
        request: What to stage.
        parsed: The files of the driver, and where they are.
        groups: The files of the executors.
    """
    if not request.judges_shares:
        return {}
    scratch, here = parsed
    columns = [c for c in run.tables.stage.columns if c.name in compared(run.config.contract)]
    names = [column.name for column in columns]
    parts = [run.frame(scratch.good_rows(here, names), columns)] if here.rows else []
    if groups:
        rows = _by_tasks(run, request.batch, groups).where("_kind = 'row'")
        parts.append(rows.select(*map(ticked, names)))
    return over_shares(run, request, parts) if parts else {}


def _failing(run: SparkPass, request: StageRequest) -> dict[int, QuarantineError]:
    """Let the executors parse each file alone, as a test; returns the files on which they fail, for `_stage`."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    found: dict[int, QuarantineError] = {}
    for group in _divided(run, request.fresh, request.route)[0]:
        if request.unchanged(group[0]):
            try:
                _by_tasks(run, request.batch, [group]).count()
            except (PySparkException, Py4JError) as error:
                if type(translated("", error)) is not TableError:
                    raise
                found[group[0].number] = failing(_said(error))
    return found


def _said(error: Exception) -> str:
    """Why an executor failed: the last line of a worker's traceback, else Spark's message."""
    traced = (cause.message for cause in causes(error) if "Traceback" in cause.message)
    lines = [line for message in traced for line in _RAISED.findall(message)]
    return masked(lines[-1]) if lines else first_line(error)


def _settled(candidate: Candidate) -> Candidate:
    return replace(candidate, digest=candidate.sha256)


def _commit(
    run: SparkPass, whole: Batch, rows: Sequence[pa.Table], groups: Sequence[Sequence[Candidate]]
) -> Batch | None:
    """Overwrite the stage; returns the batch as staged, None when there was nothing to stage."""
    if not whole.manifests and not groups:
        return None
    parts = [run.frame(pa.concat_tables(rows), run.tables.stage.columns)] if whole.manifests else []
    if groups:
        parts.append(_by_tasks(run, whole, groups))
    frame = parts[0] if len(parts) == 1 else parts[0].unionByName(parts[1])
    refused = False
    if run.constraints:
        frame, refused = with_rejects(run, frame, run.constraints)
    stage = run.tables.stage
    with run.commit(whole, "STAGE") as told:
        if not run.carries_txn and stage.standing(run.app_id)[1] >= whole.number:
            raise overtaken(whole)
        stage.overwrite(frame, told)
    in_tables = bool(groups) or refused
    run.probe("stage.committed")
    version = _version_of(run, whole) if run.carries_txn else None
    run.keep_staged(StagedHere(whole.number, version, None if in_tables else pa.concat_tables(rows)))
    return read_staged(run) if in_tables else whole


def _version_of(run: SparkPass, batch: Batch) -> int:
    """The version of the stage that this pass wrote; Delta skips a write without a word when another pass was first."""
    last = run.tables.stage.last_of(run.app_id)
    if last is None or (last.batches[run.app_id], last.run_id) != (batch.number, batch.run_id):
        raise overtaken(batch)
    return last.version
