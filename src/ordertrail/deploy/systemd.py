"""Units for systemd that `ordertrail deploy systemd` writes: the service, and timers for what is due by the clock.

They are written for the machine on which the command runs: its config, its folders, its ordertrail. Paths are escaped
as systemd.syntax(7) and systemd.service(5) say.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.deploy.files import Deployed, filled, write_files
from ordertrail.deploy.monitoring import METRICS_PORT, monitoring_files
from ordertrail.errors import UsageError
from ordertrail.look.search_cache import FOLDER

BESIDE_LIMIT_MB = 1024
"""What the service gets beside `memory_limit_mb`, in MB: Python, Arrow, the key index. 0.3 GB were measured."""

PAGES_PORT = 8765
"""Where the pages are."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_HOMES = tuple(f"/{name}" for name in ("home", "root", "run/user"))
_EMPTIED = ("/tmp", "/var/tmp")
_NO_PROGRAM = frozenset("\"'\\$")
_ANSWERS = (
    "Restart=on-failure",
    "RestartSec=10",
    "# The config or the call is wrong: that does not get better by itself.",
    "RestartPreventExitStatus=2",
    "TimeoutStopSec=15",
)
_AT_BOOT = "\n[Install]\nWantedBy=multi-user.target"


class SystemdOptions(Struct, frozen=True):
    """What the units are made of, beside the config.

    Attributes:
        program: The `ordertrail` to run.
        user: User and group that run it.
        prefix: What the units' names begin with.
        metrics_port: Where the service answers Prometheus; None for nowhere.
    """

    program: Path
    user: str = "ordertrail"
    prefix: str = "ordertrail"
    metrics_port: int | None = METRICS_PORT


class _Unit(Struct, frozen=True):
    """A service, and when a timer starts it.

    Attributes:
        word: Its name after the prefix.
        does: What it is for.
        words: What `ordertrail` is called with.
        writes: Whether it writes to the pipeline's folders.
        lines: Settings of its own.
        when: Settings of its timer; "" when it runs all the time.
        reads: What a unit that does not write may write to all the same.
    """

    word: str
    does: str
    words: tuple[str, ...]
    writes: bool
    lines: tuple[str, ...]
    when: str = ""
    reads: str = "# It only reads."


def options(program: str | None, user: str, prefix: str, metrics_port: int | None) -> SystemdOptions:
    """The options as they are given on the command line.

    Args:
        program: None means the ordertrail of this process.
        user: See `SystemdOptions`.
        prefix: Likewise.
        metrics_port: 0 means nowhere; None the usual one, where the library for it is installed.
    """
    if metrics_port is None:
        metrics_port = METRICS_PORT if find_spec("prometheus_client") else 0
    own = Path(sys.executable).with_name("ordertrail")
    return SystemdOptions(own if program is None else Path(program), user, prefix, metrics_port or None)


def unit_files(config: Config, options: SystemdOptions) -> dict[str, str]:
    """The text of every file.

    Args:
        config: Of the pipeline.
        options: See there.

    Returns:
        Text by path below the folder.

    Raises:
        UsageError: A name or a path cannot stand in a unit.
    """
    _check(config, options)
    made: dict[str, str] = {}
    for unit in _units(config, options):
        name = f"{options.prefix}-{unit.word}"
        made[f"{name}.service"] = _service(config, options, unit)
        if unit.when:
            text = f"ordertrail: {unit.does} ({config.name})"
            made[f"{name}.timer"] = filled("systemd/timer", {"description": text, "when": unit.when})
    made |= monitoring_files(options.metrics_port or METRICS_PORT)
    made["README.md"] = _readme(config, options, _units(config, options))
    return dict(sorted(made.items()))


def deploy(folder: Path, config: Config, options: SystemdOptions, *, force: bool) -> Deployed:
    """Write the units.

    Args:
        folder: Created when it is missing.
        config: Of the pipeline.
        options: See there.
        force: Whether to replace existing files with other content.

    Raises:
        UsageError: A file exists with other content, or a name or a path cannot stand in a unit. Nothing was written.
        StorageError: A file cannot be read or written.
    """
    content = {path: text.encode() for path, text in unit_files(config, options).items()}
    written = write_files(folder, content, force=force)
    return Deployed(folder, config.file, written, tuple(_notes(config, options)))


# --- what there is -----------------------------------------------------------------------------------------------


