"""Images and containers without a container engine: buildah builds, the kernel's namespaces run. Needs root."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from .processes import wait_until

CONTAINED = Path(__file__).with_name("contained.py")


class Images:
    """A store of images of its own, below one folder."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: Kept from one run to the next: what is in it need not be made again.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._driver = "overlay"
        try:
            self.buildah("rm", "--all")  # of a run that did not end by itself
            self.unmount(self.mount("scratch")[0])
        except RuntimeError:
            # A file system that overlayfs cannot lie on, another overlay say: every layer is then a whole copy.
            self._driver = "vfs"

    def buildah(self, *arguments: object) -> str:
        """Run buildah, and return what it printed.

        Raises:
            RuntimeError: It failed; the text is what it said.
        """
        store = self.folder / self._driver
        command = [
            "buildah", "--storage-driver", self._driver, "--root", store, "--runroot", f"{store}-run"
        ]  # fmt: skip
        done = subprocess.run([str(word) for word in (*command, *arguments)], capture_output=True, text=True)
        if done.returncode:
            said = (done.stdout + done.stderr)[-2500:]
            raise RuntimeError(f"buildah {arguments[0]} ended with status {done.returncode}:\n{said}")
        return done.stdout.strip()

    def import_tree(self, tree: Path, tag: str, made_from: str) -> None:
        """Make image `tag` of a folder, unless it was made from the same before."""
        digest = hashlib.sha256(made_from.encode()).hexdigest()
        if self.label(tag, "made-from") == digest:
            return
        container, root = self.mount("scratch")
        subprocess.run(["cp", "-a", f"{tree}/.", root], check=True)
        slim(root)
        self.buildah("config", "--label", f"made-from={digest}", "--cmd", '["bash"]', container)
        self.buildah("commit", "--quiet", "--format", "docker", container, tag)
        self.unmount(container)

    def label(self, tag: str, name: str) -> str:
        """Return a label of an image; nothing where there is no such image."""
        try:
            return str((self.configuration(tag).get("Labels") or {}).get(name, ""))
        except RuntimeError:
            return ""

    def build(self, tag: str, dockerfile: Path, context: Path, *arguments: object) -> None:
        """Build image `tag` from a Dockerfile; where layers are cheap, those of earlier builds are used again."""
        self.buildah(
            "build", "--isolation", "chroot", "--format", "docker", "--pull-never",
            f"--layers={str(self._driver == 'overlay').lower()}",
            "--file", dockerfile, "--tag", tag, *wheels(), *arguments, context,
        )  # fmt: skip

    def configuration(self, tag: str) -> dict[str, Any]:
        """Return what the image says of itself: `Entrypoint`, `Env`, `User`, `Healthcheck` and so on."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", tag))["Docker"][
            "config"
        ]
        return found

    def mount(self, tag: str) -> tuple[str, Path]:
        """Make a container of an image; return its name and where its files are."""
        name = self.buildah("from", "--pull-never", tag)
        return name, Path(self.buildah("mount", name))

    def unmount(self, name: str) -> None:
        """Throw a container away."""
        self.buildah("rm", name)


def slim(root: Path) -> None:
    """Make of a debootstrap's files those of a `slim` image: no documentation, no package lists."""
    for folder in (
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "var/cache/apt",
        "var/lib/apt/lists",
    ):
        shutil.rmtree(root / folder, ignore_errors=True)
    for folder in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (root / folder).mkdir(parents=True)
    excludes = "".join(f"path-exclude /usr/share/{name}/*\n" for name in ("doc", "man", "locale"))
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(excludes)
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };\n'
        'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n'
    )


def wheels() -> list[str]:
    """Return the argument that shows a build the wheels of this machine, where there are some."""
    folder = os.environ.get("PIP_FIND_LINKS", "")
    return ["--volume", f"{folder}:{folder}:ro"] if folder.startswith("/") and os.path.isdir(folder) else []


