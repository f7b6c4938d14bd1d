"""Reads `ordertrail.toml` and the environment into frozen values, once; nothing else reads either.

Every mistake is a `ConfigError` that names the file (or the variable), the key and the value, and says what to do.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, get_args

from msgspec.structs import replace

from ordertrail.config.alerts import SECRET_URLS, Place, build_alerts, build_ping
from ordertrail.config.contract import Fail, build_contract, nearest
from ordertrail.config.document import given_in, read_document
from ordertrail.config.expectations import build_expectations, build_shares, build_volumes
from ordertrail.config.places import folders_of, plain_name, table_names
from ordertrail.config.settings import (
    ENVIRONMENT_PREFIX,
    SETTINGS,
    MaintenanceSection,
    PipelineSection,
    SparkSection,
)
from ordertrail.config.values import (
    ChangeFeed,
    Config,
    EngineName,
    Maintenance,
    Mode,
    SourceMarker,
    SparkSettings,
    TablesBy,
)
from ordertrail.config.vendors import build_vendors
from ordertrail.errors import ConfigError
from ordertrail.model import Contract, Vendor
from ordertrail.rules.secrets import MASK, masked_value

LOG_LEVELS: tuple[str, ...] = ("debug", "info", "warning", "error")
"""The values that `ORDERTRAIL_LOG` may have."""

LOG_FORMATS: tuple[str, ...] = ("text", "json")
"""The values that `ORDERTRAIL_LOG_FORMAT` may have."""

_MIN_MEMORY_MB = 64


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


_CONVERT: dict[str, Callable[[str], object]] = {
    "text": str,
    "a number": float,
    "a whole number": int,
    "true or false": _boolean,
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UMASK = re.compile(r"0{0,2}[0-7]{2}")


def load_config(
    path: str | os.PathLike[str] = "ordertrail.toml", *, environ: Mapping[str, str] | None = None
) -> Config:
    """Read a config file.

    Args:
        path: The file; folders in it are relative to the folder it is in.
        environ: The environment; None takes that of the process.

    Returns:
        The checked settings.

    Raises:
        ConfigError: The file is missing or unreadable, or something in it or in the environment is wrong.
    """
    file = Path(path).absolute()
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{file}: there is no such config file",
            hint="write one with `ordertrail init`, or name another with --config FILE",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}", hint="name a readable file with --config FILE"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file}: byte {error.start} is not UTF-8", hint="save the file with the encoding UTF-8"
        ) from error
    return parse_config(text, base=file.parent, environ=environ, file=file)


def parse_config(
    text: str, *, base: Path, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> Config:
    """Parse the text of a config file.

    Args:
        text: TOML.
        base: Folder that relative paths start from.
        environ: The environment; None takes that of the process.
        file: The file that the text comes from, for messages.

    Returns:
        The checked settings.

    Raises:
        ConfigError: Something in the text or in the environment is wrong.
    """
    label = str(file) if file else "config"
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{label}: not valid TOML: {error}", hint="correct the file at that place") from error
    environ = os.environ if environ is None else environ
    overrides = _environment(environ)
    fail = _failure(label, overrides)
    data = _override(data, overrides)
    document = read_document(data, fail)
    contract = build_contract(document.contract, given_in(data, "contract"), fail)
    vendors = build_vendors(document.vendors, contract, fail)
    maintenance = _maintenance(document.maintenance, fail)
    spark = _spark(document.spark, fail)
    config = _config(document.pipeline, contract, vendors, base, file, fail)
    expectations = build_expectations(document.vendors, fail)
    volumes = build_volumes(document.vendors, fail)
    shares = build_shares(document.vendors, fail)
    alerts = build_alerts(document.alerts, [one.name for one in vendors], Place(base, environ), fail)
    ping = build_ping(document.pipeline.ping_url, Place(base, environ), fail)
    config = replace(config, maintenance=maintenance, spark=spark, expectations=expectations, volumes=volumes)
    return replace(config, shares=shares, alerts=alerts, ping=ping)


def log_level(environ: Mapping[str, str] | None = None, *, default: str = "info") -> str:
    """The level of `ORDERTRAIL_LOG`, one of `LOG_LEVELS`.

    Args:
        environ: The environment; None takes that of the process.
        default: The level when the variable is not set.

    Raises:
        ConfigError: The variable has another value.
    """
    value = (os.environ if environ is None else environ).get("ORDERTRAIL_LOG", default)
    if value.lower() not in LOG_LEVELS:
        raise ConfigError(
            f"environment: ORDERTRAIL_LOG = {value!r}: no such level", hint="use one of " + ", ".join(LOG_LEVELS)
        )
    return value.lower()


def serve_token(given: str | None, file: Path | None, *, environ: Mapping[str, str] | None = None) -> str:
    """The token that readers of the pages must have; "" for none.

    Args:
        given: On the command line; comes first.
        file: Holds it, with or without a line end; comes second, then `ORDERTRAIL_SERVE_TOKEN`.
        environ: The environment; None takes that of the process.

    Raises:
        ConfigError: The file cannot be read, or is empty.
    """
    if given is not None or file is None:
        return given or (os.environ if environ is None else environ).get("ORDERTRAIL_SERVE_TOKEN", "").strip()
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{file}: cannot be read: {why}", hint="name a readable file with --token-file") from error
    if not token:
        raise ConfigError(f"{file}: is empty", hint="write the token into it")
    return token


def log_format(environ: Mapping[str, str] | None = None) -> str:
    """The form of log lines, one of `LOG_FORMATS`: `ORDERTRAIL_LOG_FORMAT`, else text.

    Args:
        environ: The environment; None takes that of the process.

    Raises:
        ConfigError: The variable has another value.
    """
    value = (os.environ if environ is None else environ).get("ORDERTRAIL_LOG_FORMAT", LOG_FORMATS[0])
    if value.lower() not in LOG_FORMATS:
        raise ConfigError(
            f"environment: ORDERTRAIL_LOG_FORMAT = {value!r}: no such form", hint="use one of " + ", ".join(LOG_FORMATS)
        )
    return value.lower()


def trace_exporters(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The names of the exporters that OpenTelemetry's own variables ask for; empty when they ask for no traces.

    Args:
        environ: The environment; None takes that of the process.
    """
    found = os.environ if environ is None else environ
    if found.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    default = "otlp" if any(found.get(name) for name in endpoints) else ""
    names = (name.strip() for name in (found.get("OTEL_TRACES_EXPORTER") or default).split(","))
    return tuple(name for name in names if name not in ("", "none"))


