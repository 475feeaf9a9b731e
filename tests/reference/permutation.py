"""The swap-or-not shuffle as its paper describes it (Hoang, Morris, Rogaway 2012), in NumPy, one round after another."""

import numpy as np

ROUNDS = 24
WORD = 2**32


def finalise(value):
    """Mixes the bits of 32-bit words."""
    value = np.asarray(value, np.uint64)
    value = (value ^ (value >> np.uint64(16))) * np.uint64(0x7FEB352D) % WORD
    value = (value ^ (value >> np.uint64(15))) * np.uint64(0x846CA68B) % WORD
    return value ^ (value >> np.uint64(16))


def swap_or_not(seed, index: np.ndarray, size: int) -> np.ndarray:
    """Where each index goes: every round has a key; a point's partner is (pivot - point) mod size; their common coin swaps them."""
    first, second = (int(word) for word in seed)
    point = np.asarray(index, np.int64)
    for number in range(ROUNDS):
        key = finalise((int(finalise((first + number * 0x9E3779B1) % WORD)) + second) % WORD)
        pivot = int(finalise(int(key) ^ first)) % size
        partner = (pivot - point) % size
        larger = np.maximum(point, partner).astype(np.uint64)
        coin = finalise(larger ^ key) >= WORD // 2
        point = np.where(coin, partner, point)
    return point
