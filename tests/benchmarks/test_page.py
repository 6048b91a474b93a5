"""Results on the page about performance: each in its place, as it was measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.__main__ import _ALL, Found, _write
from benchmarks.contest import Figure
from benchmarks.growth.fit import Curve
from benchmarks.growth.operations import OPERATIONS
from benchmarks.growth.promises import rows
from benchmarks.page import write_block
from benchmarks.report import Row
from benchmarks.restarts import Account

PAGE = Path(__file__).parent.parent.parent / "docs" / "performance.md"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A copy of the page, with a folder for pictures beside it."""
    (tmp_path / "images").mkdir()
    return Path(shutil.copy(PAGE, tmp_path))


def test_everything_that_is_measured_has_a_place_on_the_page(page: Path) -> None:
    """Each part of the benchmark, and the soak; writing again replaces what stood there."""
    for name in (*_ALL, "soak"):
        write_block(page, name, f"Result of {name}, an old one.")
        write_block(page, name, f"Result of {name}.")
    text = page.read_text("utf-8")
    assert [text.count(f"\nResult of {name}.\n") for name in (*_ALL, "soak")] == [1] * (len(_ALL) + 1)
    assert "an old one" not in text
    assert text.startswith("# How fast")
    assert text.endswith("<!-- end soak -->\n")


def test_a_result_without_a_place_is_refused(page: Path) -> None:
    """Nothing is changed, and the command ends with what to do."""
    before = page.read_text("utf-8")
    with pytest.raises(SystemExit, match="begin nowhere"):
        write_block(page, "nowhere", "lost")
    assert page.read_text("utf-8") == before


def test_results_are_written_as_tables(page: Path) -> None:
    """Contests with who is missing, accounts, curves with their picture, and promises kept or missed."""
    curves = [Curve(name, "ms", {1_000: 2.0, 1_000_000: 4.0}) for name in OPERATIONS]
    found = Found(
        figures={
            "due": [Figure("jobs", "ours", "all", (10.0, 12.0)), Figure("jobs", "b", "", missing="gone")]
        },
        accounts=[Account("ours", seconds=30, ran=20, twice=0, told=9)],
        curves=curves,
        rows={"growth": rows(curves), "start": [Row.of("start", [1.0, 2.0, 3.0], "s", 2.0)]},
    )
    for name in ("due", "restarts", "growth", "start"):
        _write(page, name, found, "Measured: somewhere.")
    text = page.read_text("utf-8")
    assert "| ours | 11 | 10 to 12 | 1.00 | all |" in text
    assert "| b | | | | gone |" in text
    assert "| ours | 30 | 20 | 0 | 9 | 1 |" in text
    assert "| newest 50 runs | 2.00 ms | 4.00 ms | n^0.10 | 2.00 |" in text
    assert "| start | 2.00 s | 1.00 to 3.00 | at most 2 s | kept |" in text
    assert "| newest 50 runs of 1,000,000 | 4.00 ms |  | at most 2 ms | **missed** |" in text
    assert text.count("Measured: somewhere.") == 4
    assert (page.parent / "images" / "growth.svg").read_text("utf-8").startswith("<svg")
