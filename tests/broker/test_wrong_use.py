"""Each mistake ends the command in one sentence, which names what is wrong and says what to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mqttasgi.command import cli, launch
from support.broker import clean_environment, mosquitto_program, plugin_path
from support.certificates import Authority
from support.command import PYTHON_PATH, as_root, run_command
from support.ports import free_port

APP = "apps.echo:application"
NO_APPLICATION = (
    "no application: name it as the last argument, package.module:name, or in MQTTASGI_APPLICATION"
)
NOT_FORM = "must look like package.module:name"
BOTH = "give both (-C and -K)"
TLS_NEEDS = (
    "a listener at localhost with TLS needs a certificate of its own: give cert and key too (-C and -K)"
)


class Wrong(NamedTuple):
    """One mistake: arguments, environment and `.env` file, and what the command says after `mqttasgi: `.

    `FOLDER` stands for the working directory, `TAKEN` for a port that is taken, and `HOLDER` for who has it.
    """

    words: str
    says: str
    environment: dict[str, str] = {}  # noqa: RUF012
    dotenv: str | bytes = ""


TABLE = [
    # The application.
    Wrong("", NO_APPLICATION),
    Wrong("", NO_APPLICATION, {"MQTTASGI_APPLICATION": ""}, "MQTTASGI_APPLICATION=\n"),
    Wrong("mysite.asgi", f'argument APPLICATION: "mysite.asgi" {NOT_FORM}, such as mysite.asgi:application'),
    Wrong("mysite/asgi.py", f'argument APPLICATION: "mysite/asgi.py" {NOT_FORM}, such as mysite.asgi:application'),
    Wrong("site.asgi.app", f'argument APPLICATION: "site.asgi.app" {NOT_FORM}, such as site.asgi:app'),
    Wrong("mysite.asgi:", f'argument APPLICATION: "mysite.asgi:" {NOT_FORM}'),
    Wrong("my-site:app", f'argument APPLICATION: "my-site:app" {NOT_FORM}'),
    Wrong(
        "",
        f'environment variable MQTTASGI_APPLICATION: "mysite" {NOT_FORM}, such as mysite:application',
        {"MQTTASGI_APPLICATION": "mysite"},
    ),
    Wrong(f"{APP} 1883", "1883 is one word too many after the application"),
    # The numbers of a broker that runs.
    Wrong("-p 1884 status",
          'argument APPLICATION: "status" is no application; it comes first, as in: mqttasgi status --watch'),
    Wrong(f"status {APP}", f"{APP} is one word too many"),
    Wrong("status --wath", "unknown argument --wath, did you mean --watch?"),
    Wrong("status -r 3", "unknown argument -r; --help lists all"),
    Wrong("status -p x", 'argument -p/--port: "x" is not a number from 1 to 65535'),
    Wrong("status", 'FOLDER/.env, MQTT_PORT: "x" is not a number from 1 to 65535', {}, "MQTT_PORT=x\n"),
    Wrong("status -P secret", "argument -P/--password: there is no username that it belongs to; give one too (-U)"),
    Wrong("status -C FOLDER/notes.txt",
          "argument -C/--cert: a certificate and its key belong together, and key is missing; give both (-C and -K)"),
    Wrong("status -S FOLDER/notes.txt", "argument -S/--cacert: FOLDER/notes.txt is not a CA's certificate in PEM form"),
    # Arguments that are not there.
    Wrong(f"--prot 1883 {APP}", "unknown argument --prot, did you mean --port?"),
    Wrong(f"--clean-session false {APP}", "unknown argument --clean-session, did you mean --cleansession?"),
    Wrong(f"--lights {APP}", "unknown argument --lights; --help lists all"),
    Wrong(f"-x {APP}", "unknown argument -x; --help lists all"),
    Wrong(f"{APP} -p", "argument -p/--port: has no value; one that begins with - is written --port=VALUE"),
    Wrong(
        f"-P -secret {APP}",
        "argument -P/--password: has no value; one that begins with - is written --password=VALUE",
    ),
    Wrong(f"--check --reload {APP}", "argument --reload: not allowed with argument --check"),
    # Numbers, words and truths, from each place.
    Wrong(f"-p mqtt {APP}", 'argument -p/--port: "mqtt" is not a number from 1 to 65535'),
    Wrong(f"-p 65536 {APP}", 'argument -p/--port: "65536" is not a number from 1 to 65535'),
    Wrong(f"-p 0 {APP}", "argument -p/--port: 0 is no port; a port is a number from 1 to 65535"),
    Wrong(f"-p TAKEN {APP}",
          "argument -p/--port: TAKEN at localhost is taken by HOLDER. This command is a broker "
          "itself: stop the other, take another port (-p), or mirror the other (--bridge true)"),
    Wrong(APP, 'environment variable MQTT_PORT: "1883x" is not a number from 1 to 65535', {"MQTT_PORT": "1883x"}),
    Wrong(APP, 'FOLDER/.env, MQTT_PORT: "1,883" is not a number from 1 to 65535', {}, "MQTT_PORT=1,883\n"),
    Wrong(f"-v 3 {APP}", 'argument -v/--verbosity: "3" is not a number from 0 to 2'),
    Wrong(APP, 'environment variable VERBOSITY: "debug" is not a number from 0 to 2', {"VERBOSITY": "debug"}),
    Wrong(f"-r -1 {APP}", 'argument -r/--retries: "-1" is not a number from 0 to 1000000'),
    Wrong(APP, 'FOLDER/.env, MQTT_RETRIES: "1.5" is not a number from 0 to 1000000', {}, "MQTT_RETRIES=1.5\n"),
    Wrong(f"-c maybe {APP}", 'argument -c/--cleansession: "maybe" is neither true nor false'),
    Wrong(APP, 'environment variable MQTT_CLEAN: "2" is neither true nor false', {"MQTT_CLEAN": "2"}),
    Wrong(f"-SSL tls {APP}", 'argument -SSL/--use-ssl: "tls" is neither true nor false'),
    Wrong(f"-T udp {APP}", 'argument -T/--transport: "udp" is neither tcp nor websockets'),
    Wrong(APP, 'FOLDER/.env, MQTT_TRANSPORT: "ws" is neither tcp nor websockets', {}, "MQTT_TRANSPORT=ws\n"),
    Wrong(f"--bridge perhaps {APP}", 'argument --bridge: "perhaps" is neither true nor false'),
    # The host.
    Wrong(f"--host= {APP}", "argument -H/--host: has no value"),
    Wrong(
        f"-H no.such.invalid {APP}",
        'argument -H/--host: there is no host "no.such.invalid"; name localhost, an address of this machine, or '
        "another machine",
    ),
    Wrong(
        f"-H localhost:1884 {APP}",
        'argument -H/--host: there is no host "localhost:1884"; the port is an option of its own: -H localhost -p '
        "1884",
    ),
    Wrong(
        f"-H mqtt://localhost {APP}",
        'argument -H/--host: "mqtt://localhost" is no host; write its name alone, and the port as its own option (-p)',
    ),
    Wrong(
        f"-H run/broker.sock {APP}",
        'argument -H/--host: "run/broker.sock" is neither a host\'s name or address nor a unix socket\'s path, which '
        "begins with /",
    ),
    Wrong(
        f"-H /nowhere/broker.sock {APP}",
        "argument -H/--host: the folder of /nowhere/broker.sock does not exist; make it first",
    ),
    Wrong(f"-H FOLDER/notes.txt {APP}",
          "argument -H/--host: FOLDER/notes.txt is there already and is no socket; name a path where nothing is"),
    Wrong(
        f"-H /tmp/mqttasgi.sock -T websockets {APP}",
        "argument -T/--transport: a unix socket (/tmp/mqttasgi.sock) has neither TLS nor websockets; leave it out",
    ),
    Wrong(
        f"-H /tmp/{'x' * 103} {APP}",
        f'argument -H/--host: "/tmp/{"x" * 72}..." is too long for a unix socket\'s path',
    ),
    Wrong(
        APP,
        'environment variable MQTT_HOSTNAME: "/tmp/a b" has a blank, which mosquitto.conf has no place for in an '
        "address",
        {"MQTT_HOSTNAME": "/tmp/a b"},
    ),
    # The login.
    Wrong(
        f"-U ann {APP}",
        'argument -U/--username: "ann" has no password, so everybody could be that user; set one (-P, MQTT_PASSWORD '
        "or the .env file)",
    ),
    Wrong(f"-P secret {APP}",
          "argument -P/--password: there is no username that it belongs to; give one too (-U)"),
    Wrong(
        f"-U ann:bob -P secret {APP}",
        'argument -U/--username: "ann:bob" has a colon or begins with #, which a password file cannot hold',
    ),
    Wrong(
        f"-U ann {APP}",
        "environment variable MQTT_PASSWORD: begins or ends with a blank, which mosquitto.conf cannot hold",
        {"MQTT_PASSWORD": "secret "},
    ),
    Wrong(
        APP,
        "FOLDER/.env, MQTT_PASSWORD: has a control character in it, which mosquitto.conf cannot hold",
        {},
        'MQTT_USERNAME=ann\nMQTT_PASSWORD="sec\\nret"\n',
    ),
    Wrong(
        APP,
        'environment variable MQTT_CLIENT_ID: "a\\tb" has a control character in it, which mosquitto.conf cannot hold',
        {"MQTT_CLIENT_ID": "a\tb"},
    ),
    # Certificates.
    Wrong(f"-C nowhere.pem -K key.pem {APP}",
          'argument -C/--cert: "nowhere.pem" cannot be read: No such file or directory'),
    Wrong(f"-C cert.pem -K . {APP}", 'argument -K/--key: "." is not a file'),
    Wrong(f"-C cert.pem {APP}",
          f"argument -C/--cert: a certificate and its key belong together, and key is missing; {BOTH}"),
    Wrong(APP, f"environment variable TLS_KEY: a certificate and its key belong together, and cert is missing; {BOTH}",
          {"TLS_KEY": "key.pem"}),
    Wrong(f"-S cert.pem {APP}", f"argument -S/--cacert: {TLS_NEEDS}"),
    Wrong(APP, f"FOLDER/.env, MQTT_USE_SSL: {TLS_NEEDS}", {}, "MQTT_USE_SSL=yes\n"),
    Wrong(f"-C cert.pem -K other.pem {APP}",
          "argument -K/--key: FOLDER/other.pem is not the key of FOLDER/cert.pem"),
    Wrong(
        f"-C key.pem -K cert.pem {APP}",
        "argument -C/--cert: FOLDER/key.pem and FOLDER/cert.pem are not a certificate and its key; give both in PEM "
        "form",
    ),
    Wrong(f"-C cert.pem -K key.pem -S key.pem {APP}",
          "argument -S/--cacert: FOLDER/key.pem is not a CA's certificate in PEM form"),
    Wrong(f"-C cert.pem -K locked.pem {APP}",
          "argument -K/--key: FOLDER/locked.pem is locked with a passphrase, which nobody could type; unlock it"),
    # Files and folders.
    Wrong(f"--persistence notes.txt {APP}", 'argument --persistence: "notes.txt" is not a folder'),
    Wrong(f"--persistence notes.txt/kept {APP}",
          "argument --persistence: FOLDER/notes.txt/kept cannot be made: Not a directory"),
    Wrong(f"--include nowhere.conf {APP}",
          'argument --include: "nowhere.conf" cannot be read: No such file or directory'),
    Wrong(f"--include typo.conf {APP}",
          'argument --include: FOLDER/typo.conf line 3: Unknown configuration variable "max_inflight_mesages", says '
          "Mosquitto"),
    Wrong(f"--include latin.conf {APP}",
          "argument --include: FOLDER/latin.conf is not text in UTF-8; save it as that"),
    Wrong(APP, "FOLDER/nowhere.env cannot be read: No such file or directory", {"MQTTASGI_ENV_FILE": "nowhere.env"}),
    Wrong(f"-o env_file=missing.env {APP}", "FOLDER/missing.env cannot be read: No such file or directory"),
    Wrong(APP, "FOLDER/.env is not text in UTF-8; save it as that", {}, b"NAME=J\xfcrgen\n"),
    # Options of the plugin.
    Wrong(f"-o spin {APP}", 'argument -o/--option: "spin" must look like key=value, such as spin=0'),
    Wrong(f"-o spin= {APP}", 'argument -o/--option: "spin=" must look like key=value, such as spin=0'),
    Wrong(f"-o spin=1 -o spin=2 {APP}", "argument -o/--option: spin is given twice"),
    Wrong(f"-o port=1884 {APP}", "argument -o/--option: port is set with --port"),
    Wrong(f"-o client_id=hub {APP}", "argument -o/--option: client_id is set with --id"),
    Wrong(f"-o application=a:b {APP}", "argument -o/--option: application is set with the last argument"),
    Wrong(f"-o check=true {APP}", "argument -o/--option: check is done with --check"),
    # What is installed.
    Wrong(APP, "environment variable MQTTASGI_PLUGIN: there is no file /nowhere.so; name mqttasgi_plugin.so",
          {"MQTTASGI_PLUGIN": "/nowhere.so"}),
    Wrong(APP, "FOLDER/notes.txt is no plugin for Mosquitto; name the file mqttasgi_plugin.so",
          {"MQTTASGI_PLUGIN": "notes.txt"}),
    Wrong(APP, "environment variable MQTTASGI_MOSQUITTO: mosquito is no program; name the file mosquitto, or unset it",
          {"MQTTASGI_MOSQUITTO": "mosquito"}),
    Wrong(f"--topic home/# --topic sensor# {APP}",
          'argument --topic: "sensor#" is not a topic filter: + and # stand for whole levels, and # comes last'),
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong-use")
    authority = Authority(folder)
    for name in ("cert", "other"):
        made = authority.issue(name)
        made.cert.rename(folder / f"{name}-only.pem")
        made.key.rename(folder / f"{name}.key.pem")
    (folder / "cert-only.pem").rename(folder / "cert.pem")
    (folder / "cert.key.pem").rename(folder / "key.pem")
    (folder / "other.key.pem").rename(folder / "other.pem")
    authority.lock(folder / "key.pem", folder / "locked.pem")
    (folder / "notes.txt").write_text("not to be lost\n")
    (folder / "typo.conf").write_text("# A comment.\n\nmax_inflight_mesages 20\nmax_queued_messages 100\n")
    (folder / "latin.conf").write_bytes(b"# f\xfcr\n")
    return folder


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs in this process, which must not become a broker."""

    def start(*arguments: Any) -> None:
        raise AssertionError(f"the broker would have been started: {arguments}")

    monkeypatch.setattr(os, "execv", start)
    monkeypatch.setattr(launch.PrivateFolder, "remove_at_end", lambda folder: None)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    "wrong", TABLE, ids=lambda wrong: wrong.words.replace(APP, "").strip() or wrong.says[:40]
)
def test_one_sentence(
    wrong: Wrong, files: Path, taken: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    if "-p" not in wrong.words.split() and "MQTT_PORT" not in (
        *wrong.environment,
        str(wrong.dotenv).partition("=")[0],
    ):
        monkeypatch.setenv("MQTT_PORT", str(free_port()))
    for name, value in {
        "MQTTASGI_PLUGIN": str(plugin_path()),
        "MQTTASGI_MOSQUITTO": mosquitto_program(),
        **wrong.environment,
    }.items():
        monkeypatch.setenv(name, value)
    dotenv = wrong.dotenv if isinstance(wrong.dotenv, bytes) else wrong.dotenv.encode()
    (files / ".env").write_bytes(dotenv)

    def filled(text: str) -> str:
        return text.replace("FOLDER", str(files)).replace("TAKEN", str(taken)).replace("HOLDER", holder)

    holder = f"{Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"
    words = filled(wrong.words).split()
    # What would start a broker.
    status = cli.main(words if words[:1] == ["status"] else [*as_root(), *words])
    said = capfd.readouterr()
    # Mosquitto 2.1 quotes otherwise; and root has been given a --user above.
    text = said.err.replace("'max_inflight_mesages'", '"max_inflight_mesages"')
    assert text.replace("; --user is who the broker becomes, not who logs in", "") == (
        f"mqttasgi: {filled(wrong.says)}{'' if wrong.says.endswith('?') else '.'}\n"
    )
    assert (status, said.out) == (2, "")
    assert (files / "notes.txt").read_text() == "not to be lost\n"


@pytest.mark.usefixtures("nothing_starts")
def test_only_root_can_become_another_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["--user", "ann", APP]) == 2
    assert capsys.readouterr().err == (
        "mqttasgi: argument --user: only root can become another user; start the command as that user instead. "
        "The name that clients log in with is --username (-U).\n"
    )


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--user", "nobody-at-all", "-p", str(free_port()), APP]) == 2
    assert capsys.readouterr().err == (
        'mqttasgi: argument --user: there is no user "nobody-at-all" on this machine.\n'
    )


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    """As the system hands them over; a line of mosquitto.conf cannot hold them."""
    done = run_command("-i", os.fsdecode(b"\xff"), APP, folder=tmp_path)
    assert done.stderr.startswith("mqttasgi: argument -i/--id: ")
    assert done.stderr.endswith(" is not text in UTF-8, which mosquitto.conf must be.\n")
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    again = run_command(APP, folder=folder)
    assert again.stderr == (
        "mqttasgi: the name of the working directory is not text in UTF-8, which mosquitto.conf must be.\n"
    )
    assert (done.returncode, again.returncode) == (2, 2)


