"""The workload that everybody trains on, in NumPy alone: rivals' environments have neither JAX nor fedjax_edu.

Clients are ragged, as FEMNIST's are: sizes are log-normal, labels skewed. Everybody runs federated averaging on the same arrays from the
same start, one epoch in stored order, so that final parameters agree and not only accuracies.
"""

import dataclasses
import itertools
import os
from typing import Any, Self

import numpy as np

MODELS = ("mlp", "cnn", "transformer")
CLIENTS = 1024
CLASSES = 62
SIDE = 28
LENGTH = 64
VOCABULARY = 90
WIDTH = 128
LAYERS = 4
HEADS = 4
HIDDEN = 512
LEARNING_RATE = 0.05
BATCH_SIZE = {"mlp": 20, "cnn": 20, "transformer": 8}
SEED = 20261121

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Workload:
    """Clients and a balanced held-out set for one model.

    Args:
        model: one of `MODELS`.
        arrays: ``x`` and ``y``, [N, ...]; client i owns the rows ``offsets[i]:offsets[i + 1]``.
        offsets: int64 [clients + 1].
        held_out: ``x`` and ``y`` of examples that nobody trains on.
    """

    model: str
    arrays: Arrays
    offsets: np.ndarray
    held_out: Arrays

    @property
    def sizes(self) -> np.ndarray:
        """Examples of each client, int64 [clients]."""
        return np.diff(self.offsets)

    def batches(self, client: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The batches of one client in stored order, the last one as short as it comes."""
        start, stop = self.offsets[client : client + 2]
        size = BATCH_SIZE[self.model]
        cuts = [slice(first, min(first + size, stop)) for first in range(start, stop, size)]
        return [(self.arrays["x"][cut], self.arrays["y"][cut]) for cut in cuts]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything to one file of arrays."""
        arrays: dict[str, Any] = self.arrays | {f"held_out_{name}": value for name, value in self.held_out.items()}
        np.savez(path, model=np.array(self.model), offsets=self.offsets, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads what :meth:`save` wrote."""
        with np.load(path) as file:
            held_out = {name: file[f"held_out_{name}"] for name in ("x", "y")}
            return cls(str(file["model"]), {name: file[name] for name in ("x", "y")}, file["offsets"], held_out)


def make(model: str, *, clients: int = CLIENTS, seed: int = SEED) -> Workload:
    """The workload of a model.

    Args:
        model: ``mlp`` and ``cnn`` read the same images, ``transformer`` reads sequences.
        clients: how many.
        seed: of everything.

    Returns:
        A :class:`Workload`; the same arguments give the same arrays.

    >>> make("mlp", clients=3).sizes.tolist()
    [99, 139, 118]
    """
    random = np.random.default_rng(seed)
    sizes = client_sizes(random, clients)
    if model == "transformer":
        return _sequences(random, np.maximum(sizes // 4, 2))  # batches of 8: three or four a client, a few less than images make
    return _images(model, random, sizes)


def client_sizes(random: np.random.Generator, clients: int, *, mean: float = 112.0, smallest: int = 16, largest: int = 400) -> np.ndarray:
    """Log-normal sizes (sigma .7) around a mean, clipped.

    Args:
        random: source.
        clients: how many.
        mean: before rounding and clipping.
        smallest: bound.
        largest: bound.

    Returns:
        int64 [clients].
    """
    sigma = 0.7
    sizes = random.lognormal(np.log(mean) - sigma**2 / 2, sigma, clients)
    return np.clip(np.round(sizes), smallest, largest).astype(np.int64)


def _images(model: str, random: np.random.Generator, sizes: np.ndarray) -> Workload:
    """Noisy, shifted blobs, 62 classes in different shares at every client."""
    templates = _shifted_templates(random)
    labels = _skewed(random, sizes, CLASSES)
    balanced = np.tile(np.arange(CLASSES, dtype=np.int32), 33)
    x, held_out = _draw_images(random, templates, labels), _draw_images(random, templates, balanced)
    return Workload(model, {"x": x, "y": labels}, _offsets(sizes), {"x": held_out, "y": balanced})


def _shifted_templates(random: np.random.Generator) -> np.ndarray:
    """Each class is a sum of four Gaussian blobs, shifted by up to two pixels: float32 [classes, 25, 784]."""
    down, right = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    centre = random.uniform(4, 24, (2, CLASSES, 4, 1, 1))
    width, height = random.uniform(1.5, 3.5, (CLASSES, 4, 1, 1)), random.uniform(0.7, 1.3, (CLASSES, 4, 1, 1))
    distance = (down - centre[0]) ** 2 + (right - centre[1]) ** 2
    blobs = np.sum(height * np.exp(-distance / (2 * width**2)), axis=1)
    shifted = [np.roll(blobs, (i, j), (1, 2)) for i in range(-2, 3) for j in range(-2, 3)]
    return np.stack(shifted, axis=1).reshape(CLASSES, 25, SIDE * SIDE).astype(np.float32)


def _draw_images(random: np.random.Generator, templates: np.ndarray, labels: np.ndarray) -> np.ndarray:
    count = len(labels)
    images = templates[labels, random.integers(0, templates.shape[1], count)]
    images *= random.uniform(0.6, 1.4, (count, 1)).astype(np.float32)
    images += 0.35 * random.standard_normal(images.shape, np.float32)
    return images


def _skewed(random: np.random.Generator, sizes: np.ndarray, kinds: int) -> np.ndarray:
    """One of `kinds` for every example, each client with shares of its own from Dirichlet(.3)."""
    shares = np.cumsum(random.dirichlet(np.full(kinds, 0.3), len(sizes)), axis=1)
    return _choose(random, np.repeat(shares, sizes, axis=0))


def _choose(random: np.random.Generator, cumulative: np.ndarray) -> np.ndarray:
    """One column for each row of cumulative shares [N, kinds], int32 [N]."""
    at = random.random((len(cumulative), 1), np.float32)
    return np.minimum((cumulative < at).sum(axis=1), cumulative.shape[1] - 1).astype(np.int32)


def _offsets(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)])


def _sequences(random: np.random.Generator, sizes: np.ndarray, dialects: int = 8) -> Workload:
    """Markov chains of eight dialects, in different shares at every client."""
    chains = np.cumsum(random.dirichlet(np.full(VOCABULARY, 0.05), (dialects, VOCABULARY)), axis=2).astype(np.float32)
    tokens = _draw_sequences(random, chains, _skewed(random, sizes, dialects))
    held_out = _draw_sequences(random, chains, np.tile(np.arange(dialects), 32))
    return Workload("transformer", _next_token(tokens), _offsets(sizes), _next_token(held_out))


def _draw_sequences(random: np.random.Generator, chains: np.ndarray, dialect: np.ndarray) -> np.ndarray:
    tokens = [random.integers(0, VOCABULARY, len(dialect), np.int32)]
    for _ in range(LENGTH):
        tokens.append(_choose(random, chains[dialect, tokens[-1]]))
    return np.stack(tokens, axis=1)


def _next_token(tokens: np.ndarray) -> Arrays:
    return {"x": np.ascontiguousarray(tokens[:, :-1]), "y": np.ascontiguousarray(tokens[:, 1:])}


def start(model: str, seed: int = SEED) -> Arrays:
    """The weights that everybody starts from.

    Args:
        model: one of `MODELS`.
        seed: of the kernels, drawn uniformly after Glorot and Bengio (2010); biases are 0, scales 1.

    Returns:
        Arrays by name, matrices [outputs, inputs], convolution kernels [height, width, inputs, outputs].
    """
    random = np.random.default_rng(seed)
    return {name: _start_value(random, name, shape) for name, shape in shapes(model).items()}


def _start_value(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 1:
        return np.full(shape, float("scale" in name), np.float32)
    limit = np.sqrt(6.0 / (np.prod(shape[:-2]) * (shape[-2] + shape[-1])))
    return random.uniform(-limit, limit, shape).astype(np.float32)


def shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's parameters.

    >>> shapes("mlp")["weight_0"]
    (200, 784)
    """
    if model == "mlp":
        return _dense([SIDE * SIDE, 200, 200, CLASSES])
    if model == "cnn":
        return _convolution(0, 1, 32) | _convolution(1, 32, 64) | _dense([SIDE // 4 * (SIDE // 4) * 64, 512, CLASSES])
    layers = [shape for layer in range(LAYERS) for shape in _block(layer).items()]
    ends = {"embedding": (VOCABULARY, WIDTH), "position": (LENGTH, WIDTH)} | _norm("final_norm") | _linear("output", WIDTH, VOCABULARY)
    return ends | dict(layers)


def _dense(widths: list[int]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        found |= {f"weight_{number}": (outputs, inputs), f"bias_{number}": (outputs,)}
    return found


def _convolution(number: int, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"kernel_{number}": (5, 5, inputs, outputs), f"kernel_bias_{number}": (outputs,)}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}_weight": (outputs, inputs), f"{name}_bias": (outputs,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}_scale": (WIDTH,), f"{name}_bias": (WIDTH,)}


def _block(layer: int) -> dict[str, tuple[int, ...]]:
    """One pre-norm layer: attention, then two dense layers."""
    attention = _norm(f"attention_norm_{layer}") | _linear(f"attention_in_{layer}", WIDTH, 3 * WIDTH)
    attention |= _linear(f"attention_out_{layer}", WIDTH, WIDTH)
    hidden = _norm(f"hidden_norm_{layer}") | _linear(f"hidden_in_{layer}", WIDTH, HIDDEN) | _linear(f"hidden_out_{layer}", HIDDEN, WIDTH)
    return attention | hidden


def flops(model: str) -> int:
    """Floating-point operations that training on one example needs: matrix products and convolutions, 2 a multiply-add.

    Forward, gradient of weights, gradient of inputs; a first layer that reads data has no gradient of inputs.

    >>> flops("mlp"), flops("cnn"), flops("transformer")
    (941600, 72544256, 331579392)
    """
    kernels = {name: shape for name, shape in shapes(model).items() if len(shape) > 1}
    if model == "transformer":
        weights = sum(rows * columns for name, (rows, columns) in kernels.items() if name not in ("embedding", "position"))
        attention = 2 * LAYERS * LENGTH * WIDTH
        return 2 * 3 * LENGTH * (weights + attention)
    pixels = {"kernel_0": SIDE**2, "kernel_1": (SIDE // 2) ** 2}
    products = [int(np.prod(shape)) * pixels.get(name, 1) for name, shape in kernels.items()]
    return 2 * (3 * sum(products) - products[0])


def accuracy(model: str, params: Arrays, held_out: Arrays) -> float:
    """The share of held-out labels, or next tokens, that a model names.

    Args:
        model: one of `MODELS`.
        params: arrays by name, as in :func:`start`.
        held_out: of a :class:`Workload`.

    Returns:
        A share in [0, 1].
    """
    return float(np.mean(logits(model, params, held_out["x"]).argmax(axis=-1) == held_out["y"]))


def norm(params: Arrays) -> float:
    """The Euclidean norm of all parameters together.

    >>> norm({"a": np.array([3.0]), "b": np.array([[4.0]])})
    5.0
    """
    return float(np.sqrt(sum(np.sum(np.square(value, dtype=np.float64)) for value in params.values())))


def logits(model: str, params: Arrays, x: np.ndarray) -> np.ndarray:
    """The outputs of a model, straight from its definition.

    Args:
        model: one of `MODELS`.
        params: arrays by name, as in :func:`start`.
        x: float [B, 784], or int [B, 64] for the transformer.

    Returns:
        [B, 62], or [B, 64, 90].
    """
    return {"mlp": _mlp, "cnn": _cnn, "transformer": _transformer}[model](params, x)


def _mlp(params: Arrays, hidden: np.ndarray) -> np.ndarray:
    layers = sum(name.startswith("weight") for name in params)
    for layer in range(layers):
        hidden = hidden @ params[f"weight_{layer}"].T + params[f"bias_{layer}"]
        hidden = np.maximum(hidden, 0) if layer < layers - 1 else hidden
    return hidden


def _cnn(params: Arrays, x: np.ndarray) -> np.ndarray:
    images = x.reshape(-1, SIDE, SIDE, 1)
    for layer in range(2):
        images = np.maximum(_convolve(images, params[f"kernel_{layer}"]) + params[f"kernel_bias_{layer}"], 0)
        batch, height, width, channels = images.shape
        images = images.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    return _mlp(params, images.reshape(len(images), -1))


def _convolve(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    batch, height, width, channels = images.shape
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    result = np.zeros((batch, height, width, kernel.shape[3]), np.float32)
    for i, j in np.ndindex(5, 5):
        window = padded[:, i : i + height, j : j + width].reshape(-1, channels)
        result += (window @ kernel[i, j]).reshape(result.shape)
    return result


def _transformer(params: Arrays, tokens: np.ndarray) -> np.ndarray:
    stream = params["embedding"][tokens] + params["position"]
    for layer in range(LAYERS):
        stream = stream + _attention(params, layer, _normalise(params, f"attention_norm_{layer}", stream))
        hidden = _apply(params, f"hidden_in_{layer}", _normalise(params, f"hidden_norm_{layer}", stream))
        stream = stream + _apply(params, f"hidden_out_{layer}", _gelu(hidden))
    return _apply(params, "output", _normalise(params, "final_norm", stream))


def _attention(params: Arrays, layer: int, stream: np.ndarray) -> np.ndarray:
    batch = len(stream)
    together = _apply(params, f"attention_in_{layer}", stream).reshape(batch, LENGTH, 3, HEADS, WIDTH // HEADS)
    query, key, value = together.transpose(2, 0, 3, 1, 4)
    scores = query @ key.swapaxes(2, 3) / np.sqrt(WIDTH / HEADS).astype(np.float32)
    scores = np.where(np.tri(LENGTH, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (weights / weights.sum(axis=-1, keepdims=True)) @ value
    return _apply(params, f"attention_out_{layer}", mixed.transpose(0, 2, 1, 3).reshape(batch, LENGTH, WIDTH))


def _apply(params: Arrays, name: str, inputs: np.ndarray) -> np.ndarray:
    return inputs @ params[f"{name}_weight"].T + params[f"{name}_bias"]


def _normalise(params: Arrays, name: str, inputs: np.ndarray) -> np.ndarray:
    centred = inputs - inputs.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
    return scaled * params[f"{name}_scale"] + params[f"{name}_bias"]


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
