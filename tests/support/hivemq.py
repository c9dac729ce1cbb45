"""HiveMQ CE on this machine, from its Maven artifact: a single node, since this edition has no cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .ports import free_port
from .processes import wait_until
from .rmqtt import BUILT, Unavailable

VERSION = "2025.5"

_PROJECT = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>tests</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>com.hivemq</groupId><artifactId>hivemq-community-edition-embedded</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""

_SETTINGS = """<?xml version="1.0"?>
<hivemq>
  <listeners><tcp-listener><port>{port}</port><bind-address>127.0.0.1</bind-address></tcp-listener></listeners>
  <mqtt>
    <queued-messages><max-queue-size>{queue}</max-queue-size><strategy>{strategy}</strategy></queued-messages>
    <receive-maximum><server-receive-maximum>{receive}</server-receive-maximum></receive-maximum>
  </mqtt>
  <persistence><mode>{mode}</mode></persistence>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
"""

_OPENED = (
    "java.base/java.lang",
    "java.base/java.nio",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
)


def libraries() -> Path:
    """Return the folder of its libraries, after bringing them here where that has not been done.

    Raises:
        Unavailable: There is no Java or no Maven, or the artifact is out of reach.
    """
    folder = BUILT / f"hivemq-{VERSION}"
    if folder.exists():
        return folder
    for tool, package in (("java", "default-jdk-headless, 17 or newer"), ("mvn", "maven")):
        if shutil.which(tool) is None:
            raise Unavailable(f"HiveMQ cannot be had without {tool}: install {package}")
    new = BUILT / "hivemq.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    (new / "pom.xml").write_text(_PROJECT)
    command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=."]
    with (BUILT / "build.log").open("ab") as log:
        ended = subprocess.run(command, cwd=new, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if ended.returncode != 0:
        raise Unavailable(f"{' '.join(command)} failed: see {BUILT / 'build.log'}")
    os.replace(new, folder)
    return folder


class HiveMQ:
    """One broker: its folder, its port, its process.

    Attributes:
        port: Where clients connect; the same after `kill()` and `start()`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        queue: int = 200_000,
        strategy: str = "discard",
        receive: int = 10,
        mode: str = "file",
    ) -> None:
        """Prepare it.

        Args:
            folder: An empty one, for its settings, log and data.
            queue: Messages that a session, or a group, may have waiting; 1000 unless said otherwise.
            strategy: What goes of a full queue: `discard` the new message, or `discard-oldest`.
            receive: Unacknowledged messages that it takes from a publisher.
            mode: `file`, or `in-memory`, which forgets everything when it ends.
        """
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "conf").mkdir(parents=True)
        (folder / "conf" / "config.xml").write_text(
            _SETTINGS.format(port=self.port, queue=queue, strategy=strategy, receive=receive, mode=mode)
        )

    @property
    def url(self) -> str:
        """The address, as `--connect` wants it."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self, timeout: float = 60) -> HiveMQ:
        """Start it, and return when it has said that it started."""
        source = Path(__file__).resolve().parents[1] / "cluster" / "HiveMQ.java"
        opened = [f"--add-opens={name}=ALL-UNNAMED" for name in _OPENED]
        said = len(self.log())
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "java",
                    "-Xmx1g",
                    "-Djava.net.preferIPv4Stack=true",
                    *opened,
                    "--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED",
                    "-cp",
                    f"{libraries()}/*",
                    str(source),
                    str(self.folder),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self._has_started(said), timeout, "HiveMQ", self.log)
        return self

    def kill(self) -> None:
        """End it with SIGKILL: it can save nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """Return everything it has said."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _has_started(self, said: int) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"HiveMQ ended:\n{self.log()}"
        return "\nstarted\n" in "\n" + self.log()[said:]
