"""Units for systemd: systemd itself reads them, with every path; they call what there is; no change is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ordertrail.cli import cli
from ordertrail.config import Config, load_config
from ordertrail.deploy.systemd import BESIDE_LIMIT_MB, SystemdOptions, deploy, options, unit_files, writable_folders
from ordertrail.errors import UsageError
from ordertrail.look.search_cache import FOLDER

NASTY = 'a b%n "q" $HOME \\x é'
RUNS = "a b%n é"
MOST_EXPOSED = 20
"""In tenths: `systemd-analyze security` calls up to 2.0 OK, and 9 and more UNSAFE."""


def pipeline(folder: Path, text: str = "") -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    head = '[pipeline]\nsource = "data/source"\narchive = "data/archive"\nwarehouse = "data/warehouse"\n'
    (folder / "ordertrail.toml").write_text(head + text)
    return load_config(folder / "ordertrail.toml", environ={})


def program(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "ordertrail"
    file.write_text("#!/bin/sh\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def settings(text: str) -> dict[str, list[str]]:
    """The settings of a unit, by `Section.Name`."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(f"{section}.{name}", []).append(value)
    return found


def read_by_systemd(text: str) -> str:
    """What systemd makes of quotes and specifiers, for what we write: `\\\\`, `\\"` and `%%`."""
    return re.sub(r"\\(.)", r"\1", text).replace("%%", "%")


def words_of(command: str) -> list[str]:
    """The words of an `ExecStart=`, as systemd splits them."""
    quoted = r'"((?:[^"\\]|\\.)*)"|(\S+)'
    return [read_by_systemd(a or b).replace("$$", "$") for a, b in re.findall(quoted, command)]


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        why = "there is no systemd-analyze here; to have it: apt-get install systemd"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"CI must check the units. {why}", pytrace=False)
        pytest.skip(why)
    return subprocess.run(["systemd-analyze", *map(str, words)], capture_output=True, text=True, check=False)


def services(made: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in made.items() if name.endswith(".service")}


# --- systemd reads them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", NASTY])
@pytest.mark.parametrize("engine", ["embedded", "spark"])
def test_systemd_takes_every_unit(tmp_path: Path, name: str, engine: str) -> None:
    folder = tmp_path / name
    config = pipeline(folder, f'engine = "{engine}"\n')
    # Systemd itself refuses programs with quotes in their path.
    run = program(tmp_path / RUNS)
    made = deploy(tmp_path / "units", config, SystemdOptions(run), force=False)
    units = [tmp_path / "units" / one.path for one in made.files if one.path.endswith((".service", ".timer"))]
    assert len(units) >= 5
    checked = analyze("verify", "--man=no", *units)
    assert (checked.returncode, checked.stderr.strip(), checked.stdout.strip()) == (0, "", "")


def test_systemd_would_say_what_is_wrong(tmp_path: Path) -> None:
    """The check above is one: a misspelt setting, a program that is not there."""
    config = pipeline(tmp_path / "p")
    made = unit_files(config, SystemdOptions(tmp_path / "missing" / "ordertrail"))
    unit = tmp_path / "ordertrail-watch.service"
    unit.write_text(made[unit.name].replace("ProtectSystem=strict", "ProtectSystem=strictly"))
    checked = analyze("verify", "--man=no", unit)
    assert "strictly" in checked.stderr
    assert "not executable" in checked.stderr


def test_no_unit_is_exposed(tmp_path: Path) -> None:
    config = pipeline(tmp_path / "p")
    deploy(tmp_path / "units", config, SystemdOptions(program(tmp_path / "bin")), force=False)
    for unit in sorted((tmp_path / "units").glob("*.service")):
        checked = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit)
        assert checked.returncode == 0, checked.stdout[-500:]


def test_paths_reach_systemd_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / NASTY
    config = pipeline(folder)
    run = tmp_path / RUNS / "ordertrail"
    found = settings(unit_files(config, SystemdOptions(run))["ordertrail-watch.service"])
    assert found["Service.WorkingDirectory"] == [str(folder).replace("%", "%%")]
    words = words_of(found["Service.ExecStart"][0])
    assert (words[0], words[-1]) == (str(run), str(config.file))
    assert words_of(found["Service.ReadWritePaths"][0]) == [str(folder / "data")]
    mounts = [str(folder / "data" / one) for one in ("source", "archive", "warehouse")]
    assert words_of(found["Unit.RequiresMountsFor"][0]) == mounts


# --- they call what there is -------------------------------------------------------------------------------------


