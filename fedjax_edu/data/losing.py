"""Rows that lose modalities, exactly as many as asked for."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_share
from fedjax_edu.core.keys import check_seed
from fedjax_edu.core.trees import replaced
from fedjax_edu.data import validation
from fedjax_edu.data.population import Population


def lose_modalities(population: Population, present: Mapping[str, str], ratio: float, seed: int) -> Population:
    """A population in which some of the rows that have all of some modalities lose one of them.

    Of N such rows ``round(ratio * N)`` lose one, each modality as often as the others (the first ones once more where that does not come
    out even); no row loses two. A larger ratio with the same seed takes from the same rows, and others.

    Args:
        population: whose rows say what they have.
        present: dotted name of the leaf that says so, bool [N] or [N, tokens], by modality.
        ratio: share of the rows, from 0 to 1.
        seed: of the choice.

    Returns:
        The population with other masks; what stood where a modality was lost still stands there, and is never read.

    Raises:
        ArgumentError: no modality, a leaf that there is not or that is no mask, a share outside [0, 1].

    >>> arrays = {"image": np.ones((10, 2)), "there": {"image": np.ones(10, bool), "text": np.ones(10, bool)}}
    >>> population = Population.from_arrays(arrays, offsets=[0, 4, 10])
    >>> half = lose_modalities(population, {"image": "there.image", "text": "there.text"}, 0.5, seed=0)
    >>> int(half.arrays["there"]["image"].sum()), int(half.arrays["there"]["text"].sum())
    (7, 8)

    Reference: Che et al. (2024), "FedMVP", arXiv:2406.11048.
    """
    ratio, leaves = check_share("ratio", ratio), population.leaves()
    if not present:
        raise ArgumentError("present", present, "name at least one modality and the leaf that says which rows have it")
    masks: dict[str, Any] = {name: validation.mask_leaf(f"present[{modality!r}]", leaves, name) for modality, name in present.items()}
    whole = np.flatnonzero(np.all([mask.reshape(len(mask), -1).any(axis=1) for mask in masks.values()], axis=0))
    order = np.random.default_rng([check_seed(seed)]).permutation(whole)[: round(ratio * len(whole))]
    for number, (name, mask) in enumerate(masks.items()):
        masks[name] = np.array(mask)
        masks[name][order[number :: len(masks)]] = False
    kept = {name: validation.read_only(mask) for name, mask in masks.items()}
    return dataclasses.replace(population, arrays=replaced(population.arrays, kept))
