"""What a page of this process may see and do of it: consumers, the log, the statistics.

On the event loop of the consumers only, where async views and WebSocket consumers run; but for `statistics`,
which any thread may call. Everything raises `OutsideBroker` where there is no broker.
"""

from __future__ import annotations

from typing import Callable

from . import _host
from ._host import OutsideBroker as OutsideBroker
from ._state import ConsumerView as ConsumerView
from ._state import LogLine as LogLine


def statistics() -> dict[str, int]:
    """Return the statistics by their names, those of docs/statistics.md."""
    return _host.find("statistics()").statistics()


def consumers() -> list[ConsumerView]:
    """Return the consumers that there are, in the order of their starts."""
    return _host.find("consumers()").inside.consumers()


def log_lines(after: int = 0) -> list[LogLine]:
    """Return the last lines of the broker's log behind the one with this number.

    At most a thousand, and 256 KiB, of what the plugin, the runtime and the application have written there.
    The broker's own lines, about connections for example, are not among them, because it does not show them
    to plugins.
    """
    return _host.find("log_lines()").inside.log_lines(after)


def watch(on_change: Callable[[str], None]) -> Callable[[], None]:
    """Call something with "consumers" or "log" when what it names has changed.

    At most once for each turn of the event loop; of the log up to 0.2 s later. Returns what ends it.
    """
    return _host.find("watch()").inside.watch(on_change)
