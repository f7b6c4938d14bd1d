"""Image and compose file that `ordertrail deploy docker` writes, with the ordertrail that is installed here."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ordertrail import __version__
from ordertrail.config import Config, parse_config, template
from ordertrail.deploy.files import Deployed, filled, write_files
from ordertrail.deploy.monitoring import METRICS_PORT, monitoring_files
from ordertrail.deploy.own_wheel import NAME, own_wheel
from ordertrail.deploy.systemd import BESIDE_LIMIT_MB
from ordertrail.errors import StorageError, UsageError
from ordertrail.look.search_cache import FOLDER

UID = 10001
"""User and group in the containers; a number that no machine gives to people."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The Python of the image: the one that runs here, so that `constraints.txt` fits."""

EXTRAS = ("alerts", "web")
"""What the image has beside the core."""

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_BIND_FOLDERS = {"SOURCE": "/data/source", "ARCHIVE": "/data/archive", "WAREHOUSE": "/data/warehouse"}


def image_files(toml: str) -> dict[str, str]:
    """The text of every file but the wheel.

    Args:
        toml: The config.

    Returns:
        Text by path below the folder.

    Raises:
        ConfigError: The config is wrong.
        UsageError: Its engine is not in the image, or ordertrail is not installed here.
    """
    config = _config(toml)
    values = {
        "name": config.name,
        "project": f"ordertrail-{re.sub(r'[^a-z0-9_-]+', '-', config.name.lower())}",
        "version": __version__,
        "python": PYTHON,
        "wheel": NAME,
        "uid": str(UID),
        "port": str(METRICS_PORT),
        "cache": FOLDER,
        "memory_mb": str(config.memory_limit_mb + BESIDE_LIMIT_MB),
    }
    names = {
        "Dockerfile": "Dockerfile",
        "compose.yaml": "compose.yaml",
        ".dockerignore": "dockerignore",
        ".env.example": "env.example",
        "README.md": "README.md",
    }
    made = {path: filled(f"docker/{name}", values).rstrip() + "\n" for path, name in names.items()}
    made |= monitoring_files(METRICS_PORT)
    made |= {"ordertrail.toml": toml, "constraints.txt": constraints()}
    return dict(sorted(made.items()))


def deploy(folder: Path, config_file: Path, *, force: bool) -> Deployed:
    """Write what an image is built from, and a compose file.

    Args:
        folder: Created when it is missing.
        config_file: The pipeline's config; when it does not exist, the order feed's contract is used.
        force: Whether to replace existing files with other content.

    Raises:
        ConfigError: The config is wrong.
        UsageError: A file exists with other content, or the engine is not in the image. Nothing was written.
        StorageError: A file cannot be read or written.
    """
    there = config_file if config_file.is_file() else None
    try:
        toml = template() if there is None else there.read_text(encoding="utf-8-sig")
        made = image_files(toml)
        content = {path: text.encode() for path, text in made.items()} | {f"wheels/{NAME}": own_wheel()}
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read what the image is made of: {error}", hint="name readable files") from error
    except PackageNotFoundError as error:
        raise UsageError(
            "ordertrail runs without being installed: there is no wheel of it", hint="install it"
        ) from error
    written = write_files(folder, content, force=force)
    return Deployed(folder, there, written, ("find the digest of the base image and write it into .env: README.md",))


def _config(toml: str) -> Config:
    environ = {f"ORDERTRAIL_PIPELINE_{name}": value for name, value in _BIND_FOLDERS.items()}
    config = parse_config(toml, base=Path("/etc/ordertrail"), environ=environ)
    if config.engine != "embedded":
        raise UsageError(
            f'the image has neither Java nor Spark, and the config says engine = "{config.engine}"',
            hint='run that engine where Spark is; deploy docker is for engine = "embedded"',
        )
    return config


def constraints() -> str:
    """The versions of all that ordertrail needs as they are here, for pip: the image gets what was tried.

    Raises:
        PackageNotFoundError: ordertrail runs without being installed.
    """
    found: dict[str, str] = {}
    waiting = [("ordertrail", frozenset(EXTRAS))]
    while waiting:
        name, extras = waiting.pop()
        for text in distribution(name).requires or ():
            wanted = _EXTRA.search(text)
            needed = _REQUIREMENT.match(text)
            if needed is None or (wanted and wanted[1] not in extras):
                continue
            plain = re.sub(r"[-_.]+", "-", needed[1]).lower()
            if plain in found:
                continue
            try:
                found[plain] = distribution(plain).version
            except PackageNotFoundError:  # for another system or Python
                continue
            waiting.append((plain, frozenset()))
    lines = [f"{name}=={version}" for name, version in sorted(found.items())]
    return "\n".join(
        ["# The versions with which this ordertrail was installed, by `ordertrail deploy docker`.", *lines, ""]
    )
