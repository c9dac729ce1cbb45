"""Dead letters of processes whose broker is elsewhere: the plugin's file, by several processes at once."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttasgi import dead
from mqttasgi._properties import encode_properties
from mqttasgi.cluster import dead_letters
from mqttasgi.cluster.dead_letters import FAILED, DeadLetters, DeadLettersError, Replay
from mqttasgi.command import cli

PLUGIN = Path(__file__).parents[2] / "plugin" / "durable" / "dead_file.c"
MASTER = ["master"]
PROPERTIES = encode_properties({"content_type": "text/plain", "user_property": [("a", "b")]}, b"")


@pytest.fixture
def inbox(tmp_path: Path) -> str:
    return str(tmp_path / "inbox.db")


@pytest.fixture
def letters(inbox: str) -> Iterator[DeadLetters]:
    letters = DeadLetters(inbox)
    yield letters
    letters.close()


def add(letters: DeadLetters, topic: str = "home/boiler", payload: bytes = b"warm", **other: Any) -> int:
    named = {
        "consumer": "master",
        "qos": 1,
        "retain": False,
        "properties": PROPERTIES,
        "reason": "failed",
        "tries": 5,
        "traceback": "Traceback\nValueError: warm\n",
        "received_ms": 1_764_331_200_250,
        **other,
    }
    return letters.add(topic=topic, payload=payload, **named)


def sql(inbox: str, statement: str, *values: Any) -> list[Any]:
    connection = sqlite3.connect(inbox + dead.SUFFIX)
    with connection:
        rows = connection.execute(statement, values).fetchall()
    connection.close()
    return rows


def want(inbox: str) -> None:
    sql(inbox, "UPDATE dead_letter SET replay = 1")


class Process:
    """Another process that has the letters open, and does what it is told, a line of Python each."""

    def __init__(self, inbox: str) -> None:
        code = (
            "import sys\n"
            "from mqttasgi.cluster.dead_letters import DeadLetters\n"
            "letters = DeadLetters(sys.argv[1])\n"
            "for line in sys.stdin: print(eval(line), flush=True)\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, inbox],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def do(self, line: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def another(inbox: str) -> Iterator[Callable[[], Process]]:
    processes: list[Process] = []

    def another() -> Process:
        processes.append(Process(inbox))
        return processes[-1]

    yield another
    for process in processes:
        process.kill()


# ---- the file ----


def test_the_file_is_as_the_plugin_makes_it(inbox: str, letters: DeadLetters) -> None:
    source = PLUGIN.read_text()
    begin = source.index("TABLES[] =")
    text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', source[begin : source.index("/*", begin)]))
    tables = [sql for sql in text.split(";") if sql.startswith("CREATE")]
    assert len(tables) == 2
    made = sql(inbox, "SELECT sql FROM sqlite_master WHERE name GLOB 'dead_letter*'")
    assert [text for (text,) in made] == tables
    assert f"#define APPLICATION_ID {dead.APPLICATION_ID:#x}\n#define VERSION {dead.VERSION}\n" in source
    wanted = {"application_id": dead.APPLICATION_ID, "user_version": dead.VERSION, "auto_vacuum": 1}
    for name, value in {**wanted, "page_size": 4096, "journal_mode": "delete", "encoding": "UTF-8"}.items():
        assert sql(inbox, f"PRAGMA {name}") == [(value,)]
    for path in (inbox, inbox + dead.SUFFIX):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_row_has_what_the_plugin_writes(inbox: str, letters: DeadLetters) -> None:
    before = time.time_ns() // 1_000_000
    assert add(letters, payload=b"", retain=True, consumer="worker 'a' b", traceback="\ud800") == 0
    columns = "consumer, time, reason, tries, traceback, topic, payload, qos, retain, properties, publisher, "
    (row,) = sql(inbox, f"SELECT {columns} options, identifier, replay, message, died FROM dead_letter")
    assert row[:5] == ("worker 'a' b", 1_764_331_200_250, "failed", 5, "\\ud800")
    assert row[5:14] == ("home/boiler", b"", 1, 1, PROPERTIES, b"", 9, 0, 0)
    assert row[14] > 0
    assert before <= row[15] <= time.time_ns() // 1_000_000


def test_what_another_has_made_is_used(inbox: str, letters: DeadLetters) -> None:
    add(letters)
    letters.close()
    again = DeadLetters(inbox)
    add(again)
    again.close()
    assert sql(inbox, "SELECT id FROM dead_letter ORDER BY id") == [(1,), (2,)]


def test_a_file_that_is_moved_away_is_made_anew(inbox: str, letters: DeadLetters) -> None:
    add(letters)
    os.rename(inbox + dead.SUFFIX, inbox + ".old")
    assert letters.take_replays(MASTER) == []
    add(letters)
    assert sql(inbox, "SELECT count(*) FROM dead_letter") == [(1,)]


# ---- the command ----


@pytest.fixture
def command(inbox: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def command(*words: str, status: int = 0) -> str:
        assert cli.main(["dead", *words, "--file", inbox], project=os.path.dirname(inbox)) == status
        said = capsys.readouterr()
        assert said.err == ""
        return said.out

    return command


def test_the_command_lists_shows_and_drops(letters: DeadLetters, command: Callable[..., str]) -> None:
    assert command("list") == "There are no dead letters.\n"
    add(letters)
    assert "ValueError: warm" in command("list")
    shown = command("show", "1")
    assert "content_type: text/plain" in shown
    assert "user_property: a = b" in shown
    assert command("drop", "1") == "Dropped dead letter 1.\n"
    assert command("list") == "There are no dead letters.\n"


def test_the_command_waits_until_it_is_handled(
    letters: DeadLetters, command: Callable[..., str], another: Callable[[], Process]
) -> None:
    add(letters)
    # The command asks whether any but its own process has the inbox open.
    process = another()
    assert process.do("1") == "1"
    assert "has not taken dead letter 1 within 0.2 seconds" in command(
        "replay", "1", "--wait", "0.2", status=1
    )
    loop = "[letters.replayed(r.id) for _ in range(200) for r in letters.take_replays(['master'])]"
    asked = threading.Timer(0.5, process.do, args=(loop,))
    asked.start()
    assert "The broker has taken dead letter 1." in command("replay", "1")
    asked.join()


def test_a_broker_with_the_inbox_and_processes_exclude_each_other(
    inbox: str, letters: DeadLetters, another: Callable[[], Process]
) -> None:
    letters.close()
    process = another()
    assert process.do("1") == "1"
    broker = sqlite3.connect(inbox, timeout=0)
    broker.execute("PRAGMA locking_mode = EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        broker.execute("BEGIN EXCLUSIVE")
    process.kill()
    broker.execute("BEGIN EXCLUSIVE")
    process = another()
    process.process.wait()
    broker.close()


# ---- several processes ----


def test_four_write_at_once(inbox: str, another: Callable[[], Process]) -> None:
    each = 150
    processes = [another() for _ in range(4)]
    said: list[str] = []
    line = (
        f"sum(letters.add('master', 'a/%d' % i, b'x' * 500, 1, False, b'', 'failed', 5, '', i) "
        f"for i in range({each}))"
    )
    threads = [threading.Thread(target=lambda p=p: said.append(p.do(line))) for p in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["0"] * 4
    counted = sql(inbox, "SELECT topic, count(*) FROM dead_letter GROUP BY topic")
    assert dict(counted) == {f"a/{i}": 4 for i in range(each)}


def test_no_two_take_the_same(inbox: str, letters: DeadLetters, another: Callable[[], Process]) -> None:
    for i in range(100):
        add(letters, topic=f"a/{i}")
    want(inbox)
    mine = letters.take_replays(MASTER, 30)
    assert [replay.topic for replay in mine] == [f"a/{i}" for i in range(30)]
    theirs = another()
    assert theirs.do("sorted(r.id for r in letters.take_replays(['master']))") == str(list(range(31, 95)))
    assert [replay.id for replay in letters.take_replays(MASTER)] == list(range(95, 101))
    # What is handled is gone, and what the other process has is still the other's.
    letters.replayed(*(replay.id for replay in mine))
    assert letters.take_replays(MASTER) == []
    assert sql(inbox, "SELECT count(*) FROM dead_letter") == [(70,)]


def test_what_a_killed_process_had_in_hand_another_takes(
    inbox: str, letters: DeadLetters, another: Callable[[], Process]
) -> None:
    add(letters)
    want(inbox)
    process = another()
    assert process.do("[r.id for r in letters.take_replays(['master'])]") == "[1]"
    assert letters.take_replays(MASTER) == []
    process.kill()
    age(inbox)
    # Nothing in the file tells of that.
    assert letters.has_news()
    assert [replay.id for replay in letters.take_replays(MASTER)] == [1]
    letters.replayed(1)
    assert sql(inbox, "SELECT count(*) FROM dead_letter") == [(0,)]


def test_a_process_killed_as_it_writes_harms_nobody(
    inbox: str, letters: DeadLetters, another: Callable[[], Process]
) -> None:
    process = another()
    assert process.do("letters._file.begin()") == "None"
    assert process.do("letters._put(('m', 1, 1, 1, 'r', 1, '', 't', b'', 1, 0, b'', b'', 1, 0))") == "0"
    os.kill(process.process.pid, signal.SIGKILL)
    process.process.wait()
    add(letters)
    assert sql(inbox, "SELECT consumer FROM dead_letter") == [("master",)]


# ---- replay ----


def test_a_replay_is_what_died(inbox: str, letters: DeadLetters) -> None:
    add(letters, retain=True)
    add(letters, consumer="worker 'a' b")
    assert letters.take_replays(MASTER) == []
    want(inbox)
    assert letters.take_replays(MASTER) == [
        Replay(1, "master", "home/boiler", b"warm", 1, True, PROPERTIES, 1_764_331_200_250)
    ]
    assert letters.take_replays(MASTER) == []
    assert sql(inbox, "SELECT id, replay FROM dead_letter ORDER BY id") == [(1, 1), (2, 1)]
    assert [replay.id for replay in letters.take_replays({"worker 'a' b", "master"})] == [2]


def test_one_that_fails_again_is_a_new_one(inbox: str, letters: DeadLetters) -> None:
    add(letters)
    want(inbox)
    (replay,) = letters.take_replays(MASTER)
    assert letters.failed_again(replay.id, FAILED, 7, "KeyError") == 0
    rows = sql(inbox, "SELECT id, tries, traceback, replay, topic, properties, time FROM dead_letter")
    assert rows == [(2, 7, "KeyError", 0, "home/boiler", PROPERTIES, 1_764_331_200_250)]
    want(inbox)
    assert [replay.id for replay in letters.take_replays(MASTER)] == [2]


def test_one_that_was_dropped_meanwhile_stays_dropped(inbox: str, letters: DeadLetters) -> None:
    add(letters)
    want(inbox)
    letters.take_replays(MASTER)
    sql(inbox, "DELETE FROM dead_letter")
    assert letters.failed_again(1, FAILED, 7, "") == 0
    letters.replayed(1)
    assert sql(inbox, "SELECT id FROM dead_letter") == []


def test_a_released_one_is_taken_again(inbox: str, letters: DeadLetters) -> None:
    add(letters)
    want(inbox)
    letters.take_replays(MASTER)
    letters.release(1)
    assert letters.has_news()
    assert [replay.id for replay in letters.take_replays(MASTER)] == [1]


def test_large_ones_are_taken_a_few_at_a_time(
    inbox: str, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "REPLAYS_BYTES", 1000)
    for _ in range(5):
        add(letters, payload=b"x" * 600)
    want(inbox)
    assert [replay.id for replay in letters.take_replays(MASTER)] == [1, 2]
    assert letters.has_news()
    assert [replay.id for replay in letters.take_replays(MASTER)] == [3, 4]
    assert [replay.id for replay in letters.take_replays(MASTER)] == [5]


@pytest.mark.parametrize(
    "change",
    [
        "topic = ''",
        "topic = 'a/+'",
        "topic = x'ff'",
        "topic = 'a' || char(0)",
        "qos = 3",
        "properties = x'ffff'",
        "properties = x'0300'",
    ],
)
def test_a_row_that_is_no_message_stays(inbox: str, letters: DeadLetters, change: str) -> None:
    add(letters)
    add(letters)
    sql(inbox, f"UPDATE dead_letter SET {change} WHERE id = 1")
    want(inbox)
    assert [replay.id for replay in letters.take_replays(MASTER)] == [2]
    assert letters.refused == 1
    assert sql(inbox, "SELECT id, replay FROM dead_letter ORDER BY id") == [(1, 0), (2, 1)]


def test_a_number_beyond_what_can_be_locked_is_left(inbox: str, letters: DeadLetters) -> None:
    add(letters)
    sql(inbox, "UPDATE dead_letter SET id = 1 << 62")
    want(inbox)
    assert letters.take_replays(MASTER) == []


def test_what_could_not_be_removed_is_removed_later(inbox: str) -> None:
    letters = DeadLetters(inbox, wait=0.01)
    add(letters)
    want(inbox)
    letters.take_replays(MASTER)
    age(inbox)
    other = sqlite3.connect(inbox + dead.SUFFIX, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DeadLettersError, match="another program keeps it locked") as caught:
        letters.replayed(1)
    assert caught.value.is_busy
    other.close()
    assert letters.has_news()
    assert letters.take_replays(MASTER) == []
    assert sql(inbox, "SELECT id FROM dead_letter") == []
    letters.close()


def test_what_cannot_be_read_is_let_go(
    inbox: str, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(letters)
    want(inbox)

    def fail(_letter: int) -> None:
        raise DeadLettersError("no")

    with monkeypatch.context() as patched:
        patched.setattr(letters, "_read", fail)
        with pytest.raises(DeadLettersError):
            letters.take_replays(MASTER)
    assert [replay.id for replay in letters.take_replays(MASTER)] == [1]


def test_an_inbox_that_is_removed_is_made_anew(
    inbox: str, letters: DeadLetters, another: Callable[[], Process]
) -> None:
    add(letters)
    want(inbox)
    assert len(letters.take_replays(MASTER)) == 1
    os.unlink(inbox)
    letters.take_replays(MASTER)
    # Also by that, it is this process's.
    assert another().do("letters.take_replays(['master'])") == "[]"


# ---- news ----


def age(inbox: str) -> None:
    """Let the file's last change be a while ago."""
    before = time.time_ns() - 10_000_000_000
    os.utime(inbox + dead.SUFFIX, ns=(before, before))


