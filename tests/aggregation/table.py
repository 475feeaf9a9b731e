"""The table of aggregators: one row each, run through every test of test_suite.py."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_edu.aggregation import Chain, chain, clip, mean


class Row(NamedTuple):
    """An aggregator under test.

    Args:
        name: of the test case.
        make: the chain.
        twin: ``(update) -> (update, {statistic: value})``, its client half on one private value in NumPy.
        sensitivity: largest norm of a private value after the client half.
    """

    name: str
    make: Callable[[], Chain]
    twin: Callable[[Any], tuple[Any, dict[str, float]]]
    sensitivity: float


def _clip(norm: float) -> Callable[[Any], tuple[Any, dict[str, float]]]:
    def twin(update):
        size = float(np.linalg.norm(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(update)])))
        scale = min(1.0, norm / size) if size else 1.0
        return jax.tree.map(lambda leaf: leaf * scale, update), {"clip.norm": size, "clip.clipped": float(size > norm)}

    return twin


AGGREGATORS = (
    Row("mean", lambda: chain(mean()), lambda update: (update, {}), math.inf),
    Row("clip", lambda: chain(clip(3.0), mean()), _clip(3.0), 3.0),
    Row("clip-that-does-not-bind", lambda: chain(chain(clip(1e6), mean())), _clip(1e6), 1e6),
)
