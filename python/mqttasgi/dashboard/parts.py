"""Parts of pages: what is in a page when it is loaded, and is sent again when it has changed.

Each has an id in the page and a key: where the key is another, the part looks otherwise. htmx puts what comes
in place of the element of the same id.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString


class Part:
    """Something with an id that can change."""

    id: str
    key: Hashable

    def html(self) -> SafeString:
        """Return it as HTML, its element with it."""
        raise NotImplementedError

    def __str__(self) -> str:
        """Be what a template puts in."""
        text: str = self.html()
        return text


class Cell(Part):
    """A short text."""

    def __init__(self, identifier: str, text: object, css: str = "") -> None:
        """Take its id, what anybody may have written, and classes of ours."""
        self.id, self.text, self.css = identifier, str(text), css
        self.key = (self.text, css)

    def html(self) -> SafeString:
        """Return a span."""
        return format_html('<span id="{}" class="{}">{}</span>', self.id, self.css, self.text)


class Piece(Part):
    """Something that a template renders, whose outermost element has the id."""

    def __init__(self, identifier: str, key: Hashable, template: str, **context: Any) -> None:
        """Take what the template needs to know."""
        self.id, self.key = identifier, key
        self._template = f"mqttasgi_dashboard/parts/{template}.html"
        self._context: dict[str, Any] = context

    def html(self) -> SafeString:
        """Return what the template makes of it."""
        return render_to_string(self._template, {"id": self.id, **self._context})


class Block(Piece):
    """A piece that has parts, which change by themselves as long as its key stays."""

    def __init__(
        self, identifier: str, key: Hashable, template: str, parts: Iterable[Part], **context: Any
    ) -> None:
        """Take the parts as well; the template has to put in each of them."""
        super().__init__(identifier, key, template, **context)
        self.parts = list(parts)


class Seen:
    """What one browser has of a page."""

    def __init__(self) -> None:
        self._keys: dict[str, Hashable] = {}
        self._parts: dict[str, Mapping[str, Hashable]] = {}

    def update(self, blocks: Iterable[Block]) -> str:
        """Return what has changed since the last time, as HTML for htmx."""
        changed: list[str] = []
        for block in blocks:
            if block.id not in self._keys or self._keys[block.id] != block.key:
                changed.append(block.html())
            else:
                known = self._parts[block.id]
                changed += [part.html() for part in block.parts if known.get(part.id) != part.key]
            self._keys[block.id] = block.key
            self._parts[block.id] = {part.id: part.key for part in block.parts}
        return "".join(changed)

    def forget(self, identifier: str) -> None:
        """Have a block sent again as a whole."""
        self._keys.pop(identifier, None)
