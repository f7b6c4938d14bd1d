"""`ordertrail backup` and `ordertrail restore`."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable
from msgspec.structs import astuple, replace

from ordertrail import lock
from ordertrail.cli import cli
from ordertrail.config import Config, Maintenance
from ordertrail.delta.snapshot import Snapshot
from ordertrail.errors import OrdertrailError, PassRunningError, SourceError, StorageError, TableError, UsageError
from ordertrail.keep import backed_up
from ordertrail.keep import backup as backup_module
from ordertrail.keep.backed_up import check_hashes, read_manifest
from ordertrail.keep.backup import BackupReport, backup
from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import rebuild
from ordertrail.keep.restore import RestoreReport, restore
from ordertrail.lock import maintenance_lock
from ordertrail.look.verify import verify
from ordertrail.markers import begin_anew
from ordertrail.sources.notes import notes_path
from tests.fault.world import BATCHES, World


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two batches; the target has deletion vectors. Only to copy."""
    world = World.make(tmp_path_factory.mktemp("made") / "world")
    for files in BATCHES[:2]:
        world.put(files)
        world.run()
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    return made.copy(tmp_path / "world")


def back_up(world: World, **how: bool) -> tuple[Path, BackupReport]:
    folder = world.base.parent / "kept"
    return folder, backup(world.config, folder, config_file=world.base / "ordertrail.toml", **how)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def next_batch(world: World) -> None:
    world.put(BATCHES[2])
    world.run()


def test_a_backup_holds_all_of_it(world: World) -> None:
    folder, report = back_up(world)
    contents = read_manifest(folder)
    assert (report.batch, contents.batch, contents.pipeline) == (2, 2, "orders")
    assert {path.partition("/")[0] for path in contents.below("tables")} == {
        "stage", "target", "history", "rejects", "deliveries",
    }  # fmt: skip
    assert any("/_dv/" in path for path in contents.files)
    assert (folder / "ordertrail.toml").read_bytes() == (world.base / "ordertrail.toml").read_bytes()
    assert set(contents.below("markers")) == {"archive", "source"}
    assert set(contents.files) | {"backup.json"} == set(tree(folder))
    assert report.linked > report.files / 2
    assert (folder.stat().st_mode & 0o077) == 0
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_what_comes_later_does_not_harm_it_and_it_comes_back(world: World) -> None:
    """Passes, compaction, VACUUM at once and a rebuild: linked files are the backup's too, and none is written to."""
    before = world.state()
    eager = Maintenance(max_small_files=1, retention_h=0, log_retention_h=0)
    DeltaTable(world.table("orders_target")).create_checkpoint()
    folder, _ = back_up(world)
    assert list(folder.glob("tables/target/_delta_log/*.checkpoint.parquet"))
    assert (folder / "tables/target/_delta_log/_last_checkpoint").exists()
    kept = tree(folder)
    next_batch(world)
    end = world.state()
    maintain(replace(world.config, maintenance=eager))
    rebuild(world.config)
    assert tree(folder) == kept

    report = restore(world.config, folder, force=True)
    assert world.state()._replace(archive={}) == before._replace(archive={})
    assert verify(world.config).ok
    assert sorted(one.path or "" for one in report.unknown) == sorted(file.path for file in BATCHES[2])
    assert report.aside is not None
    assert {path.name for path in report.aside.iterdir()} >= {"orders_target", "orders_deliveries", "orders_stage"}

    for one in report.unknown:
        assert one.path is not None
        shutil.copy2(world.archive / one.archived_to, world.source / one.path)
    world.run()
    assert world.state()._replace(archive={}) == end._replace(archive={})
    assert verify(world.config, archive=True).ok
    assert tree(folder) == kept
    assert restore(world.config, folder, force=True).batch == 2


@pytest.mark.parametrize("with_archive", [False, True])
def test_all_is_lost(world: World, with_archive: bool) -> None:
    """Only the source is left. Without the archive its files are gone, and a pass goes on."""
    before = world.state()
    folder, report = back_up(world, with_archive=with_archive)
    assert report.with_archive == with_archive
    shutil.rmtree(world.base / "warehouse")
    shutil.rmtree(world.archive)
    (world.source / ".ordertrail").unlink()
    found = restore(world.config, folder)
    assert (found.aside, found.unknown, found.resumed) == (None, (), False)
    assert found.archived == (len(before.archive) if with_archive else 0)
    assert world.state() == before._replace(archive=before.archive if with_archive else {})
    assert verify(world.config).ok
    next_batch(world)
    assert verify(world.config).ok
    if with_archive:
        world.check([file for files in BATCHES for file in files])