class Container:
    """A container of an image. Its network is this machine's.

    Attributes:
        log: What its program printed, in all its starts.
        root: Its files.
    """

    def __init__(
        self,
        images: Images,
        tag: str,
        folder: Path,
        *,
        environment: dict[str, str] | None = None,
        volumes: dict[str, Path] | None = None,
        entrypoint: list[str] | None = None,
        command: list[str] | None = None,
        read_only: bool = False,
        tmpfs: list[str] | None = None,
        cap_drop: bool = False,
        no_new_privileges: bool = False,
        init: bool = False,
    ) -> None:
        """As `docker create`; what is not given is the image's.

        Args:
            folder: For the log.
            volumes: Folders of this machine by their places in the container; a place may end in `:ro`. An empty
                one gets what the image has there, with its owner, as Docker's named volumes do.
            cap_drop: Without even the capabilities that Docker leaves.
            init: With a small init before the program.
        """
        self._images = images
        self.configuration = images.configuration(tag)
        self.name, self.root = images.mount(tag)
        self.log = folder / f"{self.name}.log"
        self.environment = dict(entry.split("=", 1) for entry in self.configuration["Env"])
        self.environment.update(environment or {})
        words = entrypoint or self.configuration["Entrypoint"]
        user = self._user(self.configuration["User"])
        mounts = []
        for target, source in (volumes or {}).items():
            place, _, mode = target.partition(":")
            if not source.exists():
                subprocess.run(["cp", "-a", self.root / place.lstrip("/"), source], check=True)
            mounts.append((str(source), place, mode == "ro"))
        self._specification = {
            "root": str(self.root),
            "folder": self.configuration["WorkingDir"],
            "environment": self.environment,
            "command": [*words, *(command if command is not None else self.configuration["Cmd"] or [])],
            "volumes": mounts,
            "uid": user[0],
            "gid": user[1],
            "read_only": read_only,
            "tmpfs": tmpfs or [],
            "cap_drop": cap_drop,
            "no_new_privileges": no_new_privileges,
            "init": init,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def _user(self, text: str) -> tuple[int, int]:
        """Return the numbers of `USER`, which may be names."""

        def number(name: str, file: str) -> list[str]:
            rows = [line.split(":") for line in (self.root / "etc" / file).read_text().splitlines()]
            return next(row for row in rows if name in (row[0], row[2]))

        user, _, group = (text or "root").partition(":")
        entry = number(user, "passwd")
        return int(entry[2]), int(number(group, "group")[2] if group else entry[3])

    def start(self) -> Container:
        """Start the program, and return at once."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "--pid", "--ipc", "--uts", "--fork",
                 "--kill-child=KILL", sys.executable, "-I", str(CONTAINED), json.dumps(self._specification)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        process = self._process
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(
            lambda: process.poll() is not None or bool(children.read_text().split()),
            20,
            "the container's first process",
        )
        self.pid = 0 if process.poll() is not None else int(children.read_text().split()[0])
        return self

    def run(self) -> str:
        """Run the program to its end, and return what it printed.

        Raises:
            AssertionError: Its exit status is not 0.
        """
        status = self.start().wait()
        assert status == 0, f"exit status {status}\n{self.text()}"
        return self.text()

    def wait(self, timeout: float = 60) -> int:
        """Return the program's exit status, once it has ended."""
        assert self._process is not None
        return self._process.wait(timeout)

    def stop(self, timeout: float = 60) -> int:
        """Send the image's stop signal to the first process, as `docker stop` does, and return the exit status."""
        os.kill(self.pid, signal.Signals[self.configuration["StopSignal"]])
        return self.wait(timeout)

    def execute(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as its user: `docker exec`."""
        return subprocess.run(
            [shutil.which("nsenter") or "nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts",
             "--root", f"--setgid={self._specification['gid']}", f"--setuid={self._specification['uid']}", "--",
             *command],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=60,
        )  # fmt: skip

    def health(self) -> subprocess.CompletedProcess[str]:
        """Run the command of the image's HEALTHCHECK."""
        test = self.configuration["Healthcheck"]["Test"]
        assert test[0] == "CMD", test
        return self.execute(test[1:])

    def wait_until_healthy(self) -> None:
        """Return when HEALTHCHECK says so."""

        def healthy() -> bool:
            assert self._process is not None and self._process.poll() is None, f"it ended\n{self.text()}"
            return self.health().returncode == 0

        wait_until(healthy, 30, "a healthy container", self.text)

    def processes(self) -> dict[int, list[str]]:
        """Return the command lines of all processes in the container, by their numbers on this machine."""
        namespace = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = {}
        for path in Path("/proc").iterdir():
            try:
                if path.name.isdigit() and os.readlink(path / "ns/pid") == namespace:
                    found[int(path.name)] = (path / "cmdline").read_text().split("\0")
            except OSError:
                continue
        return found

    def text(self) -> str:
        """Return the log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def remove(self) -> None:
        """End what still runs, and throw the container away."""
        if self._process is not None and self._process.poll() is None:
            if self.pid:
                # With the first process of its namespace everything in the container ends. --kill-child does not do
                # it: a process that has changed its user is not told of its parent's death any more.
                os.kill(self.pid, signal.SIGKILL)
            else:
                self._process.kill()
            self._process.wait()
        self._images.unmount(self.name)
