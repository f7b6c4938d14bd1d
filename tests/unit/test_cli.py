"""The parts of the command line that need no tables."""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner, Result

from ordertrail.begin import doctor
from ordertrail.cli import COMMANDS, cli, errors
from ordertrail.cli.frame import Frame, point_in_time
from ordertrail.cli.log_events import text_line
from ordertrail.cli.render import cell, outcomes, plural
from ordertrail.cli.screen import Column, Screen, json_text, shown
from ordertrail.errors import ForeignChangeError, OrdertrailError, PassRunningError, QueryError, StorageError
from ordertrail.markers import write_marker
from ordertrail.model import RowCounts
from ordertrail.rules.belonging import Marker, Owner

ESC = "\x1b[31mred\x1b[0m\x9b1m"


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


# --- help, usage -------------------------------------------------------------------------------------------------


def test_help_lists_every_command_and_fits_80_columns() -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert all(f"  {name} " in result.output for name in COMMANDS)
    assert "..." not in result.output.partition("Begin:")[2], "a summary was cut"
    assert max(map(len, result.output.splitlines())) <= 80


def all_calls() -> list[tuple[str, ...]]:
    """The words of every command; of a group those inside it."""
    found = [(name, cli.get_command(click.Context(cli), name)) for name in COMMANDS]
    return [
        words
        for name, one in found
        for words in ([(name, inner) for inner in one.commands] if isinstance(one, click.Group) else [(name,)])
    ]


@pytest.mark.parametrize("words", all_calls(), ids=" ".join)
def test_every_command_takes_the_common_options(words: tuple[str, ...]) -> None:
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert all(option in result.output for option in ("--config FILE", "--json", "--debug"))


def test_version() -> None:
    assert call("--version").output.startswith("ordertrail 0.")


def test_a_wrong_command_names_the_nearest() -> None:
    result = call("stats")
    assert result.exit_code == 2
    assert "did you mean status?" in result.stderr
    assert result.stdout == ""


