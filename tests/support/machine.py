"""A Debian machine of its own, with systemd, to follow a page word for word in. Needs root and systemd-nspawn."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

from .processes import wait_until

USER = "visitor"
"""Who follows the page: an ordinary user who may use sudo."""

PACKAGES = ("dbus", "procps", "sudo", "systemd", "systemd-sysv")
"""What a small debootstrap lacks of an ordinary Debian."""

BOOT_SECONDS = 90


def missing() -> str:
    """Return why this machine cannot boot another; nothing where it can."""
    if os.geteuid() != 0:
        return "only root can boot a machine in a folder"
    absent = [
        name for name in ("systemd-nspawn", "nsenter", "setpriv", "unshare") if shutil.which(name) is None
    ]
    return f"not installed: {', '.join(absent)}" if absent else ""


def _processes_below(pid: int) -> list[int]:
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in thread.read_text().split()]
    return found


class Terminal:
    """A command that goes on in a terminal of its own.

    Attributes:
        log: What it has printed is in this file.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.log = log

    @property
    def printed(self) -> str:
        """What it has printed until now."""
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str, seconds: float, since: int = 0) -> None:
        """Return when it has printed what the regular expression finds; fail where it ends or is late.

        Args:
            since: So many characters of what it has printed do not count.
        """

        def appeared() -> bool:
            ended = self._process.poll() is not None
            if re.search(pattern, self.printed[since:]):
                return True
            assert not ended, f"it ended with status {self._process.returncode}:\n{self.printed[-3000:]}"
            return False

        wait_until(appeared, seconds, f"{pattern!r} in a terminal", lambda: self.printed[-3000:])

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait until everything that ran there has ended."""
        self._send(signal.SIGINT)
        # What leads into the machine ends at once, before what runs there has said goodbye.
        wait_until(self._is_over, 60, "the end of a terminal", lambda: self.printed[-3000:])

    def end(self) -> None:
        """End it in any case."""
        self._send(signal.SIGKILL)
        self._process.wait(60)

    def _send(self, number: int) -> bool:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True

    def _is_over(self) -> bool:
        self._process.poll()
        return not self._send(0)


def copy_debian(debian: Path, root: Path) -> None:
    """Copy what debootstrap made, in place of a copy of an earlier run."""
    if root.exists():
        shutil.rmtree(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(debian), str(root)], check=True)


class Machine:
    """A copy of a Debian in a folder, booted. Its network is this machine's, its processes are its own.

    Attributes:
        root: Its files.
    """

    def __init__(self, debian: Path, root: Path) -> None:
        """Args:
        debian: What debootstrap made, with the package settings of this machine; it stays as it is.
        root: Where the copy is made. A copy that is there is of an earlier run and removed.
        """
        self.root = root
        self._terminals: list[Terminal] = []
        self._where = f"/home/{USER}"
        copy_debian(debian, root)
        # The settings of a build machine: here services start as they do for everybody.
        (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        # Nobody is there to say yes.
        (root / "etc/apt/apt.conf.d/91yes").write_text('APT::Get::Assume-Yes "true";\n')
        self._prepare()
        self._boot()

    def _chroot(self, *command: str) -> None:
        done = subprocess.run(
            ["chroot", str(self.root), "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
             "DEBIAN_FRONTEND=noninteractive", *command],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{shlex.join(command)}:\n{(done.stdout + done.stderr)[-3000:]}"

    def _prepare(self) -> None:
        self._chroot("apt-get", "update", "-qq")
        self._chroot("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES)
        self._chroot("useradd", "--create-home", "--shell", "/bin/bash", USER)
        (self.root / f"etc/sudoers.d/{USER}").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")

    def _boot(self) -> None:
        command = [
            # The machine goes with this process, however that ends: process 1 of a namespace takes all others along.
            "setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
            "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe",
            "--directory", str(self.root),
        ]  # fmt: skip
        wheels = os.environ.get("PIP_FIND_LINKS", "")
        if wheels.startswith("/") and os.path.isdir(wheels):
            command += ["--bind-ro", wheels]
        self._console = self.root.with_suffix(".console")
        with self._console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
                # It would take an old layout of control groups for none; it only warns of it this way.
                env={**os.environ, "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE": "1"},
            )  # fmt: skip
        try:
            wait_until(self._is_running, BOOT_SECONDS, "the machine", self._console.read_text)
        except BaseException:
            self.stop()
            raise

    def _is_running(self) -> bool:
        assert self._nspawn.poll() is None, f"the machine does not boot:\n{self._console.read_text()[-3000:]}"
        below = [init for nspawn in _processes_below(self._nspawn.pid) for init in _processes_below(nspawn)]
        if not below:
            return False
        self._init = below[0]
        state = subprocess.run(
            [*self._enter(), "systemctl", "is-system-running"], capture_output=True, text=True
        )
        return state.stdout.strip() in ("running", "degraded")

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self._init), "--mount", "--uts", "--ipc", "--pid"]

    def _as_visitor(self, commands: str) -> list[str]:
        return [
            *self._enter(), "runuser", "-u", USER, "--",
            "env", "-i", f"HOME=/home/{USER}", f"USER={USER}", f"LOGNAME={USER}", "LANG=C.UTF-8", "TERM=dumb",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "bash", "-e", "-c", f"cd {shlex.quote(self._where)}\n{commands}",
        ]  # fmt: skip

    def run(self, commands: str, seconds: float = 300) -> str:
        """Paste commands into the terminal; a later call goes on in the folder that they end in.

        Returns:
            What they printed, errors included.

        Raises:
            AssertionError: One of them failed.
        """
        report = f"/home/{USER}/.folder"
        done = subprocess.run(
            self._as_visitor(f"{commands}\npwd >{report}"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
        )  # fmt: skip
        printed = done.stdout.decode(errors="replace")
        assert done.returncode == 0, (
            f"status {done.returncode} of\n{commands}\nwhich printed\n{printed[-4000:]}"
        )
        self._where = (self.root / report.lstrip("/")).read_text().strip()
        return printed

    def open_terminal(self, commands: str) -> Terminal:
        """Paste commands into another terminal, where they go on. In the folder that the first one is in."""
        log = self.root.with_suffix(f".terminal-{len(self._terminals)}")
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._as_visitor(commands),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        terminal = Terminal(process, log)
        self._terminals.append(terminal)
        return terminal

    def write(self, path: str, text: str) -> None:
        """Make a file with an editor: a relative path is in the folder that the terminal is in."""
        full = self.root / (path if path.startswith("/") else f"{self._where}/{path}").lstrip("/")
        assert full.parent.is_dir(), f"there is no folder for {path}"
        full.write_text(text)
        owner = full.parent.stat()
        os.chown(full, owner.st_uid, owner.st_gid)

    def stop(self) -> None:
        """End everything, and remove the files."""
        for terminal in self._terminals:
            terminal.end()
        self._nspawn.kill()
        self._nspawn.wait()
        for _ in range(20):
            shutil.rmtree(self.root, ignore_errors=True)
            if not self.root.exists():
                break
            time.sleep(0.2)  # what is mounted below goes with the last process