def test_units_call_commands_and_options_that_there_are(tmp_path: Path) -> None:
    made = services(unit_files(pipeline(tmp_path), SystemdOptions(Path("/opt/ordertrail/bin/ordertrail"))))
    root = click.Context(cli, info_name="ordertrail")
    for text in made.values():
        _, name, *words = words_of(settings(text)["Service.ExecStart"][0])
        command = cli.get_command(root, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            name, *words = words
            command = command.commands[name]
        command.make_context(name, words, resilient_parsing=False)


def test_every_timer_starts_a_unit_that_is_there_and_the_readme_enables_all(tmp_path: Path) -> None:
    made = unit_files(pipeline(tmp_path), SystemdOptions(Path("/opt/ordertrail/bin/ordertrail")))
    timers = [name for name in made if name.endswith(".timer")]
    assert len(timers) >= 2
    for name in timers:
        service = made[name.replace(".timer", ".service")]
        assert settings(service)["Service.Type"] == ["oneshot"]
        assert "[Install]" not in service
        assert settings(made[name])["Install.WantedBy"] == ["timers.target"]
    (enable,) = re.findall(r"systemctl enable --now (.*)", made["README.md"])
    always = {name for name in services(made) if name.replace(".service", ".timer") not in made}
    assert set(enable.split()) == {*timers, *always}


def test_the_service_is_as_it_must_be(tmp_path: Path) -> None:
    config = pipeline(tmp_path, "memory_limit_mb = 512\n")
    made = unit_files(config, SystemdOptions(Path("/opt/bin/ordertrail"), user="orders", metrics_port=9000))
    for text in services(made).values():
        found = settings(text)
        assert found["Service.User"] == found["Service.Group"] == ["orders"]
        assert found["Service.UMask"] == ["0027"]
        assert found["Service.ProtectSystem"] == ["strict"]
        assert found["Service.NoNewPrivileges"] == ["yes"]
        assert found["Service.CapabilityBoundingSet"] == [""]
        assert found["Service.EnvironmentFile"] == ["-/etc/ordertrail/ordertrail.env"]
    watch = settings(made["ordertrail-watch.service"])
    assert watch["Service.RestartPreventExitStatus"] == ["2"]
    assert watch["Service.Restart"] == ["on-failure"]
    assert watch["Service.MemoryMax"] == [f"{512 + BESIDE_LIMIT_MB}M"]
    # More than the 5 seconds in which the service ends.
    assert int(watch["Service.TimeoutStopSec"][0]) > 5
    assert "--metrics-port 9000" in watch["Service.ExecStart"][0]
    assert "127.0.0.1:9000" in made["monitoring/prometheus.yml"]
    assert "Service.ReadWritePaths" not in settings(made["ordertrail-health.service"])
    (cache,) = settings(made["ordertrail-serve.service"])["Service.ReadWritePaths"]
    assert words_of(cache) == [f"-{config.warehouse / FOLDER}"]
    nowhere = unit_files(config, SystemdOptions(Path("/opt/bin/ordertrail"), metrics_port=None))
    assert "--metrics-port" not in nowhere["ordertrail-watch.service"]


def test_the_commands_of_the_readme_change_nothing_that_is_there(tmp_path: Path) -> None:
    """Run as they are, but for those of the system: rights of a folder, and secrets, stay."""
    config = pipeline(tmp_path / "p")
    config.source.mkdir(parents=True, mode=0o775)
    config.source.chmod(0o775)
    readme = unit_files(config, SystemdOptions(Path("/opt/bin/ordertrail")))["README.md"]
    block = readme.partition("```sh\n")[2].partition("```")[0]
    lines = [line for line in block.splitlines() if line.startswith("[ ")]
    assert len(lines) == 6
    secrets = tmp_path / "etc"
    script = "\n".join(lines).replace("/etc/ordertrail", str(secrets)).replace("-o ordertrail -g ordertrail ", "")
    secrets.mkdir()
    (secrets / "ordertrail.env").write_text("TOKEN=kept\n")
    subprocess.run(["sh", "-eu", "-c", script], check=True)
    assert stat.S_IMODE(config.source.stat().st_mode) == 0o775
    assert stat.S_IMODE(config.warehouse.stat().st_mode) == 0o750
    assert (secrets / "ordertrail.env").read_text() == "TOKEN=kept\n"


# --- folders -----------------------------------------------------------------------------------------------------


def test_a_common_folder_is_one_mount(tmp_path: Path) -> None:
    config = pipeline(tmp_path / "srv")
    assert writable_folders(config, Path("/opt/bin/ordertrail")) == (tmp_path / "srv" / "data",)


@pytest.mark.parametrize(
    ("folders", "installed"),
    [
        (("in", "archive", "tables"), "/opt/bin/ordertrail"),  # the config is in the folder that they share
        (("data/in", "data/archive", "data/tables"), "data/bin/ordertrail"),  # the program is
        (("/vendors/in", "/mnt/archive", "/tables/t"), "/opt/bin/ordertrail"),
        (("/srv/in", "/srv/archive", "/srv/tables"), "/opt/bin/ordertrail"),  # it is the system's
    ],
)
def test_without_a_folder_of_their_own_each_is_named(
    tmp_path: Path, folders: tuple[str, str, str], installed: str
) -> None:
    file = tmp_path / "ordertrail.toml"
    file.write_text('[pipeline]\nsource = "{}"\narchive = "{}"\nwarehouse = "{}"\n'.format(*folders))
    config = load_config(file, environ={})
    found = deploy(tmp_path / "units", config, SystemdOptions(tmp_path / installed), force=False)
    assert writable_folders(config, tmp_path / installed) == (config.source, config.archive, config.warehouse)
    assert any("no common folder" in note for note in found.notes)


def test_paths_below_a_home_or_tmp_are_not_hidden_from_the_units(tmp_path: Path) -> None:
    home = Path("/", "home", "x")
    folders = f'source = "/tmp/x/in"\narchive = "{home}/archive"\nwarehouse = "/srv/t/tables"\n'
    file = tmp_path / "ordertrail.toml"
    file.write_text(f"[pipeline]\n{folders}")
    made = unit_files(load_config(file, environ={}), SystemdOptions(Path("/opt/bin/ordertrail")))
    found = settings(made["ordertrail-watch.service"])
    assert found["Service.ProtectHome"] == ["read-only"]
    assert "Service.PrivateTmp" not in found
    assert "/tmp /var/tmp" in found["Service.ReadWritePaths"]


# --- what is refused, and kept -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["line\nbreak", "ends\\", " begins", "tab\t."])
def test_a_path_that_cannot_stand_in_a_unit_is_refused(tmp_path: Path, bad: str) -> None:
    config = pipeline(tmp_path / "p")
    with pytest.raises(UsageError, match="cannot stand in a unit"):
        unit_files(config, SystemdOptions(tmp_path / bad if bad[0] != " " else Path(f"{tmp_path}/x ")))


@pytest.mark.parametrize("name", ['a "b"', "it's", "a\\b", "$x"])
def test_a_program_that_systemd_would_not_run_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="systemd runs no program"):
        unit_files(pipeline(tmp_path / "p"), SystemdOptions(tmp_path / name / "ordertrail"))


