"""Values of a contract and the texts that a vendor may write for them, after the words of the docs.

Each kind of column draws its own settings first; then it draws values, each with one of the texts that mean it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.model import Column, Vendor

BLANKS = (" ", "\t", "\u00a0", "\u2009")
ZONES = {"EST": -300, "CET": 60, "Central Standard Time": -360}
Drawn = tuple[object, str]
"""A value, and a text that means it."""

DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%Y/%m/%d", "%Y%m%d", "%d-%b-%Y", "%b %d, %Y", "%d/%m/%Y %H:%M", "excel")
TIMES = (
    "%d/%m/%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y, %I:%M %p", "%Y%m%dT%H%M%S",
    "%d/%m/%Y %H:%M:%S,%f", "%d.%m.%Y %H:%M:%S.%g", "%d/%m/%Y %H:%M:%S %z", "%d %b %Y %H:%M:%S %Z", "%Y/%m/%d %H:%MZ",
    "epoch_s", "epoch_ms", "excel",
)  # fmt: skip
WITH_OFFSET = ("%z", "%Z", "Z", "epoch")


class Kind(Struct, frozen=True):
    """One column of a contract as one vendor writes it.

    Attributes:
        column: Of the contract.
        draw: Draws a value and its text.
        vendor: Adds the settings that the column needs.
        parts: In how many cells the text stands; with two, it is divided at its first blank.
    """

    column: Column
    draw: Callable[[Random, Vendor], Drawn]
    vendor: Callable[[Vendor], Vendor] = lambda vendor: vendor
    parts: int = 1


# --- texts ---------------------------------------------------------------------------------------------------------


def letters(random: Random, vendor: Vendor, most: int = 10) -> str:
    """Any text of one line that the vendor's encoding has, without blanks at its ends; "" too."""
    unusual = "é" if vendor.encoding == "cp1252" else "é字\u202f😀"
    usual = "aZ09é ,;'\"=-." + ("|~" if vendor.quote else "")  # else it would make another delimiter with the real one
    return "".join(random.choice(usual + unusual) for _ in range(random.randint(0, most))).strip()


def padded(text: str, random: Random, vendor: Vendor) -> str:
    """The text with blanks around it, most of the time none."""
    if not text or random.random() < 0.7:
        return text
    usable = [b for b in BLANKS if b not in vendor.delimiter and (b != "\u2009" or vendor.encoding != "cp1252")]
    return random.choice(["", *usable]) + text + random.choice(usable)


def text(name: str, random: Random) -> Kind:
    """A text column, trimmed or not."""
    trim = random.random() < 0.7

    def draw(random: Random, vendor: Vendor) -> Drawn:
        said = letters(random, vendor)
        if trim or vendor.widths:
            return said or None, padded(said, random, vendor)
        said = padded(said, random, vendor)
        return said or None, said

    return Kind(Column(name, "string", trim=trim), draw)


def key(name: str) -> Kind:
    """A text key, in any case and with signs inside, decorated by a spreadsheet, with characters that nobody sees."""

    def draw(random: Random, vendor: Vendor) -> Drawn:
        value = "".join(random.choice("ABCDEFxyz0123456789") for _ in range(random.randint(2, 12))) + "Q7"
        said = value
        if vendor.key_case == "upper":
            value, said = value.upper(), "".join(random.choice((c.lower(), c.upper())) for c in value)
        if vendor.key_strip:
            at = random.randint(1, len(said) - 1)
            said = said[:at] + random.choice(("", *vendor.key_strip)) + said[at:]
        match random.randint(0, 4):
            case 0:
                said = f'="{said}"'
            case 1:
                said = f"'{said}"
            case 2 if vendor.encoding != "cp1252":
                said = f"{said[:3]}\u200b{said[3:]}\ufeff"
        return value, padded(said, random, vendor)

    return Kind(Column(name, "string"), draw)


