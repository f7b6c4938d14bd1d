"""The runner for notebooks: does it do as Databricks does?"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from tests.notebooks import Cell, Dbutils, JobRun, cells


def notebook(folder: Path, *texts: str, name: str = "one") -> Path:
    file = folder / f"{name}.py"
    file.write_text("# Databricks notebook source\n" + "\n\n# COMMAND ----------\n\n".join(texts) + "\n")
    return file


# --- cells -------------------------------------------------------------------------------------------------------


def test_a_notebook_is_split_into_its_cells() -> None:
    source = """\
# Databricks notebook source
# MAGIC %md
# MAGIC # Title
# MAGIC
# MAGIC Words.

# COMMAND ----------

# a comment
x = 1

# COMMAND ----------

# DBTITLE 1,Look
# MAGIC %sql SELECT 1
# MAGIC   AS one

# COMMAND ----------
"""
    assert cells(source) == [
        Cell("md", "# Title\n\nWords.", 2),
        Cell("python", "\n# a comment\nx = 1\n", 8),
        Cell("sql", "SELECT 1\n  AS one", 13),
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\n", "the first line of a notebook"),
        ("", "the first line of a notebook"),
        ("# Databricks notebook source\n# MAGIC %md\nx = 1\n", "line 2: a cell is magic as a whole"),
        ("# Databricks notebook source\n# MAGIC words\n", "line 2: a magic cell begins with its language"),
    ],
)
def test_what_is_no_notebook_is_refused(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cells(source)


# --- running -----------------------------------------------------------------------------------------------------


def test_cells_share_a_namespace_and_exit_ends_the_notebook(tmp_path: Path) -> None:
    file = notebook(
        tmp_path,
        "# MAGIC %md words",
        "import os\nx = [os.getcwd()]",
        "try:\n    dbutils.notebook.exit(x[0])\nexcept Exception:\n    raise AssertionError('caught')",
        "raise AssertionError('a cell after the exit')",
    )
    before = Path.cwd()
    assert JobRun().run("one", file) == str(tmp_path)
    assert Path.cwd() == before


def test_a_notebook_without_exit_gives_nothing(tmp_path: Path) -> None:
    assert JobRun().run("one", notebook(tmp_path, "x = 1")) is None


def test_an_error_leaves_with_the_line_of_the_file(tmp_path: Path) -> None:
    file = notebook(tmp_path, "# MAGIC %md words", "x = 1\n1 / 0")
    before = Path.cwd()
    with pytest.raises(ZeroDivisionError) as failed:
        JobRun().run("one", file)
    (frame,) = [f for f in traceback.extract_tb(failed.tb) if f.filename == str(file)]
    assert file.read_text().splitlines()[(frame.lineno or 0) - 1] == "1 / 0"
    assert Path.cwd() == before


def test_sql_goes_to_the_session_and_other_magic_is_refused(tmp_path: Path) -> None:
    class Session:
        def sql(self, text: str) -> str:
            return f"rows of {text}"

    file = notebook(tmp_path, "# MAGIC %sql SELECT 1", "dbutils.notebook.exit(_sqldf)")
    assert JobRun().run("one", file, Session()) == "rows of SELECT 1"
    with pytest.raises(ValueError, match="line 2: this runner has no %sh"):
        JobRun().run("one", notebook(tmp_path, "# MAGIC %sh ls"))


def test_widgets_have_the_parameters_of_the_job_and_else_their_default(tmp_path: Path) -> None:
    file = notebook(
        tmp_path,
        "dbutils.widgets.text('a', 'default of a')\ndbutils.widgets.text('b', 'default of b')",
        "dbutils.notebook.exit(dbutils.widgets.get('a') + ', ' + dbutils.widgets.getAll()['b'])",
    )
    assert JobRun({"a": "given", "c": "more"}).run("one", file) == "given, default of b"
    with pytest.raises(ValueError, match="no input widget named z"):
        JobRun().run("one", notebook(tmp_path, "dbutils.widgets.get('z')"))


def test_task_values_are_there_for_the_tasks_of_the_same_run(tmp_path: Path) -> None:
    first = notebook(tmp_path, "dbutils.jobs.taskValues.set(key='rows', value=[1, 'two', {'a': None}])", name="first")
    get = "dbutils.jobs.taskValues.get(taskKey='first', key='rows', default='none', debugValue='by hand')"
    second = notebook(tmp_path, f"dbutils.notebook.exit({get})", name="second")
    run = JobRun()
    run.run("first", first)
    assert run.run("second", second) == "[1, 'two', {'a': None}]"
    assert JobRun().run("second", second) == "none"


@pytest.mark.parametrize("value", ["None", "'x' * 50_000", "{1, 2}"])
def test_a_task_value_that_databricks_refuses_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError)):
        JobRun().run("one", notebook(tmp_path, f"dbutils.jobs.taskValues.set(key='k', value={value})"))


def test_a_task_value_that_nobody_set_needs_a_default() -> None:
    with pytest.raises(ValueError, match="has set no value"):
        Dbutils(JobRun(), "two").jobs.taskValues.get("one", "k")


# --- files -------------------------------------------------------------------------------------------------------


def test_fs_works_on_the_folder_of_the_volume(tmp_path: Path) -> None:
    fs = Dbutils(JobRun(root=tmp_path), "one").fs
    volume = "/Volumes/a/b/c"
    assert fs.mkdirs(f"{volume}/source")
    real = tmp_path / "Volumes/a/b/c"
    (real / "source" / "x.csv").write_text("a,b\n")
    os.utime(real / "source" / "x.csv", (1.5, 1.5))
    (info,) = fs.ls(f"dbfs:{volume}/source")
    assert info == ("dbfs:/Volumes/a/b/c/source/x.csv", "x.csv", 4, 1500)
    assert fs.head(f"{volume}/source/x.csv", 2) == "a,"
    assert fs.cp(f"{volume}/source/x.csv", f"{volume}/source/y.csv")
    assert fs.mv(f"{volume}/source/x.csv", f"{volume}/z.csv")
    assert [one.name for one in fs.ls(volume)] == ["source/", "z.csv"]
    assert fs.cp(f"{volume}/source", f"{volume}/copy", recurse=True)
    assert fs.rm(f"{volume}/source", recurse=True)
    assert not fs.rm(f"{volume}/source")
    assert sorted(str(p.relative_to(real)) for p in real.rglob("*")) == ["copy", "copy/y.csv", "z.csv"]


def test_fs_refuses_what_databricks_refuses(tmp_path: Path) -> None:
    fs = Dbutils(JobRun(root=tmp_path), "one").fs
    fs.mkdirs("/Volumes/a")
    with pytest.raises(FileNotFoundError):
        fs.ls("/Volumes/none")
    with pytest.raises(IsADirectoryError):
        fs.rm("/Volumes/a")
    with pytest.raises(IsADirectoryError):
        fs.mv("/Volumes/a", "/Volumes/b")
    with pytest.raises(ValueError, match="is no path"):
        fs.ls("Volumes/a")
