"""Clients whose data lies."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data import validation
from fedjax_edu.data.population import Population


def flip_labels(
    population: Population, clients: Sequence[int] | np.ndarray, leaf: str, flip: Callable[[np.ndarray], np.ndarray]
) -> Population:
    """A population in which some clients have other labels.

    Args:
        population: the honest one, which stays as it is.
        clients: ids of those who lie.
        leaf: dotted path of the labels.
        flip: NumPy function of their labels [rows, ...] that returns as many of the same shape and dtype.

    Returns:
        The population, with the same clients, ids and attributes.

    Raises:
        ArgumentError: an unknown id or leaf, or labels of another shape or dtype.
        DataError: labels that no model can read.

    >>> honest = Population.from_arrays({"y": np.array([0, 1, 1, 0])}, offsets=[0, 2, 4], ids=[7, 8])
    >>> flip_labels(honest, [8], "y", lambda labels: 1 - labels).arrays["y"].tolist()
    [0, 1, 0, 1]

    Reference: Biggio, Nelson, Laskov (2012), "Poisoning attacks against support vector machines", arXiv:1206.6389.
    """
    named = population.leaves()
    if leaf not in named:
        raise ArgumentError("leaf", leaf, f"name a leaf of the population: {', '.join(named)}")
    ids = np.atleast_1d(validation.as_array("clients", clients))
    missing = ids[~np.isin(ids, population.ids)]
    if ids.dtype.kind not in "iu" or missing.size:
        raise ArgumentError("clients", missing[:3] if missing.size else clients, "use ids of the population")
    rows = np.isin(population.ids, ids)[population.row_clients]
    labels = named[leaf].copy()
    flipped = np.asarray(flip(labels[rows]))
    if (flipped.shape, flipped.dtype) != (labels[rows].shape, labels.dtype):
        found, wanted = (f"{each.dtype}{list(each.shape)}" for each in (flipped, labels[rows]))
        raise ArgumentError("flip", f"a function that returns {found}", f"return labels as they were given: {wanted}")
    labels[rows] = flipped
    named[leaf] = labels
    return Population.from_arrays(
        jax.tree.unflatten(jax.tree.structure(population.arrays), list(named.values())),
        population.offsets,
        ids=population.ids,
        attributes=population.attributes,
        allow_nonfinite=population.allow_nonfinite,
    )
