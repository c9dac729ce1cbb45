"""Who has a port that is wanted, from what Linux says in /proc to whoever asks."""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

#: Services that are a broker, and can be told to make room.
_SERVICES = ("mosquitto", "mqttasgi")


@dataclass(frozen=True)
class Listener:
    """A socket that listens."""

    address: Address
    uid: int
    inode: str


@dataclass(frozen=True)
class Holder:
    """Who has the port, as far as this user may see."""

    #: Such as "mosquitto (process 812)".
    who: str
    #: The systemd service that it is, if it is a broker's.
    service: Optional[str]


def holder_of(port: int, host: str, proc: Path = Path("/proc")) -> Optional[Holder]:
    """Return who listens there.

    Args:
        port: That cannot be had.
        host: The address there.
        proc: What describes the processes.
    """
    listener = _listener(port, ipaddress.ip_address(host.partition("%")[0]), proc)
    if listener is None:
        return None
    pid = _process_with(listener.inode, proc)
    if pid:
        return Holder(f"{_name_of(pid, proc)} (process {pid})", _service_of(pid, proc))
    return Holder(f"a process of {_user(listener.uid)}", _service_of_user(listener.uid, proc))


def _listener(port: int, wanted: Address, proc: Path) -> Optional[Listener]:
    found = [listener for table in ("tcp", "tcp6") for listener in _listeners(proc / "net" / table, port)]
    for listener in found:
        if wanted.is_unspecified or listener.address.is_unspecified or listener.address == wanted:
            return listener
    return None


def _listeners(table: Path, port: int) -> list[Listener]:
    """Those of a table of sockets, whose columns proc(5) explains."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [
        Listener(_address(row[1].partition(":")[0]), int(row[7]), row[9])
        for row in rows
        if len(row) > 9 and row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port
    ]


def _address(text: str) -> Address:
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":  # four bytes at a time, as this machine has numbers
        raw = b"".join(raw[begin : begin + 4][::-1] for begin in range(0, len(raw), 4))
    address = ipaddress.ip_address(raw)
    return getattr(address, "ipv4_mapped", None) or address


def _processes(proc: Path) -> list[int]:
    return sorted(int(name) for name in os.listdir(proc) if name.isdigit())


def _process_with(inode: str, proc: Path) -> Optional[int]:
    for pid in _processes(proc):
        try:
            names = os.listdir(proc / str(pid) / "fd")
        except OSError:
            continue  # somebody else's, or it has ended
        for name in names:
            try:
                if os.readlink(proc / str(pid) / "fd" / name) == f"socket:[{inode}]":
                    return pid
            except OSError:
                continue
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _name_of(pid: int, proc: Path) -> str:
    # A process gives itself any name, also one that tells a terminal something.
    name = "".join(c if c.isprintable() else "?" for c in _read(proc / str(pid) / "comm").strip())
    return name or "a process"


def _service_of(pid: int, proc: Path) -> Optional[str]:
    found = re.search(r"/system\.slice/([\w-]+)\.service$", _read(proc / str(pid) / "cgroup"), re.MULTILINE)
    return found[1] if found and found[1] in _SERVICES else None


def _service_of_user(uid: int, proc: Path) -> Optional[str]:
    """Return the service of a broker of another user's, who does not show its sockets."""
    for pid in _processes(proc):
        try:
            owner = (proc / str(pid)).stat().st_uid
        except OSError:
            continue
        service = _service_of(pid, proc) if _name_of(pid, proc) == "mosquitto" else None
        # One that was started by root, and has become another user, is root's here.
        if service and owner in (uid, 0):
            return service
    return None


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
