"""What the broker's log says in one line when everything has started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from .. import _versions

#: Kinds of workers that are named.
NAMES_MAX = 5


class Running(Protocol):
    """What is said of a consumer; `HostedConsumer` is one."""

    @property
    def name(self) -> str: ...

    @property
    def instance_type(self) -> str: ...

    @property
    def subscriptions(self) -> Iterable[str]: ...


def text(consumers: Iterable[Running]) -> str:
    """Return how many consumers there are and which, how many filters, and the versions."""
    consumers = list(consumers)
    workers = Counter(consumer.name for consumer in consumers if consumer.instance_type != "master")
    filters = len({topic_filter for consumer in consumers for topic_filter in consumer.subscriptions})
    said = f"{_count(len(consumers), 'consumer')}{_named(workers)}, {_count(filters, 'filter')}"
    # A name may have what is no UTF-8.
    return f"{said}. {_versions.loaded()}.".encode("utf-8", "replace").decode()


def _named(workers: Counter[str]) -> str:
    if not workers:
        return ""
    names = [f"{number} {name}" for name, number in workers.most_common(NAMES_MAX)]
    rest = sum(workers.values()) - sum(number for _, number in workers.most_common(NAMES_MAX))
    return f" (the master, {', '.join(names)}{f' and {rest} more' if rest else ''})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