# --- the environment ---------------------------------------------------------------------------------------------


def _environment(environ: Mapping[str, str]) -> dict[str, object]:
    """The values of `[pipeline]` that the environment overrides, converted, by dotted key."""
    known = {setting.environment: setting for setting in SETTINGS if setting.environment}
    found: dict[str, object] = {}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        setting = known.get(variable)
        if setting is None:
            raise ConfigError(
                f"environment: {variable} = {MASK}: there is no such setting",
                hint=nearest(variable, [name for name in known if name], otherwise="unset it"),
            )
        try:
            found[setting.key] = _CONVERT[setting.type](value)
        except ValueError as error:
            raise ConfigError(
                f"environment: {variable} = {value!r}: must be {setting.type}", hint=f"such as {setting.default!r}"
            ) from error
    return found


def _override(data: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    pipeline = data.get("pipeline", {})
    if not overrides or not isinstance(pipeline, dict):
        return dict(data)
    return {**data, "pipeline": {**pipeline, **{key.rpartition(".")[2]: value for key, value in overrides.items()}}}


def _failure(label: str, overrides: Mapping[str, object]) -> Fail:
    """The function that raises: it names the variable when the environment set the value, else file and key."""
    variables = {setting.key: setting.environment for setting in SETTINGS}

    def fail(key: str, value: object, problem: str, hint: str) -> NoReturn:
        place = f"environment: {variables[key]}" if key in overrides else f"{label}: {key}"
        # In `[spark.conf]` a value is wrong, but which one is not known here.
        secret = key == "spark.conf" or key.rpartition(".")[2] in SECRET_URLS
        hidden = MASK if secret else masked_value(key, repr(value))
        shown = "" if value is None else f" = {hidden}"
        raise ConfigError(f"{place}{shown}: {problem}", hint=hint)

    return fail


# --- what the types alone do not say ----------------------------------------------------------------------------------


def _config(
    section: PipelineSection,
    contract: Contract,
    vendors: tuple[Vendor, ...],
    base: Path,
    file: Path | None,
    fail: Fail,
) -> Config:
    if section.engine not in get_args(EngineName):
        hint = 'use engine = "embedded" or engine = "spark"'
        fail("pipeline.engine", section.engine, "there is no such engine", hint)
    mode = _mode(section, fail)
    if not _NAME.fullmatch(section.name):
        hint = "letters, digits, dots, hyphens and underscores, beginning with a letter or digit"
        fail("pipeline.name", section.name, "is not usable as a name", f"use {hint}")
    _check_numbers(section, fail)
    source, archive, warehouse = folders_of(section, base, fail)
    return Config(
        name=section.name,
        engine="spark" if section.engine == "spark" else "embedded",
        source=source,
        archive=archive,
        warehouse=warehouse,
        catalog=plain_name("catalog", section.catalog, fail),
        schema=plain_name("schema", section.schema_, fail),
        tables=table_names(section, fail),
        settle_s=section.settle_s,
        waiting_warn_h=section.waiting_warn_h,
        max_reject_share=section.max_reject_share,
        deletion_vectors=section.deletion_vectors,
        threads=section.threads,
        memory_limit_mb=section.memory_limit_mb,
        contract=contract,
        vendors=vendors,
        file=file,
        source_marker=_source_marker(section, fail),
        umask=_umask(section, fail),
        min_rejects=section.min_rejects,
        max_file_ahead_d=section.max_file_ahead_d,
        change_feed=_change_feed(section, fail),
        mode=mode,
        current=_other("current", section.current, section, fail),
        incidents=_other("incidents", section.incidents, section, fail),
    )


def _mode(section: PipelineSection, fail: Fail) -> Mode:
    found: Mode | None = next((one for one in get_args(Mode) if one == section.mode), None)
    if found is None:
        fail("pipeline.mode", section.mode, "there is no such mode", 'use mode = "upsert" or mode = "append"')
    return found


def _other(name: str, value: str, section: PipelineSection, fail: Fail) -> str:
    """The name of a view or table beside the five."""
    plain_name(name, value, fail)
    others = ("stage", "target", "history", "rejects", "deliveries", "current")
    for other in others[: None if name == "incidents" else -1]:
        if value.lower() == getattr(section, other).lower():
            what = "view" if other == "current" else "table"
            fail(f"pipeline.{name}", value, f"is also the {other} {what}", "give it its own name")
    return value


def _umask(section: PipelineSection, fail: Fail) -> int | None:
    if not section.umask:
        return None
    if not _UMASK.fullmatch(section.umask):
        hint = 'use an octal number as a text, such as umask = "0027": nothing for others, no writing for the group'
        fail("pipeline.umask", section.umask, "is no umask that leaves the owner all rights", hint)
    return int(section.umask, 8)


def _source_marker(section: PipelineSection, fail: Fail) -> SourceMarker:
    found: SourceMarker | None = next((one for one in get_args(SourceMarker) if one == section.source_marker), None)
    if found is None:
        fail("pipeline.source_marker", section.source_marker, _NO_CHOICE, _one_of(get_args(SourceMarker)))
    return found


def _change_feed(section: PipelineSection, fail: Fail) -> ChangeFeed:
    found: ChangeFeed | None = next((one for one in get_args(ChangeFeed) if one == section.change_feed), None)
    if found is None:
        fail("pipeline.change_feed", section.change_feed, _NO_CHOICE, _one_of(get_args(ChangeFeed)))
    return found


_NO_CHOICE = "there is no such choice"


def _one_of(choices: Sequence[str]) -> str:
    return "use one of " + ", ".join(f'"{one}"' for one in choices)


def _check_numbers(section: PipelineSection, fail: Fail) -> None:
    if section.settle_s < 0:
        fail("pipeline.settle_s", section.settle_s, "must not be negative", "use 0 or more seconds")
    if section.waiting_warn_h < 0:
        fail(
            "pipeline.waiting_warn_h", section.waiting_warn_h, "must not be negative", "use hours, or 0 for no warning"
        )
    if not 0 <= section.max_reject_share <= 1:
        hint = "use a share such as 0.2 for 20 %"
        fail("pipeline.max_reject_share", section.max_reject_share, "must be from 0 to 1", hint)
    if section.min_rejects < 1:
        fail("pipeline.min_rejects", section.min_rejects, "must be at least 1", "5 is the default; 1 has no floor")
    if section.max_file_ahead_d < 0:
        fail("pipeline.max_file_ahead_d", section.max_file_ahead_d, "must not be negative", "366 days is the default")
    if section.threads < 0:
        fail("pipeline.threads", section.threads, "must not be negative", "use 0 for all cores")
    if section.memory_limit_mb < _MIN_MEMORY_MB:
        hint = f"use at least {_MIN_MEMORY_MB}; 1024 is the default"
        fail("pipeline.memory_limit_mb", section.memory_limit_mb, "is too little to work with", hint)


def _maintenance(section: MaintenanceSection, fail: Fail) -> Maintenance:
    if section.max_small_files < 1:
        fail("maintenance.max_small_files", section.max_small_files, "must be at least 1", "use a number such as 8")
    if not 0 <= section.max_deleted_share <= 1:
        hint = "use a share such as 0.1 for 10 %"
        fail("maintenance.max_deleted_share", section.max_deleted_share, "must be from 0 to 1", hint)
    if section.file_size_mb < 1:
        fail("maintenance.file_size_mb", section.file_size_mb, "must be at least 1", "use a size such as 256")
    for name in ("retention_h", "log_retention_h"):
        if (value := getattr(section, name)) < 0:
            fail(f"maintenance.{name}", value, "must not be negative", "use 0 or more hours")
    if section.consumer_keep_d < 0:
        fail("maintenance.consumer_keep_d", section.consumer_keep_d, "must not be negative", "use 0 or more days")
    return Maintenance(
        auto=section.auto,
        max_small_files=section.max_small_files,
        max_deleted_share=section.max_deleted_share,
        file_size_bytes=section.file_size_mb << 20,
        retention_h=section.retention_h,
        log_retention_h=section.log_retention_h,
        consumer_keep_d=section.consumer_keep_d,
    )


def _spark(section: SparkSection, fail: Fail) -> SparkSettings:
    tables: TablesBy | None = next((one for one in get_args(TablesBy) if one == section.tables), None)
    if tables is None:
        hint = "use one of " + ", ".join(f'"{one}"' for one in get_args(TablesBy))
        fail("spark.tables", section.tables, "tables are not found that way", hint)
    if section.driver_max_mb < 0:
        fail("spark.driver_max_mb", section.driver_max_mb, "must not be negative", "use a size such as 64")
    if section.remote and not section.remote.startswith("sc://"):
        hint = 'use one such as "sc://server:15002"'
        fail("spark.remote", section.remote, "is not a Spark Connect address", hint)
    return SparkSettings(
        tables=tables,
        master=section.master,
        remote=section.remote,
        driver_max_bytes=section.driver_max_mb << 20,
        conf=tuple(sorted(section.conf.items())),
    )
