"""The bundle that `ordertrail deploy databricks` writes: job, notebooks, config, CI, from templates.

`bundle_files` is pure; `deploy` reads what it is made of and writes it. Whether the job is one that Databricks takes is
checked in `tests/unit/test_bundle.py`, against the classes of databricks-sdk.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from ordertrail.config import DEFAULT_CONTRACT, Config, parse_config, template
from ordertrail.databricks.bundle_config import databricks_toml
from ordertrail.errors import StorageError, UsageError
from ordertrail.model import Vendor

OWN_GIT = "${bundle.git.origin_url}"
"""The remote of the repository that the bundle is deployed from, as Databricks' CLI finds it."""

_PROVIDERS = {
    "github.com": "gitHub",
    "gitlab.com": "gitLab",
    "bitbucket.org": "bitbucketCloud",
    "dev.azure.com": "azureDevOpsServices",
}
_VOLUME = "/Volumes/${var.catalog}/${resources.schemas.orders.name}/${resources.volumes.orders_data.name}"
_PLACE = re.compile(r"<<(\w+)>>")
_EMAIL = re.compile(r"[^\s@\"'<>]+@[^\s@\"'<>]+")
_REQUIREMENT = re.compile(r"[A-Za-z0-9.][^\s'\"\\]*|/[^\s'\"\\]+\.whl")
_TEMPLATES = {
    "databricks.yml": "databricks.yml",
    "notebooks/order_stage_load.py": "order_stage_load.py",
    "notebooks/orders_target_load.py": "orders_target_load.py",
    "notebooks/order_attention.py": "order_attention.py",
    ".github/workflows/orders.yml": "workflow.yml",
    "README.md": "README.md",
}
_SAMPLE = "samples/order_tracking_2026_11_23.csv"


@dataclass(frozen=True, slots=True)
class BundleOptions:
    """What a bundle is made of.

    Attributes:
        requirement: What pip installs in the job: `ordertrail==...`, or a path to a wheel.
        toml: The config to take contract, vendors and names from; None takes the order feed's.
        catalog: Of tables and Volume; None takes the config's.
        schema: Of tables and Volume; None takes the config's.
        emails: Who is told when a run fails or needs a person.
        git_url: Where production gets the notebooks from; None takes the remote of the repository.
        ci_requirement: What pip installs in CI; None takes `requirement`.
    """

    requirement: str
    toml: str | None = None
    catalog: str | None = None
    schema: str | None = None
    emails: tuple[str, ...] = ()
    git_url: str | None = None
    ci_requirement: str | None = None


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file of the bundle.

    Attributes:
        path: Below the bundle's folder.
        action: `written`, `replaced`, or `unchanged` when it was there with the same content.
    """

    path: str
    action: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was written.

    Attributes:
        folder: Where it is.
        catalog: Of tables and Volume.
        schema: Of tables and Volume in production.
        config: The config that contract and vendors are from; None when there was none.
        files: All files of it, in the order of their paths.
        notes: What is still to be done by hand, one line each.
    """

    folder: Path
    catalog: str
    schema: str
    config: Path | None
    files: tuple[BundleFile, ...]
    notes: tuple[str, ...]


def bundle_files(options: BundleOptions) -> dict[str, str]:
    """The text of every file of the bundle.

    Args:
        options: What it is made of.

    Returns:
        Text by path below the bundle's folder.

    Raises:
        ConfigError: The config is wrong.
        UsageError: An option does not fit.
    """
    _check(options)
    config = _config(options)
    values = {
        "name": config.name,
        "target": f"{config.catalog}.{config.schema}.{config.tables.target}",
        "catalog": config.catalog,
        "schema": config.schema,
        "volume": _VOLUME,
        "emails": json.dumps(list(options.emails)),
        "requirement": json.dumps(options.requirement),
        "pip_requirement": shlex.quote(options.ci_requirement or options.requirement),
        "git_url": options.git_url or OWN_GIT,
        "git_provider": _provider(options.git_url),
    }
    made = {path: _filled(name, values) for path, name in _TEMPLATES.items()}
    made["ordertrail.toml"] = databricks_toml(options.toml or template(), config.catalog, config.schema)
    if config.contract == DEFAULT_CONTRACT and config.vendors == (Vendor("default"),):
        made[_SAMPLE] = _filled("sample.csv", {})
    else:
        # Git keeps no empty folder, and the sample of one contract is a broken file for another.
        made["samples/.gitkeep"] = ""
    return dict(sorted(made.items()))


