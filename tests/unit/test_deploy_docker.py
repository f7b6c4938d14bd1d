"""Image and compose file: what a builder and compose would make of them, as far as that can be told without Docker."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from ordertrail.cli import cli
from ordertrail.config import parse_config, template
from ordertrail.deploy.docker import PYTHON, UID, constraints, image_files
from ordertrail.deploy.own_wheel import NAME
from ordertrail.errors import ConfigError, UsageError
from ordertrail.look.search_cache import FOLDER

# Of the Dockerfile reference and of the compose specification: names are facts.
INSTRUCTIONS = {"ARG", "FROM", "LABEL", "RUN", "COPY", "ENV", "WORKDIR", "USER", "STOPSIGNAL", "HEALTHCHECK"}
INSTRUCTIONS |= {"ENTRYPOINT", "CMD", "EXPOSE", "VOLUME", "ADD", "SHELL", "ONBUILD"}
TOP = {"name", "services", "networks", "volumes", "configs", "secrets", "include"}
SERVICE = {
    "build": {"context", "args", "dockerfile", "target"},
    "cap_drop": None,
    "command": None,
    "env_file": {"path", "required", "format"},
    "environment": None,
    "healthcheck": {"test", "interval", "timeout", "start_period", "retries", "start_interval", "disable"},
    "image": None,
    "logging": {"driver", "options"},
    "mem_limit": None,
    "pids_limit": None,
    "ports": None,
    "read_only": None,
    "restart": None,
    "security_opt": None,
    "stop_grace_period": None,
    "tmpfs": None,
    "volumes": {"type", "source", "target", "read_only", "bind"},
}


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return image_files(template())


def instructions(text: str) -> list[tuple[str, str]]:
    """Instruction and the rest of its line, with continued lines put together."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = []
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            found.append((word, rest.strip()))
    return found


@pytest.fixture(scope="module")
def dockerfile(files: dict[str, str]) -> list[tuple[str, str]]:
    return instructions(files["Dockerfile"])


