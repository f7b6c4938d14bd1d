"""The chart of the README: one case of `bench/results/upsert.json` as `docs/img/upsert.svg`.

`python -m bench.chart`. Plain SVG text, for light and dark pages. Bars are of one scale within a panel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape

from bench.report import RESULTS, ROOT

CHART = ROOT / "docs" / "img" / "upsert.svg"
HEADLINE = {"rows": 10_000_000, "batch_rows": 100_000, "update_share": 50, "keys": "random"}
LABELS = {
    "ordertrail": "ordertrail",
    "delta_rs_merge": "delta-rs merge",
    "delta_rs_notebooks": "delta-rs, delete + append",
    "duckdb_merge": "DuckDB MERGE (not Delta)",
    "spark_merge": "Spark MERGE, warm",
    "spark_notebooks": "Spark, delete + append, warm",
}
PANELS = (
    ("whole_s", "The whole way, from CSV to committed; ordertrail also checks, keeps history and archives"),
    ("load_s", "The change of the table alone"),
)
_WIDTH, _LABELS, _BARS, _ROW, _BAR, _HEAD = 840, 220, 470, 26, 16, 34
_STYLE = """text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 } .quiet { fill: #59636e } .end { text-anchor: end }
.ours { fill: #0969da } .peer { fill: #8c959f } text.ours { fill: #1f2328; font-weight: 600 }
@media (prefers-color-scheme: dark) {
text, text.ours { fill: #f0f6fc } .quiet { fill: #9198a1 } rect.ours { fill: #4493f8 } .peer { fill: #656c76 }
}"""

Case = Mapping[str, object]
Row = tuple[str, float, bool]
"""Label, seconds, and whether it is ordertrail's."""


def svg(title: str, foot: str, panels: Sequence[tuple[str, Sequence[Row]]]) -> str:
    """A chart of horizontal bars.

    Args:
        title: Above all panels.
        foot: Below them.
        panels: Of each its heading, and its rows from top to bottom; ordertrail's is what the others are compared to.
    """
    parts = [_text(0, 18, title, "title")]
    y = 30
    for heading, rows in panels:
        parts.append(_text(0, y + 20, heading, "quiet"))
        y += _HEAD
        longest = max(seconds for _, seconds, _ in rows)
        ours = next((seconds for _, seconds, is_ours in rows if is_ours), None)
        for row in rows:
            parts += _bar(y, row, longest, ours)
            y += _ROW
        y += 12
    parts.append(_text(0, y + 12, foot, "quiet"))
    height = y + 22
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def draw() -> None:
    """Draw the chart, if the case that it is of has been measured."""
    document = json.loads((RESULTS / "upsert.json").read_text(encoding="utf-8"))
    case = next((case for case in document["cases"] if HEADLINE.items() <= case.items()), None)
    if case is None:
        return
    panels = [(heading, _rows(case["contenders"], key)) for key, heading in PANELS]
    rounds = max(len(contender["rounds"]) for contender in case["contenders"].values())
    machine = document["machine"]
    title = f"{case['batch_rows']:,} rows, half of them updates of random keys, into {case['rows']:,} rows"
    foot = (
        f"Seconds, medians of {rounds} rounds in turns, {machine['cores']} cores, {case['measured_at'][:10]}. "
        f"× is times ordertrail's. DuckDB {machine['duckdb']}, delta-rs {machine['deltalake']}"
    )
    if any(name.startswith("spark") for name in case["contenders"]):
        foot += f", Spark {machine['pyspark']}"
    CHART.parent.mkdir(parents=True, exist_ok=True)
    CHART.write_text(svg(title, foot + ".", panels), encoding="utf-8")


def _rows(contenders: Mapping[str, Case], key: str) -> list[Row]:
    return [
        (label, float(str(contenders[name][key])), name == "ordertrail")
        for name, label in LABELS.items()
        if name in contenders
    ]


def _bar(y: int, row: Row, longest: float, ours_s: float | None) -> list[str]:
    label, seconds, is_ours = row
    kind = "ours" if is_ours else "peer"
    width = max(_BARS * seconds / longest, 1.5)
    value = f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    if ours_s and not is_ours:
        value += f"  {seconds / ours_s:.1f}×"
    base = y + _BAR - 3
    return [
        _text(_LABELS - 10, base, label, f"end {kind if is_ours else ''}".strip()),
        f'<rect class="{kind}" x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
        _text(_LABELS + width + 8, base, value, kind if is_ours else "quiet"),
    ]


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" class="{kind}">{escape(text)}</text>'


if __name__ == "__main__":
    draw()
