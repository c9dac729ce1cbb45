"""The leader's lease in a Redis.

A Redis that is killed comes back without its last changes, or empty, and a replica that takes over may not
have had them: the leader of before still counts on a lease that another can take. So a lease that was just
taken counts only after as long as one lasts, when the leader of before has stopped on its own.
"""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

from .lease_store import StoreError, Timing

#: Of the addresses that the package redis takes.
SCHEMES = ("redis", "rediss", "unix")
#: Seconds that connecting may take, and an answer.
TIMEOUT = 1.0
TIMING = Timing(seconds=4.0, renewal=1.0, margin=0.5, settling=4.0)

_RENEW = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end
return 0
"""
_RELEASE = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""
#: Of errors, by the names of their classes -> what to do.
_CURES = {
    "AuthenticationError": "see the user and the password in its address",
    "NoPermissionError": "its access rules must allow SET, GET, PEXPIRE, DEL and EVAL on mqttasgi:leader:*",
    "ReadOnlyError": "give the address of the primary",
    "OutOfMemoryError": "give it more memory, or have it evict keys",
}


class RedisStore:
    """A `Store` in the key `mqttasgi:leader:<name>`."""

    def __init__(self, url: str) -> None:
        """Take its address. Nothing is connected before the first question.

        Raises:
            ValueError: It is no address, or the package redis is missing; with a whole sentence.
        """
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise ValueError(
                "A leader's lease in a Redis needs the package redis, which is not installed: "
                "pip install redis"
            ) from None
        self.timing = TIMING
        self.where = _without_password(url)
        self._error: type[Exception] = redis.RedisError
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                # The lease's own turns are.
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise ValueError(f"A leader's lease cannot be in {self.where}: {error}.") from None

    def acquire(self, name: str, holder: str, seconds: float) -> bool:
        """See Store."""
        return bool(self._call("set", _key(name), holder, nx=True, px=int(seconds * 1000)))

    def renew(self, name: str, holder: str, seconds: float) -> bool:
        """See Store."""
        return bool(self._call("eval", _RENEW, 1, _key(name), holder, int(seconds * 1000)))

    def release(self, name: str, holder: str) -> None:
        """See Store."""
        self._call("eval", _RELEASE, 1, _key(name), holder)

    def close(self) -> None:
        """See Store."""
        with contextlib.suppress(self._error, OSError):
            self._client.connection_pool.disconnect()

    def _call(self, command: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self._client, command)(*arguments, **options)
        except (self._error, OSError) as error:
            why = str(error).strip() or type(error).__name__
            for kind in type(error).__mro__:
                if kind.__name__ in _CURES:
                    raise StoreError(f"{why}; {_CURES[kind.__name__]}", lasting=True) from error
            raise StoreError(why) from error


def _key(name: str) -> str:
    return f"mqttasgi:leader:{name}"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    # What follows "?" may be a password as well.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
