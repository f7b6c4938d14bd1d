"""At least 200 nasty files and names, the same ones in every run.

Each says what may become of it. Keys are unique over all files, so that every row of a good file must be in the
target, once. Contents are small but where size is the point.
"""

from __future__ import annotations

import codecs
import gzip
import io
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

LOADED, EMPTY, QUARANTINED, HELD, LEFT = "loaded", "empty", "quarantined", "held", "left"
ANY = (LOADED, EMPTY, QUARANTINED)

HEADER = "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp"
VENDORS_TOML = """
[[vendors]]
name = "default"
files = "*.csv"

[[vendors]]
name = "semi"
files = "semi/*.csv"
delimiter = ";"

[[vendors]]
name = "western"
files = "western/*.csv"
encoding = "cp1252"
timezone = "America/Chicago"

[[vendors]]
name = "wide"
files = "wide/*.csv"
encoding = "utf-16"
quote = "'"
delimiter = "|"
"""


@dataclass(frozen=True, slots=True)
class NastyFile:
    """One file.

    Attributes:
        path: Below the source folder, any bytes that a file system takes.
        content: All bytes.
        fates: States that it may end in; `left` is a file that stays where it is, with a reason.
        rows: How many rows must be loaded, None when any number may.
        keys: Keys that must be in the target.
    """

    path: bytes
    content: bytes
    fates: tuple[str, ...]
    rows: int | None = None
    keys: tuple[str, ...] = ()


