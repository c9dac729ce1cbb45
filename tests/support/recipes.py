"""The consumers of docs/recipes.md as the package that a reader makes of them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/recipes.md"


def blocks(kind: str) -> list[str]:
    """Return the page's code blocks of a language, in order."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def write_package(folder: Path) -> Path:
    """Make `mysite` below a folder. A block that is "further down" in a file goes to its end."""
    package = folder / "mysite"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for block in blocks("python"):
        name = re.match(r"# mysite/(\w+\.py)(, further down)?\n", block)
        assert name, block
        with (package / name[1]).open("a" if name[2] else "x") as file:
            file.write(block)
    return package
