"""The command started by root: whatever code that runs as the broker's user does meanwhile, nothing of root's is its.

The broker is a script here, which says who it is and what it was given.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.broker import plugin_path
from support.command import run_command
from support.ports import free_port
from support.processes import wait_until

APP = "nowhere:application"
BROKER = '#!/bin/sh\nid -u\nstat -c \'%n %u %a\' "$2" "$(dirname "$2")"\n'


def user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("mosquitto")
    except KeyError:
        return None


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or user() is None, reason="only root can become another user, here mosquitto"
)


class Place:
    """A folder that everybody can enter, with what is root's and what is user mosquitto's."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="place-", dir="/tmp"))
        self.path.chmod(0o755)
        self.uid = user().pw_uid  # type: ignore[union-attr]
        self.victim = self.path / "victim"
        self.victim.write_text("root's\n")
        self.victim.chmod(0o600)
        self.victims = self.path / "victims"
        self.victims.mkdir(0o755)
        self.loose = self.path / "loose"
        self.loose.mkdir()
        os.chown(self.loose, self.uid, -1)
        broker = self.path / "mosquitto"
        broker.write_text(BROKER)
        broker.chmod(0o755)
        shutil.copyfile(plugin_path(), self.path / "mqttasgi_plugin.so")
        self.variables = {
            "MQTTASGI_MOSQUITTO": str(broker),
            "MQTTASGI_PLUGIN": str(self.path / "mqttasgi_plugin.so"),
        }

    def words(self) -> list[str]:
        return ["-p", str(free_port()), "-U", "ann", "-P", "secret", APP]

    def run(self, *words: str, folder: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return run_command(*words, *self.words(), folder=folder or self.victims, **{**self.variables, **more})

    def assert_roots(self) -> None:
        """What is root's is so still."""
        assert self.victim.read_text() == "root's\n"
        for path in (self.victim, self.victims):
            status = path.lstat()
            assert (status.st_uid, stat.S_IMODE(status.st_mode) & 0o022) == (0, 0)


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    # A command that has just ended is still having its folder removed, which shutil.rmtree() would not endure.
    subprocess.run(["rm", "-rf", "--", str(made.path)], check=True)


def test_root_is_that_user_before_anything_is_written(place: Place) -> None:
    done = place.run()
    assert done.returncode == 0, done.stderr
    who, configuration, folder = done.stdout.splitlines()
    assert int(who) == place.uid
    assert re.fullmatch(rf"/tmp/mqttasgi-\w+/mosquitto.conf {place.uid} 600", configuration)
    assert re.fullmatch(rf"/tmp/mqttasgi-\w+ {place.uid} 700", folder)
    wait_until(lambda: not Path(folder.split()[0]).exists(), 10, "the end of the folder")


def test_a_folder_where_others_may_rename_is_not_used(place: Place) -> None:
    place.loose.chmod(0o777)
    done = place.run(TMPDIR=str(place.loose))
    assert done.stdout.splitlines()[1].startswith("/tmp/mqttasgi-")
    place.loose.chmod(0o1777)
    done = place.run(TMPDIR=str(place.loose))
    assert done.stdout.splitlines()[1].startswith(f"{place.loose}/mqttasgi-")


#: Runs the command; whenever it has made or given away something, code of the user mosquitto gets a chance.
DRIVER = """
import os, sys
uid, victim, victims = int(sys.argv[1]), sys.argv[2], sys.argv[3]
from mqttasgi.command import launch
from mqttasgi.command import cli

def swap(folder):
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([]); os.setgid(uid); os.setuid(uid)
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                target = victims if os.path.isdir(path) else victim
                os.rename(path, path + ".old")
                os.symlink(target, path)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)

def followed(function, folder_of):
    def call(*arguments, **keywords):
        result = function(*arguments, **keywords)
        swap(folder_of(*arguments))
        return result
    return call

launch.PrivateFolder._write = followed(launch.PrivateFolder._write, lambda folder, *rest: folder.path)
os.chown = followed(os.chown, lambda path, *rest: path if os.path.isdir(path) else os.path.dirname(path))
sys.exit(cli.main(sys.argv[5:]))
"""


def drive(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    known = [str(place.uid), str(place.victim), str(place.victims), str(place.loose)]
    return run_command(
        *known,
        *words,
        *place.words(),
        folder=place.victims,
        program=[sys.executable, "-c", DRIVER],
        **place.variables,
    )


def test_what_is_swapped_is_not_given_away(place: Place) -> None:
    drive(place)
    place.assert_roots()


def test_a_folder_in_that_users_is_made_by_that_user(place: Place) -> None:
    done = drive(place, "--persistence", str(place.loose / "new" / "kept"))
    place.assert_roots()
    assert done.returncode == 0, done.stderr
    assert (place.loose / "new").stat().st_uid == (place.loose / "new" / "kept").stat().st_uid == place.uid


def test_root_makes_no_folder_where_somebody_elses_link_leads(place: Place) -> None:
    link = place.loose / "link"
    link.symlink_to(place.victims)
    os.chown(link, place.uid, -1, follow_symlinks=False)
    done = place.run("--persistence", str(link / "kept"))
    assert not (place.victims / "kept").exists()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"mqttasgi: argument --persistence: {link}/kept cannot be made: user mosquitto may not do that, and root "
        "makes nothing where others can move it.\n"
    )
    place.assert_roots()


ATTACKER = """
import errno, os, sys
folder, victim = sys.argv[1:]
print("begun", flush=True)
while True:
    for name in os.listdir(folder):
        paths = [os.path.join(folder, name, file) for file in ("passwords", "mosquitto.conf")]
        error = errno.EACCES
        while error == errno.EACCES:
            for path in paths:
                try:
                    os.rename(path, folder + "/old")
                    os.symlink(victim, path)
                except OSError as failed:
                    error = failed.errno
"""


def test_an_attacker_in_a_loop(place: Place) -> None:
    """Code of the user mosquitto waits for each start and puts a link to root's file in the place of a new one."""
    temporary = place.path / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    with subprocess.Popen(
        [sys.executable, "-c", ATTACKER, str(temporary), str(place.victim)],
        user=place.uid,
        group=user().pw_gid,  # type: ignore[union-attr]
        extra_groups=[],
        stdout=subprocess.PIPE,
    ) as attacker:
        try:
            assert attacker.stdout is not None
            attacker.stdout.readline()
            for _ in range(15):
                place.run(TMPDIR=str(temporary))
                place.assert_roots()
                assert attacker.poll() is None
        finally:
            attacker.kill()


@pytest.mark.parametrize(
    ("name", "flag"), [("MQTTASGI_USER", "--user"), ("MQTTASGI_PERSISTENCE", "--persistence")]
)
def test_root_does_not_do_what_somebody_elses_file_says(place: Place, name: str, flag: str) -> None:
    value = "root" if flag == "--user" else str(place.victims / "made")
    (place.loose / ".env").write_text(f"{name}={value}\n")
    done = place.run(folder=place.loose)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"mqttasgi: {place.loose}/.env, {name}: root does not take this from a file that others can write; give "
        f"it as the argument {flag}, or file and folder to root.\n"
    )
    place.assert_roots()
    assert not (place.victims / "made").exists()
    os.chown(place.loose, 0, 0)
    done = place.run(folder=place.loose, TMPDIR="/tmp")
    assert done.returncode == 0, done.stderr
    if flag == "--user":
        assert done.stdout.splitlines()[0] == "0"
    else:
        assert (place.victims / "made").stat().st_uid == place.uid


def test_root_does_not_do_what_the_file_says_that_somebody_elses_link_leads_to(place: Place) -> None:
    """Until it is read, the link may lead to another one."""
    (place.path / "roots.env").write_text("MQTTASGI_USER=root\n")
    (place.loose / ".env").symlink_to(place.path / "roots.env")
    done = place.run(folder=place.loose)
    assert (done.returncode, done.stdout) == (2, "")
    assert "root does not take this from a file that others can write" in done.stderr
    (place.victims / ".env").symlink_to(place.path / "roots.env")
    done = place.run(folder=place.victims)
    assert done.returncode == 0, done.stderr


def test_what_only_root_can_read_is_said(place: Place) -> None:
    for name, says in (
        ("include", f"mqttasgi: argument --include: {place.victim} cannot be read: Permission denied.\n"),
        ("plugin", f"mqttasgi: {place.path}/mqttasgi_plugin.so cannot be read by the broker's user mosquitto; "
                   "put it where that user can, or name another with --user.\n"),
    ):  # fmt: skip
        if name == "plugin":
            (place.path / "mqttasgi_plugin.so").chmod(0o600)
        done = place.run(*(["--include", str(place.victim)] if name == "include" else []))
        assert (done.returncode, done.stderr) == (2, says)
