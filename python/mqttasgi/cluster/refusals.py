"""Why there is no connection, as the end of a sentence for whoever can change that."""

from __future__ import annotations

import socket
import ssl

from paho.mqtt.client import WebsocketConnectionError

from .address import Address

#: X509 verification errors: a name or an address that is not in the certificate.
_NOT_ITS_NAME = (62, 64)


def about_error(error: BaseException, address: Address) -> str:
    """Return why connecting has failed."""
    scheme = str(address).partition(":")[0]
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NOT_ITS_NAME:
            return f"its certificate is for another name than {address.host}; connect by the name in it"
        return (
            f"its certificate cannot be verified ({error.verify_message}); --cacert names the CA that has "
            "signed it"
        )
    if isinstance(error, ssl.SSLError):
        if (error.reason or "").startswith(("TLSV1_ALERT", "SSLV3_ALERT", "TLSV13_ALERT")):
            return f"it refuses TLS with us ({error.reason}); does it want a certificate (--cert and --key)?"
        return f"no TLS ({error.reason or error}); is it a port for {scheme}://?"
    if isinstance(error, socket.gaierror):
        return f"there is no host {address.host} ({error.strerror}); check the name"
    if isinstance(error, TimeoutError):
        return "it does not answer; check address, port and firewall"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; check the port, and that the broker runs"
    if isinstance(error, WebsocketConnectionError):
        return f"no WebSocket ({error}); is it a port for {scheme}://, and is the path {address.path} right?"
    if isinstance(error, ConnectionResetError) and address.tls:
        return f"it ends the connection in the middle of TLS; is it a port for {scheme}://?"
    if isinstance(error, OSError):
        return f"{error.strerror or error}"
    return f"{error}"


def about_silence(address: Address) -> str:
    """Return why the broker may have ended a connection instead of accepting it."""
    scheme = str(address).partition(":")[0]
    certificate = "does it want a certificate (--cert and --key), and " if address.tls else ""
    return f"it has ended the connection without a word; {certificate}is it a port for {scheme}://?"
