"""Finds the programs, writes the private files, and becomes the broker."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NoReturn, Optional

from .. import __version__, _versions
from .configuration import INCLUDED_FROM, Places, check_port, has_login, lines, text_of
from .option_table import Settings
from .user import become, check_persistence, check_user, make_persistence
from .values import UsageError

_PLUGIN = "mqttasgi_plugin.so"

#: How lines of a broker begin that is only asked, and ends.
_OF_NO_INTEREST = (
    "mosquitto version",
    "Config loaded",
    "Loading plugin",
    "Error: Plugin ",
    "Error: Could not init",
    "Warning: Mosquitto should not be run as root",
)


class LaunchError(Exception):
    """The broker cannot be started; the text is a sentence for who tried."""


# ---- what is installed ----


@dataclass(frozen=True)
class Plugin:
    """A plugin's file, and what it says of itself; `version` and `python` are None where it says nothing."""

    path: str
    version: Optional[str]
    python: Optional[str]


def find_plugin() -> Plugin:
    """Return the plugin: `MQTTASGI_PLUGIN`, or the first in this package, beside it, or in the usual folders.

    Raises:
        LaunchError: There is none.
    """
    named = os.environ.get("MQTTASGI_PLUGIN")
    if named:
        candidates = [Path(os.path.expanduser(named)).absolute()]
    else:
        # Pip puts it into the package. cmake --install puts that into <folder of the plugin>/mqttasgi; in a
        # checkout, it is in python/.
        package = Path(__file__).absolute().parents[1]
        above = package.parent
        folders = [
            package,
            above,
            above.parent,
            above.parent / "build",
            Path("/usr/lib"),
            Path("/usr/local/lib"),
        ]
        multiarch = sysconfig.get_config_var("MULTIARCH")
        if multiarch:
            folders += [Path("/usr/lib") / multiarch, Path("/usr/local/lib") / multiarch]
        candidates = [folder / _PLUGIN for folder in folders]
    for path in candidates:
        if os.path.isfile(path):
            return _identify(path)
    if named:
        raise LaunchError(f"environment variable MQTTASGI_PLUGIN: there is no file {named}; name {_PLUGIN}")
    raise LaunchError(
        f"{_PLUGIN} is in none of {', '.join(str(path.parent) for path in candidates)}; install it (cmake "
        "--install) or say where it is in the environment variable MQTTASGI_PLUGIN"
    )


def _check_libraries(plugin: Plugin) -> None:
    """Raise `LaunchError` where a library that the plugin needs is not installed, as libpython seldom is."""
    with contextlib.suppress(OSError):
        said = _run(["ldd", plugin.path]).stdout
        missing = re.findall(r"^\s*(\S+) => not found", said, re.MULTILINE)
        if missing:
            cure = re.fullmatch(r"(libpython3\.\d+)\.so.*", missing[0])
            raise LaunchError(
                f"{plugin.path} needs {', '.join(missing)}, which this machine has not"
                + (f": apt-get install {cure[1]}" if cure else "")
            )


def _identify(path: Path) -> Plugin:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LaunchError(f"{path} cannot be read: {error.strerror}") from None
    found = re.search(rb"@\(#\)mqttasgi_plugin (\S+) Python ([0-9.]+)", content)
    if content[:4] != b"\x7fELF":
        raise LaunchError(f"{path} is no plugin for Mosquitto; name the file {_PLUGIN}")
    return Plugin(str(path), found[1].decode() if found else None, found[2].decode() if found else None)


def find_program(name: str, variable: Optional[str] = None) -> str:
    """Return the path of one of Mosquitto's programs, which Debian keeps out of users' PATH.

    Raises:
        LaunchError: It is not installed.
    """
    named = os.environ.get(variable) if variable else None
    found = shutil.which(
        named or name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    )
    if not found and named:
        raise LaunchError(
            f"environment variable {variable}: {named} is no program; name the file mosquitto, or unset it"
        )
    if not found:
        raise LaunchError(f"the program {name} is not installed: apt-get install mosquitto")
    return found


def find_mosquitto() -> str:
    """Return the broker: `MQTTASGI_MOSQUITTO`, or the installed one."""
    return find_program("mosquitto", "MQTTASGI_MOSQUITTO")


def mosquitto_version(program: str) -> str:
    """Return what it says its version is, such as "2.0.11"."""
    text = subprocess.run([program, "-h"], capture_output=True, text=True).stdout
    found = re.search(r"version (\d[\w.]*)", text)
    return found[1] if found else "unknown"


