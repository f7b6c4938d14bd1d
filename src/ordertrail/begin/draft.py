"""Drafts a config from a sample file, for `ordertrail init --from`. No file that a person could read is refused.

Types are chosen so that no value changes, and what is doubtful stays text: numbers with a leading zero, names that
sound like an identifier. A type holds most of a column's values; the odd ones stand beside it in a comment, and so do
the decisions that only a person can take. Headers that mean a column of the order feed get that column.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.begin.draft_text import vendor_lines
from ordertrail.begin.profile import TODO, Placed, Profile, odd_lines, profile_of
from ordertrail.begin.roles import KEY, STATUS, TIME, Time, key_of, status_of, time_of
from ordertrail.begin.sample import Sample, read_sample
from ordertrail.begin.values import Facts, Notation, day_first_elsewhere, facts_of, notation_of, with_numbers
from ordertrail.config import DEFAULT_CONTRACT, parse_config, template
from ordertrail.errors import QuarantineError
from ordertrail.model import Column, Contract, Vendor
from ordertrail.parse.reader import DeliveryReader
from ordertrail.rules.bounds import MAX_COLUMNS
from ordertrail.rules.guessing import ID_WORDS, column_name, meant
from ordertrail.rules.headers import folded
from ordertrail.rules.likeness import stage_of

_FEED = {column.name: column for column in DEFAULT_CONTRACT.columns}
_FEED_FOLDS = {folded(name) for name in _FEED}


class Draft(Struct, frozen=True):
    """A config drafted from a sample.

    Attributes:
        contract: The columns in the order of the sample, key, ordering and status.
        profile: How the sample looks: its vendor, and the comments.
        beside: Comments on columns, by their names.
        notes: What was guessed and should be looked at, one line each.
        rows: Number of rows examined.
    """

    contract: Contract
    profile: Profile
    beside: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    rows: int

    @property
    def vendor(self) -> Vendor:
        """What the profile says."""
        return self.profile.vendor

    @property
    def config_text(self) -> str:
        """The draft as a commented `ordertrail.toml`."""
        return template(self.contract, self.beside) + "\n" + "\n".join(vendor_lines(self.profile, self.contract))


class Looked(Struct, frozen=True):
    """A sample and what its columns are.

    Attributes:
        sample: The vendor's file.
        columns: What the values of each column are, in the order of the file.
        notation: How it writes numbers.
        doubtful: Headers of columns whose numbers could be read in two ways.
    """

    sample: Sample
    columns: tuple[Facts, ...]
    notation: Notation
    doubtful: tuple[str, ...]


def look_at(path: Path, *, encoding: str | None, known: frozenset[str] = frozenset()) -> Looked:
    """Read a sample and find out what its columns are.

    Args:
        path: A file as the vendor sends it.
        encoding: As the vendor's `encoding` in the config; None finds it.
        known: Names of columns, folded, that a header is likely to have.

    Raises:
        UsageError: It cannot be read as a table.
    """
    sample = read_sample(path, encoding, known)
    names = sample.header or tuple(f"column {place}" for place in range(1, len(sample.columns) + 1))
    columns = day_first_elsewhere([facts_of(*one) for one in zip(names, sample.columns, strict=False)])
    notation, doubtful = notation_of(one for one in columns if not _is_identifier(one))
    numbers = [one if _is_identifier(one) else with_numbers(one, notation) for one in columns]
    return Looked(sample, tuple(numbers), notation, doubtful)


def draft_config(path: Path, *, encoding: str | None = None) -> Draft:
    """Draft a contract and a vendor from a vendor's file.

    Args:
        path: A file as the vendor sends it.
        encoding: As the vendor's `encoding` in the config; None means that of the byte order mark, else what is found.

    Raises:
        UsageError: It cannot be read as a table.
    """
    looked = look_at(path, encoding=encoding)
    notes: list[str] = []
    roles = _roles(looked)
    time = roles.time
    if not looked.sample.header:
        looked = _named_by_content(looked, roles)
    looked, parts_apart = _by_place_if_twice(looked, roles, notes)
    placed = _placed(looked, roles, parts_apart, notes)
    contract = _contract(placed, roles, looked)
    profile = profile_of(looked.sample, placed, contract, looked.notation, path.name)
    profile = replace(profile, vendor=replace(profile.vendor, files=glob_for(path.name)))
    profile = sure_of_header(profile, contract, looked.sample)
    beside = {one.name: tuple(_beside(one, contract)) for one in placed}
    if time is None:
        beside[contract.order_by] = (f"{TODO} {_no_time(looked.sample)}",)
    notes += [*profile.notes, *_notes(placed, contract, roles, looked)]
    draft = Draft(contract, profile, {k: v for k, v in beside.items() if v}, tuple(notes), looked.sample.rows)
    # The written config must be read back.
    parse_config(draft.config_text, base=path.absolute().parent, environ={})
    return draft


class _Roles(Struct, frozen=True):
    key: int
    time: Time | None
    status: int | None


def _roles(looked: Looked) -> _Roles:
    time = time_of(looked.columns, looked.sample.columns)
    key = key_of(looked.columns, time.places if time else ())
    status = status_of(looked.columns, (key, *(time.places if time else ())))
    return _Roles(key, time, status)


def _is_identifier(facts: Facts) -> bool:
    return bool(ID_WORDS & set(column_name(facts.header).split("_")))


def glob_for(name: str) -> str:
    """The glob that takes files named like a sample."""
    suffix = re.search(r"(\.\w+)?\.(gz|zip)$|\.\w+$", name, re.IGNORECASE)
    return f"*{suffix[0]}" if suffix else "*"


# --- files without a header ------------------------------------------------------------------------------------------


def _named_by_content(looked: Looked, roles: _Roles) -> Looked:
    """The columns of a file without a header, named by what they hold."""
    names = [f"column_{place}" for place in range(1, len(looked.columns) + 1)]
    if roles.time is None:
        # A profile that names the columns needs a time among them; this one waits for a person to name it.
        vendor = replace(looked.sample.vendor, header=True, skip_lines=None)
        looked = replace(looked, sample=replace(looked.sample, vendor=vendor))
    if _is_feed(looked.columns):
        names = list(DEFAULT_CONTRACT.names)
    else:
        names[roles.key] = KEY
        if roles.time is not None and len(roles.time.places) == 1:
            names[roles.time.places[0]] = TIME
        if roles.status is not None:
            names[roles.status] = STATUS
    vendor = looked.sample.vendor
    vendor = vendor if vendor.header else replace(vendor, columns=tuple(names))
    columns = tuple(replace(one, header=name) for one, name in zip(looked.columns, names, strict=True))
    return replace(looked, sample=replace(looked.sample, vendor=vendor), columns=columns)


def _is_feed(columns: Sequence[Facts]) -> bool:
    """Whether the columns may be the order feed's, in its order."""
    if len(columns) != len(DEFAULT_CONTRACT.columns):
        return False
    fits = [
        not one.values or not _is_time(base) or one.is_time for one, base in zip(columns, _FEED.values(), strict=True)
    ]
    known = {stage_of(value) for value in columns[DEFAULT_CONTRACT.names.index(STATUS)].values}
    return all(fits) and None not in known


