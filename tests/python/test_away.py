"""Which errors say that a server is away, and no message is to blame."""

from __future__ import annotations

from typing import Optional

import pytest
import redis
from django.db import IntegrityError, OperationalError

from mqttasgi.runtime.away import is_away


def chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


class Hostile(OperationalError):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (OperationalError('connection failed: connection to server at "127.0.0.1" failed: refused'), True),
        (OperationalError("connection timeout expired"), True),
        (OperationalError('connection failed: FATAL:  password authentication failed for user "hub"'), True),
        (OperationalError(2002, "Can't connect to MySQL server on '127.0.0.1' (115)"), True),
        (redis.ConnectionError("Error 111 connecting to 127.0.0.1:6379. Connection refused."), True),
        (redis.TimeoutError("Timeout connecting to server"), True),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), True),
        (redis.AuthenticationError("invalid username-password pair or user is disabled."), True),
        (chained(ValueError("no form"), OperationalError("connection timeout expired")), True),
        # The message may be what has broken it.
        (OperationalError("server closed the connection unexpectedly"), False),
        (redis.ConnectionError("Connection closed by server."), False),
        (redis.ResponseError("WRONGTYPE"), False),
        (IntegrityError("connection failed"), False),
        # Whom a message names may be away for ever.
        (ConnectionRefusedError(111, "Connection refused"), False),
        (ValueError("connection failed"), False),
        (Hostile(), False),
        (None, False),
    ],
)
def test_what_says_that_a_server_is_away(error: Optional[BaseException], away: bool) -> None:
    assert is_away(error) is away
