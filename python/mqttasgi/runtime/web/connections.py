"""The connections that HTTP and WebSockets come by, and what each of them may take.

uvicorn's protocols speak HTTP and WebSocket. `Connection` stands between the transport and them, and bounds
what they do not: how much is parsed in one turn of the loop, and how long a client may take for a request's
head, for its body, and for what it is sent. One look a second at all of them finds those who take too long.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any, Callable, Optional

from .turns import SLICE, Turns

#: The statistic of what is not served.
REFUSED = "http/refused"

#: Bytes of one connection that are read at a time.
READ_SIZE = 8192
#: Seconds of work that a byte may make. What is beyond may be so many seconds in all, until something of it
#: has come to the application; and that of so many seconds is forgotten in each.
BYTE_COST, DEAR, FORGOTTEN = 0.25e-6, 1.0, 0.01
#: Connections that are accepted in one turn of the loop.
ACCEPTED_AT_ONCE = 16
#: Seconds without accepting after the descriptors have run out.
PAUSE = 1.0
#: Seconds for a TLS handshake, and for a request's head: from the connection's start or the last response on.
HEAD_TIME = 10.0
#: A body, or a WebSocket's message, must have come in so many seconds, and one more for each so many bytes.
BODY_TIME, BODY_RATE = 30.0, 500
#: Frames that a WebSocket's message may come in: uvicorn keeps each, and an empty one counts nothing there.
FRAMES = 1024
#: Seconds in which a client has to take something of what waits for it.
WRITE_TIME = 30.0
#: Seconds for which what a client still sends is read and dropped after its response, so that it gets that.
LINGER_TIME = 5.0


class Connection(asyncio.BufferedProtocol):
    """One connection. Its transport gets this, and uvicorn's protocol gets an `Outlet` for a transport."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        #: uvicorn's: that of HTTP, and later perhaps that of WebSockets; None: TLS has not begun.
        self.inner: Any = None
        self._transport: Any = None
        self.is_closing = False
        #: What the client still sends is dropped.
        self._lingers = False
        #: What is waited for ("head", "body", "message" or nothing) and of which one; for how many seconds;
        #: how many bytes have come meanwhile.
        self._phase: tuple[str, Any] = ("head", None)
        self._waited = 0.0
        self._received = 0
        #: What was read and is not parsed; nothing more is read meanwhile.
        self._unparsed = bytearray()
        self._is_reading = True
        #: The application does not take what has come (uvicorn says so).
        self._application_is_behind = False
        #: More waits to be sent than should (the transport says so).
        self._is_full = False
        #: What the client has sent made answers, such as those to pings, that it does not take.
        self._client_is_behind = False
        #: Bytes that uvicorn has written since the last part of what was read.
        self.written = 0
        #: Seconds of work beyond what the bytes account for, and the request that they were spent for.
        self._dear = 0.0
        self._cycle: Any = None
        #: What waits to be sent, and for how many seconds nothing of it has gone.
        self._unsent = 0
        self._stalled = 0.0

    # ---- what the transport calls ----

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.inner = self._connections.new_protocol()
        self.inner.connection_made(Outlet(self, transport))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._connections.buffer  # what is in it is taken out before anybody else is asked

    def buffer_updated(self, nbytes: int) -> None:
        self._received += nbytes
        if not self.is_closing:
            self._unparsed += self._connections.buffer[:nbytes]
            self._connections.turns.add_and_run(self)
            self._read_or_not()

    def eof_received(self) -> Optional[bool]:
        if self.is_closing:
            return None
        answer: Optional[bool] = self.inner.eof_received()
        return answer

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._connections.remove(self)
        self._drop()
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._is_full = True
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self._is_full = self._client_is_behind = False
        self.inner.resume_writing()
        self.go_on()

    # ---- what is parsed, and when ----

    def take_turn(self) -> float:
        """Parse a little of what was read. Return the seconds of the processor that it took."""
        if self._is_held():
            return 0.0
        self.written = 0
        part = bytes(self._unparsed[:SLICE])
        del self._unparsed[:SLICE]
        began = time.thread_time()
        try:
            self.inner.data_received(part)
        except Exception as error:  # as the transport does it
            what = {"message": "HTTP: a connection is closed after an error", "exception": error}
            asyncio.get_running_loop().call_exception_handler(what)
            self.abort()
        took = time.thread_time() - began
        # The application waits before it sends more, but uvicorn does not. A client that merely takes its
        # time is heard all the while: the answers to our own pings must come through.
        self._client_is_behind = self._is_full and self.written > 0
        if not self.is_closing:
            self._account(took - len(part) * BYTE_COST)
            self.go_on()
        return took

    def _account(self, dear: float) -> None:
        """Break it off if it makes much work, and the application gets nothing of it."""
        cycle = getattr(self.inner, "cycle", None)
        if cycle is not self._cycle:
            self._cycle, self._dear = cycle, 0.0
            return
        self._dear = max(0.0, self._dear + dear)
        if self._dear > DEAR or len(getattr(self.inner, "frames", ())) > FRAMES:
            self._connections.broke_off_dear()
            self.abort()

    def _is_held(self) -> bool:
        return self._application_is_behind or self._client_is_behind

    def go_on(self) -> None:
        """Have what was read parsed, then more read, unless the application or the client is behind."""
        if self._unparsed and not self.is_closing and not self._is_held():
            self._connections.turns.add(self)
        self._read_or_not()

    def _read_or_not(self) -> None:
        wants_more = not self._unparsed and not self._is_held()
        if wants_more != self._is_reading and not self.is_closing:
            self._is_reading = wants_more
            if wants_more:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def set_behind(self, is_behind: bool) -> None:
        """Take it that the application does not take what comes, or does so again."""
        self._application_is_behind = is_behind
        self._dear = 0.0  # it has got something
        self.go_on()

    def _drop(self) -> None:
        """Take nothing more to be parsed."""
        self.is_closing = True
        self._unparsed.clear()
        self._connections.turns.remove(self)

    # ---- its end ----

    def close(self) -> None:
        """Close it when what waits has been sent."""
        if self.is_closing:
            return
        self._drop()
        self._waited = 0.0
        if self._find_phase()[0] == "body" and not self._connections.are_ending and self._can_half_close():
            # To close over bytes that nobody has read resets a connection, and the client loses its response.
            self._lingers = True
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()

    def _can_half_close(self) -> bool:
        return bool(self._transport.can_write_eof())

    def abort(self) -> None:
        """Close it at once."""
        self._drop()
        if self._transport is not None:
            self._transport.abort()

    # ---- how long it may take ----

    def look(self, passed: float) -> None:
        """End what takes too long. `passed`: seconds since the last look."""
        if self._transport is None:
            return  # the handshake has a time-out of its own
        self._dear = max(0.0, self._dear - passed * FORGOTTEN)
        unsent = self._transport.get_write_buffer_size()
        self._stalled = self._stalled + passed if unsent and unsent >= self._unsent else 0.0
        self._unsent = unsent
        if self._stalled > WRITE_TIME:
            self._connections.broke_off()
            self.abort()
        elif self.is_closing:
            self._waited += passed
            if self._waited > LINGER_TIME and not unsent:
                self.abort()
        elif self._is_late(passed):
            if self._received:  # browsers open connections that they may not need
                self._connections.broke_off()
            self.abort()

    def _is_late(self, passed: float) -> bool:
        phase = self._find_phase()
        if phase[0] != self._phase[0] or phase[1] is not self._phase[1]:
            self._phase, self._waited, self._received = phase, 0.0, 0
            return False
        if phase[0] == "head":
            self._waited += passed
            return self._waited > HEAD_TIME
        if phase[0] in ("body", "message") and not self._application_is_behind:
            self._waited += passed
            return self._waited > BODY_TIME + self._received / BODY_RATE
        return False

    def _find_phase(self) -> tuple[str, Any]:
        """Return what is waited for, and of which request or message. A WebSocket has its pings besides."""
        if not hasattr(self.inner, "cycle"):
            frames = getattr(self.inner, "frames", None)  # a new list for each message
            return ("message", frames) if frames else ("", None)
        cycle = self.inner.cycle
        if cycle is not None and cycle.more_body:
            return ("body", cycle)
        if cycle is None or cycle.response_complete:
            return ("head", cycle)
        return ("", cycle)