def status(name: str) -> Kind:
    """A status that the vendor calls otherwise."""
    called = {"ausgeliefert ": "DELIVERED", "unterwegs": "IN_TRANSIT", "a-b": "DELIVERED"}

    def draw(random: Random, vendor: Vendor) -> Drawn:
        said = random.choice((*called, "OTHER"))
        return called.get(said, said), padded(said.strip(), random, vendor)

    return Kind(Column(name, "string"), draw, lambda vendor: replace(vendor, status_map=tuple(called.items())))


# --- numbers -------------------------------------------------------------------------------------------------------


def whole(name: str, random: Random) -> Kind:
    """Whole numbers of either size."""
    kind, bits = random.choice((("int", 31), ("bigint", 63)))

    def draw(random: Random, vendor: Vendor) -> Drawn:
        edges = (0, 1, 999, 1000, -1000, 2**bits - 1, -(2**bits))
        value = random.choice((random.choice(edges), random.randint(-(10 ** random.randint(1, 9)), 10**6)))
        return value, padded(_signed(value < 0, _grouped(str(abs(value)), random, vendor), random), random, vendor)

    return Kind(Column(name, kind), draw)


def decimal(name: str, random: Random) -> Kind:
    """Numbers with so many decimals."""
    precision, scale = random.choice(((12, 2), (5, 0), (18, 6), (38, 10)))

    def draw(random: Random, vendor: Vendor) -> Drawn:
        digits = random.randint(0, 10 ** random.randint(1, precision) - 1)
        value = Decimal(digits).scaleb(-scale) * random.choice((1, -1))
        before, _, after = f"{abs(value):.{scale}f}".partition(".")
        if random.random() < 0.5:
            after = after.rstrip("0")
        elif after:
            after += "0" * random.randint(0, 3)
        before = _grouped(before, random, vendor)
        if before == "0" and after and random.random() < 0.5:
            before = ""
        said = before + (vendor.decimal + after if after else "")
        return value, padded(_signed(value < 0, said, random), random, vendor)

    return Kind(Column(name, f"decimal({precision},{scale})"), draw)


def double(name: str) -> Kind:
    """Numbers with all digits that a double has."""

    def draw(random: Random, vendor: Vendor) -> Drawn:
        value = random.choice((0.1, 1e300, -1.5e-300, 1234567.25, random.uniform(-1e7, 1e7), random.random() * 1e-5))
        said = repr(abs(value))
        if "e" in said:
            said = said.replace(".", vendor.decimal)
        else:
            before, _, after = said.partition(".")
            said = _grouped(before, random, vendor) + vendor.decimal + after
        return value, padded(_signed(value < 0, said, random), random, vendor)

    return Kind(Column(name, "double"), draw)


def _grouped(digits: str, random: Random, vendor: Vendor) -> str:
    if not vendor.thousands or random.random() < 0.4:
        return digits
    sign = vendor.thousands
    if sign == " ":
        sign = random.choice((" ", "\u00a0") if vendor.encoding == "cp1252" else (" ", "\u00a0", "\u202f", "\u2009"))
    first = len(digits) % 3
    groups = [digits[:first]] * bool(first) + [digits[at : at + 3] for at in range(first, len(digits), 3)]
    return sign.join(groups)


def _signed(negative: bool, number: str, random: Random) -> str:
    if not negative:
        return random.choice(("", "", "+")) + number
    return f"{number}-" if random.random() < 0.3 else f"-{number}"


def boolean(name: str) -> Kind:
    """Words for true and false."""

    def draw(random: Random, vendor: Vendor) -> Drawn:
        value = random.random() < 0.5
        words = (vendor.true_words or ("true", "t", "yes", "y", "1")) if value else ()
        word = random.choice(words or vendor.false_words or ("false", "f", "no", "n", "0"))
        return value, padded(random.choice((word, word.upper(), word.lower())).strip(), random, vendor)

    return Kind(Column(name, "boolean"), draw)


# --- dates and times -----------------------------------------------------------------------------------------------


