"""The tensors of a file of weights, checked before they are read."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_edu.core.errors import DataError, require

Tensors = dict[str, np.ndarray]
READABLE = ("F32", "F16", "F64", "I64", "I32", "I16", "I8", "U8", "BOOL")  # what NumPy has
WRITE_AGAIN = "copy or download the file again"


def read_tensors(path: Path) -> Tensors:
    """The tensors of a safetensors file, in float32 where they are floats.

    Raises:
        DataError: no such file, no safetensors, or a file that ends before a tensor does; the message names the tensor.
        MissingDependencyError: without the extra ``pretrained``.
    """
    require("reading published weights", "pretrained", "safetensors")
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = _content(path)
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as problem:
        raise DataError(str(path), str(problem), WRITE_AGAIN) from problem
    return {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in tensors.items()}


def read_json(path: Path) -> dict[str, Any]:
    """The object that a file of JSON holds.

    Raises:
        DataError: no such file, or another content.
    """
    if not path.is_file():
        raise DataError(str(path), "no such file", "name a folder that holds it")
    try:
        told = json.loads(path.read_text())
    except ValueError as problem:
        raise DataError(str(path), str(problem), WRITE_AGAIN) from problem
    if not isinstance(told, dict):
        raise DataError(str(path), told, WRITE_AGAIN)
    return told


def check_shapes(path: Path, tensors: Tensors, expected: dict[str, tuple[int, ...]]) -> None:
    """Refuses tensors that are missing, too many, of another shape, or not of finite floats.

    Raises:
        DataError: naming the first.
    """
    for name in sorted(tensors.keys() | expected.keys()):
        found = str(list(tensors[name].shape)) if name in tensors else "nothing"
        if name not in expected:
            raise DataError(f"{path.name}, {name}", found, "there should be no such tensor: use the weights of a model of the BERT family")
        if name not in tensors or tensors[name].shape != expected[name]:
            raise DataError(f"{path.name}, {name}", found, f"it should be {list(expected[name])}: use the config.json of these weights")
        if tensors[name].dtype.kind != "f" or not np.all(np.isfinite(tensors[name])):
            raise DataError(f"{path.name}, {name}", f"{tensors[name].dtype}, or not all finite", "use weights of finite floats")


def _content(path: Path) -> bytes:
    """The bytes of a safetensors file whose header fits them."""
    if not path.is_file():
        raise DataError(str(path), "no such file", "name a folder that holds it")
    content = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        ends = {name: 8 + length + entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError) as problem:
        raise DataError(str(path), "no header of a safetensors file", WRITE_AGAIN) from problem
    if strange := [name for name, entry in header.items() if name != "__metadata__" and entry.get("dtype") not in READABLE]:
        raise DataError(f"{path.name}, {strange[0]}", header[strange[0]].get("dtype"), f"convert it to one of {', '.join(READABLE)}")
    for name, end in sorted(ends.items(), key=lambda pair: pair[1]):
        if end > len(content):
            raise DataError(f"{path.name}, {name}", f"a file of {len(content):,} bytes", f"the tensor ends at byte {end:,}: {WRITE_AGAIN}")
    return content
