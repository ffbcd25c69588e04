"""Links between the documents lead somewhere."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.relative_to(DOCS).as_posix())
def test_relative_links_lead_to_files(path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


def test_the_map_names_every_document():
    links = set(re.findall(r"\]\(([^)#\s]+)\)", (DOCS / "index.md").read_text(encoding="utf-8")))
    named = {(DOCS / link).resolve() for link in links}
    kinds = [DOCS / name for name in ("explanation", "how-to", "reference")]
    assert {path for kind in kinds for path in kind.glob("*.md")} - named == set()
