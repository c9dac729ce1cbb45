"""The page with the topics: a tree, and one of them in full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional
from urllib.parse import urlencode

from . import plots, values
from .access import Rights
from .observer import SYSTEM, TOPICS, Observer
from .pages import Page
from .parts import Block, Cell, Part, Piece
from .topics import BYTES, Topic, Topics
from .topics import TOPICS as MOST_TOPICS
from .tree import Row, Tree

#: Characters of the levels that a row shows.
LABEL = 120


class TopicPage(Page):
    """The topics that have been seen."""

    name, title = "topics", "Topics"
    sources: tuple[str, ...] = (TOPICS,)
    search = "Topics that contain, or a filter with + and #"

    def __init__(self, observer: Observer, rights: Rights, asked: Mapping[str, str]) -> None:
        super().__init__(observer, rights, asked)
        self.topic = asked.get("topic", "")[:65535]
        self.is_system = asked.get("system") == "1"
        self._source = SYSTEM if self.is_system else TOPICS
        if self.is_system:
            self.sources = (SYSTEM,)
        self._tree = Tree((), 0, 0)
        #: What is wrong with the filter.
        self._mistake = ""

    async def blocks(self) -> list[Block]:
        """Return the counts, the rows and the topic that was chosen."""
        topics = self.observer.topics[self._source]
        await self._arrange(topics)
        now = self.observer.loop.time()
        # The one that was chosen comes first: on a phone it would be far below.
        chosen = [self._detail(topics.by_name.get(self.topic), now)] if self.topic else []
        return [self._counts(topics), *chosen, self._rows(topics, now)]

    async def _arrange(self, topics: Topics) -> None:
        """Bring the rows up to date where there are other topics, or another filter."""
        try:
            self._tree, self._mistake = await topics.trees.get(topics, self.wanted), ""
        except ValueError as error:
            self._tree, self._mistake = Tree((), 0, 0), values.name(str(error))

    # ---- the counts ----

    def _counts(self, topics: Topics) -> Block:
        number = len(topics.by_name)
        text = values.things(number, "topic")
        if self.wanted:
            text = f"{values.count(self._tree.matching)} of {text}"
        cells: list[Part] = [
            Cell("topics-count", text),
            Cell("topics-problem", self._mistake or self.observer.problems.get(self._source, ""), "problem"),
            Cell("topics-bounds", self._bounds(topics), "problem"),
        ]
        return Block("topic-counts", "", "topic_counts", cells, cells=cells)

    def _bounds(self, topics: Topics) -> str:
        """Return what is not in the page, and why."""
        said = []
        if topics.unkept:
            said.append(
                f"{values.count(topics.unkept)} messages of further topics are not shown: there is room for "
                f"{MOST_TOPICS:,} topics and {BYTES // 1024 // 1024} MiB."
            )
        if topics.unkept_values:
            said.append(f"{values.count(topics.unkept_values)} values found no room.")
        lost = self.observer.lost.get(self._source, 0)
        if lost:
            said.append(f"{values.count(lost)} messages came too fast for this page.")
        return " ".join(said)

    # ---- the rows ----

    def _rows(self, topics: Topics, now: float) -> Block:
        shown = [self._row(row, topics.by_name.get(row.path), now) for row in self._tree.rows]
        parts = [part for row in shown for part in row["parts"]]
        return Block(
            "topic-rows",
            (self._tree.rows, self._tree.more, not topics.by_name),
            "topics",
            [*parts, *self._more()],
            rows=shown,
            more=self._more(),
            is_empty=not topics.by_name,
        )

    def _more(self) -> list[Part]:
        return [Cell("topics-more", f"{values.count(self._tree.more)} more rows")] if self._tree.more else []

    def _row(self, row: Row, topic: Optional[Topic], now: float) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "label": values.name(row.label, LABEL) or "(empty)",
            "depth": min(row.depth, 8),
            "below": row.below,
            "opens": self.link(filter=f"{row.path}/#") if row.below else "",
            "link": "",
            "parts": [],
        }
        if topic is not None and row.is_topic:
            entry |= self._values(topic, now)
            entry["id"] = f"t{topic.key}-link"
            entry["link"] = self.link(topic=topic.name)
            entry["is_chosen"] = topic.name == self.topic
        return entry

    def _values(self, topic: Topic, now: float) -> dict[str, Any]:
        at = f"t{topic.key}"
        cells: dict[str, Any] = {
            "value": Cell(f"{at}-value", values.short(topic.payload, topic.size), "value"),
            "age": Cell(f"{at}-age", values.age(now - topic.time)),
            "rate": Cell(f"{at}-rate", values.rate(topic.rate(now))),
            "retained": Cell(f"{at}-retained", "retained" if topic.retained else "", "retained"),
        }
        return {**cells, "parts": list(cells.values())}

    def link(self, **other: str) -> str:
        """Return the query of this page with something else in it."""
        asked = {"filter": self.wanted, "topic": self.topic, "system": "1" if self.is_system else "", **other}
        return "?" + urlencode({name: text for name, text in asked.items() if text}, errors="replace")

    # ---- the one ----

    def _detail(self, topic: Optional[Topic], now: float) -> Block:
        if topic is None:
            return Block("topic", "none", "no_topic", [], name=values.name(self.topic, 2000))
        cells: dict[str, Part] = {
            "age": Cell("topic-age", values.age(now - topic.time)),
            "rate": Cell("topic-rate", values.rate(topic.rate(now))),
            "messages": Cell("topic-messages", values.count(topic.messages)),
            "size": Cell("topic-size", f"{topic.size:,} bytes"),
            "retained": Cell("topic-retained", "yes" if topic.retained else "not seen so"),
        }
        kept = values.size(len(topic.payload))
        is_cut = len(topic.payload) < topic.size
        pieces = {
            "value": Piece(
                "topic-value",
                topic.messages,
                "value",
                shown=lambda: values.shown(topic.payload, topic.size),
                is_cut=is_cut,
                kept=kept,
            ),
            "spark": Piece("topic-spark", topic.messages, "spark", **self._spark(topic)),
        }
        return Block(
            "topic",
            topic.key,
            "topic",
            [*cells.values(), *pieces.values()],
            name=values.name(topic.name, 2000),
            **cells,
            **pieces,
        )

    def _spark(self, topic: Topic) -> dict[str, Any]:
        numbers = list(topic.numbers or ())
        points = plots.spark(numbers)
        return {
            "numbers": numbers if len(numbers) > 1 else [],
            "path": points.path,
            "low": f"{points.low:g}",
            "high": f"{points.high:g}",
            "width": plots.SPARK_WIDTH,
            "height": plots.SPARK_HEIGHT,
        }
