"""The files of `config/` that people copy: each starts a broker as it stands, but for paths and ports."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_start import copy_of_everything, embedded_python

from conftest import BrokerFactory
from support import option_table
from support.broker import TAG, Broker, passwords, plugin_path, virtualenv
from support.confined import Notified, Settings, command, read_unit, syscall_filter_is_known
from support.consumers import Recorders
from support.ports import free_port
from support.processes import PATIENCE, SANITIZER, wait_until

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"

# Debian's /etc/mosquitto/mosquitto.conf, which includes the sample: what is said there may not be said again, for a
# string given twice ends the broker. Only its paths are the test's, and the log's place.
DEBIAN = """\
pid_file {folder}/mosquitto.pid

persistence true
persistence_location {folder}/

log_dest stderr
log_type all
log_timestamp false
{user}
include_dir {folder}/conf.d
"""


def sample(name: str, replacements: Mapping[str, str]) -> str:
    """Return a sample with whole lines replaced, each of which must be in it, and in which no path may be left."""
    lines = (CONFIG / name).read_text().splitlines()
    for old in replacements:
        assert old in lines, f"config/{name} has no line {old!r}; this test wants to replace it"
    for line in lines:
        if line not in replacements and re.search(r"^[^#].*(/\w+/|\b(1883|1884|8883|8884|9001)\b)", line):
            raise AssertionError(f"config/{name}: this test does not replace what is in the line {line!r}")
    lines = [replacements.get(line, line) for line in lines]
    return "\n".join(lines) + "\n"


def application(name: str = "apps.recorder:application") -> dict[str, str]:
    """Return what every sample says about the application, and what the tests have there."""
    environment = virtualenv()
    return {
        "plugin /usr/lib/mqttasgi_plugin.so": f"plugin {plugin_path()}",
        "plugin_opt_application mysite.asgi:application": f"plugin_opt_application {name}",
        "plugin_opt_python_path /srv/mysite": f"plugin_opt_python_path {Path(__file__).parent}:{ROOT / 'python'}",
        "plugin_opt_virtualenv /srv/mysite/venv": f"plugin_opt_virtualenv {environment}"
        if environment
        else "",
    }


class Place:
    """A folder like Debian's /etc/mosquitto, and a broker in it."""

    def __init__(self, broker: BrokerFactory, folder: Path) -> None:
        self._broker = broker
        self.folder = folder
        self.passwords = folder / "passwords"
        self.env_file = folder / "site.env"
        (folder / "conf.d").mkdir()

    def start(self, text: str, port: int, **arguments: Any) -> Broker:
        """Start a broker with a sample, which listens on `port`."""
        (self.folder / "conf.d" / "mqttasgi.conf").write_text(text)
        user = "user root\n" if os.geteuid() == 0 else ""
        main = DEBIAN.format(folder=self.folder, user=user)
        started = self._broker(configuration=main, port=port, **arguments)
        assert not re.search(r"Unknown configuration|deprecated|no longer available", started.log())
        return started

    def login(self) -> dict[str, str]:
        """Make the password file and the `.env` file, and return the lines of a sample that name them."""
        self.env_file.write_text("MQTT_PASSWORD=the hub's own\n")
        return {
            "password_file /etc/mosquitto/passwd": passwords(
                self.folder, hub="the hub's own", devices="d", browser="b"
            ),
            "plugin_opt_env_file /srv/mysite/.env": f"plugin_opt_env_file {self.env_file}",
        }


@pytest.fixture
def place(broker: BrokerFactory, tmp_path: Path) -> Place:
    folder = tmp_path / "place"
    folder.mkdir()
    return Place(broker, folder)


def commands(name: str) -> str:
    """Return the commands that a sample's comments tell the reader to type."""
    return "\n".join(re.findall(r"^#   (.*)$", (CONFIG / name).read_text(), re.MULTILINE))


def run_commands(text: str, folder: Path, prelude: str = "") -> None:
    """Run commands as their reader would, who is root by `sudo`; an ordinary user gives no files away."""
    prelude = 'set -eu\nsudo() { "$@"; }\n' + prelude
    if os.geteuid() != 0:
        prelude += 'chown() { :; }\ninstall() { command install "$1" "$2" "${@:7}"; }\n'
    subprocess.run(
        ["bash", "-c", prelude + text],
        cwd=folder,
        check=True,
        timeout=60 * PATIENCE,
        stdin=subprocess.DEVNULL,
    )


