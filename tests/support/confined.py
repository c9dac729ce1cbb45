"""Starts a service as systemd would, where no systemd runs: with what a unit file says of its confinement.

A test asks for the command line by `command()`; what it starts confines itself in steps and becomes the service, with
the same process id. Needs root. Of the settings, `_NOT_DONE` are not carried out; one that is nowhere here raises.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import json
import os
import platform
import pwd
import re
import resource
import shlex
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

Settings = dict[str, list[str]]

_NOT_DONE = {
    # By nobody but a manager.
    "ExecReload", "ExecStart", "ExecStartPre", "NotifyAccess", "Restart", "RestartSec", "Type", "WatchdogSec",
    # Made by the test that wants them.
    "LogsDirectory", "RuntimeDirectory",
    # Not tried; systemd-analyze at least reads them.
    "LockPersonality", "ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs",
    "ProtectKernelModules", "ProtectProc", "RemoveIPC", "RestrictRealtime", "RestrictSUIDSGID",
    "StateDirectoryMode", "SystemCallArchitectures",
}  # fmt: skip
_DONE = {
    "CapabilityBoundingSet", "Environment", "LimitNOFILE", "NoNewPrivileges", "PrivateDevices", "PrivateTmp",
    "ProtectHome", "ProtectKernelTunables", "ProtectSystem", "ReadWritePaths", "RestrictAddressFamilies",
    "RestrictNamespaces", "StateDirectory", "SystemCallErrorNumber", "SystemCallFilter", "UMask", "User",
    "WorkingDirectory",
}  # fmt: skip

_DIRECTORIES = {"LogsDirectory": "/var/log", "RuntimeDirectory": "/run", "StateDirectory": "/var/lib"}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE_NEW = 0x7E020080 | 0x02000000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET, TIME
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def read_unit(*texts: str) -> Settings:
    """Return the [Service] section of a unit and its drop-ins; later values of a setting are behind earlier ones."""
    found: Settings = {}
    for text in texts:
        section = ""
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and line and line[0] not in "#;":
                key, _, value = line.partition("=")
                if key not in _DONE | _NOT_DONE:
                    raise ValueError(f"the tests do not know the setting {line!r}")
                found.setdefault(key, []).append(value.strip())
    return found


def syscall_filter_is_known() -> bool:
    """Tell whether `SystemCallFilter=` can be carried out: systemd-analyze knows the sets, gcc the numbers."""
    return bool(shutil.which("systemd-analyze")) and platform.machine() in _ARCHITECTURES


def command(
    settings: Settings,
    run: str,
    *,
    files: Mapping[str, Path],
    keep: str,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Return what starts a service.

    Args:
        settings: Of the unit.
        run: The value of its `ExecStart=` or another command of it.
        files: What the service finds at which path, in place of the machine's; a folder or a file.
        keep: The variable of this process's environment that the service keeps.
        environment: Added to the unit's.
    """
    plan: dict[str, Any] = {
        "settings": settings,
        "run": shlex.split(run.lstrip("+!-")),
        "files": {path: str(source) for path, source in files.items()},
        "keep": keep,
        "environment": dict(environment or {}),
        "filter": base64.b64encode(_program(settings)).decode(),
    }
    return [
        "unshare", "--mount", "--propagation", "private",
        "/usr/bin/python3", "-I", __file__, "enter", json.dumps(plan),
    ]  # fmt: skip


