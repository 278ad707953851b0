"""The table of hashes against a dict."""

from __future__ import annotations

import random
import sys
from collections import Counter

from cai.dataset.hashes import HashTable, hash_key
from cai.files import digest_json


def test_counts_as_a_counter_does() -> None:
    rng = random.Random(7)
    keys = [rng.randbytes(16) for _ in range(3000)]
    # Keys that begin alike fall on one slot and must still be told apart.
    keys += [b"\0" * 8 + rng.randbytes(8) for _ in range(200)] + [b"\0" * 16]
    table, expected = HashTable(), Counter[bytes]()
    for key in rng.choices(keys, k=10_000):
        expected[key] += 1
        assert table.add(key) == expected[key]
    assert len(table) == len(expected)
    assert all(table[key] == expected[key] for key in keys)
    assert table[rng.randbytes(16)] == 0


def test_values_can_be_set() -> None:
    table = HashTable()
    table[b"k" * 16] = 5
    table[b"k" * 16] |= 2
    assert (table[b"k" * 16], len(table)) == (7, 1)


def test_takes_less_than_sixty_bytes_a_key() -> None:
    """16 bytes of key and 4 of count, at a load of one to two thirds: 30 to 60 bytes."""
    rng = random.Random(7)
    table = HashTable()
    for _ in range(90_000):
        table.add(rng.randbytes(16))
    size = sys.getsizeof(table._keys) + sys.getsizeof(table._values)
    assert size < 60 * 90_000


def test_key_is_the_first_half_of_the_digest() -> None:
    assert hash_key(digest_json([1])).hex() == digest_json([1])[7:39]
