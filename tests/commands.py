"""`ordertrail` as a user calls it: commands in a folder, and the pages as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ordertrail.cli import cli
from tests.harness import without_fsync

Call = Callable[..., Result]
"""Calls a command by its words; with `code`, fails when it ends with another one."""


def call_in(folder: Path, monkeypatch: pytest.MonkeyPatch, more: str | None = "") -> Call:
    """Calls of commands in a folder whose files count as complete at once.

    Args:
        folder: Becomes the working folder until the test is over; made where it is missing.
        monkeypatch: Of the test.
        more: Further text of the config that `init` writes; None calls no `init`.
    """
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ORDERTRAIL_PIPELINE_SETTLE_S", "0")

    def call(*words: str, code: int | None = None) -> Result:
        with without_fsync():
            result = CliRunner().invoke(cli, list(words))
        assert code in (None, result.exit_code), result.output
        return result

    if more is not None:
        call("init", code=0)
        with Path("ordertrail.toml").open("a", encoding="utf-8") as config:
            config.write(more)
    return call


@contextmanager
def serving(*words: str, folder: Path | None = None, **environ: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`ordertrail serve` on a free port: the process, and the address of the pages without a slash at the end.

    It must end well when the block is left.

    Args:
        words: Further words of the command.
        folder: Where it runs; None is here.
        environ: Further variables of its environment.
    """
    command = [sys.executable, "-m", "ordertrail", "serve", "--port", "0", "--json", *words]
    env = {**os.environ, **environ}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())["url"].rstrip("/")
        finally:
            process.terminate()
            try:
                assert process.wait(10) == 0
            finally:
                process.kill()  # else leaving would wait for ever
