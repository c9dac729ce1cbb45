"""A disk that fails when a test says so, for a program that failing_disk.c is preloaded into."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_disk.c")


class FailingDisk:
    """The disk of the files whose path has words in it."""

    def __init__(self, folder: Path, words: str, compiler: str = "cc") -> None:
        self.library = folder / "failing_disk.so"
        self.control = folder / "failing-disk.control"
        self.words = words
        command = [
            compiler,
            "-shared",
            "-fPIC",
            "-O2",
            "-D_GNU_SOURCE",
            "-o",
            self.library,
            SOURCE,
            "-lpthread",
        ]
        subprocess.run(command, check=True)
        self.heal()

    @property
    def environment(self) -> dict[str, str]:
        """Return what the program is to be started with."""
        return {
            "LD_PRELOAD": str(self.library),
            "FAILING_DISK": str(self.control),
            "FAILING_DISK_FILES": self.words,
        }

    def fail(self, *calls: str, error: str = "EIO", first: int = 1, offset: int | None = None) -> None:
        """Let calls (read, write, sync, truncate, allocate) fail, each from the first-th from now on.

        Args:
            error: What they fail with: EIO, ENOSPC or EROFS.
            offset: Only those at this place in the file.
        """
        place = "" if offset is None else f" {offset}"
        self._write("".join(f"{call} {first} {error}{place}\n" for call in calls))

    def heal(self) -> None:
        """Let none fail."""
        self._write("")

    def _write(self, text: str) -> None:
        # Never half of it: the program may look at any time.
        with tempfile.NamedTemporaryFile("w", dir=self.control.parent, delete=False) as file:
            file.write(text)
        Path(file.name).replace(self.control)