class _Maker:
    """Makes contents with keys that nobody else has."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._count = 0

    def key(self) -> str:
        self._count += 1
        return f"{self._count:08d}"

    def rows(self, count: int, address: str = "Main St 1") -> tuple[list[str], tuple[str, ...]]:
        keys = tuple(self.key() for _ in range(count))
        return [f"O{k},{k},2026-11-20,,IN_TRANSIT,{address},2026-11-20 08:00:00" for k in keys], keys

    def good(self, path: bytes, count: int = 3, address: str = "Main St 1", end: str = "\n") -> NastyFile:
        rows, keys = self.rows(count, address)
        return NastyFile(path, (end.join([HEADER, *rows]) + end).encode(), (LOADED,), count, keys)

    def text(self, count: int = 3) -> str:
        return "\n".join([HEADER, *self.rows(count)[0]]) + "\n"


def nasty_files() -> list[NastyFile]:
    """All of them, in an order that has nothing to do with their names."""
    make = _Maker(20261123)
    files = [*_names(make), *_left(make), *_good(make), *_bad(make), *_cells(make), *_damaged(make)]
    make.random.shuffle(files)
    return files


def _names(make: _Maker) -> Iterator[NastyFile]:
    """Good files with names that hurt."""
    names = [
        b"two words.csv", b" leading.csv", b"trailing .csv", b"new\nline.csv", b"\n.csv", b"tab\there.csv",
        b"cr\rcr.csv",
        b"it's.csv", b'say "hi".csv', b"back`tick`.csv", b"$(touch x).csv", b"${HOME}.csv", b"esc\x1b[31mred.csv",
        b"\x1b]0;title\x07.csv", b"bell\x07.csv", b"del\x7f.csv", b"-rf.csv", b"--help.csv", b"-.csv", b"~.csv",
        b"'; DROP TABLE orders_target; --.csv", b"' OR 1=1 --.csv", b"%20.csv", b"100%.csv", b"%2e%2e%2f.csv",
        b"a#b.csv",
        b"what?.csv", b"star*.csv", b"[a-z].csv", b"{x,y}.csv", b"back\\slash.csv", b"colon:port.csv", b"c:\\nul.csv",
        b"semi;colon.csv", b"amp&ersand.csv", b"pipe|.csv", b"less<more>.csv", b"equals=1.csv", b"comma,comma.csv",
        b"latin\xe9.csv", b"\xff\xfe.csv", b"half\xc3.csv", b"\xed\xa0\x80surrogate.csv", b"a" * 251 + b".csv",
        "é".encode() * 125 + b".csv", "日本語.csv".encode(), "📦🚚.csv".encode(), "e\u0301.csv".encode(),
        "é.csv".encode(),
        "rtl\u202egnp.csv".encode(), "\u200f.csv".encode(), "\u2028line.csv".encode(), "\ufeffbom.csv".encode(),
        "\u0085nel.csv".encode(), b"NUL.csv", b"CON.csv", b"a.csv.csv", b"dots...csv", b"order_tracking_2026_11_20.csv",
        b"order_tracking_2026_13_45.csv", b"0000-00-00.csv", b"20261120.csv",
        b"b000001-rows-0.parquet.csv", b"_delta_log.csv", b"=cmd().csv", b"@at.csv", b"+plus.csv", b"null.csv",
        b"read_parquet('x').csv", b"00000000000000000000.json.csv",
    ]  # fmt: skip
    for name in names:
        yield make.good(name)
    yield NastyFile(b"order_tracking_9999_12_31.csv", make.text().encode(), (HELD,))


def _left(make: _Maker) -> Iterator[NastyFile]:
    """Files that are none of ours: they stay where they are."""
    names = [
        b"README", b"data.txt", b"x.csv.part", b"y.csv.tmp", b"z.csv.filepart", b"w.csv~", b".hidden.csv", b"upper.CSV",
        b"no/vendor/here.csv", b"\xff\xff", b"x.csv.gz", b"csv",
    ]  # fmt: skip
    for name in names:
        yield NastyFile(name, make.text().encode(), (LEFT,))


def _good(make: _Maker) -> Iterator[NastyFile]:
    """Unusual, and right: every row must land."""
    yield make.good(b"crlf.csv", end="\r\n")
    yield make.good(b"cr.csv", end="\r")
    yield make.good(b"blank lines.csv", end="\n\n\n")
    yield make.good(b"emoji cells.csv", address="📦 → 🚚‍♀️")
    yield make.good(b"rtl cells.csv", address="\u202e\u200fשלום")
    yield make.good(b"esc cells.csv", address="\x1b[31mred\x1b[0m")
    yield make.good(b"quotes inside.csv", address='12" pipe, 3"'.replace(",", " "))
    yield make.good(b"quoted newlines.csv", address='"a\nb\r\nc\rd"')
    yield make.good(b"quoted quotes.csv", address='""""""""')
    yield make.good(b"formula.csv", address="=HYPERLINK(1)")
    yield make.good(b"sql.csv", address="'); DROP TABLE x; --")
    yield make.good(b"backslashes.csv", address="\\N\\\\ \\u0000")
    yield make.good(b"separators.csv", address="a\x1c\x1d\x1e\x1f\u2028\u2029\x0b\x0c\x85b")
    yield make.good(b"huge cell.csv", count=2, address="x" * (1 << 20))
    yield make.good(b"huge quoted cell.csv", count=2, address='"' + "y,\n" * 200_000 + '"')
    for name, codec in ((b"bom8", "utf-8-sig"), (b"bom16", "utf-16"), (b"bom32", "utf-32")):
        one = make.good(name + b".csv", address="Zoë 📦")
        yield NastyFile(one.path, one.content.decode().encode(codec), one.fates, one.rows, one.keys)
    rows, keys = make.rows(2)
    text = HEADER + "\r\n" + rows[0] + "\r" + rows[1]
    yield NastyFile(b"mixed line ends, no last one.csv", text.encode(), (LOADED,), 2, keys)
    rows, keys = make.rows(2)
    wide = "\n".join([HEADER + "," + ",".join(f"x{i}" for i in range(500)), *(r + "," * 500 for r in rows)])
    yield NastyFile(b"500 more columns.csv", wide.encode(), (LOADED,), 2, keys)
    rows, keys = make.rows(2)
    text = "\n\n\r\n" + HEADER.upper().replace("_", " ") + "\n" + "\n".join(rows)
    yield NastyFile(b"blank lines before the header.csv", text.encode(), (LOADED,), 2, keys)
    rows, keys = make.rows(2)
    order = [6, 5, 4, 3, 2, 1, 0]
    text = "\n".join(";".join(line.split(",")[i] for i in order) for line in [HEADER, *rows])
    yield NastyFile(b"semi/turned round.csv", text.encode(), (LOADED,), 2, keys)
    one = make.good(b"western/zo\xeb.csv", address="Zoë €")
    yield NastyFile(one.path, one.content.decode().encode("cp1252"), one.fates, one.rows, one.keys)
    one = make.good(b"wide/it's.csv", address="it's")
    yield NastyFile(one.path, one.content.decode().replace(",", "|").encode("utf-16"), one.fates, one.rows, one.keys)
    one = make.good(b"gzip.csv")
    yield NastyFile(one.path, gzip.compress(one.content, mtime=0), one.fates, one.rows, one.keys)
    one = make.good(b"zip.csv")
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.csv"), one.content)
    yield NastyFile(one.path, box.getvalue(), one.fates, one.rows, one.keys)
    yield make.good(b"first of two.csv")
    lines, keys = make.rows(1)
    content = "\n".join([HEADER, *lines * 50]).encode()
    yield NastyFile(b"one row fifty times.csv", content, (LOADED,), 50, keys)


def _bad(make: _Maker) -> Iterator[NastyFile]:
    """Whole files that cannot be loaded."""
    text = make.text()
    nothing = [
        b"",
        b"\xef\xbb\xbf",
        b"\n",
        b"\r\n\r\n",
        b"   \n \t \n",
        codecs.BOM_UTF16_LE,
        codecs.BOM_UTF32_BE,
        b"\n" * 5000,
    ]
    for number, content in enumerate(nothing):
        yield NastyFile(b"nothing %d.csv" % number, content, (EMPTY, QUARANTINED))
    for number, end in enumerate(("", "\n", "\r\n", "\r", "\n\n\n")):
        yield NastyFile(b"header only %d.csv" % number, (HEADER + end).encode(), (EMPTY,))
    yield NastyFile(b"header only with a mark.csv", codecs.BOM_UTF8 + HEADER.encode(), (EMPTY,))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as box:
        box.writestr(zipfile.ZipInfo("a.csv"), text)
    binary = {
        b"cut zip": archive.getvalue()[:-1], b"cut gzip": gzip.compress(text.encode(), mtime=0)[:-1],
        b"parquet": b"PAR1" + bytes(range(256)) + b"PAR1",
        b"xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), b"pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj",
        b"elf": b"\x7fELF" + bytes(60), b"png": b"\x89PNG\r\n\x1a\n" + bytes(30), b"nuls": bytes(10_000), b"nul": b"\0",
        b"ff": b"\xff" * 1000, b"all bytes": bytes(range(256)) * 8, b"html": b"<html><body>404 not found</body></html>",
        b"json": b'{"rows": [1, 2,\n 3]}', b"xml": b'<?xml version="1.0"?>\n<a b="c"/>', b"pickle": b"\x80\x04\x95,.",
    }  # fmt: skip
    for name, content in binary.items():
        yield NastyFile(name + b".csv", content, (QUARANTINED, EMPTY))
    for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "cp037"):
        yield NastyFile(codec.encode() + b" without a mark.csv", text.encode(codec), (QUARANTINED,))
    yield NastyFile(b"utf-7.csv", text.encode("utf-7").replace(b"Main", b"+AGE-\xe9"), (QUARANTINED,))
    headers = {
        b"twice": HEADER + ",Tracking Num", b"no key": HEADER.replace("tracking_num", "parcel"),
        b"other delimiter": HEADER.replace(",", ";"),
        b"one column": "tracking_num", b"only quotes": '""' * 40, b"open quote": '"' + HEADER,
        b"only delimiters": "," * 50,
        b"numbers": "1,2,3,4,5,6,7", b"stray quote": '"order_num"x,' + HEADER,
        b"10000 columns": ",".join(f"c{i}" for i in range(10_000)),
        b"10000 more columns": HEADER + "," + ",".join(f"c{i}" for i in range(10_000)), b"nul": HEADER + "\0",
        b"spaces": " ,  ,\t", b"same": "a,a,a,a,a,a,a",
    }  # fmt: skip
    for name, header in headers.items():
        rows, _ = make.rows(2)
        yield NastyFile(b"header " + name + b".csv", "\n".join([header, *rows]).encode(), (QUARANTINED,))
    for number, char in enumerate((b",", b'"', b"a", b"\n,", b'",', b'""', b'\n"', b",\n")):
        yield NastyFile(b"only %d.csv" % number, char * 3000, (QUARANTINED, EMPTY))
    yield NastyFile(b"one line of 1 MB.csv", b"x" * (1 << 20), (EMPTY, QUARANTINED))
    yield NastyFile(b"a row of 1 MB of delimiters.csv", HEADER.encode() + b"\n" + b"," * (1 << 20), (EMPTY,))
    yield NastyFile(b"quotes of 1 MB.csv", HEADER.encode() + b"\n" + b'"' * ((1 << 20) + 1), (QUARANTINED,))
    yield NastyFile(b"late garbage.csv", text.encode() * 3 + b"\xff\xfe\xfd", (QUARANTINED,))
    yield NastyFile(b"late nul.csv", make.text(50).encode() + b"\0", (QUARANTINED,))
    yield NastyFile(b"odd utf-16.csv", codecs.BOM_UTF16_LE + text.encode("utf-16-le") + b"x", (QUARANTINED,))
    yield NastyFile(
        b"lone surrogate.csv", codecs.BOM_UTF16_LE + text.encode("utf-16-le") + b"\x00\xd8\x41\x00", (QUARANTINED,)
    )
    yield NastyFile(b"western/undefined.csv", text.encode() + b"\x81", (QUARANTINED,))
    yield NastyFile(b"wide/odd.csv", text.encode() + b"x", ANY)


def _cells(make: _Maker) -> Iterator[NastyFile]:
    """One bad row among nine good ones: the good ones land, the bad one is a reject."""
    bad = [
        "{k},,,,,,2026-11-20 08:00:00", "{k},   ,,,,,2026-11-20 08:00:00", "1,1.2E+11,,,,,2026-11-20 08:00:00",
        "1,{k},2026-02-30,,,,2026-11-20 08:00:00", "1,{k},20/11/2026,,,,2026-11-20 08:00:00", "1,{k},,,,,",
        "1,{k},,,,,now",
        "1,{k},,,,,infinity", "1,{k},,,,,epoch", "1,{k},,,,,2026-11-20 23:59:60",
        "1,{k},,,,,9999-12-31 23:59:59", "1,{k},,,,,0001-01-01", "1,{k},,,,,٢٠٢٦-١١-٢٠", "1,{k}",
        "1,{k},,,,,2026-11-20,x,y",
        '"1,{k},,,,,2026-11-20', '"1"x,{k},,,,,2026-11-20', '1,{k},"a"b,,,,2026-11-20', "1,{k},,,,,-infinity",
        ",,,,,,", "x",
        "1,{k},0000-00-00,,,,2026-11-20", "1,{k},99999999999999999999-01-01,,,,2026-11-20",
        "1,{k},-2026-11-20,,,,2026-11-20",
        "1,{k},,,,,20261120", "1,{k},,,,,1763625600", "1,{k},,,,,2026-11-20T08:00:00+99:99", "1,{k},,,,,26-11-20",
        "\ufeff1,{k}",
    ]  # fmt: skip
    for number, row in enumerate(bad):
        rows, keys = make.rows(9)
        lines = [HEADER, *rows[:5], row.replace("{k}", make.key()), *rows[5:]]
        yield NastyFile(b"bad cell %02d.csv" % number, "\n".join(lines).encode(), (LOADED,), 9, keys)


def _damaged(make: _Maker) -> Iterator[NastyFile]:
    """Good files cut off, overwritten, shuffled; and noise."""
    for number in range(25):
        whole = make.good(b"", 5).content
        yield NastyFile(b"cut %02d.csv" % number, whole[: make.random.randrange(len(whole))], ANY)
    for number in range(25):
        damaged = bytearray(make.good(b"", 5, address='"x, ""y"" \n z"').content)
        for _ in range(make.random.randrange(1, 12)):
            damaged[make.random.randrange(len(damaged))] = make.random.randrange(256)
        yield NastyFile(b"overwritten %02d.csv" % number, bytes(damaged), ANY)
    for number in range(20):
        yield NastyFile(b"noise %02d.csv" % number, make.random.randbytes(make.random.randrange(1, 3000)), ANY)
    for number in range(20):
        noise = "".join(make.random.choices('",\n\r ab\t0é📦;|', k=make.random.randrange(1, 400)))
        yield NastyFile(b"noise after a header %02d.csv" % number, f"{HEADER}\n{noise}".encode(), ANY)
