"""What makes two starts the same run: configuration, seed, data and model."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedjax_edu.core.errors import ConfigError
from fedjax_edu.core.trees import Tree, named_leaves
from fedjax_edu.data import Population
from fedjax_edu.study.run_folder import to_json

ROWS = 65_536  # that are read of a leaf, evenly spread


def identity(population: Population, params: Tree, seed: int, config: Any) -> dict[str, Any]:
    """A description that is equal for equal runs, as plain JSON values with dotted names.

    Args:
        population: who trains.
        params: the starting parameters.
        seed: of the run.
        config: whatever the run was configured by: a dataclass or mapping; None for nothing.

    Raises:
        ConfigError: a field that JSON has no value for.
    """
    described = _flat("config", to_json(config)) | {"seed": seed}
    described |= {"data.clients": population.num_clients, "data.examples": population.num_examples, "data.digest": digest(population)}
    return described | {f"params.{name}": f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in named_leaves(params)}


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    if isinstance(value, Mapping):
        return {key: entry for own, inner in value.items() for key, entry in _flat(f"{name}.{own}", inner).items()}
    try:
        json.dumps(value)
    except TypeError as error:
        raise ConfigError(name, value, "use numbers, words, lists, or mappings and dataclasses of them") from error
    return {} if value is None else {name: value}


def digest(population: Population) -> str:
    """Of who is there with how many rows, and of the rows: of long leaves some stand for all; those that a loader reads are not read."""
    found = hashlib.blake2b(digest_size=8)
    parts = [("offsets", population.offsets), ("ids", population.ids), *named_leaves(population.attributes)]
    if not population.loaded:
        parts += named_leaves(population.arrays)
    for name, known in sorted(population.texts.items()):
        found.update("\0".join((name, *known)).encode(errors="surrogatepass"))
    for name, leaf in parts:
        found.update(f"{name} {leaf.dtype}{list(leaf.shape)}".encode())
        found.update(np.ascontiguousarray(leaf[:: max(1, len(leaf) // ROWS)]).tobytes())
    return found.hexdigest()
