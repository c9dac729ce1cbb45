"""A cluster of RMQTT nodes on this machine: built once from its crate, its nodes joined by Raft."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

from .ports import free_port
from .processes import wait_until

VERSION = "0.24.0"
BUILT = Path(__file__).resolve().parents[2] / "build" / "cluster"
"""Where it is built, and kept for the next time: that takes minutes."""

_PARTS = {
    "acl",
    "cluster-raft",
    "conf",
    "counter",
    "http-api",
    "message-storage",
    "net",
    "retainer",
    "session-storage",
}
_PARTS |= {"shared-subscription"}
"""Of its own crates those that a cluster needs. The others, bridges to Kafka and the like, are half of the build."""


class Unavailable(RuntimeError):
    """What it is made from, or made with, is not to be had here."""


def rmqttd() -> Path:
    """Return the broker's program, after building it where that has not been done.

    Raises:
        Unavailable: There is no Cargo, no crate or no protoc here, or the build failed.
    """
    program = BUILT / f"rmqttd-{VERSION}"
    if program.exists():
        return program
    for tool, package in (
        ("cargo", "a Rust of 1.94 or newer"),
        ("protoc", "protobuf-compiler"),
        ("cmake", "cmake"),
    ):
        if shutil.which(tool) is None:
            raise Unavailable(f"RMQTT cannot be built without {tool}: install {package}")
    BUILT.mkdir(parents=True, exist_ok=True)
    source = _source()
    target = BUILT / "target"
    _run(
        ["nice", "-n", "10", "cargo", "build", "--release", "-j2"],
        source,
        {"CARGO_TARGET_DIR": str(target), "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"},
    )
    shutil.copy2(target / "release" / "rmqttd", BUILT / "rmqttd.new")
    os.replace(BUILT / "rmqttd.new", program)
    shutil.rmtree(target)
    shutil.rmtree(source)
    return program


def _source() -> Path:
    """Return a copy of the published source without the parts that a cluster does not need."""
    _run(["cargo", "info", f"rmqttd@{VERSION}"], BUILT, {})
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    found = sorted(home.glob(f"registry/src/*/rmqttd-{VERSION}"))
    if not found:
        raise Unavailable(f"cargo did not unpack rmqttd {VERSION} in {home}")
    source = BUILT / "rmqttd"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(found[0], source)
    manifest = source / "Cargo.toml"
    sections = re.split(r"(?m)^(?=\[)", manifest.read_text())
    kept = [section for section in sections if _is_wanted(section)]
    # Its build script registers the plugins that this file names. Redis is not needed for a cluster either.
    manifest.write_text(re.sub(r'\n    "(redis|redis-cluster|redb)",', "", "".join(kept)))
    return source


def _is_wanted(section: str) -> bool:
    part = re.match(r"\[[\w.-]*\.rmqtt-([\w-]+)\]", section)
    return part is None or part[1] in _PARTS


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    with (BUILT / "build.log").open("ab") as log:
        ended = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    if ended.returncode != 0:
        raise Unavailable(f"{' '.join(command)} failed: see {BUILT / 'build.log'}")


class Node:
    """One node: its folder, its ports, its process.

    Attributes:
        number: 1, 2, 3 ..., which is also how Raft calls it.
        port: Where clients connect; the same after `kill()` and `start()`.
    """

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.folder = folder
        self.port = free_port()
        self.http = free_port()
        self.grpc = free_port()
        self.raft = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address, as `--connect` wants it."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start its process; `Cluster.wait()` tells when it has joined."""
        assert self._process is None, f"node {self.number} runs already"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(rmqttd()), "--config", "rmqtt.toml", "--id", str(self.number)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """End it with SIGKILL: it can save nothing and say nothing to the others."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def runs(self) -> bool:
        """Whether its process has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return everything it has said."""
        return (self.folder / "log").read_text(errors="replace")

    def ask(self, path: str) -> object:
        """Return what its HTTP interface answers, or None where it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/api/v1/{path}", timeout=5) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None


