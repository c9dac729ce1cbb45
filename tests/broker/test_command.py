"""The command `mqttasgi`: mqttasgi's options from each place, seen from outside; its life; what it prints."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from support.broker import (
    ROOT,
    Broker,
    BrokerFailed,
    finish_all,
    mosquitto_program,
    mosquitto_version,
    plugin_path,
)
from support.certificates import Authority
from support.client import Client
from support.command import PYTHON_PATH, SOURCES, Command, as_root, command_environment, run_command
from support.consumers import Consumers
from support.ports import free_port
from support.processes import running, wait_until

TESTS = Path(__file__).resolve().parents[1]


class CommandFactory(Protocol):
    """What the fixture `command` is; arguments are those of `Command`, without the folder."""

    def __call__(self, *arguments: Any, start: bool = True, **more: Any) -> Command: ...


@pytest.fixture
def command(tmp_path: Path) -> Iterator[CommandFactory]:
    """Start brokers by the command. Each is stopped when the test ends, and must then have left nothing behind."""
    commands: list[Command] = []

    def make(*arguments: Any, start: bool = True, **more: Any) -> Command:
        folder = tmp_path / f"broker-{len(commands)}"
        folder.mkdir()
        made = Command(folder, *arguments, **more)
        commands.append(made)
        return made.start() if start else made

    yield make
    finish_all(commands)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def with_session(started: Command) -> Command:
    """Returns when the plugin's own connection is up, by which the consumers get retained messages and QoS 2."""
    started.wait_for_log("mqttasgi: Session with the listener")
    return started


def assert_consumer_answers(started: Broker, **arguments: Any) -> None:
    """The application runs, and hears by the session what comes only there."""
    consumers = Consumers(started, **arguments)
    consumers.client.publish("kept", "retained", qos=1, retain=True)
    consumers.subscribe("kept")
    assert [(m.payload, m.retain) for m in consumers.heard()] == [("retained", True)]


# ---- mqttasgi's table: each option from each place ----

each_source = pytest.mark.parametrize("source", SOURCES)


@each_source
def test_host_and_port(command: CommandFactory, source: str) -> None:
    port = free_port()
    started = command(source=source, settings={"MQTT_HOSTNAME": "127.0.0.2", "MQTT_PORT": port}, port=port)
    assert_consumer_answers(with_session(started), host="127.0.0.2")
    with pytest.raises(ConnectionRefusedError):
        Client(port, host="127.0.0.1")


@each_source
def test_username_password_and_client_id(command: CommandFactory, source: str) -> None:
    settings = {
        "MQTT_USERNAME": "ann of the hall",
        "MQTT_PASSWORD": 'p:a "$w#o',
        "MQTT_CLIENT_ID": "the-hub",
        "VERBOSITY": 1,
    }
    started = with_session(command(source=source, settings=settings))
    assert_consumer_answers(started, username="ann of the hall", password='p:a "$w#o')
    for username, password in ((None, None), ("ann of the hall", "p"), ("bob", 'p:a "$w#o')):
        with pytest.raises(ConnectionError, match=r"(?i)not authori[sz]ed"):
            started.client(username=username, password=password)
    started.wait_for_log(r"New client connected from \S+ as the-hub \(.*u'ann of the hall'")


@each_source
def test_cleansession(command: CommandFactory, source: str, tmp_path: Path) -> None:
    """false: the session outlives the broker, has no process number in its name, and keeps what arrives meanwhile."""
    folder = tmp_path / "kept"
    (tmp_path / "subscriptions").write_text('{"while/down": 1}')
    started = command(
        source=source,
        settings={"MQTT_CLEAN": "false", "MQTTASGI_PERSISTENCE": folder, "VERBOSITY": 1},
        environment={"TEST_SUBSCRIPTIONS": str(tmp_path / "subscriptions")},
    )
    with_session(started)
    started.wait_for_log(rf"New client connected from \S+ as mqttasgi-{re.escape(socket.gethostname())} \(")
    started.stop()

    (tmp_path / "plain").mkdir()
    plain = Broker(
        tmp_path / "plain", plugin=None, lines=["persistence true", f"persistence_location {folder}/"]
    )
    plain.configuration = lambda: Broker.configuration(plain).replace("persistence false\n", "")  # type: ignore[method-assign]
    plain.start().client().publish("while/down", "waited", qos=1)
    plain.finish()

    begin = len(started.log())
    started.start()
    started.wait_for_log("mqttasgi: Session with the listener", since=begin)
    assert [(m.topic, m.payload) for m in Consumers(started).heard()] == [("while/down", "waited")]


