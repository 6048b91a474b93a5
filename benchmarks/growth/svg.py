"""Curves as a picture: a small panel for each, both axes in powers of ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.growth.fit import Curve

_WIDTH, _HEIGHT, _COLUMNS = 240, 170, 3
_LEFT, _TOP, _RIGHT, _BOTTOM = 46, 34, 14, 28
_STYLE = (
    "text{font:11px sans-serif;fill:#444}.name{font-weight:600;fill:#111}"
    ".axis{stroke:#bbb}.line{fill:none;stroke:#2563eb;stroke-width:2}.dot{fill:#2563eb}"
    "@media(prefers-color-scheme:dark){text{fill:#bbb}.name{fill:#eee}.axis{stroke:#555}}"
)


def picture(curves: Sequence[Curve]) -> str:
    """The text of an SVG file."""
    rows = math.ceil(len(curves) / _COLUMNS)
    width, height = _WIDTH * _COLUMNS, _HEIGHT * rows
    panels = []
    for number, curve in enumerate(curves):
        place = f"{number % _COLUMNS * _WIDTH},{number // _COLUMNS * _HEIGHT}"
        panels.append(f'<g transform="translate({place})">{_panel(curve)}</g>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            "<title>Cost of each operation by how much is stored</title>",
            f"<style>{_STYLE}</style>",
            *panels,
            "</svg>",
            "",
        ]
    )


def _panel(curve: Curve) -> str:
    sizes = sorted(curve.values)
    # A decade at the least, so that noise does not look like growth.
    low = math.floor(math.log10(max(min(curve.values.values()), 1e-9)))
    high = max(math.ceil(math.log10(max(*curve.values.values(), 1e-9))), low + 1)
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])

    def x(size: float) -> float:
        return _LEFT + (math.log10(size) - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = (math.log10(max(value, 1e-9)) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    points = [(x(size), y(curve.values[size])) for size in sizes]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    exponent = f"n^{curve.exponent:.2f}".replace("n^-0.00", "n^0.00")
    return "".join(
        [
            f'<text class="name" x="8" y="14">{escape(curve.name)}</text>',
            f'<text x="8" y="27">{escape(curve.unit)}, {exponent}</text>',
            *(
                f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(10.0**power):.1f}" '
                f'y2="{y(10.0**power):.1f}"/><text x="{_LEFT - 4}" y="{y(10.0**power) + 4:.1f}" '
                f'text-anchor="end">{10.0**power:g}</text>'
                for power in range(low, high + 1)
            ),
            *(
                f'<text x="{x(size):.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{_short(size)}</text>'
                for size in sizes
            ),
            f'<polyline class="line" points="{path}"/>',
            *(f'<circle class="dot" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in points),
        ]
    )


def _short(size: int) -> str:
    for name, unit in (("M", 1_000_000), ("k", 1_000)):
        if size >= unit:
            return f"{size / unit:g}{name}"
    return str(size)
