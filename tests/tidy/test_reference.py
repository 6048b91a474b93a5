"""The reference pages say what the code says."""

from __future__ import annotations

import pytest

from dorkos.mesh.manifest_schema import PUBLISHED, schema_text
from scripts.reference import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_page_matches_the_code(name: str) -> None:
    """Every setting, error code, event kind, operation and command is documented as it is: `make docs`."""
    path = FOLDER / name
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    assert written == PAGES[name](), f"docs/reference/{name} is stale: run make docs"


def test_the_published_schema_matches_the_code() -> None:
    """Editors and other tools read the file, we read the model: `make docs`."""
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text(), f"{PUBLISHED} is stale: run make docs"


def test_no_page_is_left_over() -> None:
    """A page whose table is gone from the code is gone from the folder too."""
    assert {path.name for path in FOLDER.glob("*.md")} == set(PAGES)