@pytest.fixture(scope="module")
def compose(files: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(files["compose.yaml"])
    return found


# --- the image ---------------------------------------------------------------------------------------------------


def test_every_instruction_is_known_and_no_base_moves(dockerfile: list[tuple[str, str]]) -> None:
    assert {word for word, _ in dockerfile} <= INSTRUCTIONS
    bases = [rest for word, rest in dockerfile if word == "FROM"]
    assert len(bases) == 2
    for base in bases:
        assert base.partition(" ")[0] == f"docker.io/library/python:{PYTHON}-slim@${{PYTHON_DIGEST}}"
    # Without a value: a build that is given none ends at once.
    assert ("ARG", "PYTHON_DIGEST") in dockerfile
    words = [word for word, _ in dockerfile]
    assert words.index("ARG") < words.index("FROM")
    assert "latest" not in " ".join(rest for _, rest in dockerfile)
    assert not any(word == "ADD" for word, _ in dockerfile)


def of_last_stage(dockerfile: list[tuple[str, str]], wanted: str) -> list[str]:
    start = max(number for number, (word, _) in enumerate(dockerfile) if word == "FROM")
    return [rest for word, rest in dockerfile[start:] if word == wanted]


def test_it_runs_as_a_fixed_user_without_a_shell_in_between(dockerfile: list[tuple[str, str]]) -> None:
    assert of_last_stage(dockerfile, "USER") == [f"{UID}:{UID}"]
    assert UID >= 1000
    assert json.loads(of_last_stage(dockerfile, "ENTRYPOINT")[0]) == ["ordertrail"]
    assert json.loads(of_last_stage(dockerfile, "CMD")[0]) == ["watch"]
    assert of_last_stage(dockerfile, "STOPSIGNAL") == ["SIGTERM"]
    # What is installed belongs to root: the service cannot change its own code.
    assert "COPY --from=build /opt/ordertrail /opt/ordertrail" in [f"{a} {b}" for a, b in dockerfile]


def test_its_health_is_that_of_the_service(dockerfile: list[tuple[str, str]]) -> None:
    (check,) = of_last_stage(dockerfile, "HEALTHCHECK")
    options, _, command = check.partition(" CMD ")
    assert {one.partition("=")[0] for one in options.split()} == {
        "--interval",
        "--timeout",
        "--start-period",
        "--retries",
    }
    assert_called(json.loads(command)[1:])


def test_the_folders_are_those_of_the_mount(dockerfile: list[tuple[str, str]], compose: dict[str, Any]) -> None:
    (variables,) = of_last_stage(dockerfile, "ENV")
    given = dict(one.split("=", 1) for one in shlex.split(variables))
    config = parse_config(template(), base=Path("/etc/ordertrail"), environ=given)
    for name, service in compose["services"].items():
        data, *caches, toml = service["volumes"]
        # Below a mount that is read-only a folder must be there already: the README makes it.
        assert [one["target"] for one in caches] == ([] if name == "watch" else [f"/data/warehouse/{FOLDER}"])
        assert (data["target"], toml["target"]) == ("/data", "/etc/ordertrail/ordertrail.toml")
        assert {folder.parent for folder in (config.source, config.archive, config.warehouse)} == {Path("/data")}
        assert (data.get("read_only", False), toml["read_only"]) == (name != "watch", True)
    assert of_last_stage(dockerfile, "WORKDIR") == [str(Path(toml["target"]).parent)]


def test_only_what_the_image_needs_reaches_the_builder(
    files: dict[str, str], dockerfile: list[tuple[str, str]]
) -> None:
    rules = [line for line in files[".dockerignore"].splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    needed = {
        one.rstrip("/")
        for word, rest in dockerfile
        if word == "COPY" and "--from" not in rest
        for one in rest.split()[:-1]
    }
    assert {rule.strip("!/") for rule in rules[1:]} == needed


def test_the_versions_are_those_that_were_tried() -> None:
    pins = dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)$", constraints()))
    from importlib.metadata import version

    assert {"duckdb", "deltalake", "apprise", "prometheus-client", "jinja2", "pyarrow"} <= pins.keys()
    assert "pyspark" not in pins
    assert all(version(name) == pinned for name, pinned in pins.items())
    lines = [line for line in constraints().splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines)) == len(pins)


# --- compose -----------------------------------------------------------------------------------------------------


def test_every_key_is_one_of_compose(compose: dict[str, Any]) -> None:
    assert {key for key in compose if not key.startswith("x-")} <= TOP
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", compose["name"])
    for name, service in compose["services"].items():
        assert service.keys() <= SERVICE.keys(), name
        for key, below in SERVICE.items():
            parts = service.get(key, ())
            for part in parts if isinstance(parts, list) else [parts]:
                if below is not None and isinstance(part, dict):
                    assert part.keys() <= below, f"{name}.{key}"


