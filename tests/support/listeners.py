"""What stands where a broker's listener should be: a proxy in front of one, and one that misbehaves."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from .processes import free_port, wait_until


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
        with self._known(connection), contextlib.suppress(OSError):
            self.serve(connection)

    @contextlib.contextmanager
    def _known(self, connection: socket.socket):  # type: ignore[no-untyped-def]
        with connection:
            with self._lock:
                self._sockets.add(connection)
                closing = self._listening is None
            try:
                if not closing:
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
