"""What Django loads as the backend."""

from __future__ import annotations

from typing import Any

from django.db import OperationalError
from django.db.backends.sqlite3 import base

import breakable


class DatabaseWrapper(base.DatabaseWrapper):
    """Fails as that of PostgreSQL does whose server has been restarted: each query, until it is closed."""

    generation = -1

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        self.generation = breakable.generation
        return super().get_new_connection(conn_params)

    def create_cursor(self, name: Any = None) -> Any:
        if not self.is_usable():
            self.errors_occurred = True
            raise OperationalError("the connection is lost")
        return super().create_cursor(name)

    def is_usable(self) -> bool:
        return self.generation == breakable.generation
