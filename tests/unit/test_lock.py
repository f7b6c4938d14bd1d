"""One pass at a time at a target, whatever the configs call else; the lock's file is nobody else's to hold."""

from __future__ import annotations

import errno
import fcntl
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest
from msgspec.structs import replace

from ordertrail.config import Config, parse_config
from ordertrail.errors import PassRunningError, StorageError
from ordertrail.lock import maintenance_lock, make_warehouse, pipeline_lock

TEXT = '[pipeline]\nsource = "in"\narchive = "done"\nwarehouse = "tables"\n'


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = parse_config(TEXT, base=tmp_path, environ={})
    make_warehouse(config)
    return config


def other_stage(config: Config) -> Config:
    return replace(config, tables=replace(config.tables, stage="another_stage"))


def test_configs_with_one_target_exclude_each_other_whatever_their_stage_is_called(config: Config) -> None:
    with pipeline_lock(config):
        with pytest.raises(PassRunningError):
            pipeline_lock(other_stage(config)).__enter__()
        elsewhere = replace(config, tables=replace(config.tables, target="t2", stage="s2"))
        with pipeline_lock(elsewhere):
            pass
    with pipeline_lock(other_stage(config)), pytest.raises(PassRunningError):
        pipeline_lock(config).__enter__()
    with pipeline_lock(config):
        pass


def test_maintenance_is_known_by_the_target_too(config: Config) -> None:
    with maintenance_lock(config):
        with pytest.raises(PassRunningError, match="maintenance"):
            maintenance_lock(other_stage(config)).__enter__()
        with pipeline_lock(config):
            pass


@pytest.mark.parametrize(("folder", "wanted"), [(0o755, 0o600), (0o777, 0o660), (0o750, 0o600), (0o770, 0o660)])
def test_a_lock_is_for_those_who_may_write_to_the_tables(config: Config, folder: int, wanted: int) -> None:
    config.warehouse.chmod(folder)
    with pipeline_lock(config):
        pass
    locks = list(config.warehouse.glob("*.lock"))
    assert {lock.stat().st_mode & 0o777 for lock in locks} == {wanted}
    for lock in locks:
        lock.chmod(0o666)  # as a release before made it
    with pipeline_lock(config):
        assert {lock.stat().st_mode & 0o777 for lock in locks} == {wanted}


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> NoReturn:
        raise OSError(request.param, "not here")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("no_flock")
def test_without_flock_no_file_stands_for_the_lock(config: Config) -> None:
    with ExitStack() as held:
        with pytest.raises(StorageError, match=r"does not support locks \(flock\).*put the warehouse on a local disk"):
            held.enter_context(pipeline_lock(config))
        with pytest.raises(StorageError, match="does not support locks"):
            held.enter_context(maintenance_lock(config))


def test_a_warehouse_that_is_gone_is_not_made_for_its_lock(config: Config) -> None:
    config.warehouse.joinpath("x").touch()
    config.warehouse.rename(config.warehouse.with_name("away"))
    with pytest.raises(StorageError, match="check that its disk is mounted"):
        pipeline_lock(config).__enter__()
    assert not config.warehouse.exists()