class Cluster:
    """Nodes of RMQTT that form one cluster, and end with it.

    Sessions are kept on disk, in the node that a client is at: they outlive the node's death, and wait for its return.

    Attributes:
        nodes: In order; their processes belong to this object.
    """

    def __init__(self, folder: Path, size: int = 3, **listener: object) -> None:
        """Prepare the nodes.

        Args:
            folder: An empty one, for the nodes' settings, logs and data.
            size: How many nodes.
            listener: Settings of the listener to be used instead of those here, as its manual names them.
        """
        self.nodes = []
        for number in range(1, size + 1):
            own = folder / f"node-{number}"
            own.mkdir(parents=True)
            self.nodes.append(Node(number, own))
        for node in self.nodes:
            self._write_settings(node, listener)

    def start(self) -> Cluster:
        """Start one after the other, and return when they have formed a cluster.

        A node that finds nobody when it starts makes a cluster of its own: started at the same moment, all three would,
        and would never join.
        """
        for node in self.nodes:
            node.start()
            self.wait()
        return self

    def wait(self, nodes: list[Node] | None = None, timeout: float = 30) -> None:
        """Return when each of `nodes` (where not given, all that run) says that all are there and have a leader."""
        for node in nodes or [each for each in self.nodes if each.runs]:
            wait_until(
                lambda node=node: self._is_formed(node),
                timeout,
                f"the cluster, for node {node.number}",
                node.log,
            )

    def stop(self) -> None:
        """End all nodes that run."""
        for node in self.nodes:
            node.kill()

    def _is_formed(self, node: Node) -> bool:
        assert node.runs, f"node {node.number} ended:\n{node.log()[-4000:]}"
        health = node.ask("health/check")
        if not isinstance(health, dict) or health.get("running") is not True:
            return False
        alive = [each for each in health.get("nodes", ()) if each.get("running") and each.get("leader_id")]
        return len(alive) >= sum(1 for each in self.nodes if each.runs)

    def _write_settings(self, node: Node, listener: dict[str, object]) -> None:
        plugins = node.folder / "plugins"
        plugins.mkdir()
        started = [
            "retainer",
            "shared-subscription",
            "cluster-raft",
            "session-storage",
            "message-storage",
            "http-api",
        ]
        settings = {
            "node.id": node.number,
            "rpc.server_addr": f"127.0.0.1:{node.grpc}",
            "log.to": "console",
            "log.level": "info",
            "plugins.dir": str(plugins),
            "plugins.default_startups": [f"rmqtt-{name}" for name in started],
        }
        own = {
            "addr": f"127.0.0.1:{node.port}",
            "allow_anonymous": True,
            "nodelay": True,
            "max_inflight": 128,
            # 1000 otherwise, and what a session has above that is dropped.
            "max_mqueue_len": 200_000,
            "mqueue_rate_limit": "100000,1s",
            "session_expiry_interval": "2h",
            "message_expiry_interval": "0",
        }
        settings.update(
            {f"listener.tcp.external.{name}": value for name, value in {**own, **listener}.items()}
        )
        _write(node.folder / "rmqtt.toml", settings)
        peers = [f"{each.number}@127.0.0.1:{each.raft}" for each in self.nodes]
        _write(
            plugins / "rmqtt-cluster-raft.toml",
            {
                "node_grpc_addrs": [f"{each.number}@127.0.0.1:{each.grpc}" for each in self.nodes],
                "raft_peer_addrs": peers,
                "laddr": f"127.0.0.1:{node.raft}",
                "leader_id": 1,
                # Its port is one that a killed node has just used.
                "raft.reuseaddr": True,
                "node_grpc_client_timeout": "10s",
            },
        )
        _write(plugins / "rmqtt-http-api.toml", {"http_laddr": f"127.0.0.1:{node.http}"})
        _write(plugins / "rmqtt-shared-subscription.toml", {"strategy": "round_robin"})
        _write(plugins / "rmqtt-message-storage.toml", {"storage.type": "ram"})
        for name in ("session", "retain"):
            file = "rmqtt-session-storage.toml" if name == "session" else "rmqtt-retainer.toml"
            kept = {
                "storage.type": "sled",
                "storage.sled.path": str(node.folder / name),
                "storage.sled.cache_capacity": "64M",
            }
            _write(plugins / file, kept)


def _write(path: Path, settings: dict[str, object]) -> None:
    # JSON's numbers, strings, lists and booleans are TOML's.
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
