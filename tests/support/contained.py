"""Becomes the first process of a container. `support.container` starts it, in namespaces that it may change.

It does what a container engine does between `clone()` and the image's program: mounts, user, rights, and Docker's
default refusal of `unshare()`. Its argument is what `Container` writes as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import struct
import subprocess
import sys
from typing import Any

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 24, 38, 22
SECCOMP_MODE_FILTER = 2
# Those that Docker leaves to a container's root unless told otherwise, by number: chown, dac_override, fowner, fsetid,
# kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
DOCKER_CAPABILITIES = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}
UNSHARE = {"x86_64": 272, "aarch64": 97}

libc = ctypes.CDLL(None, use_errno=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def make_mounts(container: dict[str, Any]) -> str:
    """Lay out the container's files, and return where."""
    root: str = container["root"]
    mount("--bind", root, root)
    mount("-t", "proc", "proc", f"{root}/proc")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{root}/dev")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        open(f"{root}/dev/{name}", "w").close()
        mount("--bind", f"/dev/{name}", f"{root}/dev/{name}")
    os.mkdir(f"{root}/dev/shm")
    mount("-t", "tmpfs", "-o", "nosuid,nodev,noexec,mode=1777,size=64m", "shm", f"{root}/dev/shm")
    for path in ("/etc/hosts", "/etc/resolv.conf"):
        open(root + path, "a").close()
        mount("--bind", path, root + path)
    for path in container["tmpfs"]:
        mount("-t", "tmpfs", "-o", "nosuid,nodev,noexec,mode=1777", "tmpfs", root + path)
    for source, target, read_only in container["volumes"]:
        os.makedirs(root + target, exist_ok=True)
        mount("--bind", source, root + target)
        if read_only:
            mount("-o", "remount,bind,ro", root + target)
    if container["read_only"]:
        mount("-o", "remount,bind,ro", root)
    return root


def prctl(*arguments: int) -> None:
    if libc.prctl(
        *(ctypes.c_ulong(argument) for argument in arguments), *(ctypes.c_ulong(0),) * (5 - len(arguments))
    ):
        raise OSError(ctypes.get_errno(), f"prctl{arguments}")


def refuse_unshare() -> None:
    """As Docker's default seccomp profile does for a process without CAP_SYS_ADMIN."""
    number = UNSHARE.get(platform.machine())
    if number is None:
        return
    code = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load the number of the system call
            (0x15, 0, 1, number),  # unshare?
            (0x06, 0, 0, 0x00050000 | 1),  # EPERM
            (0x06, 0, 0, 0x7FFF0000),  # allowed
        )
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program))


def give_up_rights(container: dict[str, Any]) -> None:
    kept = set() if container["cap_drop"] else DOCKER_CAPABILITIES
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for capability in set(range(last + 1)) - kept:
        prctl(PR_CAPBSET_DROP, capability)
    if container["no_new_privileges"]:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    refuse_unshare()  # takes no_new_privs, or CAP_SYS_ADMIN, which this process has until it is another user's
    os.setgroups([])
    os.setgid(container["gid"])
    os.setuid(container["uid"])


def be_init(command: list[str]) -> int:
    """What `docker run --init` puts in front of the program: passes signals on, and waits for whoever is nobody's."""
    child = os.fork()
    if child == 0:
        os.execvp(command[0], command)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) % 256


def main() -> None:
    container = json.loads(sys.argv[1])
    root = make_mounts(container)
    os.chroot(root)
    os.chdir(container["folder"])
    give_up_rights(container)
    command = container["command"]
    os.environ.clear()
    os.environ.update(container["environment"])
    if container["init"]:
        sys.exit(be_init(command))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