def wait_for_session(started: Broker, where: str) -> None:
    started.wait_for_log(f"Session with the listener at {re.escape(where)}", 10)


# ---- mosquitto.conf ----


def test_mosquitto_conf(place: Place) -> None:
    port = free_port()
    text = sample(
        "mosquitto.conf", {"listener 1883 localhost": f"listener {port} 127.0.0.1", **application()}
    )
    started = place.start(text, port, environment={"MQTT_PORT": str(port)})
    wait_for_session(started, f"localhost:{port}")
    recorders = Recorders(started)
    recorders.subscribe("home/#")
    started.client().publish("home/door", "open", qos=1)
    assert [m["payload"] for m in recorders.messages()] == [b"open"]


def test_mosquitto_conf_with_all_that_it_shows(place: Place) -> None:
    """Every option that the table has a sample of is in there, with a value that the plugin takes."""
    port = free_port()
    lines = (CONFIG / "mosquitto.conf").read_text().splitlines()
    shown = [line.lstrip("# ") for line in lines if re.match(r"# plugin_opt_\w+ \S+$", line)]
    names = {row.key for row in option_table.rows() if row.sample is not None}
    assert len(names) > 30
    given = {line.split()[0] for line in lines if line.startswith("plugin_opt_")}
    assert {line.split()[0] for line in shown} | given >= {f"plugin_opt_{name}" for name in names}
    # What needs another listener, files, or a broker that was here before; and of two examples the second.
    left_out = (
        *("host /", "port", "cert", "key", "cacert", "use_ssl", "env_file", "session off"),
        *("http ", "http_cert", "http_key"),
    )
    shown = [line for line in shown if not line.removeprefix("plugin_opt_").startswith(left_out)]
    assert len(shown) > 12
    text = sample(
        "mosquitto.conf",
        {
            "listener 1883 localhost": f"listener {port} 127.0.0.1",
            "# plugin_opt_port 1883": f"plugin_opt_port {port}",
            "# plugin_opt_http 127.0.0.1:8000": f"plugin_opt_http 127.0.0.1:{free_port()}",
            **{f"# {line}": line for line in shown},
            **application(),
        },
    )
    started = place.start(text, port)
    wait_for_session(started, f"localhost:{port}")


# ---- home-hub.conf ----


def test_home_hub(place: Place) -> None:
    """The files that its comments make, who may connect, what is kept over a restart, and a limit."""
    passwd, port = place.folder / "passwd", free_port()
    run_commands(
        commands("home-hub.conf")
        .replace("/etc/mosquitto/passwd", f"'{passwd}'")
        .replace("/srv/mysite/.env", f"'{place.env_file}'"),
        place.folder,
        # Asked for on the terminal, twice. The editor's user writes what the comment says.
        'mosquitto_passwd() { printf "%s word\\n" "${@: -1}" "${@: -1}" | command mosquitto_passwd "$@"; }\n'
        'nano() { echo "MQTT_PASSWORD=hub word" >"$1"; }\n',
    )
    for file in (passwd, place.env_file):
        assert file.stat().st_mode & 0o777 == 0o600
        if os.geteuid() == 0:
            assert file.owner() == "mosquitto"
    text = sample(
        "home-hub.conf",
        {
            "listener 1883": f"listener {port} 127.0.0.1",
            "password_file /etc/mosquitto/passwd": f"password_file {passwd}",
            "plugin_opt_env_file /srv/mysite/.env": f"plugin_opt_env_file {place.env_file}",
            **application(),
        },
    )
    started = place.start(text, port, environment={"MQTT_PORT": str(port)})
    wait_for_session(started, f"localhost:{port}")
    for login in ({}, {"username": "devices", "password": "hub word"}):
        with pytest.raises(ConnectionError):
            started.client(**login)
    login = {"username": "devices", "password": "devices word"}
    recorders = Recorders(started, **login)
    recorders.subscribe("home/#")
    device = started.client(**login)
    device.publish("home/lamp", "on", qos=1, retain=True)
    heard = recorders.messages()
    assert [(m["payload"], m["retain"], m["client"]["username"]) for m in heard] == [
        (b"on", False, "devices")
    ]
    device.paho.publish("home/lamp", bytes(262144))
    device.wait_for_disconnect()

    since = len(started.log())
    started.restart()
    started.wait_for_log("Session with the listener at", 10, since=since)
    recorders = Recorders(started, **login)
    recorders.subscribe("home/#")
    assert [(m["payload"], m["retain"]) for m in recorders.messages()] == [(b"on", True)]


