"""Where HTTP is served and which proxies are believed: what the options `http`, `http_proxies` may say."""

from __future__ import annotations

import ipaddress
import os
from typing import NamedTuple, Optional, Union

_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

#: In `http_proxies`: whoever connects through the unix socket.
UNIX = "unix"
#: Bytes that the path of a unix socket may have (unix(7)).
PATH_MAX = 107
EXAMPLE = "write 127.0.0.1:8000, [::1]:8000 or the path of a unix socket, /run/mosquitto/web.sock"


class Address(NamedTuple):
    """Where to listen: at a host and port, or at a path with neither."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address that the text stands for; else raise ValueError with the end of a sentence."""
    text = text.strip()
    if text.startswith(("/", f"{UNIX}:")):
        return _path(text[len(UNIX) + 1 :] if text.startswith(UNIX) else text)
    if "://" in text:
        raise ValueError(f"is a URL and no address; {EXAMPLE}")
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        raise ValueError(f"has no {'host' if text.isdecimal() else 'port'}; {EXAMPLE}")
    if host.startswith("[") and host.endswith("]"):
        host = _ipv6(host[1:-1])
    elif ":" in host:
        raise ValueError(f"has several colons; an IPv6 address stands in brackets; {EXAMPLE}")
    elif not host:
        raise ValueError(f"has no host; write 0.0.0.0:{port} for all addresses of this machine, or {EXAMPLE}")
    if any(character.isspace() or character in "/@" for character in host):
        raise ValueError(f"has no host's name or address before the port; {EXAMPLE}")
    if not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(f"has no port from 1 to 65535 after the last colon; {EXAMPLE}")
    return Address(host, int(port))


def _path(path: str) -> Address:
    if not path.startswith("/"):
        raise ValueError(f"is not a whole path, which begins with /; {EXAMPLE}")
    if len(os.fsencode(path)) > PATH_MAX:
        raise ValueError(f"is too long for a unix socket's path, which has {PATH_MAX} bytes at most")
    return Address("", 0, path)


def _ipv6(text: str) -> str:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError(f"has no IPv6 address in its brackets; {EXAMPLE}") from None
    return text


class Proxies:
    """Those whose X-Forwarded- headers are believed."""

    def __init__(self, text: str) -> None:
        """Take the option's value; raise ValueError with the end of a sentence for what it may not be."""
        #: As the parts are written.
        self.parts = [part.strip() for part in text.split(",") if part.strip()]
        self.unix = UNIX in self.parts
        self._networks = [_network(part) for part in self.parts if part != UNIX]

    def __contains__(self, host: Optional[str]) -> bool:
        """Whether a peer is one of them; None: it came through the unix socket."""
        if host is None:
            return self.unix
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _network(part: str) -> _Network:
    try:
        return ipaddress.ip_network(part)
    except ValueError as error:
        hint = ""
        if "host bits" in str(error):
            hint = f"; write {ipaddress.ip_network(part, strict=False)}"
        raise ValueError(
            f'has "{part}" in it, which is neither an address (127.0.0.1), a network (10.0.0.0/8) '
            f"nor the word {UNIX}{hint}"
        ) from None
