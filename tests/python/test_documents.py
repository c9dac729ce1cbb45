"""The pages: every link in them leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"))
)


def text_of(page: Path) -> str:
    """Return a page without its code, in which brackets are no links and # begins no heading."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives to the headings of a page."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ +(.*)$", text_of(page), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        count = found.get(name, 0)
        found[name] = count + 1
        names.add(f"{name}-{count}" if count else name)
    return names


def is_broken(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or ROOT not in (target, *target.parents):
        return True
    return bool(anchor) and anchor not in anchors(target)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    text = re.sub(r"`[^`\n]*`", "", text_of(page))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if is_broken(page, link)] == []


def test_index_has_every_page() -> None:
    index = text_of(ROOT / "docs/README.md")
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    assert [name for name in pages if f"({name})" not in index] == []


def test_every_statistic_is_documented() -> None:
    table = (ROOT / "plugin/shared/statistics.h").read_text()
    names = re.findall(r'^\tSTATISTIC\(\w+, "([\w/]+)"', table, re.MULTILINE)
    page = (ROOT / "docs/statistics.md").read_text()
    assert len(names) > 20
    assert [name for name in names if f"`{name}`" not in page] == []


def test_architecture_has_every_file() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    sources = [
        *(ROOT / "plugin").rglob("*.c"),
        *(ROOT / "python/mqttasgi/runtime").glob("[!_]*.py"),
        *(ROOT / "python/mqttasgi/command").glob("[!_]*.py"),
        *(ROOT / "python/mqttasgi/cluster").glob("[!_]*.py"),
    ]
    assert len(sources) > 60
    assert sorted(path.name for path in sources if f"{path.name}`" not in page) == []
