"""Passwords are masked wherever a text is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.config import SparkSettings, parse_config
from ordertrail.errors import ConfigError
from ordertrail.rules.secrets import masked, masked_value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sc://s:15002/;token=abc.d-e;user_id=me", "sc://s:15002/;token=***;user_id=me"),
        ("sc://s:15002/;x-databricks-token=abc", "sc://s:15002/;x-databricks-token=***"),
        ("cannot reach sc://s/;TOKEN=abc, again", "cannot reach sc://s/;TOKEN=***, again"),
        ("https://me:pass@host/x", "https://me:***@host/x"),
        (
            "jdbc:postgresql://h/d?user=me&password=p%40ss&ssl=true",
            "jdbc:postgresql://h/d?user=me&password=***&ssl=true",
        ),
        ("{'fs.s3a.secret.key': 'abc', 'a': 'b'}", "{'fs.s3a.secret.key': '***', 'a': 'b'}"),
        ("fs.azure.account.key.x.dfs=abc", "fs.azure.account.key.x.dfs=***"),
        ("a token of no value, and user_id=me", "a token of no value, and user_id=me"),
        ("sc://s:15002", "sc://s:15002"),
    ],
)
def test_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_setting_named_like_a_secret_has_its_value_masked_whole() -> None:
    assert masked_value("spark.hadoop.fs.s3a.access.key", "a b;c") == "***"
    assert masked_value("spark.master", "local[2]") == "local[2]"


def test_the_settings_of_spark_show_none() -> None:
    settings = SparkSettings(
        remote="sc://s/;token=s3cret",
        conf=(("fs.s3a.secret.key", "s3cret"), ("spark.ui.enabled", "true"), ("url", "jdbc:x://me:s3cret@h")),
    )
    assert "s3cret" not in repr(settings)
    assert "'spark.ui.enabled': 'true'" in repr(settings)
    assert "sc://s/;token=***" in repr(settings)


@pytest.mark.parametrize(
    "line",
    [
        'conf = { "fs.s3a.secret.key" = 5318008 }',
        'conf = { "spark.x" = 5318008 }',
        "password = 5318008",
        'more = { "api.key" = "5318008" }',
    ],
)
def test_a_setting_of_the_wrong_type_or_of_none_shows_none(line: str) -> None:
    toml = f'[pipeline]\nsource = "a"\narchive = "b"\nwarehouse = "c"\n[spark]\n{line}\n'
    with pytest.raises(ConfigError, match=r"spark\.\w+") as refused:
        parse_config(toml, base=Path("/"), environ={})
    assert "5318008" not in str(refused.value)


def test_a_config_that_is_refused_shows_none() -> None:
    toml = '[pipeline]\nsource = "a"\narchive = "b"\nwarehouse = "c"\n[spark]\nremote = "https://s/;token=s3cret"\n'
    with pytest.raises(ConfigError, match=r"spark\.remote.*is not a Spark Connect address") as refused:
        parse_config(toml, base=Path("/"), environ={})
    assert "s3cret" not in str(refused.value)
    shown = repr(parse_config(toml.replace("https:", "sc:"), base=Path("/"), environ={}))
    assert "s3cret" not in shown
    assert "token=***" in shown