# ---- tls.conf ----


def test_tls(place: Place) -> None:
    """With a password, with a certificate that says the user's name, and with neither."""
    certificates = place.folder / "certs"
    certificates.mkdir()
    # The name by which this test finds the broker.
    run_commands(commands("tls.conf").replace("hub.local", "localhost"), certificates)
    ports = free_port(), free_port()
    unix = place.folder / "hub.sock"
    text = sample(
        "tls.conf",
        {
            "listener 8883": f"listener {ports[0]} 127.0.0.1",
            "listener 8884": f"listener {ports[1]} 127.0.0.1",
            "listener 0 /run/mosquitto/hub.sock": f"listener 0 {unix}",
            "plugin_opt_host /run/mosquitto/hub.sock": f"plugin_opt_host {unix}",
            "certfile /etc/mosquitto/certs/server.crt": f"certfile {certificates}/server.crt",
            "keyfile /etc/mosquitto/certs/server.key": f"keyfile {certificates}/server.key",
            "cafile /etc/mosquitto/certs/ca.crt": f"cafile {certificates}/ca.crt",
            **place.login(),
            **application(),
        },
    )
    started = place.start(text, ports[0])
    wait_for_session(started, str(unix))
    trusted = {"ca_certs": str(certificates / "ca.crt")}
    lamp = {"certfile": str(certificates / "lamp.crt"), "keyfile": str(certificates / "lamp.key")}
    with pytest.raises(ConnectionError):
        started.client(host="localhost", tls=trusted)
    with pytest.raises(ConnectionError):
        started.client(host="localhost", tls=trusted, username="lamp", password="d")
    recorders = Recorders(started, host="localhost", tls=trusted, username="devices", password="d")
    recorders.subscribe("home/#")
    with started.client(port=ports[1], host="localhost", tls={**trusted, **lamp}) as client:
        client.publish("home/lamp", "on", qos=1)
    message = recorders.messages()[0]
    assert message["client"]["username"] == "lamp"
    assert message["client"]["certificate"] is not None

    context = ssl.create_default_context(cafile=trusted["ca_certs"])
    with (
        socket.create_connection(("127.0.0.1", ports[1])) as connection,
        pytest.raises(ssl.SSLError),
        context.wrap_socket(connection, server_hostname="localhost") as encrypted,
    ):
        encrypted.recv(1)


# ---- websockets.conf ----


def test_websockets(place: Place) -> None:
    """A browser and a device through the two listeners; both are heard by the same consumer."""
    ports = free_port(), free_port()
    text = sample(
        "websockets.conf",
        {
            "listener 1883": f"listener {ports[0]} 127.0.0.1",
            "listener 9001": f"listener {ports[1]} 127.0.0.1",
            **place.login(),
            **application("apps.echo:application"),
        },
    )
    started = place.start(text, ports[0], environment={"MQTT_PORT": str(ports[0])})
    wait_for_session(started, f"localhost:{ports[0]}")
    device = started.client(username="devices", password="d")
    browser = started.client(port=ports[1], transport="websockets", username="browser", password="b")
    for client in (device, browser):
        client.subscribe("out/#", qos=1)
    browser.publish("in/button", "pressed", qos=1)
    device.publish("in/door", "open", qos=1)
    for client in (device, browser):
        assert client.wait_for("out/button").payload == b"pressed"
        assert client.wait_for("out/door").payload == b"open"
    with pytest.raises(ConnectionError):
        started.client(port=ports[1], transport="websockets")
    assert b" 101 " in upgraded(ports[1], "/").partition(b"\r\n")[0], (
        "mqtt.connect() asks for /, paho for /mqtt"
    )