class Outlet:
    """A connection's transport, as uvicorn's protocols have it."""

    def __init__(self, connection: Connection, transport: Any) -> None:
        self._connection = connection
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it, as long as this is open."""
        if not self._connection.is_closing:
            self._connection.written += len(data)
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Let nothing more come."""
        self._connection.set_behind(True)

    def resume_reading(self) -> None:
        """Let more come."""
        self._connection.set_behind(False)

    def set_protocol(self, protocol: Any) -> None:
        """Let another of uvicorn's protocols have what comes from now on."""
        self._connection.inner = protocol

    def get_protocol(self) -> Any:
        """Return uvicorn's protocol."""
        return self._connection.inner

    def is_closing(self) -> bool:
        """Whether close() was called, or the connection is lost."""
        return self._connection.is_closing or bool(self._transport.is_closing())

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self._connection.close()

    def abort(self) -> None:
        """Close it at once."""
        self._connection.abort()


class Connections:
    """All connections, as many as there may be. Loop thread only."""

    def __init__(
        self,
        most: int,
        tls: Optional[ssl.SSLContext],
        new_protocol: Callable[[], Any],
        tell: Callable[[str, int, str], None],
    ) -> None:
        """Take how many there may be, what makes uvicorn's protocol for one, and who is told of bounds.

        `tell` gets the name of a statistic, how much is added to it, and what the log is to say.
        """
        self.new_protocol = new_protocol
        self.buffer = memoryview(bytearray(READ_SIZE))
        self.turns = Turns()
        #: None is to be kept for any longer than it needs.
        self.are_ending = False
        self._most = most
        self._tls = tls
        self._tell = tell
        self._open: dict[Connection, asyncio.Task[None]] = {}
        #: How many were turned away, and broken off, since the log said so.
        self._refused = 0
        self._broken_off = 0
        self._broken_off_dear = 0

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, made: socket.socket) -> None:
        """Serve a connection that was accepted, or close it where there are too many."""
        if len(self._open) >= self._most:
            self._refused += 1
            made.close()
            return
        made.setblocking(False)
        connection = Connection(self)
        self._open[connection] = asyncio.get_running_loop().create_task(self._begin(connection, made))

    async def _begin(self, connection: Connection, made: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                made,
                ssl=self._tls,
                ssl_handshake_timeout=HEAD_TIME if self._tls is not None else None,
            )
        except OSError:
            pass  # it does not speak TLS, or is gone
        finally:
            if connection.inner is None:
                self.remove(connection)
                made.close()

    def remove(self, connection: Connection) -> None:
        """Count one no more that is closed."""
        self._open.pop(connection, None)

    def broke_off(self) -> None:
        """Count one whose client is too slow."""
        self._broken_off += 1

    def broke_off_dear(self) -> None:
        """Count one whose client makes too much work."""
        self._broken_off_dear += 1

    def look(self, passed: float) -> None:
        """End those that take too long, and say how many were, and were turned away. Once a second."""
        for connection in list(self._open):
            connection.look(passed)
        if self._refused:
            self._tell(
                REFUSED,
                self._refused,
                f"HTTP: {self._refused} new connections were closed, because {self._most} are open; "
                "plugin_opt_http_connections says how many may be.",
            )
        if self._broken_off:
            self._tell(
                REFUSED,
                self._broken_off,
                f"HTTP: {self._broken_off} connections were closed whose clients sent a request, or took an "
                "answer, too slowly.",
            )
        if self._broken_off_dear:
            self._tell(
                REFUSED,
                self._broken_off_dear,
                f"HTTP: {self._broken_off_dear} connections were closed whose clients sent many chunks or "
                "frames with next to nothing in them.",
            )
        self._refused = self._broken_off = self._broken_off_dear = 0

    def end(self) -> None:
        """Close all of them at once."""
        for connection, task in list(self._open.items()):
            if connection.inner is None:
                task.cancel()
            connection.abort()


