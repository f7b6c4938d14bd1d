"""The bundle that `ordertrail deploy databricks` writes: job, notebooks, config and CI, from templates.

`bundle_files` is pure; `deploy` reads its inputs and writes the files. `tests/unit/test_bundle.py` checks the job
against the classes of databricks-sdk.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from itertools import takewhile
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import DEFAULT_CONTRACT, Config, parse_config, template
from ordertrail.databricks.bundle_config import databricks_toml
from ordertrail.databricks.layouts import LAYOUTS, Layout
from ordertrail.deploy.files import WrittenFile, filled, write_files
from ordertrail.deploy.own_wheel import NAME, own_wheel
from ordertrail.errors import StorageError, UsageError
from ordertrail.model import Vendor

_WILD = frozenset("*?[")
_EMAIL = re.compile(r"[^\s@\"'<>]+@[^\s@\"'<>]+")
_REQUIREMENT = re.compile(r"[A-Za-z0-9.][^\s'\"\\]*|/[^\s'\"\\]+\.whl")
_TEMPLATES = {
    "databricks.yml": "databricks.yml",
    "notebooks/order_stage_load.py": "order_stage_load.py",
    "notebooks/orders_target_load.py": "orders_target_load.py",
    "notebooks/order_attention.py": "order_attention.py",
    "notebooks/orders_adopt.py": "orders_adopt.py",
    "notebooks/orders_migrate.py": "orders_migrate.py",
    ".github/workflows/orders.yml": "workflow.yml",
    "README.md": "README.md",
}
OWN_WHEEL = f"./wheels/{NAME}"
"""The wheel of the ordertrail that writes the bundle, as a path in it."""

_SAMPLE = "samples/order_tracking_2026_11_23.csv"


class BundleOptions(Struct, frozen=True):
    """The options of a bundle.

    Attributes:
        requirement: What pip installs in the job: `ordertrail==...`, or a path to a wheel; None means the ordertrail
            that is installed here, as a wheel.
        toml: The config with contract, vendors and names; None means the order feed's.
        catalog: Catalog of tables and Volume; None means the config's.
        schema: Schema of tables and Volume; None means the config's.
        emails: Who is alerted when a run fails or needs a person.
        layout: One of `LAYOUTS`: where source and archive are.
        ci_requirement: What pip installs in CI; None means `requirement`.
    """

    requirement: str | None = None
    toml: str | None = None
    catalog: str | None = None
    schema: str | None = None
    emails: tuple[str, ...] = ()
    layout: str = next(iter(LAYOUTS))
    ci_requirement: str | None = None


class Bundle(Struct, frozen=True):
    """A bundle that was written.

    Attributes:
        folder: Its folder.
        catalog: Catalog of tables and Volume.
        schema: Schema of tables and Volume in production.
        config: The config of contract and vendors; None when there was none.
        files: All its files, in the order of their paths.
        notes: What remains to be done by hand, one line each.
    """

    folder: Path
    catalog: str
    schema: str
    config: Path | None
    files: tuple[WrittenFile, ...]
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
    config, layout = _config(options), LAYOUTS[options.layout]
    requirement = options.requirement or OWN_WHEEL
    source, archive = layout.references()
    values = {
        "name": config.name,
        "target": f"{config.catalog}.{config.schema}.{config.tables.target}",
        "catalog": config.catalog,
        "schema": config.schema,
        "source": source,
        "archive": archive,
        "volumes": layout.resources(),
        "production_volumes": layout.production().rstrip("\n"),
        "emails": json.dumps(list(options.emails)),
        "requirement": json.dumps(requirement),
        "pip_requirement": shlex.quote(options.ci_requirement or requirement),
        **_first_steps(layout),
    }
    made = {path: _filled(name, values) for path, name in _TEMPLATES.items()}
    made["ordertrail.toml"] = databricks_toml(
        options.toml or template(), config.catalog, config.schema, layout.folders(config.catalog, config.schema)
    )
    if config.contract == DEFAULT_CONTRACT and config.vendors == (Vendor("default"),):
        made[_SAMPLE] = _filled("sample.csv", {})
    else:
        # Git keeps no empty folder, and the sample of one contract is a broken file for another.
        made |= {f"{_sample_folder(vendor)}/.gitkeep": "" for vendor in config.vendors}
    return dict(sorted(made.items()))


def deploy(folder: Path, config_file: Path, options: BundleOptions, *, force: bool) -> Bundle:
    """Write a bundle.

    Args:
        folder: The folder to write to; created when it is missing.
        config_file: The config with contract, vendors and names; when it does not exist, the order feed's are used.
        options: The options; `toml` is ignored, and a wheel that is a local file is copied into the bundle.
        force: Whether to replace existing files with other content.

    Raises:
        ConfigError: The config is wrong.
        UsageError: A file exists with other content, or an option does not fit. Nothing was written.
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
    written = write_files(folder, content, force=force)
    return Bundle(folder, config.catalog, config.schema, there, written, tuple(_notes(options, made)))


