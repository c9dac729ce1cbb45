"""A consumer that records whole messages, as JSON, in the file `whole` of TEST_FOLDER; see `apps.durable`."""

from __future__ import annotations

import json
from typing import Any

from apps.durable import Keeper


class Whole(Keeper):
    def record(self, message: Any) -> None:
        with self.file("whole").open("a") as file:
            json.dump(message, file, default=repr, sort_keys=True)
            file.write("\n")


application = Whole.as_asgi()
