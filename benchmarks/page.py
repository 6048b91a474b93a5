"""Writing results into a page of the documentation, so that it holds what a run measured."""

from __future__ import annotations

from pathlib import Path


def write_block(page: Path, name: str, text: str) -> None:
    """Put `text` between the marks of that name, in place of what stands there.

    Ends the program if the page has no such marks: a result that goes nowhere must not look written.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page} has no place for {name}: write {begin} and {end} where it belongs.")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
