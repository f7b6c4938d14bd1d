"""`ordertrail.toml` and the environment, parsed once into frozen values."""

from ordertrail.config.load import (
    LOG_FORMATS,
    LOG_LEVELS,
    load_config,
    log_format,
    log_level,
    parse_config,
    serve_token,
    trace_exporters,
)
from ordertrail.config.settings import DEFAULT_CONTRACT, SETTINGS, Setting
from ordertrail.config.template import template
from ordertrail.config.values import Address, Alert, Config, Maintenance, SparkSettings, Tables, TablesBy

__all__ = [
    "DEFAULT_CONTRACT",
    "LOG_FORMATS",
    "LOG_LEVELS",
    "SETTINGS",
    "Address",
    "Alert",
    "Config",
    "Maintenance",
    "Setting",
    "SparkSettings",
    "Tables",
    "TablesBy",
    "load_config",
    "log_format",
    "log_level",
    "parse_config",
    "serve_token",
    "template",
    "trace_exporters",
]
