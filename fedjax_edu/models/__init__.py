"""Models and their parts, and how the engine sees them: a pure function and a tree of arrays."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjax_edu.models.convolution import conv2d
    from fedjax_edu.models.function import functional
    from fedjax_edu.models.multitask import MultiTaskModel
    from fedjax_edu.models.tabular import TabularEncoder

__all__ = ["MultiTaskModel", "TabularEncoder", "conv2d", "functional"]

_HOME = {
    "MultiTaskModel": "multitask",
    "TabularEncoder": "tabular",
    "conv2d": "convolution",
    "functional": "function",
}


def __getattr__(name: str) -> Any:
    """Imports a model, and with it Flax, when it is first used."""
    if name in _HOME:
        return getattr(importlib.import_module(f"fedjax_edu.models.{_HOME[name]}"), name)
    raise AttributeError(f"module 'fedjax_edu.models' has no attribute {name!r}")
