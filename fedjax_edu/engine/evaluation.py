"""Evaluation and prediction over whole populations."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from fedjax_edu.core.algorithm import Report, observe
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.loss import LossFunction
from fedjax_edu.core.trees import Tree, named_leaves
from fedjax_edu.engine.state import Evaluation
from fedjax_edu.engine.tiles import Models, Tiles, over_tiles


@partial(jax.jit, static_argnums=(0, 1))
def losses(models: Models, loss: LossFunction, server: Any, clients: Tree, data: Tree, tiles: Tiles, key: jax.Array) -> Report:
    """What each tile observes, leaves [groups, tiles at once]."""

    def function(params: Tree, batch: Tree, valid: jax.Array) -> Report:
        return observe(loss(params, batch, key, valid), valid)

    return over_tiles(models, function)(server, clients, data, tiles)


@partial(jax.jit, static_argnums=(0, 1))
def predictions(models: Models, function: Callable[..., Any], server: Any, clients: Tree, data: Tree, tiles: Tiles) -> Any:
    """Outputs of ``function(params, batch)`` for each tile, leaves [groups, tiles at once, tile, ...].

    Raises:
        ArgumentError: an output that does not have one entry a row.
    """

    def rows(params: Tree, batch: Tree, valid: jax.Array) -> Any:
        outputs = function(params, batch)
        leaves = named_leaves(outputs)
        if not leaves:
            raise ArgumentError("fn output", outputs, "return at least one array [B, ...]")
        for name, leaf in leaves:
            shape = getattr(leaf, "shape", ())
            if not shape or shape[0] != valid.shape[0]:
                found = list(shape) if hasattr(leaf, "shape") else leaf
                raise ArgumentError(f"fn output {name}".rstrip(), found, f"return one entry a row of the batch: [{valid.shape[0]}, ...]")
        return outputs

    return over_tiles(models, rows)(server, clients, data, tiles)


def summarise(report: Report, clients: np.ndarray, count: int) -> Evaluation:
    """Sums of tiles, [tiles], as means overall and per client.

    Args:
        report: what each tile observed.
        clients: int [tiles], whose tile it is.
        count: clients of the population.
    """

    def per_client(values: Any) -> np.ndarray:
        return np.bincount(clients, weights=np.asarray(values, np.float64), minlength=count)

    sums = jax.tree.map(per_client, report)
    total = jax.tree.map(np.sum, sums)
    return _means(total)._replace(per_client=_means(sums))


def _means(sums: Report) -> Evaluation:
    with np.errstate(invalid="ignore", divide="ignore"):
        metrics = {name: np.asarray(value / weight) for name, (value, weight) in sums.metrics.items()}
        return Evaluation(np.asarray(sums.loss / sums.examples), metrics, np.asarray(sums.examples).astype(np.int64), None)


def in_row_order(outputs: Tree, tiles: Tiles) -> Tree:
    """Outputs of tiles as NumPy arrays [rows, ...] in the population's row order."""
    valid, at = np.asarray(tiles.valid), np.asarray(tiles.rows)
    rows = int(valid.sum())

    def order(leaf: jax.Array) -> np.ndarray:
        values = np.asarray(leaf)
        result = np.empty((rows, *values.shape[3:]), values.dtype)
        result[at[valid]] = values[valid]
        return result

    return jax.tree.map(order, outputs)
