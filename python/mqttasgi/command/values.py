"""What a value of an option may look like, whichever place it comes from."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Callable

from .. import _web
from .._mqtt import check_topic
from ..cluster import address

#: Spellings of a truth value, as the plugin takes them, in any case.
TRUTHS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class UsageError(Exception):
    """Something that was asked for makes no sense; the text is a sentence for who asked."""


# ---- values: each takes the text and returns the value, or raises ValueError with the end of a sentence ----


def check_text(value: str) -> str:
    """Return the value, if a line of `mosquitto.conf` can hold it; else raise ValueError."""
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("has a control character in it, which mosquitto.conf cannot hold")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not text in UTF-8, which mosquitto.conf must be") from None
    return value


def take_login(value: str) -> str:
    """Return the value, if a line can hold it and MQTT carry it; else raise ValueError."""
    if check_text(value) != value.strip():
        raise ValueError("begins or ends with a blank, which mosquitto.conf cannot hold")
    if len(value.encode()) > 65535:
        raise ValueError("is longer than the 65535 bytes that MQTT can carry")
    return value


def take_user_name(value: str) -> str:
    """Return the value, if a password file can hold it as well; else raise ValueError."""
    # A line of the password file is name:hash, and a comment where it begins with #.
    if ":" in take_login(value) or value.startswith("#"):
        raise ValueError("has a colon or begins with #, which a password file cannot hold")
    return value


def take_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return what takes a number between the two."""

    def take(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value.strip()) or not minimum <= int(value) <= maximum:
            raise ValueError(f"is not a number from {minimum} to {maximum}")
        return int(value)

    return take


def take_port(value: str) -> int:
    """Return the number of a port; 0 goes with a unix socket, as in the plugin's options."""
    try:
        return take_number(0, 65535)(value)
    except ValueError:
        raise ValueError("is not a number from 1 to 65535") from None


def take_truth(value: str) -> bool:
    """Return what the word stands for; else raise ValueError."""
    try:
        return TRUTHS[value.strip().lower()]
    except KeyError:
        raise ValueError("is neither true nor false") from None


def take_choice(words: tuple[str, ...]) -> Callable[[str], str]:
    """Return what takes one of the words, in any case."""

    def take(value: str) -> str:
        if value.strip().lower() not in words:
            raise ValueError(f"is neither {' nor '.join(words)}")
        return value.strip().lower()

    return take


def _path(value: str) -> Path:
    return Path(os.path.expanduser(check_text(value))).absolute()


def take_file(value: str) -> str:
    """Return the absolute path of a file that can be read; else raise ValueError."""
    path = _path(value)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("is not a file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return str(path)


def take_http(value: str) -> str:
    """Return where HTTP is served; else raise ValueError."""
    return str(_web.parse_address(check_text(value)))


def take_proxies(value: str) -> str:
    """Return the list of proxies; else raise ValueError."""
    _web.Proxies(check_text(value))
    return value


def take_folder(value: str) -> str:
    """Return the absolute path of what is a folder, or nothing yet; else raise ValueError."""
    path = _path(value)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ValueError("is not a folder")
    return str(path)


def take_application(value: str) -> str:
    """Return the value, if it looks like package.module:name; else raise ValueError."""
    value = value.strip()
    if value == "status":
        raise ValueError("is no application; it comes first, as in: mqttasgi status --watch")
    if value == "dead":
        raise ValueError("is no application; it comes first, as in: mqttasgi dead list")
    if value == "startproject":
        raise ValueError("is no application; it comes first, as in: mqttasgi startproject mysite")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", value):
        hint = ""
        module = re.sub(r"\.py$", "", value).strip("/").replace("/", ".")
        if ":" not in value and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module):
            *package, name = module.split(".")
            hint = (
                f", such as {module}:application"
                if value != module or not package or name == "asgi"
                else (f", such as {'.'.join(package)}:{name}")
            )
        raise ValueError(f"must look like package.module:name{hint}")
    return value


def take_filter(value: str) -> str:
    """Return the value, if it is a topic filter; else raise ValueError."""
    # MQTT 5, 4.7.1: wildcards stand for whole levels, and # for the last.
    levels = check_text(value).split("/")
    for number, level in enumerate(levels):
        if ("+" in level and level != "+") or ("#" in level and (level != "#" or number != len(levels) - 1)):
            raise ValueError("is not a topic filter: + and # stand for whole levels, and # comes last")
    if not value or " " in value:
        raise ValueError("cannot stand in a topic line of mosquitto.conf")
    return value


def take_topic(value: str) -> str:
    """Return the value, if a message can be published there; else raise ValueError."""
    try:
        check_topic(check_text(value))
    except ValueError as error:
        raise ValueError(f"is no topic: {error}") from None
    return value


def take_group(value: str) -> str:
    """Return the value, if shared subscriptions can have that name (MQTT 5, 4.8.2); else raise ValueError."""
    if re.search(r"[/+#]", check_text(value)) or not value.strip():
        raise ValueError("is no name of a group: it may have none of / + #")
    return value


def take_addresses(value: str) -> list[address.Address]:
    """Return the brokers' addresses; else raise ValueError."""
    found = []
    for url in re.split(r",(?=\w+://)", check_text(value)):
        try:
            found.append(address.parse(url))
        except ValueError as error:
            # Without what may be a password.
            raise ValueError(f"{quote(re.sub('//.*@', '//', url))} {error}") from None
    if len({(each.tls, each.websockets, each.path) for each in found}) > 1:
        raise ValueError("has addresses of several kinds; all must begin alike, and end with the same path")
    if len({(each.username, each.password) for each in found if each.username is not None}) > 1:
        raise ValueError("names several users; name one, or give it with --username and --password")
    return found


def quote(text: str) -> str:
    """Return the text for a sentence, in quotes and not too long."""
    shown = text if len(text) <= 80 else text[:77] + "..."
    return (
        '"' + shown.encode("unicode_escape").decode().replace("\\\\", "\\") + '"'
        if not shown.isprintable()
        else f'"{shown}"'
    )