def day(name: str, random: Random) -> Kind:
    """Dates, in ISO 8601 or by a format."""
    pattern = random.choice(DAYS)

    def draw(random: Random, vendor: Vendor) -> Drawn:
        value = date(1970, 1, 1) + timedelta(days=random.randint(0, 35_000))
        if random.random() < 0.3:
            value = random.choice((date(1900, 1, 1), date(9999, 12, 31), date(2028, 2, 29)))
            return value, padded(value.isoformat() + random.choice(("", "", " 00:00:00", "T00:00")), random, vendor)
        moment = datetime(value.year, value.month, value.day, 23, 59)  # noqa: DTZ001 - a wall clock
        return value, padded(_by(pattern, moment, timedelta(0), random), random, vendor)

    return _with_formats(Column(name, "date"), pattern, draw, random)


def moment(name: str, random: Random) -> Kind:
    """Times, in ISO 8601 or by a format, by the vendor's wall clock or with an offset."""
    pattern = random.choice(TIMES)

    def draw(random: Random, vendor: Vendor) -> Drawn:
        zone = ZoneInfo(vendor.timezone)
        wall = datetime(1973, 6, 1) + timedelta(  # noqa: DTZ001 - a wall clock
            days=random.randint(0, 34_000), seconds=random.choice((0, random.randint(0, 86_399)))
        )
        wall = wall.replace(microsecond=random.choice((0, 0, 500_000, random.randint(0, 999_999))))
        if random.random() < 0.3:
            return _iso(wall, zone, random, vendor)
        wall = _precise(wall, pattern)
        if any(sign in pattern for sign in WITH_OFFSET):
            minutes = 0
            if "%z" in pattern or "%Z" in pattern:
                minutes = random.choice((*ZONES.values(), 0))
            offset = timedelta(minutes=minutes)
            value = (wall - offset).replace(tzinfo=UTC)
            return value, padded(_by(pattern, wall, offset, random), random, vendor)
        wall = _shown_once(wall, zone)
        said = _by(pattern, wall, timedelta(0), random)
        return wall.replace(tzinfo=zone).astimezone(UTC), padded(said, random, vendor)

    return _with_formats(Column(name, "timestamp"), pattern, draw, random)


def _with_formats(column: Column, pattern: str, draw: Callable[[Random, Vendor], Drawn], random: Random) -> Kind:
    parts = 2 if pattern.count(" ") == 1 and random.random() < 0.3 else 1
    if random.random() < 0.5:
        return Kind(replace(column, formats=(pattern,)), draw, parts=parts)
    said = ((column.name, (pattern,)),)
    named = replace(column, formats=("%j of %Y",))
    return Kind(named, draw, lambda vendor: replace(vendor, formats=vendor.formats + said), parts)


def _iso(wall: datetime, zone: ZoneInfo, random: Random, vendor: Vendor) -> Drawn:
    between = random.choice(" T")
    if random.random() < 0.4:
        offset = random.choice(("Z", "+00:00", "+05:30", "-0800", "+14"))
        said = wall.isoformat(between) + offset
        return datetime.fromisoformat(said).astimezone(UTC), padded(said, random, vendor)
    wall = _shown_once(wall, zone)
    value = wall.replace(tzinfo=zone).astimezone(UTC)
    if wall.time().isoformat() == "00:00:00":
        before = wall.date() - timedelta(days=1)
        return value, padded(random.choice((str(wall.date()), f"{before}{between}24:00:00")), random, vendor)
    said = wall.isoformat(between)
    if wall.second == 0 and not wall.microsecond:
        said = said[:-3]
    return value, padded(said.replace(".", random.choice(".,")), random, vendor)


