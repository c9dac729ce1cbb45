"""A TCP proxy in front of a listener, which a test can cut, stop and start again."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from .processes import free_port


class Proxy:
    """Passes bytes between its own port and another one of the loopback interface.

    Attributes:
        port: Where it listens while it runs.
        accepted: How many connections it has taken.
    """

    def __init__(self, target: int | None) -> None:
        """Nothing listens yet. Without a target it takes connections and says nothing."""
        self.port = free_port()
        self.accepted = 0
        self.greeting = b""  # what everybody who connects is told
        self._target = target
        self._listener: socket.socket | None = None
        self._pairs: list[tuple[socket.socket, ...]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Break every connection; new ones are still taken."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            if len(pair) == 1:
                pair[0].close()  # the others are closed by their thread

    def stop(self) -> None:
        """Break every connection and take no more."""
        if self._listener is not None:
            # Wakes accept(), which close() alone does not.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            with contextlib.suppress(OSError):
                client.sendall(self.greeting)
            if self._target is None:
                with self._lock:
                    self._pairs.append((client,))
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    @staticmethod
    def _pass(client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for source in readable:
                    data = source.recv(65536)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)