def test_an_archived_file_is_never_overwritten(world: World) -> None:
    folder, _ = back_up(world, with_archive=True)
    changed, gone = sorted(path for path in world.archive.rglob("*.csv"))[:2]
    changed.write_bytes(b"something else")
    content = gone.read_bytes()
    gone.unlink()
    report = restore(world.config, folder, force=True)
    assert (changed.read_bytes(), gone.read_bytes()) == (b"something else", content)
    assert report.archived == 1
    assert len(report.warnings) == 1
    assert changed.name in report.warnings[0]


def test_tables_begun_anew_give_way(world: World) -> None:
    before = world.state()
    folder, _ = back_up(world)
    shutil.rmtree(world.base / "warehouse")
    begin_anew(world.config)
    next_batch(world)
    report = restore(world.config, folder, force=True)
    assert len(report.unknown) == len(BATCHES[2])
    assert world.state()._replace(archive={}) == before._replace(archive={})
    assert world.run().batch is None
    assert verify(world.config).ok


def test_it_refuses_tables_that_are_there_and_changes_nothing(world: World) -> None:
    folder, _ = back_up(world)
    next_batch(world)
    before = tree(world.base)
    with pytest.raises(UsageError, match="there are tables") as caught:
        restore(world.config, folder)
    assert "--force" in caught.value.hint
    assert tree(world.base) == before


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("damage", [flipped, cut, Path.unlink])
@pytest.mark.parametrize(
    "which", ["tables/target/*.parquet", "tables/target/_dv/*", "tables/history/_delta_log/*.json", "backup.json"]
)
def test_a_damaged_backup_is_refused(world: World, which: str, damage: Callable[[Path], None]) -> None:
    folder, _ = back_up(world)
    before = tree(world.base)
    damage(next(folder.glob(which)))
    with pytest.raises(OrdertrailError, match=r"is damaged|is no backup") as caught:
        restore(world.config, folder, force=True)
    assert caught.value.hint
    assert tree(world.base) == before


def test_a_manifest_leads_to_no_other_place(world: World) -> None:
    folder, _ = back_up(world)
    contents = read_manifest(folder)
    held = next(iter(contents.files.values()))
    backed_up.write_manifest(folder, replace(contents, files={**contents.files, "tables/../../x": held}))
    with pytest.raises(StorageError, match="is damaged"):
        restore(world.config, folder, force=True)


def test_what_cannot_be_backed_up(world: World) -> None:
    base, config = world.base, world.config
    (base / "file").touch()
    (base / "empty").mkdir()
    for folder, what in (
        (base / "file", "is there already"),
        (base / "empty", "is there already"),
        (base / "none" / "kept", "no folder"),
        (world.source / "kept", "inside pipeline.source"),
        (world.archive / "kept", "inside pipeline.archive"),
        (base / "warehouse" / "kept", "inside pipeline.warehouse"),
    ):
        with pytest.raises(UsageError, match=what):
            backup(config, folder)
    named = replace(config, engine="spark", spark=replace(config.spark, tables="catalog"))
    for call in (lambda: backup(named, base / "kept"), lambda: restore(named, base / "kept")):
        with pytest.raises(UsageError, match="found by name"):
            call()
    with maintenance_lock(config), pytest.raises(PassRunningError):
        backup(config, base / "kept")
    next(world.table("orders_history").glob("*.parquet")).unlink()
    with pytest.raises(TableError, match="nothing was backed up"):
        backup(config, base / "kept")
    shutil.rmtree(base / "warehouse")
    with pytest.raises(StorageError, match="is the disk mounted"):
        backup(config, base / "kept")
    assert not (base / "kept").exists()


def test_what_cannot_be_restored(world: World, tmp_path: Path) -> None:
    folder, _ = back_up(world)
    with pytest.raises(UsageError, match="is no backup"):
        restore(world.config, tmp_path)
    with pytest.raises(UsageError, match="backup of pipeline orders, not of parcels"):
        restore(replace(world.config, name="parcels"), folder)
    other = World.make(tmp_path / "other", (world.base / "ordertrail.toml").read_text() + "")
    foreign = replace(other.config, name="parcels")
    other.put(BATCHES[0])
    from ordertrail.pipeline import Pipeline

    Pipeline(foreign).run()
    shutil.rmtree(foreign.warehouse)
    with pytest.raises(SourceError, match="belongs to pipeline parcels"):
        restore(other.config, folder)


