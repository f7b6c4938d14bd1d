"""A runner for notebooks in Databricks' source format, with a `dbutils` that works on real folders.

What it does as Databricks does: cells run one after the other in one namespace, with the notebook's folder as working
folder; a value that `dbutils.notebook.exit` is given ends the notebook; widgets have the job's parameters; task values
are there for the tasks of the same run. For `dbutils.fs`, `/Volumes/...` is a folder of that name below `root`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADER = "# Databricks notebook source"
SEPARATOR = "# COMMAND ----------"
MAGIC = "# MAGIC"
TITLE = "# DBTITLE "
MAX_VALUE_BYTES = 48 * 1024
"""How large a task value may be, as JSON."""

FileInfo = namedtuple("FileInfo", ["path", "name", "size", "modificationTime"])


class NotebookExit(BaseException):
    """How `dbutils.notebook.exit` ends a notebook: no `except Exception` in a cell stops it."""

    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: `language` is `python`, `md`, `sql`, `sh` ..., `line` the first line of its text in the file."""

    language: str
    text: str
    line: int


def cells(source: str) -> list[Cell]:
    """Split a notebook.

    Raises:
        ValueError: It is no notebook in source format, or a cell mixes magic with code.
    """
    lines = source.splitlines()
    if not lines or lines[0].strip() != HEADER:
        raise ValueError(f"the first line of a notebook is {HEADER!r}")
    found: list[Cell] = []
    begin = 1
    for number, line in enumerate([*lines, SEPARATOR]):
        if number == 0 or line.strip() != SEPARATOR:
            continue
        cell = _cell(lines[begin:number], begin + 1)
        found += [cell] if cell is not None else []
        begin = number + 1
    return found


def _cell(lines: list[str], first: int) -> Cell | None:
    kept = [line for line in lines if line.strip() and not line.startswith(TITLE)]
    if not kept:
        return None
    magic = [line.startswith(MAGIC) for line in kept]
    if not any(magic):
        # Blank lines before, so that a traceback names the line of the file.
        return Cell("python", "\n".join(lines), first)
    if not all(magic):
        raise ValueError(f"line {first}: a cell is magic as a whole or not at all")
    text = [line.removeprefix(MAGIC).removeprefix(" ") for line in kept]
    language, _, rest = text[0].removeprefix("%").partition(" ")
    if not text[0].startswith("%"):
        raise ValueError(f"line {first}: a magic cell begins with its language, such as %md")
    return Cell(language, "\n".join([rest, *text[1:]]).strip(), first)


