"""Mutation testing: does a test fail when the code has a small fault? `python -m tests.mutation --help` says how.

Each mutant runs in a fork of this process, which has loaded the libraries and none of ordertrail: the mutated module is
imported from memory, so the files stay as they are. The operators for Python are cosmic-ray's, those for SQL ours.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType

import pytest

from tests.mutation.guards import GUARDS
from tests.mutation.mutants import Mutant, mutants, sample

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "ordertrail"
REASONS = Path(__file__).with_name("reasons.toml")
MEMORY = Path("/dev/shm")
LIBRARIES = ("deltalake", "duckdb", "hypothesis", "numpy", "polars", "pyarrow.dataset", "pyarrow.parquet", "msgspec")
OPTIONS = (
    *("-x", "-q", "-m", "not slow and not spark", "-k", "not [copies", "-W", "ignore:Module already imported"),
    *(f"-pno:{plugin}" for plugin in ("randomly", "cacheprovider", "xdist")),
)


class Mutated(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Finds one module and loads other source than stands in its file."""

    def __init__(self, path: Path, source: str) -> None:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        super().__init__(".".join(parts), str(path))
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        return (
            importlib.util.spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None
        )

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


def in_a_fork(work: Callable[[], int], at_most_s: float) -> int | None:
    """What `work` returns in a process of its own, with what it started; None when it takes longer than that."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        quiet = os.open(os.environ.get("MUTATION_OUTPUT", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        code = 70
        try:
            code = work()
        except BaseException:  # noqa: BLE001 - nothing of this process may go on in its fork
            traceback.print_exc()
        finally:
            os._exit(code)
    end = time.monotonic() + at_most_s
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def run(path: Path, source: str, tests: Sequence[str], at_most_s: float) -> int | None:
    """How the tests end when this is the source of a module: 0 when all pass, None when time is up."""
    folder = tempfile.mkdtemp(prefix="mutation-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)

    def work() -> int:
        sys.meta_path.insert(0, Mutated(path, source))
        return int(pytest.main([*OPTIONS, f"--basetemp={folder}/t", *tests]))

    try:
        return in_a_fork(work, at_most_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def reasons() -> dict[tuple[str, str, str], str]:
    """Why a mutant may live, by its module, what was there and what is there now."""
    if not REASONS.exists():
        return {}
    entries = tomllib.loads(REASONS.read_text(encoding="utf-8"))["survivor"]
    return {(entry["module"], entry["was"], entry["now"]): entry["reason"] for entry in entries}


def look_at(module: str, chosen: Sequence[Mutant], known: dict[tuple[str, str, str], str]) -> dict[str, int]:
    """Run the mutants of a module, print those that live, and count."""
    path, tests = PACKAGE / module, GUARDS[module]
    start = time.monotonic()
    if (code := run(path, path.read_text(encoding="utf-8"), tests, 600)) != 0:
        sys.exit(f"{module}: its tests do not pass as it stands (exit {code})")
    at_most_s = 10 + 4 * (time.monotonic() - start)
    counts = {"mutants": len(chosen), "killed": 0, "excused": 0, "lived": 0}
    for mutant in chosen:
        if run(path, mutant.source, tests, at_most_s) != 0:
            counts["killed"] += 1
        elif (module, mutant.was, mutant.now) in known:
            counts["excused"] += 1
        else:
            counts["lived"] += 1
            print(f"{module}:{mutant.line} lives\n  was {mutant.was}\n  now {mutant.now}", flush=True)
    return counts


def main() -> int:
    """Run mutants and say how many lived; 1 when one lived without a reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="below src/ordertrail, e.g. rules/outcomes.py; all that are guarded")
    parser.add_argument("--sample", type=int, default=40, metavar="N", help="at most so many Python mutants a module")
    parser.add_argument("--sql-sample", type=int, default=60, metavar="N", help="at most so many SQL mutants a module")
    parser.add_argument("--seed", default="1", help="another seed takes another sample")
    parser.add_argument("--list", action="store_true", help="only print the mutants")
    options = parser.parse_args()
    os.environ["HYPOTHESIS_PROFILE"] = "mutation"
    os.chdir(ROOT)
    for library in LIBRARIES:
        importlib.import_module(library)
    known, totals = reasons(), {}
    for module in options.modules or GUARDS:
        every = mutants((PACKAGE / module).read_text(encoding="utf-8"))
        chosen = sample(every, "sql", options.sql_sample, f"{options.seed} {module}")
        chosen += sample(every, "python", options.sample, f"{options.seed} {module}")
        if options.list:
            print(*(f"{module}:{m.line} {m.kind}: {m.was}  ->  {m.now}" for m in chosen), sep="\n")
            continue
        totals[module] = {"of": len(every)} | look_at(module, chosen, known)
        print(json.dumps({module: totals[module]}), flush=True)
    return int(any(counts["lived"] for counts in totals.values()))


if __name__ == "__main__":
    sys.exit(main())
