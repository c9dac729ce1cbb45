"""What makes sense for one option alone, but not beside another one."""

from __future__ import annotations

import os
import re

from .option_table import Settings
from .values import UsageError, quote


def check_together(settings: Settings) -> None:
    """Raise `UsageError` for what does not go together on any machine."""
    if not settings.application:
        raise UsageError(
            "no application: name it as the last argument, package.module:name, or in MQTTASGI_APPLICATION"
        )
    check_connection(settings)
    _check_http(settings)
    if settings.user is not None and os.geteuid() != 0:
        raise settings.complain(
            "user",
            "only root can become another user; start the command as that user instead. The name that "
            "clients log in with is --username (-U)",
        )


def check_connection(settings: Settings) -> None:
    if bool(settings.cert) != bool(settings.key):
        has, lacks = ("cert", "key") if settings.cert else ("key", "cert")
        raise settings.complain(
            has, f"a certificate and its key belong together, and {lacks} is missing; give both (-C and -K)"
        )
    if settings.password is not None and settings.username is None:
        hint = "; --user is who the broker becomes, not who logs in" if settings.user is not None else ""
        raise settings.complain(
            "password", f"there is no username that it belongs to; give one too (-U){hint}"
        )
    if settings.host.startswith("/"):
        _check_socket(settings)
    elif "://" in settings.host:
        raise settings.complain(
            "host",
            f"{quote(settings.host)} is no host; write its name alone, and the port as its own option (-p)",
        )
    elif "/" in settings.host or " " in settings.host:
        raise settings.complain(
            "host",
            f"{quote(settings.host)} is neither a host's name or address nor a unix socket's path, which "
            "begins with /",
        )
    elif settings.port == 0:
        raise settings.complain("port", "0 is no port; a port is a number from 1 to 65535")


def _check_http(settings: Settings) -> None:
    if bool(settings.http_cert) != bool(settings.http_key):
        has, lacks = ("cert", "key") if settings.http_cert else ("key", "cert")
        raise settings.complain(
            f"http_{has}",
            f"a certificate and its key belong together; give --http-{lacks} too",
        )
    for name in ("http_cert", "http_proxies"):
        if getattr(settings, name) is not None and settings.http is None:
            raise settings.complain(name, "HTTP is not served; say where with --http, or leave this out")


def _check_socket(settings: Settings) -> None:
    if settings.bridge:
        raise settings.complain(
            "bridge", "Mosquitto cannot mirror a broker through a unix socket; name its host and port"
        )
    if re.search(r"\s", settings.host):
        raise settings.complain(
            "host",
            f"{quote(settings.host)} has a blank, which mosquitto.conf has no place for in an address",
        )
    if len(os.fsencode(settings.host)) > 107:
        raise settings.complain("host", f"{quote(settings.host)} is too long for a unix socket's path")
    if not os.path.isdir(os.path.dirname(settings.host)):
        raise settings.complain("host", f"the folder of {settings.host} does not exist; make it first")
    for name in ("cert", "key", "cacert", "use_ssl", "transport"):
        if name in settings.sources and getattr(settings, name) not in (False, "tcp"):
            raise settings.complain(
                name, f"a unix socket ({settings.host}) has neither TLS nor websockets; leave it out"
            )
