"""Whether arrays are those that were saved: a number that every change of a single bit changes, whatever devices hold which parts."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fedjax_edu.study.processes import sum_of_all

_BLOCK = 1 << 20  # numbers that are looked at in one go
_ODD = np.uint64(0x9E3779B97F4A7C15)


def checksums(arrays: Mapping[str, Any]) -> dict[str, str]:
    """By name, the sum of an array's bits, each number times an odd one of its place, modulo 2^64; in hexadecimal digits.

    An odd factor has an inverse: no change of one number leaves the sum as it was.

    Args:
        arrays: alike in every process, whose devices may hold parts of them; all processes ask at the same point of the program.

    >>> one, two = (np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32))
    >>> checksums({"w": one}) == checksums({"w": one.copy()}), checksums({"w": one}) == checksums({"w": two})
    (True, False)
    """
    sums = np.array([_own_sum(leaf) for leaf in arrays.values()], np.uint64)
    return {name: f"{total:016x}" for name, total in zip(arrays, sum_of_all(sums).tolist(), strict=True)}


def _own_sum(leaf: Any) -> int:
    """Of the parts of an array that belong to this process alone."""
    if not isinstance(leaf, jax.Array):
        leaf = np.asarray(leaf)
        return _sum_of(leaf, (0,) * leaf.ndim, leaf.shape) if jax.process_index() == 0 else 0
    total = 0
    for shard in leaf.addressable_shards:
        if shard.replica_id == 0:
            total += _sum_of(np.asarray(shard.data), tuple(each.start or 0 for each in shard.index), leaf.shape)
    return total % 2**64


def _sum_of(part: np.ndarray, starts: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Of a part that begins at `starts` within an array of this shape."""
    part, starts, shape = np.atleast_1d(part), starts or (0,), shape or (1,)
    strides = np.cumprod([1, *shape[:0:-1]], dtype=np.uint64)[::-1]
    rows = max(1, _BLOCK // max(part[:1].size, 1))
    total = 0
    for first in range(0, len(part), rows):
        block = np.ascontiguousarray(part[first : first + rows])
        begins = (starts[0] + first, *starts[1:])
        axes = [np.uint64(begin) + np.arange(size, dtype=np.uint64) for begin, size in zip(begins, block.shape, strict=True)]
        place = functools.reduce(np.add.outer, [axis * stride for axis, stride in zip(axes, strides, strict=True)])
        bits = block.view(f"u{block.itemsize}").astype(np.uint64)
        total += int(np.sum(bits * (place * _ODD | np.uint64(1)), dtype=np.uint64))
    return total % 2**64
