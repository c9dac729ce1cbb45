"""The command, where mqttasgi has it: projects import `main` from here, or start `python -m mqttasgi.cli`."""

import sys

from .command.cli import main as main

if __name__ == "__main__":
    sys.exit(main())