# -- disks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    here = tmp_path.stat().st_dev
    for place in ("/dev/shm", "/tmp", "/var/tmp"):
        if os.access(place, os.W_OK) and Path(place).stat().st_dev != here:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                yield Path(folder)
            return
    pytest.skip("there is no other file system here")


def test_on_another_disk_it_is_copied(world: World, other_disk: Path) -> None:
    before = world.state()
    report = backup(world.config, other_disk / "kept")
    assert report.linked == 0
    shutil.rmtree(world.base / "warehouse")
    restore(world.config, other_disk / "kept")
    assert world.state() == before
    assert verify(world.config).ok


def test_a_file_with_two_names_is_copied_once(tmp_path: Path, other_disk: Path) -> None:
    """As the rows of a batch that are the target's and the history's."""
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    transfer = backed_up.Transfer()
    for name in ("a", "b"):
        transfer.link(tmp_path / name, other_disk / name)
    assert (transfer.linked, transfer.copied) == (1, 1)
    assert (other_disk / "a").samefile(other_disk / "b")


def failing(monkeypatch: pytest.MonkeyPatch, code: int, at: int) -> list[Path]:
    """Let the n-th file (from 0) that is linked or copied fail; the paths so far."""
    seen: list[Path] = []
    link, copy = backed_up.Transfer.link, backed_up.Transfer.copy

    def hit(target: Path) -> None:
        seen.append(target)
        if len(seen) - 1 == at:
            raise OSError(code, os.strerror(code), str(target))

    def linked(it: backed_up.Transfer, source: Path, target: Path) -> None:
        hit(target)
        link(it, source, target)

    def copied(it: backed_up.Transfer, source: Path, target: Path) -> None:
        hit(target)
        copy(it, source, target)

    monkeypatch.setattr(backed_up.Transfer, "link", linked)
    monkeypatch.setattr(backed_up.Transfer, "copy", copied)
    return seen


@pytest.mark.parametrize("at", [0, 7, 20])
def test_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Nothing is left of a backup, nothing is changed by a restore, and both work once there is room."""
    folder = world.base.parent / "kept"
    with monkeypatch.context() as patched:
        assert failing(patched, errno.ENOSPC, at) == []
        with pytest.raises(StorageError, match="No space left"):
            backup(world.config, folder)
    assert [path.name for path in world.base.parent.iterdir()] == ["world"]
    backup(world.config, folder, with_archive=True)
    before = tree(world.base)
    with monkeypatch.context() as patched:
        failing(patched, errno.ENOSPC, at)
        with pytest.raises(StorageError, match="No space left"):
            restore(world.config, folder, force=True)
    assert tree(world.base) == before
    assert isinstance(restore(world.config, folder, force=True), RestoreReport)


def test_a_disk_that_is_full_halfway(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables are in their places, an archived file is not: no pass begins, and the next restore goes on."""
    before = world.state()
    folder, _ = back_up(world, with_archive=True)
    shutil.rmtree(world.archive)
    with monkeypatch.context() as patched:
        failing(patched, errno.ENOSPC, len(read_manifest(folder).below("tables")) + 1)
        with pytest.raises(StorageError, match="No space left"):
            restore(world.config, folder, force=True)
    with pytest.raises(StorageError, match="cut short"):
        world.run()
    assert not list(world.archive.glob(".ordertrail.*.tmp"))
    report = restore(world.config, folder)
    assert report.resumed
    assert report.archived == len(before.archive) - 1
    assert world.state() == before


def test_old_and_restored_tables_are_never_there_together(world: World) -> None:
    folder, _ = back_up(world)
    next_batch(world)
    names = astuple(world.config.tables)
    old = {world.table(name).stat().st_ino for name in names}
    seen: list[tuple[int, int]] = []

    def probe(_: str) -> None:
        there = {world.table(name).stat().st_ino for name in names if world.table(name).exists()}
        seen.append((len(there & old), len(there - old)))

    restore(world.config, folder, force=True, probe=probe)
    assert {before for before, _ in seen} == {after for _, after in seen} == set(range(6))
    assert all(0 in counts for counts in seen)


