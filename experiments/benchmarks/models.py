"""The three models in JAX, written for XLA; they run on old JAX too, as FedJAX needs it.

Every form that XLA differentiates into a scatter (looking up an embedding, picking a label's logit) is written as a product with one-hot
rows instead, sums over the last axis as products with ones, for which XLA:CPU has ten times faster code than for reductions.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.benchmarks.workload import HEADS, LAYERS, SIDE, VOCABULARY, WIDTH

Params = dict[str, jax.Array]
Convolution = Callable[[jax.Array, jax.Array], jax.Array]


def losses(model: str, params: Params, batch: Params, convolve: Convolution) -> jax.Array:
    """The loss of each example of a batch.

    Args:
        model: ``mlp``, ``cnn`` or ``transformer``.
        params: arrays by name, as ``workload.start`` makes them.
        batch: ``x`` and ``y`` of the workload, [B, ...].
        convolve: what the CNN convolves with, ``(images [B, H, W, C], kernel) -> [B, H, W, O]``.

    Returns:
        Cross-entropies [B]; for sequences the mean over their tokens.
    """
    return cross_entropies(logits(model, params, batch["x"], convolve), batch["y"])


def cross_entropies(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropies of logits [B, ..., classes] and labels [B, ...], the mean over all axes but the first: [B]."""
    picked = jax.nn.one_hot(labels, outputs.shape[-1]) * jax.nn.log_softmax(outputs)
    return -jnp.mean(jnp.sum(picked, axis=-1).reshape(len(labels), -1), axis=1)


def logits(model: str, params: Params, x: jax.Array, convolve: Convolution) -> jax.Array:
    """The outputs of a model, as ``workload.logits`` defines them.

    Args:
        model: ``mlp``, ``cnn`` or ``transformer``.
        params: arrays by name.
        x: float [B, 784], or int [B, 64] for the transformer.
        convolve: as in :func:`losses`.

    Returns:
        [B, 62], or [B, 64, 90].
    """
    if model == "mlp":
        return _dense(params, x)
    if model == "cnn":
        return _cnn(params, x, convolve)
    return _transformer(params, x)


def _dense(params: Params, hidden: jax.Array) -> jax.Array:
    layers = sum(name.startswith("weight") for name in params)
    for layer in range(layers):
        hidden = jnp.einsum("bi,oi->bo", hidden, params[f"weight_{layer}"]) + params[f"bias_{layer}"][None]
        hidden = jax.nn.relu(hidden) if layer < layers - 1 else hidden
    return hidden


def _cnn(params: Params, x: jax.Array, convolve: Convolution) -> jax.Array:
    images = x.reshape(-1, SIDE, SIDE, 1)
    for layer in range(2):
        pooled = _pool(convolve(images, params[f"kernel_{layer}"]))
        images = jax.nn.relu(pooled + params[f"kernel_bias_{layer}"].reshape(1, 1, 1, -1))
    return _dense(params, images.reshape(len(x), -1))


def _pool(images: jax.Array) -> jax.Array:
    """The largest of each two by two pixels; biases and ReLU are monotone and come after it, on a quarter of the numbers."""
    batch, height, width, channels = images.shape
    return images.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def _transformer(params: Params, tokens: jax.Array) -> jax.Array:
    stream = jax.nn.one_hot(tokens, VOCABULARY) @ params["embedding"] + params["position"][None]
    for layer in range(LAYERS):
        stream = stream + _attention(params, layer, _normalise(params, f"attention_norm_{layer}", stream))
        hidden = _linear(params, f"hidden_in_{layer}", _normalise(params, f"hidden_norm_{layer}", stream))
        stream = stream + _linear(params, f"hidden_out_{layer}", jax.nn.gelu(hidden, approximate=True))
    return _linear(params, "output", _normalise(params, "final_norm", stream))


def _attention(params: Params, layer: int, stream: jax.Array) -> jax.Array:
    batch, length, _ = stream.shape
    together = _linear(params, f"attention_in_{layer}", stream).reshape(batch, length, 3, HEADS, WIDTH // HEADS)
    query, key, value = jnp.moveaxis(together, (2, 3), (0, 2))
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) / (WIDTH / HEADS) ** 0.5
    past = jnp.tril(jnp.ones((1, 1, length, length), bool))
    scores = jnp.where(past, scores, -jnp.inf)
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    mixed = jnp.einsum("bhqk,bhkd->bhqd", weights, value) * _spread(1 / _total(weights), WIDTH // HEADS)
    mixed = jnp.moveaxis(mixed, 1, 2).reshape(batch, length, WIDTH)
    return _linear(params, f"attention_out_{layer}", mixed)


def _linear(params: Params, name: str, inputs: jax.Array) -> jax.Array:
    return jnp.einsum("bti,oi->bto", inputs, params[f"{name}_weight"]) + params[f"{name}_bias"].reshape(1, 1, -1)


def _normalise(params: Params, name: str, inputs: jax.Array) -> jax.Array:
    centred = inputs - _spread(_total(inputs) / WIDTH, WIDTH)
    scaled = centred * _spread(jax.lax.rsqrt(_total(centred**2) / WIDTH + 1e-5), WIDTH)
    return scaled * params[f"{name}_scale"].reshape(1, 1, -1) + params[f"{name}_bias"].reshape(1, 1, -1)


def _total(inputs: jax.Array) -> jax.Array:
    """Sums over the last axis."""
    return jnp.einsum("...d,d->...", inputs, jnp.ones(inputs.shape[-1]))


def _spread(inputs: jax.Array, width: int) -> jax.Array:
    """[...] -> [..., width]."""
    return jnp.einsum("...,d->...d", inputs, jnp.ones(width))