def _is_time(column: Column) -> bool:
    return column.type in ("date", "timestamp")


# --- columns ---------------------------------------------------------------------------------------------------------


def _by_place_if_twice(looked: Looked, roles: _Roles, notes: list[str]) -> tuple[Looked, frozenset[int]]:
    """Names for headers that are there twice, and the places of columns that are left out.

    Columns are matched by name. So those whose name is there twice are left to `_rescued`; when the key or the time is
    one of them, the columns are named in the profile, by their places.
    """
    header = looked.sample.header
    folds = [folded(one) for one in header]
    twice = {place for place, one in enumerate(folds) if one and folds.count(one) > 1}
    if not twice:
        return looked, frozenset()
    shown = ", ".join(dict.fromkeys(repr(header[place]) for place in sorted(twice)))
    if roles.time is None or not twice & {roles.key, *roles.time.places}:
        notes.append(f"{shown}: several columns of one name, which a pass keeps in _rescued")
        return looked, frozenset(twice - {roles.key})
    names: list[str] = []
    for place, cell in enumerate(header):
        name, count = cell or f"column {place + 1}", 1
        while folded(name) in {*map(folded, names), *(folds[place + 1 :] if count > 1 else ())}:
            count += 1
            name = f"{cell} {count}"
        names.append(name)
    notes.append(f"{shown}: several columns of one name, so the profile names all columns by their places")
    above = looked.sample.lines_above + 1
    vendor = replace(looked.sample.vendor, header=False, skip_lines=above, columns=tuple(names))
    columns = tuple(replace(one, header=name) for one, name in zip(looked.columns, names, strict=False))
    sample = replace(looked.sample, header=tuple(names), vendor=vendor)
    return replace(looked, sample=sample, columns=columns), frozenset()


