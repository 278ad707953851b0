"""A table from 16-byte hashes to small numbers, in 30 to 60 bytes each where a dict takes 150.

Used to tell duplicates of a prompt apart and to know which inputs a run already has, over
millions of rows. Start from `HashTable`; what was never set is 0.
"""

from __future__ import annotations

from array import array

_KEY_BYTES = 16
_FIRST_SIZE = 1024


class HashTable:
    """Open addressing over flat arrays, at most two thirds full. Values are 0 to 2**32 - 1."""

    __slots__ = ("_keys", "_mask", "_used", "_values")

    def __init__(self) -> None:
        self._allocate(_FIRST_SIZE)

    def __getitem__(self, key: bytes) -> int:
        return self._values[self._slot(key)]

    def __setitem__(self, key: bytes, value: int) -> None:
        slot = self._slot(key)
        if value and not self._values[slot]:
            self._keys[slot * _KEY_BYTES : (slot + 1) * _KEY_BYTES] = key
            self._used += 1
        self._values[slot] = value
        if self._used * 3 > (self._mask + 1) * 2:
            self._grow()

    def add(self, key: bytes) -> int:
        """Count `key` once more; returns how often it has been added by now."""
        count = self[key] + 1
        self[key] = count
        return count

    def __len__(self) -> int:
        """How many keys were set."""
        return self._used

    def _slot(self, key: bytes) -> int:
        slot = int.from_bytes(key[:8], "little") & self._mask
        values, keys = self._values, self._keys
        while values[slot] and keys[slot * _KEY_BYTES : (slot + 1) * _KEY_BYTES] != key:
            slot = (slot + 1) & self._mask
        return slot

    def _allocate(self, size: int) -> None:
        self._mask = size - 1
        self._keys = bytearray(size * _KEY_BYTES)
        self._values = array("I", bytes(size * array("I").itemsize))
        self._used = 0

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._allocate((self._mask + 1) * 2)
        for slot, value in enumerate(values):
            if value:
                self[bytes(keys[slot * _KEY_BYTES : (slot + 1) * _KEY_BYTES])] = value


def hash_key(digest: str) -> bytes:
    """The first 16 bytes of a digest such as `sha256:0f3a…`, as a key for the table."""
    return bytes.fromhex(digest[7:39])
