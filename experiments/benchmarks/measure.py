"""Clocks, spreads, the machine's peak, and memory."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

MATMUL_SIZES = (512, 1024, 2048, 4096)


class Spread(NamedTuple):
    """What repeats of one measurement say.

    Args:
        median: what ratios are made of.
        minimum: the quietest repeat.
        low: first quartile.
        high: third quartile.
        repeats: how many.
    """

    median: float
    minimum: float
    low: float
    high: float
    repeats: int


def spread(values: list[float]) -> Spread:
    """Median, minimum and quartiles.

    >>> spread([3.0, 1.0, 2.0])
    Spread(median=2.0, minimum=1.0, low=1.5, high=2.5, repeats=3)
    """
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Spread(middle, min(values), low, high, len(values))


def interleave(works: Mapping[str, Callable[[], list[float]]], repeats: int) -> dict[str, list[float]]:
    """Lets measurements take turns, so that a disturbance of the machine meets all of them.

    Every other time they come in the opposite order: nobody always follows the one that leaves caches and memory in the worst state.

    Args:
        works: name to a function that returns seconds, whose mean is one repeat.
        repeats: turns of each.

    Returns:
        Name to seconds, one a repeat.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats):
        for name in list(works)[:: -1 if turn % 2 else 1]:
            seconds[name].append(statistics.fmean(works[name]()))
    return seconds


def clock(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def matmul_peak(sizes: tuple[int, ...] = MATMUL_SIZES, tries: int = 5) -> dict[int, float]:
    """The machine's float32 matrix products, all cores, in this process.

    Each size is tried as one product that XLA spreads over the cores, and as one product a device at the same time.

    Args:
        sizes: n of the square products.
        tries: the best counts.

    Returns:
        n to floating-point operations a second.
    """
    return {size: max(_speed(size, count, tries) for count in {1, _devices()}) for size in sizes}


def _devices() -> int:
    import jax

    return jax.device_count()


def _speed(size: int, count: int, tries: int) -> float:
    """Operations a second of `count` products of [size, size], one a device."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    mesh = jax.make_mesh((count,), ("products",), devices=jax.devices()[:count], axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("products"))
    factor = jax.device_put(jnp.ones((count, size, size), jnp.float32), split)
    product = jax.jit(lambda left, right: left @ right, out_shardings=split)
    product(factor, factor).block_until_ready()
    seconds = min(clock(lambda: product(factor, factor).block_until_ready()) for _ in range(tries))
    return count * 2 * size**3 / seconds


def peak_bytes(process: int | None = None) -> int | None:
    """The most resident memory that a process and its children have held, each at its own worst moment.

    Args:
        process: its id; None is this one.

    Returns:
        Bytes, or None where the system does not tell (anything but Linux).
    """
    return _tree_bytes(os.getpid() if process is None else process, "VmHWM")


def resident_bytes() -> int | None:
    """The resident memory of this process at this moment; None where the system does not tell."""
    return _status_bytes(os.getpid(), "VmRSS")


def _tree_bytes(process: int, field: str) -> int | None:
    own = _status_bytes(process, field)
    if own is None:
        return None
    return own + sum(_tree_bytes(child, field) or 0 for child in _children(process))


def _children(process: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has just ended
        return []


def _status_bytes(process: int, field: str) -> int | None:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)