def version_of(distribution: str) -> Optional[str]:
    """Return the version of a Python package that is installed; None: it is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions() -> list[tuple[str, str]]:
    """Return what is installed, for people: names, and versions with places."""
    try:
        plugin = find_plugin()
        about_plugin = (
            f"{plugin.version or 'unknown'} for Python {plugin.python or 'unknown'} ({plugin.path})"
        )
    except LaunchError as error:
        about_plugin = f"not found: {error}"
    try:
        program = find_mosquitto()
        about_mosquitto = f"{mosquitto_version(program)} ({program})"
    except LaunchError as error:
        about_mosquitto = f"not found: {error}"
    return [
        ("mqttasgi", f"{__version__} ({Path(__file__).absolute().parents[1]})"),
        ("plugin", about_plugin),
        ("Mosquitto", about_mosquitto),
        ("Python", f"{sys.version.split()[0]} ({sys.executable})"),
        ("Django", version_of("django") or "not installed"),
        ("Channels", version_of("channels") or "not installed"),
    ]


def _check_python(plugin: Plugin) -> None:
    """Raise `LaunchError` where the virtual environment's packages are not for the plugin's Python."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if plugin.python and sys.prefix != sys.base_prefix and plugin.python.rpartition(".")[0] != here:
        raise LaunchError(
            f"{plugin.path} was built with Python {plugin.python}, and this virtual environment "
            f"({sys.prefix}) is for Python {here}; make one with the plugin's Python, or build the "
            "plugin with this one"
        )


# ---- the configuration ----


def printed(settings: Settings, project: Path) -> str:
    """Return the configuration for a system service.

    Raises:
        UsageError, LaunchError: As when starting it.
    """
    places = Places(find_plugin().path, "/run/mosquitto", "/etc/mosquitto/mqttasgi.passwd", str(project))
    made = lines(settings, places, as_root=True)
    if not has_login(settings):
        return text_of(made)
    return (
        f"# Make the password file first:  mosquitto_passwd -c {places.passwords} {settings.username}\n"
        "# This file has the password too: let only root and the broker's user read it.\n\n" + text_of(made)
    )


class PrivateFolder:
    """The folder of one broker, in which only its user can look, who has made it.

    It has configuration, password file and unix socket.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="mqttasgi-", dir=_temporary_folder()))

    def write(self, settings: Settings, plugin: Plugin, project: Path, *, check: bool = False) -> str:
        """Write everything, and return the configuration's path."""
        passwords = self.path / "passwords"
        if has_login(settings):
            self._write_passwords(settings, passwords)
        places = Places(plugin.path, str(self.path), str(passwords), str(project))
        text = text_of(lines(settings, places, as_root=os.geteuid() == 0, check=check))
        configuration = self.path / "mosquitto.conf"
        self._write(configuration, text)
        if settings.include:
            self._test_include(settings, text)
        return str(configuration)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_at_end(self) -> None:
        """Let it be removed when this process, whatever program it runs by then, has ended, however it ends.

        A shell waits for that: the other end of its standard input is open as long as the process lives.
        """
        ours, theirs = os.pipe()
        command = 'trap "" HUP INT TERM; read -r _; rm -rf -- "$1"'
        first = os.fork()
        if first == 0:
            # Whatever happens, this process must not go on as if it were the first.
            try:
                # Of its own session, so that Ctrl-C is not for it; nobody's child, so that nobody need wait.
                os.setsid()
                if os.fork() == 0:
                    nowhere = os.open(os.devnull, os.O_RDWR)
                    os.dup2(ours, 0)
                    os.dup2(nowhere, 1)
                    os.dup2(nowhere, 2)
                    os.closerange(3, 1024)
                    os.chdir("/")
                    os.execv("/bin/sh", ["sh", "-c", command, "mqttasgi-cleaner", str(self.path)])
            finally:
                os._exit(0)
        os.waitpid(first, 0)
        os.close(ours)
        os.set_inheritable(theirs, True)

    def _write(self, path: Path, text: str) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)

    def _write_passwords(self, settings: Settings, path: Path) -> None:
        # As `mosquitto_passwd -U` does, which however cuts a password at a colon: $7$ is PBKDF2 with SHA-512.
        salt, iterations = secrets.token_bytes(12), 101
        digest = hashlib.pbkdf2_hmac("sha512", (settings.password or "").encode(), salt, iterations)
        made = "$".join(base64.b64encode(part).decode() for part in (salt, digest))
        self._write(path, f"{settings.username}:$7${iterations}${made}\n")

    def _test_include(self, settings: Settings, text: str) -> None:
        """Let Mosquitto read the file up to a line that it must refuse; or it ends at an earlier mistake.

        Raises:
            UsageError: The mistake is in the included file.
        """
        path = self.path / "test.conf"
        self._write(path, f"{text}mqttasgi_end_of_file\n")
        said = _run([find_mosquitto(), "-c", str(path)]).stdout
        path.unlink()
        found = re.search(r"Error: (.*)\n.*Error found at '?.*:(\d+)", said)
        first = text[: text.index(INCLUDED_FROM.format(settings.include))].count("\n") + 1
        if found and first < int(found[2]) <= text.count("\n"):
            raise settings.complain(
                "include",
                f"{settings.include} line {int(found[2]) - first}: {found[1].rstrip('.')}, says Mosquitto",
            )