def _units(config: Config, options: SystemdOptions) -> tuple[_Unit, ...]:
    port = () if options.metrics_port is None else ("--metrics-port", str(options.metrics_port))
    return (
        _Unit(
            "watch", "load every file as soon as it is complete", ("watch", *port), True, (*_ANSWERS, *_memory(config))
        ),
        _Unit(
            "serve",
            f"show the pages at http://127.0.0.1:{PAGES_PORT}",
            ("serve", "--port", str(PAGES_PORT)),
            False,
            (
                "# Every user of this machine can open them, unless the file above has ORDERTRAIL_SERVE_TOKEN;",
                "# for other machines put a proxy with TLS before them.",
                *_ANSWERS,
                *_memory(config),
            ),
            reads="# It only reads, but for its own cache, by which shipments are found.\n"
            # The hyphen: it need not be there.
            f'ReadWritePaths="-{_word(config.warehouse / FOLDER)[1:]}',
        ),
        _Unit(
            "maintain",
            "compact the tables and delete what nobody needs",
            ("maintain",),
            True,
            ("# Somebody else maintains just now.", "SuccessExitStatus=4", "Nice=10", "IOSchedulingClass=idle"),
            "OnCalendar=*-*-* 02:30\nRandomizedDelaySec=30min\nPersistent=yes",
        ),
        _Unit(
            "alerts",
            "tell who is to be told, even when the service is gone",
            ("alerts", "check", "--service"),
            True,
            ("TimeoutStartSec=5min",),
            "OnCalendar=*:0/5\nRandomizedDelaySec=30s",
        ),
        _Unit(
            "health",
            "fail while something needs a person",
            ("health", "--service"),
            False,
            ("# To have somebody told: OnFailure= in [Unit], by systemctl edit.",),
            "OnBootSec=10min\nOnUnitInactiveSec=10min",
        ),
    )


def _memory(config: Config) -> tuple[str, ...]:
    if config.engine == "spark":
        return ("# No limit of memory: the driver of Spark has its own.",)
    limit_mb = config.memory_limit_mb + BESIDE_LIMIT_MB
    return (
        f"# memory_limit_mb = {config.memory_limit_mb} of the config, and what Python, Arrow and the key index take.",
        f"MemoryHigh={limit_mb - BESIDE_LIMIT_MB // 4}M",
        f"MemoryMax={limit_mb}M",
    )


def _service(config: Config, options: SystemdOptions, unit: _Unit) -> str:
    home = _folder_of(config)
    always = not unit.when
    values = {
        "unit": f"{options.prefix}-{unit.word}",
        "prefix": options.prefix,
        "description": f"ordertrail: {unit.does} ({config.name})",
        "after": " network-online.target\nWants=network-online.target" if always else "",
        "mounts": " ".join(_word(path) for path in _folders(config)),
        "type": "exec" if always else "oneshot",
        "user": options.user,
        "home_folder": _bare(home),
        "command": _command(options.program, (*unit.words, "--config", str(_file_of(config)))),
        "behaviour": "\n".join(unit.lines),
        "folders": _writable_lines(config, options) if unit.writes else unit.reads,
        "hardening": _hardening(config, options),
        "install": _AT_BOOT if always else "",
    }
    return filled("systemd/unit", values).rstrip() + "\n"


def _hardening(config: Config, options: SystemdOptions) -> str:
    paths = (*_folders(config), _file_of(config), options.program)
    tmp = "PrivateTmp=yes"
    if _any_below(paths, _EMPTIED):
        # Queries spill there.
        tmp = "# PrivateTmp=yes would hide folders of the pipeline.\nReadWritePaths=/tmp /var/tmp"
    home = "read-only" if _any_below(paths, _HOMES) else "yes"
    return filled("systemd/hardening", {"tmp": tmp, "home": home}).rstrip()


# --- folders -----------------------------------------------------------------------------------------------------


def _folders(config: Config) -> tuple[Path, ...]:
    return config.source, config.archive, config.warehouse


def _file_of(config: Config) -> Path:
    assert config.file is not None
    return config.file


def _folder_of(config: Config) -> Path:
    return _file_of(config).parent


def writable_folders(config: Config, program: Path) -> tuple[Path, ...]:
    """The folders that the units may write to: one that holds them all where there is such a one, else each.

    Each folder named in a unit becomes a mount of its own, and a file cannot be renamed from one mount to another:
    archiving would copy every file. So a common folder is better, as long as it holds neither config nor program and
    is no folder of the system's.

    Args:
        config: Of the pipeline.
        program: The `ordertrail` that runs.
    """
    folders = _folders(config)
    common = Path(os.path.commonpath(folders))
    kept = (_file_of(config), program)
    if len(common.parts) > 2 and not any(path.is_relative_to(common) for path in kept):
        return (common,)
    return folders


def _writable_lines(config: Config, options: SystemdOptions) -> str:
    found = writable_folders(config, options.program)
    why = (
        "# One folder and not three: between mounts a file is not renamed into the archive but copied."
        if len(found) == 1
        else "# Three mounts: a file is copied into the archive, checked, and then removed from the source."
    )
    return f"{why}\nReadWritePaths={' '.join(_word(path) for path in found)}"