def test_there_is_news_only_after_a_change(inbox: str, letters: DeadLetters) -> None:
    assert letters.has_news()
    letters.take_replays(MASTER)
    # A change at the same moment would not be seen.
    assert letters.has_news()
    age(inbox)
    letters.take_replays(MASTER)
    assert not letters.has_news()
    add(letters)
    want(inbox)
    assert letters.has_news()
    letters.take_replays(MASTER)
    age(inbox)
    letters.take_replays(MASTER)
    assert not letters.has_news()
    os.unlink(inbox + dead.SUFFIX)
    assert letters.has_news()


# ---- bounds ----


def test_the_oldest_make_room(inbox: str) -> None:
    letters = DeadLetters(inbox, limit=256 * 1024)
    dropped = sum(add(letters, topic=f"a/{i}", payload=b"x" * 10_000) for i in range(60))
    kept = sql(inbox, "SELECT topic FROM dead_letter ORDER BY id")
    assert [topic for (topic,) in kept] == [f"a/{i}" for i in range(dropped, 60)]
    assert 15 <= len(kept) <= 26
    assert os.path.getsize(inbox + dead.SUFFIX) <= 256 * 1024
    # One beyond the limit is alone; others give their room back.
    assert add(letters, payload=b"x" * 1_000_000) == len(kept)
    assert add(letters) == 1
    assert os.path.getsize(inbox + dead.SUFFIX) < 64 * 1024
    letters.close()