def upgraded(port: int, path: str) -> bytes:
    """Ask for websockets as a browser does, and return the headers of the answer."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Origin: http://hub.local\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10 * PATIENCE) as connection:
        connection.sendall(request.encode())
        answer = b""
        while b"\r\n\r\n" not in answer and (data := connection.recv(4096)):
            answer += data
    return answer


# ---- all ----


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.conf")), ids=lambda path: path.name)
def test_what_the_broker_reads_as_root_stays_roots(path: Path) -> None:
    """Else the application, which runs as user mosquitto, could write `user root` into it for the next start."""
    given = re.findall(r"(?:chown|install .*-o) *(\w+)\S* .*\.conf$", path.read_text(), re.MULTILINE)
    assert set(given) <= {"root"}


# ---- bridge.conf ----


def test_bridge(place: Place, broker: BrokerFactory, tmp_path: Path) -> None:
    """Once in each direction, with what is retained, and again after the other broker's restart."""
    there = broker(
        plugin=None, anonymous=False, persistence=True, lines=[passwords(tmp_path, hub="secret", other="o")]
    )
    other = there.client(username="other", password="o")
    other.publish("in/kept", "1", qos=1, retain=True)
    port = free_port()
    text = sample(
        "bridge.conf",
        {
            "listener 1883 localhost": f"listener {port} 127.0.0.1",
            "address broker.example.org:1883": f"address 127.0.0.1:{there.port}",
            "restart_timeout 1 30": "restart_timeout 1 1",
            **application(),
        },
    )
    here = place.start(text, port, environment={"MQTT_PORT": str(port)})
    wait_for_session(here, f"localhost:{port}")
    recorders, local, watcher = Recorders(here), here.client(), there.client(username="other", password="o")
    for topic_filter in ("$SYS/broker/connection/#", "end"):
        watcher.subscribe(topic_filter)
    recorders.subscribe("in/#")
    wait_until(lambda: "kept" in heard(recorders, here), 10 * PATIENCE, "the retained message")

    for round_number in ("1", "2"):
        for client in (other, local):
            client.subscribe("in/#", qos=2)
            client.subscribe("end", qos=2)
        del other.messages[:], local.messages[:]
        history = len(recorders.history())
        other.publish(f"in/from-there/{round_number}", "x", qos=1)
        local.publish(f"in/from-here/{round_number}", "x", qos=1)
        recorders.call("publish", topic=f"in/from-consumer/{round_number}", payload=b"x", qos=1)
        # What comes a second time has been on the way to the other side and back; so has this, behind it.
        other.publish("end", "from there", qos=1)
        local.publish("end", "from here", qos=1)
        expected = [f"in/from-{name}/{round_number}" for name in ("consumer", "here", "there")]
        for client in (other, local):
            wait_until(lambda: sum(m.topic == "end" for m in client.messages) == 2, 10, "both ends")  # noqa: B023
            assert sorted(m.topic for m in client.messages if m.topic != "end" and not m.retain) == expected
        topics = [e[1]["topic"] for e in recorders.history()[history:] if e[0] == "message"]
        assert sorted(topic for topic in topics if topic != "in/kept") == expected
        if round_number == "1":
            for _ in range(2):
                watcher.wait_for("end")
            assert {m.topic for m in watcher.messages} == {"end"}, "notifications false"
            since = len(there.log())
            there.restart()
            other = there.client(username="other", password="o")
            there.wait_for_log(r"New (bridge|client) connected .* u'hub'", 20, since=since)
            there.wait_for_log(r"Sending SUBACK to", 10, since=since)


def heard(recorders: Recorders, started: Broker) -> str:
    return " ".join(entry[1]["topic"] for entry in recorders.history() if entry[0] == "message")


# ---- mqttasgi.service and the drop-in for mosquitto.service ----

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or bool(SANITIZER),
    reason="only root can mount; and a sanitizer's library does what the filter forbids",
)

# Says what it can do and what not.
SITE = """
import ctypes, errno, json, os, socket, sys
import django
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "STATE/db.sqlite3"}},
    INSTALLED_APPS=["django.contrib.contenttypes"],
)
django.setup()
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.contrib.contenttypes.models import ContentType
from mqttasgi.consumers import MqttConsumer

def outcome(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def write(path):
    with open(path, "w"):
        pass

def call(name, *arguments):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

class Site(MqttConsumer):
    async def connect(self):
        await sync_to_async(call_command)("migrate", verbosity=0)
        await self.subscribe("in/#", 1)

    async def receive(self, mqtt_message):
        status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
        await self.publish("out/report", json.dumps({
            "rows": await ContentType.objects.acount(),
            "word": os.environ.get("SITE_WORD"),
            "retained": mqtt_message["retain"],
            "uid": os.getuid(),
            "prefix": sys.prefix,
            "status": {name: status[name] for name in ("CapBnd", "CapEff", "NoNewPrivs", "Seccomp")},
            "write": {path: outcome(write, f"{path}/probe") for path in ("STATE", "/srv/mysite", "/usr", "/tmp")},
            "look": {path: outcome(os.listdir, path) for path in ("/home", "/dev/input", "/tmp")},
            "netlink": outcome(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW),
            "namespace": outcome(call, "unshare", 0x10000000),
            "forbidden": outcome(call, "ptrace", 7, os.getpid(), 0, 0),
        }), qos=1)

application = Site.as_asgi()
"""