def _any_below(paths: Sequence[Path], roots: Sequence[str]) -> bool:
    return any(path.is_relative_to(root) for path in paths for root in roots)


# --- escaping ----------------------------------------------------------------------------------------------------


def _check(config: Config, options: SystemdOptions) -> None:
    for option, value in (("--user", options.user), ("--prefix", options.prefix)):
        if not _NAME.fullmatch(value):
            hint = f"give {option} letters, digits, dots, hyphens and underscores, beginning with a letter"
            raise UsageError(f"{value!r} is no name for systemd", hint=hint)
    for path in (*_folders(config), _file_of(config), options.program):
        text = str(path)
        if not text.isprintable() or text != text.strip() or text.endswith("\\"):
            hint = "give it a name without control characters, without spaces or \\ at its ends"
            raise UsageError(f"the path {text!r} cannot stand in a unit", hint=hint)
    if not options.program.is_absolute():
        raise UsageError(f"{options.program} is no absolute path", hint="give the whole path with --program")
    if _NO_PROGRAM & set(str(options.program)):
        hint = "install ordertrail in a folder without quotes, \\ and $, and name it with --program"
        raise UsageError(f"systemd runs no program with the path {options.program}", hint=hint)


def _bare(path: Path) -> str:
    """A path that is a whole setting: only specifiers are special."""
    return str(path).replace("%", "%%")


def _word(path: Path) -> str:
    """One path of several."""
    return '"' + _bare(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _command(program: Path, words: Sequence[str]) -> str:
    """A command line; in its words variables are special, too."""
    plain = re.compile(r"[A-Za-z0-9_./:=-]+")
    made = [one if plain.fullmatch(one) else _word(Path(one)).replace("$", "$$") for one in words]
    return " ".join((_word(program), *made))


# --- for people --------------------------------------------------------------------------------------------------


def _notes(config: Config, options: SystemdOptions) -> list[str]:
    notes = []
    if len(writable_folders(config, options.program)) > 1:
        notes.append(
            "source, archive and warehouse have no common folder of their own: in the units a file is copied into the "
            "archive, not renamed"
        )
    paths = (*_folders(config), _file_of(config), options.program)
    if _any_below(paths, _HOMES):
        notes.append("some paths are below a home: the units may read all homes; /srv and /opt are better places")
    if _any_below(paths, _EMPTIED):
        notes.append("some paths are below /tmp, which is emptied: this is for trying out only")
    if options.metrics_port is None:
        notes.append("Prometheus is not answered: pip install 'ordertrail[web]', then give --metrics-port 9464")
    if find_spec("uvicorn") is None:
        notes.append("the pages need more: pip install 'ordertrail[web]', or do not enable their unit")
    if not options.program.is_file():
        notes.append(f"there is no {options.program} here: install ordertrail there first, or give --program")
    return notes


def _readme(config: Config, options: SystemdOptions, units: Sequence[_Unit]) -> str:
    name = options.prefix
    files = [f"| `{name}-{one.word}.{'timer' if one.when else 'service'}` | {one.does} |" for one in units]
    files.append("| `monitoring/` | dashboard, alert rules, scrape config |")
    enabled = [f"{name}-{one.word}.{'timer' if one.when else 'service'}" for one in units]
    user_lines, user_note = "", "The units run as root: better is a user of their own, `--user ordertrail`."
    if options.user != "root":
        user_lines = (
            f"id {options.user} >/dev/null 2>&1 ||\n"
            f"    useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {options.user}\n"
        )
        user_note = (
            f"The user `{options.user}` must be able to read the config and to enter and write the three folders. In "
            "the source it must be able to rename and remove what vendors send: the operators' page says how."
        )
    folders = [
        # Not the rights of a folder that is there: they are somebody's decision.
        f"[ -d {shlex.quote(str(path))} ] || "
        f"install -d -o {options.user} -g {options.user} -m 0750 {shlex.quote(str(path))}"
        for path in (*writable_folders(config, options.program), *_folders(config), config.warehouse / FOLDER)
    ]
    example = (str(options.program), "status", "--config", str(_file_of(config)))
    values = {
        "name": config.name,
        "config": str(_file_of(config)),
        "files": "\n".join(files),
        "prefix": name,
        "user": options.user,
        "user_lines": user_lines,
        "user_note": user_note,
        "folder_lines": "\n".join(dict.fromkeys(folders)),
        "enabled": " ".join(enabled),
        "example": shlex.join(example),
        "more": "",
    }
    return filled("systemd/README.md", values).rstrip() + "\n"