def test_few_are_dropped_at_once(inbox: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "DROPPED_MAX", 3)
    letters = DeadLetters(inbox)
    for _ in range(10):
        add(letters)
    letters.close()
    letters = DeadLetters(inbox, limit=4096)
    assert add(letters) == 3
    letters.close()


def test_one_that_fails_again_finds_room_though_it_is_the_oldest(inbox: str) -> None:
    letters = DeadLetters(inbox, limit=128 * 1024)
    for _ in range(8):
        add(letters, payload=b"x" * 10_000)
    want(inbox)
    assert letters.take_replays(MASTER, 1)[0].id == 1
    letters.failed_again(1, FAILED, 7, "x" * 50_000)
    assert sql(inbox, "SELECT max(id), tries FROM dead_letter") == [(9, 7)]
    letters.close()


# ---- what goes wrong ----


def refused(inbox: str) -> str:
    with pytest.raises(DeadLettersError) as caught:
        DeadLetters(inbox)
    text = str(caught.value)
    assert text.startswith(f"The dead letters {inbox}.dead cannot be used: ")
    assert text.endswith(".")
    return text


def test_it_is_something_else(inbox: str) -> None:
    file = Path(inbox + dead.SUFFIX)
    file.write_bytes(b"garbage" * 1000)
    assert "it is no SQLite file" in refused(inbox)
    assert file.read_bytes() == b"garbage" * 1000
    file.unlink()
    sql(inbox, "CREATE TABLE other (a)")
    assert "it is not a file of mqttasgi's dead letters; move it away" in refused(inbox)
    file.unlink()
    sql(inbox, "CREATE TABLE other (a)")
    sql(inbox, f"PRAGMA application_id = {dead.APPLICATION_ID}")
    sql(inbox, "PRAGMA user_version = 2")
    assert "of a newer mqttasgi" in refused(inbox)
    file.unlink()
    file.mkdir()
    assert "it is a folder or a device" in refused(inbox)