class Machine:
    """What a service finds on the machine: a project in /srv/mysite, the plugin, and a folder for its state."""

    def __init__(self, folder: Path, state: str) -> None:
        folder.mkdir()
        self.port = free_port()
        project, self.installed, self.state = (folder / name for name in ("project", "installed", "state"))
        copy_of_everything(self.installed)
        (project / "mysite").mkdir(parents=True)
        (project / "mysite" / "asgi.py").write_text(SITE.replace("STATE", state))
        self.env_file = project / ".env"
        self.env_file.write_text(f"SITE_WORD='of the project'\nMQTT_PORT={self.port}\n")
        self.env_file.chmod(0o640)
        shutil.chown(self.env_file, group="mosquitto")
        self.state.mkdir()
        shutil.chown(self.state, "mosquitto")
        environment = project / "venv"
        subprocess.run([embedded_python(), "-m", "venv", "--without-pip", environment], check=True)
        site = next(environment.glob("lib/python3.*/site-packages"))
        (site / "paths.pth").write_text("/usr/local/lib/mqttasgi\n/srv/packages\n")
        # As pip writes it.
        script = environment / "bin" / "mqttasgi"
        script.write_text(
            "#!/srv/mysite/venv/bin/python3\nimport sys\nfrom mqttasgi.command.cli import main\nsys.exit(main())\n"
        )
        script.chmod(0o755)
        packages = virtualenv() or Path("/usr/lib/python3/dist-packages")
        self.files = {
            "/srv/mysite": project,
            "/srv/packages": next(packages.glob("lib/python3.*/site-packages"), packages),
            "/usr/local/lib/mqttasgi": self.installed / "mqttasgi",
            "/usr/local/lib/mqttasgi_plugin.so": self.installed / plugin_path().name,
            state: self.state,
        }


def check_report(report: dict[str, Any], state: str, capabilities: str) -> None:
    """What the application in a confined service says of itself."""
    assert report["rows"] > 0
    assert report["word"] == "of the project"
    assert report["uid"] == pwd.getpwnam("mosquitto").pw_uid
    assert report["prefix"] == "/srv/mysite/venv"
    refused = {"/srv/mysite": "EROFS", "/usr": "EROFS"}
    assert report["write"] == {state: "done", "/tmp": "done", **refused}
    assert report["look"] == {"/home": "EACCES", "/dev/input": "ENOENT", "/tmp": "done"}
    status = report["status"]
    assert (status["CapBnd"], status["CapEff"]) == (capabilities, "0" * 16)
    assert status["NoNewPrivs"] == "1"
    if syscall_filter_is_known():
        assert status["Seccomp"] == "2"
        assert report["netlink"] == "EAFNOSUPPORT"
        assert report["namespace"] == "EPERM"
        assert report["forbidden"] == "EPERM"


def reload_by(settings: Settings, started: Broker, files: Mapping[str, Path]) -> None:
    """Carry out ExecReload= as the service would be told to."""
    since = len(started.log())
    run = settings["ExecReload"][-1].replace("$MAINPID", str(started.pid))
    subprocess.run(
        command(settings, run, files=files, keep=TAG), env={**os.environ, TAG: "reload"}, check=True
    )
    started.wait_for_log("Reloading config", 10, since=since)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_units_are_as_systemd_wants_them(tmp_path: Path) -> None:
    unit = (CONFIG / "mqttasgi.service").read_text()
    start = "ExecStart=/srv/mysite/venv/bin/mqttasgi "
    assert unit.count(start) == 1
    debian = Path("/lib/systemd/system/mosquitto.service").read_text()
    drop_in = (CONFIG / "mosquitto.service.d-mqttasgi.conf").read_text()
    # systemd-analyze wants the program to be there.
    for name, text in {
        "mqttasgi.service": unit.replace(start, "ExecStart=/bin/true "),
        "mosquitto.service": debian + drop_in,
    }.items():
        file = tmp_path / name
        file.write_text(text)
        verified = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file],
            capture_output=True,
            text=True,
        )
        assert name not in verified.stderr, verified.stderr
        security = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=35", file],
            capture_output=True,
            text=True,
        )
        assert security.returncode == 0, f"more exposed than 3.5 of 10:\n{security.stdout}{security.stderr}"


