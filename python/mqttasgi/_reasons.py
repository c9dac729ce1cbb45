"""Reason codes of MQTT 5 as sentences for whoever can change what they say."""

from __future__ import annotations

#: Reason codes from here on say that something failed (MQTT 5, 2.4).
FAILURE = 0x80
#: Shared Subscriptions not supported.
NONE_SHARED = 0x9E
#: Reason code (MQTT 5, 3.2.2.2, 3.9.3, 3.14.2.1) -> what it means, and what to do.
_CODES = {
    0x80: "it does not say why; its log may",
    0x81: "it takes what was sent for malformed",
    0x82: "it takes what was sent for a protocol error",
    0x83: "it does not want to, for reasons of its own; its log may say more",
    0x84: "it does not speak MQTT 5, which consumers need; enable that in the broker, or use one that does",
    0x85: "it does not take the client id; give another with --id",
    0x86: "wrong user name or password; see --username and --password, or the user in the URL",
    0x87: "not authorized: user name and password may be wrong (--username, --password, the user in the "
    "URL), or the broker's access rules do not allow it to this user",
    0x88: "the broker is not available, as it says itself",
    0x89: "the broker is busy",
    0x8A: "the broker has banned this client",
    0x8B: "the broker is shutting down",
    0x8D: "it has heard nothing from here for too long: something blocks the event loop",
    0x8E: "another client has connected with the same client id; each needs its own (--id)",
    0x8F: "the broker does not take this filter",
    0x93: "more messages were under way than Receive Maximum allows",
    0x95: "a packet was larger than the broker takes",
    0x97: "a quota of the broker is exceeded",
    0x98: "somebody has ended it in the broker",
    0x9C: "the broker says to use another server",
    0x9D: "the server has moved",
    0x9E: "the broker has no shared subscriptions; leave --group out, or use a broker that has them",
    0x9F: "the broker does not take so many connections at once",
    0xA1: "the broker has no subscription identifiers, which consumers need",
    0xA2: "the broker has no wildcards in filters",
}


def about_code(code: int, said: str = "") -> str:
    """Return what a reason code means, with what the broker `said` itself."""
    text = _CODES.get(code, f"reason code 0x{code:02X}" if code else "the broker has ended the connection")
    return f"{text} (it says {said!r:.200})" if said else text
