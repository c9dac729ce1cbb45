"""Starting: what is refused and how it is said, which Python, which user, which folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import BrokerFactory
from support.broker import BrokerFailed, mosquitto_version, plugin_path, virtualenv
from support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def refused(broker: BrokerFactory, application: str | None, **arguments: Any) -> str:
    """Starts a broker that must end by itself; returns its log."""
    with pytest.raises(BrokerFailed) as failure:
        broker(application, **arguments)
    assert failure.value.status not in (None, 0)
    assert failure.value.status > 0, "it must exit, not die"
    return failure.value.log


@pytest.mark.parametrize(
    ("application", "sentence"),
    [
        ("no_such_module:application", "Cannot start the application: there is no module 'no_such_module'"),
        ("apps.wrong:nothing", "module 'apps.wrong' ("),
        ("apps.wrong:not_callable", "which is not an ASGI application"),
        ("apps.wrong:returns", "returned before its connect() had been handled"),
    ],
)
def test_an_application_that_is_not_there_ends_the_start(
    broker: BrokerFactory, application: str, sentence: str
) -> None:
    log = refused(broker, application)
    assert sentence in log
    assert f"The application {application} did not start" in log
    assert "Traceback" not in log
    assert "Opening" not in log, "no client may have been let in"


@pytest.mark.parametrize(
    ("application", "sentence", "error"),
    [
        (
            "apps.broken:application",
            "Cannot import the application apps.broken",
            "ZeroDivisionError: an import",
        ),
        ("apps.wrong:raises", "ended with an error", "LookupError: there is no lamp"),
    ],
)
def test_an_exception_ends_the_start_with_its_traceback(
    broker: BrokerFactory, application: str, sentence: str, error: str
) -> None:
    log = refused(broker, application, expect_traceback=error)
    assert sentence in log
    assert error in log
    assert "Opening" not in log


def test_a_connect_that_does_not_return_ends_the_start(broker: BrokerFactory) -> None:
    log = refused(broker, "apps.wrong:hangs", options={"startup_timeout": 1})
    assert "was not ready within startup_timeout (1 s)" in log
    assert "Opening" not in log


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prot": 1884}, "option prot: unknown, did you mean port?"),
        ({"port": 70000}, "70000"),
        ({"queue_size": "many"}, "queue_size"),
        ({"transport": "carrier-pigeon"}, "transport"),
        ({"virtualenv": "/nonexistent/venv"}, "/nonexistent/venv"),
    ],
)
def test_wrong_options_end_the_start_in_one_line(
    broker: BrokerFactory, options: dict[str, object], sentence: str
) -> None:
    log = refused(broker, "apps.echo:application", options=options)
    assert sentence in log
    assert log.count("mqttasgi: ") == 1


def test_a_broker_that_only_checks_ends_before_it_listens(broker: BrokerFactory) -> None:
    log = refused(broker, "apps.speaks:application", options={"check": True})
    assert (
        "Check passed: the options are right and the application apps.speaks:application can be imported"
        in log
    )
    assert "apps: last" not in log, "no consumer may have been started"
    assert "Opening" not in log
    log = refused(broker, "apps.broken:application", options={"check": True}, expect_traceback="an import")
    assert "Check passed" not in log


def test_the_application_option_is_required(broker: BrokerFactory) -> None:
    assert "application" in refused(broker, None)


def test_the_env_file_is_the_applications_too(broker: BrokerFactory, tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text('export MQTTASGI_APPLICATION="apps.echo:application" # the echo\nTEST_FILTERS=from/+\n')
    started = broker(None, options={"env_file": file})
    client = started.client()
    client.subscribe("out/#")
    client.publish("from/file", b"1")
    assert client.wait_for("out/file").payload == b"1"


def test_the_environment_comes_before_the_env_file(broker: BrokerFactory, tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    file.write_text("MQTTASGI_APPLICATION=apps.broken:application\n")
    broker(None, options={"env_file": file}, environment={"MQTTASGI_APPLICATION": "apps.echo:application"})


@pytest.mark.parametrize(("verbosity", "levels"), [(0, "W"), (1, "WI"), (2, "WID")])
def test_verbosity(broker: BrokerFactory, verbosity: int, levels: str) -> None:
    started = broker("apps.speaks:application", options={"verbosity": verbosity})
    started.wait_for_log("mqttasgi: apps: last")
    said = "".join(level for level in "WID" if f"mqttasgi: apps: {level}" in started.log())
    assert said == levels


def test_a_long_log_line_is_written_whole(broker: BrokerFactory) -> None:
    started = broker("apps.speaks:application")
    started.wait_for_log("mqttasgi: apps: last")
    assert started.log().count("ü") == 2000


def test_a_virtual_environment_elsewhere_with_a_space_in_its_name(
    broker: BrokerFactory, tmp_path: Path
) -> None:
    """Its packages are found, its Python is sys.executable, and another Python's is refused."""
    folder = tmp_path / "my environment"
    subprocess.run([embedded_python(), "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    site = next(folder.glob("lib/python3.*/site-packages"))
    (site / "only_there.py").write_text(
        "import sys\n"
        "async def application(scope, receive, send):\n"
        "    print('prefix', sys.prefix, 'executable', sys.executable, flush=True)\n"
        "    while (await receive())['type'] != 'mqtt.disconnect': pass\n"
    )
    started = broker("only_there:application", options={"virtualenv": folder})
    started.wait_for_log(f"prefix {folder} executable {folder}/bin/python3")


def test_a_virtual_environment_of_another_python_is_refused(broker: BrokerFactory, tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python3").symlink_to(sys.executable)
    (folder / "lib" / "python3.1" / "site-packages").mkdir(parents=True)
    log = refused(broker, "apps.echo:application", options={"virtualenv": folder})
    assert "is not for Python 3." in log
    assert "-m venv FOLDER" in log


def test_from_a_folder_with_a_space_in_its_name(broker: BrokerFactory, tmp_path: Path) -> None:
    folder = copy_of_everything(tmp_path / "my broker")
    started = broker(
        "apps.echo:application",
        plugin=folder / "mqttasgi_plugin.so",
        python_path=[folder / "applications"],
    )
    client = started.client()
    client.subscribe("out/#")
    client.publish("in/x", b"1")
    assert client.wait_for("out/x").payload == b"1"


def test_from_inside_the_package(broker: BrokerFactory, tmp_path: Path) -> None:
    """Where pip puts it: what else is in the environment hides no module of Python's own."""
    folder = copy_of_everything(tmp_path / "environment")
    packages = folder / "mqttasgi"
    plugin = shutil.move(folder / "mqttasgi_plugin.so", packages / "mqttasgi")
    (packages / "asyncio.py").write_text("raise ImportError('not this one')\n")
    started = broker("apps.echo:application", plugin=Path(plugin), python_path=[folder / "applications"])
    client = started.client()
    client.subscribe("out/#")
    client.publish("in/x", b"1")
    assert client.wait_for("out/x").payload == b"1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_root_the_broker_runs_as_user_mosquitto(broker: BrokerFactory, public_folder: Path) -> None:
    folder = copy_of_everything(public_folder)
    started = broker(
        "apps.echo:application",
        plugin=folder / "mqttasgi_plugin.so",
        python_path=[folder / "applications"],
        options={"virtualenv": readable_virtualenv(public_folder)},
        user="mosquitto",
    )
    assert Path(f"/proc/{started.pid}").stat().st_uid != 0
    client = started.client()
    client.subscribe("out/#")
    client.publish("in/x", b"1")
    assert client.wait_for("out/x").payload == b"1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_user_mosquitto_may_not_read_is_named(
    broker: BrokerFactory, public_folder: Path
) -> None:
    folder = copy_of_everything(public_folder)
    (folder / "applications").chmod(0o700)
    log = refused(
        broker,
        "apps.echo:application",
        plugin=folder / "mqttasgi_plugin.so",
        python_path=[folder / "applications"],
        options={"virtualenv": None},
        user="mosquitto",
    )
    assert str(folder / "applications") in log
    assert "mosquitto" in log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_database_that_user_mosquitto_may_not_write_is_named(
    broker: BrokerFactory, public_folder: Path
) -> None:
    """At start; and when a message comes, before the traceback."""
    folder = copy_of_everything(public_folder)
    environment = readable_virtualenv(public_folder)
    data = folder / "data"
    data.mkdir()
    file = data / "db.sqlite3"
    variables = {"TEST_DATABASE": str(file), "DJANGO_SETTINGS_MODULE": "apps.django_settings"}
    subprocess.run(
        [environment / "bin" / "python3", "-m", "django", "migrate", "--verbosity", "0"],
        check=True,
        timeout=60,
        env={**os.environ, **variables, "PYTHONPATH": str(folder / "applications")},
    )
    started = broker(
        "apps.orm:application",
        plugin=folder / "mqttasgi_plugin.so",
        python_path=[folder / "applications"],
        options={"virtualenv": environment},
        environment=variables,
        user="mosquitto",
        expect_traceback="in acreate",
    )
    sentence = (
        rf"The SQLite database {file} \(DATABASES\['default'\]\) cannot be written: user mosquitto must be able to "
        rf"write both the file and its folder, .*: sudo chown mosquitto {data} {file}"
    )
    started.wait_for_log(sentence)
    since = len(started.log())
    started.client().publish("group/async", "a", qos=1)
    started.wait_for_log(f"handling a message on topic 'group/async': {sentence}", since=since)


def test_two_plugin_lines_are_refused(broker: BrokerFactory) -> None:
    """per_listener_settings calls the plugin once for each listener; there is one Python."""
    line = [f"plugin {plugin_path()}", "plugin_opt_application apps.plain:application"]
    line += [f"plugin_opt_python_path {Path(__file__).parent}"]
    log = refused(broker, "apps.plain:application", lines=line)
    assert "Python already runs in this broker" in log


def listener_specific(port: int, *, plugin_first: bool) -> str:
    """A configuration where each listener has its own settings."""
    plugin = [f"plugin {plugin_path()}", "plugin_opt_application apps.echo:application"]
    plugin += [f"plugin_opt_python_path {Path(__file__).parent}", f"plugin_opt_port {port}"]
    plugin += [f"plugin_opt_virtualenv {virtualenv()}"] if virtualenv() else []
    listener = [f"listener {port} 127.0.0.1", "allow_anonymous true"]
    lines = ["log_dest stderr", "log_type all", "log_timestamp false", "per_listener_settings true"]
    lines += ["user root"] if os.geteuid() == 0 else []
    return "\n".join(lines + (plugin + listener if plugin_first else listener + plugin)) + "\n"


@pytest.mark.skipif(
    mosquitto_version() >= (2, 0, 15), reason="this Mosquitto calls plugins of a listener, too"
)
@pytest.mark.parametrize("plugin_first", [True, False])
def test_settings_for_each_listener_are_refused_where_plugins_are_not_called(
    broker: BrokerFactory, plugin_first: bool
) -> None:
    port = free_port()
    log = refused(broker, None, port=port, configuration=listener_specific(port, plugin_first=plugin_first))
    version = ".".join(map(str, mosquitto_version()))
    assert f"per_listener_settings true: Mosquitto {version} then never calls a plugin" in log
    assert "Opening" not in log


@pytest.mark.skipif(mosquitto_version() < (2, 0, 15), reason="see the test before")
def test_settings_for_each_listener(broker: BrokerFactory) -> None:
    port = free_port()
    started = broker(None, port=port, configuration=listener_specific(port, plugin_first=False))
    client = started.client()
    client.subscribe("out/#")
    client.publish("in/x", b"1")
    assert client.wait_for("out/x").payload == b"1"
    assert started.stop() == 0


def test_settings_that_do_not_bind_consumers(broker: BrokerFactory) -> None:
    """Each is said once; what they do is what the line says."""
    started = broker(
        "apps.remote:application",
        lines=[
            "retain_available false",
            "message_size_limit 100",
            "max_packet_size 2000",
            "upgrade_outgoing_qos true",
        ],
    )
    log = started.log()
    for sentence in (
        "retain_available false: what consumers publish with retain=True",
        "message_size_limit 100 binds clients, not consumers",
        "max_packet_size 2000 binds clients, not consumers",
        "upgrade_outgoing_qos is for clients",
    ):
        assert log.count(sentence) == 1, sentence
    client = started.client()
    client.subscribe("out/#", qos=1)
    client.subscribe("did", qos=1)
    client.publish("do/0/publish", json.dumps({"topic": "out/a", "payload": "1", "retain": True}), qos=1)
    assert client.wait_for("out/a").payload == b"1"
    client.wait_for("did")
    client.publish("do/0/publish", json.dumps({"topic": "out/#", "payload": "1"}), qos=1)
    assert len(client.wait_for("did").payload) > 100
    # Nothing was kept.
    late = started.client()
    late.subscribe("out/a", qos=1)
    client.publish("out/a", b"2", qos=1)
    assert late.wait_for("out/a").payload == b"2"


@pytest.mark.skipif(
    mosquitto_version() >= (2, 1), reason="this Mosquitto has an event for clients that connect"
)
def test_a_plugin_that_may_decide_about_logins_first(broker: BrokerFactory, tmp_path: Path) -> None:
    other = tmp_path / "other.so"
    source = Path(__file__).resolve().parents[1] / "support" / "speaking_plugin.c"
    subprocess.run([os.environ.get("CC", "gcc"), "-shared", "-fPIC", "-o", other, source], check=True)
    sentence = "connect_events: another plugin is loaded before this one."
    options = {"connect_events": True}
    assert sentence in broker("apps.plain:application", options=options, lines=[f"plugin {other}"]).log()
    assert (
        sentence
        not in broker("apps.plain:application", options=options, lines_after=[f"plugin {other}"]).log()
    )


def embedded_python() -> str:
    """The Python that the plugin was built with."""
    environment = virtualenv()
    if environment is None:
        return sys.executable
    return subprocess.run(
        [environment / "bin" / "python3", "-c", "import sys; print(sys._base_executable)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def copy_of_everything(folder: Path) -> Path:
    """The plugin with its package beside it, and the applications: readable by everybody."""
    shutil.copytree(ROOT / "python" / "mqttasgi", folder / "mqttasgi" / "mqttasgi")
    shutil.copytree(Path(__file__).parent / "apps", folder / "applications" / "apps")
    shutil.copy(plugin_path(), folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.suffix == ".so" else 0o644)
    return folder


def readable_virtualenv(folder: Path) -> Path:
    """An environment that leads to the packages of this one, wherever a user may read."""
    made = folder / "venv"
    subprocess.run([embedded_python(), "-m", "venv", "--without-pip", made], check=True, timeout=60)
    environment = virtualenv()
    if environment is not None:
        source = next(environment.glob("lib/python3.*/site-packages"))
        target = next(made.glob("lib/python3.*/site-packages"))
        if all(parent.stat().st_mode & 0o5 == 0o5 for parent in [source, *source.parents]):
            (target / "elsewhere.pth").write_text(f"{source}\n")
        else:
            shutil.copytree(source, target, dirs_exist_ok=True)
        for path in [folder, *made.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return made


@pytest.fixture
def public_folder() -> Any:
    """A folder that every user may enter, unlike pytest's."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def test_a_client_of_its_own_in_connect(broker: BrokerFactory, tmp_path: Path) -> None:
    """The broker's listeners open when connect() has returned."""
    (tmp_path / "early.py").write_text(
        "import os, socket\n"
        "import apps.setup\n"
        "from mqttasgi.consumers import MqttConsumer\n"
        "class Early(MqttConsumer):\n"
        "    async def connect(self):\n"
        "        socket.create_connection(('127.0.0.1', int(os.environ['TEST_PORT'])))\n"
        "application = Early.as_asgi()\n"
    )
    port = free_port()
    made = broker(
        "early:application",
        python_path=[tmp_path, Path(__file__).parent, ROOT / "python"],
        port=port,
        environment={"TEST_PORT": str(port)},
        start=False,
        expect_traceback="ConnectionRefusedError",
    )
    with pytest.raises(BrokerFailed) as failure:
        made.start()
    assert (
        "The broker lets nobody in before the master consumer's connect() has returned" in failure.value.log
    )


def test_what_runs_is_said_in_one_line(broker: BrokerFactory) -> None:
    started = broker("apps.echo:application", options={"verbosity": 0})
    started.wait_for_log("apps.echo:application runs in Mosquitto")
    version = ".".join(map(str, mosquitto_version()))
    lines = [line for line in started.log().splitlines() if "runs in Mosquitto" in line]
    assert len(lines) == 1
    assert re.fullmatch(
        rf"mqttasgi: apps\.echo:application runs in Mosquitto {re.escape(version)}\S*, session up: "
        r"1 consumer, 1 filter\. mqttasgi [\d.]+, Python [\d.]+\S*, Django [\d.]+\S*, Channels [\d.]+\S*\.",
        lines[0],
    )


def test_what_runs_is_said_without_a_session(broker: BrokerFactory) -> None:
    off = broker("apps.plain:application", options={"session": "off"})
    off.wait_for_log("runs in Mosquitto .*, without a session: 1 consumer")
    down = broker("apps.plain:application", options={"port": free_port()})
    down.wait_for_log("runs in Mosquitto .*, session down: 1 consumer")
    assert down.log().index("No session with the listener") < down.log().index("session down")


@pytest.mark.parametrize("name, theirs", [("mqttasgi", "2.0.0"), ("mqttasgi-broker", "0.0.1")])
def test_another_mqttasgi_in_the_environment(
    broker: BrokerFactory, tmp_path: Path, name: str, theirs: str
) -> None:
    """As after `pip install mqttasgi`, which takes what PyPI has of this name, or before an upgrade."""
    site = tmp_path / "site"
    (site / "mqttasgi").mkdir(parents=True)
    (site / "mqttasgi" / "__init__.py").write_text("raise ImportError('the wrong one')\n")
    (site / "mqttasgi" / ("server.py" if theirs == "2.0.0" else "_bridge.py")).write_text("")
    information = site / f"{name.replace('-', '_')}-{theirs}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {theirs}\n")
    started = broker("apps.echo:application", python_path=[site, Path(__file__).parent])
    client = started.client()
    client.subscribe("out/#")
    client.publish("in/x", b"1")
    assert client.wait_for("out/x").payload == b"1"
    assert started.log().count(f"{site} has {name} {theirs}") == 1


def test_a_package_of_another_version(broker: BrokerFactory, public_folder: Path) -> None:
    folder = copy_of_everything(public_folder)
    package = folder / "mqttasgi" / "mqttasgi" / "__init__.py"
    package.write_text('__version__ = "0.0.1"\n')
    started = broker(
        "apps.echo:application",
        plugin=folder / "mqttasgi_plugin.so",
        python_path=[folder / "applications"],
    )
    log = started.log()
    assert log.count("is version 0.0.1: install both from one source") == 1