def deploy(folder: Path, config_file: Path, options: BundleOptions, *, force: bool) -> Bundle:
    """Write a bundle.

    Args:
        folder: Where to; it is made when it is not there.
        config_file: Contract, vendors and names are its when it is there; else they are the order feed's.
        options: The rest; `toml` is not looked at, and a wheel that is a file here is copied into the bundle.
        force: Replace files that are there with other content.

    Raises:
        ConfigError: The config is wrong.
        UsageError: A file is there with other content, or an option does not fit. Nothing was written.
        StorageError: A file cannot be read or written.
    """
    there = config_file if config_file.is_file() else None
    try:
        toml = None if there is None else there.read_text(encoding="utf-8-sig")
        options, wheels = _with_wheel(replace(options, toml=toml))
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read what the bundle is made of: {error}", hint="name readable files") from error
    made = bundle_files(options)
    config = _config(options)
    content = {**{path: text.encode() for path, text in made.items()}, **wheels}
    written = _write(folder, content, force=force)
    return Bundle(folder, config.catalog, config.schema, there, written, tuple(_notes(options, made)))


# --- what it is made of ------------------------------------------------------------------------------------------


def _check(options: BundleOptions) -> None:
    for email in options.emails:
        if not _EMAIL.fullmatch(email):
            raise UsageError(f"{email!r} is no e-mail address", hint="write it such as --email desk@example.com")
    if not _REQUIREMENT.fullmatch(options.requirement):
        raise UsageError(
            f"{options.requirement!r} is nothing that pip installs", hint="name a version, a wheel file or a URL"
        )
    url = urlsplit(options.git_url or OWN_GIT)
    if options.git_url is not None and (
        url.scheme != "https" or not url.hostname or re.search(r"[\s'\"#]", url.geturl())
    ):
        raise UsageError(f"{options.git_url!r} is no https URL of a repository", hint="it begins with https://")
    if url.username or url.password:
        raise UsageError("the URL of the repository holds credentials", hint="take them out: the bundle is committed")


def _config(options: BundleOptions) -> Config:
    """The config with the catalog and the schema of the options."""
    text = options.toml or template()
    given = {"CATALOG": options.catalog, "SCHEMA": options.schema}
    environ = {f"ORDERTRAIL_PIPELINE_{name}": value for name, value in given.items() if value is not None}
    return parse_config(text, base=Path("/"), environ=environ)


def _provider(git_url: str | None) -> str:
    host = urlsplit(git_url).hostname if git_url else None
    return _PROVIDERS.get(host or "", "gitHub")


def _with_wheel(options: BundleOptions) -> tuple[BundleOptions, dict[str, bytes]]:
    """Take a wheel that is a file here into the bundle: the workflow installs it too."""
    given = options.requirement
    if not given.endswith(".whl") or "://" in given:
        return options, {}
    if given.startswith(("/Volumes/", "/Workspace/")):
        return replace(options, ci_requirement="ordertrail"), {}
    wheel = Path(given)
    if not wheel.is_file():
        raise UsageError(f"there is no wheel {given}", hint="build one with: python -m build --wheel")
    path = f"wheels/{wheel.name}"
    return replace(options, requirement=f"./{path}"), {path: wheel.read_bytes()}


def _filled(name: str, values: Mapping[str, str]) -> str:
    text = files("ordertrail.databricks").joinpath("templates", f"{name}.tmpl").read_text(encoding="utf-8")
    return _PLACE.sub(lambda place: values[place[1]], text)


def _notes(options: BundleOptions, made: Mapping[str, str]) -> list[str]:
    notes = []
    if not options.emails:
        notes.append("nobody is alerted: set alert_emails or alert_webhooks in databricks.yml, or give --email")
    if _SAMPLE not in made:
        notes.append("put a sample file of each vendor into samples/: CI plans them")
    if options.ci_requirement is not None:
        notes.append("CI cannot reach that wheel and installs ordertrail from the package index: correct it if need be")
    return notes


# --- writing -----------------------------------------------------------------------------------------------------


def _write(folder: Path, content: Mapping[str, bytes], *, force: bool) -> tuple[BundleFile, ...]:
    try:
        actions = {path: _action(folder / path, data) for path, data in content.items()}
        taken = [path for path, action in actions.items() if action == "replaced"]
        if taken and not force:
            raise UsageError(
                f"{folder} has these files with other content: {', '.join(taken)}",
                hint="replace them with --force, or name another folder; nothing was written",
            )
        for path, action in actions.items():
            if action != "unchanged":
                _write_file(folder / path, content[path])
    except OSError as error:
        place = error.filename or folder
        raise StorageError(
            f"cannot write {place}: {error.strerror}", hint="see that the folder can be written to, then run again"
        ) from error
    return tuple(BundleFile(path, actions[path]) for path in sorted(actions))


def _action(file: Path, data: bytes) -> str:
    if not os.path.lexists(file):
        return "written"
    return "unchanged" if file.is_file() and file.read_bytes() == data else "replaced"


def _write_file(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(data)
    unfinished.replace(file)