@pytest.mark.parametrize(
    ("source", "level", "said"),
    [("argument", None, "W"), ("argument", 1, "WI"), ("environment", 2, "WID"), ("dotenv", 2, "WID")],
)
def test_verbosity(command: CommandFactory, source: str, level: int | None, said: str) -> None:
    started = command("apps.speaks:application", source=source, settings={"VERBOSITY": level})
    started.wait_for_log("mqttasgi: apps: last")
    started.client()
    assert "".join(mark for mark in "WID" if f"mqttasgi: apps: {mark}\n" in started.log()) == said
    # The broker's own lines: who comes and goes from 1 on, each packet with 2.
    assert ("New client connected" in started.log()) == ("I" in said)
    assert ("Sending CONNACK" in started.log()) == ("D" in said)


@each_source
def test_certificate_and_key(command: CommandFactory, source: str, authority: Authority) -> None:
    """With use_ssl: TLS for everybody, without client certificates."""
    server = authority.issue(f"server-{source}")
    settings = {"TLS_CERT": server.cert, "TLS_KEY": server.key, "MQTT_USE_SSL": "true"}
    started = with_session(command(source=source, settings=settings))
    assert_consumer_answers(started, tls={"ca_certs": str(authority.cert)})
    with pytest.raises((ConnectionError, TimeoutError)):
        started.client(timeout=1)


@each_source
def test_ca_certificate(command: CommandFactory, source: str, authority: Authority) -> None:
    """Clients must show a certificate that it signed."""
    server, member = authority.issue(f"mutual-{source}"), authority.issue(f"member-{source}")
    settings = {"TLS_CERT": server.cert, "TLS_KEY": server.key, "TLS_CA": authority.cert}
    started = with_session(command(source=source, settings=settings))
    assert_consumer_answers(started, tls=member.paho(authority))
    with pytest.raises((OSError, TimeoutError)):
        started.client(tls={"ca_certs": str(authority.cert)}, timeout=1)


@each_source
def test_transport(command: CommandFactory, source: str) -> None:
    started = with_session(command(source=source, settings={"MQTT_TRANSPORT": "websockets"}))
    assert_consumer_answers(started, transport="websockets")
    with pytest.raises((ConnectionError, TimeoutError)):
        started.client(timeout=0.5)


@each_source
def test_retries(command: CommandFactory, source: str, tmp_path: Path) -> None:
    """The listener lets nobody in without a password that the session has not got."""
    refusing = tmp_path / "refusing.conf"
    refusing.write_text("# Nobody.\n\nallow_anonymous false\n")
    started = command(source=source, settings={"MQTT_RETRIES": 1, "MQTTASGI_INCLUDE": refusing})
    started.wait_for_log("Gave up on the session with the listener at .* after 1 tries")


def test_the_first_of_argument_environment_and_dotenv_wins(command: CommandFactory) -> None:
    """Each of three options is given in one place more than the one before."""
    port = free_port()
    started = command(
        source="argument",
        settings={"MQTT_HOSTNAME": None, "MQTT_PORT": port, "VERBOSITY": None},
        port=port,
        environment={"MQTT_PORT": str(free_port()), "MQTT_HOSTNAME": "127.0.0.2", "MQTT_CLIENT_ID": ""},
        dotenv=f"MQTT_PORT={free_port()}\nMQTT_HOSTNAME=127.0.0.3\nVERBOSITY=1\nMQTT_CLIENT_ID=from-dotenv\n",
    )
    started.wait_for_log(r"New client connected from \S+ as from-dotenv")  # and VERBOSITY, whose default is 0
    with started.client(host="127.0.0.2"), pytest.raises(ConnectionRefusedError):
        Client(port, host="127.0.0.3")