def test_wrong_usage_is_json_too() -> None:
    result = call("rejects", "--since", "yesterday", "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "E_USAGE"
    assert "yesterday" in error["message"]
    assert "ordertrail rejects --help" in error["hint"]
    assert result.stderr == ""


def test_json_after_two_dashes_is_no_option() -> None:
    result = call("plan", "--nonsense", "--", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "E_USAGE" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_the_program(shell: str) -> None:
    result = call("completion", shell)
    assert result.exit_code == 0
    assert "_ORDERTRAIL_COMPLETE" in result.stdout
    assert json.loads(call("completion", shell, "--json").stdout)["script"] == result.stdout


# --- times -------------------------------------------------------------------------------------------------------


def since(text: str) -> datetime | None:
    command = click.Command("x")
    return point_in_time(click.Context(command), click.Option(["--since"]), text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        (" 2026-11-23T08:30 ", datetime(2026, 11, 23, 8, 30, tzinfo=UTC)),
        ("2026-11-23T08:30:00+02:00", datetime(2026, 11, 23, 6, 30, tzinfo=UTC)),
    ],
)
def test_since_takes_dates_and_times(text: str, moment: datetime) -> None:
    assert since(text) == moment


def test_since_takes_how_long_ago() -> None:
    found = since("36h")
    assert found is not None
    assert timedelta(hours=36) <= datetime.now(UTC) - found < timedelta(hours=36, minutes=1)


@pytest.mark.parametrize("text", ["", "7", "7y", "2026-02-30", "999999w"])
def test_since_refuses_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no time"):
        since(text)


# --- what reaches a terminal -------------------------------------------------------------------------------------


def test_nothing_a_terminal_obeys_gets_through() -> None:
    assert shown(ESC) == "\\x1b[31mred\\x1b[0m\\u009b1m"
    assert shown("a\nb\t\u202ec\udc80") == "a\\nb\\t\\u202ec\\udc80"
    assert shown("Königstraße ✓") == "Königstraße ✓"


def test_json_is_safe_on_a_terminal_and_reads_back() -> None:
    text = json_text({"name": f"{ESC}\u202e", "other": "ß"})
    assert not set(text) & {"\x1b", "\x9b", "\u202e"}
    assert json.loads(text)["name"] == f"{ESC}\u202e"


COLUMNS = (Column("file"), Column("rows", right=True), Column("why", detail=True))


def test_a_pipe_gets_plain_columns_one_line_a_row() -> None:
    screen = Screen(terminal=False)
    screen.table(COLUMNS, [("a.csv", "5", "because"), (ESC, "1,000", "[bold]x[/bold]")])
    lines = screen.text.splitlines()
    assert lines[0].split() == ["file", "rows", "why"]
    assert lines[1].endswith("    5  because")
    assert len(lines) == 3
    assert "[bold]x[/bold]" in lines[2]
    assert screen.text.isascii()
    assert "\x1b" not in screen.text


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize("many", [1, 12])
def test_a_terminal_never_gets_a_line_too_wide_nor_markup(width: int, many: int) -> None:
    screen = Screen(terminal=True, width=width, colour=False)
    columns = [Column(f"c{n}") for n in range(many)]
    screen.table([*columns, Column("why", detail=True)], [[*(["[red]value"] * many), f"{ESC} and more words " * 3]])
    assert "\x1b" not in screen.text
    assert "[red]value" in screen.text.replace("\n", "") or width == 20
    if many == 1:
        assert max(map(len, screen.text.splitlines())) <= width


def test_colour_is_there_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    plain = Screen(terminal=True, width=80, colour=False)
    plain.table((Column("state"),), [("loaded",)], {"loaded": "green"})
    assert "\x1b" not in plain.text
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = Screen(terminal=True, width=80)
    screen.table((Column("state"),), [("loaded",)], {"loaded": "green"})
    assert "\x1b[32m" not in screen.text


def test_cells_and_words() -> None:
    assert cell(None) == ""
    assert cell(None, "NULL") == "NULL"
    assert cell(datetime(2026, 11, 23, 8, 0, 0, 5, tzinfo=UTC)) == "2026-11-23 08:00:00.000005"
    assert cell(True) == "true"
    assert cell("0012") == "0012"
    assert outcomes(RowCounts(3, inserted=1, rejected=2)) == "1 inserted, 2 rejected"
    assert plural(1, "delivery") == "1 delivery"
    assert plural(2000, "delivery") == "2,000 deliveries"


def test_on_a_narrow_terminal_cells_are_folded_and_details_have_the_whole_width() -> None:
    screen = Screen(terminal=True, width=40, colour=False)
    columns = (Column("file"), Column("state"), Column("rows", right=True), Column("why", detail=True))
    screen.table(columns, [("a_very_long_name_of_a_file.csv", "loaded", "12", "one two three four five six seven")])
    lines = [line.rstrip() for line in click.unstyle(screen.text).splitlines()]
    assert max(map(len, lines)) <= 40
    assert lines[2].split() == ["a_very_long_name_of_a_file", "loaded", "12"]
    assert lines[3:] == [".csv", "    one two three four five six seven"]


def test_a_terminal_that_is_not_utf_8_gets_no_drawn_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ordertrail.cli.screen._prints_unicode", lambda: False)
    screen = Screen(terminal=True, width=60, colour=False)
    screen.table((Column("a"), Column("b", detail=True), Column("c", detail=True)), [("1", "2", "3")])
    assert screen.text.isascii()
    assert "2 - 3" in screen.text


def test_one_very_long_cell_does_not_push_the_others_out_of_sight() -> None:
    screen = Screen(terminal=False)
    screen.table((Column("found"), Column("what to do")), [("x" * 500, "mend"), ("short", "nothing")])
    _, long, short = screen.text.splitlines()
    assert long.endswith("  mend")
    assert short.split() == ["short", "nothing"]
    assert len(short) < 40


def test_log_lines_are_one_safe_line() -> None:
    line = text_line({"level": "info", "event": "delivery", "file": ESC, "reason": "two words"})
    assert "\x1b" not in line
    assert "info    delivery" in line
    assert "reason='two words'" in line


# --- errors and exit codes ---------------------------------------------------------------------------------------


def raising(error: BaseException) -> object:
    def work() -> object:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (StorageError("the disk is full", hint="free some"), "E_STORAGE", 1),
        (QueryError("no such column"), "E_QUERY", 2),
        (ForeignChangeError("somebody restored it"), "E_FOREIGN", 3),
        (PassRunningError("another pass"), "E_PASS", 4),
        (RuntimeError("oh [no]"), "E_BUG", 1),
        (click.UsageError("no"), "E_USAGE", 2),
    ],
)
def test_every_error_has_two_lines_and_a_document(
    error: Exception, code: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.guarded(raising(error), ["run"]) == exit_code  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error {code}: ")
    assert "Traceback" not in err
    assert errors.guarded(raising(error), ["run", "--json"]) == exit_code  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert set(json.loads(out)["error"]) == {"code", "message", "hint"}
    assert err == ""


def test_debug_shows_where_a_bug_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bug = raising(KeyError("x"))
    errors.guarded(bug, ["run", "--debug"])  # type: ignore[arg-type]
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("ORDERTRAIL_LOG", "debug")
    errors.guarded(bug, ["run"])  # type: ignore[arg-type]
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("ORDERTRAIL_LOG", "loud")
    errors.guarded(bug, ["run"])  # type: ignore[arg-type]
    assert "Traceback" not in capsys.readouterr().err


def test_errors_are_lines_of_the_log_where_it_is_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERTRAIL_LOG_FORMAT", "json")

    def lines(error: BaseException, *words: str) -> list[dict[str, str]]:
        errors.guarded(raising(error), words)  # type: ignore[arg-type]
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    (line,) = lines(OrdertrailError(f"file {ESC}\nnext line", hint=ESC), "run")
    assert list(line) == ["time", "level", "event", "code", "reason", "hint"]
    assert (line["level"], line["event"], line["code"]) == ("error", "the command failed", OrdertrailError.code)
    assert (line["reason"], line["hint"]) == (f"file {ESC}\nnext line", ESC)
    assert lines(OrdertrailError("x"), "run", "--json") == [], "the document on stdout says it"
    (line,) = lines(click.UsageError("no such option"), "run")
    assert line["code"] == "E_USAGE"
    trace, line = lines(KeyError("x"), "run", "--debug")
    assert (trace["level"], trace["event"], line["code"]) == ("debug", "traceback", "E_BUG")
    assert trace["exception"].startswith("Traceback")
    assert "KeyError: 'x'" in trace["exception"]
    errors.note("only the first rows are here")
    assert json.loads(capsys.readouterr().err)["event"] == "only the first rows are here"
    monkeypatch.setenv("ORDERTRAIL_LOG_FORMAT", "xml")
    errors.guarded(raising(OrdertrailError("x")), ["run"])  # type: ignore[arg-type]
    assert capsys.readouterr().err.startswith("error E_")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_is_quiet(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.guarded(raising(error), ["run"]) == 130  # type: ignore[arg-type]
    assert capsys.readouterr() == ("", "")


def test_an_error_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    errors.guarded(raising(OrdertrailError(f"file {ESC}\nnext line", hint=ESC)), [])  # type: ignore[arg-type]
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert err.splitlines()[1] == "  next line"


def test_attention_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    frame = Frame(Path("x.toml"), as_json=True, debug=False)
    assert frame.show(1, lambda n: {"n": n}, lambda *_: None, attention=True) == 3
    assert frame.show(1, lambda n: {"n": n}, lambda *_: None) == 0
    assert json.loads(capsys.readouterr().out.partition("}")[0] + "}") == {"n": 1}


# --- doctor ------------------------------------------------------------------------------------------------------


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    result = CliRunner().invoke(cli, ["init", "--config", str(tmp_path / "ordertrail.toml")])
    assert result.exit_code == 0, result.stderr
    return tmp_path / "ordertrail.toml"


def health(file: Path, name: str) -> str:
    return next(one.health for one in doctor.examine(file).findings if one.name == name)


def test_doctor_finds_a_new_pipeline_fit_and_leaves_nothing(config_file: Path) -> None:
    before = sorted(config_file.parent.rglob("*"))
    report = doctor.examine(config_file)
    assert report.ok, report
    assert {"python", "duckdb", "config", "source", "archiving", "commits", "clock"} <= {
        f.name for f in report.findings
    }
    assert sorted(config_file.parent.rglob("*")) == before


def test_doctor_names_a_missing_source(config_file: Path) -> None:
    (config_file.parent / "data/source").rmdir()
    result = call("doctor", "--config", str(config_file), "--json")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    bad = [one for one in found["checks"] if one["health"] == "fail"]
    assert [one["name"] for one in bad] == ["source"]
    assert "mkdir -p" in bad[0]["hint"]


def test_doctor_names_a_warehouse_that_is_a_file(config_file: Path) -> None:
    (config_file.parent / "data/warehouse").rmdir()
    (config_file.parent / "data/warehouse").write_text("")
    assert health(config_file, "warehouse") == "fail"
    assert call("doctor", "--config", str(config_file)).exit_code == 3


def test_doctor_takes_folders_that_a_pass_makes(config_file: Path) -> None:
    (config_file.parent / "data/warehouse").rmdir()
    (config_file.parent / "data/archive").rmdir()
    assert doctor.examine(config_file).ok
    assert not (config_file.parent / "data/archive").exists()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_doctor_tries_out_locks(config_file: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    assert health(config_file, "locks") == "ok"
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert health(config_file, "locks") == "fail"

    def missing(*_: object) -> NoReturn:
        raise OSError(code, "not here")

    monkeypatch.setattr(fcntl, "flock", missing)
    assert health(config_file, "locks") == "fail"


def test_doctor_tries_out_whether_a_folder_can_be_synced(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Path) -> NoReturn:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(doctor, "fsync_folder", missing)
    assert health(config_file, "locks") == "fail"


def test_doctor_says_that_the_tables_of_an_archive_are_not_there(config_file: Path) -> None:
    assert health(config_file, "set") == "ok"
    owner = Owner("0" * 32, "orders", "2026-11-23T00:00:00+00:00")
    write_marker(config_file.parent / "data/archive", Marker((owner,)))
    found = next(one for one in doctor.examine(config_file).findings if one.name == "set")
    assert found.health == "fail"
    assert "is the disk mounted" in found.detail
    assert "init --anew" in found.hint


def test_doctor_says_what_is_wrong_with_the_config(config_file: Path) -> None:
    config_file.write_text("[pipeline]\nsorce = 1\n")
    assert health(config_file, "config") == "fail"


def test_doctor_warns_before_the_disk_is_full(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, expected in ((10**12, "ok"), (10**8, "warn"), (10**6, "fail")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert health(config_file, "space") == expected


def test_doctor_wants_libraries_that_are_not_broken(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.6.5" if name == "deltalake" else "99.0")
    assert health(config_file, "deltalake") == "fail"
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert health(config_file, "duckdb") == "fail"
