"""A Debian in a folder, fresh from debootstrap, with processes and a network of its own. Needs root.

In there a visitor, who may use sudo, pastes what a page tells; services do not start.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

from .machine import USER, copy_debian

HOME = f"/home/{USER}"

#: What is not the packages': states of apt and dpkg, caches, logs, and what was made by the visitor or a broker.
_NOT_COUNTED = {
    "/dev", "/etc/ld.so.cache", HOME, "/proc", "/run", "/srv", "/tmp", "/var/cache", "/var/lib/apt", "/var/lib/dpkg",
    "/var/lib/mosquitto", "/var/log",
}  # fmt: skip


def missing() -> str:
    """Return why this machine cannot have one; nothing where it can."""
    if os.geteuid() != 0:
        return "only root can enter a Debian in a folder"
    absent = [name for name in ("ip", "unshare") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


class Fresh:
    """A copy of a Debian.

    Attributes:
        root: Its files.
    """

    def __init__(self, debian: Path, root: Path) -> None:
        """Args:
        debian: What debootstrap made, with the package settings of this machine; it stays as it is.
        root: Where the copy is made. A copy that is there is of an earlier run and removed.
        """
        self.root = root
        copy_debian(debian, root)
        # Nobody is there to say yes.
        (root / "etc/apt/apt.conf.d/91yes").write_text('APT::Get::Assume-Yes "true";\nquiet "1";\n')
        self.as_root("apt-get update && apt-get install --no-install-recommends sudo")
        self.as_root(f"useradd --create-home --shell /bin/bash {USER}")
        (root / f"etc/sudoers.d/{USER}").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")

    def as_root(self, commands: str, *, alone: bool = False, seconds: float = 600) -> str:
        """Run commands with bash, and return what they printed.

        Args:
            alone: With a network that has nobody else in it, so that every port is free. Without, it is this
                machine's.
            seconds: After that, everything that runs there is ended.

        Raises:
            AssertionError: One of them failed.
        """
        inside = [
            "chroot", str(self.root), "/usr/bin/env", "-i", "HOME=/root", "LANG=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "bash", "-euo", "pipefail", "-c", commands,
        ]  # fmt: skip
        root = shlex.quote(str(self.root))
        prepare = (
            f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && exec {shlex.join(inside)}"
        )
        if alone:
            prepare = f"ip link set lo up && {prepare}"
        # All of it goes with its first process, mounts included.
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *(["--net"] if alone else [])]
        done = subprocess.run(
            [*command, "sh", "-c", prepare],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
        )  # fmt: skip
        printed = done.stdout.decode(errors="replace")
        assert done.returncode == 0, (
            f"status {done.returncode} of\n{commands}\nwhich printed\n{printed[-6000:]}"
        )
        return printed

    def paste(self, commands: str, *, where: str = HOME, alone: bool = False) -> str:
        """Let the visitor paste commands in a folder, and return what they printed."""
        return self.as_root(as_visitor(commands, where), alone=alone)

    def files(self) -> dict[str, tuple[object, ...]]:
        """Return what there is that packages bring: path, and what shows that it was changed."""
        found: dict[str, tuple[object, ...]] = {}
        for folder, folders, names in os.walk(self.root):
            inside = "/" + os.path.relpath(folder, self.root).removeprefix(".")
            folders[:] = [name for name in folders if os.path.join(inside, name) not in _NOT_COUNTED]
            for name in (*folders, *names):
                path = os.path.join(inside, name)
                if path in _NOT_COUNTED:
                    continue
                about = os.lstat(os.path.join(folder, name))
                changes = () if stat.S_ISDIR(about.st_mode) else (about.st_size, about.st_mtime_ns)
                found[path] = (about.st_mode, about.st_uid, about.st_gid, *changes)
        return found

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self.root, ignore_errors=True)


def as_visitor(commands: str, where: str = HOME) -> str:
    """Return the command with which root runs commands as the visitor."""
    words = [
        "runuser", "-u", USER, "--", "env", "-i", f"HOME={HOME}", f"USER={USER}", "LANG=C.UTF-8",
        "PATH=/usr/local/bin:/usr/bin:/bin", "bash", "-euo", "pipefail", "-c", f"cd {where}\n{commands}",
    ]  # fmt: skip
    return shlex.join(words)