def _temporary_folder() -> str:
    """Return the first that is fit: this user's own in memory, what the environment says, the system's."""
    candidates = [os.environ.get("XDG_RUNTIME_DIR")]
    with contextlib.suppress(OSError):
        candidates.append(tempfile.gettempdir())
    for folder in [*candidates, "/tmp"]:
        if folder and _is_fit(os.path.realpath(folder)):
            return os.path.realpath(folder)
    raise LaunchError(
        "there is no folder for the broker's private files: /tmp must be there, writable, and with the "
        "sticky bit (chmod 1777); or name another in the environment variable TMPDIR"
    )


def _is_fit(folder: str) -> bool:
    # A path with a blank cannot stand in a listener line, nor can a socket's be long.
    if not os.access(folder, os.W_OK) or len(folder) >= 70 or re.search(r"\s", folder):
        return False
    # Where others may rename what is not theirs, they could put a configuration of their own in its place.
    modes = [path.stat().st_mode for path in (Path(folder), *Path(folder).parents)]
    return all(not mode & stat.S_IWOTH or mode & stat.S_ISVTX for mode in modes)


# ---- start and check ----


def start(settings: Settings, project: Path) -> NoReturn:
    """Become the broker: this process goes on as Mosquitto, with its signals, its exit status and its log.

    Raises:
        UsageError, LaunchError: It cannot be started.
    """
    mosquitto = find_mosquitto()
    check_user(settings)
    check_port(settings)  # while this is root still, who sees which process has it
    make_persistence(settings)
    plugin = _become_the_user_of(settings)
    check_port(settings)
    folder = PrivateFolder()
    try:
        folder.remove_at_end()
        configuration = folder.write(settings, plugin, project)
    except BaseException:
        folder.remove()
        raise
    _warn(settings)
    _warn_of_versions()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(mosquitto, [mosquitto, "-c", configuration])


def _become_the_user_of(settings: Settings) -> Plugin:
    """Return the plugin, which that user must be able to read."""
    plugin = find_plugin()
    _check_python(plugin)
    _check_libraries(plugin)
    become(settings)
    if not os.access(plugin.path, os.R_OK):
        raise LaunchError(
            f"{plugin.path} cannot be read by the broker's user {settings.user or 'mosquitto'}; put it where "
            "that user can, or name another with --user"
        )
    return plugin


def _warn(settings: Settings) -> None:
    if settings.host in ("0.0.0.0", "::") and not has_login(settings) and not settings.cacert:
        print(
            f"mqttasgi: everyone who reaches port {settings.port} of this machine can publish and "
            "subscribe; username and password (-U and -P) change that.",
            file=sys.stderr,
        )


def _warn_of_versions() -> None:
    plugin = find_plugin()
    complaint = _versions.clash()
    if not complaint and plugin.version:
        complaint = _versions.difference(plugin.version, plugin.path)
    if complaint:
        print(f"mqttasgi: {complaint}", file=sys.stderr)


def check(settings: Settings, project: Path) -> bool:
    """Print what can be said before the broker is started, and return whether it would start.

    The application is imported where it would run, in the broker; none of its consumers is started.

    Raises:
        UsageError, LaunchError: As when starting it.
    """
    mosquitto = find_mosquitto()
    check_user(settings)
    _report(True, "options")
    port = _problem(check_port, settings)  # while this is root still, who sees which process has it
    persistence = _problem(check_persistence, settings)
    plugin = _become_the_user_of(settings)
    port = port or _problem(check_port, settings)
    _report(not port, "where it listens", port)
    if settings.persistence:
        _report(not persistence, "where it keeps things", persistence)
    folder = PrivateFolder()
    try:
        folder.remove_at_end()
        configuration = folder.write(settings, plugin, project, check=True)
        return _check_in_broker(settings, mosquitto, configuration) and not port and not persistence
    finally:
        folder.remove()


def _problem(test: Callable[[Settings], None], settings: Settings) -> str:
    try:
        test(settings)
    except UsageError as error:
        return f"{error}."
    return ""


def _check_in_broker(settings: Settings, mosquitto: str, configuration: str) -> bool:
    version = mosquitto_version(mosquitto)
    if _number_of(version) >= (2, 1):
        tested = _run([mosquitto, "-c", configuration, "--test-config"])
        good = tested.returncode == 0
        _report(good, f"configuration, tested by Mosquitto {version}", tested.stdout)
        if not good:
            return False
    ran = _run([mosquitto, "-c", configuration])
    good = "Check passed:" in ran.stdout
    _report(good, f"application {settings.application}, imported by Mosquitto {version}", ran.stdout)
    for sentence in re.findall(r"mqttasgi\.databases: (.*)", ran.stdout) if good else ():
        print(f"{'note':<8}{sentence}")
    return good


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def _report(good: bool, what: str, output: str = "") -> None:
    print(f"{'ok' if good else 'FAILED':<8}{what}")
    if good:
        return
    for line in output.splitlines():
        # Without the time, and without what a broker says that ends.
        text = re.sub(r"^\d{4}-\d\d-\d\dT[\d:]+: ", "", line)
        if not text.startswith(_OF_NO_INTEREST):
            print(f"        {text}")


def _number_of(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
