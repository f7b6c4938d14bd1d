"""Times by patterns: the row kernel's SQL against a reader in plain Python, for any pattern, zone and text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ordertrail.model import Column, Vendor
from tests.depth import share
from tests.kernels import contract_of, csv_of, parse

pytestmark = pytest.mark.property

ZONES = {"EST": -300, "CET": 60, "NPT": 345, "Central Standard Time": -360}
EVENT = "2026-11-20 08:00:00"

# None is ISO 8601, which is read before any pattern.
days = st.sampled_from(["%Y/%m/%d", "%d/%m/%Y", "%Y%m%d", "%d %b %Y", "%b %d, %Y", "%a %d.%m.%y"])
clocks = st.sampled_from(["%H:%M:%S", "%H%M%S", "%I:%M:%S %p"])
fractions = st.sampled_from(["", ".%f", ".%g", ".%n"])
zones = st.sampled_from(["", "%z", " %z", " %Z", " UTC%z", "Z", " GMT", " (%Z)", " %z (%Z)"])
digits = st.text("0123456789", min_size=1, max_size=9)
said_offsets = st.sampled_from(["Z", "+00:00", "-0500", "+05:30", "+14", "-15:59", "+99:99", "+16:00", "-5", "z", ""])
said_names = st.sampled_from([*ZONES, "est", "UTC", "GMT", "Z", "BST", "America/Chicago", ""])
moments = st.datetimes(datetime(1970, 1, 2), datetime(2068, 1, 1)).map(lambda m: m.replace(microsecond=0))  # noqa: DTZ001
# The hours that daylight saving time makes doubtful in Chicago and Berlin.
doubtful = st.sampled_from([(2026, 3, 8, 2), (2026, 11, 1, 1), (2026, 3, 29, 2), (2026, 10, 25, 2)]).map(
    lambda at: datetime(*at, 30)  # noqa: DTZ001 - a wall clock
)


def read(pattern: str, text: str) -> tuple[datetime, int | str | None] | None:
    """What the wall clock shows, and the zone: minutes of an offset, a name that nobody mapped, or nothing."""
    shape, python = "", ""
    for piece in re.findall(r"%.|[^%]+", pattern):
        match piece:
            case "%z":
                shape += r"(?P<offset>Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)"
            case "%Z":
                shape += r"(?P<name>Central Standard Time|[A-Za-z][A-Za-z0-9_/:+-]*)"
            case "%f" | "%g" | "%n":
                shape += r"(?P<fraction>\d{1,9})"
            case _:
                shape += r"\S*" if piece.startswith("%") else re.escape(piece)
                python += piece
    found = re.fullmatch(shape, text)
    if found is None:
        return None
    groups = found.groupdict()
    kept = text
    for group in ("name", "offset", "fraction"):
        if group in groups:
            kept = kept[: found.start(group)] + kept[found.end(group) :]
    try:
        wall = datetime.strptime(kept, python)  # noqa: DTZ007 - its zone is judged apart
    except ValueError:
        return None
    wall += timedelta(microseconds=int(groups.get("fraction", "0")[:6].ljust(6, "0")))
    if "offset" in groups:
        return wall, minutes_of(groups["offset"])
    if "name" in groups:
        mapped = {name.upper(): minutes for name, minutes in ZONES.items()} | {"UTC": 0, "GMT": 0, "Z": 0}
        return wall, mapped.get(groups["name"].upper(), groups["name"])
    return wall, 0 if pattern.endswith(("Z", "GMT")) else None


def expected(pattern: str, text: str, zone: str, kind: str) -> object:
    """The day or the UTC time of a text, or the rule that it breaks."""
    found = read(pattern, text)
    if found is None:
        return kind
    wall, offset = found
    if kind == "date":
        return wall.date()
    match offset:
        case str():
            return "zone"
        case int():
            return wall.replace(tzinfo=UTC) - timedelta(minutes=offset)
    local = wall.replace(tzinfo=ZoneInfo(zone), fold=0)
    instant = local.astimezone(UTC)
    return instant if instant.astimezone(local.tzinfo).replace(tzinfo=None) == wall else "dst_gap"


def minutes_of(offset: str) -> int:
    if offset == "Z":
        return 0
    number = offset[1:].replace(":", "").ljust(4, "0")
    return (int(number[:2]) * 60 + int(number[2:])) * (-1 if offset[0] == "-" else 1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A pattern and some texts, most of them written by it."""
    day, clock, fraction, zone = draw(days), draw(clocks), draw(fractions), draw(zones)
    if fraction and clock.endswith("%p"):
        fraction = ""
    texts = []
    for _ in range(draw(st.integers(1, 6))):
        moment = draw(st.one_of(moments, doubtful))
        text = moment.strftime(day + " " + clock) + ("." + draw(digits) if fraction else "")
        text += zone.replace("%z", draw(said_offsets)).replace("%Z", draw(said_names))
        other = [text + "x", text[:-1], text.replace("0", "9", 1)]
        texts.append(draw(st.sampled_from([text, text, text, *other])).strip())
    return f"{day} {clock}{fraction}{zone}", texts


@settings(max_examples=share(60))  # two compilations of the row rules each
@given(
    case=cases(),
    zone=st.sampled_from(["UTC", "America/Chicago", "Europe/Berlin"]),
    kind=st.sampled_from(["date", "timestamp", "timestamp"]),
)
def test_the_kernel_reads_a_time_as_plain_python_does(
    con: duckdb.DuckDBPyConnection, folder: Path, case, zone: str, kind: str
) -> None:
    pattern, texts = case
    found = [read(pattern, text) for text in texts]
    assume(all(one is None or one[0].year < 2200 for one in found))  # changes of the clock are known up to then
    offsets = {name: f"{'-' if m < 0 else '+'}{abs(m) // 60:02}:{abs(m) % 60:02}" for name, m in ZONES.items()}
    vendor = Vendor("acme", timezone=zone, zones=tuple(offsets.items()))
    column = Column("x", kind, formats=(pattern,))
    data = csv_of(("k", "e", "x"), *(("K", EVENT, text) for text in texts))
    parsed = parse(con, folder, data, contract_of(column), vendor)
    got = [parsed.rows[n]["x"] if n in parsed.rows else parsed.errors[n][0]["rule"] for n in range(1, len(texts) + 1)]
    assert got == [expected(pattern, text, zone, kind) for text in texts], (pattern, zone, texts)
