"""Problems with known gradients: a linear model on ragged clients, and random quadratics."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_edu as fe

SIZES = (7, 0, 12, 1, 5, 20, 3, 9, 0, 14, 2, 6)


class Linear:
    """Least squares with a bias: loss, NumPy gradient, ragged clients (two of them empty)."""

    def __init__(self, dtype: type = np.float32, sizes: tuple[int, ...] = SIZES, seed: int = 0):
        rng = np.random.default_rng(seed)
        rows = sum(sizes)
        self.x, self.y = rng.normal(size=(rows, 3)).astype(dtype), rng.normal(size=rows).astype(dtype)
        self.offsets = np.concatenate([[0], np.cumsum(sizes)])
        self.params = {"layer": {"w": rng.normal(size=3).astype(dtype)}, "head": {"b": np.asarray(rng.normal(), dtype)}}

    def population(self, **changes: np.ndarray) -> fe.data.Population:
        arrays = {"x": self.x, "y": self.y} | changes
        third = np.arange(len(self.offsets) - 1) % 3
        attributes = {"group": third, "width": np.float32((1 + third) / 3)}
        return fe.data.Population.from_arrays(arrays, offsets=self.offsets, attributes=attributes, allow_nonfinite=("x",))

    @staticmethod
    def loss(params, batch, key):
        residual = batch["x"] @ params["layer"]["w"] + params["head"]["b"][None] - batch["y"]
        return 0.5 * residual**2, {"absolute": jnp.abs(residual)}

    def losses(self, params, rows: np.ndarray) -> np.ndarray:
        return 0.5 * (self.x[rows] @ params["layer"]["w"] + params["head"]["b"] - self.y[rows]) ** 2

    def gradient(self, params, rows: np.ndarray):
        residual = self.x[rows] @ params["layer"]["w"] + params["head"]["b"] - self.y[rows]
        return {"layer": {"w": self.x[rows].T @ residual / len(rows)}, "head": {"b": residual.mean()}}


class Quadratic(NamedTuple):
    """Examples 0.5 (w - b)' H (w - b): a client's objective is a quadratic with the mean of its H and of its H b."""

    h: np.ndarray
    b: np.ndarray
    offsets: np.ndarray

    @classmethod
    def random(cls, seed: int, sizes: tuple[int, ...] = (3, 1, 7, 0, 4), dim: int = 3) -> "Quadratic":
        rng = np.random.default_rng(seed)
        root = rng.normal(size=(sum(sizes), dim, dim))
        h = root @ root.transpose(0, 2, 1) / dim + 0.1 * np.eye(dim)
        return cls(h, rng.normal(size=(sum(sizes), dim)), np.concatenate([[0], np.cumsum(sizes)]))

    @staticmethod
    def loss(params, batch, key):
        gap = params["w"][None] - batch["b"]
        return 0.5 * jnp.einsum("bi,bij,bj->b", gap, batch["h"], gap)

    def population(self) -> fe.data.Population:
        return fe.data.Population.from_arrays({"h": self.h, "b": self.b}, offsets=self.offsets)

    def clients(self) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(examples, H, minimiser) of each client that has examples."""
        found = []
        for first, end in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            if end > first:
                h = self.h[first:end].mean(0)
                found.append(
                    (end - first, h, np.linalg.solve(h, np.einsum("nij,nj->i", self.h[first:end], self.b[first:end]) / (end - first)))
                )
        return found


def largest_gap(left, right) -> float:
    """Largest absolute difference between two trees of arrays or keys."""

    def values(leaf):
        return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)

    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return max((float(np.max(np.abs(values(a).astype(float) - values(b).astype(float)), initial=0.0)) for a, b in pairs), default=0.0)


def identical(left, right) -> bool:
    """Whether two trees agree bit for bit."""

    def raw(leaf):
        return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf).tobytes()

    return [raw(leaf) for leaf in jax.tree.leaves(left)] == [raw(leaf) for leaf in jax.tree.leaves(right)]
