"""Runs passes in real processes that die, stop or race; a script that reads jobs from stdin and answers on stdout.

Start-up costs half a second, so the script imports once and forks a child for every pass. It opens no DuckDB and starts
no thread itself: a fork would take neither along whole. What a kill does to the interpreter's own start, to imports and
to the command line is not seen here but in `test_fresh.py`. One JSON object a line:

`{"do": "start", "pass": {…}}`      runs one pass until it ends, dies or stops; `{"child": n, …}` and how it ended
`{"do": "resume", "child": n}`      lets a stopped pass go on
`{"do": "together", "passes": […]}` lets several passes begin at the same moment; `{"ended": […]}`

A pass has `base`, the folder with `ordertrail.toml`, and may have `kill_at` or `stop_at` (place of an effect, from
0), `kill_after_s`, `lock` (false stands for another machine), `share_rows`, `checkpoint_every`, `rebuild` (a rebuild
of the target instead of a pass), `from_archive` (of the history before it), `maintain` (maintenance instead of a pass),
`search` (the search cache is refreshed instead of a pass), `correct` (a correction instead of a pass: `kind`, `of`,
`file`), `migrate` (a migration instead of a pass; with `replay` it reads files again), `backup` or `restore` (one of
this folder instead of a pass), `untold` (nobody can tell who has a file open for writing), `two_disks` (the archive is
on another disk), `locked` (names of folders of the source where nothing can be renamed). Effects are what the probe
sees, and every put of a log entry, before and after it.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deltalake  # noqa: F401 - imported here so that no child pays for it

from ordertrail import pipeline, startup
from ordertrail.config import Config, parse_config
from ordertrail.delta import table
from ordertrail.delta.log import LocalLogStore
from ordertrail.engines.embedded import load as embedded_load
from ordertrail.engines.embedded.engine import EmbeddedEngine
from ordertrail.errors import OrdertrailError
from ordertrail.keep import backup, maintain, rebuild, restore
from ordertrail.look import search_cache
from ordertrail.mend import corrections, migration
from ordertrail.model import Correction, CorrectionKind, Probe
from ordertrail.sources.names import Entry, FileOps

Spec = dict[str, Any]


class Effects:
    """Records the effects of a pass, and kills or stops the process at one of them."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.seen: list[str] = []

    def __call__(self, name: str) -> None:
        place = len(self.seen)
        self.seen.append(name)
        if place == self.spec.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if place == self.spec.get("stop_at"):
            os.kill(os.getpid(), signal.SIGSTOP)