@dataclass(slots=True)
class JobRun:
    """One run of a job: what its tasks share.

    Attributes:
        parameters: Of the job.
        values: Task values by task and key.
        root: Where `/Volumes` of `dbutils.fs` is.
    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    values: dict[tuple[str, str], object] = field(default_factory=dict)
    root: Path = Path("/")

    def run(self, task_key: str, notebook: Path, spark: object = None) -> str | None:
        """Run a task's notebook; what it exits with, None when it runs to its end.

        Raises:
            Exception: What a cell raised: the task has failed.
        """
        dbutils = Dbutils(self, task_key)
        namespace: dict[str, Any] = {"__name__": "__main__", "spark": spark, "dbutils": dbutils}
        with _working_folder(notebook.parent):
            for cell in cells(notebook.read_text(encoding="utf-8")):
                if cell.language == "md":
                    continue
                if cell.language == "sql":
                    namespace["_sqldf"] = spark.sql(cell.text)  # type: ignore[attr-defined]
                    continue
                if cell.language != "python":
                    raise ValueError(f"line {cell.line}: this runner has no %{cell.language}")
                code = compile("\n" * (cell.line - 1) + cell.text, str(notebook), "exec")
                try:
                    exec(code, namespace)
                except NotebookExit as end:
                    return end.value
        return None


@contextmanager
def _working_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# --- dbutils -----------------------------------------------------------------------------------------------------


class Dbutils:
    """`dbutils` of one task."""

    def __init__(self, run: JobRun, task_key: str) -> None:
        self.widgets = _Widgets(run.parameters)
        self.jobs = _Jobs(_TaskValues(run.values, task_key))
        self.notebook = _Notebook()
        self.fs = Fs(run.root)


class _Widgets:
    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._given = dict(parameters)
        self._values: dict[str, str] = dict(parameters)

    def text(self, name: str, defaultValue: str, label: str | None = None) -> None:
        self._values.setdefault(name, defaultValue)

    def get(self, name: str) -> str:
        if name not in self._values:
            raise ValueError(f"InputWidgetNotDefined: no input widget named {name} is defined")
        return self._values[name]

    def getAll(self) -> dict[str, str]:
        return dict(self._values)


class _Jobs:
    def __init__(self, values: _TaskValues) -> None:
        self.taskValues = values


class _TaskValues:
    """As in a job: JSON values of at most 48 KiB, none of them null."""

    def __init__(self, values: dict[tuple[str, str], object], task_key: str) -> None:
        self._values = values
        self._task_key = task_key

    def set(self, key: str, value: object) -> None:
        text = json.dumps(value)
        if value is None:
            raise ValueError(f"the task value {key} is None")
        if len(text.encode()) > MAX_VALUE_BYTES:
            raise ValueError(f"the task value {key} is larger than 48 KiB")
        self._values[self._task_key, key] = json.loads(text)

    def get(self, taskKey: str, key: str, default: object = None, debugValue: object = None) -> object:
        if (taskKey, key) in self._values:
            return self._values[taskKey, key]
        if default is None:
            raise ValueError(f"task {taskKey} has set no value {key}")
        return default


class _Notebook:
    def exit(self, value: str) -> None:
        raise NotebookExit(str(value))


class Fs:
    """`dbutils.fs`, for paths as `/Volumes/...` and `dbfs:/Volumes/...`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def ls(self, path: str) -> list[FileInfo]:
        """The entries of a folder, folders with a slash at the end of their names; or the file itself."""
        place = self._place(path)
        entries = sorted(place.iterdir()) if place.is_dir() else [place]
        if not place.exists():
            raise FileNotFoundError(path)
        return [self._info(one) for one in entries]

    def mv(self, source: str, to: str, recurse: bool = False) -> bool:
        """Move a file, or with `recurse` a folder."""
        self._one_file(source, recurse)
        shutil.move(self._place(source), self._place(to))
        return True

    def cp(self, source: str, to: str, recurse: bool = False) -> bool:
        """Copy a file, or with `recurse` a folder."""
        self._one_file(source, recurse)
        if self._place(source).is_dir():
            shutil.copytree(self._place(source), self._place(to), dirs_exist_ok=True)
        else:
            shutil.copyfile(self._place(source), self._place(to))
        return True

    def rm(self, path: str, recurse: bool = False) -> bool:
        """Remove a file, or with `recurse` a folder; whether it was there."""
        place = self._place(path)
        if not place.exists():
            return False
        self._one_file(path, recurse)
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
        return True

    def mkdirs(self, path: str) -> bool:
        """Make a folder and those above it."""
        self._place(path).mkdir(parents=True, exist_ok=True)
        return True

    def head(self, path: str, maxBytes: int = 65536) -> str:
        """The beginning of a file."""
        with self._place(path).open("rb") as file:
            return file.read(maxBytes).decode()

    def _one_file(self, path: str, recurse: bool) -> None:
        if self._place(path).is_dir() and not recurse:
            raise IsADirectoryError(f"{path} is a folder: set recurse")

    def _place(self, path: str) -> Path:
        plain = path.removeprefix("dbfs:")
        if not plain.startswith("/"):
            raise ValueError(f"{path} is no path as dbutils.fs takes it")
        return self._root / plain.lstrip("/")

    def _info(self, place: Path) -> FileInfo:
        below = f"dbfs:/{place.relative_to(self._root)}"
        end = "/" if place.is_dir() else ""
        stat = place.stat()
        size = 0 if place.is_dir() else stat.st_size
        return FileInfo(below + end, place.name + end, size, int(stat.st_mtime * 1000))
