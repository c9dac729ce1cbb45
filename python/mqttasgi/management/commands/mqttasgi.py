"""`manage.py mqttasgi`: the command `mqttasgi` with the project's `ASGI_APPLICATION`.

`mqttasgi` must be in `INSTALLED_APPS`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Optional

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, handle_default_options

from ...command import cli
from ...command.option_table import PYTHON_PATH


class Command(BaseCommand):
    help = "Starts Mosquitto with this project's ASGI application inside; takes the options of mqttasgi."
    # The broker imports the project by itself.
    requires_system_checks: list[str] = []  # noqa: RUF012
    stealth_options = ("arguments",)

    def run_from_argv(self, argv: list[str]) -> None:
        """Run for `manage.py`. The options are those of `mqttasgi`, whose -v and --version are its own."""
        words = self._without_djangos(argv[2:])
        sys.exit(self._main(words, f"{os.path.basename(argv[0])} {argv[1]}"))

    def handle(self, *args: Any, **options: Any) -> None:
        """Run for `call_command("mqttasgi", arguments=[...])`."""
        status = self._main(list(options.get("arguments") or []), "mqttasgi")
        if status:
            raise CommandError("mqttasgi failed; the lines above say why", returncode=status)

    def _main(self, words: list[str], prog: str) -> int:
        return cli.main(words, prog=prog, application=self._application(), project=self._project())

    @staticmethod
    def _project() -> str:
        """Return the folder of `manage.py`, or for `python -m django` the working directory."""
        program = Path(sys.argv[0]).absolute()
        started = program.suffix == ".py" and program.name != "__main__.py"
        return str(program.parent if started else Path.cwd())

    @staticmethod
    def _application() -> Optional[str]:
        """Return the application of `ASGI_APPLICATION`, which names a module's attribute with a dot."""
        module, _, name = (getattr(settings, "ASGI_APPLICATION", None) or "").rpartition(".")
        return f"{module}:{name}" if module else None

    def _without_djangos(self, words: list[str]) -> list[str]:
        """Take out what every management command has and `mqttasgi` has not."""
        import argparse

        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--settings")
        parser.add_argument("--pythonpath")
        parser.add_argument(
            "--traceback", "--no-color", "--force-color", "--skip-checks", action="store_true"
        )
        known, rest = parser.parse_known_args(words)
        handle_default_options(known)
        if known.pythonpath and PYTHON_PATH not in os.environ:
            os.environ[PYTHON_PATH] = f"{os.path.abspath(known.pythonpath)}:{self._project()}"
        return rest
