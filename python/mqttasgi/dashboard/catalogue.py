"""Which pages there are."""

from __future__ import annotations

from .client_page import Clients
from .overview import Overview
from .pages import Consumers, Log, Page
from .topic_page import TopicPage

#: By their names in addresses, in the order of the menu.
PAGES: dict[str, type[Page]] = {page.name: page for page in (Overview, TopicPage, Consumers, Clients, Log)}
