"""What the command makes of `--connect` and what goes with it."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from mqttasgi.cluster.settings import FOR_EVER, Settings
from mqttasgi.command import connect, options
from mqttasgi.command.command_line import parser
from mqttasgi.command.values import UsageError
from support import option_table

APP = "mysite.asgi:application"


def settings(folder: Path, *words: str, environment: dict[str, str] | None = None) -> Settings:
    """Return what the first process is told."""
    environment = environment or {}
    found = options.resolve(parser("mqttasgi").parse_args([*words, APP]), environment, folder)
    return connect.process_settings(found, environment, folder)


def test_what_a_url_leaves_out_comes_from_mqttasgis_parameters(tmp_path: Path) -> None:
    environment = {
        "MQTT_HOSTNAME": "hub",
        "MQTT_PORT": "1884",
        "MQTT_USERNAME": "ann",
        "MQTT_PASSWORD": "secret",
    }
    made = settings(
        tmp_path, "--connect", "mqtt://", "-T", "websockets", "-SSL", "true", environment=environment
    )
    assert str(made.addresses[0]) == "wss://hub:1884/mqtt"
    assert (made.username, made.password) == ("ann", "secret")


def test_several_addresses(tmp_path: Path) -> None:
    for words in (("--connect", "mqtt://a,mqtt://b"), ("--connect", "mqtt://a", "--connect", "mqtt://b")):
        assert [address.host for address in settings(tmp_path, *words).addresses] == ["a", "b"]


def test_a_url_wins(tmp_path: Path) -> None:
    environment = {
        "MQTT_HOSTNAME": "hub",
        "MQTT_PORT": "1884",
        "MQTT_USERNAME": "ann",
        "MQTT_PASSWORD": "secret",
    }
    made = settings(tmp_path, "--connect", "mqtt://bob:b@other:1,mqtt://third:2", environment=environment)
    assert [str(address) for address in made.addresses] == ["mqtt://bob@other:1", "mqtt://third:2"]
    assert (made.username, made.password) == ("bob", "b")
    only_user = settings(tmp_path, "--connect", "mqtt://bob@other:1", environment=environment)
    assert (only_user.username, only_user.password) == ("bob", "secret")


def test_clean_session_as_mqttasgi_has_it(tmp_path: Path) -> None:
    clean = settings(tmp_path, "--connect", "mqtt://h")
    kept = settings(tmp_path, "--connect", "mqtt://h", "-c", "false")
    named = settings(tmp_path, "--connect", "mqtt://h", "-i", "hub")
    assert (clean.ends_session, clean.session_expiry) == (True, 300)
    # Where the client id is new, there is nothing to end.
    assert (clean.clean_start, named.clean_start) == (False, True)
    assert (kept.clean_start, kept.ends_session, kept.session_expiry) == (False, False, FOR_EVER)
    # The next start finds the session that it keeps, and two at once without --id are two.
    assert kept.client_id == settings(tmp_path, "--connect", "mqtt://h", "-c", "false").client_id
    assert clean.client_id != settings(tmp_path, "--connect", "mqtt://h").client_id


def test_each_process_is_told_its_number(tmp_path: Path) -> None:
    words = (
        "--group",
        "fleet",
        "--processes",
        "2",
        "-i",
        "hub",
        "--http",
        "127.0.0.1:8000",
        "--will-topic",
        "gone/{id}",
    )
    made = settings(tmp_path, "--connect", "mqtt://h", *words)
    first, second = (connect._numbered(made, number) for number in (0, 1))
    assert [(each.process, each.client_id, each.will_topic) for each in (first, second)] == [
        (0, "hub-0", "gone/hub-0"),
        (1, "hub-1", "gone/hub-1"),
    ]
    assert (first.options["http"], second.options["http"]) == ("127.0.0.1:8000", "")
    alone = settings(tmp_path, "--connect", "mqtt://h", "-i", "hub")
    assert connect._numbered(alone, 0).client_id == "hub"


def test_the_runtime_gets_what_it_gets_inside_of_a_broker(tmp_path: Path) -> None:
    made = settings(tmp_path, "--connect", "mqtt://h")
    inside = {
        **option_table.for_python(),
        "application": APP,
        "python_path": str(tmp_path),
        "durable": "the broker",
    }
    of_all = {
        row.key: row.for_python() for row in option_table.rows() if row.key in ("queue_size", "queue_bytes")
    }
    assert made.options == {**inside, **of_all}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("queue_bytes=2k", 2048),
        ("watchdog=0.5", 0.5),
        ("overload=drop_oldest", "drop_oldest"),
        ("queue_size=7", 7),
    ],
)
def test_options_of_the_plugin(text: str, value: Any, tmp_path: Path) -> None:
    name, _, plain = text.partition("=")
    assert settings(tmp_path, "--connect", "mqtt://h", "-o", text).options[name] == value
    from_environment = settings(
        tmp_path, "--connect", "mqtt://h", environment={connect.PROCESS_OPTIONS[name].variable: plain}
    )
    assert from_environment.options[name] == value


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--processes", "2"), "2 processes without a group would each get every message; name a group"),
        (("--leader", "database"), "without a group there is nobody to lead; name one"),
        (("--will-qos", "1"), "there is no topic that it goes to; give one"),
        (("--topic", "a"), "it is about a broker here, and --connect starts none; leave it out"),
        (("-o", "spin=0"), "there is no spin with --connect, which starts no broker here; leave it out"),
        (("-o", "queue_bytes=1T"), '"1T" is not a number of bytes from 1024 to 68719476736, such as 64M'),
        (("-o", "watchdog=x"), '"x" is not a number of seconds from 0 to 3600'),
        (("-o", "loop=fast"), '"fast" '),
        (("--group", "a/b"), "is no name of a group: it may have none of / + #"),
        (("--will-topic", "a/#"), "is no topic"),
    ],
)
def test_what_makes_no_sense(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        settings(tmp_path, "--connect", "mqtt://h", *words)
    assert sentence in str(raised.value)


@pytest.fixture
def signals() -> Iterator[None]:
    """What the command blocks, for its whole life."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.usefixtures("signals")
