"""Rows that are read when somebody needs them: from memory-mapped files, from records, or made on the spot."""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jax
import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.data import validation


@dataclasses.dataclass(frozen=True)
class Loader:
    """Reads whole clients.

    Attributes:
        load: ``int64 [k], numbers of clients -> pytree of arrays``, the rows of the first, then those of the second, and so on.
        clients: int64 [clients], the number by which `load` knows each client of the population.
        spec: one row: a pytree of shapes and dtypes.
    """

    load: Callable[[np.ndarray], Any]
    clients: np.ndarray
    spec: Any

    @classmethod
    def probe(cls, load: Callable[[np.ndarray], Any], sizes: np.ndarray) -> Self:
        """A loader whose rows look like those of the first client that has any."""
        filled = np.flatnonzero(sizes)
        if not filled.size:
            raise DataError("sizes", "only zeros", "describe at least one client with rows")
        clients = np.arange(len(sizes))
        loaded = load(clients[filled[:1]])
        named = validation.leaves_by_name(loaded)
        if not named:
            raise DataError("load", loaded, "return a pytree with at least one array")
        rows = jax.tree.unflatten(
            jax.tree.structure(loaded), [validation.canonical_array(f"load.{name}".rstrip("."), leaf) for name, leaf in named.items()]
        )
        loader = cls(load, clients, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), rows))
        loader.read(filled[:1], sizes[filled[:1]])
        return loader

    def read(self, positions: np.ndarray, sizes: np.ndarray) -> Any:
        """The rows of clients, one client after another.

        Args:
            positions: int64 [k], positions in the population.
            sizes: int64 [k], how many rows each of them owns.

        Returns:
            Pytree of NumPy arrays [sum of sizes, ...].

        Raises:
            DataError: other leaves, another number of rows, or values that do not fit.
        """
        loaded = self.load(self.clients[positions])
        structure: Any = jax.tree.structure(self.spec)
        if jax.tree.structure(loaded) != structure:
            raise DataError("load", jax.tree.structure(loaded), f"return the structure that it returned at first: {structure}")
        total, leaves = int(sizes.sum()), []
        for (name, leaf), wanted in zip(validation.leaves_by_name(loaded).items(), jax.tree.leaves(self.spec), strict=True):
            array = validation.canonical_array(f"load.{name}".rstrip("."), leaf, allow_nonfinite=True)
            if array.shape != (total, *wanted.shape) or array.dtype != wanted.dtype:
                found, right = f"{array.dtype}{list(array.shape)}", f"{wanted.dtype}{[total, *wanted.shape]}"
                raise DataError(f"load.{name}".rstrip("."), f"{found} for clients of {total} rows", f"return {right}")
            leaves.append(array)
        return jax.tree.unflatten(structure, leaves)

    def select(self, positions: np.ndarray) -> Self:
        """The loader of some of the clients."""
        return dataclasses.replace(self, clients=self.clients[positions])
