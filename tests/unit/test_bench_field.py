"""What `bench.field` is made of: every contender can be installed, and has all that its kind needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from bench import field, field_peers, peers, upsert

TOLD = tomllib.loads((Path(field.__file__).parent / "field.toml").read_text(encoding="utf-8"))


def test_each_environment_is_pinned_and_used() -> None:
    assert {one.environment for one in field.CONTENDERS.values()} - {None} == set(TOLD)
    for one in TOLD.values():
        for requirement in one["requires"]:
            assert re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==[\d.]+", requirement), requirement


@pytest.mark.parametrize("name", field.CONTENDERS)
def test_each_contender_has_its_way(name: str) -> None:
    one = field.CONTENDERS[name]
    if one.environment is not None:
        assert name in field_peers.PEERS
        assert (one.kind == "own") == (name in field_peers.KEEPERS)
    elif name != "ordertrail":
        assert name in peers.WAYS
        assert upsert.CONTENDERS[name].kind == one.kind


def test_a_trap_is_a_batch_of_the_contract() -> None:
    cells = len(field.HEADER.split(","))
    for lines in field.TRAPS.values():
        assert {len(line.split(",")) for line in lines} == {cells}
