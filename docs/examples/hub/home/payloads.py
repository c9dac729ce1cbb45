"""What devices send, turned into values. Anyone can publish anything: all return None for that."""

from __future__ import annotations

import json
import math

PRESENCE = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


def text(payload: bytes) -> str | None:
    """Return the payload as text without surrounding white space, None where it is not UTF-8."""
    try:
        return payload.decode().strip()
    except UnicodeDecodeError:
        return None


def number(payload: bytes) -> float | None:
    """Return the payload as a finite number, None where it is none (`nan` and `inf` are none)."""
    try:
        value = float(payload)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def presence(payload: bytes) -> bool | None:
    """Tell whether somebody is there; None for what says neither."""
    return PRESENCE.get((text(payload) or "").lower())


def online(payload: bytes) -> bool | None:
    """Tell `online` from `offline`, plain or as Zigbee2MQTT has it: `{"state": "online"}`."""
    word: object = text(payload)
    if isinstance(word, str) and word.startswith("{"):
        try:
            word = json.loads(word).get("state")
        except (ValueError, RecursionError):
            return None
    return {"online": True, "offline": False}.get(word.lower()) if isinstance(word, str) else None