def test_a_process_that_cannot_be_started_now_is_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No memory, or too many processes or files: that is no reason to end the others."""
    started = subprocess.Popen
    errors = [OSError(errno.EAGAIN, "try later")]

    def start(words: list[str], **arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return started([sys.executable, "-c", "raise SystemExit(1)"], **arguments)

    monkeypatch.setattr(connect.subprocess, "Popen", start)
    monkeypatch.setattr(connect, "DELAY", 0.0)
    assert connect.Processes(settings(tmp_path, "--connect", "mqtt://h"), tmp_path).run() == 1
    assert "Process 0 cannot be started (try later); it is started again in 0 s." in capfd.readouterr().err


def test_a_unix_socket_is_no_host(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a unix socket is not possible with --connect; name a host"):
        settings(tmp_path, "--connect", "mqtt://", "-H", str(tmp_path / "socket"))


def test_the_port_of_another_host_is_not_meant(tmp_path: Path) -> None:
    environment = {"MQTT_PORT": "1884"}
    for words, port in (
        (("--connect", "mqtts://h"), 8883),
        (("--connect", "mqtts://h", "-p", "1885"), 1885),
        (("--connect", "mqtts://"), 1884),
    ):
        assert settings(tmp_path, *words, environment=environment).addresses[0].port == port


# ---- paho-mqtt ----


@pytest.mark.parametrize(
    ("version", "found"),
    [("2.1.0", "is installed as 2.1.0"), ("2.3.0", "is installed as 2.3.0"), (None, "is not installed")],
)
def test_a_paho_of_another_version(
    version: str | None, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", installed)
    resolved = options.resolve(parser("mqttasgi").parse_args(["--connect", "mqtt://h", APP]), {}, tmp_path)
    with pytest.raises(UsageError, match=rf"which {found}; run pip install 'paho-mqtt>=2\.2,<2\.3'"):
        connect.run(resolved, {}, tmp_path, check=True)
