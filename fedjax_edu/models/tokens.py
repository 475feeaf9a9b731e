"""Tokens: what every encoder makes of its modality, and what every layer above reads."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_edu.core.errors import ArgumentError


class Tokens(NamedTuple):
    """Vectors and whether each is there.

    Args:
        values: float [B, T, D]; zeros where absent.
        mask: bool [B, T].
    """

    values: jax.Array
    mask: jax.Array

    @staticmethod
    def masked(values: jax.Array, mask: jax.Array) -> "Tokens":
        """Tokens with zeros where `mask` is false, so that what was computed there has a gradient of exactly zero."""
        return Tokens(where_present(mask, values), mask)

    @staticmethod
    def join(*parts: "Tokens") -> "Tokens":
        """Tokens of several modalities, one after another."""
        return Tokens(*(jnp.concatenate(leaves, axis=1) for leaves in zip(*parts, strict=True)))

    def mean(self) -> jax.Array:
        """The mean of those that are there, [B, D]; zeros where there is none.

        >>> Tokens(jnp.array([[[1.0], [3.0], [0.0]]]), jnp.array([[True, True, False]])).mean().tolist()
        [[2.0]]
        """
        count = self.mask.sum(axis=1, dtype=self.values.dtype)
        return self.values.sum(axis=1) / jnp.maximum(count, 1.0)[:, None]


def token_mask(present: jax.Array, lengths: jax.Array | None, tokens: int) -> jax.Array:
    """Which of a row's tokens are there.

    Args:
        present: bool [B] for the whole modality, or [B, T] for each token.
        lengths: int [B], tokens a row; None: all of them.
        tokens: T.

    Returns:
        bool [B, T].

    Raises:
        ArgumentError: `present` of another shape.

    >>> token_mask(jnp.array([True, False]), jnp.array([2, 3]), 3).tolist()
    [[True, True, False], [False, False, False]]
    """
    if present.ndim not in (1, 2) or (present.ndim == 2 and present.shape[1] != tokens):
        raise ArgumentError("present", present.shape, f"use [rows] or [rows, {tokens}]")
    mask = jnp.broadcast_to(present.reshape(len(present), -1), (len(present), tokens))
    return mask if lengths is None else mask & (jnp.arange(tokens, dtype=jnp.int32)[None, :] < lengths[:, None])


def where_present(mask: jax.Array, values: jax.Array) -> jax.Array:
    """Content with zeros where it is absent, whatever stands there.

    Args:
        mask: bool, the leading axes of `values`.
        values: any array.
    """
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    return jnp.where(mask, values, jnp.zeros((), values.dtype))


@jax.custom_batching.custom_vmap
def anywhere(flag: jax.Array) -> jax.Array:
    """Whether a flag is raised, under ``vmap`` anywhere: one answer for all lanes, so that a condition stays one where lanes are mapped."""
    return flag


@anywhere.def_vmap
def _(lanes: int, batched: list[bool], flags: jax.Array) -> tuple[jax.Array, bool]:
    return anywhere(jnp.any(flags, axis=0)), False
