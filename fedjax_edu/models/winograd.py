"""Convolutions in tiles, interpolated from a few points: a fraction of the products that the definition has."""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PIXELS = 4  # that a tile gives along an axis
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0, 2.0, -0.5)  # and infinity; small numbers and their reciprocals keep the digits
MOST_TAPS = len(POINTS) + 2 - PIXELS  # with more points float32 would lose too many digits


class Transforms(NamedTuple):
    """One axis of a convolution: a tile gives ``outputs @ ((kernel @ k) * (inputs @ x))``.

    Attributes:
        inputs: [n, n], of the n = m + r - 1 pixels that a tile reads.
        kernel: [n, r], of the r taps.
        outputs: [m, n], to the m pixels that it gives.
    """

    inputs: np.ndarray
    kernel: np.ndarray
    outputs: np.ndarray

    @classmethod
    def of(cls, taps: int) -> Self:
        """Those of a kernel; a single tap needs no tiles."""
        pixels = PIXELS if taps > 1 else 1
        reach = pixels + taps - 1

        def powers(count: int) -> np.ndarray:
            """Values of 1, x, .., at the points, and at infinity, where the last one alone counts: [reach, count]."""
            return np.vstack([np.vander(POINTS[: reach - 1], count, increasing=True), np.eye(count)[-1:]])

        return cls(np.linalg.inv(powers(reach)).T, powers(taps), powers(pixels).T)


def winograd(images: jax.Array, kernel: jax.Array) -> jax.Array:
    r"""Convolves as :func:`fedjax_edu.models.conv2d` does, in tiles that give 4 by 4 pixels.

    .. math:: y_o = A \Big[ \sum_c (G\, k_{co}\, G^\top) \odot (B\, x_c\, B^\top) \Big] A^\top

    A polynomial product is known from its values at as many points as it has coefficients: G and :math:`A^\top` take those of the factors,
    and the transpose of the whole makes a correlation of it. A 5x5 kernel needs 64 products of two numbers where the definition has 400.
    Both axes are transformed at once, so that each transform is one matrix product, as its gradient is.

    Args:
        images: x, float [B, H, W, C].
        kernel: k, float [I, J, C, O], at most 5 by 5.

    Returns:
        y, float [B, H, W, O]; in float32 about five digits of the largest output.

    >>> total = winograd(jnp.arange(9.0).reshape(1, 3, 3, 1), jnp.ones((3, 3, 1, 1)))
    >>> round(float(total[0, 1, 1, 0]), 3)
    36.0

    References: Winograd (1980), "Arithmetic complexity of computations"; Lavin, Gray (2015), arXiv:1509.09308.
    """
    (_, height, width, channels), (rows, columns, _, outputs) = images.shape, kernel.shape
    down, across = Transforms.of(rows), Transforms.of(columns)
    tiles = _tiles(_tiles(images, rows, axis=1), columns, axis=3)
    batch, high, _, wide, _, _ = tiles.shape
    of = {name: jnp.asarray(np.kron(getattr(down, name), getattr(across, name)), images.dtype) for name in Transforms._fields}
    points = len(of["inputs"])
    spread = jnp.transpose(tiles, (2, 4, 0, 1, 3, 5))  # by place in a tile
    inputs = (of["inputs"] @ spread.reshape(points, batch * high * wide * channels)).reshape(points, batch * high * wide, channels)
    kernels = (of["kernel"] @ kernel.reshape(rows * columns, channels * outputs)).reshape(points, channels, outputs)
    values = jnp.einsum("ntc,nco->nto", inputs, kernels).reshape(points, batch * high * wide * outputs)
    pixels = (of["outputs"] @ values).reshape(len(down.outputs), len(across.outputs), batch, high, wide, outputs)
    placed = jnp.transpose(pixels, (2, 3, 0, 4, 1, 5))
    return placed.reshape(batch, high * len(down.outputs), wide * len(across.outputs), outputs)[:, :height, :width]


def products(image: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """How many products of two numbers :func:`winograd` has for an image.

    Args:
        image: shape [H, W, C].
        kernel: shape [I, J, C, O].

    >>> products((16, 16, 32), (5, 5, 32, 64)) / (16 * 16 * 5 * 5 * 32 * 64)
    0.4
    """
    (height, width, channels), (rows, columns, _, outputs) = image, kernel
    pixels, points = zip(*(Transforms.of(taps).outputs.shape for taps in (rows, columns)), strict=True)
    tiles = -(-height // pixels[0]) * -(-width // pixels[1])
    total, given = points[0] * points[1], pixels[0] * pixels[1]
    return tiles * total * (total * channels + channels * outputs + given * outputs)


def _tiles(images: jax.Array, taps: int, axis: int) -> jax.Array:
    """Windows of an axis, each of them taps - 1 pixels into the next: [.., size, ..] -> [.., tiles, pixels, ..]."""
    (step, reach), size = Transforms.of(taps).outputs.shape, images.shape[axis]
    count, blocks, before = -(-size // step), -(-reach // step), (taps - 1) // 2
    borders = [(before, (count + blocks - 1) * step - before - size) if number == axis else (0, 0) for number in range(images.ndim)]
    padded = jnp.pad(images, borders).reshape(*images.shape[:axis], count + blocks - 1, step, *images.shape[axis + 1 :])
    parts = [lax.slice_in_dim(padded, first, first + count, axis=axis) for first in range(blocks)]
    parts[-1] = lax.slice_in_dim(parts[-1], 0, reach - (blocks - 1) * step, axis=axis + 1)
    return jnp.concatenate(parts, axis=axis + 1)
