"""The command line as a process: streams, signals, what it imports."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ordertrail.startup import LONG_LIFE, SHORT_LIFE

CSV = (
    "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
    "0001,1Z1,2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n"
)
SOURCES = Path(__file__).resolve().parents[2] / "src"
HEAVY = {"duckdb", "pyarrow", "msgspec", "rich", "deltalake", "structlog", "numpy", "ordertrail.config"}


def environment(**more: str) -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("ORDERTRAIL_", "NO_COLOR"))}
    return keep | {"PYTHONPATH": str(SOURCES), "ORDERTRAIL_PIPELINE_SETTLE_S": "0", **more}


def ordertrail(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ordertrail", *words],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `init` leaves. Only to copy."""
    folder = tmp_path_factory.mktemp("begun")
    assert ordertrail(folder, "init").returncode == 0
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    (tmp_path / "data/source/a.csv").write_text(CSV)
    return tmp_path


def test_a_pass_imports_nothing_that_it_only_seems_to_need(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ordertrail", "run"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert {"duckdb", "numpy", "msgspec"} <= imported
    assert not imported & {"numpy.ma", "structlog", "opentelemetry", "ordertrail.cli.traces"}
    # `pyarrow.compute` alone takes as long as sixty of our modules.
    assert not imported & {"pyarrow.compute", "urllib.request", "ordertrail.look.status", "ordertrail.alerts"}
    corrections = {f"ordertrail.engines.{name}" for name in ("local.correct", "local.convert", "embedded.migrate")}
    assert not imported & {*corrections, "ordertrail.rules.migration"}


def test_clouds_are_kept_out_of_a_process() -> None:
    code = (
        "import sys\n"
        "from ordertrail.startup import keep_pandas_out\n"
        "keep_pandas_out()\n"
        "import pyarrow.parquet\n"
        "print(sorted({'pandas', 'pyarrow._s3fs', 'pyarrow._gcsfs'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("word", "every"), [("status", SHORT_LIFE), ("watch", LONG_LIFE)])
def test_a_service_collects_its_garbage_sooner_than_a_command(folder: Path, word: str, every: int) -> None:
    code = (
        "import gc, os\n"
        "import ordertrail.watch.service as service\n"
        "from ordertrail.__main__ import start\n"
        "leave = os._exit\n"
        "os._exit = lambda code: leave(print(gc.get_threshold()[0], flush=True) or code)\n"
        "service.watch = lambda config, **parts: 0\n"
        "start()\n"
    )
    command = [sys.executable, "-c", code, word]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(every)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["nonsense"], ["completion", "bash"]])
def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path: Path, words: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['ordertrail', *{words!r}]\n"
        "import ordertrail.cli\n"
        "try:\n    ordertrail.cli.main()\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    # Only the config reads the environment, and an error asks it for the form of its line.
    needed = ["msgspec", "ordertrail.config"] if words == ["nonsense"] else []
    assert done.stderr.splitlines()[-1] == f"HEAVY {needed}"


def test_the_public_package_imports_nothing(tmp_path: Path) -> None:
    code = f"import ordertrail, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_json_is_alone_on_stdout_and_logs_are_on_stderr(folder: Path) -> None:
    done = ordertrail(folder, "run", "--json", ORDERTRAIL_LOG="info")
    assert done.returncode == 0
    assert json.loads(done.stdout)["rows"]["inserted"] == 1
    assert "delivery" in done.stderr
    assert "\x1b" not in done.stderr
    quiet = ordertrail(folder, "run", "--json")
    assert quiet.stderr == ""
    status = ordertrail(folder, "status", "--json", "--debug")
    assert json.loads(status.stdout)["target_rows"] == 1


def test_every_line_on_stderr_is_json_where_that_is_asked_for(folder: Path) -> None:
    """Names that try to break the line, a file that cannot be read, and a command that fails."""
    source = folder / "data" / "source"
    hostile = os.fsencode(source) + b'/new\nline "\xff\x1b[31m\xe2\x80\xae.csv'
    Path(os.fsdecode(hostile)).write_text("no,such,header\n")
    asked = {"ORDERTRAIL_LOG_FORMAT": "json", "ORDERTRAIL_LOG": "debug"}
    done = ordertrail(folder, "run", **asked)
    assert done.returncode == 3
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert "delivery" in {one["event"] for one in told}
    assert any("new" in str(one.get("file")) for one in told)
    assert all(one["time"].endswith("Z") and one["level"] in ("debug", "info", "warning", "error") for one in told)
    for words in (["query", "SELECT nonsense"], ["run", "--nonsense"], ["run", "--config", "no.toml"]):
        done = ordertrail(folder, *words, **asked)
        assert done.returncode in (1, 2)
        assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["the command failed"]
    assert ordertrail(folder, "run", ORDERTRAIL_LOG_FORMAT="xml").returncode == 2