@pytest.mark.parametrize(("user", "prefix"), [("a b", "x"), ("root\n", "x"), ("", "x"), ("x", "../x"), ("x", "a@b")])
def test_a_name_that_systemd_would_not_take_is_refused(tmp_path: Path, user: str, prefix: str) -> None:
    with pytest.raises(UsageError, match="is no name for systemd"):
        unit_files(pipeline(tmp_path), SystemdOptions(Path("/opt/bin/ordertrail"), user, prefix))


def test_a_file_that_was_changed_is_replaced_only_with_force(tmp_path: Path) -> None:
    config = pipeline(tmp_path / "p")
    words = [
        "deploy",
        "systemd",
        str(tmp_path / "units"),
        "--config",
        str(config.file),
        "--program",
        "/opt/bin/ordertrail",
    ]
    first = CliRunner().invoke(cli, [*words, "--json"])
    assert first.exit_code == 0, first.output
    document = json.loads(first.output)
    assert {one["action"] for one in document["files"]} == {"written"}
    assert any("/opt/bin/ordertrail" in note for note in document["notes"])
    unit = tmp_path / "units" / "ordertrail-watch.service"
    unit.write_text("mine")
    again = CliRunner().invoke(cli, words)
    assert again.exit_code == 2
    assert "ordertrail-watch.service" in again.output
    assert "--force" in again.output
    assert unit.read_text() == "mine"
    forced = CliRunner().invoke(cli, [*words, "--force"])
    assert forced.exit_code == 0
    assert "replaced" in forced.output
    assert unit.read_text() != "mine"


def test_without_a_config_it_says_so(tmp_path: Path) -> None:
    found = CliRunner().invoke(cli, ["deploy", "systemd", str(tmp_path), "--config", str(tmp_path / "none.toml")])
    assert found.exit_code == 2
    assert "there is no such config file" in found.output


def test_the_program_is_this_one_and_metrics_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert options(None, "u", "p", None).program.name == "ordertrail"
    assert options(None, "u", "p", None).metrics_port == 9464
    assert options(None, "u", "p", 0).metrics_port is None
    monkeypatch.setattr("ordertrail.deploy.systemd.find_spec", lambda _: None)
    assert options(None, "u", "p", None).metrics_port is None
    assert options(None, "u", "p", 9000).metrics_port == 9000