class WatchedStore:
    """The local store; a put is two effects."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.store = LocalLogStore()

    def put_if_absent(self, path: Path, data: bytes) -> None:
        name = f"{path.parents[1].name} {int(path.stem)}"
        self.probe(f"before put {name}")
        self.store.put_if_absent(path, data)
        self.probe(f"after put {name}")


def hostile(spec: Spec) -> None:
    """Make the disk of this process what the job asks for."""
    base = Path(spec["base"])
    link, rename_new = FileOps.link, FileOps.rename_new
    locked = {os.stat(base / "source" / name).st_ino for name in spec.get("locked", ())}

    def other_disk(ops: FileOps, entry: Entry, target: Entry) -> None:
        if entry.folder != target.folder:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(ops, entry, target)

    def refusing(ops: FileOps, entry: Entry, target: Entry) -> None:
        if os.fstat(entry.folder).st_ino in locked:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        rename_new(ops, entry, target)

    if spec.get("untold"):
        FileOps.is_written = lambda ops, descriptor: None
    if spec.get("two_disks"):
        FileOps.link = other_disk
    if locked:
        FileOps.rename_new = refusing


def one_pass(spec: Spec) -> Spec:
    """Run a pass to its end and say how it ended."""
    base = Path(spec["base"])
    hostile(spec)
    effects = Effects(spec)

    def engine(config: Config, probe: Probe) -> EmbeddedEngine:
        return EmbeddedEngine(config, probe, WatchedStore(probe))

    if not spec.get("lock", True):
        pipeline.pipeline_lock = no_lock
    if spec.get("share_rows"):
        embedded_load.SHARE_ROWS = spec["share_rows"]
    if spec.get("checkpoint_every"):
        table.CHECKPOINT_EVERY = spec["checkpoint_every"]
    config = parse_config((base / "ordertrail.toml").read_text(), base=base, environ={})
    try:
        if spec.get("rebuild"):
            done = rebuild.rebuild(config, probe=effects, from_archive=bool(spec.get("from_archive")))
            return {"batch": done.batch, "rows": done.rows, "effects": effects.seen}
        if spec.get("backup"):
            kept = backup.backup(config, Path(spec["backup"]), with_archive=True, probe=effects)
            return {"batch": kept.batch, "effects": effects.seen}
        if spec.get("restore"):
            back = restore.restore(config, Path(spec["restore"]), force=True, probe=effects)
            return {"batch": back.batch, "resumed": back.resumed, "effects": effects.seen}
        if spec.get("maintain"):
            paid = maintain.maintain(config, probe=effects, store=WatchedStore(effects))
            notes = [one.note for one in paid.steps if one.note]
            return {"steps": len(paid.steps), "notes": notes, "warnings": list(paid.warnings), "effects": effects.seen}
        if spec.get("search"):
            return {"runs": search_cache.refresh(config, probe=effects), "effects": effects.seen}
        if spec.get("migrate"):
            replay = bool(spec.get("replay"))
            moved = migration.migrate(config, apply=True, replay=replay, probe=effects, store=WatchedStore(effects))
            return {"batch": moved.batch, "replay_batch": moved.replay_batch, "effects": effects.seen}
        one = pipeline.Pipeline(config, probe=effects, engine=engine)
        report = corrections.correct(one, wanted(spec["correct"])) if spec.get("correct") else one.run()
    except OrdertrailError as error:
        return {"error": error.code, "message": str(error), "effects": effects.seen}
    warnings = list(report.warnings)
    return {"batch": report.batch, "recovered": report.recovered, "warnings": warnings, "effects": effects.seen}


def wanted(spec: Spec) -> corrections.Wanted:
    """The correction that a job asks for."""
    file = None if spec.get("file") is None else Path(spec["file"])
    return corrections.Wanted(Correction(CorrectionKind(spec["kind"]), tuple(spec["of"]), "a test", "me"), file)


@contextmanager
def no_lock(config: Config, *, wait_s: float = 0.0) -> Iterator[None]:
    """The lock of another machine, which does not reach here."""
    config.warehouse.mkdir(parents=True, exist_ok=True)
    yield


class Children:
    """The passes of this driver: their process ids and the pipes that their answers come through."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.answers: list[int] = []

    def fork(self, spec: Spec, gate: int | None = None) -> int:
        """Begin a pass in a child; with a gate, when the gate is closed."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            if gate is not None:
                os.read(gate, 1)
            code = 1
            try:
                with os.fdopen(writer, "w") as answer:
                    json.dump(one_pass(spec), answer)
                code = 0
            finally:
                sys.stderr.flush()
                if code:
                    traceback.print_exc()
                os._exit(code)
        os.close(writer)
        self.pids.append(pid)
        self.answers.append(reader)
        return len(self.pids) - 1

    def wait(self, child: int) -> Spec:
        """Wait until a pass ends or stops."""
        _, status = os.waitpid(self.pids[child], os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return {"child": child, "stopped": True}
        with os.fdopen(self.answers[child]) as reader:
            text = reader.read()
        if os.WIFSIGNALED(status):
            return {"child": child, "signal": os.WTERMSIG(status)}
        return {"child": child, "crashed": os.WEXITSTATUS(status)} if not text else {"child": child, **json.loads(text)}

    def kill_later(self, child: int, delay_s: float) -> None:
        """Kill -9 after a time, unless the pass ends before."""
        process = os.pidfd_open(self.pids[child])
        try:
            if not select.select([process], [], [], delay_s)[0]:
                os.kill(self.pids[child], signal.SIGKILL)
        finally:
            os.close(process)


def answer(children: Children, job: Spec) -> Spec:
    """Do one job."""
    match job["do"]:
        case "start":
            child = children.fork(job["pass"])
            if (delay_s := job["pass"].get("kill_after_s")) is not None:
                children.kill_later(child, delay_s)
            return children.wait(child)
        case "resume":
            os.kill(children.pids[job["child"]], signal.SIGCONT)
            return children.wait(job["child"])
        case "together":
            gate, opener = os.pipe()
            started = [children.fork(spec, gate) for spec in job["passes"]]
            os.write(opener, b"x" * len(started))
            os.close(gate)
            os.close(opener)
            return {"ended": [children.wait(child) for child in started]}
        case other:
            raise ValueError(other)


def main() -> None:
    """Answer until stdin ends. What a pass prints goes nowhere: stdout is for answers."""
    startup.keep_pandas_out()  # as `ordertrail` does; otherwise each child would import it for its first Arrow array
    out = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    children = Children()
    for line in sys.stdin:
        out.write(json.dumps(answer(children, json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
