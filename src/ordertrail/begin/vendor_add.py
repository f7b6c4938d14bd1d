"""What `ordertrail vendor add` does: drafts a profile from a vendor's file, and appends it to the config.

Nothing of what is there is changed. The new text is read back before it is written, and it takes the old one's place in
one step, so that a config is never half written.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.begin.draft import Looked, look_at, sure_of_header
from ordertrail.begin.draft_text import vendor_lines
from ordertrail.begin.placing import Places, places_of
from ordertrail.begin.profile import TODO, Placed, Profile, odd_lines, profile_of
from ordertrail.config import Config, parse_config
from ordertrail.config.template import toml_key, toml_value
from ordertrail.durable import move_durably
from ordertrail.errors import ConfigError, StorageError, UsageError
from ordertrail.model import Contract, Vendor
from ordertrail.rules.headers import folded
from ordertrail.rules.likeness import means
from ordertrail.rules.noticed import shared_globs

_DEFAULT = '# Until now the default, as there was no other vendor.\n[[vendors]]\nname = "default"\nfiles = "*.csv"\n'


class AddedVendor(Struct, frozen=True):
    """A vendor that was appended to a config.

    Attributes:
        file: The config.
        sample: What the profile was drafted from.
        vendor: As written.
        appended: The lines that were appended.
        found: For each contract column the headers that it is read from; none for one that the files do not carry.
        notes: What was guessed and should be looked at, one line each.
    """

    file: Path
    sample: Path
    vendor: Vendor
    appended: str
    found: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]


def add_vendor(config: Config, name: str, *, sample: Path, files: str, encoding: str | None) -> AddedVendor:
    """Append a vendor to a config.

    Args:
        config: As read from the file that is appended to.
        name: Of the vendor.
        sample: A file as it sends them.
        files: Its glob below the source folder.
        encoding: Of its files without a byte order mark; None finds it.

    Raises:
        UsageError: Name or glob are taken, or the sample cannot be read as a table.
        ConfigError: Name or glob cannot be used.
        StorageError: The config cannot be written.
    """
    if config.file is None:
        raise UsageError("there is no config file to append to", hint="write one with `ordertrail init`")
    file = config.file.resolve()
    try:
        before = file.read_bytes()
    except OSError as error:
        raise _unwritable(file, error) from error
    alone = _default_is_implied(config, before.decode("utf-8-sig"), file)
    _refuse_taken(config.vendors, name, files, alone=alone)
    profile, found = _drafted(config, sample, name, files, encoding)
    lines = "\n".join(vendor_lines(profile, config.contract))
    keeps_default = alone and not _overlaps(config.vendors, name, files)
    notes = list(profile.notes)
    if alone:
        notes.append(
            "the vendor default, which took *.csv as long as there was no other, is now written down"
            if keeps_default
            else f"the vendor default, which took *.csv as long as there was no other, is now {name}"
        )
    appended = (f"{_DEFAULT}\n" if keeps_default else "") + lines
    text = before.decode("utf-8")
    ends = "\r\n" if "\r\n" in text else "\n"
    gap = "" if text.endswith("\n") or not text else ends
    after = f"{text}{gap}{ends}{appended.replace(chr(10), ends)}"
    # What is written must be read back, with the vendor as it was drafted.
    read = parse_config(after.removeprefix("\ufeff"), base=file.parent, environ={}, file=file)
    vendor = next(one for one in read.vendors if one.name == name)
    _replace(file, before, after.encode("utf-8"))
    return AddedVendor(file, sample, vendor, appended, found, tuple(notes))


# --- what is taken ---------------------------------------------------------------------------------------------------


def _default_is_implied(config: Config, text: str, file: Path) -> bool:
    """Whether the config has no vendor, so that it can be given the one that it stands for."""
    if config.vendors != (Vendor("default"),):
        return False
    try:
        parse_config(f"{text}\n{_DEFAULT}", base=file.parent, environ={}, file=file)
    except ConfigError:
        return False
    return True


def _overlaps(vendors: Sequence[Vendor], name: str, files: str) -> str:
    """Which vendor takes files of a glob already, in words; "" for none."""
    new = Vendor(name, files=files)
    others = [one for one in vendors if one.name != name]
    lines = set(shared_globs([*others, new], ())) - set(shared_globs(others, ()))
    return next(iter(sorted(lines)), "")


def _refuse_taken(vendors: Sequence[Vendor], name: str, files: str, *, alone: bool) -> None:
    if alone:
        return
    if name in {one.name for one in vendors}:
        raise UsageError(
            f"there is a vendor {name!r} already", hint="give the new one another name, or edit [[vendors]] of this one"
        )
    if taken := _overlaps(vendors, name, files):
        folder = "".join(char for char in name if char.isalnum() or char in "-_") or "new"
        raise UsageError(
            f"the glob {files!r} is taken: {taken}",
            hint=f"give the vendor a folder of its own, such as --files '{folder}/*.csv', or narrow the other glob",
        )


# --- the profile -----------------------------------------------------------------------------------------------------


def _drafted(
    config: Config, path: Path, name: str, files: str, encoding: str | None
) -> tuple[Profile, tuple[tuple[str, tuple[str, ...]], ...]]:
    contract = config.contract
    known = {folded(one) for one in contract.names}
    known |= {folded(alias) for vendor in config.vendors for _, aliases in vendor.aliases for alias in aliases}
    looked = look_at(path, encoding=encoding, known=frozenset(known))
    looked, places = places_of(looked, contract, config.vendors)
    profile = profile_of(looked.sample, places.placed, contract, looked.notation, path.name)
    has = {one.name for one in places.placed}
    constants = tuple((one, name) for one in _carriers(contract) if one not in has)
    told = {*has, *(column for column, _ in constants)}
    needed = {*contract.key, contract.order_by, *(one.name for one in contract.columns if one.required)}
    lost = [one.name for one in contract.columns if one.name not in told and not one.added]
    absent = tuple(one for one in lost if one not in needed)
    open_ones = [one for one in lost if one in needed]
    beside = {**profile.beside, "name": tuple(_odd(places.placed, contract))}
    beside["aliases"] = tuple(_open_aliases(open_ones, places, looked))
    vendor = replace(profile.vendor, name=name, files=files, absent=absent, constants=constants)
    profile = replace(profile, vendor=vendor, beside=beside)
    profile = sure_of_header(profile, contract, looked.sample)
    notes = (*profile.notes, *_notes(profile, places, open_ones, contract))
    found = tuple(
        (column, next((one.headers for one in places.placed if one.name == column), ())) for column in contract.names
    )
    return replace(profile, notes=notes), found


def _carriers(contract: Contract) -> Iterator[str]:
    """Columns that tell who sends, which the name of a vendor says."""
    for column in contract.columns:
        if column.type == "string" and means(column.name, "carrier") and (column.name,) != contract.key:
            yield column.name


def _odd(placed: Sequence[Placed], contract: Contract) -> Iterator[str]:
    types = {column.name: column.type for column in contract.columns}
    for one in placed:
        if types[one.name] != "string":
            yield from (f"{one.name}: {line}" for line in odd_lines(one.facts, types[one.name]))


def _open_aliases(open_ones: Sequence[str], places: Places, looked: Looked) -> Iterator[str]:
    for column in open_ones:
        yield f"{TODO} every row needs {column}, and no header names it: say which one it is (or combine)"
        yield f'={toml_key(column)} = [""]'
    for column, header in places.maybe:
        yield f"{TODO} {column} may be {header!r}; if it is, take this line"
        yield f"={toml_key(column)} = {toml_value([header])}"
    if not looked.sample.header and open_ones:
        width = len(looked.columns)
        yield f"{TODO} the file has no header: write header = false, and columns with a name for each of {width} cells"


def _notes(profile: Profile, places: Places, open_ones: Sequence[str], contract: Contract) -> Iterator[str]:
    if open_ones:
        yield f"not found, and every row needs it: {', '.join(open_ones)}: add aliases before the first pass"
    for column, header in places.maybe:
        yield f"{column} may be {header!r}, which nobody is certain about: see the TODO"
    if profile.vendor.absent:
        yield f"not in the file, so the target keeps its values: {', '.join(profile.vendor.absent)}"
    if places.others:
        strict = contract.unknown_columns == "strict"
        what = "and the contract is strict: files will be quarantined" if strict else "kept in _rescued"
        yield f"columns of no use to the contract, {what}: {', '.join(map(repr, places.others))}"
    if profile.beside.get("timezone"):
        yield "times have no zone and are read as UTC: say timezone"
    if profile.beside.get("formats"):
        yield "day or month first? take one of the two lines of formats before the first pass"


# --- the file --------------------------------------------------------------------------------------------------------


def _replace(file: Path, before: bytes, after: bytes) -> None:
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            temporary.write_bytes(after)
            shutil.copymode(file, temporary)
            if file.read_bytes() != before:
                raise UsageError(f"{file} was changed by somebody meanwhile", hint="run the command again")
            move_durably(temporary, file, replace=True)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(file, error) from error


def _unwritable(file: Path, error: OSError) -> StorageError:
    problem = error.strerror or os.strerror(error.errno or 0)
    return StorageError(f"cannot write {file}: {problem}", hint="see that the folder can be written to, then run again")
