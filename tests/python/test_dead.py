"""`mqttasgi dead`, on files of dead letters as the plugin makes them."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttasgi import dead
from mqttasgi.command import cli, dead_file
from support.dead_letters import add, make, replayed


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's broker nor its time zone counts."""
    monkeypatch.setattr(dead_file, "CONFIGURATION", tmp_path / "mosquitto.conf")
    monkeypatch.delenv("MQTTASGI_DURABLE", raising=False)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "200")
    time.tzset()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An inbox, of which only the file of dead letters matters."""
    (tmp_path / "inbox.db").touch()
    return make(tmp_path / "inbox.db.dead")


class Said:
    """What the command has said, and its exit status."""

    def __init__(self, status: int, output: str, error: str) -> None:
        self.status, self.output, self.error = status, output, error

    def refusal(self, status: int = 1) -> str:
        """Return the sentence that is all that was said."""
        assert (self.status, self.output) == (status, "")
        assert self.error.startswith("mqttasgi: ")
        assert self.error.count("\n") == 1
        return self.error[len("mqttasgi: ") : -1]

    def text(self, status: int = 0) -> str:
        assert (self.status, self.error) == (status, "")
        return self.output


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str, file: Path | None = tmp_path / "inbox.db") -> Said:
        place = ["--file", str(file)] if file else []
        status = cli.main(["dead", *words, *place], project=str(tmp_path))
        return Said(status, *capsys.readouterr())

    return run


# ---- list and show ----


def test_the_list(run: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "158")
    add(file)
    add(
        file,
        consumer="worker 'cam' hub.Camera",
        topic="t" * 50,
        reason="broker ended",
        traceback="",
        replay=1,
    )
    assert run("list").text().split("\n") == [
        "ID  DIED                 CONSUMER                 TOPIC                                     TRIES  "
        "REASON                          ERROR",
        f"2   2025-11-28 12:01:01  worker 'cam' hub.Camera  {'t' * 39}…  5      broker ended, replay asked for",
        "1   2025-11-28 12:01:01  master                   home/boiler/temperature                   5      "
        "failed                          ValueError: could not conv…",
        "",
        "2 dead letters.",
        "",
    ]


def test_the_list_of_one_consumer_and_of_the_newest(run: Any, file: Path) -> None:
    for _ in range(3):
        add(file)
    add(file, consumer="worker 'a' b", topic="other")
    table = run("list", "--consumer", "master", "--limit", "2").text()
    assert [line.split()[0] for line in table.splitlines()[:3]] == ["ID", "3", "2"]
    assert "\n3 dead letters, the newest 2 shown; --limit N shows more.\n" in table
    assert "other" not in table
    assert run("list", "--consumer", "b").text() == (
        "There are no dead letters of consumer b. Others have some: master, worker 'a' b.\n"
    )
    assert json.loads(run("list", "--consumer", "b", "--json").text()) == []


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_has_died(run: Any, file: Path, exists: bool) -> None:
    if not exists:
        file.unlink()
    assert run("list").text() == "There are no dead letters.\n"
    assert run("replay", "--all").text() == "There are no dead letters.\n"
    assert run("drop", "--all", "--yes").text() == "There are no dead letters.\n"
    assert (
        run("show", "7").refusal() == "there is no dead letter 7; `mqttasgi dead list` shows which there are."
    )
    assert file.exists() == exists


def test_everything_about_one(run: Any, file: Path) -> None:
    add(
        file,
        properties=b"\x01\x01\x03\x00\x04a/\x1bb\x09\x00\x02\x00\xff\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w",
        payload="wär\x1b[1mm\n".encode().replace(b"\x1b", "\u202e".encode()),
    )
    assert run("show", "1").text() == (
        "dead letter 1\n"
        "  died       2025-11-28 12:01:01\n"
        "  reason     failed: the consumer raised an error each time\n"
        "  tries      5\n"
        "  replay     not asked for\n"
        "  consumer   master\n"
        "  topic      home/boiler/temperature\n"
        "  published  2025-11-28 12:00:00\n"
        "  QoS        1\n"
        "  retain     no\n"
        "  properties payload_format_indicator: 1\n"
        "             content_type: a/\\x1bb\n"
        "             correlation_data: 00 ff\n"
        "             user_property: k = v\n"
        "             user_property: k = w\n"
        "\n"
        "payload: 12 bytes\n"
        "\n"
        "  wär\\u202e[1mm\n"
        "\n"
        "\n"
        "traceback\n"
        "\n"
        "  Traceback (most recent call last):\n"
        '    File "/srv/home/consumers.py", line 12, in receive\n'
        "      self.warm(float(payload))\n"
        "  ValueError: could not convert string to float: 'warm'\n"
    )


def test_a_payload_that_is_not_text_or_long(run: Any, file: Path, tmp_path: Path) -> None:
    add(file, payload=b"A\x00\xff" * 1000, properties=b"\xff\x01", reason="another")
    add(file, payload="ä".encode() * 3000 + b"a")
    add(file, payload=b"a" + "ä".encode() * 3000)
    add(file, payload=b"")
    shown = run("show", "1").text()
    assert "  properties unknown: ff 01\n" in shown
    assert "  reason     another\n" in shown
    assert (
        "payload: 3,000 bytes, not text\n\n  00000000  41 00 ff 41 00 ff 41 00 ff 41 00 ff 41 00 ff 41  |A"
        in shown
    )
    assert "\n  000003f0 " in shown
    assert "\n  00000400 " not in shown
    assert "\n  These are the first 1,024; all: mqttasgi dead show 1 --payload > FILE\n" in shown
    for number, text in (("2", "ä" * 2048), ("3", "a" + "ä" * 2047)):
        shown = run("show", number).text()
        assert f"payload: 6,001 bytes\n\n  {text}\n\n  These are the first 4,096; all: " in shown
    assert "\npayload: none\n" in run("show", "4").text()
    done = subprocess.run(
        [sys.executable, "-m", "mqttasgi", "dead", "show", "1", "--payload", "--file", str(file)],
        env={**os.environ, "PYTHONPATH": str(Path(dead.__file__).parents[1])},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == b"A\x00\xff" * 1000


def test_for_programs(run: Any, file: Path) -> None:
    add(file, properties=b"\x09\x00\x02\x00\xff\x26\x00\x01k\x00\x01v", replay=1, retain=1)
    add(file, payload=b"\xff")
    facts = {
        "id": 1,
        "died": "2025-11-28T12:01:01.250+00:00",
        "consumer": "master",
        "topic": "home/boiler/temperature",
        "tries": 5,
        "reason": "failed",
        "error": "ValueError: could not convert string to float: 'warm'",
        "published": "2025-11-28T12:00:00.250+00:00",
        "qos": 1,
        "retain": True,
        "replay": True,
    }
    assert json.loads(run("list", "--json").text())[1] == facts
    whole = json.loads(run("show", "1", "--json").text())
    assert {name: whole[name] for name in facts} == facts
    assert (whole["payload"], whole["payload_base64"]) == ("warm", "d2FybQ==")
    assert whole["properties"] == {"correlation_data": "00ff", "user_property": [["k", "v"]]}
    assert whole["traceback"].startswith("Traceback")
    whole = json.loads(run("show", "2", "--json").text())
    assert (whole["payload"], whole["payload_base64"]) == (None, "/w==")


# ---- replay and drop ----


class FakeBroker:
    """Has the inbox open, in a process of its own as a broker's is, and takes what is asked for or does not."""

    def __init__(self, inbox: Path) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import fcntl, sys\n"
                "file = open(sys.argv[1], 'r+b')\n"
                "fcntl.lockf(file, fcntl.LOCK_EX, 510, 0x40000002)\n"
                "print('locked', flush=True)\n"
                "sys.stdin.read()",
                str(inbox),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"locked\n"

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def broker(file: Path) -> Iterator[FakeBroker]:
    broker = FakeBroker(file.with_suffix(""))
    yield broker
    broker.close()


