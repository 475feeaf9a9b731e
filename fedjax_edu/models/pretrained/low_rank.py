"""Low-rank matrices of a text encoder in the layout of Hugging Face's PEFT, and back."""

import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from fedjax_edu.core.errors import ArgumentError, DataError, require
from fedjax_edu.models.corrections import LowRank, add_low_rank
from fedjax_edu.models.encoders.text import TextEncoder
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.pretrained.bert import names
from fedjax_edu.models.pretrained.layout import check_shapes, read_json, read_tensors

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."


def save_low_rank(encoder: TextEncoder, folder: str | Path, *, base: str = "") -> None:
    """Writes the low-rank matrices of a text encoder as ``adapter_model.safetensors`` and ``adapter_config.json``, which PEFT loads.

    Args:
        encoder: with low-rank matrices, one a layer at most.
        folder: is made.
        base: name of the model that they belong to, for readers who want to find it.

    Raises:
        ArgumentError: no low-rank matrix, or several in one layer.
    """
    require("writing low-rank matrices", "pretrained", "safetensors")
    from safetensors.numpy import save_file

    found = {module: _only(path, layer) for path, module, layer in _layers(encoder) if _low_rank(layer)}
    if not found:
        raise ArgumentError("encoder", "no low-rank matrix", "call add_low_rank before it is trained")
    tensors = {}
    for module, matrices in found.items():
        tensors[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(np.asarray(matrices.a[...]).T)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(np.asarray(matrices.b[...]).T)
    ranks = {module: matrices.a[...].shape[1] for module, matrices in found.items()}
    alphas = {module: matrices.scale * ranks[module] for module, matrices in found.items()}
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    config = {
        "peft_type": "LORA",
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {module: one for module, one in ranks.items() if one != rank},
        "alpha_pattern": {module: one for module, one in alphas.items() if one != alpha},
        "target_modules": sorted(found),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def load_low_rank(encoder: TextEncoder, folder: str | Path) -> None:
    """Adds the low-rank matrices that PEFT or :func:`save_low_rank` wrote to a text encoder.

    Args:
        encoder: changed in place; split it afterwards.
        folder: that holds them.

    Raises:
        ArgumentError: the encoder has low-rank matrices already.
        DataError: no such file, no low-rank matrices, or tensors that do not fit the encoder; the message names the tensor.
    """
    folder = Path(folder)
    told = _config(folder / CONFIG)
    tensors = read_tensors(folder / WEIGHTS)
    layers = {module: (path, layer) for path, module, layer in _layers(encoder)}
    taken = [module for module in layers if f"{PREFIX}{module}.lora_A.weight" in tensors]
    if not taken:
        raise DataError(WEIGHTS, "no low-rank matrices", "use a folder that PEFT or save_low_rank wrote")
    for module in taken:
        if _low_rank(layers[module][1]):
            raise ArgumentError("encoder", f"low-rank matrices in {layers[module][0]}", "load them into an encoder that has none")
    ranks = {module: _of_pattern(told.get("rank_pattern"), module, told["r"]) for module in taken}
    expected: dict[str, tuple[int, ...]] = {}
    for module in taken:
        inputs, outputs = layers[module][1].widths
        expected[f"{PREFIX}{module}.lora_A.weight"] = (ranks[module], inputs)
        expected[f"{PREFIX}{module}.lora_B.weight"] = (outputs, ranks[module])
    check_shapes(folder / WEIGHTS, tensors, expected)
    for module in taken:
        path, layer = layers[module]
        alpha = _of_pattern(told.get("alpha_pattern"), module, told["lora_alpha"])
        add_low_rank(encoder, lambda own, path=path: own == path, rank=ranks[module], alpha=alpha)  # type: ignore[misc]
        matrices = _only(path, layer)
        matrices.a[...] = jnp.asarray(tensors[f"{PREFIX}{module}.lora_A.weight"].T)
        matrices.b[...] = jnp.asarray(tensors[f"{PREFIX}{module}.lora_B.weight"].T)


def _of_pattern(patterns: dict[str, Any] | None, module: str, otherwise: Any) -> Any:
    """What the first pattern says that a module's name ends with, as PEFT reads them."""
    found = (value for pattern, value in (patterns or {}).items() if re.match(rf"(.*\.)?({pattern})$", module))
    return next(found, otherwise)


def _layers(encoder: TextEncoder) -> list[tuple[str, str, Linear]]:
    """Linear layers: their paths, their names in the family's layout, and themselves."""
    theirs = names(encoder.config.layers)
    linear = {".".join(map(str, path)): layer for path, layer in nnx.iter_modules(encoder) if isinstance(layer, Linear)}
    return [(path, theirs[f"{path}.kernel"].removesuffix(".weight"), layer) for path, layer in sorted(linear.items())]


def _low_rank(layer: Linear) -> list[LowRank]:
    return [correction for correction in layer.corrections if isinstance(correction, LowRank)]


def _only(path: str, layer: Linear) -> LowRank:
    found = _low_rank(layer)
    if len(found) > 1:
        raise ArgumentError(f"encoder.{path}", f"{len(found)} low-rank matrices", "add one a layer: the layout has no place for more")
    return found[0]


def _config(path: Path) -> dict[str, Any]:
    told = read_json(path)
    if told.get("peft_type") != "LORA":
        raise DataError(f"{path.name}, peft_type", told.get("peft_type"), "use a folder of LORA")
    for name in ("use_dora", "use_rslora", "fan_in_fan_out"):
        if told.get(name):
            raise DataError(f"{path.name}, {name}", told[name], "use plain low-rank matrices")
    if missing := [name for name in ("r", "lora_alpha") if name not in told]:
        raise DataError(f"{path.name}, {missing[0]}", "nothing", "use the adapter_config.json of these matrices")
    return told
