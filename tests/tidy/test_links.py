"""Links between the pages lead somewhere."""

from __future__ import annotations

import re

from tests.tidy.rules import ROOT, text_files

_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)(?:#[^)\s]*)?\)")


def test_every_link_to_a_file_leads_to_one() -> None:
    """Each relative link in a Markdown file names a file or folder of the tree."""
    dead = [
        f"{path}: {target}"
        for path, text in text_files()
        if path.suffix == ".md"
        for target in _LINK.findall(text)
        if not (ROOT / path.parent / target).exists()
    ]
    assert not dead, dead