def test_replay_without_a_broker(run: Any, file: Path) -> None:
    for _ in range(4):
        add(file)
    inbox = file.with_suffix("")
    assert run("replay", "3", "1", "3").text() == (
        f"No broker has {inbox} open. The next one takes dead letters 1, 3 when it starts.\n"
    )
    assert replayed(file) == {1: 1, 2: 0, 3: 1, 4: 0}
    assert dead_file.is_broker_running(str(inbox)) is False


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize("topic", ["home/door", ""])
def test_replay_with_a_broker(run: Any, file: Path, topic: str) -> None:
    for consumer in ("master", "master", "worker 'a' b"):
        add(file, consumer=consumer)
    if not topic:
        add(file, topic=topic)

    def take() -> None:
        """And refuse the one that has no topic."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and sum(replayed(file).values()) < 2:
            time.sleep(0.05)
        connection = sqlite3.connect(file)
        with connection:
            connection.execute("DELETE FROM dead_letter WHERE replay = 1 AND topic <> ''")
            connection.execute("UPDATE dead_letter SET replay = 0")
        connection.close()

    thread = threading.Thread(target=take)
    thread.start()
    said = run("replay", "--all", "--consumer", "master", "--wait", "40")
    thread.join()
    taken = "The broker has taken dead letters 1, 2. Consumers handle them after what waits already.\n"
    if topic:
        assert said.text() == taken
        assert replayed(file) == {3: 0}
        return
    refused = "The broker has refused dead letter 4, as its log says: a row is no message any more.\n"
    assert said.text(1) == taken + refused
    assert replayed(file) == {3: 0, 4: 0}


@pytest.mark.usefixtures("broker")
def test_replay_with_a_broker_that_has_no_room(run: Any, file: Path) -> None:
    for _ in range(12):
        add(file)
    said = run("replay", "--all", "--wait", "0.3").text(1)
    assert said.startswith("The broker has not taken 12 dead letters within 0.3 seconds. It will as soon as")
    assert set(replayed(file).values()) == {1}


def test_what_is_not_there_is_not_replayed_and_nothing_else_either(run: Any, file: Path) -> None:
    add(file)
    sentence = "there is no dead letter 8 and no 9; `mqttasgi dead list` shows which there are."
    assert run("replay", "1", "8", "9").refusal() == sentence
    assert run("drop", "1", "8", "9").refusal() == sentence
    assert replayed(file) == {1: 0}


def test_drop(run: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for consumer in ("master", "master", "worker 'a' b", "c"):
        add(file, consumer=consumer)
    assert run("drop", "2").text() == "Dropped dead letter 2.\n"
    assert (
        run("drop", "--all").refusal(2) == "nobody can be asked here; --all --yes drops without a question."
    )
    assert set(replayed(file)) == {1, 3, 4}
    assert run("drop", "--all", "--consumer", "c", "--yes").text() == "Dropped dead letter 4.\n"
    answers = iter(["n\n", "Y\n"])
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {
        "isatty": lambda self: True, "readline": lambda self: next(answers)
    })())  # fmt: skip
    said = run("drop", "--all", "--consumer", "master")
    assert (said.status, said.error) == (1, "mqttasgi: nothing was dropped.\n")
    assert said.output == "Drop 1 dead letter of consumer master? Nothing brings them back. [y/N] "
    assert run("drop", "--all").text().endswith("[y/N] Dropped dead letters 1, 3.\n")
    assert replayed(file) == {}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "dead: what is to be done comes first, list, show, replay, drop; --help says more."),
        ("--json list", "dead: what is to be done comes first, list, show, replay, drop; --help says more."),
        ("lst", 'dead: "lst" is unknown, did you mean list?'),
        ("x", 'dead: "x" is unknown, it is one of list, show, replay, drop.'),
        ("show", "which one? Give its number, as in: mqttasgi dead show 3."),
        ("show x", '"x" is not the number of a dead letter; `mqttasgi dead list` shows them.'),
        ("show 99999999999999999999", '"99999999999999999999" is not the number of a dead letter; '
         "`mqttasgi dead list` shows them."),
        ("show 1 2", "2 is one word too many."),
        ("show 1 --json --payload", "either --json or --payload, not both."),
        ("list --limt 3", "unknown argument --limt, did you mean --limit?"),
        ("list --limit 0", 'argument --limit: "0" is not a number from 1 to 999999999.'),
        ("list --yes", "unknown argument --yes; --help lists all."),
        ("replay", "which ones? Give their numbers, as in: mqttasgi dead replay 3 4, or --all."),
        ("replay 1 --all", "either numbers of dead letters or --all, not both."),
        ("replay 1 --consumer a", "--consumer goes with --all, and picks from all those of one consumer."),
        ("replay 1 --wait soon", 'argument --wait: "soon" is not a number of seconds from 0 to 3600.'),
    ],
)  # fmt: skip
def test_wrong_use(run: Any, file: Path, words: str, sentence: str) -> None:
    assert run(*words.split(), file=None).refusal(2) == sentence


@pytest.mark.parametrize("verb", ["list", "show", "replay", "drop", ""])
def test_help(run: Any, verb: str) -> None:
    said = run(*([verb] if verb else []), "--help", file=None).text()
    assert said.startswith(f"usage: mqttasgi dead {verb or 'list'} ")
    assert "--file FILE" in said


# ---- which file ----


def test_where_it_is(run: Any, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(file)
    inbox = tmp_path / "inbox.db"
    assert "1 dead letter." in run("list", file=file).text()
    assert "1 dead letter." in run("list", file=inbox).text()
    assert run("list", file=None).refusal(2) == (
        "where are the dead letters? Name the file with --file, as durable does: option durable is neither in "
        f"MQTTASGI_DURABLE nor in a .env file here nor in {tmp_path}/mosquitto.conf."
    )
    monkeypatch.setenv("MQTTASGI_DURABLE", str(inbox))
    assert "1 dead letter." in run("list", file=None).text()
    monkeypatch.delenv("MQTTASGI_DURABLE")
    (tmp_path / ".env").write_text("MQTTASGI_DURABLE=inbox.db\n")
    assert "1 dead letter." in run("list", file=None).text()
    (tmp_path / ".env").unlink()
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "mosquitto.conf").write_text(f"# plugin_opt_durable /no\ninclude_dir {tmp_path}/conf.d\n")
    (tmp_path / "conf.d" / "hub.conf").write_text(f"listener 1883\nplugin_opt_durable  {inbox} \n")
    assert "1 dead letter." in run("list", file=None).text()
    (tmp_path / "conf.d" / "other.conf").write_text("plugin_opt_durable /elsewhere\n")
    assert run("list", file=None).refusal(2) == f"which one of {inbox} and /elsewhere? Name it with --file."


def test_there_is_no_such_inbox(run: Any, tmp_path: Path) -> None:
    assert run("list", file=tmp_path / "in").refusal() == (
        f"there is neither {tmp_path}/in.dead nor the inbox {tmp_path}/in; does option durable name that?"
    )


def test_a_file_that_is_not_ours(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "inbox.db.dead"
    file.write_bytes(b"no database at all" * 100)
    for words in ("list", "show 1", "replay 1", "drop 1"):
        assert run(*words.split()).refusal() == f"{file} is not a file of mqttasgi's dead letters."
    for identifier, sentence in (
        (1, "is not a file of mqttasgi's dead letters"),
        (0, "is not a file of mqttasgi's dead letters"),
        (0x6D717469, "is an inbox, not a file of dead letters"),
    ):
        file.unlink()
        connection = sqlite3.connect(file)
        connection.executescript(f"PRAGMA application_id = {identifier}; CREATE TABLE a (b)")
        connection.close()
        assert run("list").refusal() == f"{file} {sentence}."


def test_a_newer_file(run: Any, file: Path) -> None:
    add(file)
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    for words in ("list", "drop 1"):
        assert run(*words.split()).refusal() == (
            f"{file} is of a newer mqttasgi (version 2 of the file, and this one knows 1); use that one's command."
        )


def test_a_file_that_has_just_been_made(run: Any, tmp_path: Path) -> None:
    (tmp_path / "inbox.db.dead").touch()
    assert run("list").text() == "There are no dead letters.\n"


def test_another_program_writes(run: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(file)
    monkeypatch.setattr(dead, "TIMEOUT", 0.1)
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert "1 dead letter." in run("list").text(), "readers need not wait for it"
    sentence = f"another program has been writing to {file} for 0.1 seconds; try again."
    assert run("replay", "1").refusal() == sentence
    writer.rollback()
    writer.execute("BEGIN EXCLUSIVE")
    assert run("list").refusal() == sentence
    writer.rollback()
    writer.close()
    assert replayed(file) == {1: 0}


def test_a_damaged_file(run: Any, file: Path) -> None:
    for _ in range(50):
        add(file, payload=bytes(2000))
    with file.open("r+b") as raw:
        raw.seek(4096)
        raw.write(os.urandom(20_000))
    assert run("list").refusal().startswith(f"{file} is damaged; stop the broker and move it away")


KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE dead_letter SET traceback = 'half'")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("words", [("list",), ("replay", "1")])
def test_whoever_wrote_last_was_killed(run: Any, file: Path, words: tuple[str, ...]) -> None:
    for _ in range(100):
        add(file, payload=bytes(3000))
    subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False)
    journal = Path(f"{file}-journal")
    assert journal.stat().st_size > 512
    said = run(*words).text()
    assert "half" not in said
    assert "100 dead letters" in said or "takes dead letter 1 when" in said
    assert not journal.exists()


def test_with_the_management_command(file: Path, tmp_path: Path) -> None:
    add(file)
    (tmp_path / "settings_here.py").write_text(
        'SECRET_KEY = "only for tests"\nINSTALLED_APPS = ["mqttasgi"]\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "django", "mqttasgi", "dead", "list", "--file", str(file)],
        env={
            **os.environ,
            "PYTHONPATH": f"{Path(dead.__file__).parents[1]}:{tmp_path}",
            "DJANGO_SETTINGS_MODULE": "settings_here",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n1 dead letter.\n" in done.stdout


# ---- users ----

NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


#: Another user may not be able to read the modules.
AS_USER = """
import locale, os, sys
from mqttasgi.command import cli
user, group = int(sys.argv[1]), int(sys.argv[2])
if user:
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
sys.exit(cli.main(["dead", *sys.argv[3:]]))
"""


def as_user(user: pwd.struct_passwd | None, *words: str) -> Said:
    ids = [str(user.pw_uid), str(user.pw_gid)] if user else ["0", "0"]
    done = subprocess.run(
        [sys.executable, "-c", AS_USER, *ids, *words],
        env={**os.environ, "PYTHONPATH": str(Path(dead.__file__).parents[1]), "SUDO_UID": "0"},
        cwd="/",
        capture_output=True,
        text=True,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def theirs() -> Iterator[Path]:
    """The file belongs to another user, and its folder too, which everybody can reach."""
    folder = Path(tempfile.mkdtemp(prefix="dead-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "inbox.db").touch()
    file = make(folder / "inbox.db.dead")
    for path in (file, file.with_suffix(""), folder):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    yield file
    shutil.rmtree(folder)


@needs_root
def test_root_becomes_the_owner(theirs: Path, tmp_path: Path) -> None:
    """So it may no more than that user, and what it leaves is that user's."""
    for _ in range(2):
        add(theirs)
    theirs.chmod(0o600)
    assert as_user(None, "drop", "1", "--file", str(theirs)).text() == "Dropped dead letter 1.\n"
    assert theirs.stat().st_uid == NOBODY.pw_uid
    theirs.parent.chmod(0o555)
    assert as_user(None, "drop", "2", "--file", str(theirs)).refusal() == (
        f"{theirs.parent} cannot be written or read by user nobody."
    )
    roots = make(tmp_path / "inbox.db.dead")
    add(roots)
    theirs.unlink()
    theirs.symlink_to(roots)
    os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)
    assert "cannot be reached by user nobody" in as_user(None, "drop", "1", "--file", str(theirs)).refusal()
    assert replayed(roots) == {1: 0}


