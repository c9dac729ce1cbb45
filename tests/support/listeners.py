"""What stands where a broker's listener should be: a proxy in front of one, and one that misbehaves."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from .ports import free_port
from .processes import wait_until


class _Server:
    """Accepts connections on a loopback port while it is started, each served by a thread."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port if port is not None else free_port()
        #: How many connections came so far.
        self.accepted = 0
        self._lock = threading.Lock()  # guards _sockets
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listening: socket.socket | None = None

    def __enter__(self) -> _Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; after a `stop()` on the same port."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        listening.listen()
        self._listening = listening
        self._run(self._accept, listening)

    def stop(self) -> None:
        """Close everything; who connects is refused from now on."""
        if self._listening is None:
            return
        # Wakes the thread in accept().
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._listening = None
        self.drop()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def drop(self) -> None:
        """Break all connections, and go on listening."""
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def wait_for_connections(self, count: int, timeout: float = 10) -> None:
        """Return when that many connections have come since the beginning."""
        wait_until(lambda: self.accepted >= count, timeout, f"connection {count}")

    def serve(self, connection: socket.socket) -> None:
        """Serve a connection until it ends; on a thread of its own."""
        raise NotImplementedError

    def _run(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self.accepted += 1
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), self._known(connection):
            self.serve(connection)

    @contextlib.contextmanager
    def _known(self, connection: socket.socket):  # type: ignore[no-untyped-def]
        with connection:
            with self._lock:
                self._sockets.add(connection)
                closing = self._listening is None
            try:
                if closing:
                    raise ConnectionAbortedError("it came while the server was closing")
                yield
            finally:
                with self._lock:
                    self._sockets.discard(connection)


class FakeListener(_Server):
    """Accepts, reads, and answers the first bytes with `answer`: None says nothing, ever."""

    def __init__(self, answer: bytes | None) -> None:
        super().__init__()
        self._answer = answer

    def __enter__(self) -> FakeListener:
        super().__enter__()
        return self

    def serve(self, connection: socket.socket) -> None:
        if connection.recv(4096) and self._answer is not None:
            connection.sendall(self._answer)
        while connection.recv(4096):
            pass


class Proxy(_Server):
    """Passes connections on to a port of this machine.

    Attributes:
        target: That port, which may change; 0 closes connections at once.
    """

    def __init__(self, target: int, *, port: int | None = None) -> None:
        super().__init__(port)
        self.target = target
        self._flows = threading.Event()
        self._flows.set()

    def __enter__(self) -> Proxy:
        super().__enter__()
        return self

    def stop(self) -> None:
        self._flows.set()
        super().stop()

    def freeze(self) -> None:
        """Pass nothing on any more; the connections stay."""
        self._flows.clear()

    def thaw(self) -> None:
        """Pass on again, beginning with what came meanwhile."""
        self._flows.set()

    def serve(self, connection: socket.socket) -> None:
        if not self.target:
            return
        with socket.create_connection(("127.0.0.1", self.target)) as beyond, self._known(beyond):
            for end in (connection, beyond):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=self._pump, args=(beyond, connection), daemon=True)
            back.start()
            self._pump(connection, beyond)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Packet:
    """An MQTT packet on its way through a `PacketProxy`.

    Attributes:
        upwards: From the client to the broker.
        kind: Its type: 3 is PUBLISH.
        packet: Its packet identifier; 0: it has none.
        topic: Of a PUBLISH.
        payload: Of a PUBLISH of MQTT 5.
    """

    def __init__(self, raw: bytes, upwards: bool) -> None:
        self.raw = raw
        self.upwards = upwards
        self.kind = raw[0] >> 4
        self.topic, self.payload, self.packet = "", b"", 0
        head = next(i for i in range(1, 5) if raw[i] < 0x80) + 1
        if self.kind == 3:
            length = struct.unpack("!H", raw[head : head + 2])[0]
            at = head + 2 + length
            self.topic = raw[head + 2 : at].decode()
            if raw[0] & 6:
                self.packet = struct.unpack("!H", raw[at : at + 2])[0]
                at += 2
            properties = 0
            for shift in range(0, 28, 7):
                properties |= (raw[at] & 0x7F) << shift
                at += 1
                if raw[at - 1] < 0x80:
                    break
            self.payload = raw[at + properties :]
        elif self.kind in (4, 5, 6, 7, 8, 9, 10, 11):
            self.packet = struct.unpack("!H", raw[head : head + 2])[0]

    @property
    def dup(self) -> bool:
        """Whether it is a PUBLISH that says it was sent before."""
        return self.kind == 3 and bool(self.raw[0] & 8)

    def again(self) -> bytes:
        """Return the PUBLISH with DUP."""
        return bytes([self.raw[0] | 8]) + self.raw[1:]


class Cut(Exception):
    """Breaks the connection, when `before` has gone on."""

    def __init__(self, before: bytes = b"") -> None:
        super().__init__()
        self.before = before


class PacketProxy(Proxy):
    """Passes packets on, as `rule` wants it.

    Attributes:
        rule: Is asked about each packet, with what is to go on in its place; it may raise `Cut`. None: all go on.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.rule: Callable[[Packet], bytes] | None = None

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        upwards = sink.getpeername()[1] == self.target
        try:
            for raw in self._packets(source):
                rule = self.rule
                sink.sendall(raw if rule is None else rule(Packet(raw, upwards)))
        except Cut as cut:
            with contextlib.suppress(OSError):
                sink.sendall(cut.before)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _packets(self, source: socket.socket) -> Iterator[bytes]:
        """What comes: packets, or while there is no rule pieces that end where a packet does."""
        waiting = b""
        while data := source.recv(65536):
            waiting += data
            at = 0
            begin = 0
            while (size := _size(waiting, at)) is not None:
                at += size
                if self.rule is not None:
                    yield waiting[begin:at]
                    begin = at
            if at > begin:
                yield waiting[begin:at]
            waiting = waiting[at:]


def _size(data: bytes, at: int) -> int | None:
    """The size of the packet that begins there; None: it is not complete."""
    length = 0
    for i in range(1, 5):
        if at + i >= len(data):
            return None
        length |= (data[at + i] & 0x7F) << (7 * (i - 1))
        if data[at + i] < 0x80:
            return 1 + i + length if at + 1 + i + length <= len(data) else None
    raise ValueError("not MQTT")
