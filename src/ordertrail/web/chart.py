"""Charts as SVG made on the server. A chart is a picture of a table that stands below it; it needs no script."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape
from msgspec import Struct

from ordertrail.web.shown import count, plain

WIDTH, HEIGHT = 720, 180
_LEFT, _BOTTOM, _TOP = 52, 24, 10
_GAP = 0.22


class Bar(Struct, frozen=True):
    """A bar of parts that stand on each other.

    Attributes:
        label: Below it; "" where there is no room for one.
        title: What it stands for, in words.
        parts: A number for each series.
    """

    label: str
    title: str
    parts: Sequence[int]


def bars(title: str, series: Sequence[str], found: Sequence[Bar]) -> Markup:
    """A chart of stacked bars.

    Args:
        title: What it shows, in one sentence, for who does not see it.
        series: The names of the parts, from the bottom; the class of a part is `s-` and its name.
        found: The bars, from the left.
    """
    top = _round_up(max((sum(bar.parts) for bar in found), default=0))
    step = (WIDTH - _LEFT) / max(len(found), 1)
    high = HEIGHT - _TOP - _BOTTOM
    drawn = [_line(top, share, high) for share in (0, 0.5, 1)]
    for place, bar in enumerate(found):
        drawn.append(_bar(bar, series, _LEFT + step * place, step, high / top))
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, plain(title), Markup("").join(drawn)
    )


def _bar(bar: Bar, series: Sequence[str], left: float, step: float, unit: float) -> Markup:
    foot = float(HEIGHT - _BOTTOM)
    drawn: list[str] = []
    for name, value in zip(series, bar.parts, strict=True):
        tall = value * unit
        if value:
            foot -= tall
            drawn.append(
                # Of our own words and numbers: `Markup.format` would take most of the time of a page.
                f'<rect class="s-{name}" x="{left + step * _GAP / 2:.1f}" y="{foot:.1f}" '
                f'width="{step * (1 - _GAP):.1f}" height="{max(tall, 0.6):.1f}"/>'
            )
    if bar.label:
        drawn.append(
            f'<text class="axis" x="{left + step / 2:.1f}" y="{HEIGHT - 7}" text-anchor="middle">'
            f"{escape(plain(bar.label))}</text>"
        )
    return Markup(f"<g><title>{escape(plain(bar.title))}</title>{''.join(drawn)}</g>")


def _line(top: int, share: float, high: int) -> Markup:
    y = HEIGHT - _BOTTOM - high * share
    return Markup(
        '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
        '<text class="axis" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
    ).format(_LEFT, WIDTH, y, y, _LEFT - 8, y + 4, _brief(top * share))


def _round_up(value: int) -> int:
    """The next number of the form 1, 2, 3, 4, 6 or 8 times a power of ten; at least 2."""
    power = 1
    while True:
        for step in (1, 2, 3, 4, 6, 8):
            if step * power >= max(value, 2):
                return step * power
        power *= 10


def _brief(value: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return count(int(value)) if value == int(value) else f"{value:g}"
