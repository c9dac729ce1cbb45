"""What one process of `mqttasgi --connect` is told by its parent."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from .address import Address

#: The exit status of a process where starting it again would not help.
FAILED = 1
#: A session expiry interval (MQTT 5, 3.1.2.11.2).
FOR_EVER = 0xFFFFFFFF
#: Seconds beyond twice `shutdown_timeout` that a process has to end.
GRACE = 5.0


@dataclass
class Settings:
    """Which broker, as whom, and which of the processes this is."""

    application: str
    addresses: list[Address]
    client_id: str
    #: The group in which filters are shared; empty: none are.
    group: str = ""
    #: Which process this is, from 0 on, and how many there are.
    process: int = 0
    processes: int = 1
    username: Optional[str] = None
    password: Optional[str] = None
    #: Files.
    cacert: Optional[str] = None
    cert: Optional[str] = None
    key: Optional[str] = None
    #: Whether the session that the broker may have is ended first.
    clean_start: bool = True
    #: Whether the session ends with the command, so that the broker keeps nothing for it.
    ends_session: bool = True
    #: Seconds for which the broker keeps the session of a process that is not connected.
    session_expiry: int = 300
    keepalive: int = 60
    #: What the broker publishes when the connection is lost; empty: nothing.
    will_topic: str = ""
    will_payload: str = ""
    will_qos: int = 0
    will_retain: bool = False
    #: Where the group's leader has its lease; empty: nowhere.
    leader: str = ""
    #: The file beside which dead letters are kept, by the option `durable`; empty: nowhere.
    dead_letters: str = ""
    #: Tries in a row before connecting is given up; 0: for ever.
    retries: int = 3
    #: Messages of QoS 1 that may be under way here.
    receive_maximum: int = 1000
    #: A descriptor on which the parent is told that consumers run; -1: nobody wants to know.
    ready: int = -1
    #: A descriptor of the memory that all processes share (deaths.py); -1: there is none.
    memory: int = -1
    #: What `options()` of the process's bridge returns.
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def patience(self) -> float:
        """Seconds that a process has to end: first for messages that have come, then for the consumers."""
        return 2 * float(self.options["shutdown_timeout"]) + GRACE

    def as_json(self) -> str:
        """Return it for the process that `from_json` reads it in."""
        return json.dumps(asdict(self) | {"addresses": [list(address) for address in self.addresses]})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return what `as_json` has written."""
        found = json.loads(text)
        found["addresses"] = [Address(*address) for address in found["addresses"]]
        return cls(**found)