def test_another_schema_is_said_as_it_is_used(inbox: str) -> None:
    sql(inbox, "CREATE TABLE other (a)")
    sql(inbox, f"PRAGMA application_id = {dead.APPLICATION_ID}")
    sql(inbox, "PRAGMA user_version = 1")
    letters = DeadLetters(inbox)
    with pytest.raises(DeadLettersError, match=r"it is damaged \(no such table"):
        add(letters)
    letters.close()


def test_the_folder_is_missing(tmp_path: Path) -> None:
    assert f"of the inbox, there is no folder {tmp_path}/none; make it" in refused(f"{tmp_path}/none/inbox")


def test_the_inbox_is_a_folder(inbox: str) -> None:
    os.mkdir(inbox)
    assert f"{inbox} is a folder; name a file as the inbox" in refused(inbox)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_the_folder_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "may not write it or its folder" in refused(str(tmp_path / "inbox"))


def test_the_disk_is_full(inbox: str, letters: DeadLetters) -> None:
    add(letters)
    code = (
        "import resource, sys\n"
        "from mqttasgi.cluster.dead_letters import DeadLetters, DeadLettersError\n"
        "letters = DeadLetters(sys.argv[1])\n"
        "row = ('master', 'a', b'x' * 300_000, 1, False, b'', 'failed', 5, '', 1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "for _ in range(2):\n"
        "    try: letters.add(*row)\n"
        "    except DeadLettersError as error: print(error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "letters.add(*row)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, inbox],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.count("a quota or a limit (ulimit -f) is reached") + said.stdout.count("is full") == 2
    assert sql(inbox, "SELECT length(payload) FROM dead_letter") == [(4,), (300_000,)]


def test_it_is_locked_for_long(inbox: str) -> None:
    letters = DeadLetters(inbox, wait=0.05)
    other = sqlite3.connect(inbox + dead.SUFFIX, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begin = time.monotonic()
    with pytest.raises(DeadLettersError, match="fuser") as caught:
        add(letters)
    assert time.monotonic() - begin < 1
    assert caught.value.is_busy
    other.close()
    add(letters)
    letters.close()
