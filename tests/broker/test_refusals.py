"""What `mqttasgi --connect` says of a broker that it cannot use: one sentence with the cure, and exit status 1 or 2."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import BrokerFactory
from support.broker import passwords
from support.certificates import Authority, TlsListener
from support.command import command_environment
from support.ports import free_port
from support.processes import PATIENCE

APPLICATION = "apps.echo:application"
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom clients may trust."""
    return Authority(tmp_path_factory.mktemp("certificates"))


def connect(*arguments: object, expect_traceback: bool = False) -> tuple[int, str]:
    """Return the exit status and what was said, without time and numbers of tries."""
    ended = subprocess.run(
        [sys.executable, "-m", "mqttasgi", *map(str, ("-r", 2, *arguments, APPLICATION))],
        cwd=HERE,
        env=command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20 * PATIENCE,
    )
    assert ("Traceback" in ended.stdout) == expect_traceback
    return ended.returncode, re.sub(r"^[\d-]+T[\d:]+Z: ", "", ended.stdout, flags=re.MULTILINE)


def assert_refused(said: tuple[int, str], *parts: str) -> None:
    """Check that it was tried twice, with this reason, and then given up."""
    status, text = said
    assert status == 1
    tries = [line for line in text.splitlines() if line.startswith("mqttasgi: No connection to ")]
    assert len(tries) == 2, text
    for line in tries:
        assert all(part in line for part in parts), line
    assert tries[0].endswith(" The next try is in 1 s.")
    assert tries[1].endswith(" It was tried 2 times (--retries; 0 is for ever).")
    assert ".." not in text


# ---- the address ----


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://host", '"http://host" must begin with mqtt://, mqtts://, ws:// or wss://.'),
        ("mqtt://ann:secret@host:port", '"mqtt://host:port" is no URL: '),
        ("mqtt://host/path", '"mqtt://host/path" has more than a host and a port (/path); leave that out.'),
        ("mqtt://a,ws://b", "has addresses of several kinds; all must begin alike"),
    ],
)
def test_no_address(url: str, sentence: str) -> None:
    status, text = connect("--connect", url)
    assert status == 2
    assert text.startswith("mqttasgi: argument --connect: ")
    assert sentence in text
    assert "secret" not in text


def test_no_such_host() -> None:
    said = connect("--connect", "mqtt://there.is.no.such.host.invalid")
    assert_refused(said, "there is no host there.is.no.such.host.invalid", "check the name.")


def test_nothing_listens() -> None:
    said = connect("--connect", f"mqtt://127.0.0.1:{free_port()}")
    assert_refused(said, "nothing listens there; check the port, and that the broker runs.")


def test_each_address_is_tried() -> None:
    first, second = free_port(), free_port()
    status, text = connect("--connect", f"mqtt://127.0.0.1:{first},mqtt://127.0.0.1:{second}")
    assert status == 1
    tried = re.findall(
        r"No connection to mqtt://127.0.0.1:(\d+): .* (?:Another address is|The next|It was)", text
    )
    assert tried == [str(first), str(second)] * 2


# ---- who we are ----


def test_wrong_password(broker: BrokerFactory, tmp_path: Path) -> None:
    remote = broker(plugin=None, anonymous=False, lines=[passwords(tmp_path, ann="secret")])
    said = connect("--connect", f"mqtt://ann:wrong@127.0.0.1:{remote.port}")
    assert_refused(said, f"mqtt://ann@127.0.0.1:{remote.port}: ", "user name and password may be wrong")
    assert "wrong@" not in said[1]


def test_login_from_each_place(broker: BrokerFactory, tmp_path: Path) -> None:
    """In the URL, percent-encoded, or as with mqttasgi."""
    remote = broker(plugin=None, anonymous=False, lines=[passwords(tmp_path, ann="s/e@c")])
    for arguments in (
        ("--connect", f"mqtt://ann:s%2Fe%40c@127.0.0.1:{remote.port}"),
        ("--connect", f"mqtt://ann@127.0.0.1:{remote.port}", "-P", "s/e@c", "-U", "ann"),
        ("--connect", "mqtt://", "-H", "127.0.0.1", "-p", remote.port, "-U", "ann", "-P", "s/e@c"),
    ):
        status, text = connect("--check", *arguments)
        assert status == 0, text


# ---- TLS ----


def test_wrong_authority(broker: BrokerFactory, authority: Authority, tmp_path: Path) -> None:
    listener = TlsListener(authority)
    broker(plugin=None, lines=listener.lines)
    other = Authority(tmp_path, "other")
    said = connect("--connect", f"mqtts://127.0.0.1:{listener.port}", "-S", other.cert)
    assert_refused(said, "its certificate cannot be verified", "--cacert names the CA that has signed it.")


def test_host_name_mismatch(broker: BrokerFactory, authority: Authority) -> None:
    listener = TlsListener(authority, "elsewhere", hosts="DNS:broker.example")
    broker(plugin=None, lines=listener.lines)
    said = connect("--connect", f"mqtts://127.0.0.1:{listener.port}", "-S", authority.cert)
    assert_refused(said, "its certificate is for another name than 127.0.0.1; connect by the name in it.")


