"""Files that are nasty to read, at 5, 10, 20 and 40 MB: their time must grow no faster than they do.

`python -m bench.nasty_files [--megabytes 5 10 20 40] [--kinds blank_lines ...]`. Each file is staged, loaded and
archived by a process of its own; the processor time of one that runs an empty pass is taken off. What counts is the
ratio of one size's processor time to that of the size before, and the peak of memory; what is allowed is in the
results.
"""

from __future__ import annotations

import argparse
import gzip
import io
import tempfile
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from bench.report import Timed, save, timed

HEADER = b"order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp"
ROW = b"O1,%09d,2026-11-20,,IN_TRANSIT,Main St 1,2026-11-20 08:00:00"
CONFIG = """[pipeline]
source = "in"
archive = "archive"
warehouse = "tables"
settle_s = 0
memory_limit_mb = 1024
[[vendors]]
name = "default"
"""
PASS = """
import sys
from ordertrail import Pipeline, load_config
report = Pipeline(load_config(sys.argv[1])).run()
print(*[(d.state.value, d.rows.parsed, d.rows.rejected) for d in report.deliveries])
"""
MOST_PER_DOUBLING = 2.3
"""The most that twice the bytes may take, in times of the former."""


def main() -> None:
    """Measure, and keep the figures in `bench/results/nasty_files.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[5, 10, 20, 40])
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=sorted(KINDS))
    options = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as folder:
        base = Path(folder)
        idle_s = min(_pass(base / f"idle{n}", None).cpu_s for n in range(3))
        for kind in options.kinds:
            runs = []
            for megabytes in options.megabytes:
                content = KINDS[kind](megabytes * 1_000_000)
                runs.append(_pass(base / f"{kind}{megabytes}", content, PROFILES.get(kind, "")))
                print(kind, megabytes, round(runs[-1].wall_s, 2), round(runs[-1].peak_mb), runs[-1].output, flush=True)
            found[kind] = _figures(runs, idle_s)
    limits = {
        "megabytes": options.megabytes,
        "most_per_doubling": MOST_PER_DOUBLING,
        "idle_pass_cpu_s": round(idle_s, 2),
    }
    save("nasty_files", {**limits, "kinds": found})


def _pass(folder: Path, content: bytes | None, profile: str = "") -> Timed:
    (folder / "in").mkdir(parents=True)
    (folder / "ordertrail.toml").write_text(CONFIG + profile, encoding="utf-8")
    if content is not None:
        (folder / "in" / "order_tracking_2026_11_23.csv").write_bytes(content)
    return timed(PASS, [str(folder / "ordertrail.toml")])


def _figures(runs: list[Timed], idle_s: float) -> dict[str, object]:
    work_s = [max(run.cpu_s - idle_s, 0.0) for run in runs]
    pairs = pairwise(work_s)
    return {
        "wall_s": [round(run.wall_s, 2) for run in runs],
        "cpu_s": [round(run.cpu_s, 2) for run in runs],
        # A first size that takes next to nothing says nothing.
        "ratios": [round(after / before, 2) if before > 0.1 else None for before, after in pairs],
        "peak_mb": [round(run.peak_mb) for run in runs],
        "became": runs[-1].output,
    }


# --- kinds ---------------------------------------------------------------------------------------------------------


def _repeated(part: bytes, size: int, header: bytes = HEADER + b"\n") -> bytes:
    return header + part * ((size - len(header)) // len(part))


def _rows(size: int, end: bytes = b"\n", between: bytes = b"") -> bytes:
    count = size // (len(ROW % 1) + len(end) + len(between))
    return HEADER + end + between + (end + between).join(ROW % n for n in range(count)) + end


def _names(size: int, name: bytes) -> bytes:
    return HEADER + (b"," + name) * (size // (len(name) + 1)) + b"\n" + ROW % 1 + b"\n"


def _long_name(size: int) -> bytes:
    return HEADER + b"," + b"n" * 100_000 + b"\n" + (ROW + b",1\n") % 1 * (size // len(ROW % 1 + b",1\n"))


def _gzip_of_rows(size: int) -> bytes:
    """A gzip file that is many, one for each row."""
    parts = [gzip.compress(ROW % n + b"\n", 1) for n in range(100)]
    return gzip.compress(HEADER + b"\n") + b"".join(parts) * (size // sum(map(len, parts)))


def _zip_of_parts(size: int) -> bytes:
    """A zip archive of as many members as it may have."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for n in range(1000):
            archive.writestr(f"{n}.csv", _rows(size // 1000))
    return out.getvalue()


KINDS: dict[str, Callable[[int], bytes]] = {
    "plain": _rows,
    "no_line_end": lambda size: b"x" * size,
    "one_long_row": lambda size: HEADER + b"\n" + b"x" * size,
    "one_row_of_delimiters": lambda size: HEADER + b"\n" + b"," * size,
    "header_of_delimiters": lambda size: b"," * size,
    "header_of_one_name": lambda size: _names(size, b"a"),
    "header_of_quotes": lambda size: _names(size, b'"a"'),
    "long_header_name": _long_name,
    "blank_lines_first": lambda size: b"\n" * size + HEADER + b"\n",
    "blank_lines": lambda size: _repeated(b"\n", size),
    "blank_lines_and_delimiters": lambda size: _repeated(b"\n,", size),
    "nothing_but_blank_lines_and_delimiters": lambda size: b"\n," * (size // 2),
    "lines_of_delimiters": lambda size: _repeated(b",,,,,,\n", size),
    "carriage_returns": lambda size: _rows(size, b"\r"),
    "carriage_returns_quoted": lambda size: _repeated(ROW.replace(b"Main", b'"Main\r') % 1 + b'"\r', size)
    .replace(b'1,2026-11-20 08:00:00"', b'1",2026-11-20 08:00:00'),
    "blank_carriage_returns": lambda size: _repeated(b"\r", size),
    "ragged_rows": lambda size: _repeated(b"x\n", size),
    "quotes": lambda size: _repeated(b'"', size),
    "quotes_that_open": lambda size: _repeated(b'"a\n', size),
    "quotes_in_pairs": lambda size: _repeated(b'""\n', size),
    "quotes_and_text": lambda size: _repeated(b'a,"b"c\n', size),
    "rows_of_quoted_cells": lambda size: _repeated(b'"",' * 1000 + b"\n", size),
    "bad_cells": lambda size: _repeated(b"O1,K,soon,soon,S,A,soon\n", size),
    "long_bad_cells": lambda size: _repeated(b"O1,K,%s,,S,A,%s\n" % (b"d" * 500_000, b"t" * 500_000), size),
    "long_good_cells": lambda size: _repeated(ROW.replace(b"Main", b"M" * 1_000_000) % 1 + b"\n", size),
    "bad_cells_among_good": lambda size: _repeated((ROW % 1 + b"\n") * 9 + b"O1,K,soon,,S,A,\n", size),
    "gzip": lambda size: gzip.compress(_rows(size), 1),
    "gzip_for_each_row": _gzip_of_rows,
    "zip_of_many_members": _zip_of_parts,
    "headers_again": lambda size: _repeated(HEADER + b"\n", size),
    "rows_inside_quotes": lambda size: _repeated(b'O1,K,,,S,"' + (ROW % 1 + b"\n") * 1000 + b'",\n', size),
    "trailers": lambda size: _repeated(b"T\n", size),
    "rows_before_trailers": lambda size: _rows(size) + b"T\n" * 30_000,
    "escapes": lambda size: _repeated(ROW.replace(b"Main", b'\\"\\,\\\\') % 1 + b"\n", size),
    "nothing_but_escapes": lambda size: _repeated(b"\\", size),
    "continuation_lines": lambda size: _repeated(b",,2026-11-20,,,more,\n", size),
    "short_rows": lambda size: _repeated(b"O1,K\n", size),
    "quotes_that_no_line_closes": lambda size: _repeated(b'"a\n', size),
    "delimiters_of_two": lambda size: _rows(size).replace(b",", b"||"),
    "short_lines_of_fixed_width": lambda size: _repeated(b"x\n", size),
}  # fmt: skip
"""By its name, what makes a file of about a number of bytes, where it is packed as it was before."""

PROFILES = {
    "trailers": "trailer = '^T$'",
    "rows_before_trailers": "trailer = '^T$'",
    "escapes": "escape = '\\'",
    "nothing_but_escapes": "escape = '\\'",
    "continuation_lines": "continuation_lines = true",
    "short_rows": "short_rows = 'fill'",
    "quotes_that_no_line_closes": "newlines_in_cells = false",
    "delimiters_of_two": "delimiter = '||'",
    "short_lines_of_fixed_width": f"widths = [9, 12, 17, 20, 6, 7, 21]\nheader = false\nskip_lines = 1\n"
    f"columns = {HEADER.decode().split(',')}",
}
"""By its name, what the vendor's profile says of a kind of file; of the others it says nothing."""


if __name__ == "__main__":
    main()