def test_what_passes_remember_of_later_files_goes_aside(world: World) -> None:
    folder, _ = back_up(world)
    notes = notes_path(world.config)
    notes.write_text("about files that the restored tables do not know")
    report = restore(world.config, folder, force=True)
    assert report.aside is not None
    assert (report.aside / notes.name).read_text().startswith("about files")
    assert not notes.exists()


def test_passes_wait_only_until_all_is_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PASS_WAITS_S", 0.1)
    world.put(BATCHES[2])

    def probe(name: str) -> None:
        if name == "backup.taken":
            with pytest.raises(PassRunningError):
                world.run()
        elif name == "backup.hashed":
            assert world.run().batch == 3

    folder = world.base.parent / "kept"
    assert backup(world.config, folder, probe=probe).batch == 2
    check_hashes(folder, read_manifest(folder))
    restore(world.config, folder, force=True)
    assert verify(world.config).ok


def test_what_others_commit_meanwhile_is_left_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other writers do not know our lock: the log is taken up to the version that was read."""
    read = backup_module.read_whole

    def read_and_write(config: Config) -> dict[str, Snapshot]:
        found = read(config)
        log = world.table("orders_target") / "_delta_log"
        (log / f"{found['target'].version + 1:020d}.json").write_text('{"txn":{"appId":"x","version":1}}\n')
        (log / "_last_checkpoint").write_text(json.dumps({"version": found["target"].version + 1, "size": 1}))
        return found

    monkeypatch.setattr(backup_module, "read_whole", read_and_write)
    before = world.state()
    folder, _ = back_up(world)
    assert not (folder / "tables/target/_delta_log/_last_checkpoint").exists()
    restore(world.config, folder, force=True)
    assert world.state() == before


def test_another_restore_was_cut_short(world: World) -> None:
    folder, _ = back_up(world)
    later = folder.with_name("later")
    next_batch(world)
    backup(world.config, later)

    class CutError(Exception):
        pass

    def probe(name: str) -> None:
        if name == "restore.aside orders_target":
            raise CutError

    with pytest.raises(CutError):
        restore(world.config, folder, force=True, probe=probe)
    with pytest.raises(UsageError, match="another backup was cut short"):
        restore(world.config, later, force=True)
    for call in (world.run, lambda: verify(world.config), lambda: rebuild(world.config)):
        with pytest.raises(StorageError, match="cut short") as caught:
            call()
        assert str(folder) in caught.value.hint
    assert restore(world.config, folder).resumed
    assert restore(world.config, later, force=True).batch == 3


# -- the commands -------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(words))
    code = caught.value.code
    return (code if isinstance(code, int) else -1), capsys.readouterr().out


def test_the_commands(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    toml, kept = str(world.base / "ordertrail.toml"), str(world.base.parent / "kept")
    code, text = run(capsys, "backup", kept, "--config", toml)
    assert code == 0
    assert "batch 2 is in" in text
    assert (Path(kept) / "ordertrail.toml").is_file()
    code, text = run(capsys, "backup", kept, "--config", toml, "--json")
    assert (code, json.loads(text)["error"]["code"]) == (2, "E_USAGE")
    next_batch(world)
    code, text = run(capsys, "restore", kept, "--force", "--config", toml)
    assert code == 3
    assert text.count("  cp -p ") == len(BATCHES[2])
    assert str(world.source / BATCHES[2][0].path) in text
    code, text = run(capsys, "restore", kept, "--force", "--config", toml, "--json")
    found = json.loads(text)
    assert (code, found["batch"], len(found["unknown"])) == (3, 2, len(BATCHES[2]))


def test_the_page_says_what_works(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command in a block of `sh`, from top to bottom."""
    monkeypatch.chdir(world.base)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "backup.md").read_text()
    lines = [line for block in re.findall(r"(?ms)^```sh\n(.*?)^```", page) for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        program, *words = line.split()
        assert (program, run(capsys, *words)[0]) == ("ordertrail", 0), line


def test_what_a_killed_backup_left_goes_with_the_next_one(world: World) -> None:
    left = world.base.parent / f".ordertrail-backup-{'0' * 32}"
    (left / "tables").mkdir(parents=True)
    os.utime(left, (1, 1))
    back_up(world)
    assert not left.exists()


def test_the_hashes_of_a_backup_can_be_checked_alone(world: World) -> None:
    folder, _ = back_up(world)
    check_hashes(folder, read_manifest(folder))