def test_no_certificate_is_shown(broker: BrokerFactory, authority: Authority) -> None:
    listener = TlsListener(authority, "strict", f"cafile {authority.cert}", "require_certificate true")
    broker(plugin=None, lines=listener.lines)
    said = connect("--connect", f"mqtts://127.0.0.1:{listener.port}", "-S", authority.cert)
    assert_refused(said, "does it want a certificate (--cert and --key)")


def test_tls_where_there_is_none(broker: BrokerFactory, authority: Authority) -> None:
    remote = broker(plugin=None)
    said = connect("--connect", f"mqtts://127.0.0.1:{remote.port}", "-S", authority.cert)
    assert_refused(said, "TLS", "is it a port for mqtts://?")


def test_no_tls_where_there_is(broker: BrokerFactory, authority: Authority) -> None:
    listener = TlsListener(authority, "plain")
    broker(plugin=None, lines=listener.lines)
    said = connect("--connect", f"mqtt://127.0.0.1:{listener.port}")
    assert_refused(said, "it has ended the connection without a word; is it a port for mqtt://?")


def test_websockets_where_there_are_none(broker: BrokerFactory) -> None:
    remote = broker(plugin=None)
    said = connect("--connect", f"ws://127.0.0.1:{remote.port}/mqtt")
    assert_refused(said, "no WebSocket", "is it a port for ws://, and is the path /mqtt right?")


def test_files_that_are_no_certificates(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    status, text = connect("--connect", f"mqtts://127.0.0.1:{free_port()}", "-S", nonsense)
    assert (status, f"No TLS: {nonsense} (--cacert) has no certificates" in text) == (1, True)
    status, text = connect("--connect", f"mqtts://127.0.0.1:{free_port()}", "-C", nonsense, "-K", nonsense)
    assert (status, f"No TLS: {nonsense} (--cert) and " in text) == (1, True)


# ---- brokers that cannot do what is needed ----


@contextlib.contextmanager
def speaking(connack: bytes, came: Callable[[bytes], None] = lambda packet: None) -> Iterator[int]:
    """Give the port of a server that accepts connections so, and has no shared subscriptions (0x9E; MQTT 5, 3.9.3).

    `came` is told each packet, by the server's thread.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        answer(connection)

        def answer(connection: socket.socket) -> None:
            while packet := connection.recv(4096):
                came(packet)
                if packet[0] == 0x10:
                    connection.sendall(connack)
                elif packet[0] == 0x82:
                    code = b"\x9e" if b"$share/" in packet else b"\x01"
                    connection.sendall(b"\x90\x04" + packet[2:4] + b"\x00" + code)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)


#: CONNACK of MQTT 3.1.1 (3.2.2.3), "unacceptable protocol version"; of MQTT 5 without and with the property that there
#: are no shared subscriptions (3.2.2.3.13).
OLD, GOOD, NONE_SHARED = b"\x20\x02\x00\x01", b"\x20\x03\x00\x00\x00", b"\x20\x05\x00\x00\x02\x2a\x00"


def test_a_broker_of_mqtt_3_1_1() -> None:
    with speaking(OLD) as port:
        assert_refused(
            connect("--connect", f"mqtt://127.0.0.1:{port}"), "it does not speak MQTT 5", "use one that does."
        )


def test_no_shared_subscriptions() -> None:
    with speaking(NONE_SHARED) as port:
        status, text = connect("--connect", f"mqtt://127.0.0.1:{port}", "--group", "fleet")
    assert status == 1
    assert "the broker has no shared subscriptions; leave --group out, or use a broker that has them." in text


def test_no_shared_subscriptions_as_suback_says() -> None:
    with speaking(GOOD) as port:
        status, text = connect(
            "--connect", f"mqtt://127.0.0.1:{port}", "--group", "fleet", expect_traceback=True
        )
    assert status == 1
    assert (
        "No subscription to '$share/fleet/in/#': the broker has no shared subscriptions; leave --group"
        in text
    )
    assert "no subscription to 'in/#': the broker has no shared subscriptions; leave --group out" in text
    assert "has failed 3 times in a row before it got a message and is given up" in text


def test_a_broker_that_wants_pings_more_often() -> None:
    """Server Keep Alive of a second (MQTT 5, 3.2.2.3.14), and the client is silent for longer."""
    pinged = threading.Event()

    def came(packet: bytes) -> None:
        if packet == b"\xc0\x00":
            pinged.set()

    with speaking(b"\x20\x06\x00\x00\x03\x13\x00\x01", came) as port:
        command = [
            sys.executable,
            "-m",
            "mqttasgi",
            "--connect",
            f"mqtt://127.0.0.1:{port}",
            "--keepalive",
            "3600",
        ]
        with subprocess.Popen([*command, APPLICATION], cwd=HERE, env=command_environment()) as process:
            try:
                assert pinged.wait(20 * PATIENCE)
                process.send_signal(signal.SIGTERM)
                assert process.wait(20 * PATIENCE) == 0
            finally:
                process.kill()