def test_every_service_is_hardened(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == "unless-stopped"
        assert "privileged" not in service
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert int(service["stop_grace_period"].removesuffix("s")) > 5
        assert service["build"]["args"]["PYTHON_DIGEST"].startswith("${PYTHON_DIGEST:?")
        assert_called(service["command"])


def test_the_pages_need_a_token_and_say_whether_they_work(compose: dict[str, Any]) -> None:
    from ordertrail.web.guard import OPEN_PATHS

    serve = compose["services"]["serve"]
    assert serve["environment"]["ORDERTRAIL_SERVE_TOKEN"].startswith("${ORDERTRAIL_SERVE_TOKEN:?")
    (port,) = serve["ports"]
    script = serve["healthcheck"]["test"][-1]
    path = re.search(rf"http://127\.0\.0\.1:{port.rpartition(':')[2]}(/\w+)", script)
    assert path is not None
    assert path[1] in OPEN_PATHS
    compile(script, "healthcheck", "exec")


def assert_called(words: list[str]) -> None:
    """The command and its options are there, and its values fit."""
    root = click.Context(cli, info_name="ordertrail")
    command = cli.get_command(root, words[0])
    assert command is not None, words
    command.make_context(words[0], list(words[1:]))


def test_memory_follows_the_config() -> None:
    text = '[pipeline]\nsource = "in"\narchive = "a"\nwarehouse = "w"\nmemory_limit_mb = 256\n'
    assert yaml.safe_load(image_files(text)["compose.yaml"])["services"]["watch"]["mem_limit"] == "1280m"


def test_every_variable_of_compose_is_in_the_example(files: dict[str, str]) -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", files["compose.yaml"]))
    given = set(re.findall(r"(?m)^([A-Z_]+)=", files[".env.example"]))
    assert asked == given
    # Compose says what is missing: an empty value is one, half of one is not.
    assert not re.search(r"(?m)^(?:PYTHON_DIGEST|ORDERTRAIL_SERVE_TOKEN)=.", files[".env.example"])
    assert f"python:{PYTHON}-slim" in files["README.md"]
    assert f"data/warehouse/{FOLDER}" in files["README.md"]


# --- what is written ---------------------------------------------------------------------------------------------


def test_the_config_comes_along_and_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "ordertrail.toml"
    file.write_text('[pipeline]\nname = "Sales EU"\n')
    with pytest.raises(ConfigError):
        image_files(file.read_text())
    text = '[pipeline]\nname = "Sales.EU"\nsource = "in"\narchive = "a"\nwarehouse = "w"\n# kept\n'
    made = image_files(text)
    assert made["ordertrail.toml"] == text
    assert yaml.safe_load(made["compose.yaml"])["name"] == "ordertrail-sales-eu"


def test_spark_is_refused() -> None:
    text = '[pipeline]\nsource = "in"\narchive = "a"\nwarehouse = "w"\nengine = "spark"\n'
    with pytest.raises(UsageError, match="neither Java nor Spark"):
        image_files(text)


def test_a_file_that_was_changed_is_replaced_only_with_force(tmp_path: Path) -> None:
    words = ["deploy", "docker", str(tmp_path / "image"), "--config", str(tmp_path / "none.toml")]
    first = CliRunner().invoke(cli, [*words, "--json"])
    assert first.exit_code == 0, first.output
    document = json.loads(first.output)
    assert document["config"] is None
    assert f"wheels/{NAME}" in [one["path"] for one in document["files"]]
    again = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)
    assert {one["action"] for one in again["files"]} == {"unchanged"}
    (tmp_path / "image" / "compose.yaml").write_text("mine")
    refused = CliRunner().invoke(cli, words)
    assert (refused.exit_code, "compose.yaml" in refused.output, "--force" in refused.output) == (2, True, True)
    assert CliRunner().invoke(cli, [*words, "--force"]).exit_code == 0


@pytest.mark.slow
def test_what_the_build_installs_runs(tmp_path: Path) -> None:
    """The step of the Dockerfile in a bare environment; the packages that it would fetch are those that are here."""
    words = ["deploy", "docker", str(tmp_path / "image"), "--config", str(tmp_path / "none.toml")]
    assert CliRunner().invoke(cli, words).exit_code == 0
    wheel = tmp_path / "image" / "wheels" / NAME
    metadata = next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA"))
    extras = re.findall(r"(?m)^Provides-Extra: (.*)$", zipfile.ZipFile(wheel).read(metadata).decode())
    assert {"alerts", "web"} <= set(extras)
    venv.create(tmp_path / "opt", with_pip=True, system_site_packages=False)
    python = tmp_path / "opt" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    there = next(path for path in sys.path if (Path(path) / "duckdb").is_dir())
    inside = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    (Path(inside.stdout.strip()) / "there.pth").write_text(there + "\n")
    ran = subprocess.run(
        [tmp_path / "opt" / "bin" / "ordertrail", "health", "--live", "--json"],
        cwd=tmp_path / "image",
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
    )
    # Nothing serves yet.
    assert ran.returncode == 3, ran.stderr
    assert [one["kind"] for one in json.loads(ran.stdout)["items"]] == ["stalled"]
