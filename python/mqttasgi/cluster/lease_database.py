"""The leader's lease in a database of Django's: PostgreSQL, MySQL, MariaDB or SQLite.

Its table makes itself when it is first needed. It is no model: a model's migration would be everybody's, also
of those who have no cluster.

Only the database's clock is asked, in the statement that takes the lease. No transaction has several
statements: a process that stood still within one would keep the others waiting for its lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, IntegrityError, OperationalError, connections

from .lease_store import StoreError, Timing

TABLE = "mqttasgi_lease"
TIMING = Timing(seconds=8.0, renewal=2.0, margin=1.0)

#: What makes the table; for MySQL no longer than what its oldest indexes take.
CREATE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} "
    "(name varchar(190) PRIMARY KEY, holder varchar(190) NOT NULL, ends bigint NOT NULL)"
)
_NOW = {
    # Not now(), which is when the transaction has begun.
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS integer)",
    # Not UNIX_TIMESTAMP(), which goes by the session's time zone, whose hours may come twice.
    "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000",
}
"""Milliseconds since 1970, by the server's clock."""
#: Seconds after which a server that is not there is given up, in whichever words the driver has for it.
_OPTIONS: dict[str, dict[str, Any]] = {
    "postgresql": {
        "connect_timeout": 2,
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 3000,
    },
    "sqlite": {"timeout": 2},
    "mysql": {"connect_timeout": 2, "read_timeout": 3, "write_timeout": 3},
}


class DatabaseStore:
    """A `Store` in a row of the table."""

    def __init__(self, alias: str) -> None:
        """Take the name that `DATABASES` has for it. Nothing is connected before the first question.

        Raises:
            ValueError: It is not there, or is none that could be shared; with a whole sentence.
        """
        self.timing = TIMING
        self.where = f"the database {alias!r}"
        self._alias = alias
        self._vendor = _check(alias)
        self._now = _NOW[self._vendor]
        #: None: to be opened.
        self._connection: Any = None

    def acquire(self, name: str, holder: str, seconds: float) -> bool:
        """See Store."""
        ends = int(seconds * 1000)
        with self._cursor() as cursor:
            cursor.execute(
                f"UPDATE {TABLE} SET holder = %s, ends = {self._now} + %s "
                f"WHERE name = %s AND ends <= {self._now}",
                [holder, ends, name],
            )
            if cursor.rowcount:
                return True
            cursor.execute(f"SELECT 1 FROM {TABLE} WHERE name = %s", [name])
            if cursor.fetchone():
                return False
            try:
                cursor.execute(
                    f"INSERT INTO {TABLE} (name, holder, ends) VALUES (%s, %s, {self._now} + %s)",
                    [name, holder, ends],
                )
            except IntegrityError:
                return False  # another was faster
            return True

    def renew(self, name: str, holder: str, seconds: float) -> bool:
        """See Store. One that has run out is still the holder's as long as nobody has taken it."""
        with self._cursor() as cursor:
            cursor.execute(
                f"UPDATE {TABLE} SET ends = {self._now} + %s WHERE name = %s AND holder = %s",
                [int(seconds * 1000), name, holder],
            )
            return bool(cursor.rowcount)

    def release(self, name: str, holder: str) -> None:
        """See Store."""
        with self._cursor() as cursor:
            cursor.execute(f"UPDATE {TABLE} SET ends = 0 WHERE name = %s AND holder = %s", [name, holder])

    def close(self) -> None:
        """See Store."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        try:
            if self._connection is None:
                self._connection = _own_connection(self._alias, self._vendor)
                self._see_to_table()
            with self._connection.cursor() as cursor:
                yield cursor
        except OperationalError as error:
            raise StoreError(_first_line(error)) from error
        except Error as error:
            raise StoreError(
                f"{_first_line(error)}; its user must be allowed SELECT, INSERT and UPDATE on {TABLE}, "
                "in a server that can be written to",
                lasting=True,
            ) from error

    def _see_to_table(self) -> None:
        if self._has_table():
            return
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(CREATE)
        except Error as error:
            # Another process may have made it, which PostgreSQL tells as an error even so.
            if not self._has_table():
                raise StoreError(
                    f"the table {TABLE} could not be made ({_first_line(error)}); have somebody who may run: "
                    f"{CREATE}; and allow SELECT, INSERT and UPDATE on it",
                    lasting=True,
                ) from error

    def _has_table(self) -> bool:
        with self._connection.cursor() as cursor:
            return TABLE in self._connection.introspection.table_names(cursor)


def _own_connection(alias: str, vendor: str) -> Any:
    """Return a connection that nobody else finds, closes or waits for."""
    connection = connections.create_connection(alias)
    settings = connection.settings_dict
    options = {**_OPTIONS[vendor], **settings["OPTIONS"]}
    # One that is shared, and one that refuses where two processes ask at the same time.
    for name in ("pool", "isolation_level"):
        options.pop(name, None)
    connection.settings_dict = {**settings, "AUTOCOMMIT": True, "OPTIONS": options}
    return connection


def _check(alias: str) -> str:
    """Return the kind of database."""
    cannot = f"A leader's lease cannot be in the database {alias!r}"
    try:
        if alias not in connections:
            raise ValueError(f"{cannot}: DATABASES has {', '.join(sorted(connections))}, but not that.")
        connection = connections.create_connection(alias)
    except ImproperlyConfigured as error:
        raise ValueError(f"{cannot}: {_first_line(error)}") from None
    if connection.vendor not in _NOW:
        raise ValueError(
            f"{cannot}: it is neither PostgreSQL, MySQL, MariaDB nor SQLite, or has no ENGINE in DATABASES."
        )
    if connection.vendor == "sqlite" and connection.is_in_memory_db():
        raise ValueError(f"{cannot}: it is in the memory of each process, so no other would see it.")
    return str(connection.vendor)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