def _placed(looked: Looked, roles: _Roles, left_out: frozenset[int], notes: list[str]) -> list[Placed]:
    """The contract's columns: their names, and where the file has them."""
    parts = roles.time.places if roles.time is not None and len(roles.time.places) > 1 else ()
    headers = [one.header for one in looked.columns]
    found: dict[str, Placed] = {}
    places = sorted(range(len(headers)), key=lambda place: place != roles.key)  # the key's name goes before others
    for place in places[:MAX_COLUMNS]:
        facts = looked.columns[place]
        owner = meant(facts.header)
        if owner == TIME and facts.kind == "clock":
            owner = None  # the time of a day alone
        if not facts.header or place in left_out or (place in parts and owner not in _FEED):
            continue
        name = _name(facts, owner, found, headers)
        found[name] = Placed(name, (facts.header,), facts)
    if len(headers) > MAX_COLUMNS:
        notes.append(f"only the first {MAX_COLUMNS} of {len(headers)} columns: a pass keeps the others in _rescued")
    if roles.time is not None and parts:
        name = TIME if TIME not in found else "updated_at"
        found[name] = Placed(name, tuple(headers[place] for place in parts), roles.time.facts)
    order = {header: place for place, header in enumerate(headers)}
    return sorted(found.values(), key=lambda one: order[one.headers[0]])


def _name(facts: Facts, owner: str | None, taken: Mapping[str, Placed], headers: Sequence[str]) -> str:
    """The contract column that a header is, or a name of its own."""
    spelled, own = {folded(one) for one in headers}, folded(facts.header)
    used = {folded(one) for one in taken}
    if owner is not None and owner not in taken and (own == folded(owner) or folded(owner) not in spelled):
        return owner
    base = column_name(facts.header)
    name, count = base, 1
    while folded(name) in used or (folded(name) in spelled and folded(name) != own) or folded(name) in _FEED_FOLDS:
        count += 1
        name = f"{base}_{count}"
    return name


def _contract(placed: Sequence[Placed], roles: _Roles, looked: Looked) -> Contract:
    key = next(one for one in placed if one.headers == (looked.columns[roles.key].header,))
    headers = () if roles.time is None else tuple(looked.columns[place].header for place in roles.time.places)
    time = next((one.name for one in placed if one.headers == headers), TIME)
    status = None
    if roles.status is not None:
        header = (looked.columns[roles.status].header,)
        status = next((one for one in placed if one.headers == header), None)
    columns = [_column(one, one.name in (key.name, time)) for one in placed]
    columns = [replace(one, type="timestamp", identifier=False) if one.name == time else one for one in columns]
    columns = [replace(one, type="string", identifier=True) if one.name == key.name else one for one in columns]
    if time not in {one.name for one in columns}:
        columns.append(_FEED[TIME])
    values = {stage_of(value) for value in status.facts.values} if status else set()
    known = status is not None and (not values or values & {*DEFAULT_CONTRACT.status_rank})
    return Contract(
        columns=tuple(columns),
        key=(key.name,),
        order_by=time,
        status=status.name if status else None,
        status_rank=DEFAULT_CONTRACT.status_rank if known else (),
    )


