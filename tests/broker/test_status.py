"""`mqttasgi status` as it is called: what it prints, where it looks for the broker, what it says without one."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import BrokerFactory
from mqttasgi.command import status
from support.broker import Broker, passwords
from support.certificates import Authority
from support.client import Client
from support.command import command_environment, run_command
from support.ports import free_port
from support.statistics import PREFIX

NAMES = {name for _, rows in status.TABLE for _, name, _ in rows}
HEADER = Path(__file__).parents[2] / "plugin" / "shared" / "statistics.h"
STATISTICS = set(re.findall(r'^\tSTATISTIC\(\w+, "([\w/]+)"', HEADER.read_text(), re.MULTILINE))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def start(broker: BrokerFactory, *lines: str, **arguments: object) -> Broker:
    return broker("apps.echo:application", lines=["sys_interval 1", *lines], **arguments)


def ask(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_command("status", *words, folder=folder, **variables)


def at(started: Broker) -> list[str]:
    return ["-H", "127.0.0.1", "-p", str(started.port)]


def assert_table(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^  running +1$", done.stdout, re.MULTILINE)
    return done.stdout


def assert_says(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"mqttasgi: {sentence}.\n"


# ---- what it prints ----


def test_table_and_json(broker: BrokerFactory, tmp_path: Path) -> None:
    started = start(broker)
    with Client(started.port) as client:
        for number in range(1234):
            client.publish("in/x", str(number), qos=1, wait=number == 1233)
        client.subscribe(f"{PREFIX}messages/#")
        while client.wait_for(f"{PREFIX}messages/received").payload != b"1234":
            pass
    values = json.loads(ask(tmp_path, *at(started), "--json").stdout)
    # All that the plugin has is there, and every row of the table is one of them.
    not_here = {name for name in STATISTICS if name.startswith(("durable/", "http/"))}
    assert set(values) == STATISTICS - not_here
    assert set(values) >= NAMES - not_here
    assert (values["messages/received"], values["session/state"]) == (1234, "up")
    table = assert_table(ask(tmp_path, *at(started)))
    assert re.match(rf"broker at 127\.0\.0\.1:{started.port} \(Mosquitto 2\.[\d.]+\)\n\nmessages\n", table)
    assert re.search(r"^  to consumers +1,234$", table, re.MULTILINE)
    assert re.search(r"^  session +up$", table, re.MULTILINE)
    assert re.search(r"^  memory of the broker's process +[\d.]+ MB$", table, re.MULTILINE)
    assert re.search(r"^  handling a message, median +[\d.]+ ms$", table, re.MULTILINE)
    assert len({len(line) for line in table.splitlines()[3:] if line.startswith("  ")}) == 1


def test_the_durable_inbox(broker: BrokerFactory, tmp_path: Path) -> None:
    """What there is to say of it, where there is one."""
    inbox = tmp_path / "inbox"
    inbox.mkdir(mode=0o777)
    inbox.chmod(0o777)
    started = start(broker, options={"durable": inbox / "inbox.db"})
    values = json.loads(ask(tmp_path, *at(started), "--json").stdout)
    not_here = {name for name in STATISTICS if name.startswith("http/")}
    assert set(values) == STATISTICS - not_here
    assert set(values) >= NAMES - not_here
    assert re.search(
        r"^durable inbox\n  messages stored +0$", assert_table(ask(tmp_path, *at(started))), re.MULTILINE
    )


def test_values_are_readable() -> None:
    assert [status._bytes(n) for n in (0, 999, 1000, 48_000_000, 999_600, 12_345_678_901)] == [
        *("0 B", "999 B", "1 kB", "48 MB", "1 MB", "12.3 GB")
    ]
    assert [status._microseconds(n) for n in (0, 7, 1200, 99_960, 1_500_000)] == [
        *("0 ms", "0.007 ms", "1.2 ms", "100 ms", "1.5 s")
    ]
    assert [status._milliseconds(n) for n in (5, 120_000)] == ["5 ms", "120 s"]
    assert [status._duration(n) for n in (0, 61, 3600, 90_061)] == [
        "0 s",
        "1 min 1 s",
        "1 h 0 min",
        "1 d 1 h",
    ]
    table = status.table({"messages/sent": 5, "new": 12345, "memory": 0})
    assert re.search(r"from consumers +5\n", table)
    assert re.search(r"to consumers +-\n", table)
    assert re.search(r"memory of the broker's process +unknown\n", table)
    assert re.search(r"\nmore\n  new +12,345\n", table)


def test_when_the_values_were_published() -> None:
    now = int(time.time())
    assert re.fullmatch(r"\d\d:\d\d:\d\d, 7[0-9] s ago|.*1 min 1[0-9] s ago", status._as_of(now - 70))
    assert re.fullmatch(r"\d\d:\d\d:\d\d", status._as_of(now + 3600))  # a clock that goes another way
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d, 2 d 0 h ago", status._as_of(now - 2 * 86400))


def test_the_first_seconds(broker: BrokerFactory, tmp_path: Path) -> None:
    """What has begun is shown although the interval has not ended."""
    started = broker("apps.echo:application", lines=["sys_interval 3600"])
    with Client(started.port) as client:
        client.subscribe(f"{PREFIX}session/state")
        while client.wait_for(f"{PREFIX}session/state", 20).payload != b"up":
            pass
        client.subscribe(f"{PREFIX}consumers/running")
        while client.wait_for(f"{PREFIX}consumers/running", 20).payload != b"1":
            pass
    table = assert_table(ask(tmp_path, *at(started)))
    assert re.search(r"^  session +up$", table, re.MULTILINE)
    assert re.search(r"^  as of +\d\d:\d\d:\d\d, ", table, re.MULTILINE)


@pytest.mark.parametrize("form", ["table", "json"])
def test_watch(broker: BrokerFactory, tmp_path: Path, form: str) -> None:
    """One after the other, whole, until Ctrl-C."""
    started = start(broker)
    words = ["status", *at(started), "--watch", *(["--json"] if form == "json" else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "mqttasgi", *words],
        cwd=tmp_path,
        env=command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            if form == "json":
                seen.append(str(json.loads(line)["uptime"]))
            elif line.startswith("  running for"):
                seen.append(line)
            if len(seen) == 3:
                break
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, error) == (0, "")
    assert len(set(seen)) == 3


# ---- where the broker is ----


def test_from_the_environment_and_the_env_file(broker: BrokerFactory, tmp_path: Path) -> None:
    started = start(broker, passwords(tmp_path, ann="hall"), anonymous=False)
    (tmp_path / ".env").write_text(f"MQTT_PORT={started.port}\nMQTT_USERNAME=bob\nMQTT_PASSWORD=hall\n")
    # Of no concern here, right or wrong.
    variables = {
        "MQTT_HOSTNAME": "0.0.0.0",
        "MQTTASGI_APPLICATION": "x",
        "VERBOSITY": "9",
        "MQTTASGI_USER": "x",
    }
    assert_table(ask(tmp_path, "-U", "ann", **variables))
    assert_says(
        ask(tmp_path, **variables),
        f'the broker at 0.0.0.0:{started.port} refuses the login as "bob"; give another with -U and -P',
    )
    assert_says(
        ask(tmp_path, "-p", str(started.port), "-H", "127.0.0.1", MQTT_USERNAME="", MQTT_PASSWORD="x"),
        f'the broker at 127.0.0.1:{started.port} refuses the login as "bob"; give another with -U and -P',
    )
    (tmp_path / ".env").unlink()
    assert_says(
        ask(tmp_path, *at(started)),
        f"the broker at 127.0.0.1:{started.port} refuses a login without a user name; give another with -U and -P",
    )


def test_a_unix_socket(broker: BrokerFactory, tmp_path: Path) -> None:
    path = tmp_path / "s"
    start(broker, f"listener 0 {path}")
    assert_table(ask(tmp_path, "-H", str(path)))
    assert_says(
        ask(tmp_path, "-H", f"{path}s"),
        f"no broker listens at {path}s; start it, or say with -H and -p where it listens",
    )


def test_websockets(broker: BrokerFactory, tmp_path: Path) -> None:
    port = free_port()
    started = start(broker, f"listener {port} 127.0.0.1", "protocol websockets")
    assert_table(ask(tmp_path, "-H", "127.0.0.1", "-p", str(port), "-T", "websockets"))
    assert_says(
        ask(tmp_path, *at(started), "-T", "websockets"),
        f"127.0.0.1:{started.port} does not speak websockets; leave out -T websockets",
    )


def test_tls(broker: BrokerFactory, tmp_path: Path, authority: Authority) -> None:
    """With what the command that started the listener had, and with what a client has."""
    server, client = authority.issue("server"), authority.issue("client")
    plain, strict = free_port(), free_port()
    started = start(
        broker,
        *(f"listener {plain} 127.0.0.1", f"certfile {server.cert}", f"keyfile {server.key}"),
        *(f"listener {strict} 127.0.0.1", f"certfile {server.cert}", f"keyfile {server.key}"),
        *(f"cafile {authority.cert}", "require_certificate true"),
    )
    place = ["-H", "127.0.0.1", "-p", str(plain)]
    assert_table(ask(tmp_path, *place, "-C", str(server.cert), "-K", str(server.key)))
    assert_table(ask(tmp_path, *place, "-S", str(authority.cert)))
    done = ask(tmp_path, *place, "-SSL", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"mqttasgi: the certificate of the broker at 127.0.0.1:{plain} is not trusted ("
    )
    assert done.stderr.endswith("; -S names the file with the CA that signed it.\n")
    place[-1] = str(strict)
    words = ["-S", str(authority.cert)]
    assert_table(ask(tmp_path, *place, *words, "-C", str(client.cert), "-K", str(client.key)))
    done = ask(tmp_path, *place, *words)
    assert done.returncode == 1
    assert "a client's certificate (-C and -K)" in done.stderr
    done = ask(tmp_path, *at(started), *words)
    assert done.returncode == 1
    assert f"no TLS with 127.0.0.1:{started.port} (" in done.stderr
    assert "does that listener speak TLS" in done.stderr
    # Plain to a listener with TLS.
    done = ask(tmp_path, *place)
    assert done.returncode == 1
    assert "its listener may want TLS (-S, -SSL true)" in done.stderr


def test_the_management_command(broker: BrokerFactory, tmp_path: Path) -> None:
    started = start(broker)
    (tmp_path / "settings.py").write_text("INSTALLED_APPS = ['mqttasgi']\nSECRET_KEY = 'x'\n")
    (tmp_path / "manage.py").write_text(
        "import os, sys\nfrom django.core.management import execute_from_command_line\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\nexecute_from_command_line(sys.argv)\n"
    )
    (tmp_path / ".env").write_text(f"MQTT_PORT={started.port}\n")
    program = [sys.executable, "manage.py", "mqttasgi"]
    assert_table(run_command("status", "-H", "127.0.0.1", folder=tmp_path, program=program))


# ---- when there is nothing ----


def test_no_broker(tmp_path: Path) -> None:
    port = free_port()
    assert_says(
        ask(tmp_path, "-p", str(port)),
        f"no broker listens at localhost:{port}; start it, or say with -H and -p where it listens",
    )
    assert_says(
        ask(tmp_path, "-p", str(port), MQTTASGI_CONNECT="mqtts://broker.example"),
        f"no broker listens at localhost:{port}; start it, or say with -H and -p where it listens. "
        "MQTTASGI_CONNECT is set: what runs with --connect writes its numbers to its own log instead, when it "
        "gets SIGUSR1",
    )


def test_no_plugin(broker: BrokerFactory, tmp_path: Path) -> None:
    started = broker(plugin=None)
    done = ask(tmp_path, *at(started))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"mqttasgi: the broker at 127\.0\.0\.1:{started.port} \(Mosquitto 2\.[\d.]+\) has no statistics of mqttasgi: "
        r"the plugin is not in it, its sys_interval is 0, or its acl_file lacks the line "
        r"\"topic read \$SYS/broker/mqttasgi/#\" for anonymous clients\.\n",
        done.stderr,
    )


@pytest.mark.parametrize("cause", ["sys_interval", "acl_file"])
def test_nothing_below_sys(broker: BrokerFactory, tmp_path: Path, cause: str) -> None:
    (tmp_path / "acl").write_text("topic read in/#\n")
    line = "sys_interval 0" if cause == "sys_interval" else f"acl_file {tmp_path / 'acl'}"
    started = broker("apps.echo:application", lines=[line])
    assert_says(
        ask(tmp_path, *at(started)),
        f"the broker at 127.0.0.1:{started.port} shows nothing below $SYS: its sys_interval is 0, or its acl_file "
        'lacks the line "topic read $SYS/broker/#" for anonymous clients',
    )
    if cause == "acl_file":
        (tmp_path / "acl").write_text(f"topic read {PREFIX}#\n")
        started.reload()
        # What was printed is what helps; the broker's log says when it has read the file again.
        started.wait_for_log("No option has changed|Reloading config", since=0)
        with Client(started.port) as client:
            client.subscribe(f"{PREFIX}#")
            client.wait_for(f"{PREFIX}uptime")
        assert_table(ask(tmp_path, *at(started)))


def test_another_service(tmp_path: Path) -> None:
    """One that accepts and says nothing is not waited for for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = ["-H", "127.0.0.1", "-p", str(server.getsockname()[1])]
        code = "from mqttasgi.command import cli, status; import sys; status.PATIENCE = 0.2; sys.exit(cli.main())"
        done = run_command("status", *place, folder=tmp_path, program=[sys.executable, "-c", code])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"mqttasgi: {place[1]}:{place[3]} does not answer as an MQTT broker does; ")


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ("stop", "has closed the connection"),
        ("sys_interval", "has taken its statistics back: its sys_interval is 0 now"),
    ],
)
def test_the_end_while_it_is_watched(
    broker: BrokerFactory, tmp_path: Path, event: str, sentence: str
) -> None:
    started = start(broker)
    with subprocess.Popen(
        [sys.executable, "-m", "mqttasgi", "status", *at(started), "--watch", "--json"],
        cwd=tmp_path,
        env=command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if event == "stop":
            started.stop()
        else:
            started.rewrite(started.configuration().replace("sys_interval 1", "sys_interval 0"))
            started.reload()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error == f"mqttasgi: the broker at 127.0.0.1:{started.port} {sentence}.\n"


def test_without_paho(tmp_path: Path) -> None:
    code = "import sys; sys.modules['paho'] = None; import mqttasgi.command.cli as c; sys.exit(c.main())"
    done = run_command("status", folder=tmp_path, program=[sys.executable, "-c", code])
    assert_says(done, "status needs the Python package paho-mqtt, 2.1 or later: pip install 'paho-mqtt>=2.1'")
