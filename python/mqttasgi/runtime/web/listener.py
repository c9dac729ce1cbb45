"""The sockets that HTTP is served at, and their TLS; what is wrong there stops the start with a sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import socket
import ssl
import stat
from collections.abc import Iterator

from ..._web import Address

#: Connections that the kernel keeps until they are accepted.
BACKLOG = 128
#: Who may connect to a unix socket: its owner, and the broker's group, which a proxy's user is put into.
SOCKET_UMASK = 0o117


class WebError(Exception):
    """HTTP cannot be served; the text is a sentence for who set it up."""


class Listener:
    """What is bound to one address. Closed, it leaves no unix socket behind."""

    def __init__(self, address: Address) -> None:
        """Bind and listen; raise `WebError` where that cannot be."""
        self.address = address
        self._inode = 0
        #: A name may stand for several addresses.
        self.sockets: list[socket.socket] = []
        try:
            if address.path:
                self._listen_at_path(address.path)
            else:
                self._listen_at_port(address)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the sockets, and remove a unix socket that is still this one's."""
        for each in self.sockets:
            each.close()
        self.sockets = []
        if self._inode:
            with contextlib.suppress(OSError):
                if os.lstat(self.address.path).st_ino == self._inode:
                    os.unlink(self.address.path)
            self._inode = 0

    # ---- TCP ----

    def _listen_at_port(self, address: Address) -> None:
        try:
            found = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (socket.gaierror, UnicodeError) as error:
            raise WebError(
                f'option http: there is no host "{address.host}" ({error}); name an address of this machine, '
                f"such as 127.0.0.1:{address.port}"
            ) from None
        for family, _, _, _, place in dict.fromkeys(found):
            made = socket.socket(family, socket.SOCK_STREAM)
            self.sockets.append(made)
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                made.bind(place)
                made.listen(BACKLOG)
            except OSError as error:
                raise WebError(f"option http: {address} {_why_not_bound(error, address)}") from None

    # ---- unix sockets ----

    def _listen_at_path(self, path: str) -> None:
        self._make_room(path)
        made = socket.socket(socket.AF_UNIX)
        self.sockets.append(made)
        made.setblocking(False)
        try:
            with _umask(SOCKET_UMASK):
                made.bind(path)
            self._inode = os.lstat(path).st_ino
            made.listen(BACKLOG)
        except OSError as error:
            raise WebError(f"option http: {path} {_why_not_made(error, path)}") from None

    def _make_room(self, path: str) -> None:
        """Remove what a broker that was killed has left."""
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return  # there is nothing, or bind() says why it cannot be reached
        if not stat.S_ISSOCK(mode):
            raise WebError(
                f"option http: {path} is there already and is no socket; name a path where nothing is"
            )
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            found = probe.connect_ex(path)
        if found != errno.ECONNREFUSED:
            who = "somebody listens there" if found in (0, errno.EAGAIN) else os.strerror(found)
            raise WebError(
                f"option http: {path} is taken ({who}); stop that program, perhaps another broker, or name "
                "another path"
            )
        with contextlib.suppress(OSError):  # bind() says what is in the way
            os.unlink(path)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _why_not_bound(error: OSError, address: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"is taken by another program; stop that (sudo ss -ltnp 'sport = :{address.port}' shows it) or "
            "choose another port"
        )
    if error.errno == errno.EACCES:
        return (
            f"may not be listened at by user {_user()}: ports below 1024 are for root. Choose a port above, "
            "and a proxy such as nginx in front of it"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            "is no address of this machine; `ip address` lists those that it has, and 0.0.0.0 stands for all"
        )
    return f"cannot be listened at: {error.strerror}"


def _why_not_made(error: OSError, path: str) -> str:
    folder = os.path.dirname(path)
    if error.errno == errno.ENOENT:
        return f"has no folder to be in; make it: sudo install -d -o {_user()} {folder}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EADDRINUSE, errno.EROFS):
        return (
            f"cannot be made: user {_user()} must be able to write the folder {folder} ({error.strerror}); "
            "name another, such as /run/mosquitto"
        )
    return f"cannot be made: {error.strerror}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


# ---- TLS ----


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return what TLS is spoken with; raise `WebError` where the files are not fit for that."""

    def no_passphrase() -> str:
        raise WebError(
            f"option http_key: {key} is locked with a passphrase, which nobody could type; unlock it: "
            f"openssl pkey -in {key} -out NEW"
        )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, no_passphrase)
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise WebError(
                f"option http_key: {key} is not the key of {certificate}; name the one that the certificate "
                "was made with"
            ) from None
        raise WebError(
            f"option http_cert: {certificate} and {key} are not a certificate and its key; both must be in "
            "PEM form"
        ) from None
    except OSError as error:
        raise WebError(
            f"option http_cert: {certificate} and {key} cannot be read by user {_user()}: {error.strerror}"
        ) from None
    return context
