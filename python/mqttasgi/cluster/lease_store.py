"""What the leader's lease needs of whatever keeps it."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Timing(NamedTuple):
    """Seconds; another process leads after at most `seconds + renewal + settling` when a leader is killed."""

    #: How long a lease lasts that is not renewed.
    seconds: float
    #: From one question to the next, of the leader and of those who wait.
    renewal: float
    #: By which it ends earlier for its holder: clocks differ in speed, and acting takes time.
    margin: float
    #: For which a lease does not count yet that was just taken.
    settling: float = 0.0
    #: For which `Leader.stop()` waits for the release.
    patience: float = 3.0


class StoreError(Exception):
    """The store did not do what it was asked, and says why, as the end of a sentence."""

    def __init__(self, why: str, lasting: bool = False) -> None:
        """Take the reason.

        Args:
            why: Without a full stop.
            lasting: Somebody has to mend it; it does not pass by itself.
        """
        super().__init__(why)
        self.lasting = lasting


class Store(Protocol):
    """Keeps leases, by name. Each call takes one atomic step at the server. The leader's thread only.

    A call may raise StoreError: whether the server has done what was asked is then not known.
    """

    @property
    def timing(self) -> Timing: ...

    @property
    def where(self) -> str:
        """Say where it is, for the log; without a password."""

    def acquire(self, name: str, holder: str, seconds: float) -> bool:
        """Take a lease that nobody has. Each call must be by a new `holder`."""

    def renew(self, name: str, holder: str, seconds: float) -> bool:
        """Prolong the lease if `holder` still has it; never take it."""

    def release(self, name: str, holder: str) -> None:
        """End the lease if `holder` still has it."""

    def close(self) -> None:
        """Close what is open to the server. It opens again by itself."""
