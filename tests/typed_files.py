"""Any contract and any profile, and a file that is written so, with the values that it means."""

from __future__ import annotations

from random import Random

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.model import Contract, Vendor
from tests import typed_cells as cells
from tests.typed_cells import Kind
from tests.written import file_of

NULLS = ("N/A", "NULL", "-", "\\N", "0000-00-00", "null value ")
NAME = "orders_HAM_2026.csv"


def layout_of(random: Random) -> Vendor:
    """How the file is written."""
    fixed, header = random.random() < 0.15, random.random() < 0.8
    quote = '"' if fixed else random.choice(('"', '"', "'", ""))
    return Vendor(
        "acme",
        delimiter="," if fixed else random.choice((",", ";", "\t", "||", "~|~", "¦")),
        quote=quote,
        escape="" if fixed else random.choice(("", "", "\\")),
        newlines_in_cells=random.random() < 0.5,
        encoding=random.choice((None, None, "cp1252", "utf-16-le")),
        short_rows=random.choice(("reject", "fill")),
        continuation_lines=random.random() < 0.3,
        skip_lines=None if header and random.random() < 0.5 else 1,
        header=header,
        trailer=random.choice((None, r"^END (?P<rows>\d+)$")),
        widths=(1,) if fixed else (),
    )


def profile_of(random: Random) -> Vendor:
    """How its cells are written."""
    decimal = random.choice(".,")
    words = random.choice((((), ()), (("Ja", "X "), ("Nein", "o"))))
    return replace(
        layout_of(random),
        nulls=tuple(random.sample(NULLS, random.randint(0, 3))),
        decimal=decimal,
        thousands=random.choice([sign for sign in ("", ".", ",", " ", "'") if sign != decimal]),
        key_case=random.choice(("keep", "upper")),
        key_strip=random.choice(("", " -", "./")),
        timezone=random.choice(("UTC", "America/Chicago", "Asia/Kolkata")),
        zones=tuple((name, f"{'-' if of < 0 else '+'}{abs(of) // 60:02}:00") for name, of in cells.ZONES.items()),
        true_words=words[0],
        false_words=words[1],
    )


def kinds_of(random: Random) -> list[Kind]:
    names = iter([f"x {n}" if random.random() < 0.2 else f"x{n}" for n in range(9)])
    found = [cells.key("k"), cells.moment("e", random), cells.status("s")]
    found += [cells.drawn(names, random) for _ in range(random.randint(2, 7))]
    found += random.sample([cells.constant("c", random), cells.from_name("depot"), cells.absent("a")], 2)
    random.shuffle(found)
    return found


def with_nulls(kind: Kind, random: Random) -> Kind:
    """The column with words of its own for no value."""
    return replace(kind, column=replace(kind.column, nulls=("nada",))) if random.random() < 0.3 else kind


def value_of(kind: Kind, random: Random, vendor: Vendor) -> tuple[object, list[str]]:
    """A value, and its cells."""
    column = kind.column
    nulls = [word.strip() for word in (*vendor.nulls, *column.nulls)]
    if kind.parts and column.name not in ("k", "e") and random.random() < 0.15:
        word = random.choice(("", *nulls))
        return None, [cells.padded(word, random, vendor)] * kind.parts
    while True:
        value, text = kind.draw(random, vendor)
        if kind.parts == 2:
            bare = text.strip("".join(cells.BLANKS))
            before, blank, after = bare.partition(" ")
            if not blank:
                continue
            return value, [cells.padded(part, random, vendor) for part in (before, after)]
        if kind.parts and text.strip("".join(cells.BLANKS)) in nulls:
            continue
        return value, [text] * kind.parts


def settled(vendor: Vendor, header: list[str], rows: list[list[str]]) -> Vendor:
    """The profile with what depends on the cells: widths, and quotes where there is no other way."""
    if not vendor.header:
        vendor = replace(vendor, columns=tuple(header))
    if vendor.widths:
        return replace(vendor, widths=tuple(max(map(len, column)) + 1 for column in zip(header, *rows, strict=True)))
    if not vendor.quote and not vendor.escape and any(vendor.delimiter in cell for row in rows for cell in row):
        return replace(vendor, quote='"')
    return vendor


class TypedFile(Struct, frozen=True):
    """A file of typed cells.

    Attributes:
        kinds: Of the columns of the contract, in its order.
        vendor: How the file is written.
        header: The names of its cells.
        rows: The cells of each row.
        values: For each row the value of each column.
    """

    kinds: tuple[Kind, ...]
    vendor: Vendor
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    values: tuple[dict[str, object], ...]

    @property
    def contract(self) -> Contract:
        """The contract whose columns the file has."""
        return Contract(tuple(kind.column for kind in self.kinds), ("k",), "e", "s", ("IN_TRANSIT", "DELIVERED"))

    def content(self, *, line_end: str = "\n", packed: str = "") -> bytes:
        """The bytes of the file.

        Args:
            line_end: Of every line.
            packed: `gzip`, `zip` or nothing.
        """
        between = [("m" if name == "s" else "") for name in self.header] if self.vendor.continuation_lines else []
        return file_of(self.header, self.rows, self.vendor, line_end=line_end, packed=packed, between=between)


def typed_file(random: Random, count: int, *, header: bool | None = None) -> TypedFile:
    """Draw a contract, a profile, and rows.

    Args:
        random: Decides on everything.
        count: How many rows.
        header: Whether the file has one; None lets chance decide.
    """
    vendor = profile_of(random)
    if header is not None:
        vendor = replace(vendor, header=header)
    kinds = [with_nulls(kind, random) for kind in kinds_of(random)]
    for kind in kinds:
        vendor = kind.vendor(vendor)
    names = {kind.column.name: [f"{kind.column.name}_{n}" for n in range(2)] for kind in kinds if kind.parts == 2}
    vendor = replace(vendor, combine=tuple((name, tuple(parts)) for name, parts in names.items()))
    heads = [name for kind in kinds for name in names.get(kind.column.name, [kind.column.name] * kind.parts)]
    wanted, rows = [], []
    for _ in range(count):
        values = [value_of(kind, random, vendor) for kind in kinds]
        wanted.append({kind.column.name: value for kind, (value, _) in zip(kinds, values, strict=True)})
        rows.append([cell for _, texts in values for cell in texts])
    vendor = settled(vendor, heads, rows)
    return TypedFile(tuple(kinds), vendor, tuple(heads), tuple(map(tuple, rows)), tuple(wanted))