# ---- what the plugin or Mosquitto finds wrong: they need a real start ----

WHOLE = [
    Wrong(f"-o spinn=1 {APP}", "option spinn: unknown, did you mean spin?"),
    Wrong(f"-o lights=on {APP}", "option lights: unknown"),
    Wrong(f"-o spin=long {APP}", 'option spin: "long" is not a number from 0 to 1000'),
    Wrong(f"-o loop=trio {APP}", 'option loop: "trio" is not one of auto, asyncio, uvloop'),
    Wrong(f"-o queue_bytes=1X {APP}", 'option queue_bytes: "1X" is not a number of bytes from 1024 to'),
    Wrong(f"-o startup_timeout=soon {APP}", 'option startup_timeout: "soon" is not a number of seconds from 0.1 to'),
    Wrong(f"-o session=off -o message_expiry=true {APP}",
          "option message_expiry: needs the session, which option session turns off"),
    Wrong(f"-o virtualenv=nowhere {APP}", 'option virtualenv: "FOLDER/nowhere" cannot be read'),
    Wrong(f"-o python_path=nowhere {APP}", 'option python_path: "FOLDER/nowhere" cannot be read'),
    Wrong(APP, 'environment variable MQTTASGI_QUEUE_SIZE: "many" is not a number from 1 to',
          {"MQTTASGI_QUEUE_SIZE": "many"}),
    Wrong(APP, 'FOLDER/.env line 2, MQTTASGI_LOOP: "fast" is not one of auto, asyncio, uvloop', {},
          "OTHER=1\nMQTTASGI_LOOP=fast\n"),
    Wrong(APP, "FOLDER/.env line 2: ", {}, 'GOOD=1\nBAD="never closed\n'),
    Wrong("nowhere:application", "there is no module 'nowhere' to import 'nowhere:application' from; python_path must"),
    Wrong("apps.wrong:nothing", "has no 'nothing'"),
    Wrong("apps.wrong:not_callable", "which is not an ASGI application"),
    Wrong("apps.mistakes:NotAsync", "receive() ("),
    Wrong("apps.mistakes_at_import:application", " is not async; write `async def receive`."),
    Wrong("apps.mistakes:class_in_router",
          "apps.mistakes.Good is a class and no ASGI application; write Good.as_asgi()."),
    Wrong("apps.mistakes:without_slot", "'apps.mistakes:without_slot' has no \"mqtt\" among its protocols ('http')"),
    Wrong("apps.mistakes:django", "is Django's own application, which answers HTTP alone; put it beside"),
    Wrong(f"--include same.conf {APP}", "Address already in use"),
]  # fmt: skip


@pytest.mark.parametrize(
    "wrong", WHOLE, ids=lambda wrong: wrong.words.replace(APP, "").strip() or wrong.says[:40]
)
def test_the_broker_ends_with_one_sentence(wrong: Wrong, taken: int, tmp_path: Path) -> None:
    (tmp_path / "same.conf").write_text(f"listener {taken} 127.0.0.1\n")
    (tmp_path / ".env").write_text(str(wrong.dotenv))
    (tmp_path / "temporary").mkdir()
    environment = {"MQTTASGI_PYTHON_PATH": PYTHON_PATH, **wrong.environment}
    if "python_path" in wrong.words:
        del environment["MQTTASGI_PYTHON_PATH"]
    done = run_command(
        *as_root(), "-p", str(free_port()), *wrong.words.split(), folder=tmp_path, **environment
    )
    assert done.returncode not in (0, 2)
    said = [line.partition(": ")[2] for line in done.stderr.splitlines()]
    assert sum(wrong.says.replace("FOLDER", str(tmp_path)) in line for line in said) == 1, done.stderr
    assert "Traceback" not in done.stderr
