"""Spark that does not begin says why, and what to do, in a few lines; in a process of its own, where none runs yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.spark

IVY = """<ivysettings>
  <settings defaultResolver="here"/>
  <resolvers><filesystem name="here"><artifact pattern="{0}/[artifact]-[revision].[ext]"/></filesystem></resolvers>
</ivysettings>
"""
CONFIG = """[pipeline]
source = "source"
archive = "archive"
warehouse = "warehouse"
engine = "spark"

[spark]
master = "local[1]"

[spark.conf]
"spark.jars.packages" = "org.example:none_2.13:1.0"
"spark.jars.ivySettings" = "{0}/ivy.xml"
"spark.jars.ivy" = "{0}/ivy"
"""


def test_jars_that_cannot_be_fetched_are_named_with_the_way_out(tmp_path: Path, spark_runs: None) -> None:
    (tmp_path / "ivy.xml").write_text(IVY.format(tmp_path))
    (tmp_path / "ordertrail.toml").write_text(CONFIG.format(tmp_path))
    (tmp_path / "source").mkdir()
    done = subprocess.run([sys.executable, "-m", "ordertrail", "run"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "error E_USAGE: Spark does not begin: it cannot fetch org.example:none_2.13:1.0" in done.stderr
    assert "spark.jars" in done.stderr
    assert len(done.stderr.splitlines()) <= 3, done.stderr
