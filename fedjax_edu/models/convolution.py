"""A convolution that is quick inside a loop of local training, on every backend."""

import functools
import math

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.winograd import MOST_TAPS, products, winograd


def conv2d(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    r"""Convolves images with a kernel: stride 1, borders padded with zeros so that images keep their size.

    .. math:: y_{b,h,w,o} = \sum_{i,j,c} x_{b,\,h+i-p,\,w+j-q,\,c} \, k_{i,j,c,o}, \qquad
        p = \lfloor (I - 1) / 2 \rfloor, \quad q = \lfloor (J - 1) / 2 \rfloor

    GPUs and TPUs run ``jax.lax.conv_general_dilated``. On CPUs XLA differentiates that 5 to 12 times slower inside a loop than outside
    (JAX issue 12868), and ``vmap`` over clients makes it a grouped convolution, which is slower still. There it is matrix products:

    * Winograd's, for kernels up to 5x5 between channels enough: half of the products for 5x5 from 32 to 64 channels of 14x14 pixels.

    Otherwise the one of two forms that writes fewer numbers a pixel:

    * IJC: each pixel's patch in a row, times the kernel as an [IJC, O] matrix (im2col);
    * JC + IO: each pixel's row of J neighbours, times the kernel as a [JC, IO] matrix; the I results of a pixel are then added where
      the kernel's rows put them. It writes 480 numbers instead of 800 for a 5x5 kernel from 32 to 64 channels.

    The choice is made for the platform that a program is compiled for, not for the default one, and leaves no branch in it.

    A pixel that is not finite spoils its neighbourhood, and in tiles that of 8 by 8 pixels; never another image.

    Args:
        inputs: x, float [B, H, W, C].
        kernel: k, float [I, J, C, O].

    Returns:
        y, float [B, H, W, O].

    Raises:
        ArgumentError: not four axes each, another number of channels, no floats or those of two types.

    >>> image = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> left_neighbour = jnp.zeros((1, 3, 1, 1)).at[0, 0].set(1.0)
    >>> conv2d(image, left_neighbour)[0, :, :, 0].tolist()
    [[0.0, 0.0, 1.0], [0.0, 3.0, 4.0], [0.0, 6.0, 7.0]]

    References: Chellapilla, Puri, Simard (2006), "High performance convolutional neural networks for document processing"; Winograd (1980),
    "Arithmetic complexity of computations".
    """
    if inputs.ndim != 4:
        raise ArgumentError("inputs", inputs.shape, "use images [batch, height, width, channels]")
    if kernel.ndim != 4 or kernel.shape[2] != inputs.shape[3]:
        raise ArgumentError("kernel", kernel.shape, f"use [height, width, {inputs.shape[3]}, outputs]: the inputs have so many channels")
    if not jnp.issubdtype(inputs.dtype, jnp.floating) or kernel.dtype != inputs.dtype:
        raise ArgumentError("inputs, kernel", f"{inputs.dtype} and {kernel.dtype}", "use floats of one type: inputs.astype(kernel.dtype)")
    in_tiles = _tiles_are_quicker(inputs, kernel)
    return lax.platform_dependent(inputs, kernel, cpu=winograd if in_tiles else _as_matrix_product, default=_native)


def _native(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _tiles_are_quicker(inputs: jax.Array, kernel: jax.Array) -> bool:
    """Measured: they also are with somewhat more products than the definition has, for they write fewer numbers than unfolding does."""
    if kernel.size == 0 or max(kernel.shape[:2]) > MOST_TAPS or jnp.finfo(inputs.dtype).bits < 32:
        return False
    return 0 < products(inputs.shape[1:], kernel.shape) <= 1.5 * math.prod(inputs.shape[1:3]) * kernel.size


def _as_matrix_product(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    height, width, channels, outputs = kernel.shape
    columns = _unfold(inputs, width, axis=2)
    if height * width * channels <= width * channels + height * outputs:
        return _unfold(columns, height, axis=1) @ rearrange(kernel, "i j c o -> (i j c) o")
    return _fold(columns @ rearrange(kernel, "i j c o -> (j c) (i o)"), height, axis=1)


def _unfold(images: jax.Array, size: int, axis: int) -> jax.Array:
    """Every pixel's window of `size` pixels along an axis, side by side in its channels."""
    return jnp.concatenate([_move(images, (size - 1) // 2 - i, axis) for i in range(size)], axis=3)


def _fold(images: jax.Array, size: int, axis: int) -> jax.Array:
    """Channels in `size` parts, part i of a pixel added to the pixel whose window has it in place i."""
    moved = [_move(part, (size - 1) // 2 - i, axis) for i, part in enumerate(jnp.split(images, size, axis=3))]
    return functools.reduce(jnp.add, moved)


def _move(images: jax.Array, by: int, axis: int) -> jax.Array:
    """Images shifted along an axis; zeros come in, what passes the border is lost."""
    shift = [(by, -by, 0) if number == axis else (0, 0, 0) for number in range(images.ndim)]
    return lax.pad(images, jnp.zeros((), images.dtype), shift)