def start_service(
    broker: BrokerFactory, machine: Machine, settings: Settings, files: Mapping[str, Path]
) -> Broker:
    """Start the command of a unit as it confines it, and return when it has said that it is ready."""
    with Notified() as notified:
        started = broker(
            plugin=None,
            port=machine.port,
            command=command(
                settings,
                settings["ExecStart"][-1],
                files=files,
                keep=TAG,
                environment={"NOTIFY_SOCKET": notified.address},
            ),
        )
        said, pid = notified.wait(20 * PATIENCE)
        assert said.strip() == "READY=1"
        assert pid == started.pid, "NotifyAccess=main"
    return started


@needs_root
def test_the_service(broker: BrokerFactory, tmp_path: Path) -> None:
    """Its command starts the broker as the unit confines it, says when it is ready, reloads, and keeps messages."""
    state = "/var/lib/mqttasgi"
    machine = Machine(tmp_path / "machine", state)
    text = (CONFIG / "mqttasgi.service").read_text()
    assert text.count("\nUser=mqttasgi\n") == 1
    settings = read_unit(text.replace("\nUser=mqttasgi\n", "\nUser=mosquitto\n"))
    assert settings["Type"] == ["notify"]
    assert settings["StateDirectory"] == ["mqttasgi"]
    started = start_service(broker, machine, settings, machine.files)
    client = started.client()
    client.subscribe("out/#")
    client.publish("in/kept", "1", qos=1, retain=True)
    check_report(json.loads(client.wait_for("out/report").payload), state, "0" * 16)
    reload_by(settings, started, machine.files)
    started.restart()
    assert (machine.state / "mosquitto.db").exists()
    client = started.client()
    client.subscribe("out/#")
    client.publish("in/again", "1", qos=1)
    assert json.loads(client.wait_for("out/report").payload)["rows"] > 0
    client.subscribe("in/kept")
    assert client.wait_for("in/kept").retain


@needs_root
def test_debians_service(broker: BrokerFactory, tmp_path: Path) -> None:
    """Debian's own unit with the drop-in, and mosquitto.conf in /etc/mosquitto/conf.d as its comment says."""
    state = "/var/lib/mosquitto"
    machine = Machine(tmp_path / "machine", state)
    log, etc, run = (tmp_path / name for name in ("log", "etc", "run"))
    for folder in (log, run, etc, etc / "conf.d"):
        folder.mkdir()
    (etc / "mosquitto.conf").write_text(
        "pid_file /run/mosquitto/mosquitto.pid\npersistence true\npersistence_location /var/lib/mosquitto/\n"
        "log_dest file /var/log/mosquitto/mosquitto.log\nlog_dest stderr\ninclude_dir /etc/mosquitto/conf.d\n"
    )
    (etc / "conf.d" / "mqttasgi.conf").write_text(
        sample(
            "mosquitto.conf",
            {
                "listener 1883 localhost": f"listener {machine.port} localhost",
                # The tests' files are in the other of the two usual places.
                "plugin /usr/lib/mqttasgi_plugin.so": "plugin /usr/local/lib/mqttasgi_plugin.so",
                **{line: line for line in application() if not line.startswith("plugin /")},
            },
        )
    )
    settings = read_unit(
        Path("/lib/systemd/system/mosquitto.service").read_text(),
        (CONFIG / "mosquitto.service.d-mqttasgi.conf").read_text(),
    )
    files = {**machine.files, "/etc/mosquitto": etc, "/var/log": log, "/run": run}
    # Until Mosquitto 2.1 the unit starts it as root and makes folders itself.
    for name, parent in (("LogsDirectory", log), ("RuntimeDirectory", run)):
        if name in settings:
            (parent / settings[name][-1]).mkdir()
            shutil.chown(parent / settings[name][-1], settings["User"][-1])
    environment = {**os.environ, TAG: "before"}
    for line in settings.get("ExecStartPre", []):
        subprocess.run(command(settings, line, files=files, keep=TAG), env=environment, check=True)
    started = start_service(broker, machine, settings, files)
    client = started.client()
    client.subscribe("out/#")
    client.publish("in/door", "open", qos=1)
    report = json.loads(client.wait_for("out/report").payload)
    # CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID
    check_report(report, state, f"{0b11100011:016x}")
    reload_by(settings, started, files)
    assert started.stop() == 0
    assert (machine.state / "mosquitto.db").exists()
    assert (log / "mosquitto" / "mosquitto.log").read_text()