class Door:
    """Accepts what comes to a listening socket; what uvicorn has asyncio's servers for."""

    def __init__(
        self, listening: socket.socket, connections: Connections, warn: Callable[[str], None]
    ) -> None:
        self._socket = listening
        self._connections = connections
        self._warn = warn
        self._loop = asyncio.get_running_loop()
        self._later: Optional[asyncio.TimerHandle] = None
        self._loop.add_reader(listening.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                made, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait(error)
                return
            self._connections.admit(made)

    def _wait(self, error: OSError) -> None:
        """Accept nothing for a while: the connection would be tried again at once, and without an end."""
        self._loop.remove_reader(self._socket.fileno())
        self._later = self._loop.call_later(PAUSE, self._go_on)
        cure = ""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            cure = " The limit of open files must leave room for plugin_opt_http_connections."
        self._warn(f"HTTP: a connection cannot be accepted: {error.strerror}.{cure}")

    def _go_on(self) -> None:
        self._later = None
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Accept nothing more."""
        if self._later is not None:
            self._later.cancel()
        elif self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())

    async def wait_closed(self) -> None:
        """Do nothing: there is nothing to wait for."""


def open_doors(
    sockets: Iterable[socket.socket], connections: Connections, warn: Callable[[str], None]
) -> list[Door]:
    """Begin to accept at all of them."""
    return [Door(each, connections, warn) for each in sockets]