# --- what it is made of ------------------------------------------------------------------------------------------


def _check(options: BundleOptions) -> None:
    for email in options.emails:
        if not _EMAIL.fullmatch(email):
            raise UsageError(f"{email!r} is no e-mail address", hint="write it such as --email desk@example.com")
    if options.layout not in LAYOUTS:
        raise UsageError(f"there is no layout {options.layout!r}", hint="use one of " + ", ".join(LAYOUTS))
    if options.requirement is not None and not _REQUIREMENT.fullmatch(options.requirement):
        raise UsageError(
            f"{options.requirement!r} is nothing that pip installs", hint="name a version, a wheel file or a URL"
        )


def _config(options: BundleOptions) -> Config:
    """The config with the catalog and the schema of the options."""
    text = options.toml or template()
    given = {"CATALOG": options.catalog, "SCHEMA": options.schema}
    environ = {f"ORDERTRAIL_PIPELINE_{name}": value for name, value in given.items() if value is not None}
    return parse_config(text, base=Path("/"), environ=environ)


def _first_steps(layout: Layout) -> dict[str, str]:
    """The README's text about the source folder, which is created by hand unless it is a Volume's root."""
    volume, path = layout.source
    if not path:
        first = f"Put a sample into the Volume `{volume}` of that schema, then `databricks bundle run orders`."
        return {"first_file": first, "first_folder": ""}
    folder = path.rstrip("/")
    first = f"Make the folder `{folder}` in the Volume `{volume}` of that schema. Put a sample into it, then\n"
    again = (
        f" Make the folder `{folder}` in the production Volume too,\n   and deploy again if the trigger was refused."
    )
    return {"first_file": f"{first}   `databricks bundle run orders`.", "first_folder": again}


def _sample_folder(vendor: Vendor) -> str:
    """The folder for samples of a vendor: the same below `samples` as below the source."""
    parts = vendor.files.split("/")[:-1]
    plain = takewhile(lambda part: part.isprintable() and not _WILD.intersection(part), parts)
    return "/".join(("samples", *plain))


def _with_wheel(options: BundleOptions) -> tuple[BundleOptions, dict[str, bytes]]:
    """Copy a wheel that is a local file into the bundle: the workflow installs it, too."""
    given = options.requirement
    if given is None:
        try:
            return options, {OWN_WHEEL.removeprefix("./"): own_wheel()}
        except PackageNotFoundError as error:
            hint = "name a wheel with --wheel, or install ordertrail"
            raise UsageError("ordertrail runs without being installed: there is no wheel of it", hint=hint) from error
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
    return filled(name, values, "ordertrail.databricks")


def _notes(options: BundleOptions, made: Mapping[str, str]) -> list[str]:
    notes = []
    if not options.emails:
        notes.append("nobody is alerted: set alert_emails or alert_webhooks in databricks.yml, or give --email")
    if _SAMPLE not in made:
        notes.append("put a sample file of each vendor into samples/: CI plans them")
    if options.ci_requirement is not None:
        notes.append("CI cannot reach that wheel and installs ordertrail from the package index: correct it if need be")
    return notes
