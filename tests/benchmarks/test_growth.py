"""Growth: that every operation is measured on every size, and what grows is told from what does not."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks.growth.fit import Curve
from benchmarks.growth.measure import measured
from benchmarks.growth.operations import OPERATIONS
from benchmarks.growth.svg import picture


async def test_every_operation_is_measured_with_so_much_stored(tmp_path: Path) -> None:
    """On databases that hold what they say they hold."""
    found = await measured(tmp_path, (100, 200), rounds=1)
    assert [curve.name for curve in found] == list(OPERATIONS)
    assert all(set(curve.values) == {100, 200} for curve in found)
    assert all(value > 0 for curve in found for value in curve.values.values())


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_power_that_fits(power: float) -> None:
    """Whatever the constant before it."""
    curve = Curve("work", "ms", {size: 3 * size**power for size in (1_000, 10_000, 1_000_000)})
    assert curve.exponent == pytest.approx(power)
    assert curve.ratio == pytest.approx(1_000**power)


def test_the_picture_has_a_panel_with_each_point_of_each_curve() -> None:
    """As an SVG that can be read, also where something takes no time at all, or its name has signs."""
    curves = [Curve("a < b", "ms", {10: 1.0, 100: 50.0, 1000: 0.0}), Curve("c", "MB", {10: 1.0, 100: 1.0})]
    root = ET.fromstring(picture(curves))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a < b" in texts
    assert "MB, n^0.00" in texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 5