def test_a_unix_socket(command: CommandFactory, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = f"{folder}/s.sock"
        settings = {"MQTT_HOSTNAME": path, "MQTT_PORT": None}
        started = command(settings=settings, listener=False)
        assert_consumer_answers(with_session(started), host=path, transport="unix", port=1)
        failed = run_command(
            "-H", path, *as_root(), "apps.echo:application", folder=tmp_path, TMPDIR=str(started.temporary)
        )
        assert f"{path} is taken, by another broker perhaps" in failed.stderr
        assert failed.returncode == 2


# ---- its life ----


def test_it_becomes_the_broker_and_nobody_else_sees_its_files(command: CommandFactory) -> None:
    started = command(
        source="environment", settings={"MQTT_USERNAME": "ann", "MQTT_PASSWORD": "not-in-the-list"}
    )
    assert Path(f"/proc/{started.pid}/exe").resolve() == Path(mosquitto_program()).resolve()
    folder = started.private_folder()
    assert started.words()[1:] == ["-c", f"{folder}/mosquitto.conf"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"mosquitto.conf": 0o600, "passwords": 0o600}
    assert "not-in-the-list" not in (folder / "passwords").read_text()
    started.stop()
    wait_until(lambda: not folder.exists(), 5, "the end of the folder")


def test_the_password_is_in_no_command_line(command: CommandFactory) -> None:
    """Neither while it starts, with a program that takes time, nor later."""
    started = command(
        source="dotenv", settings={"MQTT_USERNAME": "ann", "MQTT_PASSWORD": "not-in-the-list"}, start=False
    )
    started._spawn()
    seen = ""
    while not started._started():
        seen += _command_lines()
    seen += _command_lines()
    assert "mosquitto.conf" in seen
    assert "not-in-the-list" not in seen


def _command_lines() -> str:
    text = ""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text += path.read_bytes().replace(b"\0", b" ").decode(errors="replace") + "\n"
        except OSError:
            continue
    return text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_the_brokers(command: CommandFactory, number: int) -> None:
    started = command("apps.echo:application")
    os.kill(started.pid, number)
    wait_until(lambda: not running(started.pid), 10, "the end")
    assert started.stop() == 0


def test_the_folder_is_gone_after_a_crash_too(command: CommandFactory) -> None:
    started = command(settings={"MQTT_TRANSPORT": "websockets"})
    folder = started.private_folder()
    assert (folder / "session.sock").is_socket()
    started.kill()
    wait_until(lambda: not folder.exists(), 5, "the end of the folder")


def test_the_brokers_exit_status(command: CommandFactory) -> None:
    """The application cannot be started, so the broker ends; the shell learns that."""
    with pytest.raises(BrokerFailed, match="there is no module 'no_such_module'") as failure:
        command("no_such_module:application")
    assert failure.value.status not in (None, 0, 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_of_somebody_elses_stays_that(command: CommandFactory, tmp_path: Path) -> None:
    folder = tmp_path / "roots"
    folder.mkdir(mode=0o755)
    done = run_command(
        "--persistence", str(folder), "-p", str(free_port()), "--user", "mosquitto", "apps.plain:application",
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert (
        done.stderr
        == f"mqttasgi: argument --persistence: the broker's user mosquitto may not write to {folder}; "
        "change that, or name another folder.\n"
    )
    assert folder.stat().st_uid == 0


# ---- instead of starting the broker ----


class Printed(Broker):
    """A plain Mosquitto with a configuration that the command printed."""

    text = ""

    def configuration(self) -> str:
        return self.text


def test_a_printed_configuration_does_the_same(tmp_path: Path, authority: Authority) -> None:
    server, member = authority.issue("printed"), authority.issue("printed-member")
    port = free_port()
    (tmp_path / "project").mkdir()
    done = run_command(
        *("-H", "127.0.0.1", "-p", str(port), "-U", "ann", "-P", "secret", "-v", "1", "-i", "the-hub"),
        *("-C", str(server.cert), "-K", str(server.key), "-S", str(authority.cert), *as_root()),
        *("--print-config", "apps.listener:application"),
        folder=tmp_path / "project",
        MQTTASGI_PYTHON_PATH=PYTHON_PATH,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "broker-0").mkdir()
    broker = Printed(tmp_path / "broker-0", port=port)
    broker.text = done.stdout.replace("/run/mosquitto/", f"{broker.folder}/")
    made = re.search(r"mosquitto_passwd -c (\S+) ann", broker.text)
    assert made is not None
    broker.text = broker.text.replace(made[1], f"{broker.folder}/passwords")
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", f"{broker.folder}/passwords", "ann", "secret"],
        check=True,
        capture_output=True,
    )
    try:
        broker.start()
        broker.wait_for_log("Session with the listener")
        broker.wait_for_log(r"New client connected from \S+ as the-hub")
        assert_consumer_answers(broker, username="ann", password="secret", tls=member.paho(authority))
        with pytest.raises(ConnectionError):
            broker.client(tls=member.paho(authority))
        with pytest.raises((OSError, TimeoutError)):
            broker.client(username="ann", password="secret", tls={"ca_certs": str(authority.cert)}, timeout=1)
    finally:
        broker.finish()


APPLICATION = """
from pathlib import Path

Path("imported").touch()

async def application(scope, receive, send):
    while True:
        event = await receive()
        if event["type"] == "mqtt.connect":
            Path("connected").touch()
            await send({"type": "mqtt.sub", "mqtt": {"topic": "question", "qos": 1}})
        elif event["type"] == "mqtt.msg":
            await send({"type": "mqtt.pub", "mqtt": {"topic": "answer", "payload": b"1", "qos": 1}})
        else:
            return
"""


def test_check(command: CommandFactory) -> None:
    """It may be asked while the broker runs, which has the port, and imports the application without starting it."""
    started = command("site_app:application", start=False, python_path=None)
    (started.project / "site_app.py").write_text(APPLICATION)
    started.start()
    client, log = started.client(), started.log()
    (started.project / "connected").unlink()
    (started.project / "imported").unlink()

    words = ("-H", "127.0.0.1", *as_root(), "--check", "-p", str(free_port()))
    place = {"folder": started.project, "TMPDIR": str(started.temporary)}
    done = run_command(*words, "site_app:application", **place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok      options\n" in done.stdout
    assert "ok      application site_app:application, imported by Mosquitto " in done.stdout
    assert "ok      where it listens\n" in done.stdout
    taken = run_command(*words, "-p", str(started.port), "site_app:application", **place)
    assert taken.returncode == 1
    assert (
        f"FAILED  where it listens\n        argument -p/--port: {started.port} at 127.0.0.1 is taken by mosquitto "
        f"(process {started.pid}). This command is a broker itself: stop the other, take another port (-p), or "
        "mirror the other (--bridge true).\n"
    ) in taken.stdout
    # All else is checked nevertheless.
    assert "ok      application site_app:application, imported by Mosquitto " in taken.stdout
    assert (started.project / "imported").exists()
    assert not (started.project / "connected").exists()
    assert client.connected
    assert started.log() == log

    (started.project / "broken.py").write_text("import no_such_lamp\n")
    for application, sentence in (
        ("site_app:nothing", "has no 'nothing'"),
        ("nowhere:application", "there is no module 'nowhere'"),
        ("broken:application", "No module named 'no_such_lamp'"),
    ):
        done = run_command(*words, application, **place)
        assert done.returncode == 1
        assert f"FAILED  application {application}, imported by Mosquitto " in done.stdout
        assert sentence in done.stdout
    done = run_command(*words, "-o", "spinn=1", "site_app:application", **place)
    assert done.returncode == 1
    assert "option spinn: unknown, did you mean spin?" in done.stdout
    wait_until(lambda: len(os.listdir(started.temporary)) == 1, 5, "the end of the checks' folders")


def test_version_and_help(tmp_path: Path) -> None:
    done = run_command("--version", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    versions = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert list(versions) == ["mqttasgi", "plugin", "Mosquitto", "Python", "Django", "Channels"]
    assert versions["mqttasgi"].endswith("/mqttasgi)")
    assert versions["plugin"].endswith(f"({plugin_path()})")
    assert versions["Mosquitto"].startswith(".".join(map(str, mosquitto_version())))
    done = run_command("--help", folder=tmp_path, COLUMNS="300")
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "mqttasgi status --help",
        "mqttasgi dead --help",
        "-H",
        "--host HOST",
        "[MQTT_HOSTNAME, default localhost]",
        "-SSL",
        "--use-ssl BOOL",
    ):
        assert words in " ".join(done.stdout.split())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_reload(command: CommandFactory, number: int) -> None:
    """A changed file starts the broker again; a mistake in it ends that, until it is repaired. The signal ends all."""
    pytest.importorskip("watchfiles")
    started = command("site_app:application", words=["--reload"], start=False, python_path=None)
    code = started.project / "site_app.py"
    code.write_text(APPLICATION)
    started.expect_traceback = "no_such_lamp"
    started._spawn()
    wait_until(lambda: _answer(started) == b"1", 30, "the first code's answer", started.log)
    if number == signal.SIGINT:  # once is enough
        code.write_text(APPLICATION.replace('b"1"', 'b"2"'))
        wait_until(lambda: _answer(started) == b"2", 30, "the new code's answer", started.log)
        code.write_text("import no_such_lamp\n")
        wait_until(
            lambda: "the next change starts it again" in started.log(), 30, "the mistake's end", started.log
        )
        code.write_text(APPLICATION.replace('b"1"', 'b"3"'))
        wait_until(lambda: _answer(started) == b"3", 30, "the repaired code's answer", started.log)
    broker = started.children()
    os.kill(started.pid, number)
    wait_until(lambda: not running(started.pid), 15, "the end")
    assert not any(running(pid) for pid in broker if _is_mosquitto(pid))
    assert started.stop() == 0


def test_reload_takes_no_module_of_the_projects(command: CommandFactory, script: Path) -> None:
    """As the console script, which leaves the working directory out of what is looked through."""
    pytest.importorskip("watchfiles")
    started = command(
        "site_app:application",
        program=[str(script)],
        words=["--reload"],
        start=False,
        python_path=None,
        expect_traceback="no_such_lamp",
    )
    (started.project / "site_app.py").write_text(APPLICATION)
    (started.project / "argparse.py").write_text("import no_such_lamp\n")
    started._spawn()
    wait_until(lambda: _answer(started) == b"1", 30, "an answer", started.log)
    assert "no_such_lamp" not in started.log()


def _answer(started: Command) -> bytes | None:
    """What the application answers just now; None while there is no broker."""
    try:
        with Client(started.port) as client:
            client.subscribe("answer")
            client.publish("question", qos=1)
            payload: bytes = client.wait_for("answer", timeout=2).payload
            return payload
    except (OSError, TimeoutError, AssertionError):
        return None


def _is_mosquitto(pid: int) -> bool:
    try:
        return "mosquitto" in os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False


# ---- other ways to call it ----


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script, made as pip makes it, from the entry point that pyproject.toml declares."""
    import tomllib

    scripts = pytest.importorskip("pip._vendor.distlib.scripts")
    declared = tomllib.loads((ROOT / "python" / "pyproject.toml").read_text())["project"]["scripts"]
    folder = tmp_path_factory.mktemp("bin")
    maker = scripts.ScriptMaker(None, str(folder))
    maker.executable = sys.executable
    maker.variants = {""}
    maker.make(f"mqttasgi = {declared['mqttasgi']}")
    return folder / "mqttasgi"


def test_the_console_script(command: CommandFactory, script: Path) -> None:
    started = command("apps.echo:application", program=[str(script)], source="dotenv")
    client = started.client()
    client.subscribe("out/x")
    client.publish("in/x", b"1")
    assert client.wait_for("out/x").payload == b"1"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mqttasgi --tr", {"--transport"}),
        ("mqttasgi -T ", {"tcp", "websockets"}),
        ("mqttasgi --use-ssl t", {"true"}),
        ("mqttasgi -v ", {"0", "1", "2"}),
        ("mqttasgi -C c", {"cert.pem"}),
        ("mqttasgi --persistence k", {"kept/"}),
        ("mqttasgi -p 1884 my", {"mysite.asgi:application"}),
        ("mqttasgi st", {"startproject", "status"}),
        ("mqttasgi de", {"dead"}),
        ("mqttasgi dead re", {"replay"}),
        ("mqttasgi dead s", {"show"}),
        ("mqttasgi dead list --", {"--consumer", "--limit", "--json", "--file", "--help"}),
        ("mqttasgi dead show c", set()),
        ("mqttasgi dead drop --file c", {"cert.pem"}),
        ("mqttasgi -p 1884 st", set()),
        (
            "mqttasgi status --",
            {"--json", "--watch", "--help", "--host", "--port", "--username", "--password"}
            | {"--cert", "--key", "--cacert", "--use-ssl", "--transport"},
        ),
        ("mqttasgi status -T ", {"tcp", "websockets"}),
        ("mqttasgi status -C c", {"cert.pem"}),
    ],
)
def test_completion(script: Path, tmp_path: Path, line: str, expected: set[str]) -> None:
    """argcomplete's protocol: the words so far in the environment, the proposals on descriptor 8."""
    pytest.importorskip("argcomplete")
    for folder in ("mysite", "kept"):
        (tmp_path / folder).mkdir()
    for file in ("mysite/asgi.py", "cert.pem"):
        (tmp_path / file).touch()
    done = subprocess.run(
        ["bash", "-c", '"$1" 8>&1 9>&2 1>/dev/null 2>/dev/null', "bash", str(script)],
        cwd=tmp_path,
        env=command_environment(_ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)), IFS="\013"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert {word.strip() for word in re.split(r"[\013\n]", done.stdout) if word.strip()} == expected


MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.no_settings")
execute_from_command_line(sys.argv)
"""
SETTINGS = """
SECRET_KEY = "only for tests"
INSTALLED_APPS = ["channels", "mqttasgi"]
ASGI_APPLICATION = "mysite.asgi.application"
PAYLOAD = b"from the settings"
"""
ASGI = """
import django
django.setup()
from django.conf import settings
import beside

async def application(scope, receive, send):
    while True:
        event = await receive()
        if event["type"] == "mqtt.connect":
            await send({"type": "mqtt.sub", "mqtt": {"topic": "question", "qos": 1}})
        elif event["type"] == "mqtt.msg":
            await send({"type": "mqtt.pub", "mqtt": {"topic": "answer", "payload": settings.PAYLOAD, "qos": 1}})
        else:
            return
"""


def test_the_management_command(command: CommandFactory, tmp_path: Path) -> None:
    """From another folder than the project's, whose `.env` file is read all the same."""
    site, beside = tmp_path / "django project", tmp_path / "beside"
    (site / "mysite").mkdir(parents=True)
    beside.mkdir()
    (beside / "beside.py").touch()
    (site / "manage.py").write_text(MANAGE)
    (site / "mysite" / "__init__.py").touch()
    (site / "mysite" / "real_settings.py").write_text(SETTINGS)
    (site / "mysite" / "asgi.py").write_text(ASGI)
    (site / ".env").write_text("MQTT_CLIENT_ID=of-the-project\n")
    program = [sys.executable, str(site / "manage.py"), "mqttasgi", "--settings", "mysite.real_settings"]
    program += ["--pythonpath", str(beside), "-v", "1"]
    started = command(None, program=program, python_path=None)
    assert _answer(started) == b"from the settings"
    started.wait_for_log(r"New client connected from \S+ as of-the-project")


def test_the_management_command_used_wrongly(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text("INSTALLED_APPS = ['mqttasgi']\nSECRET_KEY = 'x'\n")
    (tmp_path / "manage.py").write_text(MANAGE.replace("mysite.no_settings", "settings"))
    program = [sys.executable, "manage.py", "mqttasgi"]
    done = run_command(folder=tmp_path, program=program)
    assert done.returncode == 2
    assert done.stderr == (
        "manage.py mqttasgi: no application: name it as the last argument, package.module:name, or in "
        "MQTTASGI_APPLICATION.\n"
    )
