"""Whether an error says that a server which the application needs is away: its database's, or Redis.

Nothing here imports Django or redis: an application without them has none of these errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

#: So many causes of an error are looked at.
CAUSES = 10
#: In errors of PostgreSQL's and MySQL's drivers, in lower case: no connection could be made.
_NO_DATABASE = (
    "connection to server",
    "connection failed",
    "connection timeout expired",
    "could not connect",
    "can't connect to",
    "access denied for user",
    "failed to resolve host",
    "could not translate host name",
    "name or service not known",
)
#: In errors of the package redis, in lower case: the same, and a server that is not ready or not ours.
_NO_REDIS = ("connecting to", "loading the dataset", "username-password", "authentication required")


def causes(error: Optional[BaseException]) -> Iterator[BaseException]:
    """Yield an error and what has caused it."""
    for _ in range(CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def names(error: BaseException) -> set[str]:
    """Return what an error is, each class as the package that it comes from and its name."""
    return {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}


def is_no_database(text: str) -> bool:
    """Whether the text of a database's error says that no connection could be made."""
    return any(words in text.lower() for words in _NO_DATABASE)


def is_away(error: Optional[BaseException]) -> bool:
    """Whether an error says that no connection could be made, so that no message is to blame. Raises nothing.

    One that broke while it was in use is another matter: a message may have brought the server down.
    """
    try:
        return any(_is_away(cause) for cause in causes(error))
    except Exception:
        return False


def _is_away(error: BaseException) -> bool:
    kinds = names(error)
    if "django.OperationalError" in kinds:
        return is_no_database(str(error))
    if kinds & {"redis.ConnectionError", "redis.TimeoutError"}:
        return any(words in str(error).lower() for words in _NO_REDIS)
    return False
