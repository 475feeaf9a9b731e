"""The three models in PyTorch, as its own layers give them, and the way from and to the workload's arrays."""

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from experiments.benchmarks.workload import HEADS, HIDDEN, LAYERS, LENGTH, SIDE, VOCABULARY, WIDTH, Arrays, shapes


class Dense(nn.Module):
    """Dense layers with ReLU between them."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(widths))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, inputs] -> [B, outputs]."""
        for layer in self.layers[:-1]:
            hidden = functional.relu(layer(hidden))
        return self.layers[-1](hidden)


class Convolutional(nn.Module):
    """Two convolutions, each followed by ReLU and pooling, then dense layers."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.kernels = nn.ModuleList([nn.Conv2d(1, 32, 5, padding=2), nn.Conv2d(32, 64, 5, padding=2)])
        self.dense = Dense(widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 784] -> [B, classes]."""
        images = x.view(-1, 1, SIDE, SIDE)
        for kernel in self.kernels:
            images = functional.max_pool2d(functional.relu(kernel(images)), 2)
        return self.dense(images.flatten(1))


class Block(nn.Module):
    """A pre-norm layer: attention over the past, then two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.hidden_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention_in, self.attention_out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.hidden_in, self.hidden_out = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        """[B, length, width] -> the same."""
        stream = stream + self.attention_out(self._attention(self.attention_in(self.attention_norm(stream))))
        hidden = functional.gelu(self.hidden_in(self.hidden_norm(stream)), approximate="tanh")
        return stream + self.hidden_out(hidden)

    @staticmethod
    def _attention(together: torch.Tensor) -> torch.Tensor:
        batch, length, _ = together.shape
        query, key, value = together.view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(1, 2).reshape(batch, length, WIDTH)


class Transformer(nn.Module):
    """A small language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Parameter(torch.zeros(LENGTH, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.final_norm, self.output = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, length] -> [B, length, vocabulary]."""
        stream = self.embedding(tokens) + self.position
        for block in self.blocks:
            stream = block(stream)
        return self.output(self.final_norm(stream))


def build(model: str, arrays: Arrays) -> nn.Module:
    """A model that holds the workload's weights.

    Args:
        model: ``mlp``, ``cnn`` or ``transformer``.
        arrays: by name, as ``workload.start`` makes them.

    Returns:
        The module.
    """
    sizes = [shape for name, shape in shapes(model).items() if name.startswith("weight")]
    widths = [sizes[0][1], *(outputs for outputs, _ in sizes)] if sizes else []
    module = Transformer() if model == "transformer" else Convolutional(widths) if model == "cnn" else Dense(widths)
    with torch.no_grad():
        for name, parameter in _parameters(model, module).items():
            parameter.copy_(torch.tensor(_to_torch(name, arrays[name], model)))
    return module


def arrays_of(model: str, module: nn.Module) -> Arrays:
    """The weights of a module as the workload names and lays them out.

    Args:
        model: ``mlp``, ``cnn`` or ``transformer``.
        module: of :func:`build`.

    Returns:
        Arrays by name.
    """
    found = {name: parameter.detach().numpy() for name, parameter in _parameters(model, module).items()}
    return {name: _from_torch(name, value, model) for name, value in found.items()}


def loss(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of a batch, over tokens too where there are tokens."""
    return functional.cross_entropy(module(x).flatten(0, -2), y.flatten())


def _parameters(model: str, module: nn.Module) -> dict[str, torch.Tensor]:
    return {_our_name(model, name): parameter for name, parameter in module.named_parameters()}


def _our_name(model: str, name: str) -> str:
    """``layers.0.weight`` is ``weight_0``, ``blocks.1.hidden_in.bias`` is ``hidden_in_1_bias``."""
    *path, leaf = name.removeprefix("dense.").split(".")
    if model != "transformer":
        kind = {"layers": {"weight": "weight", "bias": "bias"}, "kernels": {"weight": "kernel", "bias": "kernel_bias"}}[path[0]]
        return f"{kind[leaf]}_{path[1]}"
    if leaf == "position" or path == ["embedding"]:
        return leaf if leaf == "position" else "embedding"
    part = f"{path[2]}_{path[1]}" if path[0] == "blocks" else path[0]
    return f"{part}_scale" if "norm" in part and leaf == "weight" else f"{part}_{leaf}"


def _to_torch(name: str, value: np.ndarray, model: str) -> np.ndarray:
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if (model, name) == ("cnn", "weight_0"):  # the flattened image is (height, width, channels) here, (channels, height, width) there
        value = value.reshape(-1, SIDE // 4, SIDE // 4, 64).transpose(0, 3, 1, 2).reshape(value.shape)
    return value


def _from_torch(name: str, value: np.ndarray, model: str) -> np.ndarray:
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if (model, name) == ("cnn", "weight_0"):
        value = value.reshape(-1, 64, SIDE // 4, SIDE // 4).transpose(0, 2, 3, 1).reshape(value.shape)
    return value
