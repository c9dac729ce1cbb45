"""Who has a port: real processes, and a made-up /proc for what belongs to others."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqttasgi.command.holder import Holder, holder_of

LISTENS = """
import socket, sys
listener = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
if ":" in sys.argv[1]:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
listener.bind((sys.argv[1], 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("bound", "wanted", "found"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("::1", "::1", True),
        ("::", "127.0.0.1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
    ],
)
def test_a_process_of_ours(bound: str, wanted: str, found: bool) -> None:
    if ":" in bound and not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6")
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS, bound], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        expected = Holder(f"{name} (process {process.pid})", None) if found else None
        assert holder_of(port, wanted) == expected
        process.communicate()


@pytest.fixture
def proc(tmp_path: Path) -> Iterator[Path]:
    """Port 1883 at every address is a socket of this user's; nobody shows whose it is yet."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        f"   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 {os.getuid()} 0 7 1\n"
        f"   1: 00000000:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000 {os.getuid()} 0 8 1\n"
        f"   2: 0100007F:075B 0100007F:C350 01 00000000:00000000 00:00000000 00000000 {os.getuid()} 0 9 1\n"
    )
    yield tmp_path


def process(proc: Path, pid: int, name: str, unit: str, inode: int | None = None) -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "cgroup").write_text(f"0::/{unit}\n")
    if inode is not None:
        (folder / "fd" / "5").symlink_to(f"socket:[{inode}]")


def test_a_service(proc: Path) -> None:
    process(proc, 11, "sshd", "system.slice/ssh.service", 7)
    process(proc, 12, "mosquitto", "system.slice/mosquitto.service", 8)
    assert holder_of(1883, "127.0.0.1", proc) == Holder("mosquitto (process 12)", "mosquitto")
    # Not every service is to be stopped because of that: this one may be how one got here.
    assert holder_of(80, "127.0.0.1", proc) == Holder("sshd (process 11)", None)
    assert holder_of(81, "127.0.0.1", proc) is None


def test_a_service_of_another_users(proc: Path) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    assert holder_of(1883, "127.0.0.1", proc) == Holder(f"a process of user {me}", None)
    process(proc, 12, "mosquitto", "user.slice/user-1000.slice/session-1.scope")
    assert holder_of(1883, "127.0.0.1", proc) == Holder(f"a process of user {me}", None)
    process(proc, 13, "mosquitto", "system.slice/mosquitto.service")
    assert holder_of(1883, "127.0.0.1", proc) == Holder(f"a process of user {me}", "mosquitto")


def test_a_name_that_a_terminal_would_obey(proc: Path) -> None:
    process(proc, 812, "a\x1b[2J\x07b", "user.slice", inode=8)
    holder = holder_of(1883, "127.0.0.1", proc)
    assert holder is not None
    assert holder.who == "a?[2J?b (process 812)"


def test_nothing_to_read(tmp_path: Path) -> None:
    assert holder_of(1883, "127.0.0.1", tmp_path) is None