def _precise(wall: datetime, pattern: str) -> datetime:
    """The time as far as a format says it."""
    if pattern in ("epoch_s", "epoch_ms") or "%f" in pattern:
        return wall
    if "%g" in pattern or pattern == "excel":
        return wall.replace(microsecond=wall.microsecond // 1000 * 1000)
    return wall.replace(microsecond=0, **({} if "%S" in pattern else {"second": 0}))


def _shown_once(wall: datetime, zone: ZoneInfo) -> datetime:
    """The time, or one nearby that the clock shows exactly once."""
    aware = wall.replace(tzinfo=zone)
    sure = aware.utcoffset() == aware.replace(fold=1).utcoffset()
    return wall if sure else wall.replace(hour=12)


def _by(pattern: str, wall: datetime, offset: timedelta, random: Random) -> str:
    """What the wall clock shows, in a format; the end of a day for the midnight after it."""
    since = wall - datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock
    micros = since // timedelta(microseconds=1)
    match pattern:
        case "epoch_s":
            return str(micros // 10**6) + (f".{micros % 10**6:06}" if micros % 10**6 else "")
        case "epoch_ms":
            return str(micros // 1000) + (f".{micros % 1000:03}" if micros % 1000 else "")
        case "excel":
            days, rest = divmod(micros, 86_400 * 10**6)
            fraction = f"{rest / (86_400 * 10**6):.10f}"[1:].replace(".", random.choice(".,"))
            return str(days + 25_569) + (fraction if rest else "")
    ends = "%H:%M" in pattern and wall.time().isoformat() == "00:00:00" and random.random() < 0.5
    shown = wall - timedelta(days=1) if ends else wall
    zone = f"{'-' if offset < timedelta(0) else '+'}{abs(offset) // timedelta(minutes=1) // 60:02}"
    minutes = abs(offset) // timedelta(minutes=1) % 60
    names = [name for name, of in ZONES.items() if timedelta(minutes=of) == offset] or ["GMT", "UTC"]
    name = random.choice(names)
    said = {
        "%z": zone + random.choice((f":{minutes:02}", f"{minutes:02}")),
        "%Z": random.choice((name, name.lower())),
        "%f": f"{wall.microsecond:06}".rstrip("0") or "0",
        "%g": f"{wall.microsecond // 1000:03}",
    }
    for directive, shown_as in said.items():
        pattern = pattern.replace(directive, shown_as.replace("%", "%%"))
    found = shown.strftime(pattern)
    return found.replace("00:00", "24:00", 1) if ends else found


# --- columns that no cell says -------------------------------------------------------------------------------------


def constant(name: str, random: Random) -> Kind:
    """A column that the config says, as it says values."""
    kind, value, said = random.choice((
        ("string", "N/A", "N/A"), ("double", 1.234, "1.234"), ("int", 1234, "1234"), ("boolean", True, "True"),
        ("decimal(9,3)", Decimal("1.234"), "1.234"), ("date", date(2026, 11, 23), "2026-11-23"),
    ))  # fmt: skip
    return Kind(
        Column(name, kind), lambda random, vendor: (value, said),
        lambda vendor: replace(vendor, constants=((name, said),)), 0,
    )  # fmt: skip


def from_name(name: str) -> Kind:
    """A column that the file's name says."""
    return Kind(
        Column(name, "string"), lambda random, vendor: ("HAM", "HAM"),
        lambda vendor: replace(vendor, from_name=rf"_(?P<{name}>[A-Z]{{3}})_"), 0,
    )  # fmt: skip


def absent(name: str) -> Kind:
    """A column that the vendor does not send."""
    return Kind(
        Column(name, "int"), lambda random, vendor: (None, ""), lambda vendor: replace(vendor, absent=(name,)), 0
    )


def drawn(names: Iterator[str], random: Random) -> Kind:
    """A column of any kind but the key and the event time."""
    name = next(names)
    made: tuple[Callable[[], Kind], ...] = (
        lambda: text(name, random), lambda: whole(name, random), lambda: decimal(name, random), lambda: double(name),
        lambda: boolean(name), lambda: day(name, random), lambda: moment(name, random),
    )  # fmt: skip
    return random.choice(made)()
