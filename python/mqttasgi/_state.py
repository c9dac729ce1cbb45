"""The shapes of what a page shows of this process: its consumers, its clients, its log. Plain data."""

from __future__ import annotations

from typing import NamedTuple


class ConsumerView(NamedTuple):
    """A consumer, as it was at that moment."""

    #: What `restart` takes. A consumer that had been given up and is started again has another one.
    handle: int
    #: As applications are named, such as `mysite.consumers.Kitchen`.
    name: str
    #: Its repr(); "" for the master.
    app_id: str
    #: "starting": its connect() has not returned. "running". "restarting": it has failed and waits for its
    #: next start. "failed": it was given up. "ended": it was killed and has not finished, or is the master
    #: and has returned.
    state: str
    #: time.time() when that began.
    since: float
    #: How often it was started again.
    restarts: int
    #: Messages, and events about clients, that it has handled since its first start.
    handled: int
    #: How many wait for it.
    waiting: int
    #: The traceback of its last failure, with beginning and end where it is longer than 64 KiB; "": none.
    error: str
    #: time.time() of that; 0.0: none.
    error_time: float


class ClientView(NamedTuple):
    """A client that is connected."""

    id: str
    #: "" where it gave none.
    username: str
    #: "" where the broker does not say.
    address: str
    #: Such as "MQTT 5" or "MQTT 3.1.1 over WebSockets".
    protocol: str
    #: The subject of its certificate; "": it has shown none.
    certificate: str
    #: time.time() when it connected; 0.0: before anybody watched.
    since: float


class LogLine(NamedTuple):
    """A line of the broker's log."""

    #: Rises by one with each line.
    number: int
    #: time.time() when it was written.
    time: float
    #: "error", "warning", "notice", "info" or "debug".
    level: str
    text: str
