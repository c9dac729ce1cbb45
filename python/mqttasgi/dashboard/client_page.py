"""The page with the clients that are connected."""

from __future__ import annotations

from urllib.parse import quote

from .._state import ClientView
from . import values
from .observer import CLIENTS, STATE
from .pages import Page
from .parts import Block, Cell

#: Rows of a page.
ROWS = 200


class Clients(Page):
    """Who is connected."""

    name, title = "clients", "Clients"
    sources = (CLIENTS, STATE)
    search = "Id, user or address contains"

    async def blocks(self) -> list[Block]:
        """Return how many there are, and the first of those that match."""
        watched = self.observer.clients
        if watched is None:
            return [
                Block("clients", "empty", "no_clients", [], problem=self.observer.problems.get(CLIENTS, ""))
            ]
        needle = self.wanted.lower()
        found = [
            view for view in watched.all() if needle in f"{view.id} {view.username} {view.address}".lower()
        ]
        shown = found[:ROWS]
        text = values.things(watched.total, "client")
        if needle:
            text = f"{values.count(len(found))} of {text}"
        total = Cell("clients-total", text)
        key = (tuple(shown), self.rights.manage, watched.is_complete, len(found) > ROWS)
        more = [Cell("clients-more", f"{values.count(len(found) - ROWS)} more")] if len(found) > ROWS else []
        return [
            Block(
                "clients",
                key,
                "clients",
                [total, *more],
                total=total,
                more=more,
                rows=[self._row(number, view) for number, view in enumerate(shown)],
                is_complete=watched.is_complete,
                can_manage=self.rights.manage,
            )
        ]

    def _row(self, number: int, view: ClientView) -> dict[str, object]:
        return {
            "number": number,
            # As it is, whatever it is made of, and back by actions.disconnect().
            "quoted": quote(view.id, safe="", errors="replace"),
            "id": values.name(view.id),
            "username": values.name(view.username),
            "address": values.name(view.address),
            "protocol": values.name(view.protocol),
            "certificate": values.name(view.certificate),
            "since": values.moment(view.since) if view.since else "before this page",
        }
