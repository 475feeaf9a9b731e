"""fedjax_edu: multi-modal multi-task federated learning for education, compiled.

A population of institutions is a set of arrays, an algorithm is a handful of pure functions, and a whole training run is
one compiled program. What is named here is the public API; nothing else is promised.
"""

import importlib
from typing import Any

from fedjax_edu import aggregation, algorithms, data
from fedjax_edu.core import errors, modules
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.loss import Loss
from fedjax_edu.engine import Engine, Evaluation, ExecutionPlan, Info, State, cohorts
from fedjax_edu.engine.plan import configure

__version__ = "0.1.0"
__all__ = [
    "Engine",
    "Evaluation",
    "ExecutionPlan",
    "Info",
    "LocalTraining",
    "Loss",
    "State",
    "aggregation",
    "algorithms",
    "cohorts",
    "configure",
    "data",
    "errors",
    "export",
    "load_model",
    "models",
    "modules",
    "personalization",
    "study",
]


def __getattr__(name: str) -> Any:
    """Imports what needs Flax, SciPy or the study's tables when it is first used."""
    if name in ("export", "load_model"):
        return getattr(importlib.import_module("fedjax_edu.study"), name)
    if name in ("models", "personalization", "study"):
        return importlib.import_module(f"fedjax_edu.{name}")
    raise AttributeError(f"module 'fedjax_edu' has no attribute {name!r}")