@needs_root
def test_root_does_not_touch_what_anybody_could_have_put_there(theirs: Path) -> None:
    for path in (theirs, theirs.with_suffix(""), theirs.parent):
        os.chown(path, 0, 0)
    assert "There are no dead letters." in as_user(None, "list", "--file", str(theirs)).text()
    theirs.parent.chmod(0o777)
    assert as_user(None, "list", "--file", str(theirs)).refusal() == (
        f"root does not touch {theirs}, whose folder others can write; run this as the broker's user "
        "(sudo -u mosquitto)."
    )


@needs_root
def test_a_journal_of_roots_belongs_to_the_owner(theirs: Path) -> None:
    """SQLite itself: where root uses another program, and that is killed."""
    for _ in range(100):
        add(theirs, payload=bytes(3000))
    subprocess.run([sys.executable, "-c", KILLED, str(theirs)], check=False)
    assert Path(f"{theirs}-journal").stat().st_uid == NOBODY.pw_uid
    assert "100 dead letters" in as_user(NOBODY, "list", "--file", str(theirs)).text()


@needs_root
def test_another_user_may_not(theirs: Path) -> None:
    other = pwd.getpwnam("games")
    add(theirs)
    theirs.chmod(0o644)
    assert "1 dead letter." in as_user(other, "list", "--file", str(theirs)).text()
    assert as_user(other, "drop", "1", "--file", str(theirs)).refusal() == (
        f"{theirs} cannot be written or read by user games; run this as the broker's user (sudo -u nobody)."
    )
    theirs.chmod(0o666)
    assert as_user(other, "drop", "1", "--file", str(theirs)).refusal() == (
        f"{theirs.parent} cannot be written or read by user games; run this as the broker's user (sudo -u nobody)."
    )
    theirs.parent.chmod(0o700)
    assert as_user(other, "list", "--file", str(theirs)).refusal() == (
        f"{theirs} cannot be reached by user games: Permission denied; run this with sudo."
    )
