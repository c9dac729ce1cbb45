"""How often processes have died at a message: one that crashes its process must not crash all for ever.

All processes of a command share some memory, which outlives them. Each notes there what its consumers are
handling. When it has died, its parent counts that, where all of them see it: `durable_tries` times make a
dead letter.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from typing import Union

from ..runtime.bridge import Message

#: What a message is known by, for one consumer: the broker has no lasting number for it.
_KEY = struct.Struct("=IIII")
_NOTHING = bytes(_KEY.size)
#: Such a key, and how often processes have died at it.
_DEATHS = struct.Struct(f"={_KEY.size}sI")
_TIMES = struct.Struct("=I")
#: How many of those there are. Beyond that the oldest are forgotten.
_MOST = 500
#: Consumers of a process that handle a message at the same time, of which the parent finds it.
_SLOTS = 1024
#: Where things are: how often the keys that processes have died at have changed, these, and what is handled.
_DEATHS_AT = _TIMES.size
_SLOTS_AT = _DEATHS_AT + _MOST * _DEATHS.size
_OF_PROCESS = _SLOTS * _KEY.size

_Memory = Union[bytearray, mmap.mmap]


def _crc(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogateescape"))


def _times_at(entry: int) -> int:
    return _DEATHS_AT + entry * _DEATHS.size + _KEY.size


class AtWork:
    """What the consumers of this process are handling. Loop thread only."""

    def __init__(self, memory: int, process: int) -> None:
        """Take which process this is.

        Args:
            memory: The descriptor of the memory (`Deaths.memory`); -1: there is no parent.
            process: Its number, from 0 on.
        """
        size = _SLOTS_AT + (process + 1) * _OF_PROCESS
        self._memory: _Memory = mmap.mmap(memory, size) if memory >= 0 else bytearray(size)
        self._slots_at = size - _OF_PROCESS
        #: CRC of its lasting name.
        self._names: dict[int, int] = {}
        #: Handle of a consumer that handles a message -> where its key is noted.
        self._slots: dict[int, int] = {}
        self._free = list(range(_SLOTS))
        #: Which entry a key has, and of when that is.
        self._entries: dict[bytes, int] = {}
        self._changes = bytes(_TIMES.size)

    def consumer(self, handle: int, name: str) -> None:
        """Note a consumer's lasting name."""
        self._names[handle] = _crc(name)

    def consumer_gone(self, handle: int) -> None:
        """Forget it."""
        self._names.pop(handle, None)

    def times(self, handle: int, message: Message) -> int:
        """Return how often processes have died while this consumer handled this message."""
        entry = self._entry(handle, message)
        return int(_TIMES.unpack_from(self._memory, _times_at(entry))[0]) if entry >= 0 else 0

    def begins(self, handle: int, message: Message) -> None:
        """Note what a consumer is about to get."""
        if handle not in self._slots and self._free:
            self._slots[handle] = self._free.pop()
        self._note(self._slots.get(handle, -1), self._key(handle, message))

    def ends(self, handle: int) -> None:
        """Note that it handles nothing any more."""
        slot = self._slots.pop(handle, -1)
        self._note(slot, _NOTHING)
        if slot >= 0:
            self._free.append(slot)

    def over(self, handle: int, message: Message) -> None:
        """Note that a message was handled, or given up: its deaths are forgotten."""
        entry = self._entry(handle, message)
        if entry >= 0:
            _TIMES.pack_into(self._memory, _times_at(entry), 0)

    def _entry(self, handle: int, message: Message) -> int:
        """Return where the deaths at a message are; -1: there were none."""
        changes = self._memory[: _TIMES.size]
        if changes != self._changes:
            found = _DEATHS.iter_unpack(self._memory[_DEATHS_AT:_SLOTS_AT])
            self._entries = {key: entry for entry, (key, times) in enumerate(found) if times}
            self._changes = bytes(changes)
        return self._entries.get(self._key(handle, message), -1) if self._entries else -1

    def _key(self, handle: int, message: Message) -> bytes:
        return _KEY.pack(
            self._names.get(handle, 0),
            _crc(message.topic),
            zlib.crc32(message.payload),
            len(message.payload) & 0xFFFFFFFF,
        )

    def _note(self, slot: int, key: bytes) -> None:
        if slot >= 0:
            at = self._slots_at + slot * len(key)
            self._memory[at : at + len(key)] = key


class Deaths:
    """How often the processes of a command have died at each message. The parent's."""

    def __init__(self, processes: int) -> None:
        """Make the memory for so many processes. Raises OSError."""
        #: Its descriptor, for `AtWork`.
        self.memory = os.memfd_create("mqttasgi")
        size = _SLOTS_AT + processes * _OF_PROCESS
        os.truncate(self.memory, size)
        self._memory = mmap.mmap(self.memory, size)
        self._changes = 0
        #: The entry that is used when there is no free one.
        self._oldest = 0

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.memory)

    def died(self, process: int) -> None:
        """Count what was being handled in a process that has died."""
        begin = _SLOTS_AT + process * _OF_PROCESS
        handled = self._memory[begin : begin + _OF_PROCESS]
        self._memory[begin : begin + _OF_PROCESS] = bytes(_OF_PROCESS)
        for (key,) in struct.iter_unpack(f"{_KEY.size}s", handled):
            if key != _NOTHING:
                self._count(key)

    def _count(self, key: bytes) -> None:
        keys, times = zip(*_DEATHS.iter_unpack(self._memory[_DEATHS_AT:_SLOTS_AT]))
        if key in keys:
            entry = keys.index(key)
        elif 0 in times:
            entry = times.index(0)
        else:
            entry, self._oldest = self._oldest, (self._oldest + 1) % _MOST
        again = times[entry] + 1 if keys[entry] == key else 1
        _DEATHS.pack_into(self._memory, _DEATHS_AT + entry * _DEATHS.size, key, again)
        self._changes += 1
        _TIMES.pack_into(self._memory, 0, self._changes & 0xFFFFFFFF)
