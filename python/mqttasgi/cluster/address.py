"""Where a broker is, as `--connect` says it."""

from __future__ import annotations

from typing import NamedTuple, Optional
from urllib.parse import unquote, urlsplit

#: Scheme -> (port, TLS, WebSockets).
_SCHEMES = {
    "mqtt": (1883, False, False),
    "mqtts": (8883, True, False),
    "ws": (80, False, True),
    "wss": (443, True, True),
}


class Address(NamedTuple):
    """A listener of a broker, and who logs in there. What the URL leaves out is empty, 0 or None."""

    host: str
    port: int
    tls: bool
    websockets: bool
    #: Of a WebSocket listener.
    path: str
    username: Optional[str]
    password: Optional[str]

    @property
    def usual_port(self) -> int:
        """The port that is meant where none is named."""
        return next(port for port, *kind in _SCHEMES.values() if kind == [self.tls, self.websockets])

    def __str__(self) -> str:
        """Return it without the password."""
        scheme = next(name for name, kind in _SCHEMES.items() if kind[1:] == (self.tls, self.websockets))
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.username}@" if self.username else ""
        return f"{scheme}://{user}{host}:{self.port or self.usual_port}{self.path if self.websockets else ''}"


def parse(text: str) -> Address:
    """Return the address that a URL names. Raises ValueError with the end of a sentence, without password."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("must begin with mqtt://, mqtts://, ws:// or wss://")
    _, tls, websockets = _SCHEMES[parts.scheme]
    if port == 0:
        raise ValueError("has port 0, which is none; a port is a number from 1 to 65535")
    if parts.query or parts.fragment or (parts.path not in ("", "/") and not websockets):
        raise ValueError(f"has more than a host and a port ({parts.path or '?'}); leave that out")
    return Address(
        parts.hostname or "",
        port or 0,
        tls,
        websockets,
        parts.path or "/mqtt",
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
    )