class Notified:
    """The socket on which a service says that it is ready."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.address = f"@mqttasgi-test-{os.getpid()}-{id(self)}"
        self._socket.bind("\0" + self.address[1:])

    def __enter__(self) -> Notified:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wait(self, timeout: float) -> tuple[str, int]:
        """Return what was said, and by which process."""
        self._socket.settimeout(timeout)
        data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(12))
        pid: int = struct.unpack("3i", ancillary[0][2][:12])[0]
        return data.decode(), pid


# ---- SystemCallFilter, RestrictAddressFamilies, RestrictNamespaces ----


def _members(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True
    ).stdout
    return set().union(*(_members(word) for word in re.findall(r"^ {4}([@\w-]+)$", text, re.MULTILINE)))


def _numbers() -> dict[str, int]:
    text = subprocess.run(
        ["gcc", "-E", "-dM", "-include", "asm/unistd.h", "-xc", "/dev/null"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    defined = dict(re.findall(r"^#define __NR(\w+) (\w+)$", text, re.MULTILINE))
    found = {}
    for name, value in defined.items():
        while value.startswith("__NR"):
            value = defined.get(value[4:], "-1")
        if name.startswith("_") and value.isdecimal():
            found[name[1:]] = int(value)
    return found


def _program(settings: Settings) -> bytes:
    """Return a BPF program that lets through what the unit lets through."""
    lines = " ".join(settings.get("SystemCallFilter", []))
    if not lines or not syscall_filter_is_known():
        return b""
    allowed: set[str] = set()
    for value in settings["SystemCallFilter"]:
        members = set().union(*(_members(word) for word in value.lstrip("~").split()))
        allowed = allowed - members if value.startswith("~") else allowed | members
    refused = _ERRNO | getattr(errno, settings.get("SystemCallErrorNumber", ["EPERM"])[-1])
    families = [
        int(getattr(socket, name)) for name in " ".join(settings.get("RestrictAddressFamilies", [])).split()
    ]
    numbers = _numbers()

    def load(offset: int) -> bytes:
        return struct.pack("HBBI", 0x20, 0, 0, offset)

    def equals(value: int, yes: int, no: int) -> bytes:
        return struct.pack("HBBI", 0x15, yes, no, value)

    def answer(value: int) -> bytes:
        return struct.pack("HBBI", 0x06, 0, 0, value)

    made = [load(4), equals(_ARCHITECTURES[platform.machine()], 1, 0), answer(refused), load(0)]

    def special(name: str, *checks: bytes) -> None:
        # Of this call, the first argument decides.
        made.extend([equals(numbers[name], 0, len(checks) + 1), load(16), *checks])

    if families:
        special(
            "socket",
            *(step for family in families for step in (equals(family, 0, 1), answer(_ALLOW))),
            answer(_ERRNO | errno.EAFNOSUPPORT),
        )
    if settings.get("RestrictNamespaces") == ["yes"]:
        for name in ("unshare", "clone"):
            some_bits = struct.pack("HBBI", 0x45, 0, 1, _CLONE_NEW)
            special(name, some_bits, answer(refused), answer(_ALLOW))
        # Its flags are in memory, where a filter cannot look; the C library falls back to clone().
        made.extend([equals(numbers["clone3"], 0, 1), answer(_ERRNO | errno.ENOSYS)])
    for name in sorted(allowed & set(numbers)):
        made.extend([equals(numbers[name], 0, 1), answer(_ALLOW)])
    made.append(answer(refused))
    return b"".join(made)


def _filter(program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    argument = Program(len(program) // 8, program)
    if libc.prctl(22, 2, ctypes.byref(argument), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


# ---- in the new process ----


def _mount(*words: str) -> None:
    subprocess.run(["mount", "-nc", *words], check=True)


_made: set[Path] = set()


def _put(source: str, target: str) -> None:
    """Let `source` be seen at `target`, which need not exist: nothing is made on a disk."""
    missing = Path(target)
    while not missing.parent.exists():
        missing = missing.parent
    if not missing.exists() and missing.parent not in _made:
        # A folder in memory in place of the one that it would have to be made in, with what is in that one.
        parent = missing.parent
        entries = [entry for entry in parent.iterdir() if not entry.is_symlink()]
        old = os.open(parent, os.O_PATH)
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(parent))
        _made.add(parent)
        for entry in entries:
            if stat.S_ISDIR(os.stat(entry.name, dir_fd=old).st_mode):
                entry.mkdir()
            else:
                entry.touch()
            _mount("--rbind", f"/proc/{os.getpid()}/fd/{old}/{entry.name}", str(entry))
        os.close(old)
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    _mount("--rbind", source, target)


def _mount_points() -> list[str]:
    text = Path("/proc/self/mountinfo").read_text()
    points = {line.split()[4].encode().decode("unicode_escape") for line in text.splitlines()}
    outside = re.compile(r"/(proc|sys|dev)(/|$)")
    return sorted(point for point in points if not outside.match(point))


def _confine(settings: Settings, files: Mapping[str, str]) -> None:
    for target, source in sorted(files.items()):
        _put(source, target)

    def is_on(name: str) -> bool:
        return settings.get(name, ["no"])[-1] == "yes"

    if settings.get("ProtectSystem") == ["strict"]:
        writable = " ".join(settings.get("ReadWritePaths", [])).split()
        for setting, parent in _DIRECTORIES.items():
            writable += [f"{parent}/{name}" for name in settings.get(setting, [])]
        for path in writable:
            # A mount of its own, so that it can stay as it is.
            _mount("--rbind", path, path)
        for point in _mount_points():
            if not any(point == path or point.startswith(f"{path}/") for path in writable):
                _mount("-o", "remount,bind,ro", point)
    if is_on("ProtectHome"):
        for path in ("/home", "/root", "/run/user"):
            if os.path.isdir(path):
                _mount("-t", "tmpfs", "-o", "ro,mode=000", "tmpfs", path)
    if is_on("PrivateTmp"):
        for path in ("/tmp", "/var/tmp"):
            _mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", path)
    if is_on("PrivateDevices"):
        old = os.open("/dev", os.O_PATH)
        _mount("-t", "tmpfs", "-o", "mode=755,nosuid", "tmpfs", "/dev")
        for name in ("null", "zero", "full", "random", "urandom", "tty", "shm"):
            if name == "shm":
                Path("/dev/shm").mkdir()
            else:
                Path("/dev", name).touch()
            _mount("--bind", f"/proc/{os.getpid()}/fd/{old}/{name}", f"/dev/{name}")
        os.close(old)
    if is_on("ProtectKernelTunables"):
        _mount("--bind", "/proc/sys", "/proc/sys")
        _mount("-o", "remount,bind,ro", "/proc/sys")


def _enter(plan: dict[str, Any]) -> NoReturn:
    settings: Settings = plan["settings"]
    code = Path(__file__).read_text()  # which the service will not be able to see
    name = settings.get("User", ["root"])[-1]
    user = pwd.getpwnam(name)
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        plan["keep"]: os.environ[plan["keep"]],
    }
    if "User" in settings:
        environment.update(HOME=user.pw_dir, LOGNAME=name, USER=name, SHELL="/usr/sbin/nologin")
    for line in settings.get("Environment", []):
        for pair in shlex.split(line):
            variable, _, value = pair.partition("=")
            environment[variable] = value
    environment.update(plan["environment"])
    _confine(settings, plan["files"])
    os.chdir(settings.get("WorkingDirectory", ["/"])[-1])
    os.umask(int(settings.get("UMask", ["0022"])[-1], 8))
    # As far as this process may.
    limit = min(int(settings["LimitNOFILE"][-1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    bounding = " ".join(settings["CapabilityBoundingSet"]).lower().split()
    kept = "".join(f",+{name.removeprefix('cap_')}" for name in bounding)
    words = ["setpriv", f"--bounding-set=-all{kept}", "--inh-caps=-all"]
    if "User" in settings:
        words += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if settings.get("NoNewPrivileges") == ["yes"]:
        words.append("--no-new-privs")
    words += ["/usr/bin/python3", "-I", "-c", code, "filter", plan["filter"], *plan["run"]]
    os.execvpe(words[0], words, environment)


def main(words: Iterable[str]) -> NoReturn:
    """Do one of the steps."""
    step, argument, *rest = words
    if step == "enter":
        _enter(json.loads(argument))
    program = base64.b64decode(argument)
    if program:
        _filter(program)
    os.execv(rest[0], rest)


if __name__ == "__main__":
    main(sys.argv[1:])