def _column(one: Placed, needed: bool) -> Column:
    base, facts = _FEED.get(one.name), one.facts
    kind = "string" if facts.kind == "clock" else facts.kind
    if base is not None:
        kind = base.type if _fits(base.type, facts) else kind
        return replace(base, type=kind, required=needed)
    identifier = kind == "string" and bool(facts.values) and _is_identifier(facts)
    return Column(one.name, kind, required=needed, identifier=identifier)


def _fits(kind: str, facts: Facts) -> bool:
    """Whether a column of the order feed may keep its type."""
    if kind == "string" or not facts.values or facts.kind == kind:
        return True
    if kind == "timestamp":
        return facts.kind == "date"
    days = sum(bool(re.fullmatch(r"\d{4}-\d\d-\d\d([T ]00:00(:00([.,]0+)?)?)?", value)) for value in facts.values)
    return facts.kind == "timestamp" and 2 * days >= len(facts.values)


# --- the header, and notes -------------------------------------------------------------------------------------------


def sure_of_header(profile: Profile, contract: Contract, sample: Sample) -> Profile:
    """The profile, with `skip_lines` where a pass would not find the header that the draft is about.

    Args:
        profile: As drafted.
        contract: What it is read for.
        sample: The vendor's file.
    """
    vendor = profile.vendor
    if not vendor.header:
        return profile
    # The text of the sample is UTF-8, whatever the file was.
    plain = replace(vendor, encoding=None, compression="none", trailer=None)
    try:
        found = DeliveryReader(io.BytesIO(sample.text.encode()), plain, contract).header()
    except QuarantineError:
        found = None
    bare = [cell for cell in sample.header if cell]
    if found is not None and [cell for cell in found if cell] == bare:
        return profile
    return replace(profile, vendor=replace(vendor, skip_lines=sample.lines_above))


def _no_time(sample: Sample) -> str:
    if sample.header:
        return "no column of the sample tells when a row was last updated: name one in aliases, or combine"
    width = len(sample.columns)
    return f"no header and no time: write header = false and columns with a name for each of the {width} cells"


def _beside(one: Placed, contract: Contract) -> Iterator[str]:
    column = next(column for column in contract.columns if column.name == one.name)
    if column.type != "string":
        yield from odd_lines(one.facts, column.type)


def _notes(placed: Sequence[Placed], contract: Contract, roles: _Roles, looked: Looked) -> Iterable[str]:
    key = next(one for one in placed if one.name == contract.key[0])
    yield f"key: {key.name}, one row of the target for each"
    if not key.facts.full and looked.sample.rows:
        rows = looked.sample.rows
        yield f"{rows - len(key.facts.values)} of {rows} rows have no {key.name}: they will be rejects"
    if roles.time is None:
        yield f"{contract.order_by}: {_no_time(looked.sample)}"
    else:
        yield f"order_by: {contract.order_by}, the row with the latest one wins"
    for one in placed:
        if len(one.headers) > 1:
            yield f"{one.name} is made of {' and '.join(map(repr, one.headers))}"
        elif folded(one.headers[0]) != folded(one.name):
            yield f"{one.headers[0]!r} is {one.name}, by an alias"
        if one.facts.either:
            yield f"{one.name}: day or month first? take one of the two lines of formats before the first pass"
        elif one.facts.formats and one.facts.is_time:
            yield f"{one.name}: read as {' and as '.join(one.facts.formats)}"
        column = next(column for column in contract.columns if column.name == one.name)
        if one.facts.odd and column.type != "string":
            yield f"{one.name}: would be rejects: {', '.join(map(repr, one.facts.odd))}"
        if one.facts.header in looked.doubtful:
            yield f"{one.name} stays text: its numbers could have decimals or thousands; say decimal or thousands"
    missing = [name for name in DEFAULT_CONTRACT.names if name not in contract.names]
    if missing and key.name in DEFAULT_CONTRACT.key:
        yield f"of the order feed, the sample lacks {', '.join(missing)}"
    if contract.status and not contract.status_rank:
        yield "status_rank is empty: list the statuses from first to last"
