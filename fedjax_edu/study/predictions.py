"""What models predicted in a run: written to its folder as soon as it is known, and not computed again."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from fedjax_edu.study.processes import most_of_all
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.run_folder import RunFolder

PREDICTIONS = "predictions"
VERSIONS = "versions"

Arrays = dict[str, np.ndarray]


class Predictions:
    """Arrays of models, a file ``predictions/MODEL.npz`` of a run folder for each.

    A file that is damaged, or was written by other versions of the libraries, counts as none.

    Args:
        folder: of the run; what lies there must be of this run.
    """

    def __init__(self, folder: RunFolder):
        self._folder = folder
        self._versions = json.dumps(versions(), sort_keys=True)

    def of(self, model: str, compute: Callable[[], Arrays]) -> Arrays:
        """The arrays of a model.

        Args:
            model: its name.
            compute: asked where there is no file.

        Raises:
            CheckpointError: the file cannot be written.
        """
        found = self._read(model)
        if most_of_all(found is None):  # processes compute together or not at all
            found = compute()
            content = io.BytesIO()
            arrays: Any = {**found, VERSIONS: np.array(self._versions)}
            np.savez(content, **arrays)
            self._folder.write_bytes(f"{PREDICTIONS}/{model}.npz", content.getvalue())
        assert found is not None
        return found

    def _read(self, model: str) -> Arrays | None:
        path = self._folder.path / PREDICTIONS / f"{model}.npz"
        try:
            with np.load(io.BytesIO(path.read_bytes())) as file:
                arrays: dict[str, Any] = dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        return arrays if str(arrays.pop(VERSIONS, "")) == self._versions else None