def test_every_line_of_the_service_is_json_where_that_is_asked_for(folder: Path) -> None:
    (folder / "data/source/broken.csv").write_text("no,such,header\n")
    service = subprocess.Popen(
        [sys.executable, "-m", "ordertrail", "watch", "--interval", "0.2"],
        cwd=folder,
        env=environment(ORDERTRAIL_LOG_FORMAT="json"),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert service.stderr is not None
    try:
        told = []
        while not told or told[-1]["event"] != "a delivery needs somebody":
            told.append(json.loads(service.stderr.readline()))
        service.send_signal(signal.SIGTERM)
        told += [json.loads(line) for line in service.stderr]
        assert service.wait(60) == 0
    finally:
        service.kill()
        service.stderr.close()
        service.wait()
    assert told[0]["event"] == "watching"
    assert "stopping" in {one["event"] for one in told}
    (broken,) = [one for one in told if one["event"] == "a delivery needs somebody"]
    assert (broken["level"], broken["file"], broken["state"]) == ("warning", "broken.csv", "quarantined")


def test_a_bad_log_level_is_a_config_error(folder: Path) -> None:
    done = ordertrail(folder, "run", ORDERTRAIL_LOG="loud")
    assert done.returncode == 2
    assert "ORDERTRAIL_LOG" in done.stderr


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    ordertrail(folder, "run")
    for words in (["query", "SELECT repeat('x', 100) FROM range(9000)"], ["rejects", "--csv"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "ordertrail", *words],
            cwd=folder, env=environment(), stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60,
        )  # fmt: skip
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b""), words


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_said(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ordertrail", "run"],
            cwd=folder, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error E_STORAGE")
    assert len(done.stderr.splitlines()) == 2


def test_output_that_is_not_utf_8_does_not_fail(folder: Path) -> None:
    (folder / "data/source/Müller.csv").write_text(CSV.replace("1 Elm St", "Königstraße"))
    done = ordertrail(folder, "run", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    done = ordertrail(folder, "deliveries", "--json", PYTHONIOENCODING="ascii")
    assert "Müller.csv" in {row["file_name"] for row in json.loads(done.stdout)["rows"]}


def test_ctrl_c_ends_quietly(folder: Path) -> None:
    code = (
        "import signal, os\n"
        "import ordertrail.pipeline as p\n"
        "p.Pipeline.run = lambda self: os.kill(os.getpid(), signal.SIGINT)\n"
        "from ordertrail.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run"], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr.strip() == ""


def test_ctrl_c_ends_a_query_that_would_run_for_ever(folder: Path, tmp_path: Path) -> None:
    ordertrail(folder, "run")
    code = (
        "import signal, os\n"
        "import ordertrail.look.query as q\n"
        "judge = q.require_reading\n"
        "q.require_reading = lambda *given: (judge(*given), os.kill(os.getpid(), signal.SIGINT))\n"
        "from ordertrail.cli import main\nmain()\n"
    )
    sql = "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT count(*) FROM t"
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, "query", sql, "--timeout", "0"],
        cwd=folder, env=environment(TMPDIR=str(tmp_path / "tmp")), capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_query_that_cannot_be_stopped_ends_with_the_process(folder: Path) -> None:
    ordertrail(folder, "run")
    sql = "SELECT levenshtein(repeat('ab', 900000 + i::INT), repeat('ba', 900000)) FROM range(9) t(i)"
    done = ordertrail(folder, "query", sql, "--timeout", "0.2")
    assert done.returncode == 2
    assert "longer than 0.2 s" in done.stderr


def test_on_a_terminal_there_is_colour_and_it_can_be_turned_off(folder: Path) -> None:
    ordertrail(folder, "run")
    assert "\x1b[32m" in on_terminal(folder, "deliveries", TERM="xterm")
    plain = on_terminal(folder, "deliveries", TERM="xterm", NO_COLOR="1")
    assert "a.csv" in plain
    assert "\x1b[32m" not in plain


def on_terminal(folder: Path, *words: str, **more: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ordertrail", *words],
        cwd=folder, env=environment(**more), stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert process.wait(60) == 0
    return text.decode()


def test_watch_loads_what_comes_and_stops_when_told(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ordertrail", "watch", "--interval", "0.2", "--json"],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            first = json.loads(process.stdout.readline())
            (folder / "data/source/b.csv").write_text(CSV.replace("1Z1", "1Z2"))
            second = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGTERM)
            log = process.stderr.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert [d["file_name"] for d in (*first["deliveries"], *second["deliveries"])] == ["a.csv", "b.csv"]
    assert log.count("delivery ") == 2
